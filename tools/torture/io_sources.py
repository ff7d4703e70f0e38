"""Sources of images for prep_io: small, because prep is run on them hundreds of times."""

import io
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image

from alexnet_cli.data.demo.archives import write_demo_archives


def make_folders(folder: Path) -> None:
    """Draw nine images in train/CLASS and val/CLASS, some of them a folder deeper."""
    rng = np.random.default_rng(1)
    for name, count in (("train/ant", 4), ("train/bee/deep", 3), ("val/ant", 1), ("val/bee", 1)):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            pixels = rng.integers(0, 256, (12, 10, 3), np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")


def make_archives(folder: Path) -> None:
    """Draw a small release in the layout of the official archives."""
    folder.mkdir()
    write_demo_archives(folder, images_per_class=2, val_per_class=1, seed=1)


def make_cifar(folder: Path) -> None:
    """Write a CIFAR-10 archive of two classes and two images a file."""
    rng = np.random.default_rng(1)
    folder.mkdir()
    names = [*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin"]
    contents = {"batches.meta.txt": b"ant\nbee\n"}
    for name in names:
        rows = [bytes([label]) + rng.bytes(3 * 32 * 32) for label in range(2)]
        contents[name] = b"".join(rows)
    with tarfile.open(folder / "cifar-10-binary.tar.gz", "w:gz") as tar:
        for name, content in contents.items():
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
