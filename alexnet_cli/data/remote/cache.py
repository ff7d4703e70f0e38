"""A dataset that prep made, at a URL: its files are fetched once into a cache folder.

CACHE/NAME-URL-DATASET/   the dataset's files; URL and DATASET are hashes

Sizes and SHA-256 are compared with index.json before a file gets its name, so files in the cache
are read like those of any dataset. Any number of processes and threads may share it.

Not `pooch`: it does not resume a cut transfer, reads no s3:// or gs://, and adds `requests`.
"""

import hashlib
import os
import re
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from alexnet_cli.data.pixel_stats import FILE_NAME
from alexnet_cli.data.remote.files import OnBytes, RemoteFile, copy_bytes
from alexnet_cli.data.shards.dataset import Dataset, dataset_of, read_samples, samples_name
from alexnet_cli.data.shards.index import INDEX_NAME, FileRecord, Index, Shard, read_index
from alexnet_cli.errors import DatasetError, Hint, MachineError, counted
from alexnet_cli.io.atomic import PARTIAL_SUFFIX, write_atomically, write_bytes
from alexnet_cli.io.disk import check_room, size_in_words
from alexnet_cli.io.progress import SILENT, Progress
from alexnet_cli.io.thread_map import thread_map

MAX_INDEX_BYTES = 1 << 26  # ImageNet's has 0.3 MB
MAX_ROW_BYTES = 64  # of a sample index
NUM_THREADS = 8  # files fetched at a time
MB = 1_000_000


def cache_folder() -> Path:
    """Return the folder that ALEXNET_CACHE names, or the one in the user's cache folder."""
    own = os.environ.get("ALEXNET_CACHE")
    general = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(own) if own else Path(general) / "alexnet"


@contextmanager
def locked_file(path: Path) -> Iterator[None]:
    """Let only one process or thread make a file; on a network disk without locks, all make it."""
    # The lock file stays in the cache: removing it would let two processes lock different files.
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

    def open(self, splits: Sequence[str], fetch_now: bool, progress: Progress = SILENT) -> Dataset:
        """Return the dataset; its indexes are fetched now.

        Args:
            splits: those that will be read.
            fetch_now: whether to fetch all their shards now, instead of each when it is first read.

        Raises:
            AlexNetError: as `fetch`; shards that are complete are kept.
        """
        if "train" in self.index.splits:
            self.fetch_stats()
        samples = {name: self.read_samples(name) for name in self.index.splits}
        wanted = [self.index.splits[name] for name in splits if name in self.index.splits]
        missing = self.announce_missing([s for split in wanted for s in split.shards], progress)
        if fetch_now:
            fetch_each(self.fetch, missing, progress)
        return dataset_of(self.folder, self.index, samples, self.url, self.fetch)

    def announce_missing(self, shards: Sequence[Shard], progress: Progress) -> tuple[Shard, ...]:
        """Return the shards that are not in the cache, after reporting how many bytes they have."""
        missing = tuple(s for s in shards if not self._has(s.name, s.num_bytes))
        advice = "Make room, or name another folder: ALEXNET_CACHE=FOLDER"
        announce(missing, counted(len(shards), "shard"), self.url, self.folder, advice, progress)
        return missing

    def read_samples(self, split: str) -> np.ndarray:
        """Return the sample index of a split; one that is damaged in the cache is fetched again."""
        name = samples_name(split)
        limit = MAX_ROW_BYTES * (self.index.splits[split].written + 64)
        for is_last in (False, True):
            self._fetch(name, self.index.files.get(name), limit)
            try:
                return read_samples(self.folder, split, self.index)
            except DatasetError as error:
                (self.folder / name).unlink(missing_ok=True)
                if is_last:
                    problem = error.problem.replace(str(self.folder), self.url)
                    raise error.replaced(problem=problem, hint=None) from error
        raise AssertionError("the last try returns or raises")

    def fetch_stats(self) -> None:
        """Fetch the pixel statistics, if the dataset has them and none were computed here."""
        side = self.index.options["size"]
        with suppress(DatasetError):
            self._fetch(FILE_NAME, None, 3 * 4 * side * side + MAX_INDEX_BYTES)

    def fetch(self, shard: Shard, on_bytes: OnBytes = lambda num_bytes: None) -> None:
        """Fetch a shard unless it is in the cache; wait if another thread or process fetches it.

        Args:
            on_bytes: called with the number of bytes of each piece.

        Raises:
            DatasetError: if the URL has no such shard, or one with other bytes than in the index.
            MachineError: if the network or the disk fails.
        """
        record = FileRecord(shard.num_bytes, shard.sha256)
        self._fetch(shard.name, record, shard.num_bytes, on_bytes)

    def _has(self, name: str, num_bytes: int | None) -> bool:
        path = self.folder / name
        return path.is_file() and num_bytes in (None, path.stat().st_size)

    def _fetch(self, name: str, record: FileRecord | None, limit: int, *on_bytes: OnBytes) -> None:
        num_bytes = record.num_bytes if record else None
        if self._has(name, num_bytes):
            return
        with locked_file(self.folder / name):
            if not self._has(name, num_bytes):
                try:
                    self._copy(name, record, limit, *on_bytes)
                except _WrongBytesError:  # perhaps damaged on the way
                    self._copy(name, record, limit)

    def _copy(self, name: str, record: FileRecord | None, limit: int, *on_bytes: OnBytes) -> None:
        url = f"{self.url}/{name}"
        with write_atomically(self.folder / name) as file, closing(RemoteFile(url)) as source:
            found = copy_bytes(source, file, limit, *on_bytes)
            if found != (record or found) or found.num_bytes > limit:
                raise _WrongBytesError(url, record or FileRecord(limit, ""), found)


