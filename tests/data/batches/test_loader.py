import io
import os
import shutil
import threading
import zlib
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
from PIL import Image

from alexnet_cli.data.batches.loader import batches_of, epoch_order, load_batches
from alexnet_cli.data.dataset_ref import DatasetRef
from alexnet_cli.data.remote.tar_set import TarSet
from alexnet_cli.data.shards.dataset import Split, open_dataset
from alexnet_cli.errors import DatasetError, MachineError
from alexnet_cli.types import Batch, BatchShard


@pytest.fixture(scope="module")
def train(dataset) -> Split:
    """The 60 training samples. Read only."""
    return open_dataset(dataset).split("train")


def collect(batches) -> Batch:
    """Return all batches as one."""
    parts = list(batches)
    return Batch(*(np.concatenate([getattr(b, n) for b in parts]) for n in Batch.__slots__))


@pytest.mark.parametrize("batch_size", [1, 7, 16, 60, 100])
@pytest.mark.parametrize("num_threads", [1, 2, 4])
def test_samples_are_read_in_the_order_given(train, batch_size, num_threads):
    order = epoch_order(len(train), seed=3, epoch=0)
    whole = collect(load_batches(train, order, batch_size, num_threads=num_threads))
    np.testing.assert_array_equal(whole.positions, order)


@pytest.mark.parametrize("batch_size", [1, 7, 16, 60, 100])
def test_all_batches_but_the_last_are_full(train, batch_size):
    sizes = [len(b.labels) for b in load_batches(train, np.arange(60), batch_size)]
    assert sizes[:-1] == [batch_size] * (len(sizes) - 1)
    assert sum(sizes) == 60


@pytest.mark.parametrize("num_threads", [1, 3])
def test_pixels_and_labels_do_not_depend_on_the_batches(train, num_threads):
    order = epoch_order(len(train), seed=3, epoch=1)
    reference = collect(load_batches(train, order, 60, num_threads=1))
    whole = collect(load_batches(train, order, 19, num_threads=num_threads))
    np.testing.assert_array_equal(whole.images, reference.images)
    np.testing.assert_array_equal(whole.labels, reference.labels)


def test_pixels_are_those_of_the_jpeg(train):
    order = np.array([59, 0, 30, 31, 7])
    (batch,) = load_batches(train, order, 5)
    for image, position in zip(batch.images, order.tolist(), strict=True):
        expected = simplejpeg.decode_jpeg(bytes(train.jpeg(position)), "RGB")
        np.testing.assert_array_equal(image, expected)


def test_pixels_are_those_pillow_sees_within_two_levels(train):
    (batch,) = load_batches(train, np.arange(4), 4)
    for image, position in zip(batch.images, range(4), strict=True):
        pillow = np.asarray(Image.open(io.BytesIO(train.jpeg(position))).convert("RGB"))
        assert np.abs(image.astype(int) - pillow.astype(int)).max() <= 2


def test_labels_are_those_of_the_samples(train):
    order = epoch_order(len(train), seed=9, epoch=0)
    whole = collect(load_batches(train, order, 8))
    np.testing.assert_array_equal(whole.labels, train.labels[order])


def test_batch_is_uint8_rgb_of_the_datasets_size_with_int64_labels(train):
    batch = next(load_batches(train, np.arange(60), 6))
    assert (batch.images.shape, batch.images.dtype) == ((6, 112, 112, 3), np.uint8)
    assert batch.labels.dtype == np.int64


def test_positions_may_be_repeated(train):
    whole = collect(load_batches(train, np.array([5, 5, 2]), 2))
    np.testing.assert_array_equal(whole.images[0], whole.images[1])
    np.testing.assert_array_equal(whole.positions, [5, 5, 2])


def test_no_samples_make_no_batches(train):
    assert list(load_batches(train, np.arange(0), 4)) == []


def test_later_batch_does_not_write_into_an_earlier_one(train):
    batches = load_batches(train, np.arange(60), 6)
    first = next(batches)
    before = first.images.copy()
    list(batches)
    np.testing.assert_array_equal(first.images, before)


@pytest.mark.timeout(20)
def test_reading_may_stop_at_any_batch(train):
    batches = load_batches(train, np.arange(60), 2, num_threads=2)
    next(batches)
    batches.close()
    assert len(collect(load_batches(train, np.arange(60), 10)).labels) == 60


def joined(
    split: Split, order: np.ndarray, batch_size: int, num_replicas: int, num_threads: int = 2
) -> list[Batch]:
    """Return the batches of all replicas, those of one step put together in the replicas' order."""
    shares = [BatchShard(rank, num_replicas) for rank in range(num_replicas)]
    read = [
        load_batches(split, order, batch_size, share=s, num_threads=num_threads) for s in shares
    ]
    return [collect(step) for step in zip(*read, strict=True)]


