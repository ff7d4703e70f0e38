"""Some 400 odd and hostile files of tools/torture: each becomes what it must, and nothing else."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from alexnet_cli.data.images.decode import REASONS, decode
from alexnet_cli.data.images.resize import square, to_square
from alexnet_cli.data.shards.dataset import open_dataset
from alexnet_cli.errors import ImageError
from alexnet_cli.prep.build import prep
from alexnet_cli.prep.plan import PrepOptions, PrepRequest

FILES = Path(__file__).parents[2] / "tools" / "torture" / "odd_files.py"
MAX_LEVELS = 14  # gray levels on average: palettes, low quality


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("odd_files", FILES)
    sys.modules["odd_files"] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


odd = load()
SMALL = ("jpeg_costs", "png_costs", "gifs", "bmps", "tiffs", "sizes")  # they can be large, too
GROUPS = ("jpeg_kinds", "jpeg_damage", "png_kinds", "png_damage", "webps", "other_formats", *SMALL)


def files_of(group: str) -> list:
    make = getattr(odd, group)
    return list(make(False) if group in SMALL else make())


@pytest.fixture
def no_programs():
    """Let nothing start a process."""

    def start(*_, **__):
        raise AssertionError("a program was started")

    with pytest.MonkeyPatch.context() as crop:
        for module, name in ((subprocess, "Popen"), (os, "system"), (os, "posix_spawn")):
            crop.setattr(module, name, start)
        yield


@pytest.mark.parametrize("group", GROUPS)
def test_every_file_becomes_what_it_must(group, no_programs, capfd):
    for file in files_of(group):
        try:
            pixels, found = to_square(file.content, 32), odd.WRITTEN
        except ImageError as error:
            found = odd.REJECTED if error.reason in REASONS else error.reason
        assert file.outcome in (found, odd.EITHER), f"{file.name}: {found}"
        if found == odd.WRITTEN and file.drawn is not None:
            off = np.abs(pixels.astype(int) - square(file.drawn, 32)).mean()
            assert off <= MAX_LEVELS, f"{file.name} is {off:.0f} gray levels off"
    assert capfd.readouterr() == ("", "")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Some of every group, and good images, in two class folders."""
    folder = tmp_path_factory.mktemp("odd")
    for label, name in enumerate(("ant", "bee")):
        (folder / name).mkdir()
        for number in range(5):
            pixels = np.roll(odd.drawing(), 5 * number + label, axis=1)
            (folder / name / f"good-{number}.JPEG").write_bytes(odd.save(pixels, "JPEG"))
    for group in GROUPS:
        files = [file for file in files_of(group) if len(file.content) < 50_000]
        for number, file in enumerate(files[::4]):
            (folder / ("ant", "bee")[number % 2] / file.name).write_bytes(file.content)
    return folder


@pytest.fixture(scope="module")
def prepared(folder, tmp_path_factory):
    target = tmp_path_factory.mktemp("prepared") / "dataset"
    return prep(PrepRequest(folder, target, PrepOptions(size=32, shard_size=30), workers=1))


def test_found_is_written_and_rejected(folder, prepared):
    counts = prepared.splits["train"]
    assert counts["found"] == len([path for path in folder.rglob("*") if path.is_file()])
    assert counts["found"] == counts["written"] + counts["rejected"]
    assert min(counts["written"], counts["rejected"]) > 30
    open_dataset(Path(prepared.dataset))


def test_workers_make_the_same_bytes_of_it(folder, prepared, tmp_path):
    again = prep(
        PrepRequest(folder, tmp_path / "new", PrepOptions(size=32, shard_size=30), workers=3)
    )
    assert again.fingerprint == prepared.fingerprint
    assert again.rejected == prepared.rejected


def test_predict_decides_as_prep_does(alexnet, onnx_model, folder, prepared):
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    result = alexnet("predict", *paths, "--model", onnx_model, "--json")
    assert result.exit_code == 5
    rows = json.loads(result.stdout)["images"]
    refused = {r["image"]: r["error"] for r in rows if "error" in r}
    expected = {
        str(folder / row["source"]): f"{row['reason']}: {row['detail']}"
        for row in prepared.rejected
    }
    assert len(rows) == len(paths)
    assert refused == expected


def test_image_within_every_limit_is_decoded_whole():
    pixels = odd.drawing(1500, 1000)  # more than a band
    np.testing.assert_array_equal(decode(odd.save(pixels, "BMP")), pixels)
