"""One way to read both kinds of splits: the same samples, each once, in any order and share."""

import shutil

import numpy as np
import pytest

from alexnet_cli.data.batches.loader import Share, epoch_order
from alexnet_cli.data.batches.order import batches_of
from alexnet_cli.data.dataset_ref import open_source
from alexnet_cli.data.remote.tar_set import TarSet
from alexnet_cli.data.shards.dataset import open_dataset


@pytest.fixture
def both(dataset, tmp_path, cache):
    folder = tmp_path / "tars"
    folder.mkdir()
    for path in dataset.glob("*.tar"):
        shutil.copy(path, folder)
    streamed = open_source(TarSet(str(folder)), ("train", "val"))
    return open_dataset(dataset), streamed


def test_both_readers_give_the_same_batches_in_stored_order(both):
    indexed, streamed = both
    assert [c.wnid for c in indexed.classes] == [c.wnid for c in streamed.classes]
    assert indexed.image_size == streamed.image_size
    for name in ("train", "val"):
        pair = (batches_of(dataset.split(name), 7) for dataset in both)
        for mine, theirs in zip(*pair, strict=True):
            assert (mine.images == theirs.images).all()
            assert (mine.labels == theirs.labels).all()
            assert (mine.positions == theirs.positions).all()


def test_both_readers_give_every_sample_once_shuffled_and_go_on(both):
    for dataset in both:
        split = dataset.split("train")
        whole = list(batches_of(split, 8, shuffle=(5, 2)))
        found = np.concatenate([batch.positions for batch in whole])
        assert sorted(found) == list(range(len(split)))
        rest = list(batches_of(split, 8, shuffle=(5, 2), first_step=3, num_threads=1))
        assert all((a.images == b.images).all() for a, b in zip(whole[3:], rest, strict=True))
        share = list(batches_of(split, 8, shuffle=(5, 2), share=Share(1, 2)))
        assert all(
            (b.labels == a.labels[4:]).all() for a, b in zip(whole[:-1], share[:-1], strict=True)
        )


def test_indexed_order_is_the_exact_permutation(both):
    split = both[0].split("train")
    found = np.concatenate([batch.positions for batch in batches_of(split, 8, shuffle=(5, 2))])
    assert (found == epoch_order(len(split), 5, 2)).all()
