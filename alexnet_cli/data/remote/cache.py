"""A dataset that prep made and that lies at a URL: its files are fetched once into a cache folder.

CACHE/NAME-URL-DATASET/   a dataset's files as at the URL; URL and DATASET are what names them

Sizes and SHA-256 are compared with index.json before a file gets its name, so what lies in the
cache is read like any dataset. Any number of processes and threads may share it.

Not `pooch`: it does not resume a cut transfer, reads no s3:// or gs://, and adds `requests`.
"""

import hashlib
import os
import re
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from alexnet_cli.data.pixel_stats import FILE_NAME
from alexnet_cli.data.remote.files import OnBytes, RemoteFile, copy_bytes, ignore
from alexnet_cli.data.shards.index import INDEX_NAME, FileRecord, Index, Shard, read_index
from alexnet_cli.errors import DatasetError, MachineError
from alexnet_cli.io.atomic import PARTIAL_SUFFIX, write_atomically, write_bytes
from alexnet_cli.io.disk import check_room, size_in_words
from alexnet_cli.io.progress import SILENT, Progress
from alexnet_cli.io.thread_map import thread_map

MAX_INDEX_BYTES = 1 << 26  # ImageNet's has 0.3 MB
MAX_ROW_BYTES = 64  # of a sample index
NUM_THREADS = 8  # that fetch at a time
MB = 1_000_000


def cache_folder() -> Path:
    """Return the folder that ALEXNET_CACHE names, or the one in the user's cache folder."""
    own = os.environ.get("ALEXNET_CACHE")
    general = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(own) if own else Path(general) / "alexnet"


@contextmanager
def making(path: Path) -> Iterator[None]:
    """Wait for whoever makes the same file; without locks on a network disk both make it."""
    # Its file stays in the cache: no hash covers it, and nobody waits for a file that was removed.
    lock = FileLock(path.with_name(f".{path.name}.lock"), fallback_to_soft=False)
    with suppress(OSError):
        lock.acquire()
        for leftover in path.parent.glob(f"{path.name}.*{PARTIAL_SUFFIX}"):
            leftover.unlink(missing_ok=True)  # of a process that was killed
    try:
        yield
    finally:
        lock.release()


@dataclass(frozen=True, slots=True)
class CachedFiles:
    """The files of one dataset at a URL, and the folder that they are fetched into."""

    url: str
    folder: Path
    index: Index

    def fetch_samples(self, split: str, name: str) -> None:
        """Fetch a split's sample index; errors are those of `fetch`."""
        limit = MAX_ROW_BYTES * (self.index.splits[split].written + 64)
        self._fetch(name, self.index.files.get(name), limit)

    def fetch_stats(self) -> None:
        """Fetch the pixel statistics, if the dataset has any and none were computed here."""
        side = self.index.options["size"]
        with suppress(DatasetError):
            self._fetch(FILE_NAME, None, 3 * 4 * side * side + MAX_INDEX_BYTES)

    def has(self, shard: Shard) -> bool:
        """Return whether a shard was fetched; its SHA-256 was compared then."""
        return self._has(shard.name, shard.num_bytes)

    def _has(self, name: str, num_bytes: int | None) -> bool:
        path = self.folder / name
        return path.is_file() and num_bytes in (None, path.stat().st_size)

    def fetch(self, shard: Shard, on_bytes: OnBytes = ignore) -> None:
        """Fetch a shard unless it is there; wait if another thread or process is fetching it.

        Args:
            on_bytes: called with the number of bytes after each piece.

        Raises:
            DatasetError: if the URL has no such shard, or one with other bytes than in the index.
            MachineError: if the network or the disk fails.
        """
        record = FileRecord(shard.num_bytes, shard.sha256)
        self._fetch(shard.name, record, shard.num_bytes, on_bytes)

    def _fetch(
        self, name: str, record: FileRecord | None, limit: int, on_bytes: OnBytes = ignore
    ) -> None:
        num_bytes = record.num_bytes if record else None
        if self._has(name, num_bytes):
            return
        with making(self.folder / name):
            if not self._has(name, num_bytes):
                try:
                    self._copy(name, record, limit, on_bytes)
                except _WrongBytesError:  # perhaps damaged on the way
                    self._copy(name, record, limit, ignore)

    def _copy(self, name: str, record: FileRecord | None, limit: int, on_bytes: OnBytes) -> None:
        url = f"{self.url}/{name}"
        with write_atomically(self.folder / name) as file, RemoteFile(url) as source:
            found = copy_bytes(source, file, limit, on_bytes)
            if found != (record or found) or found.num_bytes > limit:
                raise _WrongBytesError(url, record or FileRecord(limit, ""), found)


class _WrongBytesError(DatasetError):
    def __init__(self, url: str, record: FileRecord, found: FileRecord):
        what = f"its SHA-256 is {found.sha256[:16]}, not {record.sha256[:16]}"
        if found.num_bytes != record.num_bytes:
            more = " or more" if found.num_bytes > record.num_bytes else ""
            what = f"its size is {found.num_bytes}{more} bytes, not {record.num_bytes}"
        super().__init__(
            f"{url}: not the file that {INDEX_NAME} describes: {what}.\n"
            "This file is not kept; files fetched before it are."
        )


