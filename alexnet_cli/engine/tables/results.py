"""A reproduction's figures beside the published ones: results.json, results.md, a picture.

Errors are fractions in the JSON, percent in the table. Whatever makes a figure less than the real
experiment (fewer epochs, other pictures, changed settings) stands above the table.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from alexnet_cli.atomic import write_atomically, write_bytes
from alexnet_cli.engine.tables.plan import PlannedRow, Shortcuts, Source, Step
from alexnet_cli.engine.tables.race import Lap, best_lap
from alexnet_cli.plot import Curve, draw_curves
from alexnet_cli.recipes import ENTRIES, RECIPES
from alexnet_cli.recipes.tables import (
    FIGURE_1,
    FIGURE_1_GOAL,
    FIGURE_1_RATIO,
    OFFICIAL_SETS,
    PaperTable,
)

Errors = tuple[float | None, float | None]


def table_result(
    table: PaperTable,
    rows: list[PlannedRow],
    found: dict[str, dict],
    steps: list[Step],
    shortcuts: Shortcuts,
) -> dict:
    """Return a table's result from what its steps gave."""
    by_name = {step.name: step for step in steps}
    result = [_row_result(row, found, by_name) for row in rows]
    errors = {row["name"]: row["ours"] for row in result}
    for planned, row in zip(rows, result, strict=True):
        base = errors.get(planned.row.baseline)
        row["gain"] = _difference(row["ours"], base) if row["ours"] and base else None
    sources = {s.source.name: s.source for s in steps}.values()
    return {
        "title": table.title,
        "caveats": [
            *_caveats(sources, shortcuts),
            *_other_held_out(rows),
            *_other_data(rows),
        ],
        "rows": result,
    }


def _row_result(planned: PlannedRow, found: dict[str, dict], steps: dict[str, Step]) -> dict:
    row, source = planned.row, planned.source
    about = {
        "name": row.name,
        "members": list(row.members),
        "paper": _fractions(row.paper),
        "log": _logged(row.members, source, row.views),
        "baseline": row.baseline,
        "paper_gain": _fractions(row.paper_gain),
        "missing": list(planned.missing),
        "ours": None,
    }
    if planned.step is None:
        return about
    answer = found[planned.step]
    errors = answer["center"] if row.views == 1 else answer
    trained = [found[name]["epochs"] for name in planned.trains]
    recipe_epochs = [RECIPES[member].epochs for member in row.members]
    views = "centre view" if row.views == 1 else "ten views"
    return about | {
        "ours": [errors["top1_error"], errors["top5_error"]],
        "data": source.name,
        "dataset": source.path,
        "classes": source.classes,
        "images": answer["images"],
        "protocol": f"{views}, {source.split}",
        "epochs": trained,
        "recipe_epochs": recipe_epochs,
        "images_trained_on": [
            epochs * steps[name].source.train
            for name, epochs in zip(planned.trains, trained, strict=True)
        ],
    }


def _logged(members: tuple[str, ...], source: Source | None, views: int) -> list | None:
    """Return what the notes of 2012 say of a row of one recipe on these data."""
    if len(members) > 1 or source is None:
        return None
    start = "centre" if views == 1 else "ten"
    for target in ENTRIES[members[0]].targets:
        same = target.data == source.name and target.protocol.startswith(start)
        if same and target.source.startswith("log"):
            return _fractions((target.top1_error, target.top5_error))
    return None


def _fractions(percent: Errors | None) -> list | None:
    if percent is None:
        return None
    return [None if value is None else round(value / 100, 8) for value in percent]


def _difference(ours: list, base: list) -> list:
    return [mine - other for mine, other in zip(ours, base, strict=True)]


def _caveats(sources: Iterable[Source], shortcuts: Shortcuts) -> list[str]:
    """Return in what this is less than the published experiment; nothing if it is not."""
    caveats = []
    if shortcuts.epochs:
        caveats.append(f"{shortcuts.epochs}-epoch runs; the recipes' own epochs are in the table")
    if shortcuts.settings:
        caveats.append(f"changed settings: {', '.join(shortcuts.settings)}")
    for source in sources:
        real = OFFICIAL_SETS[source.name]
        if source.classes != real.classes or not _about(source.train, real.train):
            caveats.append(
                f"{source.name} is {source.path}: {source.classes:,} classes and {source.train:,} "
                f"training pictures instead of {real.classes:,} and {real.train:,}"
            )
    return caveats


def _about(count: int, published: int) -> bool:
    """Tell whether a count is the published one within 1 %: some of those are rounded."""
    return abs(count - published) <= published / 100


def _other_held_out(rows: list[PlannedRow]) -> list[str]:
    """Name the sets that rows are measured on if those are not the published pictures."""
    caveats = []
    for source in {row.source.name: row.source for row in rows if row.source}.values():
        real = OFFICIAL_SETS[source.name]
        split, expected = ("test", real.test) if real.test else ("val", real.val)
        found = source.held_out.get(source.split, 0)
        if (source.split, found) != (split, expected):
            caveats.append(
                f"{source.name} is {source.path}: measured on {found:,} pictures of "
                f"{source.split}, not {expected:,} of {split}"
            )
    return caveats


