"""Files at URLs, read from their first byte to their last, through fsspec.

A connection that fails is made again, and read on from where it broke. Only addresses that the user
typed, and plain file names added to them, are ever asked for.
"""

import hashlib
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from alexnet_cli.data.shards.index import FileRecord
from alexnet_cli.errors import AlexNetError, DatasetError, MachineError, UsageError
from alexnet_cli.io.thread_map import check_canceled

ADDRESS = re.compile(r"(s3|gs|https?|file|memory)://[^\s?#]+")
PAUSES = (0.5, 1.0, 2.0)  # seconds before each further try
CONNECT_SECONDS, SILENT_SECONDS = 10, 30
OnBytes = Callable[[int], None]  # is told how many bytes were copied, piece by piece
CHUNK_BYTES = 1 << 20
EXTRA = "pip install 'alexnet-cli[cloud]'"


def is_url(text: str) -> bool:
    """Tell a URL from the path of a file or folder."""
    return "://" in text


def location(text: str) -> Path | str:
    """Return a path, or the checked URL, that a command line names.

    Raises:
        UsageError: it is a URL that nothing is fetched from.
    """
    return check_url(text) if is_url(text) else Path(text)


def check_url(url: str) -> str:
    """Return a URL without slashes at its end.

    Raises:
        UsageError: its kind is not supported, or it carries a password or a query.
    """
    match = ADDRESS.fullmatch(url)
    if match is None or "::" in url or "/.." in url:
        raise UsageError(
            f"{url.partition('?')[0]}: not supported, nothing was fetched or run.\n"
            "URLs are s3://, gs://, https://, http:// and file:// ones without ? and #."
        )
    if "@" in url.split("/")[2] and match[1].startswith("http"):
        raise UsageError(
            "a URL with a password is shown and kept with results; nothing was fetched.\n"
            "Put name and password into ~/.netrc and leave them out of the URL."
        )
    return url.rstrip("/")


class RemoteFile:
    """The bytes of a URL in their order.

    Attributes:
        position: how many were given.
    """

    def __init__(self, url: str):
        self.url, self.position = url, 0
        self._file: BinaryIO | None = None

    def read(self, count: int) -> bytes:
        """Return at most `count` bytes; none at the end.

        Raises:
            DatasetError: there is no such file.
            MachineError: the network fails, again and again, or access is denied.
        """
        content = _insist(self.url, lambda: self._try(count))
        self.position += len(content)
        return content

    def _try(self, count: int) -> bytes:
        try:
            self._file = self._file or self._opened()
            return self._file.read(count)
        except Exception:
            self.close()
            raise

    def close(self) -> None:
        """End the connection."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def __enter__(self) -> "RemoteFile":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def _opened(self) -> BinaryIO:
        """Open the file where it was left; a server need not know how to begin in the middle."""
        file = open_url(self.url)
        try:
            _pass_over(file, self.position)
        except Exception:
            file.close()
            raise
        return file


def _pass_over(file: BinaryIO, num_bytes: int) -> None:
    while num_bytes:
        passed = len(file.read(min(num_bytes, CHUNK_BYTES)))
        if not passed:
            raise OSError("the file got shorter")
        num_bytes -= passed


def open_url(url: str) -> BinaryIO:
    """Open one connection; errors are those of its kind of file system."""
    file_system, path = _file_system(url)
    if url.startswith("http"):
        # As a plain stream: no range requests, and no question for the size first.
        return file_system.open(path, block_size=0, size=1)
    return file_system.open(path)


def size_and_tag(url: str) -> tuple[int | None, str]:
    """Return a file's size in bytes, and its tag or time, as far as its server tells.

    Raises:
        AlexNetError: as `RemoteFile.read`.
    """

    def ask() -> dict:
        file_system, path = _file_system(url)
        return file_system.info(path)

    about = _insist(url, ask)
    tags = (about.get(name) for name in ("ETag", "etag", "mtime", "LastModified", "Last-Modified"))
    return about.get("size"), next((str(value) for value in tags if value), "")


def _file_system(url: str) -> tuple:
    import fsspec

    options = {}
    if url.startswith("http"):
        import aiohttp

        limits = aiohttp.ClientTimeout(sock_connect=CONNECT_SECONDS, sock_read=SILENT_SECONDS)
        # trust_env: proxies and ~/.netrc count. raise_for_status: at once, which ends a connection.
        options["client_kwargs"] = {"timeout": limits, "trust_env": True, "raise_for_status": True}
    return fsspec.url_to_fs(url, **options)


def ignore(num_bytes: int) -> None:
    """Do nothing with a number of bytes."""


def copy_bytes(
    source: Any, target: BinaryIO, max_bytes: int, on_bytes: OnBytes = ignore
) -> FileRecord:
    """Copy until `source.read` returns nothing; a longer source is noticed by one byte more.

    Args:
        on_bytes: called with the number of bytes after each piece.

    Returns:
        Size and SHA-256 of the bytes written, at most `max_bytes + 1`.

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


def _insist(url: str, action: Callable[[], Any]) -> Any:
    """Return what an action gives, tried again after each fault that may pass."""
    for pause in (*PAUSES, None):
        try:
            return action()
        except AlexNetError:  # a signal asks to stop
            raise
        except Exception as error:  # each kind of file system has errors of its own
            if url.startswith("http") and isinstance(error, FileNotFoundError) and error.__cause__:
                error = error.__cause__  # fsspec takes every answer but a file for none
            if pause is None or not _may_pass(error):
                raise explain(url, error) from error
            time.sleep(pause)
    raise AssertionError("the last try returns or raises")


def _status(error: Exception) -> int:
    """Return the HTTP status of an answer; 0 of no answer."""
    status = getattr(error, "status", 0)
    return status if isinstance(status, int) else 0


def _may_pass(error: Exception) -> bool:
    lasting = FileNotFoundError, PermissionError, IsADirectoryError, ImportError
    refused = 400 <= _status(error) < 500 and _status(error) not in (408, 429)
    return not isinstance(error, lasting) and not refused


def explain(url: str, error: Exception) -> AlexNetError:
    """Return the error that says why a URL cannot be read."""
    if isinstance(error, FileNotFoundError) or _status(error) in (404, 410):
        return DatasetError(f"{url}: there is no such file. Nothing is kept of it.")
    if isinstance(error, ImportError):
        return MachineError(f"{url}: needs a library that is not installed: {EXTRA}")
    what = f"HTTP {_status(error)}" if _status(error) else " ".join(str(error).split())[:150]
    if isinstance(error, PermissionError) or _status(error) in (401, 403):
        return MachineError(f"{url}: access denied ({what}).\nSay who you are, then run it again.")
    tries = f"after {len(PAUSES) + 1} tries" if _may_pass(error) else "refused"
    return MachineError(
        f"{url}: {tries}: {what or type(error).__name__}.\n"
        "What was fetched is kept; run the same command again to go on."
    )
