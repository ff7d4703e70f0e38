"""The folder prep works in: made, locked, ours, and never anything else's."""

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from alexnet_cli.data.shards.index import INDEX_NAME
from alexnet_cli.data.shards.writer import RECORDS, ShardTask
from alexnet_cli.errors import DatasetError, MachineError
from alexnet_cli.io.atomic import (
    PARTIAL_SUFFIX,
    read_checksummed,
    remove_partial,
    write_checksummed,
)
from alexnet_cli.io.disk import advice_on, fault_in_words
from alexnet_cli.io.folder_lock import LOCK_NAME, locked

PLAN_NAME = "plan.json"
TARS = "tars"  # in RECORDS: what was fetched
SHARD_NAME = re.compile(r"(train|val|test)-\d{6}\.tar")


def in_use(folder: Path, holder: str) -> MachineError:
    """Return the fault that another process works in a dataset's folder."""
    return MachineError(
        f"{folder}: in use by {holder}, a prep or a repair. Nothing was changed.\n"
        "Wait for it, or name another folder."
    )


@contextmanager
def entered(folder: Path) -> Iterator[None]:
    """Keep a new, empty or own folder to ourselves; what is still empty at the end goes again.

    Raises:
        DatasetError: it holds something else.
        MachineError: another process works there, or nothing can be written there; or the block
            met a fault of the disk.
    """
    kept = "Nothing was changed."
    try:
        with _entered(folder):
            kept = "Finished shards are kept."
            yield
    except BrokenPipeError:  # of our output, not of the disk
        raise
    except OSError as error:
        raise MachineError(
            f"{fault_in_words(error, folder)}.\n{kept} {advice_on(error)}"
        ) from error


@contextmanager
def _entered(folder: Path) -> Iterator[None]:
    _check_is_folder(folder)
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with locked(folder, partial(in_use, folder)):
            if not (folder / INDEX_NAME).exists():
                _check_ours(folder)
                _check_writable(folder)
            yield
    finally:
        for path in made:
            with suppress(OSError):  # not empty: there is a dataset now
                path.rmdir()


def _check_is_folder(folder: Path) -> None:
    for path in (folder, *folder.parents):
        if path.exists() and not path.is_dir():
            raise MachineError(
                f"{path} is a file, not a folder; it is left as it is.\n"
                "Name a new or empty folder for the dataset."
            )


def _check_ours(folder: Path) -> None:
    """Refuse a folder that holds anything, unless a prep that was stopped left it."""
    # A prep that stopped before its plan was written leaves RECORDS alone.
    begun = (folder / RECORDS / PLAN_NAME).is_file()
    if not begun and any(e.name not in (RECORDS, LOCK_NAME) for e in folder.iterdir()):
        raise DatasetError(
            f"{folder} is not empty and not an alexnet dataset; it is left as it is.\n"
            "Name a new or empty folder."
        )


def _check_writable(folder: Path) -> None:
    if not os.access(folder, os.W_OK | os.X_OK):
        raise MachineError(
            f"{folder}: no permission to write there, or a read-only disk. Nothing was changed.\n"
            "Name a folder on another disk."
        )


def claim(folder: Path, plan: dict, tasks: list[ShardTask]) -> None:
    """Begin, or go on where an interrupted prep of the same plan stopped.

    A plan that is damaged counts for nothing: shards then stay by their own records alone.

    Raises:
        DatasetError: the interrupted prep had another source or other options.
    """
    plan_path = folder / RECORDS / PLAN_NAME
    with suppress(FileNotFoundError):
        plan_path.read_bytes()  # a plan that the disk will not give us now is not a damaged one
    found = read_checksummed(plan_path)
    if found not in (None, plan):
        raise DatasetError(
            f"{folder} holds another prep that is unfinished: {differences(found, plan)}.\n"
            "It is left as it is. Name another folder, or remove that one."
        )
    remove_partial(folder)
    if found is None:
        if plan_path.exists():
            _remove_foreign_shards(folder, {task.name for task in tasks})
        plan_path.parent.mkdir(exist_ok=True)
        write_checksummed(plan_path, plan)


def differences(found: dict, plan: dict) -> str:
    """Name what two plans differ in, as "size 256 there, 128 now"."""
    differing = [
        f"{name} {there} there, {now} now"
        for part in plan
        for name in {**plan[part], **found.get(part, {})}
        if (there := found.get(part, {}).get(name)) != (now := plan[part].get(name))
    ]
    return "; ".join(differing)[:200]


def another_dataset(folder: Path, found: dict, plan: dict) -> DatasetError:
    """Return the refusal of a folder whose dataset has another plan."""
    return DatasetError(
        f"{folder} holds another dataset: {differences(found, plan)}.\n"
        "It is left as it is. Name another folder."
    )


def _remove_foreign_shards(folder: Path, names: set[str]) -> None:
    """Remove shards that a damaged plan had and this one lacks; the folder is prep's own."""
    for path in folder.iterdir():
        if SHARD_NAME.fullmatch(path.name) and path.name not in names:
            path.unlink()


def forget(folder: Path) -> None:
    """Remove what prep knows of its work; tars that it fetched stay for the next time."""
    for path in (folder / RECORDS).iterdir():
        if path.name != TARS:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    with suppress(OSError):  # not empty
        (folder / RECORDS).rmdir()


def finish(folder: Path) -> None:
    """Remove what prep worked with, also after a kill between the last file and this.

    Raises:
        MachineError: it cannot be removed.
    """
    try:
        if (folder / RECORDS).exists():
            shutil.rmtree(folder / RECORDS)
        for leftover in _leftovers(folder):
            leftover.unlink()
    except OSError as error:
        raise MachineError(
            f"{folder}: what prep worked with there cannot be removed: {error.strerror}.\n"
            "The dataset is complete. When that is mended, run the same command again."
        ) from error


def _leftovers(folder: Path) -> list[Path]:
    """Return half-written files that could not be removed before."""
    names = tuple(f"{path.name}." for path in folder.iterdir())
    return [p for p in folder.glob(f"*{PARTIAL_SUFFIX}") if p.name.startswith(names)]
