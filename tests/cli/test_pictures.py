"""Pictures in half blocks: two pixels in a character."""

import numpy as np
from rich.console import Console

from alexnet_cli.cli.pictures import half_blocks


def test_colors_are_those_of_two_pixels_one_above_the_other():
    pixels = np.random.default_rng(0).integers(0, 256, (6, 5, 3), dtype=np.uint8)
    console = Console(color_system="truecolor", force_terminal=True, width=80)

    lines = console.render_lines(half_blocks(pixels), pad=False)

    assert len(lines) == 3
    for row, segments in enumerate(lines):
        cells = [(s.style, char) for s in segments if s.text.strip("\n") for char in s.text]
        assert len(cells) == 5
        for column, (style, char) in enumerate(cells):
            assert char == "\u2580"
            assert tuple(style.color.triplet) == tuple(pixels[2 * row, column])
            assert tuple(style.bgcolor.triplet) == tuple(pixels[2 * row + 1, column])
