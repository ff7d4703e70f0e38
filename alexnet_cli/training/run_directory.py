"""The files of one run: recipe, log, environment and checkpoints."""

import csv
import io
import json
import math
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

from alexnet_cli.errors import CheckpointError, Hint, InputError, MachineError, hint
from alexnet_cli.io.atomic import PARTIAL_SUFFIX, write_bytes
from alexnet_cli.io.disk import check_room
from alexnet_cli.io.folder_lock import LOCK_NAME, locked
from alexnet_cli.model.architecture import parameter_shapes
from alexnet_cli.model.checkpoint import (
    BEST_NAME,
    LAST_NAME,
    Checkpoint,
    load_checkpoint,
    read_recipe,
    save_checkpoint,
)
from alexnet_cli.recipes.recipe import Recipe

RECIPE_NAME = "recipe.json"

WANDB_NAME = "wandb"  # the folder of that program's own files


class RunDirectory:
    """The folder in which a run keeps its checkpoints and its log."""

    def __init__(self, path: Path):
        self.path = path
        self.recipe = path / RECIPE_NAME
        self.best = path / BEST_NAME
        self.last = path / LAST_NAME
        self.log = path / "log.jsonl"
        self.table = path / "log.csv"
        self.environment = path / "environment.json"
        self.curves = path / "tensorboard"
        self.logger_ids = path / "loggers.json"
        self.evidence = path / "diverged.json"

    def check_unused(self) -> None:
        """Check that a run can begin in this folder, without changing anything.

        Raises:
            InputError: if the folder contains a run, or other files.
            MachineError: if another process trains there.
        """
        is_folder = self.path.is_dir()
        with locked(self.path, self._in_use) if is_folder else nullcontext():
            self._check_unused()

    def _check_unused(self) -> None:
        if self.path.exists() and not self._is_empty():
            state, advice = self._describe()
            raise InputError(f"{self.path} {state}.", kept="It is left as it is.", hint=advice)

    def check_room(self, recipe: Recipe, num_classes: int) -> None:
        """Check that the disk has room for both checkpoints and the one that is being written.

        Raises:
            MachineError: if it has not.
        """
        shapes = parameter_shapes(recipe, num_classes).values()
        weights = 4 * sum(math.prod(shape) for shape in shapes)
        last = weights * (3 if recipe.ema_decay else 2)  # momentum, and averaged weights
        present = sum(path.stat().st_size for path in (self.best, self.last) if path.exists())
        folder = next(path for path in (self.path, *self.path.absolute().parents) if path.is_dir())
        check_room(
            folder,
            weights + 2 * last - present,
            "the checkpoints of the run need",
            hint="Make room and run the same command again.",
            kept="Nothing was changed.",
        )

    def is_stranded(self) -> bool:
        """Return whether there is a best checkpoint, but no last one to resume from."""
        return self.best.exists() and not self.last.exists()

    def create(self, recipe: Recipe) -> None:
        """Begin a new run in a folder that this process has locked.

        Raises:
            InputError: if another process has begun a run since the check.
        """
        self._check_unused()
        self.path.mkdir(parents=True, exist_ok=True)
        for path in (self.log, self.table, self.environment, self.logger_ids):
            path.unlink(missing_ok=True)  # of a run that was stopped before its first checkpoint
        self.evidence.unlink(missing_ok=True)
        shutil.rmtree(self.curves, ignore_errors=True)
        self.save_recipe(recipe)

    def _describe(self) -> tuple[str, Hint]:
        """Return why no run can begin here, and what to do."""
        if self.last.exists():
            return "already contains a run", hint("resume_or_rename")
        if self.is_stranded():
            return (
                f"contains {self.best.name} only, from which no run can be resumed",
                hint("begin_from_best", best=self.best),
            )
        return "exists and is not empty", hint("other_run")

    def _is_empty(self) -> bool:
        """Return whether nothing is there except what a run leaves before its first checkpoint."""
        if not self.path.is_dir():
            return False
        names = {entry.name for entry in self.path.iterdir()}
        records = {RECIPE_NAME, self.log.name, self.curves.name, self.evidence.name, LOCK_NAME}
        records |= {self.table.name, self.environment.name, self.logger_ids.name, WANDB_NAME}
        return {n for n in names if not n.endswith(PARTIAL_SUFFIX)} <= records

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from training in this folder until the block or the process ends.

        Raises:
            MachineError: if another process trains there.
        """
        if not self.path.is_dir():
            yield
            return
        with locked(self.path, self._in_use):
            for leftover in self.path.glob(f"*{PARTIAL_SUFFIX}"):  # of a process that was killed
                leftover.unlink(missing_ok=True)
            yield

    def _in_use(self, holder: str) -> MachineError:
        return MachineError(
            f"{self.path}: in use by {holder}, which trains there.",
            kept="Nothing was changed.",
            hint=hint("run_in_use"),
        )

    def save_recipe(self, recipe: Recipe) -> None:
        """Write recipe.json."""
        write_bytes(self.recipe, (recipe.to_json() + "\n").encode())

    def recipe_of_last(self) -> Recipe:
        """Return the recipe of the run, from its last checkpoint.

        Raises:
            CheckpointError: if there is no checkpoint.
        """
        self._check_last()
        return read_recipe(self.last)

    def load_last(self) -> Checkpoint:
        """Return the checkpoint to resume from.

        Raises:
            CheckpointError: if it is missing or damaged, or has no momentum buffers.
        """
        self._check_last()
        checkpoint = load_checkpoint(self.last, with_optimizer=True)
        if not checkpoint.optimizer:
            raise CheckpointError(
                f"{self.last} has no optimizer state, so the run cannot be resumed."
            )
        return checkpoint

    def _check_last(self) -> None:
        if self.last.is_file():
            return
        if self.path.exists() and not self._is_empty():
            state, advice = self._describe()
            raise CheckpointError(
                f"{self.path}: no checkpoint to resume; the folder {state}.",
                kept="It is left as it is.",
                hint=advice,
            )
        raise CheckpointError(f"{self.path}: no checkpoint to resume.", hint=hint("begin_instead"))

    def save(self, checkpoint: Checkpoint, *, is_best: bool) -> None:
        """Write best.safetensors, without what only training needs, then last.safetensors.

        If the first of them fails, the resumed run writes it again.
        """
        if is_best:
            save_checkpoint(self.best, checkpoint.for_use())
        save_checkpoint(self.last, checkpoint)

    def add_row(self, row: dict) -> None:
        """Append one epoch to log.jsonl; if that fails, leave the file as it was."""
        size = self.log.stat().st_size if self.log.exists() else 0
        try:
            with self.log.open("a", encoding="utf-8", newline="\n") as file:
                file.write(json.dumps(row) + "\n")
        except OSError:
            with suppress(OSError):  # the next row must not follow half of this one
                os.truncate(self.log, size)
            raise
        write_bytes(self.table, _as_csv(self.rows()))

    def add_session(self, session: dict) -> None:
        """Append where and with what a process trains to environment.json."""
        content = json.dumps({"sessions": [*self.sessions(), session]}, indent=2) + "\n"
        write_bytes(self.environment, content.encode("ascii"))

    def sessions(self) -> list[dict]:
        """Return what environment.json says; nothing if it is missing or damaged."""
        with suppress(OSError, ValueError, KeyError, TypeError):
            sessions = json.loads(self.environment.read_text(encoding="utf-8"))["sessions"]
            return [session for session in sessions if isinstance(session, dict)]
        return []

    def rows(self) -> list[dict]:
        """Return the finished epochs of log.jsonl, in order."""
        return [json.loads(line) for line in self._log_lines() if _epoch_of(line) != math.inf]

    def _log_lines(self) -> list[str]:
        if not self.log.is_file():
            return []
        return self.log.read_text(encoding="utf-8", errors="replace").splitlines()

    def go_back(self, num_epochs: int) -> None:
        """Drop the rows after `num_epochs`, which a resumed run writes again."""
        self.evidence.unlink(missing_ok=True)
        kept = [row for row in self._log_lines() if _epoch_of(row) <= num_epochs]
        write_bytes(self.log, "".join(row + "\n" for row in kept).encode())
        write_bytes(self.table, _as_csv(self.rows()))


def _as_csv(rows: list[dict]) -> bytes:
    """Return the rows of a log as CSV, one per epoch; a nested number is named `val_top1_error`."""
    flat = []
    for row in rows:
        inner = row.get("val") or {}
        numbers = {name: value for name, value in row.items() if name != "val"}
        flat.append(numbers | {f"val_{name}": value for name, value in inner.items()})
    columns = list(dict.fromkeys(name for row in flat for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat)
    return text.getvalue().encode()


def _epoch_of(row: str) -> float:
    try:
        return json.loads(row)["epoch"]
    except (ValueError, TypeError, KeyError):  # the machine went down while it was written
        return math.inf