def _other_data(rows: list[PlannedRow]) -> list[str]:
    """Name the rows that are measured on other data than the paper's figure beside them."""
    return [
        f"{planned.row.name}: the paper's figure is of {planned.row.data[0]}, ours of "
        f"{planned.source.name}"
        for planned in rows
        if planned.source and planned.source.name != planned.row.data[0]
    ]


def race_result(laps: list[list[Lap]], source: Source, shortcuts: Shortcuts) -> dict:
    """Return Figure 1's result: every lap, the best of each network, and their ratio."""
    best = [best_lap(tried) for tried in laps]
    ratio = None
    if len(best) == 2 and all(best):
        ratio = best[1].epochs / best[0].epochs
    return {
        "title": f"Figure 1: epochs to {FIGURE_1_GOAL:.0%} training error",
        "figure": FIGURE_1,
        "caveats": _caveats([source], shortcuts),
        "goal": FIGURE_1_GOAL,
        "paper_ratio": FIGURE_1_RATIO,
        "ratio": ratio,
        "dataset": source.path,
        "images": source.train,
        "best": [
            {"recipe": lap.recipe, "rate": lap.rate, "epochs": lap.epochs} for lap in best if lap
        ],
        "laps": [asdict(lap) for tried in laps for lap in tried],
    }


def write_results(out: Path, result: dict) -> dict:
    """Write results.json and results.md, and for Figure 1 its picture; return the result."""
    if "laps" in result:
        picture = out / "figure-1.png"
        with write_atomically(picture) as file:
            draw_curves(_curves(result), goal=result["goal"], title=result["title"]).save(
                file, "PNG"
            )
        result["picture"] = str(picture)
    result["results"] = str(out / "results.md")
    write_bytes(out / "results.json", (json.dumps(result, indent=2) + "\n").encode())
    write_bytes(out / "results.md", to_markdown(result).encode())
    return result


def _curves(result: dict) -> list[Curve]:
    chosen = {(best["recipe"], best["rate"]) for best in result["best"]}
    return [
        Curve(
            f"{lap['recipe'].removeprefix('cifar-')}, rate {lap['rate']:g}",
            tuple(lap["train_errors"]),
            group=lap["recipe"],
            faint=(lap["recipe"], lap["rate"]) not in chosen,
        )
        for lap in result["laps"]
    ]


def to_markdown(result: dict) -> str:
    """Return results.md."""
    lines = [f"# {result['title']}", ""]
    if result["caveats"]:
        lines += ["**Not the published experiment.** These figures cannot be held against it:", ""]
        lines += [f"* {caveat}" for caveat in result["caveats"]] + [""]
    lines += _race_lines(result) if "laps" in result else _table_lines(result)
    return "\n".join(lines) + "\n"


def _table_lines(result: dict) -> list[str]:
    lines = [
        'Top-1 / top-5 error in percent. "Worse by" is against the row named beside it.',
        "",
        "| row | paper | 2012 log | ours | worse by: paper | ours | epochs | images | protocol |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in result["rows"]:
        worse = f"{percent(row['gain'], sign=True)} ({row['baseline']})" if row["gain"] else ""
        cells = [row["name"], percent(row["paper"]), percent(row["log"]), percent(row["ours"])]
        cells += [percent(row["paper_gain"], sign=True), worse]
        if row["ours"]:
            cells += [_epochs(row), f"{sum(row['images_trained_on']):,}"]
            cells += [f"{row['protocol']} of {row['data']}, {row['images']:,} images"]
        else:
            cells += ["", "", f"not run: no --data {', '.join(row['missing'])}"]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _epochs(row: dict) -> str:
    pairs = zip(row["epochs"], row["recipe_epochs"], strict=True)
    return ", ".join(f"{done} of {own}" for done, own in pairs)


def _race_lines(result: dict) -> list[str]:
    lines = [
        f"Training error over each epoch's updates; {result['images']:,} pictures, as they are.",
        "",
        "| network | rate | epochs | to the goal | last training error |",
        "|---|---|---|---|---|",
    ]
    for lap in result["laps"]:
        reached = "not reached" if lap["epochs"] is None else f"{lap['epochs']:.1f}"
        last = f"{lap['train_errors'][-1]:.1%}" if lap["train_errors"] else ""
        epochs = len(lap["train_errors"])
        lines.append(f"| {lap['recipe']} | {lap['rate']:g} | {epochs} | {reached} | {last} |")
    ratio = result["ratio"]
    found = "no ratio: fewer than two networks reached the goal"
    if ratio is not None:
        found = f"ratio {ratio:.1f}"
    return [*lines, "", f"{found} (paper: about {result['paper_ratio']:g}). See figure-1.png."]


def percent(errors: list | None, *, sign: bool = False) -> str:
    """Return (top-1, top-5) fractions as percent; nothing for None."""
    if errors is None:
        return ""
    form = "{:+.1f}" if sign else "{:.1f}"
    return " / ".join("-" if e is None else form.format(100 * e) for e in errors)
