"""Streams: every sample exactly once in a seeded order, and no tar that is not as measured."""

import io
import random
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
from helpers import refused
from PIL import Image

from alexnet_cli.data.images.resize import to_square
from alexnet_cli.data.remote import stream as stream_module
from alexnet_cli.data.remote.measure import measure_all
from alexnet_cli.data.remote.stream import StreamSplit, open_tars
from alexnet_cli.data.remote.tar_set import TarSet
from alexnet_cli.errors import DatasetError, MachineError, SourceError
from alexnet_cli.types import BatchShard, DecodeRules

pytestmark = pytest.mark.usefixtures("cache")


def split_of(*paths: Path, size: int = 32) -> StreamSplit:
    names = [str(path) for path in paths]
    return StreamSplit("train", measure_all(names, allow_pipe=False), size)


@pytest.fixture
def split(tars) -> StreamSplit:
    return split_of(*sorted(tars.glob("*train*")))


def positions(split: StreamSplit, batch_size: int = 4, **how) -> list[int]:
    batches = split.epoch_batches(batch_size, **how)
    return [position for batch in batches for position in batch.positions.tolist()]


def test_stored_order_has_every_sample_once_with_its_pixels(split, tars):
    assert len(split) == 19
    batches = list(split.epoch_batches(4))
    assert [len(batch.labels) for batch in batches] == [4, 4, 4, 4, 3]
    labels = np.concatenate([batch.labels for batch in batches])
    images = np.concatenate([batch.images for batch in batches])
    assert positions(split) == list(range(19))
    assert (labels == split.labels).all()
    jpegs = []
    for path in sorted(tars.glob("*train*")):
        with tarfile.open(path) as tar:
            jpegs += [tar.extractfile(m).read() for m in tar if m.name.endswith("jpg")]
    assert (images == np.stack([simplejpeg.decode_jpeg(jpeg, "RGB") for jpeg in jpegs])).all()


def test_keys_name_tar_and_key(split):
    assert split.keys()[:2] == ["set-train-000000.tar/000000", "set-train-000000.tar/000001"]
    assert len(set(split.keys())) == 19


def test_keys_are_unique_where_tars_or_samples_have_the_same_name(tars, tmp_path):
    first, _, second = sorted(tars.glob("*train*"))
    for folder in ("a", "b"):
        (tars / folder).mkdir()
    first, second = first.rename(tars / "a" / "train.tar"), second.rename(tars / "b" / "train.tar")
    keys = split_of(first, second).keys()
    assert {key.rpartition("/")[0] for key in keys} == {"a/train.tar", "b/train.tar"}
    assert len(set(keys)) == len(keys)
    rewrite(second, lambda members: members + members)
    keys = split_of(first, second).keys()
    assert len(set(keys)) == len(keys)


def test_shuffled_epoch_is_a_permutation_decided_by_seed_and_epoch(split):
    first = positions(split, shuffle=(1, 0))
    assert sorted(first) == list(range(19))
    assert first == positions(split, shuffle=(1, 0), num_threads=3)
    others = [positions(split, shuffle=how) for how in ((1, 1), (2, 0))]
    assert first not in others
    assert others[0] != others[1]
    assert first != list(range(19))


@pytest.mark.parametrize("first_step", [0, 1, 4, 5])
def test_resumed_epoch_has_the_remaining_batches(split, first_step):
    whole = list(split.epoch_batches(4, shuffle=(3, 1)))
    rest = list(split.epoch_batches(4, shuffle=(3, 1), first_step=first_step))
    assert len(rest) == len(whole) - first_step
    for batch, same in zip(whole[first_step:], rest, strict=True):
        assert (batch.positions == same.positions).all()
        assert (batch.images == same.images).all()


