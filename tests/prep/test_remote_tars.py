"""Tars at URLs, fetched once: whole, as their servers tell of them now, or not at all."""

import json
import os
import shutil
import tarfile
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest
from helpers import Listener, flip

from alexnet_cli.cli.hints import message
from alexnet_cli.data.remote import tar_set as tar_source
from alexnet_cli.data.remote.tar_set import TarSet
from alexnet_cli.errors import DatasetError, MachineError, SourceError, Stopped, UsageError
from alexnet_cli.io.progress import SILENT
from alexnet_cli.prep import fetch as incoming
from alexnet_cli.prep.fetch import look_at

PATTERN = "{train-{000000..000002},val-{000000..000001}}.tar"


@pytest.fixture
def tars(dataset, tmp_path) -> Path:
    folder = tmp_path / "tars"
    folder.mkdir()
    for path in dataset.glob("*.tar"):
        shutil.copy(path, folder)
    return folder


@pytest.fixture
def spool(tmp_path) -> Path:
    return tmp_path / "spool"


def source(url: str, pattern: str = PATTERN, **how) -> TarSet:
    return TarSet(f"{url}/{pattern}", **how)


def copies(spool: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in spool.rglob("*.tar")}


def contents(tars: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in tars.iterdir()}


class Stopper(Listener):
    """A progress that is stopped when the first tar is there."""

    def advance(self, count: int = 1, note: str = "") -> None:
        if self.what.startswith("fetch") and note:
            raise Stopped("stopped", 15)


def test_tars_are_fetched_once_and_what_is_fetched_is_said(web, tars, spool):
    server, listener = web(tars), Listener()
    folder = look_at(source(server.url), SILENT).fetch(spool, listener)
    assert copies(folder) == contents(tars)
    assert sorted(server.asked) == sorted(contents(tars))
    size = sum(map(len, contents(tars).values()))
    assert f"{server.url}/{PATTERN}: 5 of 5 tars, {size / 1e6:.1f} MB" in listener.lines[0]
    assert listener.what == "fetch, MB"
    assert listener.total == listener.done == size // 1_000_000
    again = look_at(source(server.url), listener).fetch(spool, listener)
    assert again == folder
    assert len(server.asked) == 5
    assert len(listener.lines) == 1


def test_bar_moves_while_a_tar_is_on_its_way(web, tars, spool, monkeypatch):
    monkeypatch.setattr("alexnet_cli.data.remote.files.CHUNK_BYTES", 4096)
    monkeypatch.setattr("alexnet_cli.data.remote.cache.MB", 1000)
    listener = Listener()
    look_at(source(web(tars).url, "train-000000.tar"), SILENT).fetch(spool, listener)
    size = len(contents(tars)["train-000000.tar"])
    assert listener.total == listener.done == size // 1000
    assert len(listener.notes) > size // 4096  # and one when it is there


def test_commands_give_tars_as_well(tars, spool):
    listener = Listener()
    pattern = f"pipe:cat {tars}/{{train-000000,val-000001}}.tar"
    folder = look_at(TarSet(pattern, allow_pipe=True), SILENT).fetch(spool, listener)
    assert copies(folder) == {
        n: c for n, c in contents(tars).items() if n in ("train-000000.tar", "val-000001.tar")
    }
    assert "2 of 2 tars, of unknown size" in listener.lines[0]
    assert (listener.what, listener.total, listener.done) == ("fetch", 2, 2)


def test_url_beside_a_command_is_told_with_its_size(web, tars, spool):
    listener = Listener()
    mixed = f"{{{web(tars).url}/train-000000.tar,pipe:cat {tars}/val-000000.tar}}"
    look_at(TarSet(mixed, allow_pipe=True), listener).fetch(spool, listener)
    assert "MB and 1 of unknown size" in listener.lines[0]


def test_stopping_keeps_what_is_whole(web, tars, spool, monkeypatch):
    monkeypatch.setattr("alexnet_cli.data.remote.cache.NUM_THREADS", 1)
    server = web(tars)
    with pytest.raises(Stopped):
        look_at(source(server.url), SILENT).fetch(spool, Stopper())
    kept = copies(spool)
    assert kept
    assert not list(spool.rglob("*.partial"))
    look_at(source(server.url), SILENT).fetch(spool, SILENT)
    assert copies(spool) == contents(tars)
    assert all(server.asked.count(name) == 1 for name in kept)


def test_half_a_tar_of_a_killed_prep_is_fetched_anew(web, tars, spool):
    server = web(tars)
    folder = look_at(source(server.url), SILENT).fetch(spool, SILENT)
    (folder / "train-000001.tar.99.abc.partial").write_bytes(b"half")
    (folder / "train-000002.tar.json").unlink()  # killed between a tar and its record
    (folder / "val-000000.tar").unlink()
    os.truncate(folder / "val-000001.tar", 1000)
    look_at(source(server.url), SILENT).fetch(spool, SILENT)
    assert copies(spool) == contents(tars)
    anew = ["train-000002.tar", "val-000000.tar", "val-000001.tar"]
    assert sorted(server.asked[5:]) == anew
    assert not list(spool.rglob("*.partial"))


