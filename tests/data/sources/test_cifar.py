"""CIFAR's binary version, as a folder and as the archive that is given out."""

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from helpers import refused
from PIL import Image

from alexnet_cli.data.sources.cifar import VARIANTS, Variant, read_cifar
from alexnet_cli.data.sources.source import Source
from alexnet_cli.data.sources.staging import fill_staging
from alexnet_cli.errors import SourceError
from alexnet_cli.io.progress import SILENT

TEN, HUNDRED = VARIANTS
NAMES = ("airplane", "bird", "cat")
PER_FILE = 4


def records(variant: Variant, file_number: int) -> tuple[bytes, list[int], np.ndarray]:
    """Return a file's bytes, its labels and its images."""
    rng = np.random.default_rng([variant.label_bytes, file_number])
    labels = [number % len(NAMES) for number in range(PER_FILE)]
    pixels = rng.integers(0, 256, (PER_FILE, 32, 32, 3), dtype=np.uint8)
    coarse = bytes(variant.label_bytes - 1)
    content = b"".join(
        coarse + bytes([label]) + image.transpose(2, 0, 1).tobytes()
        for label, image in zip(labels, pixels, strict=True)
    )
    return content, labels, pixels


def write(folder: Path, variant: Variant, names: tuple[str, ...] = NAMES) -> Path:
    """Write the folder that the archive holds."""
    folder.mkdir(parents=True)
    (folder / variant.names).write_text("\n".join(names) + "\n\n")
    for number, name in enumerate((*variant.train, variant.test)):
        (folder / name).write_bytes(records(variant, number)[0])
    return folder


def pack(folder: Path, path: Path) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        tar.add(folder, folder.name)
    return path


def read(source: Path, staging: Path) -> Source:
    release = read_cifar(source, staging)
    assert release is not None
    fill_staging(release.staged, SILENT)
    return release


@pytest.fixture(params=[TEN, HUNDRED], ids=["ten", "hundred"])
def variant(request) -> Variant:
    return request.param


@pytest.fixture
def folder(tmp_path, variant) -> Path:
    return write(tmp_path / "source" / variant.folder, variant)


def test_every_image_has_its_label_and_pixels(folder, variant, tmp_path):
    source = read(folder, tmp_path / "staging")
    assert {s: len(p) for s, p in source.images.items()} == {
        "train": PER_FILE * len(variant.train), "val": 0, "test": PER_FILE
    }  # fmt: skip
    by_name = {p.name: p for split in source.images.values() for p in split}
    for number, name in enumerate((*variant.train, variant.test)):
        _, labels, pixels = records(variant, number)
        for row in range(PER_FILE):
            image = by_name[f"{Path(name).stem}_{row:05d}.png"]
            assert image.label == labels[row]
            assert np.array_equal(np.asarray(Image.open(io.BytesIO(image.read()))), pixels[row])


def test_folder_and_archive_anywhere_are_read_the_same(folder, variant, tmp_path):
    expected = read(folder, tmp_path / "staging")
    (tmp_path / "packed").mkdir()
    archive = pack(folder, tmp_path / "packed" / variant.archive)
    for number, source in enumerate((folder.parent, archive, archive.parent)):
        release = read(source, tmp_path / f"staging{number}")
        assert release.fingerprint() == expected.fingerprint()
        for ours, theirs in zip(release.images["train"], expected.images["train"], strict=True):
            assert ours.read() == theirs.read()


def test_classes_are_the_names_in_the_folder(folder, tmp_path):
    assert [entry.wnid for entry in read(folder, tmp_path / "s").classes] == list(NAMES)


def test_names_in_another_order_still_give_sorted_classes(tmp_path):
    folder = write(tmp_path / TEN.folder, TEN, names=("cat", "bird", "airplane"))
    source = read(folder, tmp_path / "s")
    assert [entry.wnid for entry in source.classes] == list(NAMES)
    assert next(p for p in source.images["test"] if p.name.endswith("0.png")).label == 2


def test_one_split_alone_is_read_and_a_missing_file_named(folder, variant, tmp_path):
    def both() -> list[Path]:
        return [folder.parent, pack(folder, tmp_path / variant.archive)]

    content = (folder / variant.test).read_bytes()
    (folder / variant.test).unlink()
    for source in both():
        images = read(source, tmp_path / "trained").images
        assert (len(images["train"]), len(images["test"])) == (PER_FILE * len(variant.train), 0)
    (folder / variant.test).write_bytes(content)
    for name in variant.train[1:]:
        (folder / name).unlink()
    if variant is TEN:
        for source in both():
            with refused(SourceError, "no data_batch_2.bin inside"):
                read_cifar(source, tmp_path / "s")
    (folder / variant.train[0]).unlink()
    for source in both():
        images = read(source, tmp_path / "tested").images
        assert (len(images["train"]), len(images["test"])) == (0, PER_FILE)
    (folder / variant.names).unlink()
    for source in both():
        with refused(SourceError, f"no {variant.names} inside"):
            read_cifar(source, tmp_path / "s")


@pytest.mark.parametrize("length", [0, 1, 3073 * 2 + 100])
def test_cut_file_is_named(folder, variant, tmp_path, length):
    path = folder / variant.train[0]
    path.write_bytes(path.read_bytes()[:length])
    with refused(SourceError, rf"{path.name}: \d+ bytes are no multiple"):
        read_cifar(folder, tmp_path / "s")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_cut_archive_is_refused(folder, variant, tmp_path, share):
    path = pack(folder, tmp_path / variant.archive)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with refused(SourceError, f"{variant.archive}: cut or damaged"):
        read_cifar(path, tmp_path / "s")


def test_label_beyond_the_names_is_refused_by_file_and_image(tmp_path):
    folder = write(tmp_path / TEN.folder, TEN, names=NAMES[:2])
    with refused(SourceError, r"data_batch_1.bin: image 2 has label 2 of 2"):
        read_cifar(folder, tmp_path / "s")


@pytest.mark.parametrize("name", ["cifar-10-batches-py/", "cifar-10-python.tar.gz"])
def test_pickled_version_is_refused_with_the_name_of_the_other(tmp_path, name):
    path = tmp_path / name
    path.mkdir() if name.endswith("/") else path.touch()
    for source in (tmp_path, path):
        with refused(SourceError, r"pickled.*\n.*cifar-10-binary\.tar\.gz"):
            read_cifar(source, tmp_path / "s")


def test_another_folder_is_not_recognized(tmp_path):
    assert read_cifar(tmp_path, tmp_path / "s") is None


@pytest.mark.parametrize("names", [(), ("cat", "dog", "cat"), ("cat",) * 5000])
def test_names_that_cannot_be_those_of_the_classes_are_refused(tmp_path, names):
    folder = write(tmp_path / "source" / TEN.folder, TEN, names)
    with refused(SourceError, rf"{TEN.names}: {len(names)} names"):
        read_cifar(folder, tmp_path / "staging")
