"""How fast is `alexnet prep` end to end, against its own arithmetic alone and against img2dataset?

    python tools/bench/prep.py IMAGES [--copies 10] [--workers 2] [--rounds 3]
                               [--img2dataset PYTHON] [--quality-only]

IMAGES holds CLASS folders of full-size photos. `chain only` decodes, resizes and encodes the same
bytes, read beforehand, in as many processes: nothing that prep does could be faster. With
--img2dataset, the Python of an environment that has img2dataset, it packs the same images from a
file list: as many processes, 256-pixel center crops, quality 90, WebDataset tars.

Before that it says how close our 256x256 pixels are to Pillow's, before they are packed: decoded in
full, resized with Pillow's antialiased bicubic filter, cut at the same whole pixels.
"""

import argparse
import math
import multiprocessing
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from alexnet_cli.data.images.resize import IMAGE_SIZE, to_jpeg, to_square

PACK = """
import sys
from img2dataset import download
if __name__ == "__main__":
    download(url_list=sys.argv[1], output_folder=sys.argv[2], processes_count=int(sys.argv[3]),
             thread_count=4, image_size=256, resize_mode="center_crop", encode_quality=90,
             output_format="webdataset", input_format="txt", number_sample_per_shard=1000,
             enable_wandb=False)
"""


def psnr(path: Path) -> float:
    """Return how close our square of a photo is to Pillow's, in dB; 99 if they are the same."""
    image, size = Image.open(path).convert("RGB"), IMAGE_SIZE
    shorter = min(image.size)
    image = image.resize(
        (size * image.width // shorter, size * image.height // shorter), Image.Resampling.BICUBIC
    )
    left, top = round((image.width - size) / 2), round((image.height - size) / 2)
    expected = np.asarray(image.crop((left, top, left + size, top + size)), float)
    error = np.mean((to_square(path.read_bytes()) - expected) ** 2)
    return 10 * math.log10(255**2 / error) if error else 99.0


def show_quality(images: Path) -> None:
    """Print mean and worst PSNR of the photos."""
    found = [psnr(path) for path in sorted(images.rglob("*")) if path.is_file()]
    mean, worst = statistics.mean(found), min(found)
    print(f"{len(found)} photos: PSNR {mean:.1f} dB on average, {worst:.1f} dB at worst")


def copy_images(source: Path, folder: Path, copies: int) -> list[Path]:
    """Write every image several times into class folders, and return the files."""
    files = []
    for path in sorted(path for path in source.rglob("*") if path.is_file()):
        for number in range(copies):
            target = folder / path.parent.name / f"{path.stem}-{number}{path.suffix}"
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
            files.append(target)
    return files


def time_prep(folder: Path, scratch: Path, workers: int) -> float:
    """Return the seconds of the whole command."""
    command = [sys.executable, "-m", "alexnet_cli", "prep", str(folder), str(scratch / "shards")]
    began = time.perf_counter()
    subprocess.run(
        [*command, "--workers", str(workers)], check=True, stdout=subprocess.DEVNULL, stderr=-3
    )
    return time.perf_counter() - began


def run_chain(paths: list[Path], queue) -> None:
    """Decode, resize and encode images from memory, and tell how long it took."""
    contents = [path.read_bytes() for path in paths]
    to_jpeg(to_square(contents[0]))
    began = time.perf_counter()
    for content in contents:
        to_jpeg(to_square(content))
    queue.put(time.perf_counter() - began)


def time_chain(files: list[Path], scratch: Path, workers: int) -> float:
    """Return the seconds of the slowest of several processes."""
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    parts = [files[i::workers] for i in range(workers)]
    processes = [context.Process(target=run_chain, args=(part, queue)) for part in parts]
    for process in processes:
        process.start()
    seconds = max(queue.get() for _ in processes)
    for process in processes:
        process.join()
    return seconds


def time_img2dataset(python: str, files: list[Path], scratch: Path, workers: int) -> float:
    """Return the seconds of img2dataset's whole run."""
    listing, script = scratch / "files.txt", scratch / "pack.py"
    listing.write_text("".join(f"file://{path}\n" for path in files))
    script.write_text(PACK)
    command = [python, str(script), str(listing), str(scratch / "packed"), str(workers)]
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - began


def main() -> None:
    """Time every variant in turn and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images", type=Path)
    parser.add_argument("--copies", type=int, default=10)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--img2dataset", metavar="PYTHON")
    parser.add_argument("--quality-only", action="store_true", help="time nothing")
    options = parser.parse_args()
    show_quality(options.images)
    if options.quality_only:
        return
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work) / "images"
        files = copy_images(options.images, folder, options.copies)
        variants = {
            "prep": partial(time_prep, folder),
            "chain only": partial(time_chain, files),
        }
        if options.img2dataset:
            variants["img2dataset"] = partial(time_img2dataset, options.img2dataset, files)
        rounds = []
        for _ in range(options.rounds):
            seconds = {}
            for name, run in variants.items():
                with tempfile.TemporaryDirectory(dir=work) as scratch:
                    seconds[name] = run(Path(scratch), options.workers)
            rounds.append(seconds)
    for name in variants:
        speed = statistics.median(len(files) / seconds[name] for seconds in rounds)
        ratio = statistics.median(seconds[name] / seconds["prep"] for seconds in rounds)
        print(f"{name:12} {speed:7.0f} images/s   prep is {ratio:.2f} times that")


if __name__ == "__main__":
    main()
