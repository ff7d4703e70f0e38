"""Kaggle's folders and zip: labels out of a CSV, in whatever state people have it."""

import tarfile
import zipfile
from pathlib import Path

import pytest
from helpers import refused

from alexnet_cli.data.sources import label_files
from alexnet_cli.data.sources.kaggle import ZIP_NAME, read_kaggle
from alexnet_cli.data.sources.source import Source
from alexnet_cli.errors import SourceError

WNIDS = ("n00000001", "n00000002")
VAL = {"ILSVRC2012_val_00000001": 1, "ILSVRC2012_val_00000002": 0, "ILSVRC2012_val_00000003": 1}
CLS_LOC = "ILSVRC/Data/CLS-LOC"


def read(source: Path, **how) -> Source | None:
    return read_kaggle(source, staging=Path("never used"), **how)


def rows(*, line_end: str = "\n") -> str:
    lines = ["ImageId,PredictionString", *(f"{i},{WNIDS[c]} 1 2 30 40 " for i, c in VAL.items())]
    return "".join(line + line_end for line in lines)


def files(solution: str | None) -> dict[str, bytes]:
    """What Kaggle distributes; the content of an image is its name."""
    names = [f"train/{w}/{w}_{number}.JPEG" for w in WNIDS for number in (10, 2)]
    names += [f"val/{image_id}.JPEG" for image_id in VAL]
    names += ["test/ILSVRC2012_test_00000001.JPEG"]
    content = {f"{CLS_LOC}/{name}": Path(name).name.encode() for name in names}
    content["LOC_synset_mapping.txt"] = b"n00000001 tench, Tinca tinca\nn00000002 goldfish\n"
    if solution is not None:
        content["LOC_val_solution.csv"] = solution.encode()
    return content


def write_folder(root: Path, solution: str | None) -> Path:
    for name, content in files(solution).items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def write_zip(root: Path, solution: str | None) -> Path:
    with zipfile.ZipFile(root / ZIP_NAME, "w") as archive:
        for number, (name, content) in enumerate(files(solution).items()):
            archive.writestr(name, content, (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)[number % 2])
    return root


@pytest.fixture(params=[write_folder, write_zip], ids=["folder", "zip"])
def write(request):
    return request.param


def listed(source: Source, split: str) -> list[tuple[str, int, bytes]]:
    return [(p.name, p.label, p.read()) for p in source.images[split]]


def expected_val() -> list[tuple[str, int, bytes]]:
    return [(f"{i}.JPEG", label, f"{i}.JPEG".encode()) for i, label in VAL.items()]


def test_images_classes_and_words_are_those_of_the_files(write, tmp_path):
    source = read(write(tmp_path, rows()))
    assert [(e.wnid, e.name) for e in source.classes] == [
        ("n00000001", "tench, Tinca tinca"),
        ("n00000002", "goldfish"),
    ]
    names = [(f"{w}_{number}.JPEG", label) for label, w in enumerate(WNIDS) for number in (10, 2)]
    assert listed(source, "train") == [(name, label, name.encode()) for name, label in names]
    assert listed(source, "val") == expected_val()


def test_test_set_is_ignored_and_counted(write, tmp_path):
    assert read(write(tmp_path, rows())).ignored == {"test image without a label": 1}


def test_sources_are_named_below_cls_loc(write, tmp_path):
    source = read(write(tmp_path, rows()))
    assert source.images["train"][0].source == "train/n00000001/n00000001_10.JPEG"
    assert source.images["val"][0].source == "val/ILSVRC2012_val_00000001.JPEG"


@pytest.mark.parametrize("start", ["ILSVRC", "ILSVRC/Data", CLS_LOC])
def test_labels_are_found_at_every_depth(tmp_path, start):
    source = read(write_folder(tmp_path, rows()) / start)
    assert listed(source, "val") == expected_val()
    assert source.classes[0].name == "tench, Tinca tinca"


def test_zip_may_be_named_itself(tmp_path):
    source = read(write_zip(tmp_path, rows()) / ZIP_NAME)
    assert listed(source, "val") == expected_val()


def test_zip_that_is_named_may_have_any_name(tmp_path):
    path = (write_zip(tmp_path, rows()) / ZIP_NAME).rename(tmp_path / "imagenet.zip")
    assert read(path).layout == "Kaggle's zip (imagenet.zip)"


SWAPPED = "PredictionString,ImageId\n" + "".join(
    f"{WNIDS[c]} 1 2 3 4,{i}\n" for i, c in VAL.items()
)


@pytest.mark.parametrize(
    "solution",
    [
        rows(line_end="\r\n"),
        SWAPPED,
        rows() + rows().splitlines()[-1] + " 5 6 7 8\n",
        "\ufeff" + rows(),
        rows().rstrip(),
        rows() + "\n\n",
    ],
    ids=[
        "Windows line ends",
        "other column order",
        "two boxes",
        "byte order mark",
        "no last line end",
        "blank",
    ],
)
def test_csv_of_other_tools_is_read(write, tmp_path, solution):
    assert listed(read(write(tmp_path, solution)), "val") == expected_val()


def test_rows_without_an_image_are_counted(write, tmp_path):
    source = read(write(tmp_path, rows() + "ILSVRC2012_val_00000099,n77777777 1 2 3 4\n"))
    assert source.ignored["row of LOC_val_solution.csv without its image"] == 1


def without_second(text: str) -> str:
    return "".join(line for line in text.splitlines(True) if "val_00000002" not in line)


