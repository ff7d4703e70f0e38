import errno
import os
import shutil
from pathlib import Path

import pytest

from alexnet_cli.engine import shard_pool

OPTIONS = ("--size", 112, "--shard-size", 25)  # those of the dataset in tests/conftest.py


@pytest.fixture
def one_bad_picture(class_folders) -> Path:
    (class_folders / "cat" / "note.JPEG").write_text("not a picture at all")
    return class_folders


def prepared(dataset: Path) -> dict[str, bytes]:
    """Return every file that prep made."""
    return {path.name: path.read_bytes() for path in dataset.iterdir() if path.suffix != ".npz"}


def test_json_counts_every_picture_of_the_archives(answer, release, tmp_path):
    found = answer("prep", release, tmp_path / "new", *OPTIONS, "--workers", 1)
    assert found["classes"] == 10
    assert found["splits"] == {
        "train": {"found": 60, "written": 60, "rejected": 0, "shards": 3},
        "val": {"found": 30, "written": 30, "rejected": 0, "shards": 2},
    }
    assert found["dataset"] == str(tmp_path / "new")


def test_table_shows_found_written_rejected_and_shards(shown, release, tmp_path):
    text = shown("prep", release, tmp_path / "new", *OPTIONS, "--workers", 1)
    rows = [line.replace("\u2502", " ").split() for line in text.splitlines()]
    assert ["train", "60", "60", "0", "3"] in rows
    assert ["val", "30", "30", "0", "2"] in rows


@pytest.mark.parametrize("workers", [2, 3])
def test_workers_do_not_change_a_byte(answer, release, dataset, tmp_path, workers):
    answer("prep", release, tmp_path / "new", *OPTIONS, "--workers", workers)
    assert prepared(tmp_path / "new") == prepared(dataset)


def test_second_time_nothing_is_done(answer, shown, release, dataset, unharmed):
    check = unharmed(dataset)
    assert answer("prep", release, dataset, *OPTIONS)["already_complete"] is True
    assert "already complete" in shown("prep", release, dataset, *OPTIONS)
    check()


def test_other_options_are_refused_by_name(fails, release, dataset, unharmed):
    check = unharmed(dataset)
    failure = fails(3, "prep", release, dataset, *OPTIONS, "--quality", 80)
    assert "quality 90 there, 80 now" in failure.message
    check()


def test_default_dataset_is_named_after_the_source(answer, class_folders, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = answer("prep", class_folders, "--size", 64, "--workers", 1)
    assert found["dataset"] == str(Path("shards/folders"))
    assert (tmp_path / "shards" / "folders" / "index.json").is_file()


def test_val_fraction_divides_class_folders(answer, class_folders, tmp_path):
    arguments = ("--val-fraction", 0.4, "--size", 64, "--workers", 1)
    splits = answer("prep", class_folders, tmp_path / "new", *arguments)["splits"]
    assert (splits["train"]["written"], splits["val"]["written"]) == (4, 2)


def test_text_named_jpeg_is_counted_listed_and_exit_5(fails, one_bad_picture, tmp_path):
    folder = tmp_path / "new"
    failure = fails(5, "prep", one_bad_picture, folder, "--size", 64, "--workers", 1)
    assert "--max-bad 1" in failure.message
    assert "note.JPEG" in failure.stdout
    assert "not-an-image" in failure.stdout
    header, row = (folder / "rejected.csv").read_text().splitlines()
    assert header == "split,source,reason,detail"
    assert row.startswith("train,cat/note.JPEG,not-an-image,")


def test_rejects_are_accepted_up_to_max_bad(answer, one_bad_picture, tmp_path):
    arguments = ("--max-bad", 1, "--size", 64, "--workers", 1)
    found = answer("prep", one_bad_picture, tmp_path / "new", *arguments)
    assert found["splits"]["train"] == {"found": 7, "written": 6, "rejected": 1, "shards": 1}
    assert found["reasons"] == {"not-an-image": 1}


def test_empty_folder_is_refused(fails, tmp_path):
    (tmp_path / "empty").mkdir()
    assert "no class folders" in fails(3, "prep", tmp_path / "empty", tmp_path / "new").message
    assert not (tmp_path / "new").exists()


def test_missing_folder_is_refused(fails, tmp_path):
    assert "does not exist" in fails(3, "prep", tmp_path / "none", tmp_path / "new").message
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("share", [0.5, 0.93])
def test_truncated_archive_is_refused(fails, release, tmp_path, share):
    shutil.copytree(release, tmp_path / "cut")
    archive = tmp_path / "cut" / "ILSVRC2012_img_train.tar"
    os.truncate(archive, int(share * archive.stat().st_size))
    failure = fails(3, "prep", tmp_path / "cut", tmp_path / "new", "--workers", 1)
    assert "ILSVRC2012_img_train.tar: the archive is cut or damaged" in failure.message
    assert not (tmp_path / "new").exists()


def test_folder_with_other_files_is_left_as_it_is(fails, release, tmp_path, unharmed):
    (tmp_path / "mine" / "deep").mkdir(parents=True)
    (tmp_path / "mine" / "deep" / "thesis.txt").write_text("years of work")
    check = unharmed(tmp_path / "mine")
    assert "left as it is" in fails(3, "prep", release, tmp_path / "mine").message
    check()


def test_output_that_is_a_file_is_left_as_it_is(fails, release, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    fails(3, "prep", release, tmp_path / "thesis.txt")
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_read_only_output_is_exit_4(fails, release, tmp_path, monkeypatch):
    def refuse(path, *_, **__):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    monkeypatch.setattr(Path, "mkdir", refuse)
    failure = fails(4, "prep", release, tmp_path / "new", "--workers", 1)
    assert "Read-only file system" in failure.message
    assert str(tmp_path / "new") in failure.message


def test_full_disk_names_the_file_and_the_same_command_goes_on(
    fails, answer, release, dataset, tmp_path, monkeypatch
):
    fsync, calls = os.fsync, []

    def fill_up(descriptor):
        calls.append(descriptor)
        if len(calls) > 8:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(descriptor)

    arguments = ("prep", release, tmp_path / "new", *OPTIONS, "--workers", 1)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fill_up)
        message = fails(4, *arguments).message
    assert "No space left on device" in message
    assert str(tmp_path / "new") in message
    assert not list(tmp_path.rglob("*.partial"))
    answer(*arguments)
    assert prepared(tmp_path / "new") == prepared(dataset)


def test_stopped_prep_goes_on_with_the_same_command(
    fails, alexnet, release, dataset, tmp_path, monkeypatch
):
    make_shard = shard_pool.make_shard

    def stop_at_third(task):
        if task.position == 2:
            raise KeyboardInterrupt
        return make_shard(task)

    arguments = ("prep", release, tmp_path / "new", *OPTIONS, "--workers", 1)
    with monkeypatch.context() as patch:
        patch.setattr(shard_pool, "make_shard", stop_at_third)
        assert "run the same command" in fails(130, *arguments).message
    assert not (tmp_path / "new" / "index.json").exists()
    again = alexnet(*arguments)
    assert "resuming: 2 of 5 shards are done" in again.stderr
    assert prepared(tmp_path / "new") == prepared(dataset)


@pytest.mark.parametrize(
    ("option", "value"),
    [("--size", 0), ("--quality", 101), ("--workers", 0), ("--shard-size", 0), ("--max-bad", -1)],
)
def test_values_outside_their_range_are_refused(wrong_command_line, option, value):
    assert option in wrong_command_line("prep", "anywhere", "new", option, value)
