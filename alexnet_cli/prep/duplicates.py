"""The same image in two classes: one of its labels is wrong, and nothing else would say so."""

from collections.abc import Sequence

import numpy as np

from alexnet_cli.data.shards.writer import ShardRecord, ShardTask
from alexnet_cli.io.progress import SILENT, Progress


def find_duplicates(
    done: Sequence[tuple[ShardTask, ShardRecord]], progress: Progress = SILENT
) -> list[dict[str, str]]:
    """Return images that are stored as the same JPEG as one of another class.

    Length and CRC-32 of the JPEG stand for its bytes: among a million different images one pair
    in a hundred such datasets would agree in both. Both of an image are one 64-bit key; all keys
    are sorted, and only images whose key occurs twice are looked at, so an image takes 8 bytes.

    Returns:
        `source` and `other`, full names of two images, in the order of the shards.
    """
    num_samples = sum(len(record.samples) for _, record in done)
    with progress.track("find duplicates", 2 * num_samples) as bar:
        keys, end = np.empty(num_samples, np.uint64), 0
        for _, record in done:
            start, end = end, end + len(record.samples)
            keys[start:end] = _keys_of(record)
            bar.advance(end - start)
        keys.sort()
        shared = np.unique(keys[1:][keys[1:] == keys[:-1]])
        del keys
        first_of: dict[int, tuple[str, set[int]]] = {}
        duplicates = []
        for task, record in done:
            own = _keys_of(record)
            for row in np.isin(own, shared, kind="sort").nonzero()[0].tolist():
                _, _, label, number, _ = record.samples[row]
                source = task.images[number - task.first_number].source
                first, known = first_of.setdefault(int(own[row]), (source, {label}))
                if label not in known:
                    known.add(label)
                    duplicates.append({"source": source, "other": first})
            bar.advance(len(own))
    return duplicates


def _keys_of(record: ShardRecord) -> np.ndarray:
    """Return CRC-32 and length of each JPEG in one number, uint64 (N,)."""
    lengths = np.array([length for _, length, *_ in record.samples], np.uint64)
    crcs = np.array([crc for *_, crc in record.samples], np.uint64)
    return crcs << np.uint64(32) | lengths


def in_words(duplicates: list[dict[str, str]]) -> str:
    """Return the warning that people get."""
    first = duplicates[0]
    return (
        f"warning: the same image in two classes, {len(duplicates):,} times, "
        f"the first {first['source']} and {first['other']}"
    )
