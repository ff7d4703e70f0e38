"""The files beside the shards: sample indexes, rejected.csv and, last, index.json."""

import csv
import io
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import alexnet_cli
from alexnet_cli.data.shards.dataset import SAMPLE_DTYPE, samples_name
from alexnet_cli.data.shards.index import (
    REJECTED_NAME,
    FileRecord,
    Index,
    SplitIndex,
    write_index,
)
from alexnet_cli.data.shards.writer import ShardRecord, ShardTask
from alexnet_cli.data.sources.source import Source
from alexnet_cli.errors import SourceError, counted, on_one_line, some_names
from alexnet_cli.io.atomic import write_bytes
from alexnet_cli.io.progress import SILENT, Progress
from alexnet_cli.prep.folder import forget

REJECTED_COLUMNS = ("split", "source", "reason", "detail")
Sample = tuple[int, int, int, int, int]  # as in ShardRecord
Duplicates = tuple[list[dict[str, str]], list[dict[str, str]]]  # of classes, of splits
Made = Sequence[tuple[ShardTask, ShardRecord]]  # all shards of a dataset, in order


def publish(
    folder: Path, plan: dict, source: Source, made: Made
) -> tuple[Index, list[dict[str, str]]]:
    """Write all files beside the shards; return the index and the rows of rejected.csv."""
    splits, contents = {}, {}
    for split in source.images:
        records = [record for task, record in made if task.split == split]
        splits[split] = SplitIndex(
            found=len(source.images[split]),
            written=sum(len(record.samples) for record in records),
            rejected=sum(len(record.rejected) for record in records),
            shards=tuple(record.shard for record in records),
        )
        contents[samples_name(split)] = sample_index([record.samples for record in records])
    rejected = [row for task, record in made for row in rejected_rows(task.split, record.rejected)]
    contents[REJECTED_NAME] = rejected_csv(rejected)
    for name, content in contents.items():
        write_bytes(folder / name, content)
    files = {name: FileRecord.of(content) for name, content in contents.items()}
    tool = f"alexnet {alexnet_cli.__version__}"
    index = Index(plan["options"], plan["source"], source.classes, splits, tool, files=files)
    write_index(folder, index)
    return index, rejected


def check_no_class_was_lost(
    source: Source, made: Made, allow_empty_class: bool, progress: Progress
) -> None:
    """Discard all shards if every training image of a class was rejected, unless that is allowed.

    Raises:
        SourceError: if it is not allowed.
    """
    splits = {"train"} if source.images["train"] else set(source.images)
    train = [record for task, record in made if task.split in splits]
    written = {label for record in train for _, _, label, *_ in record.samples}
    lost = [c.wnid for label, c in enumerate(source.classes) if label not in written]
    if not lost:
        return
    shown = some_names(lost)
    if allow_empty_class:
        progress.say(
            f"{counted(len(lost), 'class has', 'classes have')} no training image, but "
            f"{'keeps its' if len(lost) == 1 else 'keep their'} number: {shown}"
        )
        return
    rows = [row for record in train for row in record.rejected]
    name, _, reason, detail = next(row for row in rows if source.classes[row[1]].wnid in lost)
    for task, _ in made:
        (task.folder / task.name).unlink(missing_ok=True)
    forget(made[0][0].folder)
    raise SourceError(
        f"every training image of {counted(len(lost), 'class')} was rejected: {shown}; the "
        "first is "
        f"{on_one_line(name)}: {reason} ({on_one_line(detail)}).",
        kept="Nothing was written.",
        hint="Replace those images or remove the classes, then run prep again.",
    )


def sample_index(shards: list[list[Sample]]) -> bytes:
    """Return SPLIT.samples.npy for the samples of each of its shards."""
    rows = [(position, *sample) for position, samples in enumerate(shards) for sample in samples]
    file = io.BytesIO()
    np.save(file, np.array(rows, SAMPLE_DTYPE))
    return file.getvalue()


def rejected_rows(split: str, rejected: list[tuple[str, int, str, str]]) -> list[dict[str, str]]:
    """Return the rows of rejected.csv of one shard's rejected images."""
    return [
        dict(zip(REJECTED_COLUMNS, (split, source, reason, detail), strict=True))
        for source, _, reason, detail in rejected
    ]


def rejected_csv(rows: list[dict[str, str]]) -> bytes:
    """Return rejected.csv."""
    text = io.StringIO()
    writer = csv.DictWriter(text, REJECTED_COLUMNS)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode("utf-8", errors="backslashreplace")


def read_rejected(folder: Path) -> list[dict[str, str]]:
    """Return the rows of DATASET/rejected.csv."""
    with (folder / REJECTED_NAME).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def find_duplicates(made: Made, progress: Progress = SILENT) -> Duplicates:
    """Return images that are stored as the same JPEG as others, and warn of them.

    Of two classes, one of the labels is wrong. Of two splits, what is measured on one of them was
    learned from the other. Length and CRC-32 of the JPEG stand for its bytes: among a million
    different images one pair in a hundred such datasets would agree in both. Both are one 64-bit
    key per image; only images whose key occurs twice are compared.

    Returns:
        In the order of the shards: `source` and `other`, full names of two images in different
        classes; and of images in different splits, with `split` and `other_split`.
    """
    num_samples = sum(len(record.samples) for _, record in made)
    with progress.track("find duplicates", 2 * num_samples) as bar:
        keys, end = np.empty(num_samples, np.uint64), 0
        for _, record in made:
            start, end = end, end + len(record.samples)
            keys[start:end] = _keys_of(record)
            bar.advance(end - start)
        keys.sort()
        shared = np.unique(keys[1:][keys[1:] == keys[:-1]])
        del keys
        first_of: dict[int, tuple[str, str, set[int]]] = {}
        duplicates, overlap = [], []
        for task, record in made:
            own = _keys_of(record)
            for row in np.isin(own, shared, kind="sort").nonzero()[0].tolist():
                _, _, label, number, _ = record.samples[row]
                source = task.images[number - task.first_number].source
                first = source, task.split, {label}
                other, other_split, labels = first_of.setdefault(int(own[row]), first)
                names = {"source": source, "other": other}
                if label not in labels:
                    labels.add(label)
                    duplicates.append(names)
                if task.split != other_split:
                    overlap.append({**names, "split": task.split, "other_split": other_split})
            bar.advance(len(own))
    if duplicates:
        progress.say(
            f"warning: the same image in two classes, {len(duplicates):,} times, "
            f"the first {duplicates[0]['source']} and {duplicates[0]['other']}"
        )
    pairs = Counter((row["split"], row["other_split"]) for row in overlap)
    for (split, other_split), count in pairs.items():
        pair = next(p for p in overlap if (p["split"], p["other_split"]) == (split, other_split))
        progress.say(
            f"warning: {counted(count, f'{split} image is', f'{split} images are')} in "
            f"{other_split} as well, so errors measured "
            f"on {split} are too low; the first {pair['source']} is {pair['other']}"
        )
    return duplicates, overlap


def _keys_of(record: ShardRecord) -> np.ndarray:
    """Return CRC-32 and length of each JPEG in one number, uint64 (N,)."""
    lengths = np.array([length for _, length, *_ in record.samples], np.uint64)
    crcs = np.array([crc for *_, crc in record.samples], np.uint64)
    return crcs << np.uint64(32) | lengths