@pytest.mark.parametrize("count", [2, 3, 5])
def test_batch_shards_of_the_replicas_are_the_whole_batches(split, count):
    parts = [
        list(split.epoch_batches(4, shuffle=(3, 1), share=BatchShard(rank, count)))
        for rank in range(count)
    ]
    for batch, *shares in zip(split.epoch_batches(4, shuffle=(3, 1)), *parts, strict=True):
        for field in ("images", "labels", "positions"):
            together = np.concatenate([getattr(share, field) for share in shares])
            assert (getattr(batch, field) == together).all()


def test_images_of_any_size_and_kind_are_made_square(write_tar):
    entries, expected = [], []
    sizes = [(40, 60, "jpeg"), (90, 33, "png"), (32, 32, "webp"), (32, 32, "png"), (32, 32, "jpeg")]
    for number, (height, width, kind) in enumerate(sizes):
        pixels = np.random.default_rng(number).integers(0, 256, (height, width, 3), np.uint8)
        content = io.BytesIO()
        Image.fromarray(pixels).save(content, kind)
        key = "jpg" if kind == "jpeg" else kind
        entries.append({"__key__": str(number), key: content.getvalue(), "cls": number})
        expected.append(to_square(content.getvalue(), 32))
    split = split_of(write_tar("a.tar", entries))
    (batch,) = split.epoch_batches(9)
    assert (batch.images == np.stack(expected)).all()


def test_tars_without_a_sample_are_refused_and_others_counted(tmp_path, write_tar, said, encode):
    entries = [{"__key__": "a", "npy.cls": 1}, {"__key__": "b", "npy.cls": 2}]
    path = write_tar("train-0.tar", entries)
    with refused(DatasetError, "no sample was found; passed over: 2 sample without an image"):
        open_tars(TarSet(str(path)), ["train"], progress=said)
    image = {"__key__": "c", "image.jpg": encode(0, 32, 32), "label.cls": 0}
    path = write_tar("train-1.tar", [*entries, image])
    dataset = open_tars(TarSet(str(path)), ["train"], progress=said)
    assert dataset.splits["train"].keys() == ["train-1.tar/c"]
    assert "2 sample without an image" in said.lines[-1]


