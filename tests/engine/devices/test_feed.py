"""Batches arrive on the device as they were made, and in order."""

import gc
import weakref

import numpy as np
import pytest
import torch

from alexnet_cli.data.loader import Batch
from alexnet_cli.engine.devices.feed import from_device, to_device

GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
CPU = torch.device("cpu")


def batches(sizes: list[int]) -> list[Batch]:
    rng = np.random.default_rng(0)
    return [
        Batch(
            rng.integers(0, 256, (size, 6, 5, 3), np.uint8),
            rng.integers(0, 1000, size),
            np.arange(size),
        )
        for size in sizes
    ]


@pytest.mark.parametrize("sizes", [[], [4], [4, 4, 1], [2, 0, 3]])
def test_images_and_labels_are_those_of_the_batches(sizes):
    expected = batches(sizes)

    found = list(to_device(expected, CPU))

    assert len(found) == len(sizes)
    for (images, labels), batch in zip(found, expected, strict=True):
        assert (images.dtype, labels.dtype) == (torch.uint8, torch.int64)
        np.testing.assert_array_equal(images, batch.images)
        np.testing.assert_array_equal(labels, batch.labels)


def test_nothing_is_copied_on_the_cpu():
    (batch,) = batches([3])

    ((images, _),) = to_device([batch], CPU)

    batch.images[0, 0, 0, 0] ^= 255
    assert images[0, 0, 0, 0] == batch.images[0, 0, 0, 0]


def test_batch_is_made_when_it_is_asked_for():
    made = []

    def make():
        for batch in batches([1, 1, 1]):
            made.append(batch)
            yield batch

    arriving = to_device(make(), CPU)
    assert made == []
    next(arriving)
    assert len(made) == 1


def test_batch_that_was_used_is_let_go():
    arriving = to_device(iter(batches([1, 1])), CPU)
    first = weakref.ref(next(arriving)[0])
    next(arriving)
    gc.collect()
    assert first() is None


def test_fault_of_the_reader_comes_through():
    def damaged():
        yield from batches([2])
        raise ValueError("cut short")

    arriving = to_device(damaged(), CPU)
    next(arriving)
    with pytest.raises(ValueError, match="cut short"):
        next(arriving)


@pytest.mark.gpu
@GPU
@pytest.mark.parametrize("sizes", [[], [4], [300, 300, 300, 7], [2, 0, 3]])
def test_gpu_gets_the_same(sizes):
    """Computing on each batch at once, while the next one is copied into the same memory."""
    device, expected = torch.device("cuda", 0), batches(sizes)

    sums = [
        (images.long().sum(), (images.long() * labels[:, None, None, None]).sum(), labels.clone())
        for images, labels in to_device(expected, device)
    ]

    assert len(sums) == len(sizes)
    for (total, weighted, labels), batch in zip(sums, expected, strict=True):
        assert labels.device == device
        np.testing.assert_array_equal(labels.cpu(), batch.labels)
        images = batch.images.astype(np.int64)
        assert total.item() == images.sum()
        assert weighted.item() == (images * batch.labels[:, None, None, None]).sum()


@pytest.mark.gpu
@GPU
def test_gpu_is_a_batch_ahead():
    made = []

    def make():
        for batch in batches([1, 1, 1]):
            made.append(batch)
            yield batch

    arriving = to_device(make(), torch.device("cuda", 0))
    next(arriving)
    assert len(made) == 2


def test_results_come_back_as_they_were():
    first, second = torch.arange(6.0).view(2, 3), torch.tensor([7, 8])
    wait = from_device(first, second)
    for found, expected in zip(wait(), (first, second), strict=True):
        np.testing.assert_array_equal(found, expected.numpy())
        assert found.dtype == expected.numpy().dtype


@pytest.mark.gpu
@GPU
def test_results_come_back_from_gpu_while_it_works_on():
    device = torch.device("cuda", 0)
    waits = [from_device(torch.full((1 << 20,), i, device=device)) for i in range(5)]
    busy = torch.ones(4096, 4096, device=device)
    for _ in range(20):
        busy = busy @ busy
    for i, wait in enumerate(waits):
        assert (wait()[0] == i).all()
