"""Tars at URLs are fetched once, whole, into the folder of a prep that is theirs."""

import json
import os
import shutil
import tarfile
import threading
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from helpers import Listener, flip, refused

from alexnet_cli.cli.hints import message
from alexnet_cli.data.remote import tar_set as tar_source
from alexnet_cli.data.remote.tar_set import TarSet
from alexnet_cli.errors import DatasetError, MachineError, SourceError, Stopped, UsageError
from alexnet_cli.io.atomic import write_checksummed
from alexnet_cli.io.progress import SILENT
from alexnet_cli.prep import fetch as incoming
from alexnet_cli.prep.fetch import fetch_source, look_at
from alexnet_cli.prep.plan import PrepOptions, PrepRequest

PATTERN = "{train-{000000..000002},val-{000000..000001}}.tar"


@pytest.fixture
def staging(tmp_path) -> Path:
    return tmp_path / "staging"


def source(url: str, pattern: str = PATTERN, **how) -> TarSet:
    return TarSet(f"{url}/{pattern}", **how)


def copies(staging: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in staging.rglob("*.tar")}


def contents(tars: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in tars.iterdir()}


class Stopper(Listener):
    """A progress that is stopped when the first tar is there."""

    def advance(self, count: int = 1, note: str = "") -> None:
        if self.what.startswith("fetch") and note:
            raise Stopped("stopped", 15)


def test_tars_are_fetched_once_and_what_is_fetched_is_reported(web, tars, staging):
    server, listener = web(tars), Listener()
    folder = look_at(source(server.url), SILENT).fetch(staging, listener)
    assert copies(folder) == contents(tars)
    assert sorted(server.asked) == sorted(contents(tars))
    size = sum(map(len, contents(tars).values()))
    assert f"{server.url}/{PATTERN}: 5 of 5 tars, {size / 1e6:.1f} MB" in listener.lines[0]
    assert listener.what == "fetch, MB"
    assert listener.total == listener.done == size // 1_000_000
    again = look_at(source(server.url), listener).fetch(staging, listener)
    assert again == folder
    assert len(server.asked) == 5
    assert len(listener.lines) == 1


def test_bar_advances_while_a_tar_is_fetched(web, tars, staging, monkeypatch):
    monkeypatch.setattr("alexnet_cli.data.remote.files.CHUNK_BYTES", 4096)
    monkeypatch.setattr("alexnet_cli.data.remote.cache.MB", 1000)
    listener = Listener()
    look_at(source(web(tars).url, "train-000000.tar"), SILENT).fetch(staging, listener)
    size = len(contents(tars)["train-000000.tar"])
    assert listener.total == listener.done == size // 1000
    assert len(listener.notes) > size // 4096  # and one when it is there


def test_tars_come_from_commands_as_well(tars, staging):
    listener = Listener()
    pattern = f"pipe:cat {tars}/{{train-000000,val-000001}}.tar"
    folder = look_at(TarSet(pattern, allow_pipe=True), SILENT).fetch(staging, listener)
    assert copies(folder) == {
        n: c for n, c in contents(tars).items() if n in ("train-000000.tar", "val-000001.tar")
    }
    assert "2 of 2 tars, of unknown size" in listener.lines[0]
    assert (listener.what, listener.total, listener.done) == ("fetch", 2, 2)


def test_url_beside_a_command_is_reported_with_its_size(web, tars, staging):
    listener = Listener()
    mixed = f"{{{web(tars).url}/train-000000.tar,pipe:cat {tars}/val-000000.tar}}"
    look_at(TarSet(mixed, allow_pipe=True), listener).fetch(staging, listener)
    assert "MB and 1 of unknown size" in listener.lines[0]


def test_stopping_keeps_complete_tars(web, tars, staging, monkeypatch):
    monkeypatch.setattr("alexnet_cli.data.remote.cache.NUM_THREADS", 1)
    server = web(tars)
    with pytest.raises(Stopped):
        look_at(source(server.url), SILENT).fetch(staging, Stopper())
    kept = copies(staging)
    assert kept
    assert not list(staging.rglob("*.partial"))
    look_at(source(server.url), SILENT).fetch(staging, SILENT)
    assert copies(staging) == contents(tars)
    assert all(server.asked.count(name) == 1 for name in kept)


def test_half_a_tar_of_a_killed_prep_is_fetched_again(web, tars, staging):
    server = web(tars)
    folder = look_at(source(server.url), SILENT).fetch(staging, SILENT)
    (folder / "train-000001.tar.99.abc.partial").write_bytes(b"half")
    (folder / "train-000002.tar.json").unlink()  # killed between a tar and its record
    (folder / "val-000000.tar").unlink()
    os.truncate(folder / "val-000001.tar", 1000)
    look_at(source(server.url), SILENT).fetch(staging, SILENT)
    assert copies(staging) == contents(tars)
    again_fetched = ["train-000002.tar", "val-000000.tar", "val-000001.tar"]
    assert sorted(server.asked[5:]) == again_fetched
    assert not list(staging.rglob("*.partial"))


