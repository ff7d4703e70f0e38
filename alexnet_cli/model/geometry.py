"""Which pixels the windows of a layer cover, as the 2012 code counts them; no torch here."""

import math

import numpy as np

# Runs 120 to 141: a Gaussian of standard deviation 4 cut to 9 taps, every fourth pixel from the
# third, windows of 5 x 5 every 2 of those (2012: layers-137.cfg, layer.py:420).
BLUR_TAPS, BLUR_STD, KEPT_FIRST, KEPT_EVERY = 9, 4.0, 2, 4
LOW_WINDOW, LOW_STRIDE = 5, 2


def conv_output_size(size: int, window: int, stride: int, pad: int) -> int:
    """Return the side of a convolution's output, rounded up (2012: layer.py:1004)."""
    return 1 + math.ceil((2 * pad + size - window) / stride)


def overhang(size: int, window: int, stride: int, pad: int) -> int:
    """Return the zeros a convolution needs right and bottom beyond `pad`.

    The last window may hang over, and reads zeros there: 224 -> 55 in conv1 with 3 of them.
    """
    last = (conv_output_size(size, window, stride, pad) - 1) * stride
    return last + window - (size + 2 * pad)


def pool_output_size(size: int, window: int, stride: int) -> int:
    """Return the side of a pooling layer's output; windows may hang over right and bottom."""
    return 1 + math.ceil((size - window) / stride)


def blur_pads(size: int) -> tuple[int, int]:
    """Return the zeros before and after an image that make blur and choice one convolution."""
    near = BLUR_TAPS // 2 - KEPT_FIRST
    last = (low_resolution_size(size) - 1) * KEPT_EVERY
    return near, last + BLUR_TAPS - near - size


def low_resolution_pads(size: int) -> tuple[int, int, int]:
    """Return `blur_pads`, and the zeros right and bottom that the small image's windows read."""
    return *blur_pads(size), overhang(low_resolution_size(size), LOW_WINDOW, LOW_STRIDE, 0)


def low_resolution_output_size(size: int) -> int:
    """Return the side of what the windows of the small image give: 224 -> 27."""
    return conv_output_size(low_resolution_size(size), LOW_WINDOW, LOW_STRIDE, 0)


def low_resolution_size(size: int) -> int:
    """Return the side of the small blurred image: 224 -> 56."""
    return math.ceil((size - KEPT_FIRST) / KEPT_EVERY)


def blur_window() -> np.ndarray:
    """Return the Gaussian, normalized: float32 (taps, taps)."""
    line = np.exp(-0.5 * ((np.arange(BLUR_TAPS) - BLUR_TAPS // 2) / BLUR_STD) ** 2)
    line /= line.sum()
    return np.outer(line, line).astype(np.float32)
