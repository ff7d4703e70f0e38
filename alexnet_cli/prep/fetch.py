"""Tars at URLs, or out of commands, as the source of a prep: fetched into its folder.

TARS/KEY/NAME.tar        a tar as it came; KEY is the hash of the addresses of the whole set
TARS/KEY/NAME.tar.json   what its server says of it, written after it

A tar gets its name when it is complete. It is fetched again if its server reports another size or
tag by now, but never mixed with shards that were made of the one before.
"""

import hashlib
import json
import sys
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from alexnet_cli.data.remote.cache import NUM_THREADS, announce, fetch_each
from alexnet_cli.data.remote.files import OnBytes, copy_bytes, is_url
from alexnet_cli.data.remote.tar_set import PIPE, TarSet, open_tar, tar_name, tar_size_and_tag
from alexnet_cli.data.shards.index import INDEX_NAME, read_index
from alexnet_cli.data.shards.writer import RECORDS
from alexnet_cli.data.sources.class_list import NAMES_FILES, read_class_list
from alexnet_cli.data.sources.samples import FILE
from alexnet_cli.data.sources.tars import check_whole_tar
from alexnet_cli.data.sources.webdataset import LAYOUT
from alexnet_cli.errors import DatasetError, MachineError, SourceError, UsageError, counted, hint
from alexnet_cli.io.atomic import (
    read_checksummed,
    remove_partial,
    write_atomically,
    write_bytes,
    write_checksummed,
)
from alexnet_cli.io.progress import Progress
from alexnet_cli.io.thread_map import thread_map
from alexnet_cli.prep.folder import LEFT, PLAN_NAME, TARS, another_dataset
from alexnet_cli.prep.plan import PrepRequest

ORIGIN = ("fetched", "tars")  # in index.json: the addresses of the tars, and a fingerprint
KEPT = "Nothing of it is kept; complete tars are."
AGAIN = "Run the same command again to continue."
NOTHING = "Nothing was fetched or run."


@dataclass(frozen=True, slots=True)
class RemoteTar:
    """A tar at a URL, or out of a command."""

    address: str
    num_bytes: int | None  # as its server says, None if it does not
    tag: str  # a text that its server changes with the content, if there is one

    @property
    def name(self) -> str:
        """The name of the copy, which says the split."""
        return tar_name(self.address)


@dataclass(frozen=True, slots=True)
class RemoteTars:
    """All tars of a set, as their servers describe them now."""

    source: TarSet
    tars: tuple[RemoteTar, ...]
    class_names: list[str] | None  # the words for each label, if the user has them

    def fingerprint(self) -> str:
        """Return 16 hex digits that change with an address, size, tag or class name."""
        content = [[asdict(tar) for tar in self.tars], self.class_names]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]

    def fetch(self, staging: Path, progress: Progress, *, force: bool = False) -> Path:
        """Fetch the tars that are not there yet and return the folder with all of them.

        Complete tars are kept after any error.

        Args:
            staging: a folder that only this process writes to. It and its parent are removed if
                they are empty at the end.
            force: begin even if the disk looks too small.
        """
        addresses = json.dumps([tar.address for tar in self.tars])
        folder = staging / hashlib.sha256(addresses.encode()).hexdigest()[:16]
        folder.mkdir(parents=True, exist_ok=True)
        try:
            remove_partial(folder)
            missing = [tar for tar in self.tars if not _is_fetched(tar, folder)]
            advice = "" if force else hint("force_room")
            announce(
                missing, counted(len(self.tars), "tar"), str(self.source), folder, advice, progress
            )
            fetch_each(partial(_fetch, folder, self.source.allow_pipe), missing, progress)
            for name in NAMES_FILES:
                (folder / name).unlink(missing_ok=True)
            if self.class_names is not None:
                write_bytes(folder / "classes.json", json.dumps(self.class_names).encode())
        finally:
            for path in (folder, staging, staging.parent):
                with suppress(OSError):  # not empty: the same command continues with it
                    path.rmdir()
        return folder


def look_at(source: TarSet, progress: Progress) -> RemoteTars:
    """Ask the servers of all tars for size and tag; nothing is fetched and no command is run."""
    addresses = _checked_addresses(source)
    class_names = None
    if source.classes:
        if not source.classes.is_file():
            raise SourceError(f"{source.classes}: no such file.", kept=NOTHING)
        class_names = [*read_class_list(source.classes).names]
    tars = []
    with progress.track("asking", len(addresses)) as bar:
        for tar in thread_map(_ask, addresses, NUM_THREADS):
            tars.append(tar)
            bar.advance(note=tar.name)
    return RemoteTars(source, tuple(tars), class_names)


