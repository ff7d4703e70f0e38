"""The steps of tools/gpu_check, run in a process of their own.

Names of steps come in on stdin, one a line; figures, checks and results go out on stdout as JSON, a
line each. With --rehearse everything is small and runs on the CPU, and what needs CUDA is skipped.
"""

import argparse
import gc
import importlib.metadata
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import traceback
import xml.etree.ElementTree as ET
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import simplejpeg
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from alexnet_cli.bench.clock import Clock
from alexnet_cli.bench.run import BenchRequest
from alexnet_cli.bench.run import bench as measure_speed
from alexnet_cli.bench.stages import AHEAD, MIN_EPOCH, draw_batch, drawn_stats, lengthen
from alexnet_cli.commands.bench import NUM_KERNELS, kernel_lines
from alexnet_cli.data.batches.loader import batches_of, order_of
from alexnet_cli.data.batches.readers import ThreadReader
from alexnet_cli.data.dataset_ref import DatasetRef
from alexnet_cli.data.demo.images import CLASSES, draw_numbered
from alexnet_cli.data.pca import pca
from alexnet_cli.data.shards.dataset import Dataset, open_dataset
from alexnet_cli.distributed.device_plan import Runtime
from alexnet_cli.distributed.precision import allow_tf32
from alexnet_cli.distributed.prefetch import open_reader, to_device
from alexnet_cli.distributed.replicas import ALONE, Replicas
from alexnet_cli.distributed.runtime_config import PRECISIONS, RuntimeConfig
from alexnet_cli.errors import Stopped
from alexnet_cli.inference.evaluate import EvalRequest, evaluate
from alexnet_cli.io.cores import num_cores
from alexnet_cli.model.checkpoint import TrainState, load_checkpoint, save_checkpoint
from alexnet_cli.model.layers import CeilConv2d, LocalResponseNorm
from alexnet_cli.model.schedule import LearningRates
from alexnet_cli.recipes.overrides import widen
from alexnet_cli.recipes.recipe import PAPER, Recipe
from alexnet_cli.recipes.small import DEMO
from alexnet_cli.training.run import TrainRequest, train
from alexnet_cli.training.train_step import TrainStep
from alexnet_cli.types import DecodeRules

ROOT = Path(__file__).resolve().parent.parent
RATES = LearningRates(0.01, 0.02)
NUM_CLASSES = 1000
FEED_BATCHES = 60
STEPS_RESUMED = 5  # of an epoch
BENCH_SECONDS = 160.0  # after them no other way to train is begun
MAX_ERROR = 0.05  # of the training step, top-1, ten views
MAX_SECONDS = 60.0  # of it
PACKAGES = ("torch", "torchvision", "numpy", "pillow", "simplejpeg", "onnxruntime", "typer")


class SkipStepError(Exception):
    """A step that cannot run here, and why."""


@dataclass(frozen=True)
class Size:
    """How large everything is."""

    recipe: Recipe
    image_size: int
    batch: int  # of the checks
    train_images: int
    val_images: int
    bench_batches: tuple[int, ...]
    bench_precisions: tuple[str, ...]
    full_batch: int  # of the way that is measured in every respect
    profile_batch: int
    seconds: float  # of each measurement
    trained: Recipe


FULL = Size(
    recipe=PAPER,
    image_size=256,
    batch=64,
    train_images=2200,
    val_images=200,
    bench_batches=(512, 128, 1024, 2048),
    bench_precisions=PRECISIONS,
    full_batch=512,
    profile_batch=1024,
    seconds=0.5,
    trained=DEMO,
)
TINY = replace(widen(PAPER, 1 / 16), crop_size=99, batch_size=16)
REHEARSED = Size(
    recipe=TINY,
    image_size=112,
    batch=8,
    train_images=120,
    val_images=20,
    bench_batches=(8,),
    bench_precisions=("fp32",),
    full_batch=4,
    profile_batch=4,
    seconds=0.02,
    trained=replace(DEMO, crop_size=99, epochs=3),
)