@pytest.mark.parametrize("num_threads", [1, 2, 3, 8])
@pytest.mark.parametrize("num_replicas", [1, 2, 4])
def test_replicas_together_see_every_sample_once_an_epoch_whatever_the_batch_size(
    train, num_replicas, num_threads
):
    rng = np.random.default_rng([num_replicas, num_threads])
    for batch_size in (1, 3, 60, 100, *rng.integers(4, 60, 3).tolist()):
        order = epoch_order(60, seed=batch_size, epoch=num_threads)
        steps = joined(train, order, batch_size, num_replicas, num_threads)
        assert [len(step.labels) for step in steps[:-1]] == [batch_size] * (len(steps) - 1)
        seen = collect(steps)
        np.testing.assert_array_equal(seen.positions, order)
        np.testing.assert_array_equal(np.sort(seen.positions), np.arange(60))
        np.testing.assert_array_equal(seen.labels, train.labels[order])


@pytest.mark.parametrize("num_replicas", [1, 2, 4])
@pytest.mark.parametrize("batch_size", [1, 7, 16, 60])
def test_rest_of_an_epoch_is_the_same_wherever_it_was_stopped(train, batch_size, num_replicas):
    order = epoch_order(60, seed=5, epoch=2)
    whole = joined(train, order, batch_size, 1)
    for step in {0, 1, len(whole) // 3, len(whole) - 1, len(whole)}:
        rest = joined(train, order[step * batch_size :], batch_size, num_replicas)
        assert len(rest) == len(whole) - step
        for expected, found in zip(whole[step:], rest, strict=True):
            np.testing.assert_array_equal(found.positions, expected.positions)
            np.testing.assert_array_equal(found.images, expected.images)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("num", [0, 1, 2, 5, 128])
def test_batch_shards_are_all_rows_in_order_and_differ_by_one_at_most(num, count):
    parts = [range(num)[BatchShard(rank, count).rows(num)] for rank in range(count)]
    assert [row for part in parts for row in part] == list(range(num))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def damage(folder: Path, position: int, content: bytes) -> Split:
    """Write `content` over one training sample's JPEG and open the split."""
    split = open_dataset(folder).split("train")
    shard, offset, length = split.samples[position].item()[:3]
    with (folder / split.shards[shard].name).open("r+b") as file:
        file.seek(offset)
        file.write(content[:length].ljust(length, b"\0"))
    return open_dataset(folder).split("train")


def other_size() -> bytes:
    return simplejpeg.encode_jpeg(np.zeros((64, 112, 3), np.uint8))


def huge() -> bytes:
    """Return a small JPEG that says it has 65,500 x 65,500 pixels, 12.9 GB."""
    jpeg = bytearray(simplejpeg.encode_jpeg(np.zeros((112, 112, 3), np.uint8)))
    place = jpeg.index(b"\xff\xc0") + 5
    jpeg[place : place + 4] = b"\xff\xdc" * 2
    return bytes(jpeg)


def larger() -> bytes:
    return simplejpeg.encode_jpeg(np.zeros((160, 160, 3), np.uint8), quality=10)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="zeros"),
        pytest.param(b"rubbish" * 1000, id="rubbish"),
        pytest.param(other_size(), id="a smaller image"),
        pytest.param(larger(), id="a larger image"),
    ],
)
@pytest.mark.parametrize("position", [0, 37])
def test_damaged_sample_is_named_with_shard_and_key(copy, content, position):
    split = damage(copy, position, content)
    expected = f"train-{position // 25:06d}.tar: sample train-{position:08d}"
    with pytest.raises(DatasetError, match=expected):
        list(load_batches(split, np.arange(60), 16))


@pytest.mark.parametrize(
    "content", [other_size(), larger(), huge()], ids=["small", "large", "huge"]
)
def test_image_of_another_size_is_refused_though_its_checksum_matches(copy, content):
    split = damage(copy, 5, content)
    shard, offset, length = split.samples[5].item()[:3]
    with (copy / split.shards[shard].name).open("rb") as file:
        file.seek(offset)
        split.samples["crc32"][5] = zlib.crc32(file.read(length))
    with pytest.raises(DatasetError, match="sample train-00000005"):
        list(load_batches(split, np.arange(60), 16))


