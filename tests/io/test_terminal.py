"""Numbers as blocks, and the streams that can show them."""

import io
import math

import pytest

from alexnet_cli.io.terminal import BLOCKS, shows_blocks, spark_line


class Terminal(io.StringIO):
    def __init__(self, encoding: str = "utf-8", is_terminal: bool = True):
        super().__init__()
        self._encoding, self._is_terminal = encoding, is_terminal

    @property
    def encoding(self) -> str:
        return self._encoding

    def isatty(self) -> bool:
        return self._is_terminal


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (range(8), "01234567"),
        ([3, 2, 1], "740"),
        ([5, 5], "00"),
        ([], ""),
        ([1.0, math.nan, 2.0, math.inf], "0 7 "),
        ([1e-9, 2e-9], "07"),
        ([-4, 4, 0], "074"),
    ],
)
def test_heights_are_between_the_lowest_and_the_highest(values, expected):
    line = spark_line(list(values))
    assert "".join(" " if block == " " else str(BLOCKS.index(block)) for block in line) == expected


def test_blocks_need_a_terminal_that_is_utf_8(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    assert shows_blocks(Terminal())
    assert not shows_blocks(Terminal(is_terminal=False))
    assert not shows_blocks(Terminal("ascii"))
    assert not shows_blocks(Terminal("cp1252"))
    monkeypatch.setenv("TERM", "dumb")
    assert not shows_blocks(Terminal())
