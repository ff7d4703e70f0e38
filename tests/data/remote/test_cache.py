"""The cache: bytes compared before they get a name; nothing twice, nothing half, nothing else."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from alexnet_cli.cli.hints import message
from alexnet_cli.data.pixel_stats import FILE_NAME
from alexnet_cli.data.remote.cache import CachedFiles, cache_folder, fetch_each, open_files
from alexnet_cli.data.shards.dataset import samples_name
from alexnet_cli.data.shards.index import INDEX_NAME, read_index
from alexnet_cli.errors import DatasetError, MachineError
from alexnet_cli.io import disk
from alexnet_cli.io.progress import SILENT
from alexnet_cli.io.thread_map import check_canceled, thread_map


def shards_of(files: CachedFiles) -> list:
    return [shard for split in files.index.splits.values() for shard in split.shards]


def fetch_all(files: CachedFiles) -> None:
    fetch_each(files.fetch, files.announce_missing(shards_of(files), SILENT), SILENT)


def left_over(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob("*.partial")]


def test_cache_folder_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("ALEXNET_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.delenv("ALEXNET_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "alexnet"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "alexnet"


def test_shards_are_fetched_once_and_completely(web, dataset):
    server = web(dataset)
    files = open_files(server.url)
    fetch_all(files)
    for shard in shards_of(files):
        assert (files.folder / shard.name).read_bytes() == (dataset / shard.name).read_bytes()
    asked = list(server.asked)
    assert asked[0] == INDEX_NAME
    assert len(asked) == len(set(asked))
    again = open_files(server.url)
    fetch_all(again)
    assert again.folder == files.folder
    assert server.asked == [*asked, INDEX_NAME]


def test_every_url_and_dataset_has_its_own_folder(web, dataset, copy):
    first = open_files(web(dataset).url)
    second = open_files(web(dataset).url)
    server = web(copy)
    third = open_files(server.url)
    index = read_index(copy)
    classes = (replace(index.classes[0], name="renamed"), *index.classes[1:])
    (copy / INDEX_NAME).write_text(replace(index, classes=classes).to_json())
    fourth = open_files(server.url)
    assert len({first.folder, second.folder, third.folder, fourth.folder}) == 4


@pytest.mark.parametrize("fault", ["other", "cut", "refuse", 500])
def test_temporary_error_leaves_no_trace(web, dataset, fault):
    server = web(dataset)
    files = open_files(server.url)
    shard = shards_of(files)[0]
    server.faults[shard.name] = [fault]
    files.fetch(shard)
    assert (files.folder / shard.name).read_bytes() == (dataset / shard.name).read_bytes()
    assert not left_over(files.folder)


@pytest.mark.parametrize(
    ("fault", "error", "word"),
    [
        ("other", DatasetError, "SHA-256"),
        ("cut", MachineError, "after 4 tries"),
        (500, MachineError, "HTTP 500"),
        (403, MachineError, "access denied"),
        (404, DatasetError, "no such file"),
    ],
)
def test_lasting_error_names_the_shard_and_leaves_nothing(web, dataset, fault, error, word):
    server = web(dataset)
    files = open_files(server.url)
    shard = shards_of(files)[1]
    server.faults[shard.name] = [fault] * 20
    with pytest.raises(error, match=word) as raised:
        fetch_all(files)
    assert shard.name in str(raised.value)
    assert message(raised.value).count("\n") < 3
    assert not (files.folder / shard.name).exists()
    assert not left_over(files.folder)


@pytest.mark.parametrize("change", [-700, 700])
def test_shard_of_another_length_is_refused(web, copy, change):
    files = open_files(web(copy).url)
    shard = shards_of(files)[0]
    content = (copy / shard.name).read_bytes()
    (copy / shard.name).write_bytes(content[:change] if change < 0 else content + bytes(change))
    with pytest.raises(DatasetError, match=f"size is .* bytes, not {shard.num_bytes}"):
        files.fetch(shard)
    assert not (files.folder / shard.name).exists()


@pytest.mark.parametrize("name", ["../../escaped.tar", "/etc/passwd", "https://other/a.tar", ".x"])
def test_index_that_names_other_files_fetches_nothing(web, copy, name):
    content = (copy / INDEX_NAME).read_text()
    first = read_index(copy).splits["train"].shards[0].name
    (copy / INDEX_NAME).write_text(content.replace(f'"{first}"', json.dumps(name)))
    server = web(copy)
    with pytest.raises(DatasetError, match=r"index\.json: damaged"):
        open_files(server.url)
    assert server.asked == [INDEX_NAME]


def test_edited_index_is_refused(web, copy, cache):
    content = (copy / INDEX_NAME).read_text()
    (copy / INDEX_NAME).write_text(content.replace('"quality": 90', '"quality": 91'))
    with pytest.raises(DatasetError, match="edited") as raised:
        open_files(web(copy).url)
    assert "index-" not in str(raised.value)
    assert list(cache.iterdir()) == []


def test_url_without_a_dataset_is_named(web, tmp_path):
    with pytest.raises(DatasetError, match=r"index\.json: there is no such file"):
        open_files(web(tmp_path).url)


def test_fetched_files_are_used_without_a_network(web, dataset, said):
    server = web(dataset)
    files = open_files(server.url)
    fetch_all(files)
    server.close()
    again = open_files(server.url, said)
    assert again == files
    assert "cannot be reached" in said.lines[0]
    fetch_all(again)


def test_threads_fetch_each_shard_once(web, dataset):
    server = web(dataset)
    files = open_files(server.url)
    shard = shards_of(files)[0]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(files.fetch, [shard] * 8))
    assert server.asked.count(shard.name) == 1


def test_partial_file_of_a_killed_process_is_removed(web, dataset):
    files = open_files(web(dataset).url)
    shard = shards_of(files)[0]
    (files.folder / f"{shard.name}.abc.99.partial").write_bytes(b"half")
    files.fetch(shard)
    assert not left_over(files.folder)


def test_shard_truncated_in_the_cache_is_fetched_again(web, dataset):
    files = open_files(web(dataset).url)
    shard = shards_of(files)[0]
    (files.folder / shard.name).write_bytes(b"short")
    files.fetch(shard)
    assert (files.folder / shard.name).read_bytes() == (dataset / shard.name).read_bytes()


def test_missing_shards_are_reported_in_megabytes(web, dataset, said, monkeypatch):
    files = open_files(web(dataset).url)
    shards = shards_of(files)
    files.fetch(shards[0])
    missing = files.announce_missing(shards, said)
    assert missing == tuple(shards[1:])
    total = sum(shard.num_bytes for shard in missing)
    assert f"{len(shards) - 1} of {len(shards)} shards, {total / 1e6:,.1f} MB" in said.lines[0]
    monkeypatch.setattr(disk, "free_bytes", lambda _: total - 1)
    with pytest.raises(MachineError, match="more are needed") as error:
        files.announce_missing(shards, said)
    assert "ALEXNET_CACHE" in error.value.hint


def test_sample_index_and_pixel_stats_are_fetched(web, dataset):
    files = open_files(web(dataset).url)
    files.read_samples("train")
    files.fetch_stats()
    for name in (samples_name("train"), FILE_NAME):
        assert (files.folder / name).read_bytes() == (dataset / name).read_bytes()


def test_dataset_without_pixel_stats_is_fetched(web, copy):
    (copy / FILE_NAME).unlink()
    files = open_files(web(copy).url)
    files.fetch_stats()
    assert not (files.folder / FILE_NAME).exists()


def test_canceled_fetch_leaves_nothing(web, dataset):
    files = open_files(web(dataset).url)
    shard, other_failed = shards_of(files)[0], threading.Event()

    def fetch_or_fail(shard):
        if shard is None:
            raise DatasetError("the first fault")
        with pytest.raises(InterruptedError):
            files.fetch(shard)
        other_failed.set()

    def wait_until_canceled(shard):
        with suppress(InterruptedError):
            while shard:
                check_canceled()
        fetch_or_fail(shard)

    with pytest.raises(DatasetError, match="the first fault"):
        list(thread_map(wait_until_canceled, [shard, None], 2))
    assert other_failed.wait(10)
    assert not left_over(files.folder)
    assert not (files.folder / shard.name).exists()
