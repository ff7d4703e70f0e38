"""`alexnet prep` of tars at URLs and out of commands."""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
from pathlib import Path

import pytest

from alexnet_cli.data.shards.index import read_index
from alexnet_cli.prep import workers as shard_pool
from alexnet_cli.prep.build import prep
from alexnet_cli.prep.plan import PrepOptions, PrepRequest

OPTIONS = ("--size", 64, "--shard-size", 20, "--workers", 1)
PATTERN = "{train-{000000..000002},val-{000000..000001}}.tar"


@pytest.fixture(scope="module")
def tars(dataset, tmp_path_factory) -> Path:
    """The tars of a dataset, without what prep wrote beside them. Read only."""
    folder = tmp_path_factory.mktemp("tars")
    for path in dataset.glob("*.tar"):
        shutil.copy(path, folder)
    return folder


@pytest.fixture(scope="module")
def local(tars, tmp_path_factory) -> Path:
    """What prep makes of them in a folder. Read only."""
    folder = tmp_path_factory.mktemp("local") / "new"
    prep(PrepRequest(tars, folder, PrepOptions(size=64, shard_size=20), workers=1))
    return folder


@pytest.fixture
def own_tars(tars, tmp_path) -> Path:
    return shutil.copytree(tars, tmp_path / "own-tars")


def made(folder: Path) -> dict[str, bytes | dict]:
    """Return every file, the index without where its source is named."""
    found = {path.name: path.read_bytes() for path in folder.iterdir()}
    copy, index = (json.loads(found.pop(name)) for name in (".index.json", "index.json"))
    assert copy == index
    for name in ("fetched", "tars"):
        index["source"].pop(name, None)
    del index["checksum"]
    return found | {"index": index}


def url_of(server) -> str:
    return f"{server.url}/{PATTERN}"


def test_dataset_of_a_url_is_that_of_the_folder(alexnet, answer, web, tars, local, tmp_path):
    server = web(tars)
    result = alexnet("prep", url_of(server), tmp_path / "new", *OPTIONS)
    assert result.exit_code == 0
    assert f"{url_of(server)}: 5 of 5 tars, 0.7 MB, to be fetched into" in result.stderr
    assert made(tmp_path / "new") == made(local)
    assert sorted(server.asked) == sorted(path.name for path in tars.iterdir())
    assert answer("verify", tmp_path / "new")["findings"] == []
    about = answer("info", tmp_path / "new")["about"]
    assert about["fetched"] == url_of(server)


def test_dataset_of_commands_is_that_of_the_folder(answer, tars, local, tmp_path):
    command = f"pipe:cat {tars}/{PATTERN}"
    answer("prep", command, tmp_path / "new", *OPTIONS, "--allow-pipe")
    assert made(tmp_path / "new") == made(local)
    assert str(tars) not in (tmp_path / "new" / "index.json").read_text()
    assert answer("prep", command, tmp_path / "new", *OPTIONS, "--allow-pipe")["already_complete"]


def test_second_time_nothing_is_fetched(answer, web, tars, tmp_path, unharmed):
    server = web(tars)
    answer("prep", url_of(server), tmp_path / "new", *OPTIONS)
    check, asked = unharmed(tmp_path / "new"), list(server.asked)
    found = answer("prep", url_of(server), tmp_path / "new", *OPTIONS)
    assert found["already_complete"] is True
    assert found["classes"] == 10
    assert server.asked == asked
    assert answer("prep", tars, tmp_path / "new", *OPTIONS)["already_complete"] is True
    check()


def test_complete_dataset_of_other_tars_is_refused(fails, web, tars, own_tars, local, unharmed):
    server, check = web(tars), unharmed(local)
    assert "another dataset" in fails(3, "prep", url_of(server), local, *OPTIONS).message
    assert server.asked == []
    check()


def test_tar_that_changes_at_its_server_is_noticed_not_mixed(
    fails, answer, web, own_tars, tmp_path, monkeypatch, unharmed
):
    make_shard = shard_pool.make_shard

    def stop_at_second(task, is_stopping):
        if task.position == 1:
            signal.raise_signal(signal.SIGINT)
        return make_shard(task, is_stopping)

    arguments = ("prep", f"file://{own_tars}/{PATTERN}", tmp_path / "new", *OPTIONS)
    with monkeypatch.context() as crop:
        crop.setattr(shard_pool, "make_shard", stop_at_second)
        assert "1 of 5 shards are done" in fails(130, *arguments).message
    os.utime(own_tars / "val-000000.tar", (1, 1))
    check = unharmed(tmp_path / "new")
    message = fails(3, *arguments).message
    assert "changed since" in message.replace("\n", " ")
    check()


