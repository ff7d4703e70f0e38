import hashlib
import http.server
import re
import threading
from dataclasses import replace

import pytest
from helpers import Listener, refused

from alexnet_cli.data.remote.published import PublishedFile, fetch_published
from alexnet_cli.errors import DatasetError, MachineError

CONTENT = bytes(range(256)) * 1000


class Server:
    """One file behind HTTP on this machine.

    Attributes:
        ranges: the Range header of each request for it, in order.
        faults: what to do about the next requests: "cut", or a status.
        takes_ranges: whether it answers with a part of the file.
    """

    def __init__(self):
        self.content, self.ranges, self.faults, self.takes_ranges = CONTENT, [], [], True
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                server.answer(self)

            def log_message(self, *_):
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def answer(self, request) -> None:
        if request.path == "/moved":
            request.send_response(302)
            request.send_header("Location", f"{self.url}/file")
            request.send_header("Content-Length", "0")
            return request.end_headers()
        asked = request.headers.get("Range")
        self.ranges.append(asked)
        fault = self.faults.pop(0) if self.faults else None
        start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1]) if asked and self.takes_ranges else 0
        status = 404 if request.path != "/file" else 416 if start >= len(self.content) else 200
        status = fault if isinstance(fault, int) else 206 if start and status == 200 else status
        body = self.content[start:] if status in (200, 206) else b"no"
        request.send_response(status)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        if fault == "cut":
            body, request.close_connection = body[: len(body) // 2], True
        request.wfile.write(body)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def server(monkeypatch, cache):
    monkeypatch.setattr("alexnet_cli.data.remote.files.PAUSES", (0.0, 0.0, 0.0))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    opened = Server()
    yield opened
    opened.close()


@pytest.fixture
def file(server) -> PublishedFile:
    digest = hashlib.sha256(CONTENT).hexdigest()
    return PublishedFile("weights.pth", f"{server.url}/file", len(CONTENT), "sha256", digest)


def test_file_is_fetched_once_and_kept_under_its_name(server, file, cache):
    path = fetch_published(file)
    assert path == cache / "downloads" / "weights.pth"
    assert path.read_bytes() == CONTENT
    assert fetch_published(file) == path
    assert len(server.ranges) == 1
    visible = [p.name for p in path.parent.iterdir() if not p.name.startswith(".")]
    assert visible == ["weights.pth"]


def test_redirected_file_is_fetched_from_where_it_moved(server, file):
    moved = replace(file, url=f"{server.url}/moved")
    assert fetch_published(moved).read_bytes() == CONTENT


def test_cut_transfer_is_continued_in_the_same_call(server, file):
    server.faults = ["cut"]
    assert fetch_published(file).read_bytes() == CONTENT
    assert server.ranges == [None, f"bytes={len(CONTENT) // 2}-"]


def test_cut_transfer_is_continued_by_the_next_call(server, file):
    server.faults = ["cut", 503, 503, 503]
    with refused(MachineError, "after 4 tries: HTTP 503.\nWhat was fetched is kept"):
        fetch_published(file)
    listener = Listener()
    assert fetch_published(file, listener).read_bytes() == CONTENT
    assert server.ranges[-1] == f"bytes={len(CONTENT) // 2}-"
    assert "continued behind 0.1 MB" in listener.lines[0]


def test_server_without_ranges_sends_the_whole_file_again(server, file):
    server.faults, server.takes_ranges = ["cut"], False
    assert fetch_published(file).read_bytes() == CONTENT


def test_part_of_an_older_file_is_thrown_away(server, file, cache):
    part = cache / "downloads" / "weights.pth.part"
    part.parent.mkdir()
    for older in (b"older", bytes(len(CONTENT))):
        part.write_bytes(older)
        assert fetch_published(file).read_bytes() == CONTENT
        (cache / "downloads" / "weights.pth").unlink()


def test_part_longer_than_the_file_is_thrown_away(server, file, cache):
    part = cache / "downloads" / "weights.pth.part"
    part.parent.mkdir()
    part.write_bytes(bytes(len(CONTENT) + 5))
    assert fetch_published(replace(file, num_bytes=None)).read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("content", "pattern"),
    [
        (bytes(len(CONTENT)), r"its sha256 is [0-9a-f]{64}, not [0-9a-f]{64}\.\nIt is not kept"),
        (CONTENT + b"more", r"its size is 256,001 or more bytes, not 256,000"),
        (CONTENT[:-1], r"its size is 255,999 bytes, not 256,000"),
        (b"<html>log in</html>", "its size is 19 bytes"),
    ],
)
def test_other_file_is_refused_and_not_kept(server, file, cache, content, pattern):
    server.content = content
    with refused(DatasetError, pattern):
        fetch_published(file)
    assert not [p for p in (cache / "downloads").iterdir() if not p.name.startswith(".")]


def test_missing_file_is_an_error_at_once(server, file):
    with refused(DatasetError, "there is no such file"):
        fetch_published(replace(file, url=f"{server.url}/gone"))
    assert len(server.ranges) == 1


def test_hash_decides_where_the_size_is_not_published(server, file):
    md5 = hashlib.md5(CONTENT).hexdigest()
    known = replace(file, num_bytes=None, algorithm="md5", digest=md5)
    assert fetch_published(known).read_bytes() == CONTENT
    with refused(DatasetError, "its md5 is"):
        fetch_published(replace(known, name="other", digest="0" * 32))


def test_server_that_is_not_there_is_a_fault_of_the_network(file, server):
    with refused(MachineError, "after 4 tries: .*refused"):
        fetch_published(replace(file, url="http://127.0.0.1:9/file"))


def test_full_disk_names_the_file_and_what_to_do(server, file, cache):
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))  # a write beyond it is an OSError
    try:
        with pytest.raises(MachineError) as caught:
            fetch_published(file)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert f"{cache / 'downloads' / file.name}.part: " in caught.value.problem
    assert "ALEXNET_CACHE" in caught.value.hint
    assert fetch_published(file).read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=1000-"]
