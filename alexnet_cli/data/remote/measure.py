"""What tars without an index hold, measured before they are used: one pass, remembered for good.

CACHE/measured/KEY.json   one tar; KEY is made of its name, size, and time or tag

A tar that was cut or damaged reads as a shorter one, so every later pass must find what this one
found: the same number of samples, the same labels, the same bytes.
"""

import hashlib
import io
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import simplejpeg
from PIL import Image

from alexnet_cli.data.images.decode import FORMATS
from alexnet_cli.data.remote.cache import cache_folder, making
from alexnet_cli.data.remote.tar_set import open_tar, tar_size_and_tag
from alexnet_cli.data.remote.tar_stream import IMAGES, TarStream
from alexnet_cli.data.sources.webdataset import name_and_wnid, read_json, read_label
from alexnet_cli.errors import DatasetError, MachineError
from alexnet_cli.io.atomic import read_checksummed, write_checksummed
from alexnet_cli.io.progress import SILENT, Progress
from alexnet_cli.io.thread_map import check_canceled, thread_map

FORMAT = 1  # of a measure; changes when a pass would find something else
MAX_LABEL = (1 << 16) - 1
NUM_THREADS = 8  # tars read at a time


@dataclass(frozen=True, slots=True)
class RawSample:
    """One sample as it comes: an encoded image and its label.

    Attributes:
        wnid: that its name or note tells, if one does.
    """

    key: str
    content: bytes
    label: int
    wnid: str | None


@dataclass(frozen=True, slots=True)
class ShardMeasure:
    """What one pass over a tar found.

    Attributes:
        labels, keys: of its samples, in order.
        wnids: (label, wnid) pairs, each once; the wnid is None where a sample tells none.
        side: of its images, if they are all squares of one size; else 0.
        num_bare: samples without an image, which are passed over.
    """

    name: str
    sha256: str
    labels: tuple[int, ...]
    keys: tuple[str, ...]
    wnids: tuple[tuple[int, str | None], ...]
    side: int
    num_bare: int

    def check(self, num_samples: int, sha256: str) -> None:
        """Raise a DatasetError if a later pass found something else."""
        if num_samples != len(self.labels):
            raise self.changed(f"{num_samples} samples, {len(self.labels)} were measured")
        if sha256 != self.sha256:
            raise self.changed("other bytes than were measured")

    def changed(self, what: str) -> DatasetError:
        """Return the error that says so."""
        return DatasetError(
            f"{self.name}: {what}. It changed, or was damaged on its way.\n"
            "No result was written. To measure it anew: run the same command again."
        )


def read_samples(tar: TarStream, skipped: Callable[[], None] = lambda: None) -> Iterator[RawSample]:
    """Yield the samples of a tar; `skipped` is called for each without an image.

    Raises:
        InputError: the tar is damaged, or a sample has no label that a class can have.
        MachineError: the disk or the network fails.
    """
    from webdataset.tariterators import group_by_keys  # loads torch, two seconds

    members = ({"fname": name, "data": data, "__url__": ""} for name, data in tar.members())
    try:
        for group in group_by_keys(members):
            image = next((extension for extension in IMAGES if extension in group), None)
            if image is None:
                skipped()
            else:
                yield _sample(tar.name, group, image)
    except ValueError as error:
        why = str(error).partition(" {")[0].partition(" dict_keys")[0][:120]
        raise DatasetError(f"{tar.name}: {why!a}.") from error


def _sample(tar: str, group: dict, image: str) -> RawSample:
    key = group["__key__"]
    where = f"{tar}: {key[:80]!a}"
    note = read_json(group.get("json"), where)
    label = read_label(group.get("cls"), note, where)
    if label is None and re.fullmatch(rb"\s*\d{1,9}\s*", group.get("txt", b"")):
        label = int(group["txt"])
    if label is None:
        raise DatasetError(f"{where}: no label in .cls, .json or .txt.")
    if not 0 <= label <= MAX_LABEL:
        raise DatasetError(f"{where}: label {label}; labels lie in 0..{MAX_LABEL}.")
    _, wnid = name_and_wnid(f"{key}.{image}", note)
    return RawSample(key, group[image], label, wnid)


def measure_all(
    names: Sequence[str], *, allow_pipe: bool, progress: Progress = SILENT
) -> tuple[ShardMeasure, ...]:
    """Return what each tar holds; only those are read that were not measured before.

    Raises:
        AlexNetError: as `read_samples`; finished tars are remembered.
    """
    paths = dict(zip(names, thread_map(_record_path, names, NUM_THREADS), strict=True))
    known = {name: _recall(name, path) for name, path in paths.items()}
    new = [name for name in names if known[name] is None]
    if new:
        progress.say(f"{len(new)} of {len(names)} tars are read once to count their samples")

    def measure(name: str) -> ShardMeasure:
        return _measure(name, paths[name], allow_pipe)

    with progress.track("measure", len(new)) as bar:
        for found in thread_map(measure, new, NUM_THREADS, ordered=False):
            known[found.name] = found
            bar.advance(note=f"{len(found.labels)} samples")
    return tuple(known[name] for name in names)


def forget(name: str) -> None:
    """Measure a tar anew the next time."""
    _record_path(name).unlink(missing_ok=True)


def _record_path(name: str) -> Path:
    key = hashlib.sha256(f"{FORMAT} {name} {tar_size_and_tag(name)}".encode()).hexdigest()[:32]
    return cache_folder() / "measured" / f"{key}.json"


def _recall(name: str, path: Path) -> ShardMeasure | None:
    recorded = read_checksummed(path)
    if recorded is None:
        return None
    pairs = tuple((label, wnid) for label, wnid in recorded.pop("wnids"))
    lists = {field: tuple(recorded.pop(field)) for field in ("labels", "keys")}
    return ShardMeasure(name=name, wnids=pairs, **lists, **recorded)


def _measure(name: str, path: Path, allow_pipe: bool) -> ShardMeasure:
    path.parent.mkdir(parents=True, exist_ok=True)
    with making(path):
        found = _recall(name, path)  # of another process that measured it meanwhile
        if found is None:
            write_checksummed(path, _read_through(name, allow_pipe))
            found = _recall(name, path)
    if found is None:
        raise MachineError(f"{path}: does not give back what was written. Is the disk well?")
    return found


def _read_through(name: str, allow_pipe: bool) -> dict:
    """Return the fields of a tar's measure."""
    bare: list[None] = []
    labels, keys, pairs, sides = [], [], {}, set()
    with open_tar(name, allow_pipe=allow_pipe) as source:
        tar = TarStream(source, name)
        for sample in read_samples(tar, partial(bare.append, None)):
            check_canceled()
            labels.append(sample.label)
            keys.append(sample.key)
            pairs[sample.label, sample.wnid] = None
            sides.add(square_side(sample.content))
    side = sides.pop() if len(sides) == 1 else 0
    recorded = {"sha256": tar.digest.hexdigest(), "labels": labels, "keys": keys}
    return recorded | {"wnids": list(pairs), "side": side, "num_bare": len(bare)}


def image_size_of(content: bytes) -> tuple[int, int]:
    """Return height and width that an image's header tells; zeros if it cannot be read."""
    try:
        height, width, _, _ = simplejpeg.decode_jpeg_header(content)
        return height, width
    except ValueError:
        pass
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            return image.height, image.width
    except Exception:  # Pillow's plugins raise many kinds; decoding will say what it is
        return 0, 0


def square_side(content: bytes) -> int:
    """Return the side of a square image, 0 of any other."""
    height, width = image_size_of(content)
    return height if height == width else 0
