"""Figure 1: epochs to 25 % training error with ReLU and with tanh, each at its best rate.

Rates are tried one after the other; a rate is given up when it has used as many epochs as the best
one needed, for then it can no longer win.
"""

from dataclasses import dataclass
from pathlib import Path

from alexnet_cli.engine.plan import Shortcuts, Source, Step
from alexnet_cli.engine.run_folder import RunFolder
from alexnet_cli.engine.step_records import StepRecords
from alexnet_cli.recipes import find_recipe
from alexnet_cli.recipes.tables import FIGURE_1_GOAL, Racer
from alexnet_cli.settings import with_settings


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
    limit, laps = shortcuts.epochs, []
    for rate in racer.rates:
        step = race_step(racer.recipe, rate, limit, source, records.out, shortcuts)
        records.run(step)
        errors = tuple(row["train_top1_error"] for row in RunFolder(step.folder).rows())
        lap = Lap(racer.recipe, rate, errors, epochs_to(errors, FIGURE_1_GOAL))
        laps.append(lap)
        if lap.epochs is not None:
            limit = min(limit or len(errors), len(errors))
    return laps


def race_step(
    recipe_name: str,
    rate: float,
    limit: int | None,
    source: Source,
    out: Path,
    shortcuts: Shortcuts,
) -> Step:
    """Return the command line of one lap."""
    name = f"{recipe_name}-{rate:g}"
    folder = out / "runs" / name
    settings = (
        *shortcuts.settings,
        f"learning_rate={rate:g}",
        f"until_train_error={FIGURE_1_GOAL}",
    )
    arguments = ("train", source.path, "--run", str(folder), "--recipe", recipe_name)
    options = [f"--set={setting}" for setting in settings]
    options += ["--epochs", str(limit)] if limit else []
    recipe = with_settings(find_recipe(recipe_name), list(settings))
    purpose = f"Train {recipe_name} at rate {rate:g} to {FIGURE_1_GOAL:.0%} training error."
    return Step(
        f"train-{name}",
        "train",
        (*arguments, *options, *shortcuts.places()),
        purpose,
        source,
        recipe=recipe,
        folder=folder,
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
