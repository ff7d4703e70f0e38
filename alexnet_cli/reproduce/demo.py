"""`alexnet demo`: the whole way on generated images, by the real commands one after the other."""

import tarfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from alexnet_cli.data.demo.archives import VAL_TAR, write_demo_archives
from alexnet_cli.errors import InputError
from alexnet_cli.io.progress import SILENT, Progress

NUM_SHOWN = 5
RUNS = {
    "first": (1, "The network of 2012 with a quarter of its kernels, from random weights."),
    "second": (2, "The same recipe from other random weights."),
}
IMAGENET_COMMANDS = [
    "alexnet prep /data/imagenet shards/ilsvrc2012",
    "alexnet pca shards/ilsvrc2012",
    "alexnet train shards/ilsvrc2012 --run runs/paper --gpus 2",
    "alexnet eval runs/paper/best.safetensors shards/ilsvrc2012",
]

RunCommand = Callable[[list[str], str], dict]


@dataclass(frozen=True, slots=True)
class DemoResult:
    """The results table.

    Attributes:
        rows: name, top1_error, top5_error and log_loss of each line.
        next: command lines for the real data.
    """

    folder: str
    seconds: float
    rows: list[dict]
    next: list[str]


def unused_folder() -> Path:
    """Return `demo`, or `demo-2`, `demo-3`, ... if that is taken."""
    folder, number = Path("demo"), 2
    while folder.exists():
        folder, number = Path(f"demo-{number}"), number + 1
    return folder


def demo(
    folder: Path, run_command: RunCommand, *, device: str = "auto", progress: Progress = SILENT
) -> DemoResult:
    """Draw a release, then prep, pca, train, eval, ensemble, export and predict it.

    Args:
        run_command: runs one `alexnet` command line, given its arguments and a sentence that says
            what it is for, and returns its --json object.

    Raises:
        InputError: the folder holds something.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} is not empty; it is left as it is. Name a new folder.")
    began = time.monotonic()
    release, dataset, onnx = folder / "release", str(folder / "dataset"), str(folder / "model.onnx")
    progress.say(
        f"Drawing 1,200 labeled images of 10 classes into {release}, packed like ImageNet."
    )
    write_demo_archives(release, progress=progress)
    run_command(
        ["prep", str(release), dataset],
        "Resize every image to 256x256 and pack them into shards, labels from the devkit.",
    )
    run_command(["pca", dataset], "The mean image and the RGB components of the color noise.")
    rows = []
    for name in RUNS:
        rows += _train_and_score(folder, dataset, name, device, run_command)
    predictions = [str(folder / f"{name}.npz") for name in RUNS]
    together = run_command(
        ["ensemble", *predictions], "Two networks that differ only in their seed, averaged."
    )
    rows.append({"name": "both, ten views, averaged", **_errors(together)})
    best = str(folder / "runs" / "first" / "best.safetensors")
    run_command(
        ["export", best, "-o", onnx], "One file for serving; cropping and mean are inside it."
    )
    images = folder / "images"
    _take_images(release, images)
    run_command(
        ["predict", str(images), "--model", onnx, "--top", "3"],
        "Classify images with that file; torch is not even imported.",
    )
    return DemoResult(str(folder), time.monotonic() - began, rows, IMAGENET_COMMANDS)


def _train_and_score(
    folder: Path, dataset: str, name: str, device: str, run_command: RunCommand
) -> list[dict]:
    seed, purpose = RUNS[name]
    run, predictions = str(folder / "runs" / name), str(folder / f"{name}.npz")
    where = [] if device == "auto" else ["--device", device]
    run_command(
        ["train", dataset, "--run", run, "--recipe", "demo", "--set", f"seed={seed}", *where],
        purpose,
    )
    found = run_command(
        ["eval", f"{run}/best.safetensors", dataset, "--predictions", predictions, *where],
        "The center of each validation image, then the average over ten views of it.",
    )
    return [
        {"name": f"{name}, center view", **_errors(found["center"])},
        {"name": f"{name}, ten views", **_errors(found)},
    ]


def _errors(found: dict) -> dict:
    return {name: found[name] for name in ("top1_error", "top5_error", "log_loss")}


def _take_images(release: Path, folder: Path) -> None:
    """Copy the first validation images out of their archive."""
    folder.mkdir()
    with tarfile.open(release / VAL_TAR) as tar:
        for member in tar.getmembers()[:NUM_SHOWN]:
            (folder / Path(member.name).name).write_bytes(tar.extractfile(member).read())
