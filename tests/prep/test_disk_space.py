import errno
import io
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from alexnet_cli.data.shards.writer import RECORDS, ShardTask, make_shard
from alexnet_cli.data.sources.source import SourceImage
from alexnet_cli.errors import MachineError
from alexnet_cli.prep.disk_space import check_space, explain_fault

SIZE = 64


def png(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (70, 80, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def tasks(tmp_path) -> list[ShardTask]:
    """Four shards of twenty noisy images."""
    (tmp_path / "new" / RECORDS).mkdir(parents=True)
    images = []
    for number in range(80):
        path = tmp_path / f"{number}.png"
        path.write_bytes(png(number))
        images.append(SourceImage(path.name, path, -1, path.stat().st_size, 0))
    return [
        ShardTask(
            tmp_path / "new", "train", i, 20 * i, tuple(images[20 * i : 20 * i + 20]),
            ("n01",) * len(images[20 * i : 20 * i + 20]), SIZE, 90,
        )
        for i in range(4)
    ]  # fmt: skip


@pytest.fixture
def disk(monkeypatch):
    """Set how many bytes are free."""

    def set_free(count: int) -> None:
        usage = shutil.disk_usage("/")._replace(free=count)
        monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)

    return set_free


def made_bytes(tasks: list[ShardTask]) -> int:
    return sum(make_shard(task).shard.num_bytes for task in tasks)


def test_disk_with_room_is_accepted(tasks, tmp_path, disk):
    disk(1 << 40)
    check_space(tmp_path, tasks)


def test_nothing_to_do_needs_no_room(tmp_path, disk):
    disk(0)
    check_space(tmp_path, [])


def test_estimate_is_within_a_tenth_of_what_is_written(tasks, tmp_path, disk):
    written = made_bytes(tasks)
    disk(int(1.15 * written))
    check_space(tmp_path, tasks)
    disk(int(0.95 * written))
    with pytest.raises(MachineError, match=r"need about \d+\.\d MB, \d+\.\d MB are free"):
        check_space(tmp_path, tasks)


def test_only_shards_that_are_missing_are_counted(tasks, tmp_path, disk):
    written = made_bytes(tasks)
    disk(int(0.3 * written))
    check_space(tmp_path, tasks[3:])


def test_refusal_names_the_option_that_goes_on_all_the_same(tasks, tmp_path, disk):
    disk(1000)
    with pytest.raises(MachineError, match=f"{tmp_path}.*\n.*--force"):
        check_space(tmp_path, tasks)


def test_images_that_cannot_be_read_fall_back_to_a_known_size(tasks, tmp_path, disk):
    for path in Path(tmp_path).glob("*.png"):
        path.write_bytes(b"none")
    disk(10_000)
    with pytest.raises(MachineError, match=r"need about 0\.4 MB"):
        check_space(tmp_path, tasks)


def test_copies_of_the_images_are_counted_too(tasks, tmp_path, disk):
    written = made_bytes(tasks)
    disk(int(1.15 * written))
    check_space(tmp_path, tasks, num_copied=1000)
    with pytest.raises(MachineError, match="need about"):
        check_space(tmp_path, tasks, num_copied=written)


def friendly_oom_errors(number: int, folder: Path, tasks: list[ShardTask]) -> str:
    error = OSError(number, os.strerror(number), str(folder / "train-000002.tar"))
    return str(explain_fault(error, folder, tasks))


def test_full_disk_says_how_much_more_is_needed(tasks, tmp_path, disk):
    written = made_bytes(tasks[2:])
    disk(0)
    lines = friendly_oom_errors(errno.ENOSPC, tmp_path, tasks[2:]).splitlines()
    name, what, rest = lines[0].split(": ")
    assert (name, what) == (str(tmp_path / "train-000002.tar"), "disk full")
    more, unit = rest.removeprefix("about ").removesuffix(" more are needed.").split()
    assert unit == "MB"
    assert float(more) * 1e6 == pytest.approx(written, rel=0.15)
    assert lines[1] == "Finished shards are kept. Make room and run the same command again."


def test_quota_has_its_word_and_what_is_to_be_written(tasks, tmp_path, disk):
    disk(1 << 40)
    text = friendly_oom_errors(errno.EDQUOT, tmp_path, tasks)
    assert "the disk quota is used up: the shards still to be made need about" in text


def test_room_that_cannot_be_asked_for_changes_nothing(tasks, tmp_path, monkeypatch):
    def fail(path):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(shutil, "disk_usage", fail)
    assert "disk full: the shards still to be made need about" in friendly_oom_errors(
        errno.ENOSPC, tmp_path, tasks
    )


def test_other_faults_need_no_room(tasks, tmp_path):
    assert "train-000002.tar: Input/output error.\nFinished" in friendly_oom_errors(
        errno.EIO, tmp_path, tasks
    )
