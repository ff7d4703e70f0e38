"""Any number of threads read one file at any position, with and without `pread`."""

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from alexnet_cli.io.random_access import RandomAccessFile

CONTENT = np.random.default_rng(0).integers(0, 256, 1 << 16, dtype=np.uint8).tobytes()


@pytest.fixture(params=["pread", "seek and read"])
def file(request, tmp_path, monkeypatch):
    if request.param != "pread":
        monkeypatch.delattr(os, "pread")
        monkeypatch.delattr(os, "preadv")
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    return RandomAccessFile(path)


def test_bytes_at_a_position(file):
    assert file.read(5, 100) == CONTENT[100:105]
    assert file.read(100, len(CONTENT) - 3) == CONTENT[-3:]
    array = np.zeros((4, 5, 3), np.uint8)
    assert file.read_into(array, 1000) == 60
    assert array.tobytes() == CONTENT[1000:1060]
    assert file.read_into(array, len(CONTENT) - 7) == 7


def test_threads_do_not_disturb_each_other(file):
    starts = np.random.default_rng(1).integers(0, len(CONTENT) - 64, 4000).tolist()
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda start: file.read(64, start), starts))
    assert found == [CONTENT[start : start + 64] for start in starts]


def test_file_that_is_missing_is_reported(tmp_path):
    with pytest.raises(FileNotFoundError):
        RandomAccessFile(tmp_path / "none")
