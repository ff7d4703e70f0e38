"""Batches arrive on the device as they were made, and in order."""

import gc
import weakref

import numpy as np
import pytest
import torch

from alexnet_cli.data.batches.buffers import Buffers
from alexnet_cli.data.batches.loader import epoch_order, load_batches
from alexnet_cli.data.batches.readers import ProcessReader, ThreadReader
from alexnet_cli.data.shards.dataset import open_dataset
from alexnet_cli.distributed.prefetch import (
    MIN_PROCESSES,
    HeldBatches,
    from_device,
    open_reader,
    to_device,
)
from alexnet_cli.types import Batch

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


class Copy:
    """An event of a copy that is complete when the test decides."""

    def __init__(self):
        self.is_complete, self.waited = False, False

    def query(self) -> bool:
        return self.is_complete

    def synchronize(self) -> None:
        self.waited = self.is_complete = True


def test_memory_of_batch_is_not_reused_before_its_copy_is_complete():
    ring, copies, addresses = Buffers(), [Copy() for _ in range(6)], []
    with HeldBatches() as held:
        for number, copy in enumerate(copies):
            images = ring.empty((2, 4, 4, 3))
            addresses.append(images.ctypes.data)
            held.add(Batch(images, np.zeros(2), np.arange(2)), copy)
            del images
            if number == 3:
                copies[0].is_complete = copies[1].is_complete = True
    assert len(set(addresses[:5])) == 5
    assert addresses[5] in addresses[:2]
    assert [copy.waited for copy in copies] == [False, False, True, True, True, True]


@pytest.mark.parametrize("num_threads", [1, MIN_PROCESSES])
def test_reader_for_cpu_reads_with_threads(dataset, num_threads):
    split = open_dataset(dataset).split("train")
    with open_reader(split, CPU, num_threads) as reader:
        assert isinstance(reader, ThreadReader)
        assert (
            sum(len(b.labels) for b in load_batches(split, np.arange(60), 7, reader=reader)) == 60
        )


@pytest.mark.gpu
@GPU
@pytest.mark.parametrize("num_threads", [2, MIN_PROCESSES])
def test_reader_for_gpu_reads_into_pinned_memory(dataset, num_threads):
    split, device = open_dataset(dataset).split("train"), torch.device("cuda", 0)
    with open_reader(split, device, num_threads) as reader:
        assert isinstance(reader, ProcessReader) == (num_threads >= MIN_PROCESSES)
        for epoch in range(3):
            order = epoch_order(60, 0, epoch)
            expected = load_batches(split, order, 8, num_threads=1)
            batches = load_batches(split, order, 8, reader=reader)
            assert torch.from_numpy(next(batches).images).is_pinned()
            arrived = to_device(load_batches(split, order, 8, reader=reader), device)
            for (images, labels), batch in zip(arrived, expected, strict=True):
                np.testing.assert_array_equal(images.cpu(), batch.images)
                np.testing.assert_array_equal(labels.cpu(), batch.labels)


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