class _WrongBytesError(DatasetError):
    def __init__(self, url: str, record: FileRecord, found: FileRecord):
        what = f"its SHA-256 is {found.sha256[:16]}, not {record.sha256[:16]}"
        if found.num_bytes != record.num_bytes:
            more = " or more" if found.num_bytes > record.num_bytes else ""
            what = f"its size is {found.num_bytes}{more} bytes, not {record.num_bytes}"
        super().__init__(
            f"{url}: not the file that {INDEX_NAME} describes: {what}.",
            kept="This file is not kept; files fetched before it are.",
        )


def open_files(url: str, progress: Progress = SILENT) -> CachedFiles:
    """Fetch the index.json of a URL and return the dataset's place in the cache.

    If the URL cannot be reached, as from many clusters' nodes, the last index fetched is used.

    Raises:
        DatasetError: if there is no dataset, or its index is damaged.
        MachineError: if the URL cannot be reached, and was not before.
    """
    root = cache_folder()
    root.mkdir(parents=True, exist_ok=True)
    name = re.sub(r"[^A-Za-z0-9]+", "-", url.rpartition("/")[2])[:40]
    name += "-" + hashlib.sha256(url.encode()).hexdigest()[:12]
    with tempfile.TemporaryDirectory(prefix="index-", dir=root) as incoming:
        try:
            index, content = _fetch_index(url, Path(incoming))
        except MachineError:
            known = [path.parent for path in root.glob(f"{name}-*/{INDEX_NAME}")]
            if not known:
                raise
            folder = max(known, key=lambda path: (path / INDEX_NAME).stat().st_mtime)
            index = read_index(folder)
            progress.say(
                f"{url} cannot be reached; using dataset {index.fingerprint()} in {folder}"
            )
            return CachedFiles(url, folder, index)
    folder = root / f"{name}-{index.fingerprint()}"
    folder.mkdir(exist_ok=True)
    if not (folder / INDEX_NAME).is_file() or (folder / INDEX_NAME).read_bytes() != content:
        write_bytes(folder / INDEX_NAME, content)
    return CachedFiles(url, folder, index)


def _fetch_index(url: str, incoming: Path) -> tuple[Index, bytes]:
    path = incoming / INDEX_NAME
    with path.open("wb") as file, closing(RemoteFile(f"{url}/{INDEX_NAME}")) as source:
        copy_bytes(source, file, MAX_INDEX_BYTES)
    try:
        return read_index(incoming), path.read_bytes()
    except DatasetError as error:
        problem = error.problem.replace(str(incoming), url)
        raise DatasetError(problem, kept="Nothing else was fetched.") from error


def announce(
    missing: Sequence, of: str, source: str, folder: Path, hint: str | Hint, progress: Progress
) -> None:
    """Report how many files have to be fetched, and how large they are.

    Args:
        missing: the files; each has `num_bytes`, None if its size is unknown.
        of: number and kind of all files, including those fetched before: "5 shards".
        hint: what to do if the disk has no room; if empty, the free space is not checked.

    Raises:
        MachineError: if the disk has no room for the files whose size is known.
    """
    sizes = [file.num_bytes for file in missing if file.num_bytes is not None]
    if hint:
        check_room(folder, sum(sizes), f"{len(missing)} of {of}, still to be fetched, need", hint)
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
