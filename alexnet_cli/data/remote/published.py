"""Single published files of known hash, fetched once into the cache.

CACHE/downloads/NAME        a complete file; it gets this name after its hash was compared
CACHE/downloads/NAME.part   what is there so far; the next try continues behind it

Through urllib, unlike datasets at URLs, so that no extra library is needed.
"""

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from alexnet_cli import __version__
from alexnet_cli.data.remote import files
from alexnet_cli.data.remote.cache import MB, cache_folder, locked_file
from alexnet_cli.errors import DatasetError, machine_error
from alexnet_cli.io.atomic import move_into_place
from alexnet_cli.io.disk import check_room, size_in_words
from alexnet_cli.io.hashes import hash_of
from alexnet_cli.io.progress import SILENT, Progress, Tracker

PARTIAL, NOT_IN_RANGE = 206, 416  # HTTP
ADVICE = "Make room, or name another folder: ALEXNET_CACHE=FOLDER"
MAX_BYTES = 1 << 30  # of a file whose size is not known


@dataclass(frozen=True, slots=True)
class PublishedFile:
    """A file that its publisher describes.

    Attributes:
        name: of the file in the cache.
        num_bytes: its size, where it is published.
        algorithm: of the hash that is known: "sha256", or what else its publisher gives.
        digest: in hex.
    """

    name: str
    url: str
    num_bytes: int | None
    algorithm: str
    digest: str


def fetch_published(file: PublishedFile, progress: Progress = SILENT) -> Path:
    """Return a file in the cache, after fetching it if it is not there; a cut one is continued.

    Raises:
        DatasetError: if the URL has no such file, or one with another hash; it is not kept.
        MachineError: if the network or the disk fails; what was fetched is kept.
    """
    path = cache_folder() / "downloads" / file.name
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_file():
        return path
    with locked_file(path):
        if not path.is_file():
            _fetch(file, path, progress)
    return path


def _fetch(file: PublishedFile, path: Path, progress: Progress) -> None:
    part = path.with_name(f"{path.name}.part")
    start = _size(part)
    check_room(path.parent, (file.num_bytes or 0) - start, f"{file.name} needs", ADVICE)
    size = f"{size_in_words(file.num_bytes)} " if file.num_bytes else ""
    behind = f", continued behind {size_in_words(start)}" if start else ""
    progress.say(f"{file.url}: {size}to {path}{behind}")
    _complete(file, part, progress)
    fault = _difference(file, part)
    if fault and start:  # perhaps of an older file at the URL, or damaged on the disk
        part.unlink()
        _complete(file, part, progress)
        fault = _difference(file, part)
    if fault:
        part.unlink()
        raise DatasetError(
            f"{file.url}: not the published file: {fault}.",
            kept="It is not kept.",
            hint="Find out what answers at this URL: a proxy's page, or a newer version.",
        )
    move_into_place(part, path)


def _complete(file: PublishedFile, part: Path, progress: Progress) -> None:
    """Fetch what is missing of a file; of more than its size, one byte more."""
    with progress.track("fetch, MB", (file.num_bytes or 0) // MB) as bar:
        bar.advance(_size(part) // MB)
        files.retry(file.url, lambda: _copy_rest(file, part, bar))


def _copy_rest(file: PublishedFile, part: Path, bar: Tracker) -> None:
    """Append to a file in one connection what is missing.

    Raises:
        OSError: if the connection fails or ends early.
    """
    start, limit = _size(part), file.num_bytes or MAX_BYTES
    if start >= limit:
        return
    headers = {"User-Agent": f"alexnet/{__version__}"}
    if start:
        headers["Range"] = f"bytes={start}-"
    with closing(_open(Request(file.url, headers=headers), part)) as answer, part.open("ab") as out:
        if start and answer.status != PARTIAL:  # a server need not support ranges
            out.truncate(0)
            start = 0
        promised = answer.headers.get("Content-Length")
        end = start + int(promised) if promised else file.num_bytes or 0
        done = _copy(answer, out, start, limit + 1, bar)
    if done < min(end, limit):
        raise ConnectionError(f"the connection ended after {done:,} of {end:,} bytes")


def _open(request: Request, part: Path) -> Any:
    try:
        return urlopen(request, timeout=files.SILENT_SECONDS)
    except HTTPError as error:
        error.close()
        if error.code == NOT_IN_RANGE:  # what is here is of a longer file
            part.unlink()
            raise ConnectionError("the file is shorter than the part of it here") from error
        raise


def _copy(answer: Any, out: BinaryIO, done: int, limit: int, bar: Tracker) -> int:
    """Copy until the answer or the limit ends; return how many bytes the file has then."""
    while content := answer.read(min(files.CHUNK_BYTES, limit - done)):
        try:
            out.write(content)
        except OSError as error:
            error.filename = error.filename or out.name
            fault = machine_error(error)
            raise fault.replaced(kept="What was fetched is kept.", hint=ADVICE) from error
        before, done = done, done + len(content)
        bar.advance(done // MB - before // MB)
    return done


def _difference(file: PublishedFile, path: Path) -> str:
    """Return how a file differs from the published one, or an empty text."""
    num_bytes = _size(path)
    if file.num_bytes and num_bytes != file.num_bytes:
        more = " or more" if num_bytes > file.num_bytes else ""
        return f"its size is {num_bytes:,}{more} bytes, not {file.num_bytes:,}"
    found = hash_of(path, file.algorithm)
    return "" if found == file.digest else f"its {file.algorithm} is {found}, not {file.digest}"


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
