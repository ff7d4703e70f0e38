import csv
import errno
import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from helpers import draw_image, encoded, tar_of
from PIL import Image

from alexnet_cli.data.demo.images import CLASSES, draw_jpeg
from alexnet_cli.data.images.decode import decode
from alexnet_cli.data.images.resize import to_square
from alexnet_cli.data.shards import writer as shards
from alexnet_cli.data.shards.dataset import open_dataset
from alexnet_cli.data.sources.detect import LAYOUTS
from alexnet_cli.io.folder_lock import locked
from alexnet_cli.prep import cluster
from alexnet_cli.prep import workers as shard_pool
from alexnet_cli.types import DecodeRules

OPTIONS = ("--size", 112, "--shard-size", 25)  # those of the dataset in tests/conftest.py


@pytest.fixture
def one_bad_image(class_folders) -> Path:
    (class_folders / "cat" / "note.JPEG").write_text("not an image at all")
    return class_folders


def prepared(dataset: Path) -> dict[str, bytes]:
    """Return every file that prep made."""
    return {path.name: path.read_bytes() for path in dataset.iterdir() if path.suffix != ".npz"}


def test_json_counts_every_image_of_the_archives(answer, release, tmp_path):
    found = answer("prep", release, tmp_path / "new", *OPTIONS, "--workers", 1)
    assert found["classes"] == 10
    assert found["splits"] == {
        "train": {"found": 60, "written": 60, "rejected": 0, "ignored": 0, "shards": 3},
        "val": {"found": 30, "written": 30, "rejected": 0, "ignored": 0, "shards": 2},
    }
    assert found["dataset"] == str(tmp_path / "new")


def test_table_shows_found_written_rejected_ignored_and_shards(shown, release, tmp_path):
    text = shown("prep", release, tmp_path / "new", *OPTIONS, "--workers", 1)
    rows = [line.replace("\u2502", " ").split() for line in text.splitlines()]
    assert ["train", "60", "60", "0", "0", "3"] in rows
    assert ["val", "30", "30", "0", "0", "2"] in rows


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


def test_text_named_jpeg_is_counted_listed_and_exit_5(fails, one_bad_image, tmp_path):
    folder = tmp_path / "new"
    failure = fails(5, "prep", one_bad_image, folder, "--size", 64, "--workers", 1)
    assert "--max-bad 1" in failure.message
    assert "note.JPEG" in failure.stdout
    assert "not-an-image" in failure.stdout
    header, row = (folder / "rejected.csv").read_text().splitlines()
    assert header == "split,source,reason,detail"
    assert row.startswith("train,cat/note.JPEG,not-an-image,")


def test_rejects_are_accepted_up_to_max_bad(answer, one_bad_image, tmp_path):
    arguments = ("--max-bad", 1, "--size", 64, "--workers", 1)
    found = answer("prep", one_bad_image, tmp_path / "new", *arguments)
    assert found["splits"]["train"] == {
        "found": 7,
        "written": 6,
        "rejected": 1,
        "ignored": 0,
        "shards": 1,
    }
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
    assert "ILSVRC2012_img_train.tar: cut or damaged" in failure.message
    assert not (tmp_path / "new").exists()


def test_folder_with_other_files_is_unchanged(fails, release, tmp_path, unharmed):
    (tmp_path / "mine" / "deep").mkdir(parents=True)
    (tmp_path / "mine" / "deep" / "thesis.txt").write_text("years of work")
    check = unharmed(tmp_path / "mine")
    assert "left as it is" in fails(3, "prep", release, tmp_path / "mine").message
    check()


