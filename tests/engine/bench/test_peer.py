"""torchvision's alexnet in its plain loop, on small batches."""

import pytest
import torch

from alexnet_cli.data.shards.dataset import open_dataset
from alexnet_cli.engine.bench.clock import Clock
from alexnet_cli.engine.bench.peer import Jpegs, Peer

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def peer() -> Peer:
    return Peer(10, Clock((CPU,), 0.0), "bf16", compiled=False)


def test_pictures_come_as_torchvision_makes_them(dataset):
    split = open_dataset(dataset).split("train")
    pictures = Jpegs(split, 64)

    patch, label = pictures[3]

    assert len(pictures) == len(split)
    assert (patch.shape, patch.dtype) == ((3, 64, 64), torch.float32)
    assert label == split.labels[3]
    assert -2.2 < patch.min() < patch.max() < 2.7


def test_steps_learn_and_those_from_jpegs_are_timed(peer, dataset, monkeypatch):
    monkeypatch.setattr("alexnet_cli.engine.bench.clock.FEWEST", 1)
    before = peer.net.classifier[6].weight.detach().clone()

    peer.on_drawn(2, 64)()

    assert not torch.equal(peer.net.classifier[6].weight, before)
    assert peer.from_jpegs(open_dataset(dataset).split("train"), 2, 64, num_workers=0) > 0


def test_weights_stay_float32(peer):
    assert {parameter.dtype for parameter in peer.net.parameters()} == {torch.float32}
