"""The jobs that make a table: commands that are left out where their output is already complete."""

import math
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from alexnet_cli.errors import CheckpointError
from alexnet_cli.inference.metrics import measured
from alexnet_cli.inference.predictions import load_predictions
from alexnet_cli.model.checkpoint import load_checkpoint
from alexnet_cli.model.schedule import is_finished
from alexnet_cli.recipes.overrides import with_settings
from alexnet_cli.recipes.recipe import Recipe
from alexnet_cli.training.run_directory import RunDirectory

VIEWS = 10


@dataclass(frozen=True, slots=True)
class Shortcuts:
    """What makes a reproduction cheaper than the published experiment, and where it runs.

    Attributes:
        epochs: of every run; None for each recipe's own.
        settings: `field=value` for every recipe.
    """

    epochs: int | None = None
    settings: tuple[str, ...] = ()
    device: str = "auto"
    num_devices: int | None = None

    def apply(self, recipe: Recipe) -> Recipe:
        """Return a recipe as it will be trained."""
        recipe = with_settings(recipe, list(self.settings))
        return replace(recipe, epochs=self.epochs) if self.epochs else recipe


@dataclass(frozen=True, slots=True)
class TableDataset:
    """A prepared dataset, or only the name and the published counts of one.

    Attributes:
        path: a folder or URL.
        held_out: number of images by split, of the splits other than train.
        fingerprint: of the prepared dataset; empty if there is none yet.
    """

    name: str
    path: str
    train: int
    held_out: dict[str, int]
    classes: int
    fingerprint: str = ""

    @property
    def split(self) -> str:
        """Return the split to measure: test where there is one, as the paper did in 2010."""
        return "test" if self.held_out.get("test") else "val"


@dataclass(frozen=True, slots=True)
class TrainJob:
    """Trains a recipe in a run folder, or resumes the run that is there.

    Attributes:
        recipe: the named recipe with the shortcuts applied.
        parent: the job whose last checkpoint initializes some of the layers.
        follows_trial: whether a job before it trains the same run for fewer epochs.
    """

    name: str
    purpose: str
    dataset: TableDataset
    recipe_name: str
    recipe: Recipe
    folder: Path
    shortcuts: Shortcuts
    parent: "TrainJob | None" = None
    follows_trial: bool = False

    @property
    def last(self) -> Path:
        """Return the checkpoint to measure, and to resume from."""
        return RunDirectory(self.folder).last

    @property
    def resumes(self) -> bool:
        """Whether there is, or will be, a run to resume."""
        return self.follows_trial or self.last.is_file()

    def find_result(self) -> dict | None:
        """Return the result of the finished run, or None if it must be trained.

        Raises:
            CheckpointError: if the last checkpoint is damaged.
        """
        if not self.last.is_file():
            return None
        found = load_checkpoint(self.last)
        at, same_recipe = found.train_state, replace(found.recipe, epochs=self.recipe.epochs)
        train_error = at.train_errors[-1] if at.train_errors else math.inf
        is_done = (
            (found.fingerprint, same_recipe) == (self.dataset.fingerprint, self.recipe)
            and is_finished(self.recipe, at.epoch, at.val_errors, train_error)
            and not self.is_unusable()
        )
        return {"epochs": at.epoch} if is_done else None

    def is_unusable(self) -> bool:
        """Tell whether the run cannot be resumed, or began with weights its parent has no more."""
        if self.parent is None or not self.last.is_file():
            return RunDirectory(self.folder).is_stranded()
        init_from = load_checkpoint(self.last).init_from.get("weights")
        return init_from != load_checkpoint(self.parent.last).weights_hash()


@dataclass(frozen=True, slots=True)
class EvalJob:
    """Measures the last checkpoint of a training on ten views and keeps the predictions."""

    name: str
    purpose: str
    train: TrainJob
    predictions: Path

    def find_result(self) -> dict | None:
        """Return the errors of the predictions file.

        Returns None if there is no such file, or if it is damaged or holds the predictions of
        other weights, other images or another number of views.
        """
        dataset = self.train.dataset
        try:
            found = load_predictions(self.predictions)
        except CheckpointError:
            return None
        weights_hash = load_checkpoint(self.train.last).weights_hash()
        wanted = (weights_hash, dataset.fingerprint, dataset.split, VIEWS)
        if (found.weights_hash, found.fingerprint, found.split, found.views) != wanted:
            return None
        if found.center_probs is None:
            return None
        num_images = len(found.keys)
        ten_views, center = (asdict(measured(scores, num_images)) for scores in found.scores())
        return {"images": num_images, **ten_views, "center": center}


@dataclass(frozen=True, slots=True)
class EnsembleJob:
    """Averages the predictions of several networks; this takes seconds, so it is always run."""

    name: str
    purpose: str
    evals: tuple[EvalJob, ...]


Job = TrainJob | EvalJob | EnsembleJob
RunJob = Callable[[Job], dict]  # runs a job as a command and returns its JSON


def trainings(jobs: Iterable[Job]) -> list[TrainJob]:
    """Return the jobs that train."""
    return [job for job in jobs if isinstance(job, TrainJob)]


def finish_job(job: Job, run_job: RunJob) -> dict:
    """Return the result of a job: from its output if that is complete, otherwise by running it."""
    found = None if isinstance(job, EnsembleJob) else job.find_result()
    if found is not None:
        return found
    if isinstance(job, TrainJob) and job.is_unusable():
        set_aside(job.folder)
    return run_job(job)


def set_aside(folder: Path) -> None:
    """Rename a folder, so that its name is free and its content is kept."""
    number = 1
    while (target := folder.with_name(f"{folder.name}.old-{number}")).exists():
        number += 1
    if folder.exists():
        folder.rename(target)
