"""The same picture under two labels, found by its stored bytes."""

from pathlib import Path

from alexnet_cli.data.releases.release import Picture
from alexnet_cli.data.shards.index import Shard
from alexnet_cli.data.shards.writer import ShardRecord, ShardTask
from alexnet_cli.engine.prep.doubles import find_doubles, in_words


def shard(first: int, *rows: tuple[str, int, int, int]) -> tuple[ShardTask, ShardRecord]:
    """Return a shard of pictures (name, label, length, crc32)."""
    pictures = tuple(Picture(name, Path(name), -1, 9, label) for name, label, _, _ in rows)
    task = ShardTask(Path("new"), "train", 0, first, pictures, ("a", "b", "c"), 32, 90)
    samples = [(0, length, label, first + i, crc) for i, (_, label, length, crc) in enumerate(rows)]
    return task, ShardRecord(Shard(task.name, len(rows), 0, ""), samples, [])


def test_the_same_bytes_in_two_classes_are_found_across_shards():
    done = [shard(0, ("1.jpg", 0, 50, 7), ("2.jpg", 1, 50, 8)), shard(10, ("3.jpg", 2, 50, 7))]
    assert find_doubles(done) == [{"source": "3.jpg", "other": "1.jpg"}]


def test_the_same_bytes_in_one_class_are_nothing_to_say():
    assert find_doubles([shard(0, ("1.jpg", 1, 50, 7), ("2.jpg", 1, 50, 7))]) == []


def test_other_lengths_are_other_pictures():
    assert find_doubles([shard(0, ("1.jpg", 0, 50, 7), ("2.jpg", 1, 51, 7))]) == []


def test_each_further_class_is_one_more():
    rows = [(f"{label}.jpg", label, 50, 7) for label in (0, 1, 1, 2)]
    assert [row["source"] for row in find_doubles([shard(0, *rows)])] == ["1.jpg", "2.jpg"]


def test_the_warning_counts_them_and_names_the_first():
    doubles = [{"source": "b/2.jpg", "other": "a/1.jpg"}] * 1200
    assert in_words(doubles) == (
        "warning: the same picture in two classes, 1,200 times, the first b/2.jpg and a/1.jpg"
    )
