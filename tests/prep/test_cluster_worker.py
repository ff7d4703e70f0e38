"""What a worker does, without a cluster."""

import os
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from alexnet_cli.cli.hints import message
from alexnet_cli.data.demo.images import CLASSES, draw_jpeg
from alexnet_cli.data.shards.writer import RECORDS, ShardTask, TaskStopped, make_shard
from alexnet_cli.data.sources.source import SourceImage
from alexnet_cli.errors import MachineError
from alexnet_cli.prep import cluster
from alexnet_cli.prep.cluster import (
    Job,
    check_worker,
    collect_facts,
    list_entries,
    make_shard_there,
)


@pytest.fixture
def job(tmp_path) -> Job:
    import numpy as np

    (tmp_path / "source").mkdir()
    for label in range(3):
        jpeg = draw_jpeg(CLASSES[label].draw, np.random.default_rng(label))
        (tmp_path / "source" / f"{label}.jpg").write_bytes(jpeg)
    return job_in(tmp_path / "dataset")


def job_in(folder: Path) -> Job:
    (folder / RECORDS).mkdir(parents=True)
    token = folder / RECORDS / "cluster-17"
    token.touch()
    return Job(folder.parent / "source", token, collect_facts(folder.parent / "source"))


def tasks_of(job: Job, num_shards: int, copies: int = 1) -> list[ShardTask]:
    paths = sorted(job.source.iterdir()) * copies
    images = tuple(SourceImage(path.name, path, -1, path.stat().st_size, 0) for path in paths)
    return [
        ShardTask(job.dataset, "train", i, 100 * i, images[i:], ("n01",) * len(images[i:]), 64, 90)
        for i in range(num_shards)
    ]


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*") if path.is_file()}


def test_worker_that_sees_the_same_is_fit_and_leaves_nothing(job):
    before = names(job.dataset)
    check_worker(job)
    assert names(job.dataset) == before


def test_shard_is_that_of_make_shard(job, tmp_path):
    (task,) = tasks_of(job, 1)
    record = make_shard_there(job, task)
    other = job_in(tmp_path / "other")
    assert make_shard(replace(task, folder=other.dataset)) == record
    shards = [folder / task.name for folder in (job.dataset, other.dataset)]
    assert shards[0].read_bytes() == shards[1].read_bytes()


def test_shard_that_a_lost_worker_finished_is_not_made_again(job):
    (task,) = tasks_of(job, 1)
    record = make_shard_there(job, task)
    os.utime(job.dataset / task.name, (1, 1))
    assert make_shard_there(job, task) == record
    assert (job.dataset / task.name).stat().st_mtime == 1


def test_damaged_shard_is_made_again(job):
    (task,) = tasks_of(job, 1)
    record = make_shard_there(job, task)
    os.truncate(job.dataset / task.name, 100)
    assert make_shard_there(job, task) == record
    assert (job.dataset / task.name).stat().st_size == record.shard.num_bytes


def test_threads_of_a_worker_make_the_same_shards_as_one(job, tmp_path):
    tasks = tasks_of(job, 8, copies=5)
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda task: make_shard_there(job, task), tasks))
    other = job_in(tmp_path / "other")
    alone = [make_shard(replace(task, folder=other.dataset)) for task in tasks]
    assert together == alone
    assert names(job.dataset) - {job.token.name} == names(other.dataset) - {other.token.name}


def test_two_workers_may_make_one_shard_at_the_same_time(job):
    (task,) = tasks_of(job, 1, copies=10)
    with ThreadPoolExecutor(4) as pool:
        records = list(pool.map(lambda _: make_shard(task), range(4)))
    assert records == records[:1] * 4
    assert names(job.dataset) == {task.name, task.record_path.name, job.token.name}


def test_shard_is_abandoned_when_the_token_is_gone(job, monkeypatch):
    monkeypatch.setattr(cluster, "LOOK_SECONDS", 0.0)
    check_worker(job)
    (task,) = tasks_of(job, 1, copies=5)
    read, count = SourceImage.read, []

    def end_at_third(image):
        count.append(image)
        if len(count) == 3:
            job.token.unlink()
        return read(image)

    monkeypatch.setattr(SourceImage, "read", end_at_third)
    with pytest.raises(TaskStopped):
        make_shard_there(job, task)
    assert len(count) == 3
    assert names(job.dataset) == set()


def test_token_is_read_at_most_once_per_interval(job, monkeypatch):
    check_worker(job)
    looks = []
    monkeypatch.setattr(Path, "read_bytes", lambda path: looks.append(path) or b"")
    is_over = cluster._watch(job.token)
    assert [is_over() for _ in range(1000)] == [False] * 1000
    assert looks == [job.token] * len(looks)
    assert len(looks) < 10


def refusal(job: Job) -> str:
    with pytest.raises(MachineError) as caught:
        make_shard_there(job, tasks_of(job, 1)[0])
    assert caught.value.exit_code == 4
    assert message(caught.value).count("\n") <= 2
    assert "run the same command again" in message(caught.value).replace("\n", " ")
    return message(caught.value)


def test_worker_without_the_dataset_is_refused_by_path(job):
    job.token.unlink()
    assert f": {job.dataset}: No such file or directory" in refusal(job)


def test_worker_that_cannot_write_is_refused(job, monkeypatch):
    def refuse(**_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(cluster.tempfile, "TemporaryFile", refuse)
    assert f": {job.dataset}: Permission denied" in refusal(job)


def test_worker_with_another_source_is_refused_by_path(job):
    (job.source / "new.jpg").touch()
    assert re.search(f": {job.source}: 4 entries .* there, 3 entries .* here", refusal(job))


@pytest.mark.parametrize(
    ("versions", "expected"),
    [
        ({"alexnet": "9.9"}, "alexnet 0.1.0 there, 9.9 here"),
        ({"simplejpeg": "9.9"}, " there, 9.9 here"),
        ({"other-resizer": "4.0"}, "other-resizer missing there, 4.0 here"),
    ],
)
def test_worker_with_another_version_is_refused_with_both(job, monkeypatch, versions, expected):
    monkeypatch.setattr(cluster.alexnet_cli, "__version__", "0.1.0")
    assert expected in refusal(replace(job, facts={**job.facts, **versions}))


def test_worker_with_a_library_that_prep_lacks_is_refused(job):
    versions = {name: text for name, text in job.facts.items() if name != "simplejpeg"}
    assert "missing here" in refusal(replace(job, facts=versions))


def test_worker_that_computes_other_pixels_is_refused(job):
    facts = {**job.facts, "CRC-32 of a test image": "0"}
    assert re.search(
        r"CRC-32 of a test image \w{8} there, 0 here", refusal(replace(job, facts=facts))
    )


def test_entries_are_those_of_a_folder_the_size_of_a_file_and_empty_of_nothing(tmp_path):
    (tmp_path / "a").write_bytes(b"four")
    assert list_entries(tmp_path / "a") == "4 bytes"
    assert list_entries(tmp_path / "none") == "nothing"
    before = list_entries(tmp_path)
    (tmp_path / os.fsdecode(b"\xff")).touch()
    assert list_entries(tmp_path) != before