def test_tar_that_changed_is_fetched_anew_and_the_set_is_another(tars, spool):
    before = look_at(source(f"file://{tars}"), SILENT)
    folder = before.fetch(spool, SILENT)
    flip(tars / "val-000000.tar", 700)
    os.utime(tars / "val-000000.tar", (1, 1))
    after = look_at(source(f"file://{tars}"), SILENT)
    assert after.fingerprint() != before.fingerprint()
    listener = Listener()
    assert after.fetch(spool, listener) == folder
    assert copies(folder) == contents(tars)
    assert "1 of 5 tars" in listener.lines[0]


def test_tar_that_changes_while_it_is_fetched_is_refused(tars, spool, monkeypatch):
    found = look_at(source(f"file://{tars}"), SILENT)
    os.utime(tars / "train-000001.tar", (1, 1))
    with pytest.raises(SourceError, match=r"train-000001\.tar: changed while it was fetched"):
        found.fetch(spool, SILENT)
    assert "train-000001.tar" not in copies(spool)


def test_another_set_has_a_folder_of_its_own(web, tars, spool):
    server = web(tars)
    whole = look_at(source(server.url), SILENT).fetch(spool, SILENT)
    part = look_at(source(server.url, "{train,val}-000000.tar"), SILENT).fetch(spool, SILENT)
    assert part != whole
    assert sorted(copies(part)) == ["train-000000.tar", "val-000000.tar"]


@pytest.mark.parametrize("fault", [500, "cut", "refuse"])
def test_fault_that_passes_leaves_no_trace(web, tars, spool, fault):
    server = web(tars)
    found = look_at(source(server.url), SILENT)
    server.faults["train-000001.tar"] = [fault]
    found.fetch(spool, SILENT)
    assert copies(spool) == contents(tars)


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
    web, tars, spool, monkeypatch, fault, error, word
):
    monkeypatch.setattr("alexnet_cli.data.remote.cache.NUM_THREADS", 1)
    server = web(tars)
    found = look_at(source(server.url), SILENT)
    server.faults["train-000001.tar"] = [fault] * 30
    with pytest.raises(error, match=word) as raised:
        found.fetch(spool, SILENT)
    assert f"{server.url}/train-000001.tar" in str(raised.value)
    assert message(raised.value).count("\n") < 3
    assert list(copies(spool)) == ["train-000000.tar"]
    assert not list(spool.rglob("*.partial"))


@pytest.mark.parametrize("share", [0.3, 0.9])
def test_tar_that_is_cut_at_its_server_is_refused(web, tars, spool, share):
    path = tars / "train-000001.tar"
    os.truncate(path, int(share * path.stat().st_size))
    with pytest.raises(SourceError, match=r"train-000001\.tar: the archive is cut") as raised:
        look_at(source(web(tars).url), SILENT).fetch(spool, SILENT)
    assert "spool" not in str(raised.value)
    assert "train-000001.tar" not in copies(spool)


def test_hole_of_zeros_is_no_end(web, tars, spool):
    content = bytearray((tars / "train-000001.tar").read_bytes())
    with tarfile.open(tars / "train-000001.tar") as tar:
        hole = tar.getmembers()[6].offset
    content[hole : hole + 4096] = bytes(4096)
    (tars / "train-000001.tar").write_bytes(content)
    with pytest.raises(SourceError, match=r"train-000001\.tar: zeros in place of a header"):
        look_at(source(web(tars).url), SILENT).fetch(spool, SILENT)


def test_tar_may_end_with_what_is_no_file(web, tars, spool):
    with tarfile.open(tars / "train-000001.tar", "a") as tar:
        folder = tarfile.TarInfo("empty")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
    look_at(source(web(tars).url), SILENT).fetch(spool, SILENT)
    assert copies(spool) == contents(tars)


def test_packed_tar_is_named_as_such(web, tars, spool):
    (tars / "train-000001.tar").write_bytes(b"\x1f\x8b" + bytes(2000))
    with pytest.raises(SourceError, match="a gzip file, not a tar"):
        look_at(source(web(tars).url), SILENT).fetch(spool, SILENT)


def test_fewer_bytes_than_announced_are_none(web, tars, spool, monkeypatch):
    found = look_at(source(f"file://{tars}", "train-000000.tar"), SILENT)
    whole = (tars / "train-000000.tar").stat().st_size

    @contextmanager
    def cut(*_, **__):
        with (tars / "train-000000.tar").open("rb") as file:
            yield type("Cut", (), {"read": lambda _, count: file.read(count)[: whole - 10240]})()

    monkeypatch.setattr(incoming, "open_tar", cut)
    with pytest.raises(MachineError, match=f"bytes came, {whole} were announced"):
        found.fetch(spool, SILENT)
    assert not spool.exists()


