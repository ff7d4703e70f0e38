"""What a terminal can show, and numbers as a line of blocks."""

import math
import os
from collections.abc import Sequence
from typing import TextIO

BLOCKS = "\u2581\u2582\u2583\u2584\u2585\u2586\u2587\u2588"  # one to eight eighths high


def shows_blocks(stream: TextIO) -> bool:
    """Return whether a stream is a terminal that can show block characters."""
    is_utf8 = "utf" in (getattr(stream, "encoding", None) or "").lower()
    return is_utf8 and stream.isatty() and os.environ.get("TERM", "") not in ("dumb", "unknown")


def spark_line(values: Sequence[float]) -> str:
    """Return a block for each number, a space for those that are not finite; the lowest is low."""
    finite = [value for value in values if math.isfinite(value)]
    low, high = min(finite, default=0.0), max(finite, default=0.0)
    step = (high - low) / (len(BLOCKS) - 1) or 1.0
    return "".join(
        BLOCKS[round((value - low) / step)] if math.isfinite(value) else " " for value in values
    )
