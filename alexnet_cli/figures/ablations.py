"""The errors of a reproduced table beside the paper's, with intervals."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from alexnet_cli.errors import InputError, on_one_line
from alexnet_cli.figures.style import (
    RIGHT,
    WRONG,
    FigureFile,
    Theme,
    check_path,
    fitted,
    new_figure,
    save,
    styled,
)

ERRORS = ("top-1 error", "top-5 error")


@dataclass(frozen=True, slots=True)
class AblationsRequest:
    """What to draw.

    Attributes:
        results: results.json of a table of `alexnet reproduce`.
    """

    results: Path
    out: Path
    theme: Theme = "light"


def draw_ablations(request: AblationsRequest) -> FigureFile:
    """Draw both errors of each row of a table: the paper's, and ours with its interval.

    Raises:
        InputError: if the file is no result of a table.
        UsageError: if the figure cannot be written under this name.
    """
    check_path(request.out)
    title, caveats, rows = _read(request.results)
    shown = [
        place
        for place in range(len(ERRORS))
        if any(_value(row, kind, place) is not None for row in rows for kind in ("paper", "ours"))
    ]
    with styled(request.theme):
        figure = new_figure(2.2 + 2.4 * len(shown), 1.1 + 0.3 * len(rows))
        grid = figure.subplots(1, len(shown), sharey=True, squeeze=False)[0]
        for axes, place in zip(grid, shown, strict=True):
            _draw_panel(axes, rows, place)
        grid[0].set_yticks(range(len(rows)), [fitted(row["name"], 2.6, 8) for row in rows])
        grid[0].set_ylim(len(rows) - 0.5, -0.5)
        handles, labels = grid[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower right", ncols=2)
        figure.suptitle(fitted(title, 2 + 2.4 * len(shown), 9), fontsize=9)
        if caveats:
            figure.supxlabel("not the published experiment: see results.md", fontsize=7, x=0.01,
                             ha="left")  # fmt: skip
        save(figure, request.out)
    numbers = {
        "title": title,
        "rows": [{key: row[key] for key in ("name", "paper", "ours", "intervals")} for row in rows],
        "caveats": caveats,
    }
    return FigureFile("ablations", str(request.out), numbers)


def _read(path: Path) -> tuple[str, list[str], list[dict[str, Any]]]:
    """Return title, caveats and rows of a result."""
    try:
        found = json.loads(path.read_bytes())
        rows = [
            {key: row.get(key) for key in ("name", "paper", "ours", "intervals")}
            for row in found["rows"]
        ]
        title, caveats = str(found["title"]), list(map(str, found["caveats"]))
        if not rows or any(not isinstance(row["name"], str) for row in rows):
            raise ValueError("it has no rows")
        for row in rows:
            for value in (*(row["paper"] or ()), *(row["ours"] or ())):
                float(0 if value is None else value)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}.") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path}: not the results of a table ({on_one_line(str(error))}).",
            hint="Name results.json of alexnet reproduce; figure-1 draws its own figure.",
        ) from error
    return title, caveats, rows


def _value(row: dict[str, Any], kind: str, place: int) -> float | None:
    return row[kind][place] if row[kind] else None


def _draw_panel(axes: Axes, rows: list[dict[str, Any]], place: int) -> None:
    """Draw one of both errors: diamonds of the paper, points with intervals of ours."""
    paper = np.array([_value(row, "paper", place) for row in rows], float)
    ours = np.array([_value(row, "ours", place) for row in rows], float)
    around = np.zeros((2, len(rows)))
    for number, row in enumerate(rows):
        if row["intervals"]:
            low, high = row["intervals"][place]
            around[:, number] = max(ours[number] - low, 0), max(high - ours[number], 0)
    at = np.arange(len(rows))
    axes.plot(paper, at - 0.12, "D", color=RIGHT, fillstyle="none", label="paper", markersize=5)
    axes.errorbar(
        ours, at + 0.12, xerr=around, fmt="o", color=WRONG, markersize=4, capsize=2,
        label="ours, with 95 % intervals",
    )  # fmt: skip
    axes.set_title(ERRORS[place], loc="left")
    axes.xaxis.set_major_formatter("{x:.0%}")
    axes.grid(visible=True, axis="x")
    axes.margins(x=0.1)
