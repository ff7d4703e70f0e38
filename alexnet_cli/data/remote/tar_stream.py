"""The samples of a tar that others made, read once from its first byte to its last.

webdataset reads a member before it looks at its size, and takes a damaged header for the end of a
tar. Here sizes come first, and only zeros up to the last byte are an end. Nothing is extracted, and
members of other kinds (.pkl, .pyd, links, ...) are not read.
"""

import hashlib
import io
import sys
import tarfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import simplejpeg
from PIL import Image

from alexnet_cli.data.images.decode import FORMATS
from alexnet_cli.data.remote.tar_set import ByteSource, split_of
from alexnet_cli.data.sources.labels import MAX_CLASSES
from alexnet_cli.data.sources.samples import (
    ADD_LABEL,
    IMAGES,
    MAX_IMAGE_BYTES,
    MAX_NOTE_BYTES,
    NO_IMAGE,
    NO_LABEL,
    NOTES,
    Sample,
    kind_of,
    read_notes,
    samples_of,
)
from alexnet_cli.data.sources.source import NO_PLAIN_MEMBER, NO_TEST_LABEL
from alexnet_cli.errors import DatasetError, MachineError
from alexnet_cli.io.tar import DamagedTarError, read_members

BUFFER_BYTES = 1 << 16
UNREADABLE = "image that cannot be read"
LOST = (NO_IMAGE, UNREADABLE, NO_TEST_LABEL)  # of what is passed over, the samples


@dataclass(frozen=True, slots=True)
class RawSample:
    """An encoded image with its label.

    Attributes:
        tar, key: where it is.
        wnid: the WordNet ID in its name or notes, if there is one.
        said: as in `SampleNotes`.
    """

    tar: str
    key: str
    content: bytes
    label: int
    wnid: str | None
    said: tuple[tuple[str, str], ...] = ()


def read_samples(tar: "TarStream") -> Iterator[RawSample]:
    """Yield the samples of a tar; what is not used is counted in `tar.passed_over`.

    That are samples without an image, or with one whose header cannot be read, and of test sets
    those without a label.

    Raises:
        InputError: if the tar is damaged, or a sample has no label that a class can have.
        MachineError: if the disk or the network fails.
    """
    for sample in samples_of(tar.members(), tar.name):
        tar.passed_over.update(sample.passed_over)
        if sample.image is None:
            continue
        if image_size_of(sample.image[1]) == (0, 0):
            tar.passed_over[UNREADABLE] += 1
        elif found := _labeled(tar.name, sample, *sample.image):
            yield found
        else:
            tar.passed_over[NO_TEST_LABEL] += 1


def _labeled(tar: str, sample: Sample[bytes], name: str, image: bytes) -> RawSample | None:
    """Return a sample with its label; None if a test set has none for it."""
    where = f"{tar}: {sample.key[:80]!a}"
    notes = read_notes(sample.notes, name, where)
    if notes.label is None and split_of(tar) == "test":
        return None
    if notes.label is None:
        raise DatasetError(f"{where}: {NO_LABEL}", hint=ADD_LABEL)
    if isinstance(notes.label, str):
        raise DatasetError(
            f"{where}: label {notes.label!r}; labels of tars that are streamed are numbers.",
            hint="prep reads names as labels: alexnet prep FOLDER DATASET",
        )
    if not 0 <= notes.label < MAX_CLASSES:
        raise DatasetError(f"{where}: label {notes.label}; labels are 0..{MAX_CLASSES - 1}.")
    return RawSample(tar, sample.key, image, notes.label, notes.wnid, notes.said)


def image_size_of(content: bytes) -> tuple[int, int]:
    """Return height and width in an image's header; zeros if it cannot be read."""
    try:
        height, width, _, _ = simplejpeg.decode_jpeg_header(content)
        return height, width
    except ValueError:
        pass
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            return image.height, image.width
    except Exception:  # Pillow's plugins raise many kinds; decoding will report the fault
        return 0, 0


class TarStream(io.RawIOBase):
    """One tar, read once from its first byte to its last.

    Attributes:
        digest: SHA-256 of the bytes read; of the whole tar after the last member.
        passed_over: number of members and samples that are not used, by reason.
    """

    def __init__(self, source: ByteSource, name: str):
        super().__init__()
        self.name, self.digest, self._source = name, hashlib.sha256(), source
        self.passed_over: Counter[str] = Counter()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            content = self._source.read(len(buffer))
        except OSError as error:  # not of the tar
            raise MachineError(f"{self.name}: {error.strerror or error}.") from error
        buffer[: len(content)] = content
        self.digest.update(content)
        return len(content)

    def members(self) -> Iterator[tuple[str, bytes]]:
        """Yield name and content of the images and notes, and the names of other files.

        Raises:
            DatasetError: if the tar is cut or damaged, or a member is sparse or too large.
        """
        file: Any = _ForwardFile(io.BufferedReader(self, BUFFER_BYTES))
        try:
            for member in read_members(file, end=sys.maxsize):
                if member.isdir():
                    continue
                if not member.isreg():
                    self.passed_over[NO_PLAIN_MEMBER] += 1
                elif self._is_wanted(member):
                    file.seek(member.offset_data)
                    yield member.name, file.read(member.size)
                else:
                    yield member.name, b""
        except DamagedTarError as error:
            raise DatasetError(f"{self.name}: {error}.") from error
        while content := file.read(BUFFER_BYTES):
            if content.strip(b"\0"):
                raise DatasetError(f"{self.name}: cut or damaged: zeros in place of a header.")

    def _is_wanted(self, member: tarfile.TarInfo) -> bool:
        kind = kind_of(member.name)
        limit = MAX_IMAGE_BYTES if kind in IMAGES else MAX_NOTE_BYTES
        if kind not in IMAGES + NOTES:
            return False
        if member.issparse() or member.size > limit:
            what = "sparse" if member.issparse() else f"{member.size} bytes, at most {limit} are"
            raise DatasetError(f"{self.name}: {member.name[:80]!a} is {what} read.")
        return True


class _ForwardFile:
    """What tarfile needs of a file, without going back."""

    def __init__(self, file: io.BufferedReader):
        self._file, self._position = file, 0

    def read(self, count: int) -> bytes:
        content = self._file.read(count)
        self._position += len(content)
        return content

    def tell(self) -> int:
        return self._position

    def seek(self, position: int) -> None:
        if position < self._position:
            raise tarfile.StreamError("a member before the one that was read")
        while position > self._position:
            if not self.read(min(position - self._position, BUFFER_BYTES)):
                return
