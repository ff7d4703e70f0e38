"""The same picture in two classes: one of its labels is wrong, and nothing else would say so."""

from collections.abc import Iterable

from alexnet_cli.data.shards.writer import ShardRecord, ShardTask


def find_doubles(done: Iterable[tuple[ShardTask, ShardRecord]]) -> list[dict[str, str]]:
    """Return pictures that are stored as the same JPEG as one of another class.

    Length and CRC-32 of the JPEG stand for its bytes: among a million different pictures one pair
    in a hundred such datasets would agree in both.

    Returns:
        `source` and `other`, full names of two pictures, in the order of the shards.
    """
    seen: dict[tuple[int, int], tuple[str, set[int]]] = {}
    doubles = []
    for task, record in done:
        for _, length, label, number, crc in record.samples:
            source = task.pictures[number - task.first_number].source
            first, known = seen.setdefault((length, crc), (source, {label}))
            if label not in known:
                known.add(label)
                doubles.append({"source": source, "other": first})
    return doubles


def in_words(doubles: list[dict[str, str]]) -> str:
    """Return the warning that people get."""
    first = doubles[0]
    return (
        f"warning: the same picture in two classes, {len(doubles):,} times, "
        f"the first {first['source']} and {first['other']}"
    )
