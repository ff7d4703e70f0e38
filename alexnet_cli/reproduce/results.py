"""A reproduction's figures beside the published ones: results.json, results.md, figure-1.png.

Errors are fractions in the JSON, percent in the table. Every
difference from the published experiment (epochs, images, settings) is listed above the table.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from alexnet_cli.errors import counted
from alexnet_cli.inference.statistics import wilson_interval
from alexnet_cli.io.atomic import write_bytes
from alexnet_cli.recipes.catalog import NAMED_RECIPES, RECIPES
from alexnet_cli.recipes.paper_tables import (
    FIGURE_1,
    FIGURE_1_GOAL,
    FIGURE_1_RATIO,
    OFFICIAL_SETS,
    PaperTable,
)
from alexnet_cli.reproduce.figure_1 import LearningRateRun, fastest_run
from alexnet_cli.reproduce.jobs import Job, Shortcuts, TableDataset, trainings
from alexnet_cli.reproduce.plan import PlannedRow

Errors = tuple[float | None, float | None]
INTERVALS = "95 % intervals"
NO_RATIO = "no ratio: fewer than two networks reached the goal"


def table_result(
    table: PaperTable,
    rows: list[PlannedRow],
    found: dict[str, dict],
    jobs: list[Job],
    shortcuts: Shortcuts,
) -> dict:
    """Return a table's result.

    Args:
        found: the result of each job by its name.
    """
    result = [_row_result(row, found) for row in rows]
    errors = {row["name"]: row["ours"] for row in result}
    for row in result:
        ours, base = row["ours"], errors.get(row["baseline"])
        row["gain"] = [a - b for a, b in zip(ours, base, strict=True)] if ours and base else None
    datasets = {train.dataset.name: train.dataset for train in trainings(jobs)}.values()
    caveats = [*_caveats(datasets, shortcuts), *_other_held_out(rows), *_other_data(rows)]
    return {"title": table.title, "caveats": caveats, "rows": result}


def _row_result(planned: PlannedRow, found: dict[str, dict]) -> dict:
    row, dataset, trains = planned.row, planned.dataset, planned.trains
    about = {
        "name": row.name,
        "members": list(row.members),
        "paper": _fractions(row.paper),
        "log": _logged(row.members, dataset, row.views),
        "baseline": row.baseline,
        "paper_gain": _fractions(row.paper_gain),
        "missing": list(planned.missing),
        "ours": None,
        "intervals": None,
    }
    if planned.job is None or dataset is None:
        return about
    answer = found[planned.job.name]
    errors = answer["center"] if row.views == 1 else answer
    epochs = [found[train.name]["epochs"] for train in trains]
    views = "center view" if row.views == 1 else "ten views"
    ours = [errors["top1_error"], errors["top5_error"]]
    return about | {
        "ours": ours,
        "intervals": [[*wilson_interval(error, answer["images"])] for error in ours],
        "data": dataset.name,
        "dataset": dataset.path,
        "classes": dataset.classes,
        "images": answer["images"],
        "protocol": f"{views}, {dataset.split}",
        "epochs": epochs,
        "recipe_epochs": [RECIPES[member].epochs for member in row.members],
        "images_trained_on": [done * dataset.train for done in epochs],
    }


def _logged(members: tuple[str, ...], dataset: TableDataset | None, views: int) -> list | None:
    """Return the errors that the logs of 2012 state for a row of one recipe on this data set."""
    if len(members) > 1 or dataset is None:
        return None
    start = "center" if views == 1 else "ten"
    for target in NAMED_RECIPES[members[0]].published:
        same = target.data == dataset.name and target.protocol.startswith(start)
        if same and target.source.startswith("log"):
            return _fractions((target.top1_error, target.top5_error))
    return None


def _fractions(percent: Errors | None) -> list | None:
    if percent is None:
        return None
    return [None if value is None else round(value / 100, 8) for value in percent]


def _caveats(datasets: Iterable[TableDataset], shortcuts: Shortcuts) -> list[str]:
    """Return the differences from the published experiment."""
    caveats = []
    if shortcuts.epochs:
        caveats.append(f"{shortcuts.epochs}-epoch runs; the recipes' own epochs are in the table")
    if shortcuts.settings:
        caveats.append(f"changed settings: {', '.join(shortcuts.settings)}")
    for dataset in datasets:
        real = OFFICIAL_SETS[dataset.name]
        is_close = abs(dataset.train - real.train) <= real.train / 100  # some counts are rounded
        if dataset.classes != real.classes or not is_close:
            caveats.append(
                f"{dataset.name} is {dataset.path}: {counted(dataset.classes, 'class')} and "
                f"{dataset.train:,} training images instead of "
                f"{real.classes:,} and {real.train:,}"
            )
    return caveats


def _other_held_out(rows: list[PlannedRow]) -> list[str]:
    """Name the datasets whose measured split is not the published one."""
    caveats = []
    for dataset in {row.dataset.name: row.dataset for row in rows if row.dataset}.values():
        real = OFFICIAL_SETS[dataset.name]
        split, expected = ("test", real.test) if real.test else ("val", real.val)
        found = dataset.held_out.get(dataset.split, 0)
        if (dataset.split, found) != (split, expected):
            caveats.append(
                f"{dataset.name} is {dataset.path}: measured on {found:,} images of "
                f"{dataset.split}, not {expected:,} of {split}"
            )
    return caveats


def _other_data(rows: list[PlannedRow]) -> list[str]:
    """Name the rows that are measured on another dataset than the published result."""
    return [
        f"{planned.row.name}: the paper's figure is of {planned.row.data[0]}, ours of "
        f"{planned.dataset.name}"
        for planned in rows
        if planned.dataset and planned.dataset.name != planned.row.data[0]
    ]


def figure_1_result(
    runs: list[list[LearningRateRun]], dataset: TableDataset, shortcuts: Shortcuts
) -> dict:
    """Return Figure 1's result: every run, the best of each network, and their ratio."""
    best = [fastest_run(tried) for tried in runs]
    epochs = [run.epochs for run in best if run and run.epochs]
    ratio = epochs[1] / epochs[0] if len(epochs) == 2 else None
    return {
        "title": f"Figure 1: epochs to {FIGURE_1_GOAL:.0%} training error",
        "figure": FIGURE_1,
        "caveats": _caveats([dataset], shortcuts),
        "goal": FIGURE_1_GOAL,
        "paper_ratio": FIGURE_1_RATIO,
        "ratio": ratio,
        "dataset": dataset.path,
        "images": dataset.train,
        "best": [
            {"recipe": run.recipe, "learning_rate": run.learning_rate, "epochs": run.epochs}
            for run in best
            if run
        ],
        "runs": [asdict(run) for tried in runs for run in tried],
    }