def test_truncated_jpeg_is_named_with_shard_and_key(copy):
    split = open_dataset(copy).split("train")
    jpeg = bytes(split.jpeg(26))
    split = damage(copy, 26, jpeg[: len(jpeg) // 2])
    with pytest.raises(DatasetError, match=r"train-000001.tar: sample train-00000026"):
        list(load_batches(split, np.arange(60), 16))


def test_changed_image_that_decodes_is_named(copy):
    split = open_dataset(copy).split("train")
    jpeg = bytearray(split.jpeg(37))
    jpeg[-3] ^= 1  # the last bits of the scan: it decodes as before, a few pixels differ
    assert simplejpeg.decode_jpeg(bytes(jpeg), "RGB").shape == (112, 112, 3)
    split = damage(copy, 37, bytes(jpeg))
    with pytest.raises(DatasetError, match=r"train-000001.tar: sample train-00000037 is not what"):
        list(load_batches(split, np.arange(60), 16))


@pytest.mark.timeout(20)
@pytest.mark.parametrize("size", [0, 512, 100_000])
def test_shard_truncated_while_it_is_read_raises_a_machine_error(copy, size):
    batches = load_batches(open_dataset(copy).split("train"), np.resize(np.arange(60), 6000), 16)
    next(batches)
    os.truncate(copy / "train-000001.tar", size)
    with pytest.raises(MachineError, match=r"train-000001.tar: "):
        list(batches)


def test_batches_before_a_damaged_sample_are_read(copy):
    split = damage(copy, 50, b"")
    batches = load_batches(split, np.arange(60), 10, num_threads=2)
    assert [next(batches).positions[0] for _ in range(5)] == [0, 10, 20, 30, 40]
    with pytest.raises(DatasetError):
        next(batches)


@pytest.mark.timeout(20)
def test_damaged_sample_leaves_no_thread_behind(copy):
    split = damage(copy, 0, b"")
    before = threading.active_count()
    with pytest.raises(DatasetError):
        list(load_batches(split, np.arange(60), 4, num_threads=4))
    assert threading.active_count() <= before


def test_epochs_order_holds_every_sample_once():
    for num_samples in (1, 2, 60, 1000):
        order = epoch_order(num_samples, seed=1, epoch=4)
        np.testing.assert_array_equal(np.sort(order), np.arange(num_samples))


def test_order_is_the_same_for_the_same_seed_and_epoch():
    np.testing.assert_array_equal(epoch_order(500, 7, 3), epoch_order(500, 7, 3))


def test_order_differs_between_epochs_and_seeds():
    orders = {epoch_order(500, seed, epoch).tobytes() for seed in range(4) for epoch in range(4)}
    assert len(orders) == 16


def test_every_sample_can_be_the_first():
    firsts = {int(epoch_order(5, 0, epoch)[0]) for epoch in range(60)}
    assert firsts == set(range(5))


@pytest.fixture
def both(dataset, tmp_path, cache):
    folder = tmp_path / "tars"
    folder.mkdir()
    for path in dataset.glob("*.tar"):
        shutil.copy(path, folder)
    streamed = DatasetRef(TarSet(str(folder))).open(("train", "val"))
    return open_dataset(dataset), streamed


def test_indexed_and_streamed_batches_are_the_same_in_stored_order(both):
    indexed, streamed = both
    assert [c.wnid for c in indexed.classes] == [c.wnid for c in streamed.classes]
    assert indexed.image_size == streamed.image_size
    for name in ("train", "val"):
        pair = (batches_of(dataset.split(name), 7) for dataset in both)
        for mine, theirs in zip(*pair, strict=True):
            assert (mine.images == theirs.images).all()
            assert (mine.labels == theirs.labels).all()
            assert (mine.positions == theirs.positions).all()


def test_indexed_and_streamed_epochs_hold_every_sample_once_and_resume(both):
    for dataset in both:
        split = dataset.split("train")
        whole = list(batches_of(split, 8, shuffle=(5, 2)))
        found = np.concatenate([batch.positions for batch in whole])
        assert sorted(found) == list(range(len(split)))
        rest = list(batches_of(split, 8, shuffle=(5, 2), first_step=3, num_threads=1))
        assert all((a.images == b.images).all() for a, b in zip(whole[3:], rest, strict=True))
        share = list(batches_of(split, 8, shuffle=(5, 2), share=BatchShard(1, 2)))
        assert all(
            (b.labels == a.labels[4:]).all() for a, b in zip(whole[:-1], share[:-1], strict=True)
        )


def test_indexed_order_is_the_exact_permutation(both):
    split = both[0].split("train")
    found = np.concatenate([batch.positions for batch in batches_of(split, 8, shuffle=(5, 2))])
    assert (found == epoch_order(len(split), 5, 2)).all()