class Check:
    """What every step gets: where it runs, how large, and where its findings go."""

    def __init__(self, options: argparse.Namespace, send: Callable[[dict], None]):
        self.rehearse, self.work, self.out = options.rehearse, options.work, options.out
        self.images: Path | None = options.images
        self.size = REHEARSED if options.rehearse else FULL
        self.device = torch.device("cpu") if options.rehearse else torch.device("cuda", 0)
        self._send = send
        self.failed = False

    def figure(self, name: str, value: object) -> None:
        """Report something measured."""
        self._send({"figure": {name: value}})

    def check(self, what: str, passed: bool, found: object) -> None:
        """Report a check with what was found."""
        self.failed |= not passed
        found = f"{found:.2g}" if isinstance(found, float) else str(found)
        self._send({"check": {"what": what, "passed": bool(passed), "found": found}})

    def runtime(self, precision: str = "fp32", *, compiled: bool = False) -> RuntimeConfig:
        """Return the configuration of a command on the one device."""
        return RuntimeConfig(self.device.type, 1, precision=precision, compiled=compiled)

    def needs_cuda(self) -> None:
        """Skip the step in a rehearsal."""
        if self.rehearse:
            raise SkipStepError("needs CUDA")

    @property
    def train_data(self) -> Path:
        """Drawn images, prepared."""
        return self.work / "drawn"

    @property
    def bench_data(self) -> Path:
        """The images to measure with, prepared."""
        return self.work / ("images" if self.images else "drawn")

    def dataset(self, folder: Path) -> Dataset:
        """Open a dataset that the step `data` made."""
        if not (folder / "index.json").is_file():
            raise SkipStepError("the step `data` made no dataset")
        return open_dataset(folder)


# --- what several steps do


def build(
    check: Check,
    recipe: Recipe,
    devices: tuple[torch.device, ...],
    *,
    precision: str = "fp32",
    compiled: bool = False,
    replicas: Replicas = ALONE,
) -> TrainStep:
    """Return a train step at the beginning of training."""
    runtime = Runtime(devices, precision, compiled, replicas)
    train_step = TrainStep(recipe, NUM_CLASSES, drawn_stats(check.size.image_size), runtime)
    train_step.begin()
    return train_step


