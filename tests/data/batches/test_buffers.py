"""Memory is reused, and never while anything refers to it."""

import threading

import numpy as np
import pytest
import torch

from alexnet_cli.data.batches.buffers import MAX_FREE, Buffers
from alexnet_cli.data.batches.loader import load_batches
from alexnet_cli.data.batches.readers import ProcessReader, SharedBuffers, ThreadReader
from alexnet_cli.data.shards.dataset import open_dataset

HOLDS = {
    "the array": lambda images: images,
    "a view": lambda images: images[-1:, ::2],
    "a view of a view": lambda images: images[:2].reshape(-1)[5:],
    "a tensor": torch.from_numpy,
    "an array of a tensor": lambda images: torch.from_numpy(images)[:1].numpy(),
    "a memoryview": memoryview,
}


def content(held) -> bytes:
    return np.asarray(held).tobytes()


@pytest.mark.parametrize("buffers", [Buffers, SharedBuffers])
@pytest.mark.parametrize("hold", HOLDS.values(), ids=HOLDS.keys())
def test_memory_is_reused_once_nothing_refers_to_it(buffers, hold):
    ring = buffers()
    images = ring.empty((2, 4, 4, 3))
    address = images.ctypes.data
    held = hold(images)
    del images

    other = ring.empty((2, 4, 4, 3))
    assert other.ctypes.data != address

    del held
    assert ring.empty((1, 4, 4, 3)).ctypes.data == address


def test_array_has_the_shape_asked_for_and_can_be_written_to():
    ring = Buffers()
    for shape in [(5, 4, 4, 3), (2, 4, 4, 3), (0, 4, 4, 3), (7, 4, 4, 3)]:
        images = ring.empty(shape)
        images[:] = 7
        assert (images.shape, images.dtype, images.flags.c_contiguous) == (shape, np.uint8, True)


def test_only_some_free_blocks_are_kept():
    made = []
    ring = Buffers(lambda num_bytes: made.append(num_bytes) or np.empty(num_bytes, np.uint8))

    held = [ring.empty((10,)) for _ in range(3 * MAX_FREE)]
    held.clear()
    held = [ring.empty((10,)) for _ in range(3 * MAX_FREE)]

    assert len(made) == 5 * MAX_FREE


def test_threads_never_get_the_same_memory():
    ring, wrong = Buffers(), []

    def use(number: int) -> None:
        for _ in range(2000):
            images = ring.empty((64,))
            images[:] = number
            if not (images == number).all():
                wrong.append(number)

    threads = [threading.Thread(target=use, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize("kind", ["threads", "processes"])
def test_batch_that_is_kept_is_never_overwritten(dataset, kind):
    split = open_dataset(dataset).split("train")
    reader = ThreadReader(3) if kind == "threads" else ProcessReader(split, 2)
    holds, addresses, num_batches = list(HOLDS.values()), set(), 0
    with reader:
        for seed in range(4):
            rng = np.random.default_rng(seed)
            order, held = rng.integers(0, len(split), 600), []
            for batch in load_batches(split, order, 8, reader=reader):
                num_batches += 1
                addresses.add(batch.images.ctypes.data)
                if rng.random() < 0.4:
                    kept = holds[rng.integers(len(holds))](batch.images)
                    held.append((kept, content(kept)))
                if len(held) > 6 or rng.random() < 0.3:
                    held = [pair for pair in held if rng.random() < 0.6]
                assert all(content(kept) == before for kept, before in held)
    assert len(addresses) < num_batches / 4  # or nothing was reused, and nothing tested
