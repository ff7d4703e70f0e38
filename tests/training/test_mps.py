"""Training and evaluation keep off the GPU of a Mac what it lacks; see `mps_like`."""

from contextlib import closing, nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from mps_like import CPU, MPS, MpsLike

from alexnet_cli.bench.stages import drawn_stats
from alexnet_cli.data.batches.loader import batches_of
from alexnet_cli.data.shards.dataset import open_dataset
from alexnet_cli.data.transforms import copy_async
from alexnet_cli.distributed.device_plan import Runtime
from alexnet_cli.inference.classifier import build_classifier
from alexnet_cli.inference.predict_split import predict_split
from alexnet_cli.model.checkpoint import TrainState, load_checkpoint
from alexnet_cli.model.schedule import learning_rates_at
from alexnet_cli.recipes.catalog import find_recipe
from alexnet_cli.recipes.overrides import widen
from alexnet_cli.training.activations import explain_not_learning, first_crops
from alexnet_cli.training.run_directory import RunDirectory
from alexnet_cli.training.train_step import TrainStep
from alexnet_cli.training.trainer import Trainer


def train_on(device, dataset: Path, recipe, run: Path) -> Trainer:
    """Train a run, in whatever mode is active."""
    opened = open_dataset(dataset)
    stats = opened.load_pixel_stats()
    step = TrainStep(recipe, len(opened.classes), stats, Runtime((device,)))
    trainer = Trainer(step, opened, RunDirectory(run))
    trainer.run.create(recipe)
    trainer.start()
    trainer.train()
    return trainer


def test_run_learns_what_it_learns_on_a_cpu(dataset, tiny_recipe, tmp_path):
    recipe = replace(tiny_recipe, epochs=1, ema_decay=0.9, label_smoothing=0.1)
    with MpsLike() as mode:
        found = train_on(MPS, dataset, recipe, tmp_path / "mps")
    expected = train_on(CPU, dataset, recipe, tmp_path / "cpu")
    assert "aten.convolution_backward.default" in mode.operations
    assert all(p.device == MPS for p in found.train_step.net.parameters())
    mine, theirs = (
        load_checkpoint(tmp_path / name / "last.safetensors", with_optimizer=True)
        for name in ("mps", "cpu")
    )
    for kind in ("weights", "optimizer", "ema"):
        for name, array in getattr(theirs, kind).items():
            np.testing.assert_allclose(getattr(mine, kind)[name], array, rtol=1e-3, atol=1e-6)
    row, usual = found.run.rows()[0], expected.run.rows()[0]
    assert row["train_loss"] == pytest.approx(usual["train_loss"], rel=1e-5)
    assert row["val"] == pytest.approx(usual["val"], rel=1e-5)


def test_run_is_resumed_and_explained_and_copied(dataset, tiny_recipe, tmp_path):
    recipe = replace(tiny_recipe, epochs=1, ema_decay=0.9)
    with MpsLike():
        found = train_on(MPS, dataset, recipe, tmp_path / "mps")
        found.restore(load_checkpoint(found.run.last, with_optimizer=True))
        found._read_tally()
        found._checkpoint()
        crops, _ = first_crops(found.split, found.train_step.augmenter, 8)
        lines = explain_not_learning(3.0, 1, found.train_step.net, crops)
    assert "still at chance level" in lines[0]


def test_probabilities_are_those_of_a_cpu(checkpoint, dataset):
    opened, loaded = open_dataset(dataset), load_checkpoint(checkpoint)
    with MpsLike() as mode:
        on_mps = build_classifier(loaded, Runtime((MPS,)), checkpoint)
        found = predict_split(on_mps, opened, "val", num_views=10)
        one = on_mps.probabilities(found_images(opened), on_mps.views(1))
    on_cpu = build_classifier(loaded, Runtime((CPU,)), checkpoint)
    expected = predict_split(on_cpu, opened, "val", num_views=10)
    assert any("softmax" in name for name in mode.operations)
    np.testing.assert_allclose(found.probs, expected.probs, rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(one[0], expected.center_probs, rtol=1e-4, atol=1e-7)


def found_images(opened) -> np.ndarray:
    split = opened.split("val")
    with closing(batches_of(split, len(split))) as batches:
        return next(batches).images


RECIPES = ("cifar-13pct", "cifar-11pct", "five-cnns-137", "average-pooling", "tanh", "no-overlap")


@pytest.mark.parametrize("name", RECIPES)
def test_step_of_every_kind_of_layer(name):
    recipe = widen(find_recipe(name), 1 / 16 if "cifar" not in name else 1 / 8)
    side = recipe.crop_size + 8
    stats, rng = drawn_stats(side), np.random.default_rng(0)
    images = rng.integers(0, 256, (4, side, side, 3), dtype=np.uint8)
    losses = {}
    for device in (MPS, CPU):
        with MpsLike() if device == MPS else nullcontext():
            step = TrainStep(recipe, 5, stats, Runtime((device,)))
            step.begin()
            rates = learning_rates_at(recipe, 0.0, [])
            batch = (copy_async(images, device), copy_async(np.arange(4), device))
            tally = torch.zeros(3).to(device)
            for number in range(2):
                loss = step.loss(batch, TrainState(step=number), 4, tally)
                step.update(loss, rates, number + 1)
            losses[device] = tally.cpu().tolist()
    assert losses[MPS] == pytest.approx(losses[CPU], rel=1e-3)


def test_device_refuses_what_a_mac_lacks():
    with MpsLike():
        x = torch.ones(2, 3).to(MPS)
        with pytest.raises(TypeError, match="float64"):
            x.double()
        with pytest.raises(TypeError, match="float64"):
            torch.zeros(2, dtype=torch.float64, device=MPS)
        with pytest.raises(RuntimeError, match="on cpu"):
            x + torch.ones(2, 3)
        with pytest.raises(RuntimeError, match="before it is complete"):
            x.to("cpu", non_blocking=True)
        image = torch.ones(1, 2, 4, 4).contiguous(memory_format=torch.channels_last).to(MPS)
        with pytest.raises(RuntimeError, match="channels last"):
            torch.nn.functional.conv2d(image, torch.ones(1, 2, 3, 3).to(MPS))
