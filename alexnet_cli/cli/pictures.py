"""Small pictures in a terminal: every character is two pixels, one above the other."""

import sys
from typing import TYPE_CHECKING

from rich.text import Text

from alexnet_cli.cli.console import shows_color
from alexnet_cli.io.terminal import shows_blocks

if TYPE_CHECKING:
    import numpy as np

COLUMNS = 24
UPPER_HALF = "\u2580"


def can_draw() -> bool:
    """Return whether standard output is a terminal that shows colored block characters."""
    return shows_blocks(sys.stdout) and shows_color()


def half_blocks(pixels: "np.ndarray") -> Text:
    """Return uint8 RGB (H, W, 3), with an even H, as H / 2 lines of W characters."""
    text = Text()
    for upper, lower in zip(pixels[::2].tolist(), pixels[1::2].tolist(), strict=True):
        for above, below in zip(upper, lower, strict=True):
            text.append(UPPER_HALF, f"rgb({_joined(above)}) on rgb({_joined(below)})")
        text.append("\n")
    text.rstrip()
    return text


def _joined(color: list[int]) -> str:
    return ",".join(map(str, color))
