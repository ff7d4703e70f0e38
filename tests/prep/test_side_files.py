import csv
import io
from pathlib import Path

import numpy as np

from alexnet_cli.data.shards.dataset import SAMPLE_DTYPE
from alexnet_cli.data.shards.index import Shard
from alexnet_cli.data.shards.writer import ShardRecord, ShardTask
from alexnet_cli.prep.side_files import read_rejected, rejected_csv, rejected_rows, sample_index


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
    task = ShardTask(Path("new"), "val", 0, 0, (), (), 32, 90)
    shard = Shard(task.name, 0, 10_240, "")
    record = ShardRecord(shard, [], [('a "b", c\n.png', 0, "empty", "0 bytes")])
    rows = rejected_rows(task, record)
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
