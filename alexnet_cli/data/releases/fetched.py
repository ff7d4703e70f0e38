"""WebDataset tars of others that lie elsewhere: fetched once, then read in place like local ones.

SPOOL/KEY/NAME.tar        a tar as it came; KEY is made of all their addresses
SPOOL/KEY/NAME.tar.json   what its server told of it, written after it

A tar gets its name only when it is whole. One whose server tells something else by now is fetched
anew; that no shard was made of the one before is for the caller to see.
"""

import hashlib
import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import BinaryIO

from alexnet_cli.atomic import (
    read_sealed,
    remove_partial,
    write_atomically,
    write_bytes,
    write_sealed,
)
from alexnet_cli.data.at_once import Tell, at_once
from alexnet_cli.data.releases.tars import list_members
from alexnet_cli.data.releases.wds import FILE, NAMES_FILES, read_names
from alexnet_cli.data.remote import is_url, size_and_tag
from alexnet_cli.data.streams.tar_source import PIPE, TarSet, open_tar, tar_name
from alexnet_cli.disk import advice_on, check_room, fault_in_words, size_in_words
from alexnet_cli.errors import MachineError, ReleaseError, UsageError
from alexnet_cli.progress import Progress

CHUNK_BYTES = 1 << 20
MB = 1_000_000
KEPT = "Nothing of it is kept; the tars that are whole are. Run the same command again to go on."


@dataclass(frozen=True, slots=True)
class ForeignTar:
    """A tar that is not here.

    Attributes:
        address: its URL, or a command that gives it.
        name: that of the copy; it tells of the split.
        num_bytes: as its server tells, if it does.
        tag: what its server changes with it; "" of a command.
    """

    address: str
    name: str
    num_bytes: int | None
    tag: str

    def record(self) -> dict:
        """Return what must be the same again for a copy to be kept."""
        return {"address": self.address, "num_bytes": self.num_bytes, "tag": self.tag}


@dataclass(frozen=True, slots=True)
class ForeignTars:
    """All tars of a set, as their servers tell of them now.

    Attributes:
        class_names: the words for each label, if the user has them.
    """

    source: TarSet
    tars: tuple[ForeignTar, ...]
    class_names: list[str] | None

    def fingerprint(self) -> str:
        """Return 16 hex digits that change with an address, with what is told, and the names."""
        told = [[tar.record() for tar in self.tars], self.class_names]
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]

    def fetch(self, spool: Path, progress: Progress, *, force: bool = False) -> Path:
        """Fetch what is not there yet and return the folder with all tars.

        Args:
            spool: a folder of ours.
            force: begin even if the disk looks too small.

        Raises:
            ReleaseError: a tar is cut, packed, or changed meanwhile.
            DatasetError: it is not there.
            MachineError: the network, a command or the disk fails.
            What stops the main thread. In all of these the tars that are whole are kept.
        """
        addresses = json.dumps([tar.address for tar in self.tars])
        folder = spool / hashlib.sha256(addresses.encode()).hexdigest()[:16]
        folder.mkdir(parents=True, exist_ok=True)
        try:
            remove_partial(folder)
            missing = [tar for tar in self.tars if not _is_there(tar, folder)]
            self._announce(missing, folder, progress, force)
            _fetch_all(missing, folder, self.source.allow_pipe, progress)
            self._write_names(folder)
        except BrokenPipeError:  # of our output, not of the disk
            raise
        except OSError as error:
            raise MachineError(
                f"{fault_in_words(error, folder)}.\nFetched tars are kept. {advice_on(error)}"
            ) from error
        finally:
            for path in (folder, spool):
                with suppress(OSError):  # not empty: there is something to go on with
                    path.rmdir()
        return folder

    def _write_names(self, folder: Path) -> None:
        for name in NAMES_FILES:
            (folder / name).unlink(missing_ok=True)
        if self.class_names is not None:
            write_bytes(folder / "classes.json", json.dumps(self.class_names).encode())

    def _announce(
        self, missing: Sequence[ForeignTar], folder: Path, progress: Progress, force: bool
    ) -> None:
        """Say aloud what is fetched and how large it is, unless it does not fit."""
        needed = sum(tar.num_bytes or 0 for tar in missing)
        if not force:
            advice = "Nothing more was fetched. Make room, or try all the same: --force"
            check_room(folder, needed, "the tars still to be fetched need", advice)
        known = [tar for tar in missing if tar.num_bytes is not None]
        size = size_in_words(needed) if known else "of unknown size"
        if 0 < len(known) < len(missing):
            size += f" and {len(missing) - len(known)} of unknown size"
        done = len(self.tars) - len(missing)
        if done:
            progress.say(f"resuming: {done} of {len(self.tars)} tars were fetched before")
        if missing:
            progress.say(
                f"fetching {len(missing)} tars of {self.source}, {size}, "
                f"into {folder} until the dataset is complete"
            )