def test_tar_that_changed_is_fetched_again_and_the_set_is_another(tars, staging):
    before = look_at(source(f"file://{tars}"), SILENT)
    folder = before.fetch(staging, SILENT)
    flip(tars / "val-000000.tar", 700)
    os.utime(tars / "val-000000.tar", (1, 1))
    after = look_at(source(f"file://{tars}"), SILENT)
    assert after.fingerprint() != before.fingerprint()
    listener = Listener()
    assert after.fetch(staging, listener) == folder
    assert copies(folder) == contents(tars)
    assert "1 of 5 tars" in listener.lines[0]


def test_tar_that_changes_while_it_is_fetched_is_refused(tars, staging, monkeypatch):
    found = look_at(source(f"file://{tars}"), SILENT)
    os.utime(tars / "train-000001.tar", (1, 1))
    with refused(SourceError, r"train-000001\.tar: changed while it was fetched"):
        found.fetch(staging, SILENT)
    assert "train-000001.tar" not in copies(staging)


def test_another_set_has_a_folder_of_its_own(web, tars, staging):
    server = web(tars)
    whole = look_at(source(server.url), SILENT).fetch(staging, SILENT)
    part = look_at(source(server.url, "{train,val}-000000.tar"), SILENT).fetch(staging, SILENT)
    assert part != whole
    assert sorted(copies(part)) == ["train-000000.tar", "val-000000.tar"]


@pytest.mark.parametrize("fault", [500, "cut", "refuse"])
def test_fault_that_passes_leaves_no_trace(web, tars, staging, fault):
    server = web(tars)
    found = look_at(source(server.url), SILENT)
    server.faults["train-000001.tar"] = [fault]
    found.fetch(staging, SILENT)
    assert copies(staging) == contents(tars)


@pytest.mark.parametrize(
    ("fault", "error", "word"),
    [
        (503, MachineError, "HTTP 503"),
        ("cut", MachineError, "after 4 tries"),
        (403, MachineError, "access denied"),
        (404, DatasetError, "no such file"),
        ("other", SourceError, "an empty archive"),
    ],
)
def test_fault_that_stays_names_the_tar_and_keeps_the_others(
    web, tars, staging, monkeypatch, fault, error, word
):
    monkeypatch.setattr("alexnet_cli.data.remote.cache.NUM_THREADS", 1)
    server = web(tars)
    found = look_at(source(server.url), SILENT)
    server.faults["train-000001.tar"] = [fault] * 30
    with pytest.raises(error, match=word) as raised:
        found.fetch(staging, SILENT)
    assert f"{server.url}/train-000001.tar" in message(raised.value)
    assert message(raised.value).count("\n") < 3
    assert list(copies(staging)) == ["train-000000.tar"]
    assert not list(staging.rglob("*.partial"))


@pytest.mark.parametrize("share", [0.3, 0.9])
def test_tar_that_is_cut_at_its_server_is_refused(web, tars, staging, share):
    path = tars / "train-000001.tar"
    os.truncate(path, int(share * path.stat().st_size))
    with refused(SourceError, r"train-000001\.tar: cut or damaged") as raised:
        look_at(source(web(tars).url), SILENT).fetch(staging, SILENT)
    assert "staging" not in message(raised.value)
    assert "train-000001.tar" not in copies(staging)


def test_hole_of_zeros_is_not_the_end(web, tars, staging):
    content = bytearray((tars / "train-000001.tar").read_bytes())
    with tarfile.open(tars / "train-000001.tar") as tar:
        hole = tar.getmembers()[6].offset
    content[hole : hole + 4096] = bytes(4096)
    (tars / "train-000001.tar").write_bytes(content)
    with refused(SourceError, r"train-000001\.tar: zeros in place of a header"):
        look_at(source(web(tars).url), SILENT).fetch(staging, SILENT)


def test_tar_may_end_with_a_folder(web, tars, staging):
    with tarfile.open(tars / "train-000001.tar", "a") as tar:
        folder = tarfile.TarInfo("empty")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
    look_at(source(web(tars).url), SILENT).fetch(staging, SILENT)
    assert copies(staging) == contents(tars)


def test_packed_tar_is_named_as_such(web, tars, staging):
    (tars / "train-000001.tar").write_bytes(b"\x1f\x8b" + bytes(2000))
    with refused(SourceError, "a gzip file, not a tar"):
        look_at(source(web(tars).url), SILENT).fetch(staging, SILENT)