@pytest.mark.parametrize("side", [32, 48])
def test_images_are_decoded_by_the_rules_of_the_model(write_tar, side):
    turned, dim = io.BytesIO(), io.BytesIO()
    pixels = np.random.default_rng(3).integers(0, 256, (side, side, 3), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(turned, "JPEG", exif=exif)
    Image.fromarray((pixels[..., 0] * np.uint16(4)).astype(np.uint16)).save(dim, "PNG")
    images = turned.getvalue(), dim.getvalue()
    path = write_tar(
        "val-0.tar",
        [
            {"__key__": "0", "jpg": images[0], "cls": 0},
            {"__key__": "1", "png": images[1], "cls": 1},
        ],
    )
    for rules in (DecodeRules(apply_orientation=True, gray_bits=10), DecodeRules()):
        dataset = open_tars(TarSet(str(path)), ["val"], 32, rules)
        (batch,) = dataset.split("val").epoch_batches(2)
        expected = [to_square(content, 32, rules) for content in images]
        assert (batch.images == np.stack(expected)).all()
        assert dataset.rules == rules
    assert (to_square(images[0], 32) != to_square(images[0], 32, DecodeRules(True))).any()


A, B = "n00000001", "n00000002"


@pytest.mark.parametrize("names", [f"{A} ant\n{B} bee\n", "ant\nbee\n"], ids=["wnids", "words"])
@pytest.mark.parametrize("split", ["train", "val"])
def test_first_sample_that_contradicts_the_list_is_refused_again_and_again(
    tmp_path, write_tar, encode, names, split
):
    def entry(key: str, label: int, said: str) -> dict:
        note = {"wnid": said} if names.startswith("n0") else {"class_name": said}
        return {"__key__": key, "jpg": encode(1, 32, 32), "cls": label, "json": note}

    ant, bee = (A, B) if names.startswith("n0") else ("Ant", "Bee")
    path = write_tar(f"{split}-0.tar", [entry("a", 0, ant), entry("b", 1, bee)])
    (tmp_path / "names.txt").write_text(names)
    listed = TarSet(str(path), tmp_path / "names.txt")
    assert len(open_tars(listed, [split]).classes) == 2
    write_tar(f"{split}-0.tar", [entry("a", 0, ant), entry("b", 0, bee), entry("c", 0, bee)])
    for _ in range(2):  # measured, and remembered
        with refused(SourceError, rf"{split}-0\.tar: 'b': its \.json says .*its label is 0"):
            open_tars(listed, [split])


def test_labels_that_count_from_1_are_named(tmp_path, write_tar, encode, said):
    entries = [{"__key__": str(n), "jpg": encode(n, 32, 32), "cls": 1 + n % 2} for n in range(4)]
    path = write_tar("val-0.tar", entries)
    open_tars(TarSet(str(path)), ["val"], progress=said)
    assert "these seem to count from 1" in said.lines[-1]
    (tmp_path / "names.txt").write_text("ant\nbee\n")
    with refused(SourceError, "'1': label 2, but the 2 classes end at 1") as error:
        open_tars(TarSet(str(path), tmp_path / "names.txt"), ["val"])
    assert "count from 1" in error.value.hint


def test_image_that_cannot_be_read_is_named(write_tar, encode):
    cut = encode(1, 32, 32)[:-60]
    split = split_of(write_tar("a.tar", [{"__key__": "broken", "jpg": cut, "cls": 0}]))
    with pytest.raises(DatasetError, match=r"a\.tar: sample 'broken' cannot be read"):
        list(split.epoch_batches(4))


def test_images_without_a_header_are_passed_over_and_counted(tmp_path, write_tar, encode, said):
    contents = [b"", b"no image", b"\xff\xd8\xff", encode(1, 32, 32)]
    entries = [{"__key__": str(n), "jpg": c, "cls": 0} for n, c in enumerate(contents)]
    dataset = open_tars(TarSet(str(write_tar("train-0.tar", entries))), ["train"], progress=said)
    assert "3 image that cannot be read" in said.lines[-1]
    (batch,) = dataset.splits["train"].epoch_batches(4)
    assert len(batch.images) == 1


def test_test_images_without_a_label_are_passed_over_and_counted(tmp_path, write_tar, encode, said):
    entries = [{"__key__": "a", "jpg": encode(1, 32, 32)}]
    entries.append({"__key__": "b", "jpg": encode(2, 32, 32), "cls": 0})
    dataset = open_tars(TarSet(str(write_tar("test-0.tar", entries))), ["test"], progress=said)
    assert dataset.splits["test"].keys() == ["test-0.tar/b"]
    assert "1 test image without a label" in said.lines[-1]
    with refused(DatasetError, "'a': no label in"):
        open_tars(TarSet(str(write_tar("train-0.tar", entries))), ["train"])


def test_decompression_bomb_is_refused_before_it_is_decoded(write_tar):
    content = io.BytesIO()
    Image.new("1", (12_000, 12_000)).save(content, "png")
    path = write_tar("train-0.tar", [{"__key__": "a", "png": content.getvalue(), "cls": 0}])
    with refused(DatasetError, "passed over: 1 image that cannot be read"):
        open_tars(TarSet(str(path)), ["train"])


def rewrite(path: Path, change) -> None:
    """Change the members of a tar, and leave it a whole tar."""
    with tarfile.open(path) as tar:
        members = [(m.name, tar.extractfile(m).read()) for m in tar]
    with tarfile.open(path, "w") as tar:
        for name, content in change(members):
            header = tarfile.TarInfo(name)
            header.size = len(content)
            tar.addfile(header, io.BytesIO(content))


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda members: members[:-2], "11 samples, 12 were measured"),
        (lambda members: [*members, ("x.jpg", members[1][1]), ("x.cls", b"0")], "sample 13"),
        (lambda members: members[2:], "differs from the measured one"),
        (lambda members: [(n.replace("000111", "other"), c) for n, c in members], "other bytes"),
    ],
)
@pytest.mark.parametrize("shuffle", [None, (1, 1)])
def test_tar_that_changed_since_it_was_measured_stops_the_epoch(split, tars, change, word, shuffle):
    rewrite(tars / "set-train-000002.tar", change)
    with pytest.raises(DatasetError, match=r"set-train-000002\.tar.*" + word):
        list(split.epoch_batches(4, shuffle=shuffle))


