"""Files at URLs, read from their first byte to their last, through fsspec.

A connection that fails is made again, and reading continues where it broke. Only addresses that the
user typed, and plain file names added to them, are ever requested.
"""

import hashlib
import re
import time
from collections.abc import Callable
from typing import Any, BinaryIO

from alexnet_cli.data.shards.index import FileRecord
from alexnet_cli.errors import AlexNetError, DatasetError, MachineError, UsageError, brief
from alexnet_cli.io.thread_map import check_canceled

ADDRESS = re.compile(r"(s3|gs|https?|file|memory)://[^\s?#]+")
PAUSES = (0.5, 1.0, 2.0)  # seconds before each further try
CONNECT_SECONDS, SILENT_SECONDS = 10, 30
OnBytes = Callable[[int], None]  # called with the number of bytes of each piece copied
CHUNK_BYTES = 1 << 20
LASTING = (FileNotFoundError, PermissionError, IsADirectoryError, ImportError)


def is_url(text: str) -> bool:
    """Return whether a text is a URL and not the path of a file or folder."""
    return "://" in text


def check_url(url: str) -> str:
    """Return a URL without slashes at its end.

    Raises:
        UsageError: if its kind is not supported, or it contains a password or a query.
    """
    match = ADDRESS.fullmatch(url)
    if match is None or "::" in url or "/.." in url:
        raise UsageError(
            f"{url.partition('?')[0]}: not supported, nothing was fetched or run.",
            hint="URLs are s3://, gs://, https://, http:// and file:// ones without ? and #.",
        )
    if "@" in url.split("/")[2] and match[1].startswith("http"):
        raise UsageError(
            "a URL with a password is shown and kept with results; nothing was fetched.",
            hint="Put name and password into ~/.netrc and leave them out of the URL.",
        )
    return url.rstrip("/")


class RemoteFile:
    """The bytes of a URL in their order."""

    def __init__(self, url: str):
        self._url, self._position = url, 0
        self._file: Any = None

    def read(self, count: int) -> bytes:
        """Return at most `count` bytes; none at the end.

        Raises:
            DatasetError: if there is no such file.
            MachineError: if the network fails at every try, or access is denied.
        """
        content = retry(self._url, lambda: self._try(count))
        self._position += len(content)
        return content

    def _try(self, count: int) -> bytes:
        try:
            if self._file is None:
                self._file = open_url(self._url)
                self._skip(self._position)  # a server need not support ranges
            return self._file.read(count)
        except Exception:
            self.close()
            raise

    def _skip(self, num_bytes: int) -> None:
        while num_bytes:
            skipped = len(self._file.read(min(num_bytes, CHUNK_BYTES)))
            if not skipped:
                raise OSError("the file got shorter")
            num_bytes -= skipped

    def close(self) -> None:
        """Close the connection."""
        if self._file is not None:
            self._file.close()
            self._file = None


def open_url(url: str) -> BinaryIO:
    """Open one connection; errors are those of its kind of file system."""
    file_system, path = _file_system(url)
    if url.startswith("http"):
        # As a plain stream: no range requests, and no request for the size first.
        return file_system.open(path, block_size=0, size=1)
    return file_system.open(path)


def size_and_tag(url: str) -> tuple[int | None, str]:
    """Return a file's size in bytes, and its tag or time, if its server sends them."""

    def ask() -> dict:
        file_system, path = _file_system(url)
        return file_system.info(path)

    info = retry(url, ask)
    tags = (info.get(name) for name in ("ETag", "etag", "mtime", "LastModified", "Last-Modified"))
    return info.get("size"), next((str(value) for value in tags if value), "")


def _file_system(url: str) -> tuple:
    import fsspec

    options = {}
    if url.startswith("http"):
        import aiohttp

        limits = aiohttp.ClientTimeout(sock_connect=CONNECT_SECONDS, sock_read=SILENT_SECONDS)
        # trust_env: proxies and ~/.netrc count. raise_for_status: at once, which ends a connection.
        options["client_kwargs"] = {"timeout": limits, "trust_env": True, "raise_for_status": True}
    return fsspec.url_to_fs(url, **options)


def copy_bytes(
    source: Any, target: BinaryIO, max_bytes: int, on_bytes: OnBytes = lambda num_bytes: None
) -> FileRecord:
    """Copy until `source.read` returns nothing, at most `max_bytes + 1` bytes.

    Returns:
        Size and SHA-256 of the bytes written; a longer source shows by one byte more.

    Raises:
        InterruptedError: if this is a task of a `thread_map` that was canceled.
    """
    digest, num_bytes = hashlib.sha256(), 0
    while content := source.read(min(CHUNK_BYTES, max_bytes + 1 - num_bytes)):
        check_canceled()
        target.write(content)
        digest.update(content)
        num_bytes += len(content)
        on_bytes(len(content))
    return FileRecord(num_bytes, digest.hexdigest())


def retry(url: str, action: Callable[[], Any]) -> Any:
    """Return the result of an action, repeated after each error that may be temporary.

    Raises:
        DatasetError: if there is no such file.
        MachineError: if the network fails at every try, or access is denied.
    """
    for pause in (*PAUSES, None):
        try:
            return action()
        except AlexNetError:  # a signal requests a stop
            raise
        except Exception as error:  # each kind of file system has errors of its own
            fault: BaseException = error
            if url.startswith("http") and isinstance(error, FileNotFoundError) and error.__cause__:
                fault = error.__cause__  # fsspec reports every HTTP error as a missing file
            if pause is None or not _is_temporary(fault):
                raise _explain(url, fault) from fault
            time.sleep(pause)
    raise AssertionError("the last try returns or raises")


def _status(error: BaseException) -> int:
    """Return the HTTP status of an answer; 0 if there was no answer."""
    status = getattr(error, "status", 0)
    return status if isinstance(status, int) else 0


def _is_temporary(error: BaseException) -> bool:
    refused = 400 <= _status(error) < 500 and _status(error) not in (408, 429)
    return not isinstance(error, LASTING) and not refused


def _explain(url: str, error: BaseException) -> AlexNetError:
    status = _status(error)
    if isinstance(error, FileNotFoundError) or status in (404, 410):
        return DatasetError(f"{url}: there is no such file.", kept="Nothing of it is kept.")
    if isinstance(error, ImportError):
        return MachineError(
            f"{url}: needs a library that is not installed.",
            hint='Install it: pip install "alexnet-cli[cloud]"',
        )
    what = f"HTTP {status}" if status else brief(error, 150)
    if isinstance(error, PermissionError) or status in (401, 403):
        return MachineError(
            f"{url}: access denied ({what}).", hint="Log in to the server, then run it again."
        )
    tries = f"after {len(PAUSES) + 1} tries" if _is_temporary(error) else "refused"
    return MachineError(
        f"{url}: {tries}: {what or type(error).__name__}.",
        kept="What was fetched is kept.",
        hint="Run the same command again to continue.",
    )
