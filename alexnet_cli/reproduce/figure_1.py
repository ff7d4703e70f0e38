"""Figure 1: epochs to 25 % training error with ReLU and with tanh, each at its best learning rate.

Every learning rate is tried for a few epochs; only the one with the lowest training error is then
trained to the goal.
"""

from dataclasses import dataclass, replace
from operator import itemgetter
from pathlib import Path

from alexnet_cli.errors import DivergedError, JobError
from alexnet_cli.recipes.catalog import find_recipe
from alexnet_cli.recipes.paper_tables import FIGURE_1_GOAL, FIGURE_1_TRIAL_EPOCHS, Figure1Network
from alexnet_cli.reproduce.jobs import Job, RunJob, Shortcuts, TableDataset, TrainJob, finish_job
from alexnet_cli.training.run_directory import RunDirectory


@dataclass(frozen=True, slots=True)
class LearningRateRun:
    """A network trained at one learning rate.

    Attributes:
        train_errors: of each epoch, over its updates; fractions.
        epochs: to the goal, read off the curve; None if it was not reached.
    """

    recipe: str
    learning_rate: float
    train_errors: tuple[float, ...]
    epochs: float | None


@dataclass(frozen=True, slots=True)
class Figure1:
    """What all trainings of Figure 1 have in common."""

    dataset: TableDataset
    out: Path
    shortcuts: Shortcuts

    def trials(self, network: Figure1Network) -> list[TrainJob]:
        """Return the jobs that try each learning rate of a network."""
        epochs = self.shortcuts.apply(find_recipe(network.recipe)).epochs
        epochs = min(epochs, FIGURE_1_TRIAL_EPOCHS)
        return [self.job(network.recipe, lr, epochs) for lr in network.learning_rates]

    def job(self, recipe_name: str, lr: float, epochs: int | None) -> TrainJob:
        """Return a training at one learning rate, of the recipe's own epochs for None."""
        goal = (f"learning_rate={lr:g}", f"until_train_error={FIGURE_1_GOAL}")
        settings = (*self.shortcuts.settings, *goal)
        shortcuts = replace(self.shortcuts, epochs=epochs, settings=settings)
        recipe = shortcuts.apply(find_recipe(recipe_name))
        name = f"{recipe_name}-{lr:g}"
        return TrainJob(
            f"train-{name}-for-{recipe.epochs}",
            f"Train {recipe_name} at learning rate {lr:g} to {FIGURE_1_GOAL:.0%} training error.",
            self.dataset,
            recipe_name,
            recipe,
            self.out / "runs" / name,
            shortcuts,
        )

    def jobs(self, networks: tuple[Figure1Network, ...]) -> list[Job]:
        """Return the trials of every network, and the rest of one of them, whichever is best."""
        found: dict[str, Job] = {}
        for network in networks:
            rest = self.job(network.recipe, network.learning_rates[0], self.shortcuts.epochs)
            for job in (*self.trials(network), replace(rest, follows_trial=True)):
                found.setdefault(job.name, job)
        return list(found.values())

    def run(
        self, networks: tuple[Figure1Network, ...], run_job: RunJob
    ) -> list[list[LearningRateRun]]:
        """Train every network at its learning rates; return the runs of each network."""
        return [self._run(network, run_job) for network in networks]

    def _run(self, network: Figure1Network, run_job: RunJob) -> list[LearningRateRun]:
        trials = self.trials(network)
        runs = [_train(job, run_job) for job in trials]
        best = min(runs, key=lambda run: _error_after(run, trials[0].recipe.epochs))
        rest = self.job(network.recipe, best.learning_rate, self.shortcuts.epochs)
        final = _train(rest, run_job)
        return [final if run is best else run for run in runs]


def _error_after(run: LearningRateRun, epochs: int) -> float:
    """Return the lowest error of the first epochs; 1 if training diverged before their end."""
    if len(run.train_errors) < epochs and run.epochs is None:
        return 1.0
    return min(run.train_errors[:epochs])


def _train(job: TrainJob, run_job: RunJob) -> LearningRateRun:
    """Train at one learning rate; if the loss diverges, the run has the epochs before."""
    try:
        finish_job(job, run_job)
    except JobError as error:
        if error.exit_code != DivergedError.exit_code:
            raise
    errors = tuple(row["train_top1_error"] for row in RunDirectory(job.folder).rows())
    epochs = epochs_to(errors, FIGURE_1_GOAL)
    return LearningRateRun(job.recipe_name, job.recipe.learning_rate, errors, epochs)


def epochs_to(errors: tuple[float, ...], goal: float) -> float | None:
    """Return after how many epochs the error reached the goal, interpolated between epochs.

    An epoch's error is the mean over its updates, so it stands for the middle of the epoch.
    """
    for epoch, error in enumerate(errors):
        if error <= goal:
            if epoch == 0:
                return 0.5
            before = errors[epoch - 1]
            return epoch - 0.5 + (before - goal) / (before - error)
    return None


def fastest_run(runs: list[LearningRateRun]) -> LearningRateRun | None:
    """Return the run of the fewest epochs; None if no run reached the goal."""
    reached = [(run.epochs, run) for run in runs if run.epochs is not None]
    return min(reached, key=itemgetter(0), default=(None, None))[1]
