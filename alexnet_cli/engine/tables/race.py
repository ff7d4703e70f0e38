"""Figure 1: epochs to 25 % training error with ReLU and with tanh, each at its best rate.

Every rate is tried for a few epochs; the one with the least training error then goes on alone.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from alexnet_cli.engine.tables.plan import Shortcuts, Source, Step
from alexnet_cli.engine.tables.step_records import StepRecords
from alexnet_cli.engine.training.run_folder import RunFolder
from alexnet_cli.errors import ChildError, DivergedError
from alexnet_cli.recipes import find_recipe
from alexnet_cli.recipes.tables import FIGURE_1_GOAL, FIGURE_1_TRIAL_EPOCHS, Racer


@dataclass(frozen=True, slots=True)
class Lap:
    """One rate of one network.

    Attributes:
        train_errors: of each epoch, over the epoch's updates; fractions.
        epochs: to the goal, read off the curve; None if it was not reached.
    """

    recipe: str
    rate: float
    train_errors: tuple[float, ...]
    epochs: float | None


def run_race(
    racers: tuple[Racer, ...], source: Source, records: StepRecords, shortcuts: Shortcuts
) -> list[list[Lap]]:
    """Train every racer at its rates; return the laps of each."""
    return [_run_racer(racer, source, records, shortcuts) for racer in racers]


def _run_racer(
    racer: Racer, source: Source, records: StepRecords, shortcuts: Shortcuts
) -> list[Lap]:
    trial = trial_epochs(racer, shortcuts)
    laps = []
    for rate in racer.rates:
        step = race_step(racer.recipe, rate, trial, source, records.out, shortcuts)
        laps.append(_run_lap(racer.recipe, rate, step, records))
    best = min(laps, key=lambda lap: _error_after(lap, trial))
    step = race_step(racer.recipe, best.rate, shortcuts.epochs, source, records.out, shortcuts)
    final = _run_lap(racer.recipe, best.rate, step, records)
    return [final if lap is best else lap for lap in laps]


def trial_epochs(racer: Racer, shortcuts: Shortcuts) -> int:
    """Return for how many epochs every rate is tried."""
    return min(shortcuts.apply(find_recipe(racer.recipe)).epochs, FIGURE_1_TRIAL_EPOCHS)


def _error_after(lap: Lap, epochs: int) -> float:
    """Return the least error of the first epochs; 1 for a rate at which training diverged."""
    if len(lap.train_errors) < epochs and lap.epochs is None:
        return 1.0
    return min(lap.train_errors[:epochs])


def _run_lap(recipe_name: str, rate: float, step: Step, records: StepRecords) -> Lap:
    """Train one lap; at a rate that is too high it ends with the epochs before."""
    with _may_diverge():
        records.run(step)
    errors = tuple(row["train_top1_error"] for row in RunFolder(step.folder).rows())
    return Lap(recipe_name, rate, errors, epochs_to(errors, FIGURE_1_GOAL))


@contextmanager
def _may_diverge() -> Iterator[None]:
    try:
        yield
    except ChildError as error:
        if error.exit_code != DivergedError.exit_code:
            raise


def race_step(
    recipe_name: str,
    rate: float,
    limit: int | None,
    source: Source,
    out: Path,
    shortcuts: Shortcuts,
) -> Step:
    """Return the command line of one lap; `limit` is in epochs, None for the recipe's own."""
    name = f"{recipe_name}-{rate:g}"
    folder = out / "runs" / name
    settings = (
        *shortcuts.settings,
        f"learning_rate={rate:g}",
        f"until_train_error={FIGURE_1_GOAL}",
    )
    shortened = replace(shortcuts, epochs=limit, settings=settings)
    recipe = shortened.apply(find_recipe(recipe_name))
    arguments = ("train", source.path, "--run", str(folder), "--recipe", recipe_name)
    return Step(
        f"train-{name}-for-{recipe.epochs}",
        "train",
        (*arguments, *shortened.arguments(recipe)),
        f"Train {recipe_name} at rate {rate:g} to {FIGURE_1_GOAL:.0%} training error.",
        source,
        recipe=recipe,
        folder=folder,
        output=RunFolder(folder).last,
    )


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