def test_output_that_is_a_file_is_unchanged(fails, release, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    message = fails(4, "prep", release, tmp_path / "thesis.txt").message
    assert "is a file, not a folder.\nIt is left as it is." in message
    fails(4, "prep", release, tmp_path / "thesis.txt" / "below")
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_read_only_output_is_exit_4(fails, release, tmp_path, monkeypatch):
    def refuse(path, *_, **__):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    monkeypatch.setattr(Path, "mkdir", refuse)
    failure = fails(4, "prep", release, tmp_path / "new", "--workers", 1)
    assert "read-only disk.\nNothing was changed." in failure.message
    assert str(tmp_path / "new") in failure.message


def test_full_disk_names_the_file_and_the_same_command_continues(
    fails, answer, release, dataset, tmp_path, monkeypatch
):
    fsync, calls = os.fsync, []

    def fill_up(descriptor):
        calls.append(descriptor)
        if len(calls) > 8:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(descriptor)

    arguments = ("prep", release, tmp_path / "new", *OPTIONS, "--workers", 1)
    with monkeypatch.context() as crop:
        crop.setattr(os, "fsync", fill_up)
        message = fails(4, *arguments).message
    assert "disk full: " in message
    assert "Finished shards are kept.\nMake room and run the same command again." in message
    assert str(tmp_path / "new") in message
    assert not list(tmp_path.rglob("*.partial"))
    answer(*arguments)
    assert prepared(tmp_path / "new") == prepared(dataset)


def test_stopped_prep_continues_with_the_same_command(
    fails, alexnet, release, dataset, tmp_path, monkeypatch
):
    make_shard = shard_pool.make_shard

    def stop_at_third(task, is_stopping):
        if task.position == 2:
            signal.raise_signal(signal.SIGINT)
        return make_shard(task, is_stopping)

    arguments = ("prep", release, tmp_path / "new", *OPTIONS, "--workers", 1)
    with monkeypatch.context() as crop:
        crop.setattr(shard_pool, "make_shard", stop_at_third)
        message = fails(130, *arguments).message
    assert "stopped: 2 of 5 shards are done.\nRun the same command to continue." in message
    assert not list(tmp_path.rglob("*.partial"))
    assert not (tmp_path / "new" / "index.json").exists()
    again = alexnet(*arguments)
    assert "resuming: 2 of 5 shards are done" in again.stderr
    assert prepared(tmp_path / "new") == prepared(dataset)


def test_columns_of_parquet_files_are_kept_for_repairs(answer, fails, tmp_path):
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    images = [encoded(draw_image(40, 40 + number)) for number in range(4)]
    table = pa.table({"img": images, "fine_label": [0, 1, 2, 3], "coarse_label": [1, 0, 1, 0]})
    (tmp_path / "in").mkdir()
    parquet.write_table(table, tmp_path / "in" / "train.parquet")
    arguments = ("prep", tmp_path / "in", tmp_path / "new", *OPTIONS)
    message = fails(3, *arguments).message
    assert message.endswith("Name the columns: --columns image=img,label=fine_label\n")
    assert answer(*arguments, "--columns", "label=coarse_label")["classes"] == 2
    (tmp_path / "new" / "train-000000.tar").write_bytes(b"damaged")
    answer("verify", tmp_path / "new", "--repair", tmp_path / "in")
    assert "another dataset" in fails(3, *arguments, "--columns", "label=fine_label").message


@pytest.mark.parametrize(
    ("option", "value"),
    [("--size", 0), ("--quality", 101), ("--workers", 0), ("--shard-size", 0), ("--max-bad", -1)],
)
def test_values_outside_their_range_are_refused(wrong_command_line, option, value):
    assert option in wrong_command_line("prep", "anywhere", "new", option, value)


def test_layouts_on_the_command_line_are_those_that_are_read(wrong_command_line):
    message = wrong_command_line("prep", "anywhere", "new", "--layout", "lmdb")
    assert all(f"'{name}'" in message for name in LAYOUTS)


def test_layout_is_said_and_can_be_named(alexnet, release, tmp_path):
    arguments = ("prep", release, tmp_path / "new", *OPTIONS, "--workers", 1)
    result = alexnet(*arguments, "--layout", "archives")
    assert result.exit_code == 0
    assert "official archives (ILSVRC2012_img_train.tar), 10 classes" in result.stderr


def test_wrong_layout_says_what_it_needs(fails, class_folders, tmp_path):
    failure = fails(3, "prep", class_folders, tmp_path / "new", "--layout", "kaggle")
    assert "needs ILSVRC/Data/CLS-LOC" in failure.message
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    "source",
    [
        "https://host/images.tar",
        "pipe:touch ran",
        "file:/etc",
        "file:///etc/passwd",
        "s3://a/b",
        "-",
    ],
)
def test_source_that_is_no_path_is_exit_2(fails, tmp_path, monkeypatch, source):
    monkeypatch.chdir(tmp_path)
    message = fails(2, "prep", "--", source, "new").message
    assert re.search("(?i)nothing was (fetched or )?run", message)
    assert list(tmp_path.iterdir()) == []


