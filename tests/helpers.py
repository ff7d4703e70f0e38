"""What several test files need: images, files, and a progress that listens."""

import hashlib
import importlib.machinery
import importlib.util
import io
import json
import re
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from alexnet_cli.cli import hints
from alexnet_cli.cli.hints import message
from alexnet_cli.data.dataset_ref import DatasetRef
from alexnet_cli.distributed.device_plan import Runtime
from alexnet_cli.distributed.runtime_config import RuntimeConfig
from alexnet_cli.errors import AlexNetError
from alexnet_cli.inference.classifier import build_classifier
from alexnet_cli.inference.evaluate import EvalRequest, EvalResult
from alexnet_cli.inference.evaluate import evaluate as run_evaluate
from alexnet_cli.inference.predict_split import open_pair, predict_split
from alexnet_cli.inference.predictions import Predictions
from alexnet_cli.io.progress import SILENT
from alexnet_cli.model.checkpoint import Checkpoint, TrainState, load_checkpoint
from alexnet_cli.recipes.recipe import Recipe
from alexnet_cli.recipes.small import DEMO
from alexnet_cli.training.run import TrainRequest, TrainResult
from alexnet_cli.training.run import train as run_train

CPU = torch.device("cpu")
RUNTIME_FIELDS = ("device", "num_devices", "columns", "precision", "compiled")


class Listener:
    """A progress that keeps what is reported; tests that act on it override `advance`."""

    def __init__(self):
        self.what, self.total, self.done = "", None, 0
        self.lines, self.notes = [], []

    def say(self, line: str) -> None:
        self.lines.append(hints.sentence(line))

    @contextmanager
    def track(self, what: str, total: int | None = None) -> Iterator["Listener"]:
        self.what, self.total = what, total
        yield self

    def advance(self, count: int = 1, note: str = "") -> None:
        self.done += count
        self.notes.append(note)


@contextmanager
def refused(kind: type[AlexNetError], pattern: str) -> Iterator[pytest.ExceptionInfo]:
    """Expect an error that is shown as at most three lines, which match a pattern."""
    with pytest.raises(kind) as caught:
        yield caught
    lines = message(caught.value)
    assert re.search(pattern, lines), lines
    assert lines.count("\n") < 3


def files_of(folder: Path) -> dict[str, bytes]:
    """Return every file below a folder."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def flip(path: Path, place: int) -> None:
    """Turn one bit of a file."""
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def edit_index(folder: Path, change: Callable[[dict], None], *, sign: bool = False) -> None:
    """Change index.json of a dataset; `sign` gives it the checksum of its new content."""
    path = folder / "index.json"
    content = json.loads(path.read_text())
    change(content)
    if sign:
        del content["checksum"]
        text = json.dumps(content, sort_keys=True)
        content["checksum"] = hashlib.sha256(text.encode()).hexdigest()
    path.write_text(json.dumps(content))


def draw_image(height: int, width: int, *, seed: int = 0) -> np.ndarray:
    """Return smooth colors with edges and some noise, uint8 RGB (height, width, 3)."""
    rng = np.random.default_rng([seed, height, width])
    small = rng.integers(0, 256, (5, 5, 3), dtype=np.uint8)
    pixels = np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))
    pixels = pixels.astype(int) + rng.integers(-12, 13, (height, width, 1))
    pixels[height // 3 : height // 2, width // 4 :] = (250, 10, 120)
    return pixels.clip(0, 255).astype(np.uint8)


def encoded(pixels: np.ndarray | Image.Image, kind: str = "PNG", **options) -> bytes:
    """Return an image as a file."""
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def tar_of(files: dict[str, bytes]) -> bytes:
    """Return a tar of files by name."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return file.getvalue()


def tar_header(name: str, size: int, kind: bytes) -> bytes:
    """Return the header block of a member of any type, whose content does not follow."""
    member = tarfile.TarInfo(name)
    member.size, member.type = size, kind
    return member.tobuf(tarfile.GNU_FORMAT)


def levels_apart(a: np.ndarray, b: np.ndarray) -> int:
    """Return the largest difference of two images."""
    return int(np.abs(a.astype(int) - b.astype(int)).max())


def a_checkpoint(epoch: int) -> Checkpoint:
    """Return a small checkpoint, other weights at every epoch."""
    tensor = np.full((2, 2), epoch, np.float32)
    return Checkpoint(
        recipe=DEMO,
        weights={"a.weight": tensor},
        optimizer={"a.weight.momentum_buffer": -tensor},
        pixels={},
        classes=[("n01", "one")],
        fingerprint="f",
        train_state=TrainState(epoch=epoch),
    )


