"""What all figures share: names that fit, letters of any script, inks that can be read."""

import numpy as np
import pytest
from matplotlib import rcParams
from matplotlib.backends.backend_agg import FigureCanvasAgg

from alexnet_cli.figures import style
from alexnet_cli.figures.style import COLORS, INK, LINES, fitted, ink_on, new_figure, styled

NAMES = ["W" * 50, "i" * 90, "\u732b" * 30, "a$b$" * 20, "tab\tand\nline " * 9, "x" * 10_000]


def drawn_width(text: str, size: float, *, bold: bool) -> float:
    """Return the width in inches that matplotlib needs to draw a text."""
    figure = new_figure(1, 1)
    figure.dpi = style.DPI
    renderer = FigureCanvasAgg(figure).get_renderer()
    shown = figure.text(0, 0, text, fontsize=size, fontweight="bold" if bold else "normal")
    return shown.get_window_extent(renderer).width / figure.dpi


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("bold", [False, True])
def test_shortened_names_fit_and_are_no_shorter_than_needed(name, bold):
    with styled("light"):
        short = fitted(name, 1.5, 7, bold=bold)
        assert "\n" not in short
        assert short.endswith("\u2026")
        assert 1.25 < drawn_width(short, 7, bold=bold) < 1.6


def test_names_that_fit_are_kept():
    with styled("light"):
        assert fitted("king penguin", 2, 7) == "king penguin"
        assert fitted("", 2, 7) == ""
        assert fitted("king", 0.01, 7) == "\u2026"


def test_installed_fonts_stand_in_for_missing_letters(monkeypatch):
    monkeypatch.setattr(style, "FONTS", ("DejaVu Sans", "No Such Font", "STIXGeneral"))
    with styled("light"):
        assert rcParams["font.family"] == ["DejaVu Sans", "STIXGeneral"]


def contrast(first: np.ndarray, second: np.ndarray) -> float:
    """Return the contrast ratio of WCAG 2 between two colors from 0 to 1."""

    def luminance(color: np.ndarray) -> float:
        parts = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in color]
        return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]

    dark, light = sorted((luminance(first), luminance(second)))
    return (light + 0.05) / (dark + 0.05)


def test_ink_on_any_color_can_be_read():
    for color in np.random.default_rng(0).random((200, 3)):
        ink = {"black": 0.0, "white": 1.0}[ink_on(color)] * np.ones(3)
        assert contrast(color, ink) >= 4.5


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_first_lines_stand_out_from_the_background(theme):
    def rgb(name: str) -> np.ndarray:
        return np.array([int(name[i : i + 2], 16) for i in (1, 3, 5)]) / 255

    assert sorted(LINES[theme]) == sorted(COLORS)
    for color in LINES[theme][:3]:
        assert contrast(rgb(color), rgb(INK[theme][1])) > 3
