"""The files of one run: runs/NAME/{recipe.json, log.jsonl, best.safetensors, last.safetensors};
diverged.json if it did.
"""

import json
import math
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

from alexnet_cli.errors import CheckpointError, InputError, MachineError
from alexnet_cli.io.atomic import PARTIAL_SUFFIX, write_bytes
from alexnet_cli.io.disk import check_room
from alexnet_cli.io.folder_lock import LOCK_NAME, locked
from alexnet_cli.model.checkpoint import Checkpoint, load_checkpoint, read_recipe, save_checkpoint
from alexnet_cli.model.network import parameter_shapes
from alexnet_cli.recipes.recipe import Recipe

RECIPE_NAME = "recipe.json"


class RunDirectory:
    """Where a run keeps what it learned and how it went."""

    def __init__(self, path: Path):
        self.path = path
        self.recipe = path / RECIPE_NAME
        self.best = path / "best.safetensors"
        self.last = path / "last.safetensors"
        self.log = path / "log.jsonl"
        self.curves = path / "tensorboard"
        self.evidence = path / "diverged.json"

    def check_unused(self) -> None:
        """Refuse a folder in which no run can begin; nothing is changed.

        Raises:
            InputError: the folder holds a run, or anything else.
            MachineError: another process trains there.
        """
        is_folder = self.path.is_dir()
        with locked(self.path, self._in_use) if is_folder else nullcontext():
            if self._is_used():
                raise self._refusal()

    def check_room(self, recipe: Recipe, num_classes: int) -> None:
        """Refuse to train where the run's checkpoints do not fit on the disk.

        Raises:
            MachineError: the disk has too little room for both and the one that is being written.
        """
        shapes = parameter_shapes(recipe, num_classes).values()
        weights = 4 * sum(math.prod(shape) for shape in shapes)
        last = weights * (3 if recipe.average_decay else 2)  # velocity, and averaged weights
        present = sum(path.stat().st_size for path in (self.best, self.last) if path.exists())
        folder = next(path for path in (self.path, *self.path.absolute().parents) if path.is_dir())
        advice = "Nothing was changed. Make room and run the same command again."
        what = "the checkpoints of the run need"
        check_room(folder, weights + 2 * last - present, what, advice)

    def is_stranded(self) -> bool:
        """Tell whether there is a best checkpoint, but none that a run can go on from."""
        return self.best.exists() and not self.last.exists()

    def create(self, recipe: Recipe) -> None:
        """Begin a new run in a folder that is locked.

        Raises:
            InputError: another process began one since.
        """
        if self._is_used():
            raise self._refusal()
        self.path.mkdir(parents=True, exist_ok=True)
        self.log.unlink(missing_ok=True)  # of a run that was stopped before its first checkpoint
        self.evidence.unlink(missing_ok=True)
        shutil.rmtree(self.curves, ignore_errors=True)
        self.save_recipe(recipe)

    def _is_used(self) -> bool:
        return self.path.exists() and not self._holds_nothing()

    def _refusal(self) -> InputError:
        return InputError(f"{self.path} {self._describe()}")

    def _describe(self) -> str:
        """Say what is in the way of a new run, and what to do."""
        if self.last.exists():
            return (
                "already holds a run; it is left as it is.\n"
                "To train: add --resume to go on with it, or name another --run."
            )
        if self.is_stranded():
            return (
                f"holds {self.best.name} only, from which no run can go on; it is left as it is.\n"
                f"To train: name another --run; --init-from {self.best} begins with its weights."
            )
        return "exists and is not empty; it is left as it is.\nTo train: name another --run."

    def _holds_nothing(self) -> bool:
        """Tell whether the folder is empty, or of a run stopped before its first checkpoint."""
        if not self.path.is_dir():
            return False
        names = {entry.name for entry in self.path.iterdir()}
        records = {RECIPE_NAME, self.log.name, self.curves.name, self.evidence.name, LOCK_NAME}
        return {n for n in names if not n.endswith(PARTIAL_SUFFIX)} <= records

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep every other process from training in this folder, until the block or we end.

        Raises:
            MachineError: another process does.
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
            f"{self.path}: in use by {holder}, which trains there. Nothing was changed.\n"
            "Wait for it, or name another --run."
        )

    def save_recipe(self, recipe: Recipe) -> None:
        """Write recipe.json."""
        write_bytes(self.recipe, (recipe.to_json() + "\n").encode())

    def recipe_of_last(self) -> Recipe:
        """Return the recipe that a resumed run has.

        Raises:
            CheckpointError: there is no checkpoint.
        """
        self._check_last()
        return read_recipe(self.last)

    def load_last(self) -> Checkpoint:
        """Return the resumable checkpoint.

        Raises:
            CheckpointError: there is none, it is damaged, or nothing can go on from it.
        """
        self._check_last()
        checkpoint = load_checkpoint(self.last, with_velocity=True)
        if not checkpoint.velocity:
            raise CheckpointError(f"{self.last} holds no velocity, so a run cannot go on from it.")
        return checkpoint

    def _check_last(self) -> None:
        if not self.last.is_file():
            begin = "To begin a new run: the same command without --resume."
            if self._is_used():
                begin = f"It {self._describe()}"
            raise CheckpointError(f"no checkpoint to resume in {self.path}.\n{begin}")

    def save(self, checkpoint: Checkpoint, *, is_best: bool) -> None:
        """Write best.safetensors, with nothing but what is to be used, and last.safetensors.

        The last comes last: should the best not be written, the resumed run writes it again.
        """
        if is_best:
            save_checkpoint(self.best, checkpoint.for_use())
        save_checkpoint(self.last, checkpoint)

    def add_row(self, row: dict) -> None:
        """Append one epoch to log.jsonl, or nothing."""
        size = self.log.stat().st_size if self.log.exists() else 0
        try:
            with self.log.open("a") as file:
                file.write(json.dumps(row) + "\n")
        except OSError:
            with suppress(OSError):  # the next row must not follow half of this one
                os.truncate(self.log, size)
            raise

    def rows(self) -> list[dict]:
        """Return the finished epochs of log.jsonl, in order."""
        lines = self.log.read_text().splitlines() if self.log.is_file() else []
        return [json.loads(line) for line in lines if _epoch_of(line) != math.inf]

    def go_back(self, num_epochs: int) -> None:
        """Drop what was written after `num_epochs`, which a resumed run writes again."""
        self.evidence.unlink(missing_ok=True)
        rows = self.log.read_text().splitlines() if self.log.is_file() else []
        kept = [row for row in rows if _epoch_of(row) <= num_epochs]
        write_bytes(self.log, "".join(row + "\n" for row in kept).encode())


def _epoch_of(row: str) -> float:
    try:
        return json.loads(row)["epoch"]
    except ValueError:  # the machine went down while it was written
        return math.inf
