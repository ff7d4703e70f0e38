import csv
import hashlib
import io
import json
import os
import shutil
import tarfile
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
import webdataset
from helpers import Listener, files_of, flip
from PIL import Image

from alexnet_cli.cli.hints import message
from alexnet_cli.data.shards.dataset import open_dataset, read_index
from alexnet_cli.data.shards.writer import RECORDS, ShardTask, TaskStopped, make_shard, read_record
from alexnet_cli.data.sources.source import SourceImage
from alexnet_cli.errors import DatasetError, MachineError, SourceError
from alexnet_cli.prep.build import prep
from alexnet_cli.prep.plan import PrepOptions, PrepRequest

SMALL = PrepOptions(size=32, shard_size=5)


def png(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (34, 40, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def write(root: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return root


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> Path:
    """Class folders: 3 classes of 6 training and 2 validation images. Read only."""
    names = [f"train/{wnid}/{i}.png" for wnid in ("ant", "bee", "cat") for i in range(6)]
    names += [f"val/{wnid}/{i}.png" for wnid in ("ant", "bee", "cat") for i in range(2)]
    files = {name: png(seed) for seed, name in enumerate(names)}
    return write(tmp_path_factory.mktemp("folders"), files)


@pytest.fixture(scope="module")
def small(folders, tmp_path_factory) -> Path:
    """The shards of `folders`: four of training, two of validation images. Read only."""
    folder = tmp_path_factory.mktemp("small") / "dataset"
    prep(PrepRequest(folders, folder, SMALL, workers=1))
    return folder


def read_with_webdataset(folder: Path, split: str, *decoders: str) -> list[dict]:
    """Read the samples of a split with the webdataset library alone; undecoded by default."""
    urls = [str(path) for path in sorted(folder.glob(f"{split}-*.tar"))]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # it leaves its files to the collector
        samples = webdataset.WebDataset(urls, shardshuffle=False)
        return list(samples.decode(*decoders) if decoders else samples)


def sources_of(folder: Path, split: str = "train") -> list[str]:
    return [json.loads(sample["json"])["source"] for sample in read_with_webdataset(folder, split)]


def a_task(root: Path, contents: list[bytes], *, first_number: int = 0) -> ShardTask:
    """Return a task whose images are files 0, 1, ... of the classes in turn."""
    write(root / "images", {str(i): content for i, content in enumerate(contents)})
    images = tuple(
        SourceImage(f"{i}.png", root / "images" / str(i), -1, len(content), i % 3)
        for i, content in enumerate(contents)
    )
    (root / "dataset").mkdir(exist_ok=True)
    (root / "dataset" / RECORDS).mkdir(exist_ok=True)
    wnids = tuple(("ant", "bee", "cat")[image.label] for image in images)
    return ShardTask(root / "dataset", "train", 7, first_number, images, wnids, 32, 90)


def test_sample_is_a_jpeg_a_label_and_a_note_with_one_key(tmp_path):
    make_shard(a_task(tmp_path, [png(i) for i in range(4)], first_number=35))
    with tarfile.open(tmp_path / "dataset" / "train-000007.tar") as tar:
        assert tar.getnames() == [
            f"train-{number:08d}.{suffix}"
            for number in range(35, 39)
            for suffix in ("jpg", "cls", "json")
        ]
    samples = read_with_webdataset(tmp_path / "dataset", "train")
    assert {Image.open(io.BytesIO(sample["jpg"])).size for sample in samples} == {(32, 32)}
    assert [sample["cls"] for sample in samples] == [b"0", b"1", b"2", b"0"]
    notes = [json.loads(sample["json"]) for sample in samples]
    assert notes[:2] == [{"wnid": "ant", "source": "0.png"}, {"wnid": "bee", "source": "1.png"}]


def test_every_member_has_the_same_time_owner_and_mode(tmp_path):
    make_shard(a_task(tmp_path, [png(1), png(2)]))
    with tarfile.open(tmp_path / "dataset" / "train-000007.tar") as tar:
        heads = {(m.mtime, m.uid, m.gid, m.uname, m.gname, m.mode, m.type) for m in tar}
    assert heads == {(0, 0, 0, "", "", 0o644, tarfile.REGTYPE)}


def test_shard_is_a_plain_ustar_archive(tmp_path):
    make_shard(a_task(tmp_path, [png(1), png(2)]))
    content = (tmp_path / "dataset" / "train-000007.tar").read_bytes()
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        magics = {content[member.offset + 257 : member.offset + 265] for member in tar}
    assert magics == {b"ustar\x0000"}


def test_same_images_give_the_same_bytes(tmp_path):
    contents = [png(1), png(2), b"no image"]
    for name in ("a", "b"):
        make_shard(a_task(tmp_path / name, contents))
    a, b = (files_of(tmp_path / name / "dataset") for name in ("a", "b"))
    assert a == b


def test_rejected_image_leaves_a_gap_in_the_keys_and_is_recorded(tmp_path):
    record = make_shard(a_task(tmp_path, [png(1), b"", png(2)]))
    samples = read_with_webdataset(tmp_path / "dataset", "train")
    assert [s["__key__"] for s in samples] == ["train-00000000", "train-00000002"]
    assert record.rejected == [("1.png", 1, "empty", "0 bytes")]


def test_record_contains_the_position_of_every_jpeg(tmp_path):
    record = make_shard(a_task(tmp_path, [png(1), b"", png(2), png(3)], first_number=10))
    content = (tmp_path / "dataset" / "train-000007.tar").read_bytes()
    found = [
        (f"train-{number:08d}", content[offset : offset + length], str(label).encode())
        for offset, length, label, number, _ in record.samples
    ]
    samples = read_with_webdataset(tmp_path / "dataset", "train")
    assert found == [(s["__key__"], s["jpg"], s["cls"]) for s in samples]


def test_record_contains_size_and_sha256_of_the_shard(tmp_path):
    shard = make_shard(a_task(tmp_path, [png(1), png(2)])).shard
    content = (tmp_path / "dataset" / shard.name).read_bytes()
    assert shard.num_bytes == len(content)
    assert shard.sha256 == hashlib.sha256(content).hexdigest()


def test_shard_may_be_empty(tmp_path):
    record = make_shard(a_task(tmp_path, [b"", b"no image"]))
    assert (record.shard.num_samples, len(record.rejected)) == (0, 2)


def test_finished_shard_is_recognized_by_its_record(tmp_path):
    task = a_task(tmp_path, [png(1), b"", png(2)])
    assert read_record(task) is None
    record = make_shard(task)
    assert read_record(task) == record


@pytest.mark.parametrize(
    "damage",
    [Path.unlink, lambda path: flip(path, 700), lambda path: os.truncate(path, 1000)],
    ids=["missing", "bit", "size"],
)
def test_record_is_ignored_if_its_shard_is_missing_or_changed(tmp_path, damage):
    task = a_task(tmp_path, [png(1)])
    make_shard(task)
    damage(task.folder / task.name)
    assert read_record(task) is None


@pytest.mark.parametrize("share", [0.0, 0.01, 0.2, 0.6, 0.99])
def test_damaged_record_is_ignored(tmp_path, share):
    task = a_task(tmp_path, [png(1), png(2)])
    make_shard(task)
    whole = task.record_path.read_bytes()
    place = int(share * len(whole))
    for damaged in (whole[:place], whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :]):
        task.record_path.write_bytes(damaged)
        assert read_record(task) is None


@pytest.mark.parametrize(
    "change", [{"size": 64}, {"quality": 80}, {"first_number": 1}, {"wnids": ("bee",)}]
)
def test_record_of_another_task_is_ignored(tmp_path, change):
    task = a_task(tmp_path, [png(1)])
    make_shard(task)
    assert read_record(replace(task, **change)) is None


def test_stop_request_leaves_nothing(tmp_path):
    task = a_task(tmp_path, [png(1), png(2)])
    answers = iter([False, True])
    with pytest.raises(TaskStopped):
        make_shard(task, lambda: next(answers))
    assert files_of(task.folder) == {}


def test_image_changed_since_it_was_listed_is_unreadable(tmp_path):
    task = a_task(tmp_path, [png(1), png(2)])
    (tmp_path / "images" / "1").write_bytes(png(3) + b"more")
    ((source, _, reason, detail),) = make_shard(task).rejected
    assert (source, reason) == ("1.png", "unreadable")
    assert "changed while prep was at work" in detail


@pytest.mark.parametrize("is_copy", [True, False])
def test_missing_staging_copy_is_not_a_rejected_image(tmp_path, is_copy):
    task = a_task(tmp_path, [png(1)])
    listed = task.images[0]
    path = (task.folder if is_copy else tmp_path) / "copies.bin"
    path.write_bytes(listed.path.read_bytes())
    task = replace(task, images=(replace(listed, path=path, offset=0),))
    path.unlink()
    if is_copy:
        with pytest.raises(FileNotFoundError, match=r"copies\.bin"):
            make_shard(task)
    else:
        assert [row[2] for row in make_shard(task).rejected] == ["unreadable"]


@pytest.mark.parametrize("split", ["train", "val"])
def test_webdataset_library_reads_what_the_dataset_reads(dataset, split):
    ours = open_dataset(dataset).split(split)
    theirs = read_with_webdataset(dataset, split)
    assert [s["__key__"] for s in theirs] == ours.keys()
    assert [int(s["cls"]) for s in theirs] == ours.labels.tolist()
    assert [s["jpg"] for s in theirs] == [bytes(ours.jpeg(i)) for i in range(len(ours))]


def test_webdataset_library_decodes_every_sample(dataset):
    samples = read_with_webdataset(dataset, "val", "rgb8")
    assert {sample["jpg"].shape for sample in samples} == {(112, 112, 3)}
    wnids = [entry.wnid for entry in open_dataset(dataset).classes]
    assert [sample["json"]["wnid"] for sample in samples] == [wnids[s["cls"]] for s in samples]


def test_every_stored_image_belongs_to_its_source(small, folders):
    """The JPEG is close to the source's center, so neither label nor image is another's."""
    for sample in read_with_webdataset(small, "train"):
        note = json.loads(sample["json"])
        source = Image.open(folders / "train" / note["wnid"] / note["source"]).convert("RGB")
        reduced = source.resize((37, 32), Image.Resampling.BICUBIC).crop((2, 0, 34, 32))
        stored = simplejpeg.decode_jpeg(sample["jpg"]).astype(int)
        blur = [np.asarray(a).reshape(4, 8, 4, 8, 3).mean((1, 3)) for a in (stored, reduced)]
        assert np.abs(blur[0] - blur[1]).max() < 12


def test_names_with_dots_spaces_newlines_and_other_bytes_survive(tmp_path):
    names = [b"a.b.tar.png", b"two words.png", b"line\nbreak.png", b"\xff\xfe.png", b"\xc3\xa4.png"]
    sources = [f"x.y z/{os.fsdecode(name)}" for name in names]
    write(tmp_path / "in", {source: png(i) for i, source in enumerate(sources)})
    prep(PrepRequest(tmp_path / "in", tmp_path / "out", SMALL, workers=1))
    assert sorted(sources_of(tmp_path / "out")) == sorted(map(os.fsdecode, names))


def test_bytes_do_not_depend_on_the_number_of_workers(folders, small, tmp_path):
    for num_workers in (2, 3):
        prep(PrepRequest(folders, tmp_path / str(num_workers), SMALL, workers=num_workers))
        assert files_of(tmp_path / str(num_workers)) == files_of(small)


def test_training_images_are_shuffled_and_validation_keeps_its_order(small, folders):
    assert sources_of(small) != sorted(sources_of(small))
    assert sources_of(small, "val") == sorted(sources_of(small, "val"))


def test_another_seed_changes_the_order_but_not_the_images(folders, small, tmp_path):
    prep(PrepRequest(folders, tmp_path / "out", replace(SMALL, seed=1), workers=1))
    assert sources_of(tmp_path / "out") != sources_of(small)
    assert sorted(sources_of(tmp_path / "out")) == sorted(sources_of(small))


@pytest.fixture(scope="module")
def flawed(folders, tmp_path_factory) -> Path:
    """The images of `folders` with three broken ones among them."""
    root = tmp_path_factory.mktemp("flawed")
    shutil.copytree(folders, root, dirs_exist_ok=True)
    broken = {"train/ant/2.png": b"", "train/cat/nul.png": b"text", "val/bee/0.png": png(1)[:900]}
    return write(root, broken)


def test_found_is_written_plus_rejected(flawed, tmp_path):
    result = prep(PrepRequest(flawed, tmp_path / "out", SMALL, workers=1))
    train, val = result.splits["train"], result.splits["val"]
    assert train == {"found": 19, "written": 17, "rejected": 2, "ignored": 0, "shards": 4}
    assert val == {"found": 6, "written": 5, "rejected": 1, "ignored": 0, "shards": 2}
    assert result.reasons == {"empty": 1, "not-an-image": 1, "truncated": 1}


def test_rejected_csv_lists_each_rejected_image(flawed, tmp_path):
    prep(PrepRequest(flawed, tmp_path / "out", SMALL, workers=1))
    with (tmp_path / "out" / "rejected.csv").open(newline="", encoding="utf-8") as file:
        rows = {(row["split"], row["source"], row["reason"]) for row in csv.DictReader(file)}
    assert rows == {
        ("train", "train/ant/2.png", "empty"),
        ("train", "train/cat/nul.png", "not-an-image"),
        ("val", "val/bee/0.png", "truncated"),
    }


def test_keys_of_rejected_images_are_missing_and_no_others(flawed, tmp_path):
    result = prep(PrepRequest(flawed, tmp_path / "out", SMALL, workers=1))
    numbers = open_dataset(tmp_path / "out").split("train").samples["number"].tolist()
    assert len(set(numbers)) == result.splits["train"]["written"]
    assert numbers == sorted(numbers)
    assert set(numbers) < set(range(result.splits["train"]["found"]))


def test_class_whose_images_are_all_rejected_stops_prep_and_leaves_no_dataset(folders, tmp_path):
    shutil.copytree(folders, tmp_path / "in")
    write(tmp_path / "in", {f"train/bee/{i}.png": b"text" for i in range(6)})
    with pytest.raises(
        SourceError,
        match=r"1 class was rejected: bee; the first is train/bee/.*: not-an-image",
    ):
        prep(PrepRequest(tmp_path / "in", tmp_path / "out", SMALL, workers=1))
    assert files_of(tmp_path / "out") == {}


class Interrupting(Listener):
    """A progress that sends Ctrl-C after some shards, and keeps what is said."""

    def __init__(self, shards: int):
        super().__init__()
        self.left = shards

    def advance(self, count: int = 1, note: str = "") -> None:
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


def stop_signal(source: Path, folder: Path, *, after: int) -> None:
    with pytest.raises(KeyboardInterrupt):
        prep(PrepRequest(source, folder, SMALL, workers=1), Interrupting(after))


@pytest.mark.parametrize("after", [1, 3, 6])
def test_interrupted_prep_goes_on_to_the_same_bytes(folders, small, tmp_path, after):
    stop_signal(folders, tmp_path / "out", after=after)
    assert not (tmp_path / "out" / "index.json").exists()
    prep(PrepRequest(folders, tmp_path / "out", SMALL, workers=1))
    assert files_of(tmp_path / "out") == files_of(small)


def test_going_on_makes_no_finished_shard_again(folders, tmp_path):
    stop_signal(folders, tmp_path / "out", after=3)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*.tar")}
    watcher = Interrupting(-1)
    prep(PrepRequest(folders, tmp_path / "out", SMALL, workers=1), watcher)
    assert len(before) == 3
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert "resuming: 3 of 6 shards are done" in watcher.lines


def test_going_on_removes_what_a_killed_prep_left_half_written(folders, small, tmp_path):
    stop_signal(folders, tmp_path / "out", after=2)
    write(tmp_path / "out", {"train-000002.tar.4711.partial": b"half", ".prep/x.1.partial": b""})
    prep(PrepRequest(folders, tmp_path / "out", SMALL, workers=1))
    assert files_of(tmp_path / "out") == files_of(small)


def test_going_on_with_other_options_is_refused_and_changes_nothing(folders, tmp_path):
    stop_signal(folders, tmp_path / "out", after=2)
    before = files_of(tmp_path / "out")
    with pytest.raises(DatasetError, match="quality 90 there, 80 now"):
        prep(PrepRequest(folders, tmp_path / "out", replace(SMALL, quality=80), workers=1))
    assert files_of(tmp_path / "out") == before


def test_prep_that_could_not_even_write_its_plan_can_be_repeated(folders, small, tmp_path):
    (tmp_path / "out" / RECORDS).mkdir(parents=True)
    prep(PrepRequest(folders, tmp_path / "out", SMALL, workers=1))
    assert files_of(tmp_path / "out") == files_of(small)


def test_preparing_again_finds_the_dataset_complete_and_touches_nothing(folders, small):
    before = {path: path.stat().st_mtime_ns for path in small.rglob("*")}
    result = prep(PrepRequest(folders, small, SMALL, workers=1))
    assert result.already_complete
    assert {path: path.stat().st_mtime_ns for path in small.rglob("*")} == before


def test_preparing_again_reports_the_same_counts(flawed, tmp_path):
    first, second = (
        prep(PrepRequest(flawed, tmp_path / "out", SMALL, workers=1)) for _ in range(2)
    )
    assert not first.already_complete
    assert second == replace(first, already_complete=True)


def test_preparing_again_does_not_call_a_dataset_complete_that_lost_a_shard(
    folders, small, tmp_path
):
    shutil.copytree(small, tmp_path / "out")
    (tmp_path / "out" / "val-000001.tar").unlink()
    with pytest.raises(DatasetError, match=r"val-000001.tar: missing") as error:
        prep(PrepRequest(folders, tmp_path / "out", SMALL, workers=1))
    assert message(error.value).endswith("--repair SOURCE")


@pytest.mark.parametrize(
    ("option", "value"), [("size", 64), ("quality", 80), ("shard_size", 6), ("seed", 1)]
)
def test_dataset_of_other_options_is_refused_naming_the_option(folders, small, option, value):
    with pytest.raises(DatasetError, match=rf"{option} \d+ there, {value} now"):
        prep(PrepRequest(folders, small, replace(SMALL, **{option: value}), workers=1))


def test_dataset_of_another_source_is_refused(flawed, small):
    with pytest.raises(DatasetError, match="holds another dataset"):
        prep(PrepRequest(flawed, small, SMALL, workers=1))


def test_folder_with_anything_else_in_it_is_refused_untouched(folders, tmp_path):
    write(tmp_path / "mine", {"thesis.tex": b"years of work"})
    with pytest.raises(DatasetError, match="not empty and not an alexnet dataset"):
        prep(PrepRequest(folders, tmp_path / "mine", SMALL, workers=1))
    assert files_of(tmp_path / "mine") == {"thesis.tex": b"years of work"}


def test_file_in_the_place_of_the_folder_is_refused(folders, tmp_path):
    (tmp_path / "out").write_bytes(b"a file")
    with pytest.raises(MachineError, match="left as it is"):
        prep(PrepRequest(folders, tmp_path / "out", SMALL, workers=1))


def test_nothing_of_the_work_in_progress_remains(small):
    names = [f"train-{i:06d}.tar" for i in range(4)] + [f"val-{i:06d}.tar" for i in range(2)]
    names += [".index.json", "index.json", "rejected.csv", "train.samples.npy", "val.samples.npy"]
    assert sorted(path.name for path in small.iterdir()) == sorted(names)


def test_index_says_what_was_made_from_what_and_by_whom(small):
    index = read_index(small)
    assert [entry.wnid for entry in index.classes] == ["ant", "bee", "cat"]
    assert index.options == {
        "size": 32, "quality": 90, "shard_size": 5, "seed": 0, "val_fraction": 0.0
    }  # fmt: skip
    assert index.source["layout"] == "train/CLASS and val/CLASS folders"
    assert index.tool.startswith("alexnet ")


def test_bad_image_in_a_staging_copy_is_rejected(tmp_path):
    copies = write(tmp_path / RECORDS, {"a": b"no image", "b": png(1)})
    sizes = {"a": 8, "b": (copies / "b").stat().st_size}
    images = tuple(SourceImage(name, copies / name, 0, size, 0) for name, size in sizes.items())
    task = ShardTask(tmp_path, "train", 0, 0, images, ("ant",) * len(images), 32, 90)
    record = make_shard(task)
    assert [row[2] for row in record.rejected] == ["not-an-image"]
    (copies / "b").unlink()
    with pytest.raises(FileNotFoundError):
        make_shard(task)