def test_md5_of_generated_archives_is_not_the_published_one(fails, release, tmp_path):
    failure = fails(3, "prep", release, tmp_path / "new", "--check-md5")
    assert "its MD5 is" in failure.message
    assert not (tmp_path / "new").exists()


def test_default_dataset_of_a_zip_is_named_without_its_suffix(fails, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "imagenet.zip").write_bytes(b"no zip")
    assert "imagenet.zip: cut or damaged" in fails(3, "prep", "imagenet.zip").message
    assert [path.name for path in tmp_path.iterdir()] == ["imagenet.zip"]


def test_cluster_brings_its_own_workers(wrong_command_line):
    arguments = ("--scheduler", "host:8786", "--workers", 2)
    assert "--workers" in wrong_command_line("prep", "anywhere", "new", *arguments)


def test_scheduler_that_is_no_address_is_exit_2(fails, release, tmp_path):
    failure = fails(2, "prep", release, tmp_path / "new", "--scheduler", "http://host:8787")
    assert "expected HOST:PORT" in failure.message
    assert not (tmp_path / "new").exists()


def test_scheduler_that_does_not_answer_is_exit_4(fails, release, tmp_path, monkeypatch):
    monkeypatch.setattr(cluster, "CONNECT_SECONDS", 0.3)
    failure = fails(4, "prep", release, tmp_path / "new", "--scheduler", "127.0.0.1:9")
    assert "127.0.0.1:9: no Dask scheduler answers there" in failure.message
    assert not (tmp_path / "new").exists()


def test_second_prep_of_a_folder_is_refused_and_the_first_unharmed(fails, release, tmp_path):
    (tmp_path / "new").mkdir()
    with locked(tmp_path / "new", AssertionError):
        message = fails(4, "prep", release, tmp_path / "new").message
    holder = f"another process ({os.getpid()} on {socket.gethostname()}, alexnet"
    assert f"{tmp_path / 'new'}: in use by {holder}" in message
    assert ", since 2" in message
    assert "Wait for it, or name another folder." in message
    assert list((tmp_path / "new").iterdir()) == []


def test_too_small_a_disk_is_refused_before_any_work(fails, answer, release, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=100_000))
    arguments = ("prep", release, tmp_path / "new", *OPTIONS, "--workers", 1)
    message = fails(4, *arguments).message
    assert "MB, 0.1 MB are free" in message
    assert "--force" in message
    assert not (tmp_path / "new").exists()
    assert answer(*arguments, "--force")["splits"]["train"]["written"] == 60


def test_folder_without_permission_is_exit_4_before_any_work(fails, release, tmp_path, monkeypatch):
    (tmp_path / "new").mkdir()
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: not mode & os.W_OK and access(path, mode))
    failure = fails(4, "prep", release, tmp_path / "new")
    assert "no permission to write there, or a read-only disk" in failure.message
    assert list((tmp_path / "new").iterdir()) == []


