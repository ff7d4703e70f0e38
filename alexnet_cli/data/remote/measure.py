"""What tars without an index contain, measured in one pass before they are used, and remembered.

CACHE/measured/KEY.json   one tar; KEY is a hash of its name, size, and time or tag

A tar that was cut or damaged reads as a shorter one, so every later pass must find what this one
found: the same number of samples, the same labels, the same bytes.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from alexnet_cli.data.remote.cache import cache_folder, locked_file
from alexnet_cli.data.remote.tar_set import open_tar, tar_size_and_tag
from alexnet_cli.data.remote.tar_stream import TarStream, image_size_of, read_samples
from alexnet_cli.errors import DatasetError, counted
from alexnet_cli.io.atomic import read_checksummed, write_checksummed
from alexnet_cli.io.progress import SILENT, Progress
from alexnet_cli.io.thread_map import check_canceled, thread_map

NUM_THREADS = 8  # tars read at a time
MAX_TEXTS = 100  # of a label in one tar; more are captions, no names of a class


@dataclass(frozen=True, slots=True)
class TarMeasure:
    """What one pass over a tar found.

    Attributes:
        labels, keys: of its samples, in order.
        wnids: (label, wnid, key) of the first sample with both; the wnid may be None.
        said: (label, what says it, text, key) of texts that may be names of classes, each once.
        side: height and width of its images if they are all squares of one size, otherwise 0.
        passed_over: number of members and samples that are not used, by reason.
    """

    name: str
    sha256: str
    labels: tuple[int, ...]
    keys: tuple[str, ...]
    wnids: tuple[tuple[int, str | None, str], ...]
    said: tuple[tuple[int, str, str, str], ...]
    side: int
    passed_over: tuple[tuple[str, int], ...]

    def check(self, num_samples: int, sha256: str) -> None:
        """Raise a DatasetError if a later pass found something else."""
        if num_samples != len(self.labels):
            raise self.changed(
                f"{counted(num_samples, 'sample')}, {len(self.labels)} were measured"
            )
        if sha256 != self.sha256:
            raise self.changed("other bytes than were measured")

    def changed(self, what: str) -> DatasetError:
        """Return the error for a tar that is not as it was measured."""
        return DatasetError(
            f"{self.name}: {what}. It changed, or was damaged on its way.",
            kept="No result was written.",
            hint="To measure it again, run the same command again.",
        )


def measure_all(
    names: Sequence[str], *, allow_pipe: bool, progress: Progress = SILENT
) -> tuple[TarMeasure, ...]:
    """Return what each tar contains; only those are read that were not measured before.

    Raises:
        AlexNetError: as `read_samples`; the measures of finished tars are kept.
    """
    paths = dict(zip(names, thread_map(_record_path, names, NUM_THREADS), strict=True))
    records = {name: _read_record(name, path) for name, path in paths.items()}
    known = {name: record for name, record in records.items() if record}
    new = [name for name in names if name not in known]
    if new:
        progress.say(f"{len(new)} of {len(names)} tars are read once to count their samples")

    def measure(name: str) -> TarMeasure:
        paths[name].parent.mkdir(parents=True, exist_ok=True)
        with locked_file(paths[name]):  # another process may have measured it meanwhile
            return _read_record(name, paths[name]) or _measure(name, paths[name], allow_pipe)

    with progress.track("measure", len(new)) as bar:
        for found in thread_map(measure, new, NUM_THREADS, ordered=False):
            known[found.name] = found
            bar.advance(note=counted(len(found.labels), "sample"))
    return tuple(known[name] for name in names)


def forget(name: str) -> None:
    """Measure a tar again the next time."""
    _record_path(name).unlink(missing_ok=True)


def _record_path(name: str) -> Path:
    key = hashlib.sha256(f"{name} {tar_size_and_tag(name)}".encode()).hexdigest()[:32]
    return cache_folder() / "measured" / f"{key}.json"


def _read_record(name: str, path: Path) -> TarMeasure | None:
    record = read_checksummed(path)
    if record is None or "said" not in record:  # of a version that did not note it
        return None
    labels, keys = (tuple(record[field]) for field in ("labels", "keys"))
    wnids = tuple((label, wnid, key) for label, wnid, key in record["wnids"])
    said = tuple((label, says, text, key) for label, says, text, key in record["said"])
    passed_over = tuple((reason, count) for reason, count in record["passed_over"])
    lists = labels, keys, wnids, said
    return TarMeasure(name, record["sha256"], *lists, record["side"], passed_over)


def _measure(name: str, path: Path, allow_pipe: bool) -> TarMeasure:
    labels, keys, sides = [], [], set()
    wnids: dict[tuple[int, str | None], str] = {}
    said: dict[int, dict[str, tuple[str, str]]] = {}
    with open_tar(name, allow_pipe=allow_pipe) as source:
        tar = TarStream(source, name)
        for sample in read_samples(tar):
            check_canceled()
            labels.append(sample.label)
            keys.append(sample.key)
            wnids.setdefault((sample.label, sample.wnid), sample.key)
            texts = said.setdefault(sample.label, {})
            for says, text in sample.said:
                if len(texts) < MAX_TEXTS:
                    texts.setdefault(text, (says, sample.key))
            sides.add(square_side(sample.content))
    side = sides.pop() if len(sides) == 1 else 0
    all_said = tuple(
        (label, says, text, key)
        for label, texts in said.items()
        for text, (says, key) in texts.items()
    )
    firsts = tuple((*pair, key) for pair, key in wnids.items())
    lists = tuple(labels), tuple(keys), firsts, all_said
    found = TarMeasure(name, tar.digest.hexdigest(), *lists, side, tuple(tar.passed_over.items()))
    write_checksummed(path, asdict(found))
    return found


def square_side(content: bytes) -> int:
    """Return the side of a square image, 0 for any other."""
    height, width = image_size_of(content)
    return height if height == width else 0
