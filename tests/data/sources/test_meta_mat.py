"""meta.mat is read beside us: whatever becomes of the reader is a sentence."""

import io
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
import scipy.io

from alexnet_cli.data.sources import meta_mat
from alexnet_cli.data.sources.meta_mat import MetaError, read_leaves

FIELDS = ("ILSVRC2012_ID", "WNID", "words", "gloss", "num_children")


def meta(*rows: tuple) -> bytes:
    synsets = np.array([*rows], dtype=[(field, object) for field in FIELDS])[:, None]
    file = io.BytesIO()
    scipy.io.savemat(file, {"synsets": synsets})
    return file.getvalue()


KIT = meta((1, "n02", "ant, emmet", "", 0), (2, "n01", "bee", "", 0), (3, "n03", "animal", "", 2))


def bomb(num_bytes: int) -> bytes:
    """A variable of zeros, packed a thousandfold."""
    packer = zlib.compressobj(9)
    head = struct.pack("<II", 14, num_bytes + 64) + struct.pack("<4I", 6, 8, 9, 0)
    head += struct.pack("<IIii", 5, 8, num_bytes, 1) + struct.pack("<II", 1, 7) + b"synsets\0"
    packed = packer.compress(head + struct.pack("<II", 2, num_bytes))
    for _ in range(num_bytes >> 20):
        packed += packer.compress(bytes(1 << 20))
    packed += packer.flush()
    return KIT[:128] + struct.pack("<II", 15, len(packed)) + packed


def test_leaves_are_read_with_their_ids_wnids_and_words():
    assert read_leaves(KIT) == [(1, "n02", "ant, emmet"), (2, "n01", "bee")]


@pytest.mark.parametrize("content", [b"", b"text" * 99, KIT[:300]], ids=["empty", "text", "cut"])
def test_damage_is_reported_on_one_line(content):
    with pytest.raises(MetaError) as failure:
        read_leaves(content)
    assert "\n" not in str(failure.value)
    assert "Traceback" not in str(failure.value)


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is Linux's")
def test_variable_that_unpacks_without_end_is_refused():
    with pytest.raises(MetaError, match="MemoryError"):
        read_leaves(bomb(700 << 20))


def test_reader_that_dies_raises_an_error(monkeypatch):
    run = subprocess.run

    def killed(command, **options):
        code = "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"
        return run([command[0], "-c", code], **options)

    monkeypatch.setattr(meta_mat.subprocess, "run", killed)
    with pytest.raises(MetaError, match="the reader died, code -11"):
        read_leaves(KIT)


def test_reader_that_hangs_raises_an_error(monkeypatch):
    run = subprocess.run
    monkeypatch.setattr(meta_mat, "SECONDS", 0.2)
    monkeypatch.setattr(
        meta_mat.subprocess,
        "run",
        lambda command, **options: run(
            [command[0], "-c", "import time; time.sleep(60)"], **options
        ),
    )
    with pytest.raises(MetaError, match="not read in"):
        read_leaves(KIT)