def test_fewer_bytes_than_announced_are_refused(web, tars, staging, monkeypatch):
    found = look_at(source(f"file://{tars}", "train-000000.tar"), SILENT)
    whole = (tars / "train-000000.tar").stat().st_size

    @contextmanager
    def cut(*_, **__):
        with (tars / "train-000000.tar").open("rb") as file:
            yield type("Cut", (), {"read": lambda _, count: file.read(count)[: whole - 10240]})()

    monkeypatch.setattr(incoming, "open_tar", cut)
    with refused(MachineError, f"bytes came, {whole} were announced"):
        found.fetch(staging, SILENT)
    assert not staging.exists()


@pytest.mark.parametrize("command", ["exit 3 #", "head -c 20000 {}; exit 3 #", "cat {}; exit 3 #"])
def test_command_that_fails_is_a_machine_error(tars, staging, command):
    pattern = f"pipe:{command.format(tars / 'train-000000.tar')} train-000000.tar"
    with refused(MachineError, "exit code 3") as raised:
        look_at(TarSet(pattern, allow_pipe=True), SILENT).fetch(staging, SILENT)
    assert "the same command again" in message(raised.value)
    assert not staging.exists()


def test_command_that_ends_early_with_success_is_a_cut_tar(tars, staging):
    pattern = f"pipe:head -c 20000 {tars}/train-000000.tar"
    with refused(SourceError, "cut or damaged"):
        look_at(TarSet(pattern, allow_pipe=True), SILENT).fetch(staging, SILENT)
    assert not staging.exists()


@pytest.mark.parametrize(
    ("pattern", "word"),
    [
        ("https://host/imagenet.tar", "does not contain its split"),
        ("https://host/folder", "does not contain its split"),
        ("s3://a/train-0.tar.gz", "does not contain its split"),
        ("s3://{a,b}/train-0.tar", "called train-0.tar like s3://a/train-0.tar"),
        ("{s3://a/train-0.tar,/etc/val-0.tar}", "not a URL"),
        ("https://me:secret@host/train-0.tar", "password"),
        ("https://host/train-0.tar?key=secret", "not supported"),
        ("pipe:touch train-0.tar", "--allow-pipe"),
    ],
)
def test_names_are_checked_before_any_request(pattern, word, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tar_source, "size_and_tag", lambda _: pytest.fail("asked"))
    with refused(UsageError, word) as raised:
        look_at(TarSet(pattern), SILENT)
    assert "secret" not in message(raised.value)
    assert list(tmp_path.iterdir()) == []


def test_class_names_are_copied(web, tars, staging, tmp_path):
    (tmp_path / "names.txt").write_text("tench\ngoldfish\n")
    (tmp_path / "other.json").write_text(json.dumps(["tench", "shark"]))
    url = web(tars).url
    first = look_at(source(url, classes=tmp_path / "names.txt"), SILENT)
    second = look_at(source(url, classes=tmp_path / "other.json"), SILENT)
    without = look_at(source(url), SILENT)
    assert len({first.fingerprint(), second.fingerprint(), without.fingerprint()}) == 3
    for found, names in ((first, ["tench", "goldfish"]), (second, ["tench", "shark"])):
        folder = found.fetch(staging, SILENT)
        assert json.loads((folder / "classes.json").read_text()) == names
    assert not (without.fetch(staging, SILENT) / "classes.json").exists()
    with refused(SourceError, "no such file"):
        look_at(source(url, classes=tmp_path / "none.txt"), SILENT)


def test_class_names_are_not_left_without_a_tar(web, tars, staging, tmp_path):
    (tmp_path / "names.txt").write_text("tench\n")
    server = web(tars)
    how = {"classes": tmp_path / "names.txt"}
    found = look_at(source(server.url, "train-000000.tar", **how), SILENT)
    server.faults["train-000000.tar"] = [403]
    with pytest.raises(MachineError):
        found.fetch(staging, SILENT)
    assert not staging.exists()


def test_disk_without_room_is_refused_before_anything_is_fetched(web, tars, staging, monkeypatch):
    server = web(tars)
    usage = shutil.disk_usage(tars)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    found = look_at(source(server.url), SILENT)
    with refused(MachineError, r"(?s)5 of 5 tars, still .* need .* --force"):
        found.fetch(staging, SILENT)
    assert server.asked == []
    assert not staging.exists()
    found.fetch(staging, SILENT, force=True)
    assert copies(staging) == contents(tars)


def test_disk_that_fills_up_leaves_nothing(web, tars, staging, monkeypatch):
    found = look_at(source(web(tars).url), SILENT)

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left") as raised:
        found.fetch(staging, SILENT)
    assert raised.value.filename.endswith(".tar")
    assert not staging.exists()