def open_files(url: str, progress: Progress = SILENT) -> CachedFiles:
    """Ask a URL for its index.json and return the dataset's place in the cache.

    Where the URL cannot be reached, as on many a cluster's nodes, what was fetched is used.

    Raises:
        DatasetError: no dataset is there, or its index is damaged.
        MachineError: it cannot be reached, and was not before.
    """
    root = cache_folder()
    root.mkdir(parents=True, exist_ok=True)
    name = re.sub(r"[^A-Za-z0-9]+", "-", url.rpartition("/")[2])[:40]
    name += "-" + hashlib.sha256(url.encode()).hexdigest()[:12]
    with tempfile.TemporaryDirectory(prefix="index-", dir=root) as incoming:
        try:
            index, content = _fetch_index(url, Path(incoming))
        except MachineError as error:
            return _without_network(url, root, name, error, progress)
    folder = root / f"{name}-{index.fingerprint()}"
    folder.mkdir(exist_ok=True)
    if not (folder / INDEX_NAME).is_file() or (folder / INDEX_NAME).read_bytes() != content:
        write_bytes(folder / INDEX_NAME, content)
    return CachedFiles(url, folder, index)


def _fetch_index(url: str, incoming: Path) -> tuple[Index, bytes]:
    path = incoming / INDEX_NAME
    with path.open("wb") as file, RemoteFile(f"{url}/{INDEX_NAME}") as source:
        copy_bytes(source, file, MAX_INDEX_BYTES)
    try:
        return read_index(incoming), path.read_bytes()
    except DatasetError as error:
        why = str(error).split("\n")[0].replace(str(incoming), url)
        raise DatasetError(f"{why}\nNothing else was fetched.") from error


def _without_network(
    url: str, root: Path, name: str, error: MachineError, progress: Progress
) -> CachedFiles:
    fetched = [path.parent for path in root.glob(f"{name}-*/{INDEX_NAME}")]
    if not fetched:
        raise error
    folder = max(fetched, key=lambda path: (path / INDEX_NAME).stat().st_mtime)
    index = read_index(folder)
    progress.say(f"{url} cannot be reached; dataset {index.fingerprint()} in {folder} is used")
    return CachedFiles(url, folder, index)


def fetch_all(files: CachedFiles, shards: Sequence[Shard], progress: Progress) -> None:
    """Fetch all of some shards, several at a time.

    Raises:
        AlexNetError: as `CachedFiles.fetch`; shards that are complete are kept.
    """
    fetch_each(files.fetch, say_missing(files, shards, progress), progress)


def say_missing(
    files: CachedFiles, shards: Sequence[Shard], progress: Progress
) -> tuple[Shard, ...]:
    """Return the shards that are not in the cache, and report how many bytes they have.

    Raises:
        MachineError: if the cache's disk has no room for them.
    """
    missing = tuple(shard for shard in shards if not files.has(shard))
    advice = "Make room, or name another folder: ALEXNET_CACHE=FOLDER"
    announce(missing, f"{len(shards)} shards", files.url, files.folder, advice, progress)
    return missing


def announce(
    missing: Sequence, of: str, source: str, folder: Path, advice: str, progress: Progress
) -> None:
    """Report how many files have to be fetched, and how large they are.

    Args:
        missing: the files; each has `num_bytes`, None if its size is not known yet.
        of: number and kind of all files, those fetched before included: "5 shards".
        advice: what to do if the disk has no room; if empty, the disk is not looked at.

    Raises:
        MachineError: if the disk has no room for the files whose size is known.
    """
    sizes = [file.num_bytes for file in missing if file.num_bytes is not None]
    if advice:
        check_room(folder, sum(sizes), f"{len(missing)} of {of}, still to be fetched, need", advice)
    size = size_in_words(sum(sizes)) if sizes else "of unknown size"
    if 0 < len(sizes) < len(missing):
        size += f" and {len(missing) - len(sizes)} of unknown size"
    if missing:
        progress.say(f"{source}: {len(missing)} of {of}, {size}, to be fetched into {folder}")


def fetch_each(fetch: Callable[[Any, OnBytes], None], files: Sequence, progress: Progress) -> None:
    """Call `fetch(file, on_bytes)` for each file, several at a time; the first error cancels all.

    Args:
        files: each has `name` and `num_bytes`. The progress bar counts megabytes if all sizes are
            known, otherwise files.
    """
    sizes = [file.num_bytes for file in files]
    in_mb, lock, done = None not in sizes, threading.Lock(), 0

    def count(num_bytes: int) -> None:
        nonlocal done
        with lock:
            before, done = done, done + num_bytes
            bar.advance(done // MB - before // MB if in_mb else 0)

    def fetch_one(file: Any) -> str:
        fetch(file, count)
        return file.name

    total = sum(sizes) // MB if in_mb else len(files)
    with progress.track("fetch, MB" if in_mb else "fetch", total) as bar:
        for name in thread_map(fetch_one, files, NUM_THREADS, ordered=False):
            bar.advance(0 if in_mb else 1, note=name)
