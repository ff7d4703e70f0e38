"""Tars as others make them, written by webdataset itself."""

import io
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
import webdataset
from helpers import Listener
from PIL import Image

Sample = dict[str, object]


def encoded(seed: int, height: int, width: int, kind: str = "jpeg") -> bytes:
    """Return an image file of smooth colors, of its own for each seed."""
    corners = np.random.default_rng(seed).integers(0, 256, (2, 2, 3), np.uint8)
    image = Image.fromarray(corners).resize((width, height), Image.Resampling.BICUBIC)
    content = io.BytesIO()
    image.save(content, kind)
    return content.getvalue()


def samples(first: int, count: int, num_classes: int = 3, side: int = 32) -> Iterable[Sample]:
    """Yield squares with labels that repeat."""
    for number in range(first, first + count):
        yield {
            "__key__": f"{number:06d}",
            "jpg": encoded(number, side, side),
            "cls": number % num_classes,
        }


@pytest.fixture
def encode() -> Callable[..., bytes]:
    """Make an image file: `encode(seed, height, width, kind)`."""
    return encoded


@pytest.fixture
def said() -> Listener:
    """A progress that keeps its lines."""
    return Listener()


@pytest.fixture
def write_tar(tmp_path) -> Callable[..., Path]:
    """Write samples as a tar: `write_tar("train-0.tar", samples(0, 5))`."""

    def write(name: str, entries: Iterable[Sample]) -> Path:
        path = tmp_path / "tars" / name
        path.parent.mkdir(exist_ok=True)
        with webdataset.TarWriter(str(path)) as writer:
            for entry in entries:
                writer.write(entry)
        return path

    return write


@pytest.fixture
def tars(write_tar) -> Path:
    """A folder of three training tars of 7, 0 and 12 samples, and one of 5 for validation."""
    write_tar("set-train-000000.tar", samples(0, 7))
    write_tar("set-train-000001.tar", samples(0, 0))
    write_tar("set-train-000002.tar", samples(100, 12))
    return write_tar("set-val-000000.tar", samples(200, 5)).parent