def look_at(source: TarSet, progress: Progress) -> ForeignTars:
    """Ask the servers of all tars for size and tag; nothing is fetched and no command is run.

    Raises:
        UsageError: the set is none that can be fetched, or its names tell of no split.
        ReleaseError: the file of class names cannot be used.
        DatasetError: a tar is not there.
        MachineError: a server does not answer.
    """
    names = _checked_names(source)
    class_names = _read_classes(source.classes) if source.classes else None
    found: dict[str, ForeignTar] = {}
    with progress.track("asking", len(names)) as bar:

        def heed(tar: ForeignTar) -> None:
            found[tar.address] = tar
            bar.advance(note=tar.name)

        at_once(names, lambda name, tell, _: tell(_ask(name)), heed)
    return ForeignTars(source, tuple(found[name] for name in names), class_names)


def _checked_names(source: TarSet) -> list[str]:
    addresses = source.names()
    places: dict[str, str] = {}
    for address in addresses:
        name = tar_name(address)
        if not (is_url(address) or address.startswith(PIPE)):
            raise UsageError(f"{address}: not a URL; nothing was fetched. Name URLs or a folder.")
        if not FILE.fullmatch(name):
            raise UsageError(
                f"{address}: no tar whose name tells its split; nothing was fetched or run.\n"
                "prep fetches WebDataset tars: train-*.tar, val-*.tar, test-*.tar"
            )
        if name in places:
            raise UsageError(
                f"{address}: called {name} like {places[name]}; nothing was fetched or run."
            )
        places[name] = address
    return addresses


def _read_classes(path: Path) -> list[str]:
    if not path.is_file():
        raise ReleaseError(f"{path}: no such file. Nothing was fetched.")
    return read_names(path)


def _ask(address: str) -> ForeignTar:
    is_command = address.startswith(PIPE)
    return ForeignTar(
        address, tar_name(address), *((None, "") if is_command else size_and_tag(address))
    )


def _record_path(tar: ForeignTar, folder: Path) -> Path:
    return folder / f"{tar.name}.json"


def _is_there(tar: ForeignTar, folder: Path) -> bool:
    """Tell whether a tar was fetched whole, and is still what its server has."""
    path, record = folder / tar.name, read_sealed(_record_path(tar, folder))
    return (
        record is not None
        and path.is_file()
        and record == {**tar.record(), "copied": path.stat().st_size}
    )


def _fetch_all(
    tars: Sequence[ForeignTar], folder: Path, allow_pipe: bool, progress: Progress
) -> None:
    """Fetch several tars at a time; the bar counts MB where all sizes are told, else tars."""
    sizes = [tar.num_bytes for tar in tars]
    in_mb, copied = None not in sizes, 0
    with progress.track(
        *(("fetch, MB", sum(sizes) // MB) if in_mb else ("fetch", len(tars)))
    ) as bar:

        def heed(event: int | str) -> None:
            nonlocal copied
            if isinstance(event, str):
                bar.advance(0 if in_mb else 1, note=event)
            elif in_mb:
                before, copied = copied, copied + event
                bar.advance(copied // MB - before // MB)

        def work(tar: ForeignTar, tell: Tell, stopping: Event) -> None:
            _fetch(tar, folder, allow_pipe, tell, stopping)
            tell(tar.name)

        at_once(tars, work, heed)


def _fetch(tar: ForeignTar, folder: Path, allow_pipe: bool, tell: Tell, stopping: Event) -> None:
    with write_atomically(folder / tar.name) as file:
        try:
            num_bytes = _copy(tar, file, allow_pipe, tell, stopping)
        except MachineError as error:
            if "\n" in str(error):
                raise
            raise MachineError(f"{error}\n{KEPT}") from error
        file.flush()
        _check_whole(tar, Path(file.name), num_bytes)
    write_sealed(_record_path(tar, folder), {**tar.record(), "copied": num_bytes})


def _copy(tar: ForeignTar, file: BinaryIO, allow_pipe: bool, tell: Tell, stopping: Event) -> int:
    num_bytes = 0
    with open_tar(tar.address, allow_pipe=allow_pipe) as source:
        while content := source.read(CHUNK_BYTES):
            if stopping.is_set():
                raise InterruptedError
            file.write(content)
            num_bytes += len(content)
            tell(len(content))
    return num_bytes


def _check_whole(tar: ForeignTar, copy: Path, num_bytes: int) -> None:
    if _ask(tar.address) != tar:
        raise ReleaseError(f"{tar.address}: changed while it was fetched.\n{KEPT}")
    if num_bytes != (tar.num_bytes or num_bytes):
        raise MachineError(
            f"{tar.address}: {num_bytes} bytes came, {tar.num_bytes} were announced.\n{KEPT}"
        )
    try:
        with copy.open("rb") as file:
            num_members = sum(1 for _ in list_members(copy, file, 0, num_bytes, {}))
            _check_rest(copy, file, num_members)
    except ReleaseError as error:
        why = str(error).split("\n")[0].removeprefix(f"{copy}: ")
        raise ReleaseError(f"{tar.address}: {why}\n{KEPT}") from error


def _check_rest(copy: Path, file: BinaryIO, num_members: int) -> None:
    """A hole of zeros, as a broken download leaves it, reads like the end of a tar."""
    position = file.tell()  # behind the two blocks that end a tar; list_members has read them
    while content := file.read(CHUNK_BYTES):
        if content.strip(b"\0"):
            raise ReleaseError(f"{copy}: zeros in place of a header before byte {position}.")
    if not num_members:
        raise ReleaseError(f"{copy}: an empty archive.")
