import hashlib
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from alexnet_cli.data.remote.datasets import DATASETS


@pytest.fixture
def served(web, tmp_path, monkeypatch):
    """imagenette-160 stands for a small archive on this machine."""
    folder = tmp_path / "web"
    folder.mkdir()
    for split in ("train", "val"):
        for wnid in ("n01440764", "n02102040"):
            path = folder / "imagenette2-160" / split / wnid / f"{wnid}_1.JPEG"
            path.parent.mkdir(parents=True)
            Image.new("RGB", (90, 80), (20, 90, 200)).save(path)
    published = DATASETS["imagenette-160"]
    with tarfile.open(folder / published.name, "w:gz") as archive:
        archive.add(folder / "imagenette2-160", "imagenette2-160")
    opened = web(folder)
    digest = hashlib.md5((folder / published.name).read_bytes()).hexdigest()
    file = replace(published, url=f"{opened.url}/{published.name}", digest=digest)
    monkeypatch.setitem(DATASETS, "imagenette-160", file)
    return opened


def test_published_hashes_have_their_length_and_a_file():
    for name, file in DATASETS.items():
        assert len(file.digest) == {"md5": 32, "sha256": 64}[file.algorithm], name
        assert file.url.endswith(file.name)


def test_archive_is_fetched_once_into_the_cache(served, answer, cache):
    found = answer("download", "imagenette-160")
    assert Path(found["file"]) == cache / "downloads" / "imagenette2-160.tgz"
    assert found["bytes"] == Path(found["file"]).stat().st_size
    assert answer("download", "imagenette-160") == found
    assert served.asked == ["imagenette2-160.tgz"]


def test_archive_is_copied_to_the_folder_or_file_named(served, answer, fails, tmp_path):
    assert answer("download", "imagenette-160", "-o", tmp_path)["file"] == str(
        tmp_path / "imagenette2-160.tgz"
    )
    content = (tmp_path / "imagenette2-160.tgz").read_bytes()
    found = answer("download", "imagenette-160", "-o", tmp_path / "own.tgz")
    assert Path(found["file"]).read_bytes() == content
    fails(3, "download", "imagenette-160", "-o", tmp_path / "own.tgz")
    answer("download", "imagenette-160", "-o", tmp_path / "own.tgz", "--force")


def test_text_names_the_next_command(served, shown):
    text = shown("download", "imagenette-160")
    assert "next: alexnet prep" in text
    assert "shards/imagenette-160" in text


def test_fetched_archive_becomes_a_dataset(served, answer, tmp_path):
    archive = answer("download", "imagenette-160")["file"]
    found = answer("prep", archive, tmp_path / "shards", "--size", 64, "--workers", 1)
    assert found["splits"]["train"]["written"] == found["splits"]["val"]["written"] == 2


@pytest.mark.parametrize(("fault", "code"), [("other", 3), (404, 3), (403, 4)])
def test_other_or_missing_file_is_refused(served, fails, cache, fault, code):
    served.faults = {"imagenette2-160.tgz": [fault]}
    fails(code, "download", "imagenette-160")
    assert not (cache / "downloads" / "imagenette2-160.tgz").exists()


def test_cut_transfer_is_made_again(served, answer):
    served.faults = {"imagenette2-160.tgz": ["cut"]}
    answer("download", "imagenette-160")
    assert len(served.asked) == 2


def test_unknown_name_is_refused_with_the_known_ones(fails):
    assert "imagenette-160, tiny-imagenet, cifar-10" in fails(2, "download", "mnist").message