def test_broken_pipe_is_not_reported_as_a_disk_error(web, tars, staging):
    class Gone(Listener):
        def say(self, line):
            raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        look_at(source(web(tars).url), SILENT).fetch(staging, Gone())


def test_hung_server_cannot_block_prep(web, tars, staging, monkeypatch):
    monkeypatch.setattr("alexnet_cli.io.thread_map.STOP_SECONDS", 0.01)
    server, speak = web(tars), threading.Event()
    answer = server.answer

    def hang(request):
        if request.command == "GET" and request.path == "/val-000000.tar":
            speak.wait(30)
        answer(request)

    server.answer = hang
    try:
        with pytest.raises(Stopped):
            look_at(source(server.url), SILENT).fetch(staging, Stopper())
    finally:
        speak.set()


OPTIONS = PrepOptions(size=112, shard_size=25)  # those of the dataset in tests/conftest.py


@pytest.fixture
def two_tars(tars) -> TarSet:
    return TarSet(f"file://{tars}/{{train,val}}-000000.tar")


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "new").mkdir()
    return tmp_path / "new"


def begin(folder: Path, origin: dict, **changed) -> None:
    (folder / ".prep").mkdir(exist_ok=True)
    options = {**OPTIONS.to_json(), **changed}
    source = {"layout": "WebDataset", "fingerprint": "abc", **origin}
    write_checksummed(folder / ".prep" / "plan.json", {"options": options, "source": source})


@pytest.mark.parametrize(
    ("given", "option"),
    [
        ({"layout": "kaggle"}, "--layout"),
        ({"check_md5": True}, "--check-md5"),
        ({"follow_links": True}, "--follow-links"),
        ({"options": PrepOptions(val_fraction=0.1)}, "--val-fraction"),
    ],
)
def test_options_of_other_sources_are_refused(two_tars, folder, given, option):
    request = PrepRequest(two_tars, folder, OPTIONS)
    with refused(UsageError, f"Nothing was fetched.\nLeave out {option}"):
        fetch_source(two_tars, replace(request, **given), SILENT)
    assert list(folder.iterdir()) == []
    fetch_source(two_tars, replace(request, layout="webdataset"), SILENT)


def test_tars_are_fetched_into_the_dataset(two_tars, folder):
    place, origin = fetch_source(two_tars, PrepRequest(two_tars, folder, OPTIONS), SILENT)
    assert place.parent == folder / ".prep" / "tars"
    assert sorted(path.name for path in place.glob("*.tar")) == [
        "train-000000.tar",
        "val-000000.tar",
    ]
    assert origin["fetched"] == two_tars.pattern
    begin(folder, origin)
    assert fetch_source(two_tars, PrepRequest(two_tars, folder, OPTIONS), SILENT) == (place, origin)


def test_command_which_may_hold_a_key_is_not_recorded(tmp_path, tars, folder):
    command = f"pipe:KEY=secret cat {tmp_path}/tars/train-000000.tar"
    _, origin = fetch_source(
        TarSet(command, allow_pipe=True),
        PrepRequest(TarSet(command, allow_pipe=True), folder, OPTIONS),
        SILENT,
    )
    assert "secret" not in json.dumps(origin)


@pytest.mark.parametrize(
    ("given", "options", "word"),
    [
        ({"tars": "0123"}, {}, r"changed since .* was begun"),
        ({"tars": "0123", "fetched": "s3://other"}, {}, "another dataset: fetched s3://other"),
        ({}, {"quality": 80}, "another dataset: quality 80 there, 90 now"),
    ],
)
def test_folder_of_other_tars_or_options_is_unchanged(two_tars, folder, given, options, word):
    place, origin = fetch_source(two_tars, PrepRequest(two_tars, folder, OPTIONS), SILENT)
    begin(folder, {**origin, **given}, **options)
    shutil.rmtree(place.parent)
    before = sorted(folder.rglob("*"))
    with refused(DatasetError, word):
        fetch_source(two_tars, PrepRequest(two_tars, folder, OPTIONS), SILENT)
    assert sorted(folder.rglob("*")) == before


def test_folder_that_was_begun_with_local_images_is_another(two_tars, folder):
    begin(folder, {})
    with refused(DatasetError, "another dataset: fetched None there"):
        fetch_source(two_tars, PrepRequest(two_tars, folder, OPTIONS), SILENT)


def test_failed_fetch_leaves_nothing(two_tars, folder, tmp_path):
    (tmp_path / "tars" / "train-000000.tar").write_bytes(b"no tar")
    (tmp_path / "tars" / "val-000000.tar").write_bytes(b"no tar")
    with refused(SourceError, "truncated header"):
        fetch_source(two_tars, PrepRequest(two_tars, folder, OPTIONS, force=True), SILENT)
    assert list(folder.iterdir()) == []
