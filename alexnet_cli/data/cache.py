"""A dataset that prep made and that lies at a URL: its files are fetched once into a cache folder.

CACHE/NAME-URL-DATASET/   a dataset's files as at the URL; URL and DATASET are what names them

Sizes and SHA-256 are compared with index.json before a file gets its name, so what lies in the
cache is read like any dataset. Any number of processes and threads may share it.
"""

import hashlib
import os
import re
import tempfile
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from alexnet_cli.atomic import PARTIAL_SUFFIX, write_atomically
from alexnet_cli.data.pixel_stats import FILE_NAME
from alexnet_cli.data.remote import copy_url
from alexnet_cli.data.shards.index import INDEX_NAME, FileRecord, Index, Shard, read_index
from alexnet_cli.disk import check_room
from alexnet_cli.errors import AlexNetError, DatasetError, MachineError
from alexnet_cli.progress import SILENT, Progress

MAX_INDEX_BYTES = 1 << 26  # ImageNet's has 0.3 MB
MAX_ROW_BYTES = 64  # of a sample index
NUM_THREADS = 8  # that fetch at a time
TRIES = 2  # for bytes that are not the right ones


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
        """Fetch a split's sample index, unless it is there.

        Raises:
            DatasetError: it is not there, or not as index.json says.
            MachineError: the network or the disk fails.
        """
        if not (self.folder / name).is_file():
            limit = MAX_ROW_BYTES * (self.index.splits[split].written + 64)
            self._fetch(name, self.index.files.get(name), limit)

    def fetch_stats(self) -> None:
        """Fetch the pixel statistics, if there are any, and none were computed here."""
        side = self.index.options["size"]
        with suppress(DatasetError):
            if not (self.folder / FILE_NAME).is_file():
                self._fetch(FILE_NAME, None, 3 * 4 * side * side + MAX_INDEX_BYTES)

    def has(self, shard: Shard) -> bool:
        """Tell whether a shard was fetched; its bytes were compared then."""
        path = self.folder / shard.name
        return path.is_file() and path.stat().st_size == shard.num_bytes

    def fetch(self, shard: Shard, stopping: threading.Event | None = None) -> None:
        """Fetch a shard, unless it is there; whoever fetches it already is waited for.

        Raises:
            DatasetError: it is not there, or its bytes are not those of the index.
            MachineError: the network or the disk fails.
        """
        if self.has(shard):
            return
        with making(self.folder / shard.name):
            if not self.has(shard):
                record = FileRecord(shard.num_bytes, shard.sha256)
                self._fetch(shard.name, record, shard.num_bytes, stopping)

    def _fetch(
        self,
        name: str,
        record: FileRecord | None,
        limit: int,
        stopping: threading.Event | None = None,
    ) -> None:
        for left in reversed(range(TRIES)):
            with suppress(_OtherBytes), write_atomically(self.folder / name) as file:
                is_stopping = stopping.is_set if stopping else bool
                found = copy_url(f"{self.url}/{name}", file, limit, is_stopping)
                if found == (record or found) and found.num_bytes <= limit:
                    return
                raise _OtherBytes
            if not left:
                self._refuse(name, record or FileRecord(limit, ""), found)

    def _refuse(self, name: str, record: FileRecord, found: FileRecord) -> None:
        what = "SHA-256", found.sha256[:16], record.sha256[:16]
        if found.num_bytes != record.num_bytes:
            more = " or more" if found.num_bytes > record.num_bytes else ""
            what = "size", f"{found.num_bytes}{more} bytes", f"{record.num_bytes}"
        raise DatasetError(
            f"{self.url}/{name}: not the file that {INDEX_NAME} tells of: its {what[0]} is "
            f"{what[1]}, not {what[2]}.\nNothing of it is kept; what came before it is."
        )


class _OtherBytes(Exception):  # noqa: N818 - it never leaves this file
    pass


class FetchAhead:
    """Fetches a shard when it is first read, and begins with the one after it."""

    def __init__(self, files: CachedFiles, shards: Sequence[Shard]):
        self.files, self.shards = files, shards

    def __call__(self, number: int) -> None:
        """Return once a shard is there; errors are those of `CachedFiles.fetch`."""
        self.files.fetch(self.shards[number])
        if number + 1 < len(self.shards) and not self.files.has(self.shards[number + 1]):
            following = self.shards[number + 1]
            threading.Thread(
                target=self._fetch_quietly,
                args=(following,),
                name=f"fetch {following.name}",
                daemon=True,
            ).start()

    def _fetch_quietly(self, shard: Shard) -> None:
        with suppress(AlexNetError, OSError):  # whoever needs it will be told
            self.files.fetch(shard)


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
        with write_atomically(folder / INDEX_NAME) as file:
            file.write(content)
    return CachedFiles(url, folder, index)


def _fetch_index(url: str, incoming: Path) -> tuple[Index, bytes]:
    path = incoming / INDEX_NAME
    with path.open("wb") as file:
        copy_url(f"{url}/{INDEX_NAME}", file, MAX_INDEX_BYTES)
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
        AlexNetError: as `CachedFiles.fetch`; what was fetched is kept.
    """
    missing = say_missing(files, shards, progress)
    stopping = threading.Event()
    total = sum(shard.num_bytes for shard in missing)
    with progress.track("fetch, MB", total // 1_000_000) as bar:
        with ThreadPoolExecutor(NUM_THREADS) as pool:
            futures = [pool.submit(files.fetch, shard, stopping) for shard in missing]
            done = 0
            try:
                for shard, future in zip(missing, futures, strict=True):
                    future.result()
                    before, done = done, done + shard.num_bytes
                    bar.advance(done // 1_000_000 - before // 1_000_000, note=shard.name)
            except BaseException:
                stopping.set()
                pool.shutdown(cancel_futures=True)
                raise


def say_missing(
    files: CachedFiles, shards: Sequence[Shard], progress: Progress
) -> tuple[Shard, ...]:
    """Return the shards that are still to be fetched, and say how many bytes that is.

    Raises:
        MachineError: the cache's disk has no room for them.
    """
    missing = tuple(shard for shard in shards if not files.has(shard))
    total = sum(shard.num_bytes for shard in missing)
    advice = "Make room, or name another folder: ALEXNET_CACHE=FOLDER"
    check_room(files.folder, total, "the shards still to be fetched need", advice)
    if missing:
        what = f"{len(missing)} of {len(shards)} shards, {total / 1e6:,.0f} MB"
        progress.say(f"{files.url}: {what}, to be fetched into {files.folder}")
    return missing
