import functools
import hashlib
import io
import os
import random
import shutil
import tarfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from helpers import refused, unpack_tar
from torchvision.datasets import ImageNet, imagenet

from alexnet_cli.data.sources import devkit as synsets
from alexnet_cli.data.sources.archives import find_archives, read_archives
from alexnet_cli.data.sources.source import Source, SourceImage
from alexnet_cli.errors import SourceError

TRAIN = "ILSVRC2012_img_train.tar"
VAL = "ILSVRC2012_img_val.tar"
DEVKIT = "ILSVRC2012_devkit_t12.tar.gz"
NAMES_2010 = {
    TRAIN: "ILSVRC2010_images_train.tar",
    VAL: "ILSVRC2010_images_val.tar",
    DEVKIT: "ILSVRC2010_devkit-1.0.tar.gz",
}
BLOCK = 512


@pytest.fixture(autouse=True, scope="module")
def kit_read_once() -> Iterator[None]:
    """Read the same development kit once: a process is started for each time."""
    with pytest.MonkeyPatch.context() as crop:
        crop.setattr(synsets, "read_leaves", functools.cache(synsets.read_leaves))
        yield


def altered(source: Path, folder: Path, name: str, change: Callable[[bytes], bytes]) -> Path:
    """Copy the source into `folder` (by links) with the bytes of one archive changed."""
    for path in source.iterdir():
        if path.name != name:
            os.link(path, folder / path.name)
    (folder / name).write_bytes(change((source / name).read_bytes()))
    return folder