def _checked_addresses(source: TarSet) -> list[str]:
    addresses: dict[str, str] = {}
    for address in source.names():
        name = tar_name(address)
        if not (is_url(address) or address.startswith(PIPE)):
            raise UsageError(f"{address}: not a URL.", kept=NOTHING, hint="Name URLs or a folder.")
        if not FILE.fullmatch(name):
            raise UsageError(
                f"{address}: the name of the tar does not contain its split.",
                kept=NOTHING,
                hint="prep fetches WebDataset tars: train-*.tar, val-*.tar, test-*.tar",
            )
        if name in addresses:
            raise UsageError(f"{address}: called {name} like {addresses[name]}.", kept=NOTHING)
        addresses[name] = address
    return list(addresses.values())


def _ask(address: str) -> RemoteTar:
    return RemoteTar(address, *tar_size_and_tag(address))


def _is_fetched(tar: RemoteTar, folder: Path) -> bool:
    """Return whether a tar was fetched completely, and its server still has the same one."""
    path = folder / tar.name
    return path.is_file() and read_checksummed(folder / f"{tar.name}.json") == {
        **asdict(tar),
        "copied": path.stat().st_size,
    }


def _fetch(folder: Path, allow_pipe: bool, tar: RemoteTar, on_bytes: OnBytes) -> None:
    with write_atomically(folder / tar.name) as file:
        max_bytes = sys.maxsize - 1 if tar.num_bytes is None else tar.num_bytes
        with open_tar(tar.address, allow_pipe=allow_pipe) as source:
            num_bytes = copy_bytes(source, file, max_bytes, on_bytes).num_bytes
        file.flush()
        _check_copy(tar, Path(file.name), num_bytes)
    write_checksummed(folder / f"{tar.name}.json", {**asdict(tar), "copied": num_bytes})


def _check_copy(tar: RemoteTar, copy: Path, num_bytes: int) -> None:
    if _ask(tar.address) != tar:
        raise SourceError(f"{tar.address}: changed while it was fetched.", kept=KEPT, hint=AGAIN)
    if num_bytes != (tar.num_bytes or num_bytes):
        raise MachineError(
            f"{tar.address}: {num_bytes} bytes came, {tar.num_bytes} were announced.",
            kept=KEPT,
            hint=AGAIN,
        )
    try:
        check_whole_tar(copy)
    except SourceError as error:
        problem = error.problem.replace(str(copy), tar.address)
        raise error.replaced(problem=problem, kept=KEPT, hint=AGAIN) from error


def fetch_source(
    source: TarSet, request: PrepRequest, progress: Progress
) -> tuple[Path | None, dict]:
    """Fetch the tars of a request into the dataset being made, unless the dataset is complete.

    Returns:
        The folder of the tars, None if the dataset is complete; and their entries in index.json.
    """
    folder = request.folder
    given = {
        "layout": request.layout not in (None, LAYOUT.name),
        "check-md5": request.check_md5,
        "follow-links": request.follow_links,
        "val-fraction": request.options.val_fraction,
        "columns": request.columns,
    }
    for option, is_given in given.items():
        if is_given:
            raise UsageError(
                f"{source} can only be WebDataset tars, which have their own splits.",
                kept="Nothing was fetched.",
                hint=hint("leave_out", option=option),
            )
    tars = look_at(source, progress)
    # A command may hold a password, so it is not written to index.json.
    has_command = any(tar.address.startswith(PIPE) for tar in tars.tars)
    shown = PIPE if has_command else str(source)
    origin = dict(zip(ORIGIN, (shown, tars.fingerprint()), strict=True))
    is_complete = (folder / INDEX_NAME).exists()
    found = read_checksummed(folder / RECORDS / PLAN_NAME)
    if is_complete:
        index = read_index(folder)
        found = {"options": index.options, "source": index.source}
    if found is not None:
        _check_same(folder, found, request.options.to_json(), origin)
    if is_complete:
        return None, origin
    return tars.fetch(folder / RECORDS / TARS, progress, force=request.force), origin


def _check_same(folder: Path, found: dict, options: dict, origin: dict) -> None:
    wanted = {"options": options, "source": {**found["source"], **origin}}
    if found == wanted:
        return
    wanted["source"]["tars"] = found["source"].get("tars")
    if found == wanted:
        raise DatasetError(
            f"{origin['fetched']}: the tars or class names changed since {folder} was begun.",
            kept=f"{LEFT} Nothing was fetched.",
            hint="To start again, remove it, or name another folder.",
        )
    wanted["source"]["tars"] = origin["tars"]
    raise another_dataset(folder, found, wanted)
