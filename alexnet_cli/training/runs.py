"""`alexnet runs`: what the runs below a folder are, how far they are, and how they differ."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alexnet_cli.errors import InputError, MachineError, RecipeError
from alexnet_cli.io.folder_lock import locked
from alexnet_cli.recipes.catalog import RECIPES
from alexnet_cli.recipes.recipe import Recipe
from alexnet_cli.training.run_directory import RunDirectory


@dataclass(frozen=True, slots=True)
class RunSummary:
    """One run.

    Attributes:
        state: "finished", "training", "stopped", "diverged", or "damaged" if its recipe cannot be
            read.
        recipe: name of its recipe; empty if it cannot be read.
        changes: fields that differ from the recipe of that name, with their values.
        epochs: finished ones.
        num_epochs: of its recipe, or None.
        best: epoch, top1_error and top5_error of the epoch with the lowest validation error.
        images_per_second: in the last epoch.
    """

    run: str
    state: str
    recipe: str
    changes: dict[str, Any]
    epochs: int
    num_epochs: int | None
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
        InputError: if a folder is no run and has none.
    """
    found: list[Path] = []
    for folder in folders:
        runs = [folder] if RunDirectory(folder).recipe.is_file() else _runs_in(folder)
        if not runs:
            raise InputError(f"{folder}: no run, and no folder of runs.")
        found += runs
    recipes = [_read_recipe(path) for path in found]
    summaries = [_summarize(path, recipe) for path, recipe in zip(found, recipes, strict=True)]
    flat = [recipe.flat() if recipe else {} for recipe in recipes]
    names = dict.fromkeys(name for values in flat for name in values)
    fields = {name: [values.get(name) for values in flat] for name in names}
    readable = [values for values in flat if values]
    differences = {
        name: each
        for name, each in fields.items()
        if any(values.get(name) != readable[0].get(name) for values in readable)
    }
    return RunsResult(summaries, differences)


def _runs_in(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if RunDirectory(path).recipe.is_file())


def _read_recipe(path: Path) -> Recipe | None:
    try:
        return Recipe.from_json(RunDirectory(path).recipe.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecipeError):
        return None


def _summarize(path: Path, recipe: Recipe | None) -> RunSummary:
    run = RunDirectory(path)
    rows = run.rows()
    changes = recipe.changes_from(RECIPES.get(recipe.name, recipe)) if recipe else {}
    epochs = rows[-1]["epoch"] if rows else 0
    measured = [row for row in rows if "top1_error" in (row.get("val") or {})]
    best = min(measured, key=lambda row: row["val"]["top1_error"], default=None)
    return RunSummary(
        run=str(path),
        state=_state(run, is_finished=epochs >= recipe.epochs) if recipe else "damaged",
        recipe=recipe.name if recipe else "",
        changes={name: own for name, (_, own) in changes.items()},
        epochs=epochs,
        num_epochs=recipe.epochs if recipe else None,
        best=best
        and {
            "epoch": best["epoch"],
            **{name: best["val"].get(name) for name in ("top1_error", "top5_error")},
        },
        images_per_second=rows[-1].get("images_per_second") if rows else None,
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
