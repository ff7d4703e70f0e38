"""Curves over epochs: loss, errors and learning rate of runs, and Figure 1 of the paper."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from alexnet_cli.errors import InputError
from alexnet_cli.figures.style import (
    COLORS,
    DASHES,
    FigureFile,
    Theme,
    check_path,
    fitted,
    line_styles,
    new_figure,
    save,
    styled,
    width_of,
)
from alexnet_cli.training.run_directory import RunDirectory

WIDTH = 7.2  # inches
MAX_INSIDE = 4  # runs whose names stand inside a panel, unless they are long


@dataclass(frozen=True, slots=True)
class Curve:
    """Errors after each epoch, fractions.

    Attributes:
        group: curves of one group share a color.
        faint: drawn thin and light, without a name.
    """

    name: str
    errors: tuple[float, ...]
    group: str
    faint: bool = False


@dataclass(frozen=True, slots=True)
class CurvesRequest:
    """What to draw: runs, by their folders."""

    runs: tuple[Path, ...]
    out: Path
    theme: Theme = "light"


def draw_curves(request: CurvesRequest) -> FigureFile:
    """Draw loss, errors and learning rate of runs against epochs.

    Losses and training errors are means over an epoch's updates, so they stand in the middle of the
    epoch; validation is at its end.

    Raises:
        InputError: if a folder has no run with a finished epoch.
        UsageError: if the figure cannot be written under this name.
    """
    check_path(request.out)
    rows_of = {}
    for run in request.runs:
        if not (rows := RunDirectory(run).rows()):
            raise InputError(
                f"{run}: no run with a finished epoch.", hint="Name folders of runs: runs/NAME"
            )
        rows_of[str(run)] = rows
    with styled(request.theme):
        save(curves_figure(rows_of, request.theme), request.out)
    errors_of = {
        name: [row["val"]["top1_error"] for row in rows if row.get("val")]
        for name, rows in rows_of.items()
    }
    numbers: dict[str, Any] = {
        name: {"epochs": len(rows_of[name]), "best_top1_error": min(errors, default=None)}
        for name, errors in errors_of.items()
    }
    return FigureFile("curves", str(request.out), {"runs": numbers})


def curves_figure(rows_of: dict[str, list[dict]], theme: Theme = "light") -> Figure:
    """Return the figure of runs, each the rows of its log, by their folders."""
    names = [fitted(name, WIDTH - 1, 8) for name in _names_of(list(rows_of))]
    widest = max(width_of(name, 8) for name in names)
    is_inside = len(names) <= MAX_INSIDE and widest < 1.1
    columns = min(len(names), int(WIDTH / (widest + 0.6)), 4)
    lines_below = 0 if is_inside else -(-len(names) // columns)
    figure = new_figure(WIDTH, 2.6 + 0.2 * lines_below)
    loss, error, rate = figure.subplots(1, 3)
    handles = []
    for rows, look in zip(rows_of.values(), line_styles(theme), strict=False):
        ends = np.array([row["epoch"] for row in rows])
        faint = look | {"alpha": 0.45, "linewidth": 1}
        _draw_line(loss, ends - 0.5, [row.get("train_loss") for row in rows], faint)
        _draw_line(error, ends - 0.5, [row.get("train_top1_error") for row in rows], faint)
        val = [row.get("val") or {} for row in rows]
        if any(val):
            _draw_line(loss, ends, [found.get("log_loss") for found in val], look)
            _draw_line(error, ends, [found.get("top1_error") for found in val], look)
        rates = [row.get("learning_rate") for row in rows]
        # The rate of an epoch is drawn from its beginning to its end.
        handles += rate.step([ends[0] - 1, *ends], [rates[0], *rates], **look)
    for axes, title in ((loss, "log loss"), (error, "top-1 error"), (rate, "learning rate")):
        axes.set_title(title, loc="left")
        axes.set_xlabel("epochs")
        axes.set_xlim(left=0)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(visible=True)
    error.yaxis.set_major_formatter("{x:.0%}")
    error.set_ylim(bottom=0)
    if any((row.get("learning_rate") or 0) > 0 for rows in rows_of.values() for row in rows):
        rate.set_yscale("log")
    rate.yaxis.set_major_formatter("{x:g}")
    meaning = "full: validation, faint: training"
    if is_inside:
        rate.legend(handles, names)
        figure.supxlabel(meaning, fontsize=7)
    else:
        figure.legend(
            handles, names, loc="outside lower center", ncols=columns, title=meaning,
            title_fontsize=7,
        )  # fmt: skip
    return figure


def _names_of(folders: list[str]) -> list[str]:
    """Return the names of runs: of their folders, with the path where several are called alike."""
    names = [Path(folder).resolve().name for folder in folders]
    return [
        name if names.count(name) == 1 else folder
        for name, folder in zip(names, folders, strict=True)
    ]


def _draw_line(
    axes: Axes, at: np.ndarray, values: list[float | None], look: dict[str, Any]
) -> None:
    """Draw known, finite values; one without a known one beside it as a point."""
    heights = np.array(values, float)
    known = np.isfinite(heights)
    heights[~known] = np.nan
    padded = np.pad(known, 1)
    alone = known & ~padded[:-2] & ~padded[2:]
    axes.plot(at, heights, marker=".", markevery=alone, **look)


def draw_figure_1(curves: list[Curve], *, goal: float, title: str, out: Path) -> None:
    """Draw training error against epochs, and the goal as a dashed line (paper: figure 1)."""
    groups = list(dict.fromkeys(curve.group for curve in curves))
    with styled("light"):
        figure = new_figure(5.2, 3.6)
        axes = figure.subplots()
        for curve in curves:
            group = groups.index(curve.group)
            middles = [epoch + 0.5 for epoch in range(len(curve.errors))]
            axes.plot(
                middles,
                curve.errors,
                color=COLORS[group % len(COLORS)],
                linestyle=DASHES[group % len(DASHES)],
                linewidth=0.8 if curve.faint else 2,
                alpha=0.4 if curve.faint else 1,
                label=None if curve.faint else curve.name,
            )
        axes.axhline(goal, color="gray", linestyle=":", linewidth=1)
        axes.set_xlim(left=0)
        axes.set_ylim(0, 0.75)
        axes.yaxis.set_major_formatter("{x:.0%}")
        axes.set_xlabel("epochs")
        axes.set_ylabel("training error")
        axes.set_title(title, loc="left")
        if any(not curve.faint for curve in curves):
            axes.legend()
        save(figure, out)
