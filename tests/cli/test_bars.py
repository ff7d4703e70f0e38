"""Bars of terminals of any width."""

import io
import re

import pytest
from rich.console import Console

from alexnet_cli.cli.bars import draw_bar


@pytest.mark.parametrize(("width", "note"), [(40, "loss 4.102"), (60, "lr 0.01"), (80, "lr 0.01")])
def test_bar_shows_what_is_done_on_a_terminal_of_any_width(width, note):
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=width, color_system=None)
    with draw_bar(console, "epoch 13/90", 1_281_167, str) as bar:
        bar.advance(412_672, note="loss 4.102  error 81.3%  lr 0.01")
        bar._bars.refresh()
        shown = re.split(r"\r|\n", re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", file.getvalue()))[-1]
    last = shown[shown.rindex("epoch 13/90") :]
    assert len(last.rstrip()) <= width
    assert "32%" in last
    assert note in last
