"""`alexnet demo`: every step on generated images, by the real commands one after the other."""

import tarfile
import time
from functools import partial
from pathlib import Path
from typing import IO, Annotated, cast

import typer

from alexnet_cli.cli import console
from alexnet_cli.cli.console import print_line, print_rich, safe
from alexnet_cli.cli.job import run_job
from alexnet_cli.cli.options import AsJson, Device, unused_folder
from alexnet_cli.cli.tables import error_cells, error_table, show
from alexnet_cli.errors import InputError, on_one_line, require_package

NUM_PREDICTED = 5
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


def demo(
    folder: Annotated[
        Path | None,
        typer.Argument(
            metavar="FOLDER", help="New folder for everything that is made; default: demo."
        ),
    ] = None,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Show every step on generated images, in a few minutes."""
    require_package("torch")
    folder = folder or unused_folder(Path("demo"))
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(
            f"{folder} is not empty.", kept="It was left as it is.", hint="Name a new folder."
        )
    began = time.monotonic()
    again = f"To begin again: remove {on_one_line(str(folder))}, or name a new folder."
    run = partial(run_job, quiet=as_json, advice=again)
    archives, dataset = _draw_archives(folder), str(folder / "dataset")
    run(
        ["prep", str(archives), dataset],
        "Resize every image to 256x256 and pack them into shards, labels from the devkit.",
    )
    run(["pca", dataset], "The mean image and the RGB components of the color noise.")
    rows = []
    for name, (seed, purpose) in RUNS.items():
        rows += _train_and_evaluate(folder, name, ["--set", f"seed={seed}"], purpose, device, run)
    average = run(
        ["ensemble", *(str(folder / f"{name}.npz") for name in RUNS)],
        "Two networks that differ only in their seed, averaged.",
    )
    rows.append(_row("both, ten views, averaged", average))
    _export_and_predict(folder, archives, device, run)
    page = str(folder / "report.html")
    measured = ["--data", dataset, "--predictions", str(folder / "first.npz")]
    run(
        ["report", str(folder / "runs" / "first"), *measured, "-o", page],
        "One page about the first network: curves, filters, examples, mistakes.",
    )
    seconds = time.monotonic() - began
    result = {"folder": str(folder), "report": page, "seconds": seconds, "rows": rows}
    show(result | {"next": IMAGENET_COMMANDS}, as_json, show_demo)


def _draw_archives(folder: Path) -> Path:
    from alexnet_cli.data.demo.archives import write_demo_archives

    archives, progress = folder / "archives", console.ConsoleProgress()
    progress.say(
        f"Drawing 1,200 labeled images of 10 classes into {archives}, packed like ImageNet."
    )
    write_demo_archives(archives, progress=progress)
    return archives


def _train_and_evaluate(
    folder: Path, name: str, settings: list[str], purpose: str, device: str, run: partial
) -> list[dict]:
    run_folder, dataset = str(folder / "runs" / name), str(folder / "dataset")
    where = _device_option(device)
    run(["train", dataset, "--run", run_folder, "--recipe", "demo", *settings, *where], purpose)
    output = ["--output", str(folder / f"{name}.npz")]
    found = run(
        ["eval", f"{run_folder}/best.safetensors", dataset, *output, *where],
        "The center of each validation image, then the average over ten views of it.",
    )
    return [_row(f"{name}, center view", found["center"]), _row(f"{name}, ten views", found)]


def _device_option(device: str) -> list[str]:
    return [] if device == "auto" else ["--device", device]


def _row(name: str, found: dict) -> dict:
    return {"name": name} | {e: found[e] for e in ("top1_error", "top5_error", "log_loss")}


def _export_and_predict(folder: Path, archives: Path, device: str, run: partial) -> None:
    from alexnet_cli.data.demo.archives import VAL_TAR

    onnx, images = str(folder / "model.onnx"), folder / "images"
    run(
        ["export", str(folder / "runs" / "first" / "best.safetensors"), "-o", onnx],
        "One file for serving; cropping and mean are inside it.",
    )
    images.mkdir()
    with tarfile.open(archives / VAL_TAR) as tar:
        for member in tar.getmembers()[:NUM_PREDICTED]:
            content = cast(IO[bytes], tar.extractfile(member)).read()
            (images / Path(member.name).name).write_bytes(content)
    run(
        ["predict", str(images), "--model", onnx, "--top", "3", *_device_option(device)],
        "Classify images with that file, without torch.",
    )


def show_demo(result: dict) -> None:
    """The demo's results table, and what to type for ImageNet."""
    table = error_table("what the demo reached, on generated validation images")
    for row in result["rows"]:
        table.add_row(safe(row["name"]), *error_cells(row))
    print_rich(table)
    print_line(f"{result['seconds']:.0f} s in all; everything is in {safe(result['folder'])}/")
    print_line(f"Open {safe(result['report'])} in a browser to see what the network learned.")
    print_line("\nThe same on ImageNet, with the three official archives in one folder:")
    for line in result["next"]:
        print_line(f"  {safe(line)}")