def write_results(out: Path, result: dict) -> dict:
    """Write results.json and results.md, and for Figure 1 its figure; return the result."""
    if "runs" in result:
        figure = out / "figure-1.png"
        _draw_figure_1(result, figure)
        result["figure"] = str(figure)
    result["results"] = str(out / "results.md")
    write_bytes(out / "results.json", (json.dumps(result, indent=2) + "\n").encode())
    write_bytes(out / "results.md", to_markdown(result).encode())
    return result


def _draw_figure_1(result: dict, out: Path) -> None:
    # Imported here, because matplotlib takes half a second and only this figure needs it.
    from alexnet_cli.figures.curves import Curve, draw_figure_1

    chosen = {(best["recipe"], best["learning_rate"]) for best in result["best"]}
    curves = [
        Curve(
            f"{run['recipe'].removeprefix('cifar-')}, learning rate {run['learning_rate']:g}",
            tuple(run["train_errors"]),
            group=run["recipe"],
            faint=(run["recipe"], run["learning_rate"]) not in chosen,
        )
        for run in result["runs"]
    ]
    draw_figure_1(curves, goal=result["goal"], title=result["title"], out=out)


def to_markdown(result: dict) -> str:
    """Return results.md."""
    lines = [f"# {result['title']}", ""]
    if result["caveats"]:
        lines += ["**Not the published experiment.** Do not compare these figures with it:", ""]
        lines += [f"* {caveat}" for caveat in result["caveats"]] + [""]
    lines += [_explain(result), ""]
    table = ["| " + " | ".join(cells) + " |" for cells in table_cells(result)]
    lines += [table[0], "|---" * (table[0].count("|") - 1) + "|", *table[1:]]
    if "runs" in result:
        lines += ["", f"{describe_ratio(result)}. See figure-1.png."]
    return "\n".join(lines) + "\n"


def _explain(result: dict) -> str:
    if "runs" in result:
        return (
            f"Training error over each epoch's updates; {result['images']:,} images, as they are."
        )
    return (
        'Top-1 / top-5 error in percent. "Worse by" is against the row named beside it. The '
        "intervals are Wilson's: what other images would change, not other seeds."
    )


def describe_ratio(result: dict) -> str:
    """Return how many times as many epochs tanh needs as ReLU, ours and the paper's."""
    ratio = f"ratio {result['ratio']:.1f}" if result["ratio"] is not None else NO_RATIO
    return f"{ratio} (paper: about {result['paper_ratio']:g})"


def table_cells(result: dict) -> list[list[str]]:
    """Return the text of a result's table: its header, then its rows."""
    if "runs" in result:
        return [["network", "learning rate", "epochs", "to the goal", "last training error"]] + [
            _run_cells(run) for run in result["runs"]
        ]
    header = ["row", "paper", "2012 log", "ours", INTERVALS, "worse by: paper", "ours"]
    return [[*header, "epochs", "images", "protocol"], *map(_row_cells, result["rows"])]


def _run_cells(run: dict) -> list[str]:
    errors = run["train_errors"]
    reached = "not reached" if run["epochs"] is None else f"{run['epochs']:.1f}"
    last = f"{errors[-1]:.1%}" if errors else ""
    return [run["recipe"], f"{run['learning_rate']:g}", str(len(errors)), reached, last]


def _row_cells(row: dict) -> list[str]:
    worse = f"{percent(row['gain'], sign=True)} ({row['baseline']})" if row["gain"] else ""
    cells = [row["name"], percent(row["paper"]), percent(row["log"]), percent(row["ours"])]
    cells += [interval_text(row["intervals"])]
    cells += [percent(row["paper_gain"], sign=True), worse]
    if not row["ours"]:
        return [*cells, "", "", f"not run: no {', '.join(row['missing'])}"]
    pairs = zip(row["epochs"], row["recipe_epochs"], strict=True)
    epochs = ", ".join(f"{done} of {own}" for done, own in pairs)
    measured = f"{row['protocol']} of {row['data']}, {row['images']:,} images"
    return [*cells, epochs, f"{sum(row['images_trained_on']):,}", measured]


def interval_text(intervals: list | None) -> str:
    """Return the intervals of (top-1, top-5) errors, fractions, as percent; nothing for None."""
    return " / ".join(f"{100 * low:.1f}-{100 * high:.1f}" for low, high in intervals or ())


def percent(errors: list | None, *, sign: bool = False) -> str:
    """Return (top-1, top-5) fractions as percent; nothing for None."""
    if errors is None:
        return ""
    form = "{:+.1f}" if sign else "{:.1f}"
    return " / ".join("-" if e is None else form.format(100 * e) for e in errors)
