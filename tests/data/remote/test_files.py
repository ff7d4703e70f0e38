"""Files at URLs: which URLs are accepted, retries, and errors."""

import hashlib
import io
from contextlib import closing
from pathlib import Path

import fsspec
import pytest

from alexnet_cli.cli.hints import message
from alexnet_cli.data.dataset_ref import DatasetRef
from alexnet_cli.data.remote.files import (
    RemoteFile,
    check_url,
    copy_bytes,
    is_url,
    size_and_tag,
)
from alexnet_cli.data.shards.index import FileRecord
from alexnet_cli.errors import DatasetError, MachineError, Stopped, UsageError

CONTENT = bytes(range(256)) * 9000  # above two chunks


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "a.tar").write_bytes(CONTENT)
    return tmp_path


def whole(url: str) -> bytes:
    target = io.BytesIO()
    with closing(RemoteFile(url)) as source:
        record = copy_bytes(source, target, 1 << 30)
    assert record == FileRecord.of(target.getvalue())
    return target.getvalue()


def test_paths_and_urls_are_distinguished():
    assert DatasetRef.parse("shards/a").place == Path("shards/a")
    assert DatasetRef.parse("https://host/a/").place == "https://host/a"
    assert is_url("s3://bucket/a")
    assert not is_url("a:b")


@pytest.mark.parametrize(
    "url",
    [
        "ftp://host/a",
        "pipe://cat a",
        "https://host/a?token=secret",
        "https://host/a#b",
        "simplecache::https://host/a",
        "https://host/a::file://b",
        "https://host/../a",
        "https://host/a b",
        "https://me:secret@host/a",
        "ssh://host/a",
        "https://",
    ],
)
def test_other_urls_are_refused_without_showing_secrets(url):
    with pytest.raises(UsageError) as error:
        check_url(url)
    assert "nothing was fetched" in error.value.problem
    assert "secret" not in message(error.value)


def test_http_file_is_read_with_one_request(web, folder):
    server = web(folder)
    assert whole(f"{server.url}/a.tar") == CONTENT
    assert server.asked == ["a.tar"]


def test_file_and_memory_urls_are_read(folder):
    assert whole(f"file://{folder}/a.tar") == CONTENT
    fsspec.filesystem("memory").pipe_file("/remote/a.tar", CONTENT)
    assert whole("memory://remote/a.tar") == CONTENT


@pytest.mark.parametrize("fault", [500, 503, 429, "cut", "refuse"])
def test_temporary_error_is_retried(web, folder, fault):
    server = web(folder)
    server.faults["a.tar"] = [fault, fault]
    assert whole(f"{server.url}/a.tar") == CONTENT
    assert len(server.asked) == 3


@pytest.mark.parametrize(
    ("fault", "error", "tries"),
    [
        (500, MachineError, 4),
        ("cut", MachineError, 4),
        (403, MachineError, 1),
        (401, MachineError, 1),
        (418, MachineError, 1),
        (404, DatasetError, 1),
        (410, DatasetError, 1),
    ],
)
def test_lasting_error_names_the_url_in_three_lines(web, folder, fault, error, tries):
    server = web(folder)
    server.faults["a.tar"] = [fault] * 9
    with pytest.raises(error) as raised:
        whole(f"{server.url}/a.tar")
    assert f"{server.url}/a.tar" in str(raised.value)
    assert message(raised.value).count("\n") < 3
    most = 9 if fault == "cut" else tries  # part of a body is progress, and resets the count
    assert tries <= len(server.asked) <= most


def test_server_without_an_answer_raises_a_machine_error(web, folder):
    server = web(folder)
    server.faults["a.tar"] = ["refuse"] * 20
    with pytest.raises(MachineError, match="after 4 tries"):
        whole(f"{server.url}/a.tar")


def test_missing_server_raises_a_machine_error(web, folder):
    server = web(folder)
    server.close()
    with pytest.raises(MachineError, match="after 4 tries"):
        whole(f"{server.url}/a.tar")


def test_missing_file_is_named(tmp_path):
    for url in (f"file://{tmp_path}/b.tar", "memory://remote/b.tar"):
        with pytest.raises(DatasetError, match="no such file"):
            whole(url)


def test_missing_library_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "s3fs", None)
    with pytest.raises(MachineError, match="not installed") as error:
        whole("s3://bucket/a.tar")
    assert 'pip install "alexnet-cli[cloud]"' in error.value.hint


def test_stop_signal_is_not_retried(web, folder, monkeypatch):
    def stop(_):
        raise Stopped("stopped", 15)

    monkeypatch.setattr("alexnet_cli.data.remote.files.open_url", stop)
    with pytest.raises(Stopped):
        whole(f"{web(folder).url}/a.tar")


def test_at_most_one_byte_too_many_is_read(web, folder):
    target = io.BytesIO()
    with closing(RemoteFile(f"{web(folder).url}/a.tar")) as source:
        record = copy_bytes(source, target, 1000)
    assert record == FileRecord(1001, hashlib.sha256(CONTENT[:1001]).hexdigest())


def test_reading_continues_where_the_connection_broke(web, folder):
    server = web(folder)
    server.faults["a.tar"] = ["cut"]
    with closing(RemoteFile(f"{server.url}/a.tar")) as file:
        parts = iter(lambda: file.read(100_000), b"")
        assert b"".join(parts) == CONTENT
    assert len(server.asked) == 2


@pytest.mark.parametrize(("fault", "error"), [(500, MachineError), (404, DatasetError)])
def test_size_of_an_unavailable_file_says_why(web, folder, fault, error):
    server = web(folder)
    server.faults["a.tar"] = [fault] * 9
    with pytest.raises(error, match=r"a\.tar"):
        size_and_tag(f"{server.url}/a.tar")


def test_size_at_a_missing_server_raises_a_machine_error(web, folder):
    server = web(folder)
    server.close()
    with pytest.raises(MachineError):
        size_and_tag(f"{server.url}/a.tar")


def test_size_and_tag_are_those_of_the_server(web, folder):
    assert size_and_tag(f"{web(folder).url}/a.tar") == (len(CONTENT), "")
    size, time = size_and_tag(f"file://{folder}/a.tar")
    assert size == len(CONTENT)
    assert float(time) == pytest.approx((folder / "a.tar").stat().st_mtime)


def test_size_and_tag_change_with_the_content(folder):
    url = f"file://{folder}/a.tar"
    before = size_and_tag(url)
    assert size_and_tag(url) == before
    (folder / "a.tar").write_bytes(b"shorter")
    assert size_and_tag(url) != before