@pytest.mark.parametrize(
    ("solution", "pattern"),
    [
        (None, r"no LOC_val_solution\.csv"),
        (without_second(rows()), r"no row for 1 of \d images, the first .*val_00000002\.JPEG"),
        (rows().replace(WNIDS[0], "n99999999"), "class 'n99999999' is none of the"),
        (rows() + "ILSVRC2012_val_00000001,n00000001\n", "two classes for ILSVRC2012_val_00000001"),
        ("", "no rows of a name and a class"),
        (rows().splitlines()[0] + "\nILSVRC2012_val_00000001\n", "a row without a class"),
    ],
)
def test_labels_that_do_not_fit_are_refused_naming_the_first(write, tmp_path, solution, pattern):
    with refused(SourceError, pattern) as error:
        read(write(tmp_path, solution))
    assert str(error.value).count("\n") <= 2


def test_without_the_mapping_the_wnids_are_the_words(tmp_path):
    (write_folder(tmp_path, rows()) / "LOC_synset_mapping.txt").unlink()
    assert [entry.name for entry in read(tmp_path).classes] == list(WNIDS)


def test_validation_images_that_were_sorted_need_no_csv(tmp_path):
    val = write_folder(tmp_path, None) / CLS_LOC / "val"
    for image_id, label in VAL.items():
        (val / WNIDS[label]).mkdir(exist_ok=True)
        (val / f"{image_id}.JPEG").rename(val / WNIDS[label] / f"{image_id}.JPEG")
    assert listed(read(tmp_path), "val") == expected_val()


def test_plain_class_folders_are_not_recognized(tmp_path):
    for name in ("train/a", "val/a"):
        (tmp_path / name).mkdir(parents=True)
    assert read(tmp_path) is None


def test_folder_with_neither_is_not_recognized(tmp_path):
    assert read(tmp_path) is None
    (tmp_path / "x.tar").touch()
    assert read(tmp_path / "x.tar") is None


@pytest.mark.parametrize("share", [0.0, 0.5, 0.95])
def test_cut_zip_is_refused(tmp_path, share):
    path = write_zip(tmp_path, rows()) / ZIP_NAME
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with refused(SourceError, "cut or damaged"):
        read(tmp_path)


def test_older_download_is_read_as_the_zip_is(tmp_path):
    path = tmp_path / "imagenet_object_localization_patched2019.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        archive.add(write_folder(tmp_path / "unpacked", rows()), ".")
    for source in (tmp_path, path):
        found = read(source)
        assert [(p.name, p.label) for p in found.images["val"]] == [p[:2] for p in expected_val()]
        assert len(found.staged) == 1


def add_to_zip(path: Path, name: str, content: bytes = b"x", *, mode: int = 0o100644) -> None:
    member = zipfile.ZipInfo(name)
    member.external_attr = mode << 16
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(member, content)


def test_another_zip_is_not_recognized(tmp_path):
    add_to_zip(tmp_path / ZIP_NAME, "holiday/1.jpg")
    assert read(tmp_path) is None


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        (f"{CLS_LOC}/train/n00000001/link.JPEG", 0o120777),
        (f"{CLS_LOC}/train/n00000001/.DS_Store", 0o100644),
        (f"{CLS_LOC}/train/stray.JPEG", 0o100644),
    ],
)
def test_members_that_are_no_images_are_ignored_and_counted(tmp_path, name, mode):
    whole = read(write_zip(tmp_path, rows()))
    add_to_zip(tmp_path / ZIP_NAME, name, b"n00000001_2.JPEG", mode=mode)
    source = read(tmp_path)
    assert listed(source, "train") == listed(whole, "train")
    assert sum(source.ignored.values()) == sum(whole.ignored.values()) + 1


def test_member_packed_by_another_method_is_refused_by_name(tmp_path):
    write_zip(tmp_path, rows())
    with zipfile.ZipFile(tmp_path / ZIP_NAME, "a", zipfile.ZIP_LZMA) as archive:
        archive.writestr(f"{CLS_LOC}/train/n00000001/new.JPEG", b"x")
    with refused(SourceError, r"new\.JPEG is packed by method 14"):
        read(tmp_path)


def test_listing_a_zip_unpacks_nothing(tmp_path):
    write_zip(tmp_path, rows())
    read(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [ZIP_NAME]


def test_labels_that_would_unpack_without_end_are_refused(tmp_path, monkeypatch):
    folder = write_zip(tmp_path, rows())
    monkeypatch.setattr(label_files, "MAX_BYTES", len(rows()) - 1)
    with refused(SourceError, "no file of labels"):
        read(folder / ZIP_NAME)


def test_csv_of_one_endless_line_is_refused(tmp_path):
    with refused(SourceError, r"LOC_val_solution\.csv: no row names an image"):
        read(write_zip(tmp_path, "x" * 200_000) / ZIP_NAME)


def test_csv_beside_the_folders_that_is_too_large_is_not_read(tmp_path, monkeypatch):
    folder = write_folder(tmp_path, rows())
    monkeypatch.setattr(label_files, "MAX_BYTES", len(rows()) - 1)
    with refused(SourceError, "no file of labels"):
        read(folder)


def test_linked_images_are_followed_only_if_requested(tmp_path):
    root = write_folder(tmp_path / "set", rows())
    image = root / CLS_LOC / "val/ILSVRC2012_val_00000001.JPEG"
    image.rename(tmp_path / "moved.JPEG")
    image.symlink_to(tmp_path / "moved.JPEG")
    with refused(SourceError, "val: 1 links"):
        read(root)
    assert listed(read(root, follow_links=True), "val") == expected_val()