def members(content: bytes) -> list[tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        return tar.getmembers()


def inner_members(content: bytes) -> Iterator[tuple[str, int, tarfile.TarInfo]]:
    """Yield (class, where its tar begins, member) of a tar of tars."""
    for class_tar in members(content):
        start = class_tar.offset_data
        for member in members(content[start : start + class_tar.size]):
            yield class_tar.name.removesuffix(".tar"), start, member


def tar_of(entries: list[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for member, content in entries:
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return file.getvalue()


def unpacked(content: bytes) -> list[tuple[tarfile.TarInfo, bytes]]:
    return [(m, content[m.offset_data : m.offset_data + m.size]) for m in members(content)]


def with_first_class(content: bytes, change: Callable[[list], None]) -> bytes:
    """Change the entries of the first class's tar in the training archive."""
    outer = unpacked(content)
    inner = unpacked(outer[0][1])
    change(inner)
    outer[0] = (outer[0][0], tar_of(inner))
    return tar_of(outer)


def listing(source: Source) -> dict[str, list[tuple[str, int, int, int]]]:
    """Return the images of a source without the folder it is in."""
    return {
        split: [(p.source, p.offset, p.length, p.label) for p in images]
        for split, images in source.images.items()
    }


def wnid_by_content(source: Source, images: list[SourceImage]) -> dict[str, tuple[str, int]]:
    """Return (wnid, label) by the hash of each image's bytes."""
    return {
        hashlib.sha256(p.read()).hexdigest(): (source.classes[p.label].wnid, p.label)
        for p in images
    }


@pytest.mark.parametrize("split", ["train", "val"])
def test_every_label_is_the_one_torchvision_reads(release, tmp_path, monkeypatch, split):
    ours = read_archives(release)
    shutil.copytree(release, tmp_path, dirs_exist_ok=True)
    digests = {
        part: (name, hashlib.md5((release / name).read_bytes()).hexdigest())
        for part, name in (("train", TRAIN), ("val", VAL), ("devkit", DEVKIT))
    }
    monkeypatch.setattr(imagenet, "ARCHIVE_META", digests)
    theirs = ImageNet(tmp_path, split)
    expected = {
        hashlib.sha256(Path(path).read_bytes()).hexdigest(): (theirs.wnids[label], label)
        for path, label in theirs.samples
    }
    assert wnid_by_content(ours, ours.images[split]) == expected


def test_class_names_are_the_ones_torchvision_reads(release, tmp_path, monkeypatch):
    shutil.copy(release / DEVKIT, tmp_path)
    digest = hashlib.md5((release / DEVKIT).read_bytes()).hexdigest()
    monkeypatch.setitem(imagenet.ARCHIVE_META, "devkit", (DEVKIT, digest))
    imagenet.parse_devkit_archive(tmp_path)
    names, _ = imagenet.load_meta_file(tmp_path)
    ours = {entry.wnid: tuple(entry.name.split(", ")) for entry in read_archives(release).classes}
    assert ours == names


def test_training_image_reads_as_the_bytes_in_its_class_tar(release):
    content = (release / TRAIN).read_bytes()
    expected = {}
    for wnid, start, member in inner_members(content):
        at = start + member.offset_data
        expected[f"{wnid}.tar/{member.name}"] = content[at : at + member.size]
    images = read_archives(release).images["train"]
    assert {image.source: image.read() for image in images} == expected


@pytest.mark.parametrize(("split", "name"), [("train", TRAIN), ("val", VAL)])
def test_images_are_listed_and_labeled_by_name_in_any_order(release, tmp_path, split, name):
    folder = altered(release, tmp_path, name, lambda content: tar_of(unpacked(content)[::-1]))
    listed, expected = (read_archives(f).images[split] for f in (folder, release))
    assert [(p.source, p.label) for p in listed] == [(p.source, p.label) for p in expected]


def test_archives_of_2010_read_the_same(release, tmp_path):
    for path in release.iterdir():
        os.link(path, tmp_path / NAMES_2010[path.name])
    assert listing(read_archives(tmp_path)) == listing(read_archives(release))


def test_dogs_only_training_archive_is_not_taken_for_the_training_archive(release, tmp_path):
    folder = altered(release, tmp_path, DEVKIT, bytes)
    (folder / "ILSVRC2012_img_train_t3.tar").write_bytes(b"dogs")
    assert listing(read_archives(folder)) == listing(read_archives(release))


def test_folder_without_archives_is_not_recognized(tmp_path):
    (tmp_path / "images.tar").touch()
    assert read_archives(tmp_path) is None


@pytest.mark.parametrize(
    ("name", "what"), [(VAL, "_val.tar"), (DEVKIT, "devkit")], ids=["val", "devkit"]
)
def test_archive_missing_beside_the_others_is_named(release, tmp_path, name, what):
    (altered(release, tmp_path, name, bytes) / name).unlink()
    with refused(SourceError, rf"no \*{what}"):
        read_archives(tmp_path)


def test_archives_of_two_years_in_one_folder_are_refused(release, tmp_path):
    altered(release, tmp_path, DEVKIT, bytes)
    os.link(release / TRAIN, tmp_path / NAMES_2010[TRAIN])
    with refused(SourceError, "one year"):
        read_archives(tmp_path)


def test_cut_development_kit_is_refused(release, tmp_path):
    altered(release, tmp_path, DEVKIT, lambda content: content[: len(content) // 2])
    with refused(SourceError, "development kit"):
        read_archives(tmp_path)


@pytest.mark.parametrize("name", [TRAIN, VAL])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9])
def test_archive_cut_short_is_refused(release, tmp_path, name, share):
    altered(release, tmp_path, name, lambda content: content[: int(share * len(content))])
    with refused(SourceError, name):
        read_archives(tmp_path)


def cut_between_members(content: bytes) -> bytes:
    return content[: members(content)[7].offset]


def cut_between_images_of_a_class(content: bytes) -> bytes:
    _, start, member = list(inner_members(content))[15]
    return content[: start + member.offset]


def cut_before_the_end_marker(content: bytes) -> bytes:
    last = members(content)[-1]
    return content[: last.offset_data + -(-last.size // BLOCK) * BLOCK]


def cut_within_the_end_marker(content: bytes) -> bytes:
    return cut_before_the_end_marker(content) + bytes(BLOCK)


@pytest.mark.parametrize(
    ("name", "cut"),
    [
        (TRAIN, cut_between_members),
        (TRAIN, cut_between_images_of_a_class),
        (TRAIN, cut_before_the_end_marker),
        (VAL, cut_between_members),
        (VAL, cut_before_the_end_marker),
        (VAL, cut_within_the_end_marker),
    ],
)
def test_archive_cut_at_a_boundary_is_refused(release, tmp_path, name, cut):
    altered(release, tmp_path, name, cut)
    with refused(SourceError, "cut or damaged"):
        read_archives(tmp_path)


def test_class_tar_without_its_end_is_refused(release, tmp_path):
    def change(content: bytes) -> bytes:
        outer = unpacked(content)
        return tar_of([(outer[0][0], cut_before_the_end_marker(outer[0][1])), *outer[1:]])

    altered(release, tmp_path, TRAIN, change)
    with refused(SourceError, "cut or damaged"):
        read_archives(tmp_path)


def header_offsets(name: str, content: bytes) -> list[int]:
    offsets = [member.offset for member in members(content)]
    if name == TRAIN:
        offsets += [start + member.offset for _, start, member in inner_members(content)]
    return offsets


@pytest.mark.parametrize("name", [TRAIN, VAL])
def test_header_of_zeros_is_never_taken_for_the_end(release, tmp_path, name):
    whole = (release / name).read_bytes()
    altered(release, tmp_path, name, bytes)
    for offset in header_offsets(name, whole):
        damaged = whole[:offset] + bytes(BLOCK) + whole[offset + BLOCK :]
        (tmp_path / name).write_bytes(damaged)
        with refused(SourceError, r"damaged at"):
            read_archives(tmp_path)


def test_one_flipped_bit_in_a_members_name_is_refused(release, tmp_path):
    def change(content: bytes) -> bytes:
        damaged = bytearray(content)
        damaged[members(content)[3].offset + 20] ^= 1
        return bytes(damaged)

    altered(release, tmp_path, VAL, change)
    with refused(SourceError, "cut or damaged"):
        read_archives(tmp_path)


@pytest.mark.parametrize("name", [TRAIN, VAL])
def test_flipped_bit_in_a_header_never_changes_the_listing_unnoticed(release, tmp_path, name):
    whole = (release / name).read_bytes()
    expected = listing(read_archives(release))
    altered(release, tmp_path, name, bytes)
    rng = random.Random(5)
    headers = header_offsets(name, whole)
    with (tmp_path / name).open("r+b", buffering=0) as file:
        for _ in range(100):
            at = rng.choice(headers) + rng.randrange(BLOCK)
            file.seek(at)
            file.write(bytes([whole[at] ^ 1 << rng.randrange(8)]))
            with suppress(SourceError):
                assert listing(read_archives(tmp_path)) == expected, at
            file.seek(at)
            file.write(whole[at : at + 1])


@pytest.mark.timeout(20)
def test_member_of_negative_size_does_not_cause_an_endless_loop(release, tmp_path):
    def change(content: bytes) -> bytes:
        header = bytearray(tarfile.TarInfo("a.JPEG").tobuf(tarfile.GNU_FORMAT))
        header[124:136] = (2**96 - 2 * BLOCK).to_bytes(12, "big")  # base 256: minus two blocks
        header[148:156] = b" " * 8
        header[148:155] = b"%06o\0" % sum(header)
        before = [tarfile.TarInfo(name).tobuf(tarfile.GNU_FORMAT) for name in ("b", "c")]
        return b"".join(before) + header + content

    altered(release, tmp_path, VAL, change)
    with refused(SourceError, "cut or damaged"):
        read_archives(tmp_path)


def test_validation_archive_under_the_training_name_is_recognized(release, tmp_path):
    altered(release, tmp_path, TRAIN, lambda _: (release / VAL).read_bytes())
    with refused(SourceError, "looks like a validation archive"):
        read_archives(tmp_path)


@pytest.mark.parametrize(
    ("change", "count"),
    [
        pytest.param(lambda entries: entries[:-1], 29, id="one image less"),
        pytest.param(lambda entries: [*entries, (tarfile.TarInfo("x.JPEG"), b"x")], 31, id="more"),
    ],
)
def test_count_other_than_the_ground_truths_is_refused_with_both_counts(
    release, tmp_path, change, count
):
    altered(release, tmp_path, VAL, lambda content: tar_of(change(unpacked(content))))
    with refused(SourceError, f"{count} images, but the development kit labels 30"):
        read_archives(tmp_path)


@pytest.mark.parametrize("name", ["n99999999.tar", "readme.exe"])
def test_training_member_that_is_no_class_of_the_kit_is_refused(release, tmp_path, name):
    def change(content: bytes) -> bytes:
        return tar_of([*unpacked(content), (tarfile.TarInfo(name), tar_of([]))])

    altered(release, tmp_path, TRAIN, change)
    with refused(SourceError, f"'{name}' is no class in"):
        read_archives(tmp_path)


def special_member(kind: bytes) -> tarfile.TarInfo:
    member = tarfile.TarInfo("n90000001_99.JPEG")
    member.type, member.linkname = kind, "n90000001_1.JPEG"
    return member


SPECIAL = {
    "a symbolic link": tarfile.SYMTYPE,
    "a hard link": tarfile.LNKTYPE,
    "a pipe": tarfile.FIFOTYPE,
    "a sparse file": tarfile.GNUTYPE_SPARSE,
}


@pytest.mark.parametrize("kind", SPECIAL.values(), ids=SPECIAL.keys())
def test_member_that_is_no_plain_file_is_ignored_and_counted(release, tmp_path, kind):
    def change(content: bytes) -> bytes:
        special = special_member(kind)
        return with_first_class(content, lambda entries: entries.insert(2, (special, b"")))

    folder = altered(release, tmp_path, TRAIN, change)
    listed = read_archives(folder)
    assert sum(listed.ignored.values()) == 1
    assert [p.source for p in listed.images["train"]] == [
        p.source for p in read_archives(release).images["train"]
    ]


def test_folders_in_the_validation_archive_are_no_images_and_change_no_label(release, tmp_path):
    def change(content: bytes) -> bytes:
        folders = [tarfile.TarInfo(name) for name in ("a", "b")]
        for folder in folders:
            folder.type = tarfile.DIRTYPE
        entries = unpacked(content)
        for i, (member, _) in enumerate(entries):
            member.name = f"{folders[i % 2].name}/{member.name}"
        return tar_of([*((folder, b"") for folder in folders), *entries])

    listed = read_archives(altered(release, tmp_path, VAL, change))
    labels = {Path(p.source).name: p.label for p in listed.images["val"]}
    assert labels == {p.source: p.label for p in read_archives(release).images["val"]}


def test_listing_reads_headers_only_and_extracts_nothing(release):
    before = sorted(release.parent.rglob("*"))
    read_archives(release)
    assert sorted(release.parent.rglob("*")) == before


def test_images_name_is_its_base_name(release):
    listed = read_archives(release).images
    train, val = listed["train"][0], listed["val"][0]
    assert (train.source, train.name) == ("n90000001.tar/n90000001_1.JPEG", "n90000001_1.JPEG")
    assert val.source == val.name == "ILSVRC2012_val_00000001.JPEG"


def with_test_set(source: Path, folder: Path, *, labels: str | None) -> Path:
    """Add the validation archive once more, as the test archive of 2010."""
    for path in source.iterdir():
        os.link(path, folder / NAMES_2010[path.name])
    os.link(source / VAL, folder / "ILSVRC2010_images_test.tar")
    if labels is not None:
        (folder / "ILSVRC2010_test_ground_truth.txt").write_text(labels)
    return folder


def ground_truth(source: Path) -> str:
    with tarfile.open(source / DEVKIT) as tar:
        name = next(n for n in tar.getnames() if n.endswith("validation_ground_truth.txt"))
        return tar.extractfile(name).read().decode()


def test_test_archive_of_2010_with_its_ground_truth_is_a_split(release, tmp_path):
    listed = read_archives(with_test_set(release, tmp_path, labels=ground_truth(release)))
    test, val = ([(p.name, p.label) for p in listed.images[s]] for s in ("test", "val"))
    assert test == val
    assert listed.images["test"][0].path.name == "ILSVRC2010_images_test.tar"


def test_test_archive_without_its_ground_truth_is_ignored_and_counted(release, tmp_path):
    listed = read_archives(with_test_set(release, tmp_path, labels=None))
    assert "test" not in listed.images
    assert listed.ignored == {"test archive without its ground truth": 1}


@pytest.mark.parametrize(
    ("labels", "pattern"),
    [("1\n2\n", "30 images, but .*ground_truth.txt labels 2"), ("99\n" * 30, "no class id")],
)
def test_ground_truth_that_does_not_fit_the_test_archive_is_refused(
    release, tmp_path, labels, pattern
):
    with refused(SourceError, pattern):
        read_archives(with_test_set(release, tmp_path, labels=labels))


def test_dogs_only_archive_instead_of_the_whole_is_named(release, tmp_path):
    os.link(release / VAL, tmp_path / VAL)
    (tmp_path / "ILSVRC2012_img_train_t3.tar").touch()
    with refused(SourceError, "dogs of task 3"):
        read_archives(tmp_path)


def test_file_is_no_folder_of_archives(tmp_path):
    (tmp_path / TRAIN).touch()
    assert find_archives(tmp_path / TRAIN) == []


@pytest.mark.parametrize("name", [TRAIN, VAL, DEVKIT])
def test_pipe_in_the_place_of_an_archive_does_not_block(release, tmp_path, name):
    folder = altered(release, tmp_path, name, bytes)
    (folder / name).unlink()
    os.mkfifo(folder / name)
    with refused(SourceError, "beside the other archives"):
        read_archives(folder)


def unpack(path: Path, folder: Path) -> Path:
    folder.mkdir(parents=True)
    unpack_tar(path, folder)
    return folder


def unpack_classes(release: Path, folder: Path) -> None:
    for path in unpack(release / TRAIN, folder).iterdir():
        unpack(path, folder / path.stem)
        path.unlink()


def sort_val(release: Path, folder: Path) -> None:
    source = read_archives(release)
    for image in source.images["val"]:
        path = folder / source.classes[image.label].wnid / image.name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(image.read())


def content(source: Source) -> dict[str, list[tuple[str, int, bytes]]]:
    return {
        split: [(p.name, p.label, p.read()) for p in images]
        for split, images in source.images.items()
    }


TRAIN_PARTS = {
    "tar": lambda release, folder: os.link(release / TRAIN, folder / TRAIN),
    "class tars": lambda release, folder: unpack(release / TRAIN, folder / "train"),
    "class folders": lambda release, folder: unpack_classes(release, folder / "Train"),
}
VAL_PARTS = {
    "tar": lambda release, folder: os.link(release / VAL, folder / VAL),
    "flat": lambda release, folder: unpack(release / VAL, folder / "ILSVRC2012_img_val"),
    "class folders": lambda release, folder: sort_val(release, folder / "val"),
}
KIT_PARTS = {
    "packed": lambda release, folder: os.link(release / DEVKIT, folder / DEVKIT),
    "folder": lambda release, folder: unpack(release / DEVKIT, folder / "kit").rename(
        folder / "devkit"
    ),
}


@pytest.mark.parametrize("kit", KIT_PARTS)
@pytest.mark.parametrize("val", VAL_PARTS)
@pytest.mark.parametrize("train", TRAIN_PARTS)
def test_parts_that_are_unpacked_give_the_same_images(release, tmp_path, train, val, kit):
    TRAIN_PARTS[train](release, tmp_path)
    VAL_PARTS[val](release, tmp_path)
    KIT_PARTS[kit](release, tmp_path)
    expected, source = read_archives(release), read_archives(tmp_path)
    if (train, val) == ("class folders", "class folders"):
        assert source is None  # the layout "folders"
        return
    assert content(source) == content(expected)
    assert source.classes == expected.classes


@pytest.mark.parametrize("train", ["tar", "class tars"])
@pytest.mark.parametrize("val", ["tar", "flat"])
@pytest.mark.parametrize("name", ["LOC_val_solution.csv", "val.txt"])
def test_without_the_kit_a_file_labels_the_validation_images(release, tmp_path, train, val, name):
    TRAIN_PARTS[train](release, tmp_path)
    VAL_PARTS[val](release, tmp_path)
    expected = read_archives(release)
    rows = [
        f"{p.name.removesuffix('.JPEG')},{expected.classes[p.label].wnid} 1 2 3 4"
        if name.endswith("csv")
        else f"{p.name} {p.label}"
        for p in expected.images["val"]
    ]
    header = ["ImageId,PredictionString"] if name.endswith("csv") else []
    (tmp_path / name).write_text("\n".join([*header, *rows]))
    source = read_archives(tmp_path)
    assert content(source) == content(expected)
    assert [c.wnid for c in source.classes] == [c.wnid for c in expected.classes]


@pytest.mark.parametrize("val", VAL_PARTS)
def test_validation_part_alone_is_a_dataset_of_one_split(release, tmp_path, val):
    VAL_PARTS[val](release, tmp_path)
    KIT_PARTS["packed"](release, tmp_path)
    source = read_archives(tmp_path)
    if val != "class folders":  # of the layout "folders"
        assert source.images["train"] == []
        assert content(source)["val"] == content(read_archives(release))["val"]
        assert "no training images" in source.notes[0]
    else:
        assert source is None


def test_class_that_the_kit_lacks_is_refused_in_folders_too(release, tmp_path):
    for part in (TRAIN_PARTS["class folders"], VAL_PARTS["tar"], KIT_PARTS["packed"]):
        part(release, tmp_path)
    (tmp_path / "Train" / "n99999999").mkdir()
    with refused(SourceError, "'n99999999' is no class in the development kit"):
        read_archives(tmp_path)