def split_options(options: dict) -> tuple[RuntimeConfig, dict]:
    """Return the configuration that options name, on the CPU by default, and the others."""
    runtime = {name: options.pop(name) for name in RUNTIME_FIELDS if name in options}
    return RuntimeConfig(**{"device": "cpu"} | runtime), options


def train(dataset, run: Path, recipe: Recipe, progress=SILENT, **options) -> TrainResult | None:
    """Train a run on the CPU; options are fields of its request or its runtime."""
    runtime, fields = split_options(options)
    ref = DatasetRef.parse(dataset)
    return run_train(TrainRequest(ref, run, recipe, runtime=runtime, **fields), progress)


def resume(
    dataset,
    run: Path,
    recipe: Recipe | None = None,
    num_epochs: int | None = None,
    progress=SILENT,
    **options,
) -> TrainResult | None:
    """Resume a run as `train` begins one."""
    options |= {"resume": True, "num_epochs": num_epochs}
    return train(dataset, run, recipe, progress, **options)


def evaluate(checkpoint: Path, dataset, progress=SILENT, **options) -> EvalResult | None:
    """Measure a checkpoint on the CPU; options are fields of its request or its runtime."""
    runtime, fields = split_options(options)
    ref = DatasetRef.parse(dataset)
    return run_evaluate(EvalRequest(checkpoint, ref, runtime=runtime, **fields), progress)


def predict_checkpoint(
    path: Path, dataset, split: str, num_views: int, progress=SILENT, *, num_devices: int = 1
) -> Predictions:
    """Return the predictions of a checkpoint on the CPU."""
    checkpoint, opened, class_map = open_pair(path, DatasetRef.parse(dataset), split)
    classifier = build_classifier(checkpoint, Runtime((CPU,) * num_devices), path)
    name = checkpoint.weights_hash()
    return predict_split(
        classifier,
        opened,
        split,
        num_views=num_views,
        weights_hash=name,
        progress=progress,
        class_map=class_map,
    )


def read_last(run: Path) -> Checkpoint:
    """Return the last checkpoint of a run, with its optimizer state."""
    return load_checkpoint(run / "last.safetensors", with_optimizer=True)


def assert_near(found: Path, expected: Path) -> None:
    """See that two runs learned the same, but for rounding."""
    mine, theirs = read_last(found), read_last(expected)
    for kind in ("weights", "optimizer"):
        for name, tensor in getattr(theirs, kind).items():
            np.testing.assert_allclose(
                getattr(mine, kind)[name], tensor, rtol=1e-5, atol=1e-5, err_msg=f"{kind} {name}"
            )
    assert mine.train_state.total_steps == theirs.train_state.total_steps
    np.testing.assert_allclose(mine.train_state.val_errors, theirs.train_state.val_errors)


def alive(session: int) -> list[int]:
    """Return the processes of a session."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, _, _, its_session = path.read_text().rpartition(")")[2].split()[:4]
            if int(its_session) == session and state != "Z":
                found.append(int(path.parent.name))
    return found


def left_of(session: int, seconds: float = 10.0) -> list[int]:
    """Return what is still there of a session after a while; Python's own helper ends last."""
    deadline = time.monotonic() + seconds
    while (found := alive(session)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return found


def load_tool(name: str) -> ModuleType:
    """Import a program of tools/, which has no name that Python could import."""
    path = str(Path(__file__).parent.parent / "tools" / name)
    loader = importlib.machinery.SourceFileLoader(name, path)
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(name, loader))
    sys.modules[name] = module  # where dataclasses look for it
    loader.exec_module(module)
    return module


def slopes(net: nn.Module, images: Tensor, labels: Tensor) -> Iterator[tuple[str, float, float]]:
    """Yield each parameter with its gradient along a small step, and the change of the loss."""
    F.cross_entropy(net(images), labels).backward()
    for name, parameter in net.named_parameters():
        direction = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(2))
        step, losses = 1e-6 * direction.double() / direction.norm(), []
        with torch.no_grad():
            for change in (step, -2 * step):
                parameter += change
                losses.append(F.cross_entropy(net(images), labels).item())
            parameter += step
        yield name, (parameter.grad * step).sum().item(), (losses[0] - losses[1]) / 2


def unpack_tar(path: Path, folder: Path) -> None:
    """Unpack a tar that the tests made; Python 3.11.2 has no filters yet."""
    options: dict = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
    with tarfile.open(path) as tar:
        tar.extractall(folder, **options)
