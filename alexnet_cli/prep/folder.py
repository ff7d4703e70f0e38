"""The folder prep works in: created, locked, and never one with the files of anything else."""

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
SHARDS_KEPT = "Finished shards are kept."
LEFT = "It is left as it is."


def in_use(folder: Path, holder: str) -> MachineError:
    """Return the error that another process works in a dataset's folder."""
    return MachineError(
        f"{folder}: in use by {holder}, a prep or a repair.",
        kept="Nothing was changed.",
        hint="Wait for it, or name another folder.",
    )


@contextmanager
def entered(folder: Path) -> Iterator[None]:
    """Create or enter a new, empty or own folder and lock it; remove it if it stays empty.

    Raises:
        DatasetError: if it holds something else.
        MachineError: if another process works there, nothing can be written there, or the block
            raises an OSError.
    """
    kept = "Nothing was changed."
    created = []
    try:
        _check_is_folder(folder)
        created = [path for path in (folder, *folder.parents) if not path.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder, partial(in_use, folder)):
            if not (folder / INDEX_NAME).exists():
                _check_ours(folder)
            kept = SHARDS_KEPT
            yield
    except BrokenPipeError:  # of our output, not of the disk
        raise
    except OSError as error:
        raise MachineError(
            f"{fault_in_words(error, folder)}.", kept=kept, hint=advice_on(error)
        ) from error
    finally:
        for path in created:
            with suppress(OSError):  # not empty: there is a dataset now
                path.rmdir()


def _check_is_folder(folder: Path) -> None:
    for path in (folder, *folder.parents):
        if path.exists() and not path.is_dir():
            raise MachineError(
                f"{path} is a file, not a folder.",
                kept=LEFT,
                hint="Name a new or empty folder for the dataset.",
            )


def _check_ours(folder: Path) -> None:
    """Refuse a folder that cannot be written, or holds anything but a stopped prep's files."""
    # A prep that stopped before its plan was written leaves RECORDS alone.
    begun = (folder / RECORDS / PLAN_NAME).is_file()
    if not begun and any(e.name not in (RECORDS, LOCK_NAME) for e in folder.iterdir()):
        raise DatasetError(
            f"{folder} is not empty and not an alexnet dataset.",
            kept=LEFT,
            hint="Name a new or empty folder.",
        )
    if not os.access(folder, os.W_OK | os.X_OK):
        raise MachineError(
            f"{folder}: no permission to write there, or a read-only disk.",
            kept="Nothing was changed.",
            hint="Name a folder on another disk.",
        )


def claim(folder: Path, plan: dict, tasks: list[ShardTask]) -> None:
    """Begin, or continue an interrupted prep of the same plan.

    A damaged plan is ignored: shards are then kept by their own records alone.

    Raises:
        DatasetError: if the interrupted prep had another source or other options.
    """
    plan_path = folder / RECORDS / PLAN_NAME
    with suppress(FileNotFoundError):
        plan_path.read_bytes()  # a plan that cannot be read now is not a damaged one
    found = read_checksummed(plan_path)
    if found not in (None, plan):
        raise DatasetError(
            f"{folder} holds another prep that is unfinished: {differences(found, plan)}.",
            kept=LEFT,
            hint="Name another folder, or remove that one.",
        )
    remove_partial(folder)
    if found is None:
        if plan_path.exists():  # shards of the damaged plan that this one lacks
            names = {task.name for task in tasks}
            for path in folder.iterdir():
                if SHARD_NAME.fullmatch(path.name) and path.name not in names:
                    path.unlink()
        plan_path.parent.mkdir(exist_ok=True)
        write_checksummed(plan_path, plan)


def differences(found: dict, plan: dict) -> str:
    """Return what two plans differ in, as "size 256 there, 128 now"."""
    differing = [
        f"{name} {there} there, {now} now"
        for part in plan
        for name in {**plan[part], **found.get(part, {})}
        if (there := found.get(part, {}).get(name)) != (now := plan[part].get(name))
    ]
    return "; ".join(differing)[:200]


def another_dataset(folder: Path, found: dict, plan: dict) -> DatasetError:
    """Return the error for a folder whose dataset has another plan."""
    return DatasetError(
        f"{folder} holds another dataset: {differences(found, plan)}.",
        kept=LEFT,
        hint="Name another folder.",
    )


def forget(folder: Path) -> None:
    """Remove the records of prep's work; tars that it fetched stay for the next time."""
    for path in (folder / RECORDS).iterdir():
        if path.name != TARS:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    with suppress(OSError):  # not empty
        (folder / RECORDS).rmdir()


def finish(folder: Path) -> None:
    """Remove all that prep worked with, also where an earlier prep was killed before it could.

    Raises:
        MachineError: if it cannot be removed.
    """
    try:
        if (folder / RECORDS).exists():
            shutil.rmtree(folder / RECORDS)
        names = tuple(f"{path.name}." for path in folder.iterdir())
        for path in folder.glob(f"*{PARTIAL_SUFFIX}"):
            if path.name.startswith(names):
                path.unlink()
    except OSError as error:
        raise MachineError(
            f"{folder}: the work files of prep cannot be removed: {error.strerror}.",
            kept="The dataset is complete.",
            hint="When they can be removed, run the same command again.",
        ) from error
