"""`alexnet runs`: what the runs below a folder are, how far they are, and how they differ."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alexnet_cli.errors import InputError, MachineError, RecipeError, on_one_line
from alexnet_cli.io.folder_lock import locked
from alexnet_cli.recipes.catalog import RECIPES
from alexnet_cli.recipes.recipe import Recipe
from alexnet_cli.training.run_directory import RunDirectory


@dataclass(frozen=True, slots=True)
class RunSummary:
    """One run.

    Attributes:
        state: "finished", "training", "stopped" or "diverged".
        recipe: name of its recipe.
        changes: fields that differ from the recipe of that name, with their values.
        epochs: finished ones.
        num_epochs: of its recipe.
        best: epoch, top1_error and top5_error of the epoch with the lowest validation error.
        images_per_second: in the last epoch.
    """

    run: str
    state: str
    recipe: str
    changes: dict[str, Any]
    epochs: int
    num_epochs: int
    best: dict[str, Any] | None
    images_per_second: float | None


@dataclass(frozen=True, slots=True)
class RunsResult:
    """Several runs.

    Attributes:
        differences: fields in which their recipes differ, with the value of each run.
    """

    runs: list[RunSummary]
    differences: dict[str, list]


def list_runs(folders: list[Path]) -> RunsResult:
    """Describe runs, and those in folders of runs, in the order named.

    Raises:
        InputError: if a folder is no run and has none, or a recipe cannot be read.
    """
    found: list[Path] = []
    for folder in folders:
        runs = [folder] if RunDirectory(folder).recipe.is_file() else _runs_in(folder)
        if not runs:
            raise InputError(f"{folder}: no run, and no folder of runs.")
        found += runs
    recipes = [_read_recipe(path) for path in found]
    summaries = [_summarize(path, recipe) for path, recipe in zip(found, recipes, strict=True)]
    flat = [recipe.flat() for recipe in recipes]
    fields = {name: [values[name] for values in flat] for name in flat[0]}
    differences = {name: each for name, each in fields.items() if each.count(each[0]) < len(each)}
    return RunsResult(summaries, differences)


def _runs_in(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if RunDirectory(path).recipe.is_file())


def _read_recipe(path: Path) -> Recipe:
    file = RunDirectory(path).recipe
    try:
        return Recipe.from_json(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecipeError) as error:
        raise InputError(f"{file}: not a recipe ({on_one_line(str(error))}).") from error


def _summarize(path: Path, recipe: Recipe) -> RunSummary:
    run = RunDirectory(path)
    rows = run.rows()
    changes = recipe.changes_from(RECIPES.get(recipe.name, recipe))
    epochs = rows[-1]["epoch"] if rows else 0
    measured = [row for row in rows if row.get("val")]
    best = min(measured, key=lambda row: row["val"]["top1_error"], default=None)
    return RunSummary(
        run=str(path),
        state=_state(run, is_finished=epochs >= recipe.epochs),
        recipe=recipe.name,
        changes={name: own for name, (_, own) in changes.items()},
        epochs=epochs,
        num_epochs=recipe.epochs,
        best=best
        and {
            "epoch": best["epoch"],
            **{name: best["val"][name] for name in ("top1_error", "top5_error")},
        },
        images_per_second=rows[-1]["images_per_second"] if rows else None,
    )


def _state(run: RunDirectory, *, is_finished: bool) -> str:
    if is_finished:
        return "finished"
    if run.evidence.exists():
        return "diverged"
    try:
        with locked(run.path, MachineError):
            return "stopped"
    except MachineError:
        return "training"
