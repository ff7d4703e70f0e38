"""A ring of reusable memory for batches: new memory costs page faults, 40 us per 256-pixel image.

Memory is reused only when the last reference to it is gone: the array, its views, and tensors made
of them.
"""

import math
from collections import deque
from collections.abc import Callable

import numpy as np

MAX_FREE = 8  # blocks kept for reuse; batches read ahead take four, their consumer two or three


def plain_memory(num_bytes: int) -> np.ndarray:
    """Return new memory of this process, uint8 (num_bytes,)."""
    return np.empty(num_bytes, np.uint8)


class _Loan:
    """Owns a block while any array refers to it, then returns it to the ring.

    NumPy keeps this object as the base of every view, and torch keeps the array.
    """

    def __init__(self, block: np.ndarray, shape: tuple[int, ...], free: deque[np.ndarray]):
        self._block, self._free = block, free
        lent = block[: math.prod(shape)].reshape(shape)
        self.__array_interface__ = lent.__array_interface__

    def __del__(self) -> None:
        self._free.append(self._block)


class Buffers:
    """Lends memory for batches, from any thread.

    Args:
        allocate: returns new memory, uint8 (num_bytes,).
        max_free: blocks kept for reuse; None for all.
    """

    def __init__(
        self,
        allocate: Callable[[int], np.ndarray] = plain_memory,
        max_free: int | None = MAX_FREE,
    ):
        self._allocate = allocate
        self._free: deque[np.ndarray] = deque(maxlen=max_free)

    def empty(self, shape: tuple[int, ...]) -> np.ndarray:
        """Return a uint8 array with arbitrary content; nothing else refers to its memory."""
        num_bytes = math.prod(shape)
        block = self._free.pop() if self._free else None
        if block is None or len(block) < num_bytes:
            block = self._allocate(num_bytes)
        return np.asarray(_Loan(block, shape, self._free))