def start_prep(source: Path, folder: Path, *options: str) -> subprocess.Popen:
    """Start a prep of two workers, and return when it has finished a shard."""
    command = [sys.executable, "-m", "alexnet_cli", "prep", source, folder, "--workers", 2]
    process = subprocess.Popen(
        [*map(str, command), *options], stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    deadline = time.monotonic() + 60
    while not list(folder.glob("*.tar")) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert process.poll() is None, process.stderr.read()
    return process


@pytest.fixture(scope="module")
def many(tmp_path_factory) -> Path:
    """Class folders of enough images to keep prep at work for seconds."""
    folder = tmp_path_factory.mktemp("many")
    for label, name in enumerate(("cat", "dog")):
        (folder / name).mkdir()
        for number in range(4):
            jpeg = draw_jpeg(CLASSES[label].draw, np.random.default_rng([label, number]))
            (folder / name / f"{number}-0.JPEG").write_bytes(jpeg)
            for copy in range(1, 250):
                os.link(folder / name / f"{number}-0.JPEG", folder / name / f"{number}-{copy}.JPEG")
    return folder


def end_group(process: subprocess.Popen) -> None:
    """End what is left of a prep that has a process group of its own."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    process.stderr.close()


def is_there(group: int) -> bool:
    """Tell whether a process group has a process left."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


LONG = ("--size", "224", "--shard-size", "20")


@pytest.mark.parametrize("to_all", [False, True], ids=["prep", "its group"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signal_ends_prep_with_what_is_done_and_no_traces(many, tmp_path, number, to_all):
    process = start_prep(many, tmp_path / "new", *LONG)
    try:
        began = time.monotonic()
        (os.killpg if to_all else os.kill)(process.pid, number)
        message = process.communicate(timeout=20)[1]
        assert time.monotonic() - began < 10
        assert process.returncode == 128 + number, message
        assert "of 100 shards are done.\nRun the same command to continue." in message
        assert "Traceback" not in message
        assert not list(tmp_path.rglob("*.partial"))
    finally:
        end_group(process)


def test_killed_worker_is_exit_4_that_names_the_cause(many, tmp_path):
    process = start_prep(many, tmp_path / "new", *LONG)
    try:
        os.kill(worker_of(process.pid), signal.SIGKILL)
        message = process.communicate(timeout=30)[1]
        assert process.returncode == 4
        assert "a prep worker died of signal 9" in message
        assert not list(tmp_path.rglob("*.partial"))
    finally:
        end_group(process)


def test_workers_end_with_a_prep_that_is_killed_and_tidy_up(many, tmp_path):
    process = start_prep(many, tmp_path / "new", *LONG)
    try:
        process.kill()
        process.wait()
        deadline = time.monotonic() + 15
        while is_there(process.pid) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not is_there(process.pid)
        assert not list(tmp_path.rglob("*.partial"))
    finally:
        end_group(process)


def test_second_signal_ends_prep_at_once(many, tmp_path):
    process = start_prep(many, tmp_path / "new", *LONG)
    try:
        for _ in range(2):
            process.send_signal(signal.SIGTERM)
            time.sleep(0.03)
        assert process.wait(timeout=10) in (-signal.SIGTERM, 128 + signal.SIGTERM)
    finally:
        end_group(process)
    assert not (tmp_path / "new" / "index.json").exists()


def worker_of(parent: int) -> int:
    """Return the youngest process below a prep: prep -> fork server -> worker."""
    children = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                after_name = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:  # ended meanwhile
                continue
            children.setdefault(int(after_name[1]), []).append(int(entry.name))
    return max(pid for server in children[parent] for pid in children.get(server, []))


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"options": {}}', b"\xff\xfe"])
def test_damaged_plan_is_no_plan_and_the_same_bytes_come_out(
    answer, release, dataset, tmp_path, content
):
    (tmp_path / "new" / ".prep").mkdir(parents=True)
    (tmp_path / "new" / ".prep" / "plan.json").write_bytes(content)
    (tmp_path / "new" / "train-000007.tar").write_bytes(b"of another plan")
    answer("prep", release, tmp_path / "new", *OPTIONS, "--workers", 1)
    assert prepared(tmp_path / "new") == prepared(dataset)


def test_archive_that_changes_meanwhile_is_refused(fails, release, tmp_path, monkeypatch):
    shutil.copytree(release, tmp_path / "source")
    make_shard = shard_pool.make_shard

    def change_at_third(task, is_stopping):
        if task.position == 2:
            os.utime(tmp_path / "source" / "ILSVRC2012_img_val.tar", (1, 1))
        return make_shard(task, is_stopping)

    monkeypatch.setattr(shard_pool, "make_shard", change_at_third)
    arguments = (tmp_path / "source", tmp_path / "new", *OPTIONS, "--workers", 1)
    message = fails(3, "prep", *arguments).message
    assert "ILSVRC2012_img_val.tar: changed while prep was at work" in message
    assert not (tmp_path / "new" / "index.json").exists()


def test_what_a_kill_left_beside_a_finished_dataset_is_removed(answer, release, dataset, tmp_path):
    shutil.copytree(dataset, tmp_path / "new")
    (tmp_path / "new" / ".prep").mkdir()
    (tmp_path / "new" / ".prep" / "plan.json").write_text(json.dumps({}))
    assert answer("prep", release, tmp_path / "new", *OPTIONS)["already_complete"]
    assert prepared(tmp_path / "new") == prepared(dataset)
    assert not (tmp_path / "new" / ".prep").exists()


def test_empty_class_is_refused_unless_it_is_allowed_to_keep_its_number(
    fails, alexnet, class_folders, tmp_path
):
    for name in ("ant", "eel"):
        (class_folders / name).mkdir()
    failure = fails(3, "prep", class_folders, tmp_path / "new", *OPTIONS)
    assert "2 of 4 classes have no training image: ant, eel" in failure.message
    result = alexnet(
        "prep", class_folders, tmp_path / "new", *OPTIONS, "--allow-empty-class", "--json"
    )
    assert result.exit_code == 0
    assert "2 classes have no training image, but keep their number: ant, eel" in result.stderr
    split = open_dataset(tmp_path / "new").split("train")
    assert sorted(set(split.samples["label"].tolist())) == [1, 2]


def test_names_with_line_breaks_and_terminal_codes_are_escaped_and_keep_csv_and_json_whole(
    fails, alexnet, class_folders, tmp_path
):
    empty, bad = class_folders / "em\npty\x1b[2J", class_folders / "cat" / 'b\n"\x1b[31m.jpg'
    empty.mkdir()
    bad.write_bytes(b"no image")
    refused = fails(3, "prep", class_folders, tmp_path / "new\none", *OPTIONS).message
    assert r"have no training image: em\npty\x1b[2J" in refused
    assert "Add images or remove those folders" in refused
    empty.rmdir()
    (class_folders / "on\nly").mkdir()
    shutil.copy(bad, class_folders / "on\nly" / "x\ny.jpg")
    lost = fails(3, "prep", class_folders, tmp_path / "new\none", *OPTIONS).message
    assert r"the first is on\nly/x\ny.jpg: not-an-image" in lost
    assert "Nothing was written." in lost
    shutil.rmtree(class_folders / "on\nly")

    result = alexnet("prep", class_folders, tmp_path / "new\none", *OPTIONS, "--json")

    assert result.exit_code == 5
    name = f"cat/{bad.name}"
    assert [row["source"] for row in json.loads(result.stdout)["rejected"]] == [name]
    with (tmp_path / "new\none" / "rejected.csv").open(newline="") as file:
        assert [row["source"] for row in csv.DictReader(file)] == [name]
    assert r"new\none/rejected.csv" in result.stderr
    assert "\x1b" not in result.stderr


def test_class_of_rejects_alone_is_refused_unless_it_is_allowed(
    fails, answer, class_folders, tmp_path
):
    for number in range(7):
        (class_folders / f"x{number}").mkdir()
        (class_folders / f"x{number}" / "1.JPEG").write_text("no image")
    failure = fails(3, "prep", class_folders, tmp_path / "new", *OPTIONS)
    assert "image of 7 classes was rejected: x0, x1, x2, x3, x4, ..." in failure.message
    assert not (tmp_path / "new").exists()
    options = (*OPTIONS, "--allow-empty-class", "--max-bad", 7)
    assert answer("prep", class_folders, tmp_path / "new", *options)["classes"] == 9


def test_one_class_alone_makes_a_dataset(answer, class_folders, tmp_path):
    shutil.rmtree(class_folders / "dog")
    found = answer("prep", class_folders, tmp_path / "new", *OPTIONS)
    assert (found["classes"], found["splits"]["val"]["found"]) == (1, 0)


def test_links_that_lead_out_need_a_flag(answer, fails, class_folders, release, tmp_path):
    outside = tmp_path / "outside.JPEG"
    shutil.copy(class_folders / "cat" / "0.JPEG", outside)
    (class_folders / "cat" / "link.JPEG").symlink_to(outside)
    (class_folders / "cat" / "broken.JPEG").symlink_to("nowhere")
    accept = (*OPTIONS, "--max-bad", 1)
    refused = fails(3, "prep", class_folders, tmp_path / "without", *accept)
    assert "1 links" in refused.message
    assert "--follow-links" in refused.message
    with_links = answer("prep", class_folders, tmp_path / "with", *accept, "--follow-links")
    assert with_links["splits"]["train"] == {
        "found": 8,
        "written": 7,
        "rejected": 1,
        "ignored": 0,
        "shards": 1,
    }
    assert with_links["reasons"] == {"unreadable": 1}
    index = tmp_path / "with" / "index.json"
    assert json.loads(index.read_text())["source"]["follow_links"] is True
    failure = fails(2, "prep", release, tmp_path / "new", "--follow-links")
    assert "Leave out --follow-links." in failure.message


def test_samples_without_an_image_end_prep_with_code_5_unless_accepted(
    fails, answer, class_folders, tmp_path
):
    image = (class_folders / "cat" / "0.JPEG").read_bytes()
    (tmp_path / "tars").mkdir()
    members = {"0.image.jpg": image, "0.label.cls": b"0", "1.npy": b"", "1.cls": b"0"}
    (tmp_path / "tars" / "Training-0.tar").write_bytes(tar_of(members))
    arguments = ("prep", tmp_path / "tars", tmp_path / "new", "--size", 64, "--workers", 1)
    assert "1 sample of the tars has no image" in fails(5, *arguments).message
    found = answer(*arguments, "--max-bad", 1)
    assert found["ignored"] == {"sample without an image": 1}
    assert found["splits"]["train"]["written"] == 1


def test_labels_of_a_file_make_a_dataset(answer, class_folders, tmp_path):
    (tmp_path / "any.csv").write_text("0,b\n1,a\n2,b\n")
    options = (*OPTIONS, "--workers", 1, "--labels", tmp_path / "any.csv")
    found = answer("prep", class_folders / "cat", tmp_path / "new", *options)
    assert (found["classes"], found["splits"]["train"]["written"]) == (2, 3)


def test_image_in_two_classes_is_reported(alexnet, class_folders, tmp_path):
    shutil.copy(class_folders / "cat" / "0.JPEG", class_folders / "dog" / "again.JPEG")
    shutil.copy(class_folders / "cat" / "0.JPEG", class_folders / "cat" / "again.JPEG")
    result = alexnet("prep", class_folders, tmp_path / "new", *OPTIONS, "--json")
    assert "warning: the same image in two classes, 1 times" in result.stderr
    (row,) = json.loads(result.stdout)["duplicates"]
    assert {row["source"][:4], row["other"][:4]} == {"cat/", "dog/"}


def test_file_times_of_the_source_do_not_matter(answer, class_folders, tmp_path):
    answer("prep", class_folders, tmp_path / "now", *OPTIONS)
    for number, path in enumerate(sorted(class_folders.rglob("*"))):
        os.utime(path, (number, (-1, 1 << 33)[number % 2]))
    answer("prep", class_folders, tmp_path / "then", *OPTIONS)
    assert prepared(tmp_path / "now") == prepared(tmp_path / "then")


def test_images_that_change_meanwhile_are_unreadable(answer, class_folders, tmp_path, monkeypatch):
    begin = shards.make_shard

    def change_first(task, *arguments):
        (class_folders / "cat" / "0.JPEG").unlink()
        (class_folders / "cat" / "1.JPEG").write_bytes(b"cut")
        with (class_folders / "dog" / "0.JPEG").open("ab") as file:
            file.write(b"more")
        (class_folders / "dog" / "new.JPEG").write_bytes(b"new")
        return begin(task, *arguments)

    monkeypatch.setattr(shard_pool, "make_shard", change_first)
    found = answer(
        "prep", class_folders, tmp_path / "new", *OPTIONS, "--workers", 1, "--max-bad", 3
    )
    assert found["splits"]["train"]["found"] == 6
    assert found["reasons"] == {"unreadable": 3}
    details = {row["source"]: row["detail"] for row in found["rejected"]}
    assert details["cat/0.JPEG"] == "no such file"
    assert "changed while prep was at work" in details["cat/1.JPEG"]
    assert "changed while prep was at work" in details["dog/0.JPEG"]


def test_source_may_be_the_current_folder_which_then_holds_its_dataset(
    answer, class_folders, monkeypatch
):
    monkeypatch.chdir(class_folders)
    for options in (OPTIONS, (*OPTIONS, "shards/again", "--quality", 80)):
        found = answer("prep", ".", *options)
        assert found["classes"] == 2
        assert found["ignored"] == {"dataset or run of alexnet": 1}


def test_image_in_train_and_val_is_counted_and_listed(alexnet, class_folders, tmp_path):
    for split in ("train", "val"):
        shutil.copytree(class_folders, tmp_path / "splits" / split)
    (tmp_path / "splits" / "val" / "cat" / "0.JPEG").write_bytes(draw_jpeg(CLASSES[5].draw, rng()))
    result = alexnet("prep", tmp_path / "splits", tmp_path / "new", *OPTIONS, "--json")
    assert result.exit_code == 0
    assert "warning: 5 val images are in train as well" in result.stderr
    found = json.loads(result.stdout)
    assert found["duplicates"] == []
    assert len(found["overlap"]) == 5
    assert all(
        row["source"] == row["other"].replace("train", "val")
        and (row["split"], row["other_split"]) == ("val", "train")
        for row in found["overlap"]
    )


def rng() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.fixture
def own_photos(tmp_path) -> Path:
    """Two classes: of a photo that is turned by its EXIF, and of gray images of 12 bits in 16."""
    exif = Image.Exif()
    exif[0x0112] = 6
    levels = np.linspace(0, 4095, 200 * 200).astype(np.uint16).reshape(200, 200)
    for name in ("photo", "scan"):
        (tmp_path / "own" / name).mkdir(parents=True)
    with Image.open(io.BytesIO(draw_jpeg(CLASSES[3].draw, rng()))) as image:
        image.save(tmp_path / "own" / "photo" / "a.jpg", exif=exif)
    Image.fromarray(levels).save(tmp_path / "own" / "scan" / "a.png")
    return tmp_path / "own"


def test_rotated_and_dark_images_are_counted_with_the_options_for_them(
    alexnet, own_photos, tmp_path
):
    result = alexnet("prep", own_photos, tmp_path / "new", *OPTIONS, "--json")
    assert json.loads(result.stdout)["noted"] == {"rotated": 1, "dim-gray-12": 1}
    assert "1 image has an EXIF orientation, which was ignored" in result.stderr
    assert "no value over 4,095" in result.stderr
    assert "--gray-bits 12" in result.stderr
    assert (
        "gray_bits" not in open_dataset(tmp_path / "new").folder.joinpath("index.json").read_text()
    )


def test_chosen_orientation_and_gray_bits_are_applied_and_recorded(answer, own_photos, tmp_path):
    chosen = ("--apply-orientation", "--gray-bits", 12)
    found = answer("prep", own_photos, tmp_path / "new", *OPTIONS, *chosen)
    assert found["noted"] == {"rotated": 1}
    dataset = open_dataset(tmp_path / "new")
    assert dataset.rules == DecodeRules(apply_orientation=True, gray_bits=12)
    split = dataset.split("train")
    photo, scan = (decode(split.jpeg(list(split.labels).index(label))) for label in (0, 1))
    upright = to_square((own_photos / "photo" / "a.jpg").read_bytes(), 112, dataset.rules)
    assert np.abs(photo.astype(int) - upright).mean() < 12
    assert scan.max() > 240


def test_damaged_shard_of_turned_images_is_repaired_by_the_same_rules(answer, own_photos, tmp_path):
    answer("prep", own_photos, tmp_path / "new", *OPTIONS, "--apply-orientation", "--gray-bits", 12)
    before = prepared(tmp_path / "new")
    (tmp_path / "new" / "train-000000.tar").write_bytes(b"damaged")
    answer("verify", tmp_path / "new", "--repair", own_photos)
    assert prepared(tmp_path / "new") == before


def test_dry_run_counts_what_prep_then_makes_and_writes_nothing(answer, unharmed, one_bad_image):
    (one_bad_image / "cat" / ".DS_Store").write_text("left by a file manager")
    (one_bad_image / "emu").mkdir()
    check, new = unharmed(one_bad_image.parent), one_bad_image.parent / "new"
    options = ("--val-fraction", 0.4, "--size", 64, "--shard-size", 2)
    found = answer("prep", one_bad_image, new, *options, "--dry-run")
    check()
    assert not new.exists()
    assert (found["classes"], found["empty_classes"], found["exists"]) == (3, ["emu"], False)

    made = json_of_prep(one_bad_image, new, *options)
    for name, split in found["splits"].items():
        kept = made["splits"][name]
        assert split == {kind: kept[kind] for kind in ("found", "ignored", "shards")}
    assert found["ignored_by_split"] == made["ignored_by_split"]
    written = sum(path.stat().st_size for path in new.glob("*.tar"))
    assert written / 2 < found["needed_bytes"] < 2 * written
    assert answer("prep", one_bad_image, new, *options, "--dry-run")["exists"]


def json_of_prep(*arguments) -> dict:
    command = [sys.executable, "-m", "alexnet_cli", "prep", *map(str, arguments)]
    command += ["--json", "--allow-empty-class", "--max-bad", "1"]
    return json.loads(subprocess.run(command, check=True, capture_output=True).stdout)


def test_dry_run_is_shown_with_the_room_it_needs(shown, class_folders, tmp_path):
    text = " ".join(shown("prep", class_folders, tmp_path / "new", "--dry-run").split())
    assert "nothing was written" in text
    assert re.search(r"disk: about [\d.]+ MB for the shards; [\d.,]+ GB are free", text)


def test_dry_run_of_packed_images_makes_no_copies(answer, class_folders, tmp_path):
    archive = shutil.make_archive(str(tmp_path / "packed"), "gztar", class_folders)
    found = answer("prep", archive, tmp_path / "new", "--dry-run")
    assert found["staging_bytes"] > 0
    assert found["splits"]["train"]["found"] == 6
    assert sorted(tmp_path.iterdir()) == sorted([Path(archive), class_folders])


def test_dry_run_of_tars_at_urls_says_to_copy_them_first(fails, tmp_path):
    message = fails(
        2, "prep", "http://127.0.0.1:9/a-{0..1}.tar", tmp_path / "x", "--dry-run"
    ).message
    assert "Copy them into a folder" in message
