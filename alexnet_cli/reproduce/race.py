"""Figure 1: epochs to 25 % training error with ReLU and with tanh, each at its best learning rate.

Every learning rate is tried for a few epochs; the one with the least training error goes on alone.
"""

from dataclasses import dataclass, replace
from pathlib import Path

from alexnet_cli.errors import DivergedError, JobError
from alexnet_cli.recipes.catalog import find_recipe
from alexnet_cli.recipes.paper_tables import FIGURE_1_GOAL, FIGURE_1_TRIAL_EPOCHS, Racer
from alexnet_cli.reproduce.jobs import RunCommand, Shortcuts, TableDataset, TrainJob, run_job
from alexnet_cli.training.run_directory import RunDirectory


@dataclass(frozen=True, slots=True)
class Lap:
    """One learning rate of one network.

    Attributes:
        rate: the learning rate.
        train_errors: of each epoch, over its updates; fractions.
        epochs: to the goal, read off the curve; None if it was not reached.
    """

    recipe: str
    rate: float
    train_errors: tuple[float, ...]
    epochs: float | None


@dataclass(frozen=True, slots=True)
class Race:
    """What all trainings of Figure 1 have in common."""

    dataset: TableDataset
    out: Path
    shortcuts: Shortcuts

    def trials(self, racer: Racer) -> list[TrainJob]:
        """Return the jobs that try each learning rate of a network."""
        epochs = self.shortcuts.apply(find_recipe(racer.recipe)).epochs
        epochs = min(epochs, FIGURE_1_TRIAL_EPOCHS)
        return [self.job(racer.recipe, rate, epochs) for rate in racer.rates]

    def job(self, recipe_name: str, rate: float, epochs: int | None) -> TrainJob:
        """Return a training at one learning rate, of the recipe's own epochs for None."""
        goal = (f"learning_rate={rate:g}", f"until_train_error={FIGURE_1_GOAL}")
        settings = (*self.shortcuts.settings, *goal)
        shortcuts = replace(self.shortcuts, epochs=epochs, settings=settings)
        recipe = shortcuts.apply(find_recipe(recipe_name))
        name = f"{recipe_name}-{rate:g}"
        return TrainJob(
            f"train-{name}-for-{recipe.epochs}",
            f"Train {recipe_name} at rate {rate:g} to {FIGURE_1_GOAL:.0%} training error.",
            self.dataset,
            recipe_name,
            recipe,
            self.out / "runs" / name,
            shortcuts,
        )

    def jobs(self, racers: tuple[Racer, ...]) -> list[TrainJob]:
        """Return the trials of every network, and the rest of one rate, whichever it will be."""
        found = {}
        for racer in racers:
            rest = self.job(racer.recipe, racer.rates[0], self.shortcuts.epochs)
            for job in (*self.trials(racer), replace(rest, follows_trial=True)):
                found.setdefault(job.name, job)
        return list(found.values())

    def run(self, racers: tuple[Racer, ...], run_command: RunCommand) -> list[list[Lap]]:
        """Train every network at its learning rates; return the laps of each."""
        return [self._run(racer, run_command) for racer in racers]

    def _run(self, racer: Racer, run_command: RunCommand) -> list[Lap]:
        trials = self.trials(racer)
        laps = [_run_lap(job, run_command) for job in trials]
        best = min(laps, key=lambda lap: _error_after(lap, trials[0].recipe.epochs))
        final = _run_lap(self.job(racer.recipe, best.rate, self.shortcuts.epochs), run_command)
        return [final if lap is best else lap for lap in laps]


def _error_after(lap: Lap, epochs: int) -> float:
    """Return the least error of the first epochs; 1 for a rate at which training diverged."""
    if len(lap.train_errors) < epochs and lap.epochs is None:
        return 1.0
    return min(lap.train_errors[:epochs])


def _run_lap(job: TrainJob, run_command: RunCommand) -> Lap:
    """Train at one learning rate; if the loss diverges, the lap has the epochs before."""
    try:
        run_job(job, run_command)
    except JobError as error:
        if error.exit_code != DivergedError.exit_code:
            raise
    errors = tuple(row["train_top1_error"] for row in RunDirectory(job.folder).rows())
    return Lap(job.recipe_name, job.recipe.learning_rate, errors, epochs_to(errors, FIGURE_1_GOAL))


def epochs_to(errors: tuple[float, ...], goal: float) -> float | None:
    """Return after how many epochs the error reached the goal, on straight lines between epochs.

    An epoch's error is the mean over its updates, so it stands for the middle of the epoch.
    """
    for epoch, error in enumerate(errors):
        if error <= goal:
            if epoch == 0:
                return 0.5
            before = errors[epoch - 1]
            return epoch - 0.5 + (before - goal) / (before - error)
    return None


def best_lap(laps: list[Lap]) -> Lap | None:
    """Return the lap of the fewest epochs; None if none reached the goal."""
    reached = [lap for lap in laps if lap.epochs is not None]
    return min(reached, key=lambda lap: lap.epochs, default=None)
