"""The files beside the shards as bytes: the sample index of a split, and rejected.csv."""

import csv
import io
from pathlib import Path

import numpy as np

from alexnet_cli.data.shards.dataset import SAMPLE_DTYPE
from alexnet_cli.data.shards.index import REJECTED_NAME
from alexnet_cli.data.shards.writer import ShardRecord, ShardTask

REJECTED_COLUMNS = ("split", "source", "reason", "detail")
Sample = tuple[int, int, int, int, int]  # as in ShardRecord


def sample_index(shards: list[list[Sample]]) -> bytes:
    """Return SPLIT.samples.npy for the samples of each of its shards."""
    rows = [(position, *sample) for position, samples in enumerate(shards) for sample in samples]
    file = io.BytesIO()
    np.save(file, np.array(rows, SAMPLE_DTYPE))
    return file.getvalue()


def rejected_rows(task: ShardTask, record: ShardRecord) -> list[dict[str, str]]:
    """Return the rows of rejected.csv that belong to one shard."""
    return [
        dict(zip(REJECTED_COLUMNS, (task.split, source, reason, detail), strict=True))
        for source, _, reason, detail in record.rejected
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
