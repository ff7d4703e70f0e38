"""CIFAR-10 and CIFAR-100, binary version: a label (CIFAR-100: a coarse and a fine one), pixels.

Its images are 32x32 pixels without a file format; each is read as a lossless PNG.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

from alexnet_cli.data.sources.codecs import CIFAR_BYTES
from alexnet_cli.data.sources.source import Layout, Source, SourceImage
from alexnet_cli.data.sources.staging import StagedFile
from alexnet_cli.errors import SourceError
from alexnet_cli.io.tar import DamagedTarError, read_small_tar
from alexnet_cli.types import ImageClass

MAX_MEMBER_BYTES = 1 << 28
MAX_CLASSES = 256  # a label is a byte


@dataclass(frozen=True, slots=True)
class Variant:
    """One of the two sets."""

    title: str
    folder: str
    archive: str
    names: str
    train: tuple[str, ...]
    test: str
    label_bytes: int  # before the pixels of each image; the last one is the label

    @property
    def files(self) -> tuple[str, ...]:
        return (self.names, *self.train, self.test)


VARIANTS = (
    Variant(
        "CIFAR-10",
        "cifar-10-batches-bin",
        "cifar-10-binary.tar.gz",
        "batches.meta.txt",
        tuple(f"data_batch_{number}.bin" for number in range(1, 6)),
        "test_batch.bin",
        1,
    ),
    Variant(
        "CIFAR-100",
        "cifar-100-binary",
        "cifar-100-binary.tar.gz",
        "fine_label_names.txt",
        ("train.bin",),
        "test.bin",
        2,
    ),
)
PICKLED = ("cifar-10-python.tar.gz", "cifar-10-batches-py", "cifar-100-python.tar.gz")


def read_cifar(source: Path, staging: Path) -> Source | None:
    """List the images of CIFAR-10 or CIFAR-100; None if neither is in `source`.

    `source` is the archive, the folder in it, or a folder that holds one of them.
    """
    for variant in VARIANTS:
        folder = next((f for f in (source, source / variant.folder) if _holds(f, variant)), None)
        if folder is not None:
            present = [name for name in variant.files if (folder / name).is_file()]
            content = {name: (folder / name).read_bytes() for name in present}
            _check_complete(folder, content, variant)
            return _list_images(variant, content, folder, "", ())
        archive = source if source.name == variant.archive else source / variant.archive
        if archive.is_file():
            content = _read_archive(archive, variant)
            staged = tuple(
                StagedFile(staging / name, len(content[name]), partial(_write, content[name]))
                for name in (*variant.train, variant.test)
                if name in content
            )
            return _list_images(variant, content, staging, f"{archive.name}/", staged)
    for path in (source, *(source / name for name in PICKLED)):
        if path.name in PICKLED and path.exists():
            raise SourceError(
                f"{path} is pickled, and nothing is ever unpickled here.",
                hint="Download the binary version, cifar-10-binary.tar.gz or "
                "cifar-100-binary.tar.gz.",
            )
    return None


def _holds(folder: Path, variant: Variant) -> bool:
    return any((folder / name).is_file() for name in (*variant.train, variant.test)) and (
        folder.name == variant.folder or (folder / variant.names).is_file()
    )


def _check_complete(path: Path, content: dict[str, bytes], variant: Variant) -> None:
    """Raise a SourceError if a file is not there; all of one split may be missing."""
    has_train = any(name in content for name in variant.train)
    needed = {variant.names, *(variant.train if has_train else [variant.test])}
    for name in sorted(needed):
        if name not in content:
            raise SourceError(
                f"{path}: no {name} inside.", hint=f"Download {variant.archive} again."
            )


def _read_archive(path: Path, variant: Variant) -> dict[str, bytes]:
    def key_of(member: str) -> str | None:
        name = member.rpartition("/")[2]
        return name if name in variant.files else None

    try:
        content = read_small_tar(path, key_of, MAX_MEMBER_BYTES)
    except DamagedTarError as error:
        raise SourceError(
            f"{path}: cut or damaged ({error}).", hint="Download it again."
        ) from error
    _check_complete(path, content, variant)
    return content


def _write(content: bytes, file: BinaryIO) -> None:
    file.write(content)


def _list_images(
    variant: Variant,
    content: dict[str, bytes],
    folder: Path,
    parent: str,
    staged: tuple[StagedFile, ...],
) -> Source:
    """List the images of the files in `folder`, which may still have to be staged."""
    names = content[variant.names].decode("ascii", "replace").split()
    # Both sets number their classes in alphabetical order; sorting keeps our rule if one did not.
    if not 0 < len(names) == len(set(names)) <= MAX_CLASSES:
        raise SourceError(f"{parent}{variant.names}: {len(names)} names, or one of them twice.")
    label_of = [sorted(names).index(name) for name in names]
    size = variant.label_bytes + CIFAR_BYTES
    images: dict[str, list[SourceImage]] = {"train": [], "val": [], "test": []}
    there = [name for name in (*variant.train, variant.test) if name in content]
    for file_name in there:
        split = "test" if file_name == variant.test else "train"
        path = folder / file_name
        records = content[file_name]
        if not records or len(records) % size:
            raise SourceError(
                f"{path}: {len(records)} bytes are no multiple of {size}; it is cut.",
                hint="Download it again.",
            )
        for row, number in enumerate(records[variant.label_bytes - 1 :: size]):
            if number >= len(names):
                raise SourceError(f"{path}: image {row} has label {number} of {len(names)}.")
            offset = row * size + variant.label_bytes
            name = f"{path.stem}_{row:05d}.png"
            label = label_of[number]
            images[split].append(
                SourceImage(name, path, offset, CIFAR_BYTES, label, parent, "cifar")
            )
    classes = tuple(ImageClass(name, name) for name in sorted(names))
    return Source(f"{variant.title}, binary version", classes, images, {}, staged)


LAYOUT = Layout(
    "cifar",
    "cifar-10-binary.tar.gz or cifar-10-batches-bin (CIFAR-100 alike)",
    read_cifar,
    ("staging",),
)