def test_class_names_are_those_of_a_file_beside_local_tars(answer, web, own_tars, tmp_path):
    names = tmp_path / "names.txt"
    names.write_text("".join(f"class {label}\n" for label in range(10)))
    url = url_of(web(own_tars))
    answer("prep", url, tmp_path / "new", *OPTIONS, "--classes", names)
    shutil.copy(names, own_tars / "classes.txt")
    answer("prep", own_tars, tmp_path / "local", *OPTIONS)
    assert made(tmp_path / "new") == made(tmp_path / "local")
    index = json.loads((tmp_path / "new" / "index.json").read_text())
    assert index["classes"][3]["name"] == "class 3"


def wait_for(is_so, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 60
    while not is_so() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert process.poll() is None, process.stderr.read()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_prep_that_is_ended_while_it_fetches_continues_later(
    answer, web, tars, local, tmp_path, number
):
    server, speak = web(tars), threading.Event()
    answer_whole = server.answer

    def hang(request):
        if request.command == "GET" and request.path == "/val-000001.tar" and not speak.is_set():
            request.send_response(200)
            request.send_header("Content-Length", str((tars / "val-000001.tar").stat().st_size))
            request.end_headers()
            request.wfile.write(bytes(20_000))
            request.wfile.flush()
            speak.wait(60)
        else:
            answer_whole(request)

    server.answer = hang
    arguments = ("prep", url_of(server), tmp_path / "new", *OPTIONS)
    command = [sys.executable, "-m", "alexnet_cli", *map(str, arguments)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        wait_for(lambda: len(list(tmp_path.rglob("*.tar.json"))) == 4, process)
        wait_for(lambda: list(tmp_path.rglob("*.partial")), process)
        process.send_signal(number)
        message = process.communicate(timeout=20)[1]
    finally:
        speak.set()
        process.kill()
        process.wait()
    if number == signal.SIGTERM:
        assert process.returncode == 143
        assert "the same command to" in message
    left = {path.name for path in (tmp_path / "new").iterdir()}
    assert left == ({".prep", ".lock"} if number == signal.SIGKILL else {".prep"})
    assert len(list(tmp_path.rglob("*.tar"))) == 4
    answer(*arguments)
    assert made(tmp_path / "new") == made(local)
    assert sorted(server.asked) == sorted(path.name for path in tars.iterdir())


@pytest.mark.parametrize(
    ("fault", "code", "word"),
    [
        (503, 4, "What was fetched is kept.\nRun the same command again"),
        ("refuse", 4, "after 4 tries"),
        (403, 4, "access denied"),
        (404, 3, "there is no such file"),
        ("other", 3, "an empty archive"),
    ],
)
def test_tar_that_cannot_be_had_is_named(fails, web, tars, tmp_path, fault, code, word):
    server = web(tars)
    name = "train-000001.tar"
    server.faults[name] = [None, *[fault] * 30]  # the question for its size is answered
    message = fails(code, "prep", url_of(server), tmp_path / "new", *OPTIONS).message
    assert word in message
    assert f"{server.url}/{name}" in message
    assert not list(tmp_path.rglob("*.partial"))
    assert not list(tmp_path.rglob(name))


def test_server_that_does_not_answer_leaves_nothing(fails, web, tars, tmp_path):
    server = web(tars)
    server.close()
    message = fails(4, "prep", url_of(server), tmp_path / "new", *OPTIONS).message
    assert "Run the same command again" in message
    assert not (tmp_path / "new").exists()


def test_library_that_is_missing_is_named(fails, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "s3fs", None)
    message = fails(4, "prep", "s3://bucket/train-0.tar", tmp_path / "new", *OPTIONS).message
    assert 'pip install "alexnet-cli[cloud]"' in message
    assert not (tmp_path / "new").exists()


def test_too_small_a_disk_is_refused_before_anything_is_fetched(
    fails, web, tars, tmp_path, monkeypatch
):
    server, usage = web(tars), shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    message = fails(4, "prep", url_of(server), tmp_path / "new", *OPTIONS).message
    assert "5 of 5 tars, still to be fetched, need 0.7 MB, 0.0 MB are free" in message
    assert server.asked == []
    assert not (tmp_path / "new").exists()


def test_disk_that_fills_up_while_tars_are_fetched_is_exit_4(
    fails, answer, web, tars, tmp_path, monkeypatch
):
    def full(_):
        raise OSError(28, "No space left on device")

    url = url_of(web(tars))
    with monkeypatch.context() as crop:
        crop.setattr(os, "fsync", full)
        message = fails(4, "prep", url, tmp_path / "new", *OPTIONS).message
    assert ".tar: disk full" in message
    assert "Make room and run the same command again" in message
    assert not (tmp_path / "new").exists()
    answer("prep", url, tmp_path / "new", *OPTIONS)


@pytest.mark.parametrize(
    ("command", "code", "word"),
    [
        ("exit 3 #", 4, "exit code 3"),
        ("no-such-command-here", 4, "exit code 127"),
        ("head -c 30000", 3, "cut or damaged"),
    ],
)
def test_command_that_fails_leaves_nothing(fails, tars, tmp_path, command, code, word, capfd):
    source = f"pipe:{command} {tars}/train-000000.tar"
    message = fails(code, "prep", source, tmp_path / "new", *OPTIONS, "--allow-pipe").message
    assert word in message
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("pipe:touch ran train-0.tar",), "--allow-pipe"),
        (("https://host/imagenet.tar",), "does not contain its split"),
        (("https://host/folder/",), "does not contain its split"),
        (("https://host/train-0.tar?key=secret",), "nothing was fetched"),
        (("ftp://host/train-0.tar",), "nothing was fetched"),
        (("https://host/train-0.tar", "--layout", "kaggle"), "--layout"),
        (("https://host/train-0.tar", "--val-fraction", 0.1), "--val-fraction"),
        (("https://host/train-0.tar", "--check-md5"), "--check-md5"),
        (("https://host/train-0.tar", "--follow-links"), "--follow-links"),
    ],
)
def test_what_cannot_be_fetched_is_exit_2(fails, tmp_path, monkeypatch, arguments, word):
    monkeypatch.chdir(tmp_path)
    message = fails(2, "prep", arguments[0], "new", *arguments[1:]).message
    assert word in message
    assert "secret" not in message
    assert list(tmp_path.iterdir()) == []


