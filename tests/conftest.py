"""Shared fixtures: a small generated release and what each command makes of it, built once."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from alexnet_cli.cli import app
from alexnet_cli.commands.pca import pca
from alexnet_cli.commands.prep import PrepOptions, prep
from alexnet_cli.commands.train import train
from alexnet_cli.data.demo_release import write_demo_release
from alexnet_cli.recipe import PAPER, Recipe
from alexnet_cli.settings import widen

torch.set_num_threads(1)

# A sixteenth of the paper's kernels on 99-pixel patches: a step takes milliseconds.
TINY = replace(
    widen(PAPER, 1 / 16),
    name="paper",
    crop_size=99,
    batch_size=16,
    epochs=2,
    schedule="linear",
    learning_rate=0.005,
)
IMAGE_SIZE = 112


@pytest.fixture(scope="session")
def tiny_recipe() -> Recipe:
    """A network small enough to train in a test."""
    return TINY


@pytest.fixture(scope="session")
def release(tmp_path_factory) -> Path:
    """Generated pictures in the layout of the official archives: 10 classes, 60 train, 30 val."""
    folder = tmp_path_factory.mktemp("release")
    write_demo_release(folder, images_per_class=6, val_per_class=3, seed=7)
    return folder


@pytest.fixture(scope="session")
def dataset(release, tmp_path_factory) -> Path:
    """Shards of 25 pictures of the release at 112 pixels, with pixel statistics. Read only."""
    folder = tmp_path_factory.mktemp("datasets") / "tiny"
    prep(release, folder, PrepOptions(size=IMAGE_SIZE, shard_size=25), num_workers=1)
    pca(folder)
    return folder


@dataclass(frozen=True)
class Runs:
    """Two runs that differ only in their seed."""

    first: Path
    second: Path


@pytest.fixture(scope="session")
def runs(dataset, tmp_path_factory) -> Runs:
    """Two finished runs of two epochs. Read only."""
    folder = tmp_path_factory.mktemp("runs")
    for name, seed in (("first", 1), ("second", 2)):
        train(dataset, folder / name, replace(TINY, seed=seed), device="cpu")
    return Runs(folder / "first", folder / "second")


@pytest.fixture(scope="session")
def checkpoint(runs) -> Path:
    """A checkpoint of the first run. Read only."""
    return runs.first / "best.safetensors"


@pytest.fixture
def alexnet():
    """Call the command line in this process: `alexnet("prep", source, dataset)`."""
    runner = CliRunner()

    def call(*arguments):
        return runner.invoke(app, [str(argument) for argument in arguments])

    return call
