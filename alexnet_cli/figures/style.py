"""How every figure looks, and how it is written.

Colors are those of Okabe and Ito, which readers with any color vision tell apart; lines also differ
in dashes, so that a figure can be printed in gray. The same figure is the same bytes every time.
"""

import bisect
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, fontManager
from matplotlib.textpath import text_to_path

from alexnet_cli.errors import UsageError, hint, on_one_line
from alexnet_cli.io.atomic import check_output, write_output

Theme = Literal["light", "dark"]
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
LINES = {"light": COLORS, "dark": COLORS[::-1]}  # the lighter ones first on a dark background
DASHES = ("-", "--", "-.", ":")
RIGHT, WRONG = "#D55E00", "#0072B2"  # the bars of right and wrong classes
SUFFIXES = (".png", ".svg", ".pdf")
DPI = 200
PER_ROW = 16  # small images on a sheet (2012: shownet.py:110)
INK = {"light": ("#1a1a1a", "#ffffff"), "dark": ("#e8e8e8", "#14171a")}
# The first comes with matplotlib; the others, where they are installed, have the letters it lacks.
FONTS = (
    "DejaVu Sans", "Noto Sans CJK JP", "Noto Sans CJK SC", "WenQuanYi Zen Hei",
    "Droid Sans Fallback", "Hiragino Sans", "Apple SD Gothic Neo", "Arial Unicode MS", "Yu Gothic",
    "Microsoft YaHei", "Malgun Gothic", "Nirmala UI", "Leelawadee UI", "Noto Sans Devanagari",
    "Noto Sans Bengali", "Noto Sans Tamil", "Noto Sans Thai",
)  # fmt: skip
MAX_LETTERS = 200  # of a text that is measured


@dataclass(frozen=True, slots=True)
class FigureFile:
    """A figure that was written, and the figures in numbers that it shows.

    Attributes:
        numbers: what the picture shows, for readers and programs; a dictionary for JSON.
    """

    kind: str
    path: str
    numbers: dict[str, Any]


def check_path(path: Path) -> None:
    """Check that a figure can be written under this name.

    Raises:
        UsageError: if its suffix is none of PNG, SVG and PDF, or it is a folder.
        MachineError: if its folder cannot be created or written to.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(
            f"{path}: figures are written as {', '.join(SUFFIXES)}.", hint=hint("figure_name")
        )
    check_output(path)


@contextmanager
def styled(theme: Theme) -> Iterator[None]:
    """Draw with the style of these figures inside the block."""
    ink, paper = INK[theme]
    installed = {*fontManager.get_font_names()}
    with warnings.catch_warnings(), mpl.rc_context({
        "font.family": [name for name in FONTS if name in installed],
        "font.size": 8,
        "axes.titlesize": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.prop_cycle": cycler(color=LINES[theme]),
        "figure.facecolor": paper,
        "axes.facecolor": paper,
        "savefig.facecolor": paper,
        **dict.fromkeys(
            ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), ink
        ),
        "grid.color": ink,
        "grid.alpha": 0.15,
        "legend.frameon": False,
        "text.parse_math": False,  # class names with $ are text
        "svg.hashsalt": "alexnet",
    }):  # fmt: skip
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # in names of classes
        yield


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of a size in inches, drawn without a window."""
    return Figure(figsize=(width, height), layout="constrained")


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, SVG or PDF, by its suffix, without the time in it."""
    kind = path.suffix.lower()[1:]
    dates = {"png": {}, "svg": {"Date": None}, "pdf": {"CreationDate": None, "ModDate": None}}
    with write_output(path) as file:
        figure.savefig(file, format=kind, dpi=DPI, metadata=dates[kind])


def show_image(axes: Axes, image: np.ndarray, **options: Any) -> None:
    """Show an image pixel by pixel, without ticks and frame."""
    axes.imshow(image, interpolation="nearest", **options)
    axes.set_axis_off()


def tile(images: np.ndarray, per_row: int, background: float | np.ndarray) -> np.ndarray:
    """Return images in rows, with one pixel between them.

    Args:
        images: (N, H, W, channels).
        background: one value, or one of each channel.

    Returns:
        (rows, columns, channels); places without an image, and borders, are `background`.
    """
    num, height, width, channels = images.shape
    rows = -(-num // per_row)
    shape = (rows * (height + 1) + 1, per_row * (width + 1) + 1, channels)
    sheet = np.full(shape, background, images.dtype)
    for i, image in enumerate(images):
        top, left = (i // per_row) * (height + 1) + 1, (i % per_row) * (width + 1) + 1
        sheet[top : top + height, left : left + width] = image
    return sheet


def sheets_figure(
    sheets: list[np.ndarray], titles: list[str], background: float, **options: Any
) -> Figure:
    """Return a figure of sheets of small images one below the other, such as one for each column.

    Args:
        sheets: (N, H, W, channels) each.
        background: of `tile`.
    """
    per_row = min(PER_ROW, len(sheets[0]))
    rows = sum(-(-len(sheet) // per_row) for sheet in sheets)
    figure = new_figure(max(0.4 * per_row, 2.6), 0.42 * rows + 0.35 * len(sheets))
    places = np.ravel(figure.subplots(len(sheets), 1))
    for axes, sheet, title in zip(places, sheets, titles, strict=True):
        show_image(axes, tile(sheet, per_row, background), **options)
        axes.set_title(title, loc="left")
    return figure


def line_styles(theme: Theme) -> Iterator[dict[str, str]]:
    """Yield color and dashes of one line after another."""
    for color, dashes in zip(cycle(LINES[theme]), cycle(DASHES), strict=False):
        yield {"color": color, "linestyle": dashes}


def ink_on(color: np.ndarray) -> str:
    """Return black or white, whichever contrasts more with a color, RGB (3,) from 0 to 1 (WCAG)."""
    linear = np.where(color <= 0.04045, color / 12.92, ((color + 0.055) / 1.055) ** 2.4)
    luminance = linear @ (0.2126, 0.7152, 0.0722)
    return "black" if (luminance + 0.05) ** 2 > 0.05 * 1.05 else "white"


def short_name(name: str) -> str:
    """Return a class name as the 2012 figures show it: up to the first comma (shownet.py:199)."""
    return on_one_line(name.partition(",")[0].strip() or name)


def width_of(text: str, size: float, *, bold: bool = False) -> float:
    """Return the width of a text in inches; see `fitted`."""
    font = FontProperties(size=size, weight="bold" if bold else "normal")
    return text_to_path.get_text_width_height_descent(text, font, ismath=False)[0] / 72


def fitted(text: str, inches: float, size: float, *, bold: bool = False) -> str:
    """Return a text on one line, shortened to a width whatever its letters are.

    Call it with the style in use.

    Args:
        size: of the font, in points.
    """
    text = on_one_line(text)[:MAX_LETTERS]

    def is_too_wide(shown: str) -> bool:
        return width_of(shown, size, bold=bold) > inches

    def shortened(length: int) -> str:
        return text[:length].rstrip() + "\u2026"

    if not is_too_wide(text):
        return text
    too_long = bisect.bisect(range(len(text)), False, key=lambda n: is_too_wide(shortened(n)))
    return shortened(max(too_long - 1, 0))
