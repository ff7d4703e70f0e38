"""Curves over epochs: loss, errors and learning rate of runs, and Figure 1 of the paper."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from alexnet_cli.errors import InputError
from alexnet_cli.figures.style import (
    COLORS,
    DASHES,
    FigureFile,
    Theme,
    check_path,
    line_styles,
    new_figure,
    save,
    styled,
)
from alexnet_cli.training.run_directory import RunDirectory


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
        save(curves_figure(rows_of), request.out)
    errors_of = {
        name: [row["val"]["top1_error"] for row in rows if row.get("val")]
        for name, rows in rows_of.items()
    }
    numbers: dict[str, Any] = {
        name: {"epochs": len(rows_of[name]), "best_top1_error": min(errors, default=None)}
        for name, errors in errors_of.items()
    }
    return FigureFile("curves", str(request.out), {"runs": numbers})


def curves_figure(rows_of: dict[str, list[dict]]) -> Figure:
    """Return the figure of runs, each the rows of its log, by their folders."""
    figure = new_figure(7.2, 2.6)
    loss, error, rate = figure.subplots(1, 3)
    for (name, rows), look in zip(rows_of.items(), line_styles(), strict=False):
        middles = [row["epoch"] - 0.5 for row in rows]
        ends = [row["epoch"] for row in rows]
        faint = look | {"alpha": 0.45, "linewidth": 1}
        loss.plot(middles, [row["train_loss"] for row in rows], **faint)
        error.plot(middles, [row["train_top1_error"] for row in rows], **faint)
        if all(row.get("val") for row in rows):
            loss.plot(ends, [row["val"]["log_loss"] for row in rows], **look)
            error.plot(ends, [row["val"]["top1_error"] for row in rows], **look)
        rate.step(ends, [row["learning_rate"] for row in rows], **look, label=Path(name).name)
    for axes, title in ((loss, "log loss"), (error, "top-1 error"), (rate, "learning rate")):
        axes.set_title(title, loc="left")
        axes.set_xlabel("epochs")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(visible=True)
    error.yaxis.set_major_formatter("{x:.0%}")
    error.set_ylim(bottom=0)
    if any(row["learning_rate"] > 0 for rows in rows_of.values() for row in rows):
        rate.set_yscale("log")
    rate.yaxis.set_major_formatter("{x:g}")
    rate.legend()
    figure.supxlabel("full: validation, faint: training", fontsize=7)
    return figure


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
