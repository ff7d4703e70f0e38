"""Does `alexnet predict` of many photos take longer than their decoding and the network alone?

    python tools/bench/predict.py MODEL.onnx PHOTOS [--images 1000] [--rounds 3]

Every round decodes the photos with as many threads as there are cores, then opens the model and
computes all batches, then runs the command, its start included, which writes the same photos' rows
to a CSV file. The command's time is divided by the sum of the other two, in wall seconds and in
processor seconds, which other programs disturb less; medians of the rounds are printed.
"""

import argparse
import itertools
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from alexnet_cli import load_model
from alexnet_cli.inference.images import to_pixels
from alexnet_cli.inference.model import CROPS_PER_BATCH
from alexnet_cli.io.cores import num_cores
from alexnet_cli.types import USUAL_RULES


def measure(work: Callable[[], object]) -> np.ndarray:
    """Return wall and processor seconds of one call, those of finished child processes included."""
    before = os.times()
    work()
    used = np.subtract(os.times(), before)
    return np.array([used[4], used[:4].sum()])


def main() -> None:
    """Print the seconds of every round, and the median ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    files = sorted(path for path in options.photos.rglob("*") if path.is_file())
    photos = list(itertools.islice(itertools.cycle(files), options.images))
    model = load_model(options.model, device="cpu")
    size, batch = model.info.image_size, max(1, CROPS_PER_BATCH["cpu"] // model.info.num_views)
    pixels: list[np.ndarray] = []

    def decode() -> None:
        with ThreadPoolExecutor(num_cores()) as pool:
            pixels[:] = pool.map(lambda photo: to_pixels(photo, size, USUAL_RULES), photos)

    def compute() -> None:
        model = load_model(options.model, device="cpu")
        for start in range(0, len(pixels), batch):
            model.probabilities(np.stack(pixels[start : start + batch]))

    ratios = []
    with tempfile.TemporaryDirectory() as folder:
        names, rows = Path(folder, "photos.txt"), Path(folder, "rows.csv")
        names.write_text("".join(f"{photo.absolute()}\n" for photo in photos))
        command = [sys.executable, "-m", "alexnet_cli", "predict", "--from-file", str(names)]
        command += ["--model", str(options.model), "--device", "cpu", "-o", str(rows)]
        for _ in range(options.rounds):
            decoding, computing = measure(decode), measure(compute)
            whole = measure(lambda: subprocess.run(command, check=True, capture_output=True))
            ratios.append(whole / (decoding + computing))
            print(
                f"decoding {decoding[0]:.2f} s, network {computing[0]:.2f} s, "
                f"command {whole[0]:.2f} s: {ratios[-1][0]:.3f} times"
            )
    wall, processor = np.median(ratios, axis=0)
    print(f"{options.images:,} photos: {wall:.3f} times, processor time {processor:.3f} times")


if __name__ == "__main__":
    main()
