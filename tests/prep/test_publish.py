"""The files beside the shards, and the same image under two labels."""

import csv
import io
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from helpers import Listener

from alexnet_cli.data.shards.dataset import SAMPLE_DTYPE
from alexnet_cli.data.shards.index import Shard
from alexnet_cli.data.shards.writer import ShardRecord, ShardTask
from alexnet_cli.data.sources.source import SourceImage
from alexnet_cli.prep.publish import (
    find_duplicates,
    read_rejected,
    rejected_csv,
    rejected_rows,
    sample_index,
)


def shard(first: int, *rows: tuple[str, int, int, int]) -> tuple[ShardTask, ShardRecord]:
    """Return a shard of images (name, label, length, crc32)."""
    images = tuple(SourceImage(name, Path(name), -1, 9, label) for name, label, _, _ in rows)
    task = ShardTask(Path("new"), "train", 0, first, images, ("a",) * len(rows), 32, 90)
    samples = [(0, length, label, first + i, crc) for i, (_, label, length, crc) in enumerate(rows)]
    return task, ShardRecord(Shard(task.name, len(rows), 0, ""), samples, [])


def test_same_bytes_in_two_classes_are_found_across_shards():
    done = [shard(0, ("1.jpg", 0, 50, 7), ("2.jpg", 1, 50, 8)), shard(10, ("3.jpg", 2, 50, 7))]
    assert find_duplicates(done) == [{"source": "3.jpg", "other": "1.jpg"}]


def test_same_bytes_in_one_class_are_no_duplicates():
    assert find_duplicates([shard(0, ("1.jpg", 1, 50, 7), ("2.jpg", 1, 50, 7))]) == []


def test_other_lengths_are_other_images():
    assert find_duplicates([shard(0, ("1.jpg", 0, 50, 7), ("2.jpg", 1, 51, 7))]) == []


def test_each_further_class_is_one_more_duplicate():
    rows = [(f"{label}.jpg", label, 50, 7) for label in (0, 1, 1, 2)]
    assert [row["source"] for row in find_duplicates([shard(0, *rows)])] == ["1.jpg", "2.jpg"]


def find_pair_by_pair(done: list[tuple[ShardTask, ShardRecord]]) -> list[dict[str, str]]:
    """Return the same by comparing every image with every one before it."""
    duplicates, before = [], []
    for task, record in done:
        for _, length, label, number, crc in record.samples:
            source = task.images[number - task.first_number].source
            same = [(s, other) for s, other, *key in before if key == [length, crc]]
            if same and label not in {other for _, other in same}:
                duplicates.append({"source": source, "other": same[0][0]})
            before.append((source, label, length, crc))
    return duplicates


@pytest.mark.parametrize("seed", range(20))
def test_duplicates_are_those_that_comparing_every_pair_finds(seed):
    rng = np.random.default_rng(seed)
    crcs, lengths = [0, 1, 2**31, 2**32 - 1], [1, 2**31, 2**32 - 1]
    done, first = [], 0
    for _ in range(rng.integers(0, 6)):
        rows = [
            (
                f"{first + i}.jpg",
                int(rng.integers(4)),
                int(rng.choice(lengths)),
                int(rng.choice(crcs)),
            )
            for i in range(rng.integers(0, 9))
        ]
        done.append(shard(first, *rows))
        first += len(rows)

    assert find_duplicates(done) == find_pair_by_pair(done)


def test_search_reports_progress():
    listener = Listener()

    find_duplicates([shard(0, ("1.jpg", 0, 50, 7), ("2.jpg", 1, 50, 7))], listener)

    assert (listener.what, listener.total, listener.done) == ("find duplicates", 4, 4)


def test_search_takes_few_bytes_per_image():
    """An entry of a dictionary for each would take some 400."""
    done, per_shard = [], 1000
    for number in range(100):
        first = number * per_shard
        rows = [
            (0, 20_000 + i, i % 7, first + i, zlib.crc32(b"%d" % (first + i)))
            for i in range(per_shard)
        ]
        task = ShardTask(Path("new"), "train", number, first, (), (), 32, 90)
        done.append((task, ShardRecord(Shard(task.name, per_shard, 0, ""), rows, [])))
    tracemalloc.start()
    try:
        assert find_duplicates(done) == []
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 40 * 100 * per_shard


def test_warning_counts_duplicates_and_names_the_first():
    listener, rows = Listener(), [(f"{n}.jpg", n, 50, 7) for n in range(1201)]
    find_duplicates([shard(0, *rows)], listener)
    assert listener.lines == [
        "warning: the same image in two classes, 1,200 times, the first 1.jpg and 0.jpg"
    ]


def test_sample_index_numbers_the_shards():
    content = sample_index([[(512, 10, 1, 0, 99)], [], [(512, 20, 0, 5, 98), (4096, 30, 1, 6, 97)]])
    rows = np.load(io.BytesIO(content))
    assert rows.dtype == SAMPLE_DTYPE
    assert rows["shard"].tolist() == [0, 2, 2]
    assert rows["length"].tolist() == [10, 20, 30]
    assert rows["crc32"].tolist() == [99, 98, 97]


def test_sample_index_of_no_samples_has_its_columns():
    assert np.load(io.BytesIO(sample_index([[]]))).dtype == SAMPLE_DTYPE


def test_rejected_images_are_rows_of_the_table(tmp_path):
    rows = rejected_rows("val", [('a "b", c\n.png', 0, "empty", "0 bytes")])
    (tmp_path / "rejected.csv").write_bytes(rejected_csv(rows))
    assert read_rejected(tmp_path) == rows
    assert rows[0]["split"] == "val"


def test_names_that_are_no_unicode_are_escaped():
    content = rejected_csv(
        [{"split": "train", "source": "\udcff", "reason": "empty", "detail": ""}]
    )
    assert list(csv.reader(content.decode().splitlines()))[1][1] == r"\udcff"


def test_table_of_nothing_has_its_header(tmp_path):
    (tmp_path / "rejected.csv").write_bytes(rejected_csv([]))
    assert read_rejected(tmp_path) == []
    assert (tmp_path / "rejected.csv").read_bytes() == b"split,source,reason,detail\r\n"