@pytest.mark.parametrize("command", ["exit 3 #", "head -c 20000 {}; exit 3 #", "cat {}; exit 3 #"])
def test_command_that_fails_is_a_fault_of_the_machine(tars, spool, command):
    pattern = f"pipe:{command.format(tars / 'train-000000.tar')} train-000000.tar"
    with pytest.raises(MachineError, match="exit code 3") as raised:
        look_at(TarSet(pattern, allow_pipe=True), SILENT).fetch(spool, SILENT)
    assert "the same command again" in raised.value.hint
    assert not spool.exists()


def test_command_that_ends_early_in_peace_gives_a_cut_tar(tars, spool):
    pattern = f"pipe:head -c 20000 {tars}/train-000000.tar"
    with pytest.raises(SourceError, match="cut or damaged"):
        look_at(TarSet(pattern, allow_pipe=True), SILENT).fetch(spool, SILENT)
    assert not spool.exists()


@pytest.mark.parametrize(
    ("pattern", "word"),
    [
        ("https://host/imagenet.tar", "tells its split"),
        ("https://host/folder", "tells its split"),
        ("s3://a/train-0.tar.gz", "tells its split"),
        ("s3://{a,b}/train-0.tar", "called train-0.tar like s3://a/train-0.tar"),
        ("{s3://a/train-0.tar,/etc/val-0.tar}", "not a URL"),
        ("https://me:secret@host/train-0.tar", "password"),
        ("https://host/train-0.tar?key=secret", "not supported"),
        ("pipe:touch train-0.tar", "--allow-pipe"),
    ],
)
def test_names_are_checked_before_anybody_is_asked(pattern, word, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tar_source, "size_and_tag", lambda _: pytest.fail("asked"))
    with pytest.raises(UsageError) as raised:
        look_at(TarSet(pattern), SILENT)
    assert word in message(raised.value)
    assert "secret" not in message(raised.value)
    assert list(tmp_path.iterdir()) == []


def test_class_names_come_along(web, tars, spool, tmp_path):
    (tmp_path / "names.txt").write_text("tench\ngoldfish\n")
    (tmp_path / "other.json").write_text(json.dumps(["tench", "shark"]))
    url = web(tars).url
    first = look_at(source(url, classes=tmp_path / "names.txt"), SILENT)
    second = look_at(source(url, classes=tmp_path / "other.json"), SILENT)
    without = look_at(source(url), SILENT)
    assert len({first.fingerprint(), second.fingerprint(), without.fingerprint()}) == 3
    for found, names in ((first, ["tench", "goldfish"]), (second, ["tench", "shark"])):
        folder = found.fetch(spool, SILENT)
        assert json.loads((folder / "classes.json").read_text()) == names
    assert not (without.fetch(spool, SILENT) / "classes.json").exists()
    with pytest.raises(SourceError, match="no such file"):
        look_at(source(url, classes=tmp_path / "none.txt"), SILENT)


def test_class_names_are_not_left_without_a_tar(web, tars, spool, tmp_path):
    (tmp_path / "names.txt").write_text("tench\n")
    server = web(tars)
    how = {"classes": tmp_path / "names.txt"}
    found = look_at(source(server.url, "train-000000.tar", **how), SILENT)
    server.faults["train-000000.tar"] = [403]
    with pytest.raises(MachineError):
        found.fetch(spool, SILENT)
    assert not spool.exists()


def test_disk_without_room_is_refused_before_anything_is_fetched(web, tars, spool, monkeypatch):
    server = web(tars)
    usage = shutil.disk_usage(tars)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    found = look_at(source(server.url), SILENT)
    with pytest.raises(MachineError, match=r"5 of 5 tars, still .* need ") as raised:
        found.fetch(spool, SILENT)
    assert "--force" in message(raised.value)
    assert server.asked == []
    assert not spool.exists()
    found.fetch(spool, SILENT, force=True)
    assert copies(spool) == contents(tars)


def test_disk_that_fills_up_leaves_nothing(web, tars, spool, monkeypatch):
    found = look_at(source(web(tars).url), SILENT)

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left") as raised:
        found.fetch(spool, SILENT)
    assert raised.value.filename.endswith(".tar")
    assert not spool.exists()


def test_reader_of_our_output_that_is_gone_is_no_fault_of_the_disk(web, tars, spool):
    class Gone(Listener):
        def say(self, line):
            raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        look_at(source(web(tars).url), SILENT).fetch(spool, Gone())


def test_silent_server_cannot_hold_us(web, tars, spool, monkeypatch):
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
            look_at(source(server.url), SILENT).fetch(spool, Stopper())
    finally:
        speak.set()