def test_url_needs_the_name_of_a_folder(wrong_command_line):
    assert "DATASET" in wrong_command_line("prep", "https://host/train-0.tar")


def test_commands_are_for_urls(wrong_command_line, tars):
    assert "is for tars at URLs" in wrong_command_line("prep", tars, "new", "--allow-pipe")


def test_tars_in_a_folder_take_the_list_and_keep_it_for_repairs(answer, fails, own_tars, tmp_path):
    names, new = tmp_path / "names.txt", tmp_path / "new"
    names.write_text("".join(f"class {label}\n" for label in range(10)))
    answer("prep", own_tars, new, *OPTIONS, "--classes", names)
    classes = read_index(new).classes
    assert classes[3].name == "class 3"
    (new / "train-000000.tar").write_bytes(b"damaged")
    answer("verify", new, "--repair", own_tars)
    assert read_index(new).classes == classes
    names.write_text("too few\n")
    message = fails(3, "prep", own_tars, tmp_path / "b", *OPTIONS, "--classes", names).message
    assert "but the 1 class ends at 0" in message


def test_class_of_rejects_keeps_the_tars_for_the_next_time(fails, answer, web, tars, tmp_path):
    (tmp_path / "spoilt").mkdir()
    with tarfile.open(tars / "train-000000.tar") as tar:
        jpeg = tar.extractfile(tar.next()).read()
    members = {"a.jpg": jpeg, "a.cls": b"0", "b.jpg": b"no image", "b.cls": b"1"}
    with tarfile.open(tmp_path / "spoilt" / "train-0.tar", "w") as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    server = web(tmp_path / "spoilt")
    arguments = ("prep", f"{server.url}/train-0.tar", tmp_path / "new", *OPTIONS)
    message = fails(3, *arguments).message
    assert "every training image of 1 class was rejected: 1" in message
    answer(*arguments, "--allow-empty-class", "--max-bad", 1)
    assert server.asked == ["train-0.tar"]


def test_repair_takes_the_tars_in_a_folder_only(wrong_command_line, answer, web, tars, tmp_path):
    answer("prep", url_of(web(tars)), tmp_path / "new", *OPTIONS)
    whole = (tmp_path / "new" / "val-000000.tar").read_bytes()
    (tmp_path / "new" / "val-000000.tar").write_bytes(b"damaged")
    for source in ("https://host/train-0.tar", "pipe:touch ran"):
        message = wrong_command_line("verify", tmp_path / "new", "--repair", source)
        assert "a repair reads local files" in message
    found = answer("verify", tmp_path / "new", "--repair", tars)
    assert found["replaced"] == ["val-000000.tar"]
    assert (tmp_path / "new" / "val-000000.tar").read_bytes() == whole