def draw(check: Check, num: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return a drawn batch on a device."""
    batch = draw_batch(num, check.size.image_size, NUM_CLASSES)
    images, labels = (torch.from_numpy(array).to(device) for array in batch)
    return images, labels


def update(train_step: TrainStep, batch: tuple[Tensor, Tensor], step: int = 0) -> Tensor:
    """Make update number `step` + 1 and return the loss before it."""
    device, num = train_step.runtime.device, len(batch[1])
    tally = torch.zeros(3, dtype=torch.float64, device=device)
    loss = train_step.loss(batch, TrainState(step=step), num, tally)
    train_step.update(loss, RATES, step + 1)
    return loss.detach()


class _NoData:
    """What a checkpoint asks of a dataset."""

    classes, fingerprint, rules = (), "", DecodeRules()


def state(train_step: TrainStep) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return the whole network's weights and momentum buffers."""
    checkpoint = train_step.checkpoint(_NoData, TrainState(), {})
    return checkpoint.weights, checkpoint.optimizer


def largest_difference(mine: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> float:
    """Return the largest relative difference of two tensors, in the Euclidean norm."""
    assert mine.keys() == other.keys(), mine.keys() ^ other.keys()
    return max(
        float(np.linalg.norm(mine[name] - other[name]) / (np.linalg.norm(other[name]) or 1.0))
        for name in other
    )


def compare(check: Check, what: str, mine: TrainStep, other: TrainStep, limits: tuple) -> None:
    """Check weights and momentum buffers of two train steps against limits for each."""
    names = ("weights", "momentum buffers")
    for name, a, b, limit in zip(names, state(mine), state(other), limits, strict=True):
        difference = largest_difference(a, b)
        check.check(f"{what}: {name} within {limit:g}", difference < limit, difference)


def without_dropout(recipe: Recipe) -> Recipe:
    """Return a recipe whose hidden layers keep all units."""
    fc6, fc7 = (replace(layer, dropout=0.0) for layer in (recipe.fc6, recipe.fc7))
    return replace(recipe, fc6=fc6, fc7=fc7)


# --- the steps


def environment(check: Check) -> None:
    """Note the machine and the versions; a GPU must be there."""
    check.figure("python", sys.version.split()[0])
    check.figure("cores", os.cpu_count())
    versions = {}
    for name in PACKAGES:
        for found in (name, f"{name}-gpu"):
            try:
                versions[name] = importlib.metadata.version(found)
            except importlib.metadata.PackageNotFoundError:
                continue
    check.figure("versions", versions)
    check.needs_cuda()
    check.check("a CUDA device is there", torch.cuda.is_available(), torch.cuda.device_count())
    found = torch.cuda.get_device_properties(check.device)
    check.figure("gpu", found.name)
    check.figure("GPU memory, GiB", found.total_memory / 2**30)
    check.figure("cuda", torch.version.cuda)
    check.figure("cudnn", torch.backends.cudnn.version())


def data(check: Check) -> None:
    """Draw labeled images and prepare them; the same of the given images."""
    size, source = check.size, check.work / "source"
    for split, num in (("train", size.train_images), ("val", size.val_images)):
        for number in range(num):
            label = number % len(CLASSES)
            folder = source / split / CLASSES[label].wnid
            folder.mkdir(parents=True, exist_ok=True)
            drawn = draw_numbered(0, split, label, number)
            (folder / f"{number:06d}.JPEG").write_bytes(drawn)
    num, began = size.train_images + size.val_images, time.perf_counter()
    counts = _prepare(check, source, check.train_data)
    check.figure("prep, images/s, start-up included", num / (time.perf_counter() - began))
    check.check("every image is prepared", sum(counts.values()) == num, counts)
    pca(check.train_data)
    if check.images:
        _prepare_given(check)
    split = check.dataset(check.bench_data).split("train")
    check.figure("bytes per image of what is measured", float(split.samples["length"].mean()))
    check.figure("images to measure with", len(split))


def _prepare(check: Check, source: Path, folder: Path) -> dict[str, int]:
    """Run `alexnet prep` and return how many images each split has.

    In a process of its own, whose workers do not import torch as this one's would.
    """
    command = [sys.executable, "-m", "alexnet_cli", "prep", str(source), str(folder), "--json"]
    command += ["--size", str(check.size.image_size), "--shard-size", "500"]
    command += ["--workers", "1"] if check.rehearse else []
    found = subprocess.run(command, stdout=subprocess.PIPE, cwd=ROOT, check=True)
    splits = json.loads(found.stdout)["splits"]
    return {name: counts["written"] for name, counts in splits.items()}


def _prepare_given(check: Check) -> None:
    """Prepare the given images, each under as many names as make enough."""
    files = sorted(p for p in check.images.rglob("*") if p.suffix.lower() in (".jpg", ".jpeg"))
    if not files:
        raise FileNotFoundError(f"{check.images}: no .jpg or .jpeg in it")
    for split, num in (("train", check.size.train_images), ("val", len(CLASSES))):
        for number in range(num):
            folder = check.work / "given" / split / CLASSES[number % len(CLASSES)].wnid
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(files[number % len(files)], folder / f"{number:06d}.JPEG")
    _prepare(check, check.work / "given", check.bench_data)
    pca(check.bench_data)


def update_against_cpu(check: Check) -> None:
    """One update on the GPU is that of the CPU."""
    recipe, cpu = without_dropout(check.size.recipe), torch.device("cpu")
    losses, train_steps = [], []
    for device in (check.device, cpu):
        train_steps.append(build(check, recipe, (device,)))
        losses.append(update(train_steps[-1], draw(check, check.size.batch, device)).item())
    difference = abs(losses[0] / losses[1] - 1)
    check.check("loss of the CPU within 1e-5", difference < 1e-5, difference)
    compare(check, "the CPU's update", *train_steps, (1e-4, 1e-3))


def split(check: Check) -> None:
    """Split over two devices the network learns what it learns whole, dropout included."""
    whole = build(check, check.size.recipe, (check.device,))
    halves = build(check, check.size.recipe, (check.device,) * 2)
    batch = draw(check, check.size.batch, check.device)
    for step in range(2):
        losses = [update(train_step, batch, step).item() for train_step in (halves, whole)]
        difference = abs(losses[0] / losses[1] - 1)
        check.check(f"loss of step {step + 1} within 1e-5", difference < 1e-5, difference)
    compare(check, "two updates of the whole network", halves, whole, (1e-4, 1e-3))


def masks(check: Check) -> None:
    """Columns drop units independently, and the split network drops those of the whole one.

    With no decay and no momentum yet, an input of fc7 or fc8 whose weights do not move was zero:
    its unit was dropped, of two images a quarter of the units in both. Two columns that drop
    independently agree on five units of eight.
    """
    recipe = replace(check.size.recipe, weight_decay=0.0)
    kept: dict[str, dict[str, np.ndarray]] = {}
    for name, step, num_devices in (("whole", 0, 1), ("split", 0, 2), ("next step", 1, 1)):
        train_step = build(check, recipe, (check.device,) * num_devices)
        update(train_step, draw(check, 2, check.device), step)
        _, moved = state(train_step)
        kept[name] = {
            "fc6": (moved["fc7.weight.momentum_buffer"] != 0).any(axis=0),
            "fc7": (moved["fc8.weight.momentum_buffer"] != 0).any(axis=0),
        }
    for layer in ("fc6", "fc7"):
        whole, halves, later = (kept[name][layer] for name in ("whole", "split", "next step"))
        kept_share = float(whole.mean())
        check.check(f"{layer}: 3/4 of the units are kept once", 0.5 < kept_share < 0.9, kept_share)
        same = float((whole == halves).mean())
        check.check(f"{layer}: the split network drops the units of the whole", same == 1, same)
        same = float(np.equal(*np.split(halves, 2)).mean())
        check.check(f"{layer}: columns agree by chance only", 0.4 < same < 0.85, same)
        same = float((whole == later).mean())
        check.check(f"{layer}: the next step drops other units", 0.4 < same < 0.85, same)


@contextmanager
def rounding_noted(device: torch.device) -> Iterator[list[float]]:
    """Note the relative errors of a convolution and a product as they are computed in the block.

    The precision is that in force when a network's first convolution is called.
    """
    errors: list[float] = []

    def note(module: nn.Module, *_: object) -> None:
        weight = getattr(module, "weight", None)
        if not errors and isinstance(weight, Tensor) and weight.dim() == 4:
            errors.extend(_rounding(device))

    handle = nn.modules.module.register_module_forward_hook(note)
    try:
        yield errors
    finally:
        handle.remove()


def _rounding(device: torch.device) -> list[float]:
    generator = torch.Generator(device).manual_seed(0)
    shapes = {F.conv2d: [(8, 64, 28, 28), (64, 64, 3, 3)], torch.mm: [(512, 512), (512, 512)]}
    errors = []
    with torch.no_grad():
        for product, pair in shapes.items():
            a, b = (torch.randn(shape, generator=generator, device=device) for shape in pair)
            found = product(a, b).double()
            with torch.autocast(device.type, enabled=False):
                exact = product(a.double(), b.double())
            errors.append(float((found - exact).norm() / exact.norm()))
    return errors


def precisions(check: Check) -> None:
    """fp32 is IEEE float32 in training and evaluation; tf32 and bf16 round as they say."""
    limits = {"fp32": (0, 5e-6), "tf32": (2e-5, 5e-3), "bf16": (5e-4, 5e-2)}
    if check.rehearse:
        limits["tf32"] = limits["fp32"]  # a CPU has no TensorFloat-32
    batch = draw(check, check.size.batch, check.device)
    for precision, (least, most) in limits.items():
        train_step = build(check, check.size.recipe, (check.device,), precision=precision)
        with rounding_noted(check.device) as errors:
            update(train_step, batch)
        what = f"training in {precision}: error of products between {least:g} and {most:g}"
        _check_rounding(check, what, errors, least, most)
    _check_evaluation(check, *limits["fp32"])


def _check_evaluation(check: Check, least: float, most: float) -> None:
    dataset = check.dataset(check.train_data)
    runtime, stats = Runtime((check.device,)), dataset.load_pixel_stats()
    train_step = TrainStep(check.size.recipe, len(dataset.classes), stats, runtime)
    train_step.begin()
    path = check.work / "untrained.safetensors"
    save_checkpoint(path, train_step.checkpoint(dataset, TrainState(), {}))
    allow_tf32("tf32")  # as torch begins; an evaluation must not rely on what was before it
    with rounding_noted(check.device) as errors:
        evaluate(
            EvalRequest(path, DatasetRef(check.train_data), num_views=1, runtime=check.runtime())
        )
    what = f"evaluation: error of products below {most:g}"
    _check_rounding(check, what, errors, least, most)


def _check_rounding(
    check: Check, what: str, errors: list[float], least: float, most: float
) -> None:
    passed = len(errors) == 2 and least <= min(errors) <= max(errors) < most
    check.check(what, passed, ", ".join(f"{error:.2g}" for error in errors) or "no convolution")


def synchronization(check: Check) -> None:
    """A step waits for nothing that the GPU does."""
    check.needs_cuda()
    for precision in ("fp32", "bf16"):
        train_step = build(check, check.size.recipe, (check.device,), precision=precision)
        batch = draw(check, check.size.batch, check.device)
        tally = torch.zeros(3, dtype=torch.float64, device=check.device)
        found = "nothing"
        for step in range(5):
            torch.cuda.set_sync_debug_mode("error" if step > 1 else "default")
            try:
                loss = train_step.loss(batch, TrainState(step=step), len(batch[1]), tally)
                train_step.update(loss, RATES, step + 1)
            except RuntimeError as error:
                found = str(error).splitlines()[0][:200]
                break
            finally:
                torch.cuda.set_sync_debug_mode("default")
        check.check(f"{precision}: a step waits for nothing", found == "nothing", found)


def feed(check: Check) -> None:
    """Batches arrive on the device without a wrong byte while it computes."""
    split = lengthen(check.dataset(check.bench_data).split("train"), FEED_BATCHES * 64)
    size = min(64, len(split) // FEED_BATCHES)
    order = order_of(split, (0, 0))
    work = torch.randn(2048 if check.device.type == "cuda" else 64, 64, device=check.device)
    wrong, checked, recent = 0, 0, deque()

    def compare_oldest() -> None:
        nonlocal wrong, checked
        number, images, labels = recent.popleft()
        positions = order[number * size : (number + 1) * size].tolist()
        exact = [simplejpeg.decode_jpeg(split.jpeg(position), "RGB") for position in positions]
        wrong += int((images.cpu().numpy() != np.stack(exact)).sum())
        wrong += int((labels.cpu().numpy() != split.labels[positions]).sum())
        checked += len(positions)

    with open_reader(split, check.device, num_cores()) as reader:
        check.figure("read by", type(reader).__name__)
        batches = to_device(batches_of(split, size, shuffle=(0, 0), reader=reader), check.device)
        for number, (images, labels) in zip(range(FEED_BATCHES), batches, strict=False):
            for _ in range(20):
                work = (work @ (work.T @ work)).tanh()
            recent.append((number, images, labels))
            if len(recent) > 2:  # so that a later copy into the same memory would be seen
                compare_oldest()
        batches.close()
        while recent:
            compare_oldest()
    check.figure("images compared", checked)
    check.check("every byte of 60 batches is right", not wrong and checked == 60 * size, wrong)


class _GroupOfOne(Replicas):
    """One replica whose gradients pass through DistributedDataParallel all the same."""

    def wrap(self, net: nn.Module, devices: tuple[torch.device, ...]) -> nn.Module:
        own = [devices[0]] if len(devices) == 1 and devices[0].type == "cuda" else None
        return nn.parallel.DistributedDataParallel(net, device_ids=own)


def nccl(check: Check) -> None:
    """DistributedDataParallel in a group of one changes nothing, whole and split."""
    backend = "gloo" if check.rehearse else "cpu:gloo,cuda:nccl"
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    store = check.work / f"group.{time.monotonic_ns()}"
    dist.init_process_group(backend, init_method=f"file://{store}", rank=0, world_size=1)
    try:
        batch = draw(check, check.size.batch, check.device)
        for name, num_devices in (("whole", 1), ("split", 2)):
            devices = (check.device,) * num_devices
            plain = build(check, check.size.recipe, devices)
            wrapped = build(check, check.size.recipe, devices, replicas=_GroupOfOne())
            for train_step in (plain, wrapped):
                update(train_step, batch)
            compare(check, f"{backend}, {name}", wrapped, plain, (1e-5, 1e-4))
    finally:
        dist.destroy_process_group()


class _StopsAt:
    """A progress that sends SIGTERM to this process after some steps of an epoch's bar."""

    def __init__(self, steps: int):
        self.steps = steps

    def say(self, line: str) -> None:
        pass

    @contextmanager
    def track(self, what: str, total: int) -> Iterator["_StopsAt"]:
        yield self

    def advance(self, count: int = 1, note: str = "") -> None:
        if "loss" not in note:
            return
        self.steps -= 1
        if not self.steps:
            os.kill(os.getpid(), signal.SIGTERM)


def resume(check: Check) -> None:
    """A run stopped within its second epoch and resumed learns what a straight one does.

    On a CPU the two are equal bit for bit. A GPU does not always add in the same order, and such
    differences grow: hence few updates, wide limits, and deterministic kernels where there are any.
    """
    data = check.train_data
    check.dataset(data)
    size, steps = check.size.train_images // STEPS_RESUMED, STEPS_RESUMED
    recipe = replace(check.size.trained, epochs=2, batch_size=size)
    straight, stopped = check.work / "straight", check.work / "stopped"
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        train(TrainRequest(DatasetRef(data), straight, recipe, runtime=check.runtime()))
        request = TrainRequest(DatasetRef(data), stopped, recipe, runtime=check.runtime())
        if not _is_stopped(check, request):
            return
        train(replace(request, resume=True))
    finally:
        torch.use_deterministic_algorithms(False)
    runs = [
        load_checkpoint(run / "last.safetensors", with_optimizer=True)
        for run in (stopped, straight)
    ]
    at = [(run.train_state.epoch, run.train_state.total_steps) for run in runs]
    check.check("as many epochs and updates", at[0] == at[1] == (2, 2 * steps), at[0])
    losses = [
        json.loads((r / "log.jsonl").read_text().splitlines()[-1]) for r in (stopped, straight)
    ]
    loss = abs(losses[0]["train_loss"] / losses[1]["train_loss"] - 1)
    weights = largest_difference(runs[0].weights, runs[1].weights)
    buffers = largest_difference(runs[0].optimizer, runs[1].optimizer)
    check.figure("equal bit for bit", weights == buffers == loss == 0)
    found = {"loss of the epoch": loss, "weights": weights, "momentum buffers": buffers}
    limits = (0.0,) * 3 if check.rehearse else (0.01, 1e-3, 0.5)
    for limit, (name, difference) in zip(limits, found.items(), strict=True):
        check.check(f"{name} within {limit:g}", difference <= limit, difference)


def _is_stopped(check: Check, request: TrainRequest) -> bool:
    """Train until a signal in the second epoch and check that the run stopped there."""
    progress = _StopsAt(STEPS_RESUMED + 2)
    try:
        train(request, progress)
    except Stopped:
        at = load_checkpoint(request.run / "last.safetensors", with_optimizer=True).train_state
        passed = at.epoch == 1 and 0 < at.step < STEPS_RESUMED
        check.check("SIGTERM stops the run in its second epoch", passed, f"step {at.step}")
        return True
    check.check("SIGTERM stops the run", False, "it trained to its end")
    return False


def tests(check: Check) -> None:
    """The tests marked gpu."""
    marked = [p for p in (ROOT / "tests").rglob("test_*.py") if "mark.gpu" in p.read_text()]
    report = check.work / "tests.xml"
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider"]
    command += ["-p", "pytest_timeout", "--junitxml", str(report)]
    command += ["-o", "addopts=--import-mode=importlib --strict-markers"]  # xdist may not be there
    env = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    subprocess.run([*command, *map(str, sorted(marked))], cwd=ROOT, env=env, stdout=sys.stderr)
    cases = list(ET.parse(report).getroot().iter("testcase"))
    faults = [case for case in cases if {child.tag for child in case} & {"failure", "error"}]
    skipped = [case for case in cases if case.find("skipped") is not None]
    check.figure("passed", len(cases) - len(faults) - len(skipped))
    check.figure("skipped", len(skipped))
    for case in faults:
        text = next(child.get("message", "") for child in case if child.tag != "system-out")
        check.check(f"{case.get('classname')}.{case.get('name')}", False, text[:300])
    check.check("the tests marked gpu were found and none failed", cases and not faults, len(cases))
    for case in skipped if not check.rehearse else ():
        reason = case.find("skipped").get("message", "")
        check.figure(f"skipped {case.get('name')}", reason)


def measure_way(check: Check, precision: str, *, compiled: bool = False, **options) -> dict:
    """Run `alexnet bench` for one way to train and return its figures."""
    runtime = check.runtime(precision, compiled=compiled)
    request = BenchRequest(
        check.size.recipe, DatasetRef(check.bench_data), runtime=runtime, **options
    )
    found = asdict(measure_speed(request))
    forget()
    return found


def report_way(check: Check, name: str, found: dict) -> None:
    """Report the figures of one way to train."""
    shown = dict(found["stages"])
    shown |= {f"torchvision's {stage}": speed for stage, speed in found["baseline"].items()}
    shown |= {f"{peak} GiB": size / 2**30 for peak, size in found["memory"].items()}
    check.figure(name, shown)


def bench(check: Check) -> None:
    """`alexnet bench`: everything once, then steps for every batch and precision; images/s."""
    check.dataset(check.bench_data)
    size, began = check.size, time.perf_counter()
    precision = size.bench_precisions[-1]
    found = measure_way(check, precision, batch_size=size.full_batch, seconds=2 * size.seconds)
    report_way(check, f"everything, batch {size.full_batch}, {precision}", found)
    for what in ("roofline", "used", "baseline_loader", "ratios"):
        check.figure(what, found[what])
    check.figure("limits", found["limits"])
    check.figure("not measured", found["skipped"] or "nothing was left out")
    for precision in reversed(size.bench_precisions):
        for batch in size.bench_batches:
            if time.perf_counter() - began > BENCH_SECONDS:
                check.figure(f"batch {batch}, {precision}", "not measured: no time was left")
                continue
            only = ("shards",) if check.rehearse else ("step", "shards")
            found = measure_way(check, precision, batch_size=batch, seconds=size.seconds, only=only)
            report_way(check, f"batch {batch}, {precision}", found)


def reader(check: Check) -> None:
    """Images per second by threads in memory, and on the device as in training."""
    split = lengthen(check.dataset(check.bench_data).split("train"), MIN_EPOCH)
    batch = 16 if check.rehearse else 256
    clock = Clock((check.device,), check.size.seconds)
    for name, moved in (("read and decoded", False), ("on the device", True)):
        speeds = {}
        for num in [n for n in (1, 2, 4, 8, 12, 16) if n <= num_cores()]:
            with open_reader(split, check.device, num) if moved else ThreadReader(num) as used:
                batches = batches_of(split, batch, shuffle=(0, 0), reader=used)
                if moved:
                    batches = to_device(batches, check.device)
                taken = clock.stretch(lambda batches=batches: next(batches), AHEAD)
                batches.close()
                speeds[f"{num}, {type(used).__name__}"] = batch * taken.rate
        check.figure(f"{name}, images/s", speeds)


def layers(check: Check) -> None:
    """Forward and backward of the layers that have several implementations, in milliseconds."""
    num = 1 if check.rehearse else 512
    clock = Clock((check.device,), check.size.seconds)
    for dtype in (torch.float32,) if check.rehearse else (torch.bfloat16, torch.float32):
        times = {}
        for name, layer, (channels, side) in _variants():
            layer = layer.to(check.device, dtype, memory_format=torch.channels_last)
            x = torch.randn(num, channels, side, side, device=check.device, dtype=dtype)
            x = x.contiguous(memory_format=torch.channels_last).requires_grad_()
            grad = torch.randn_like(layer(x))
            rate = clock.rate(lambda x=x, layer=layer, grad=grad: layer(x).backward(grad))
            times[name] = round(1e3 / rate, 3)
        check.figure(f"ms at batch {num}, {str(dtype).removeprefix('torch.')}", times)
        forget()


def _variants() -> list[tuple[str, nn.Module, tuple[int, int]]]:
    """Return layers of `paper` by name, with (channels, side) of their inputs."""
    found = []
    convs = {"conv2": (96, 256, 5, 27), "conv4": (384, 384, 3, 13), "conv5": (384, 256, 3, 13)}
    for name, (inputs, outputs, window, side) in convs.items():
        shape, size = (inputs, outputs, window, 1, window // 2), (inputs, side)
        found += [
            (f"{name}, ours", CeilConv2d(*shape, groups=2), size),
            (f"{name}, grouped", nn.Conv2d(*shape, groups=2), size),
            (f"{name}, dense, twice the operations", nn.Conv2d(*shape), size),
        ]
    for name, size in {"norm1": (96, 55), "norm2": (256, 27)}.items():
        found += [
            (f"{name}, ours", LocalResponseNorm(5, 1e-4, 0.75, 2.0, columns=2), size),
            (f"{name}, torch's", nn.LocalResponseNorm(5, 5e-4, 0.75, 2.0), size),
        ]
    return found


def profile(check: Check) -> None:
    """The kernels of a step in bf16."""
    precision = check.size.bench_precisions[-1]
    batch = check.size.profile_batch
    options = {"batch_size": batch, "seconds": check.size.seconds, "only": (), "kernels": True}
    found = measure_way(check, precision, **options)
    report_way(check, f"batch {batch}, {precision}", found)
    kernels = found["kernels"]
    check.figure("ms per step in kernels", 1e3 * sum(kernel["seconds"] for kernel in kernels))
    check.figure("kernels of a step", kernel_lines(kernels[:NUM_KERNELS], width=110))
    text = "".join(f"{line}\n" for line in kernel_lines(kernels))
    (check.out / "kernels.txt").write_text(text)
    check.check("kernels were seen", len(kernels) > 5, len(kernels))


def training(check: Check) -> None:
    """Train to a stated error in a stated time, from weights drawn at random."""
    data, run = check.train_data, check.work / "trained"
    check.dataset(data)
    began = time.perf_counter()
    runtime = check.runtime()
    result = train(TrainRequest(DatasetRef(data), run, check.size.trained, runtime=runtime))
    seconds = time.perf_counter() - began
    found = evaluate(
        EvalRequest(run / "best.safetensors", DatasetRef(data), runtime=check.runtime())
    )
    recipe = check.size.trained
    check.figure("recipe", f"{recipe.name}, {recipe.epochs} epochs of {check.size.train_images}")
    check.figure("seconds, validation after every epoch included", seconds)
    check.figure("images/s of the last epoch", result.images_per_second)
    check.figure("top-1 error, ten views", found.top1_error)
    rows = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    check.figure("top-1 error by epoch", [f"{row['val']['top1_error']:.1%}" for row in rows])
    losses = [row["train_loss"] for row in rows]
    if check.rehearse:
        check.check("every loss is finite", bool(np.isfinite(losses).all()), losses[-1])
        return
    check.check(f"error of at most {MAX_ERROR:.0%}", found.top1_error <= MAX_ERROR,
                found.top1_error)  # fmt: skip
    check.check(f"in at most {MAX_SECONDS:.0f} s", seconds <= MAX_SECONDS, seconds)


def compiled(check: Check) -> None:
    """Compiled kernels learn what others do, dropout included; their speed."""
    check.needs_cuda()
    batch = draw(check, check.size.batch, check.device)
    train_steps = [
        build(check, check.size.recipe, (check.device,), compiled=compiled)
        for compiled in (True, False)
    ]
    for train_step in train_steps:
        update(train_step, batch)
    compare(check, "eager kernels' update", *train_steps, (1e-4, 1e-3))
    forget()
    torch.compiler.reset()
    batch, seconds = check.size.full_batch, check.size.seconds
    options = {"batch_size": batch, "seconds": seconds, "only": ("step",)}
    found = measure_way(check, "bf16", compiled=True, **options)
    report_way(check, f"batch {batch}, bf16, compiled", found)
    check.figure("seconds of the first step", found["compile_seconds"])


STEPS: dict[str, Callable[[Check], None]] = {
    "environment": environment,
    "data": data,
    "update": update_against_cpu,
    "split": split,
    "masks": masks,
    "precisions": precisions,
    "synchronization": synchronization,
    "feed": feed,
    "nccl": nccl,
    "resume": resume,
    "tests": tests,
    "bench": bench,
    "reader": reader,
    "layers": layers,
    "profile": profile,
    "training": training,
    "compiled": compiled,
}


def forget() -> None:
    """Give back the memory of networks that are no longer used."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def run(name: str, options: argparse.Namespace, send: Callable[[dict], None]) -> None:
    """Run one step and send its result."""
    check = Check(options, send)
    try:
        STEPS[name](check)
        status, note = ("failed" if check.failed else "passed"), ""
    except SkipStepError as reason:
        status, note = ("failed" if check.failed else "skipped"), str(reason)
    except Exception as error:  # whatever it is, the other steps go on
        traceback.print_exc()
        place = traceback.extract_tb(error.__traceback__)[-1]
        first = (str(error).strip() or "no message").splitlines()[0][:300]
        status = "failed"
        note = f"{type(error).__name__}: {first} ({Path(place.filename).name}:{place.lineno})"
    send({"status": status, "note": note})
    forget()


def main() -> None:
    """Run the steps that stdin names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--images", type=Path)
    parser.add_argument("--rehearse", action="store_true")
    options = parser.parse_args()
    if options.rehearse:
        torch.set_num_threads(1)
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what anything prints goes to the log

    def send(message: dict) -> None:
        print(json.dumps(message), file=channel, flush=True)

    for line in sys.stdin:
        run(line.strip(), options, send)


if __name__ == "__main__":
    main()