def test_end_of_a_tar_is_checked_after_the_last_sample(split, tars):
    path = tars / "set-train-000002.tar"
    path.write_bytes(path.read_bytes() + b"more")
    with pytest.raises(DatasetError, match="set-train-000002"):
        list(split.epoch_batches(19))


def test_truncated_tar_stops_the_epoch(split, tars):
    path = tars / "set-train-000000.tar"
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(DatasetError, match=r"set-train-000000\.tar: cut"):
        list(split.epoch_batches(4))


def test_buffer_is_bounded_in_samples_and_bytes(split, monkeypatch):
    largest = 0

    class Watched(random.Random):
        def randrange(self, count):
            nonlocal largest
            largest = max(largest, count)
            return super().randrange(count)

    monkeypatch.setattr(stream_module.random, "Random", Watched)
    monkeypatch.setattr(stream_module, "BUFFER_SAMPLES", 5)
    assert sorted(positions(split, shuffle=(1, 1))) == list(range(19))
    assert largest == 6
    monkeypatch.setattr(stream_module, "BUFFER_BYTES", 1500)  # two or three of these images
    largest = 0
    assert sorted(positions(split, shuffle=(1, 1))) == list(range(19))
    assert 0 < largest < 6


def test_pending_bytes_are_bounded(split, monkeypatch):
    monkeypatch.setattr(stream_module, "PENDING_BYTES", 1)
    assert positions(split, shuffle=None) == list(range(19))


def test_stream_from_a_server_retries_temporary_errors(tars, web):
    server = web(tars)
    name = "set-train-000002.tar"
    tars_measured = measure_all([f"{server.url}/{name}"], allow_pipe=False)
    split = StreamSplit("train", tars_measured, 32)
    server.faults[name] = ["cut", 500]
    assert positions(split) == list(range(12))
    server.faults[name] = [500] * 9
    with pytest.raises(MachineError, match=name):
        positions(split)


def test_stream_from_a_command_has_the_samples_of_the_file(tars):
    name = f"pipe:cat {tars}/set-val-000000.tar"
    split = StreamSplit("val", measure_all([name], allow_pipe=True), 32, allow_pipe=True)
    assert positions(split) == list(range(5))


def test_stream_may_be_left_early(split):
    batches = split.epoch_batches(2, shuffle=(1, 1))
    next(batches)
    batches.close()


def test_webdataset_and_torch_are_loaded_only_when_streaming():
    program = "import sys, alexnet_cli.data.dataset_ref; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_end_of_a_tar_is_checked_under_python_minus_o_too(tars):
    program = (
        "import sys\n"
        "from alexnet_cli.data.remote.measure import measure_all\n"
        "from alexnet_cli.data.remote.stream import StreamSplit\n"
        "from alexnet_cli.errors import DatasetError\n"
        "assert False, 'assertions are left out'\n"
        "names = sys.argv[1:]\n"
        "split = StreamSplit('train', measure_all(names, allow_pipe=False), 32)\n"
        "open(names[-1], 'ab').write(b'more')\n"
        "try:\n"
        "    list(split.epoch_batches(19))\n"
        "except DatasetError as error:\n"
        "    print(error)\n"
    )
    names = sorted(map(str, tars.glob("*train*")))
    command = [sys.executable, "-O", "-c", program, *names]
    found = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert found.startswith(f"{names[-1]}: ")
