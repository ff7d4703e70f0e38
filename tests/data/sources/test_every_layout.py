"""One set of images in every layout: recognized by looking, and always the same shards."""

import hashlib
import io
import json
import os
import random
import shutil
import tarfile
import zipfile
from functools import partial
from pathlib import Path

import pytest
from helpers import Listener, refused

from alexnet_cli.cli.hints import message, sentence
from alexnet_cli.data.sources.archives import read_archives
from alexnet_cli.data.sources.detect import LAYOUTS, read_source
from alexnet_cli.data.sources.kaggle import ZIP_NAME
from alexnet_cli.data.sources.source import Source, SourceImage, SourceOptions
from alexnet_cli.errors import SourceError, UsageError
from alexnet_cli.prep.build import prep
from alexnet_cli.prep.plan import PrepOptions, PrepRequest

OPTIONS = PrepOptions(size=32, shard_size=25)


def wnid(source: Source, image: SourceImage) -> str:
    return source.classes[image.label].wnid


def shuffled(images: list[SourceImage]) -> list[SourceImage]:
    return random.Random(5).sample(images, len(images))


def write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def as_archives(source: Source, root: Path) -> None:
    for path in source.images["train"][0].path.parent.iterdir():
        os.link(path, root / path.name)


def as_folders(source: Source, root: Path) -> None:
    for split, images in source.images.items():
        for image in shuffled(images):
            write(root / split / wnid(source, image) / image.name, image.read())


def as_kaggle(source: Source, root: Path) -> None:
    inside = root / "ILSVRC/Data/CLS-LOC"
    for image in source.images["train"]:
        write(inside / "train" / wnid(source, image) / image.name, image.read())
    lines = ["ImageId,PredictionString"]
    for image in shuffled(source.images["val"]):
        write(inside / "val" / image.name, image.read())
        lines.append(f"{image.name.removesuffix('.JPEG')},{wnid(source, image)} 1 2 3 4")
    (root / "LOC_val_solution.csv").write_text("\n".join(lines))


def as_zip(source: Source, root: Path) -> None:
    as_kaggle(source, root / "unpacked")
    with zipfile.ZipFile(root / ZIP_NAME, "w") as archive:
        for number, path in enumerate(sorted((root / "unpacked").rglob("*.*"))):
            method = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)[number % 2]
            archive.write(path, path.relative_to(root / "unpacked"), method)


def as_parquet(source: Source, root: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    for split, name in (("train", "train"), ("val", "validation")):
        images = shuffled(source.images[split])
        for part in range(2):
            cells = [
                {
                    "bytes": image.read(),
                    "path": image.name.replace(".", f"_{wnid(source, image)}."),
                }
                for image in images[part::2]
            ]
            labels = [image.label for image in images[part::2]]
            table = pa.table({"image": cells, "label": labels})
            parquet.write_table(table, root / f"{name}-{part:05d}-of-00002.parquet")


def as_webdataset(source: Source, root: Path) -> None:
    for split, name in (("train", "imagenet1k-train"), ("val", "imagenet1k-validation")):
        with tarfile.open(root / f"{name}-0000.tar", "w") as tar:
            for image in shuffled(source.images[split]):
                note = json.dumps({"filename": f"folder/{image.name}", "label": image.label})
                stem = image.name.removesuffix(".JPEG")
                for suffix, content in (("jpg", image.read()), ("json", note.encode())):
                    member = tarfile.TarInfo(f"{stem}.{suffix}")
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))


def as_packed(source: Source, root: Path) -> None:
    as_folders(source, root / "unpacked")
    shutil.make_archive(str(root / "train"), "gztar", root / "unpacked/train")
    shutil.make_archive(str(root / "val"), "zip", root / "unpacked", "val")
    shutil.rmtree(root / "unpacked")


def as_class_tars(source: Source, root: Path, splits: tuple[str, ...] = ("train", "val")) -> None:
    as_folders(source, root / "unpacked")
    for split in splits:
        (root / split).mkdir()
        for folder in (root / "unpacked" / split).iterdir():
            shutil.make_archive(str(root / split / folder.name), "tar", folder)
    shutil.rmtree(root / "unpacked")


def as_parts(source: Source, root: Path) -> None:
    """Class tars, and flat validation images with Caffe's list of positions."""
    as_class_tars(source, root, ("train",))
    images = shuffled(source.images["val"])
    for image in images:
        write(root / "val" / image.name, image.read())
    (root / "val.txt").write_text("".join(f"{image.name} {image.label}\n" for image in images))


def as_tables(source: Source, root: Path) -> None:
    """Flat folders with unusual names, and tables of names and classes."""
    for split, name in (("train", "Training_Set"), ("val", "valid")):
        rows = ["label;width;filename"]
        for image in shuffled(source.images[split]):
            write(root / name / image.name, image.read())
            rows.append(f"{wnid(source, image)};9;{image.name}")
        (root / f"{name}.csv").write_text("\n".join(rows))


def as_tiny(source: Source, root: Path) -> None:
    """A folder in each class, and the annotations of Tiny ImageNet."""
    for image in source.images["train"]:
        write(root / "train" / wnid(source, image) / "images" / image.name, image.read())
    rows = []
    for image in shuffled(source.images["val"]):
        write(root / "val" / "images" / image.name, image.read())
        rows.append(f"{image.name}\t{wnid(source, image)}\t0\t0\t9\t9")
    (root / "val/val_annotations.txt").write_text("\n".join(rows))


def as_one_archive(source: Source, root: Path, kind: str = "zip") -> None:
    """A folder of class folders in one archive, which is SOURCE."""
    as_folders(source, root / "unpacked/set")
    shutil.make_archive(str(root / "set"), kind, root / "unpacked")
    shutil.rmtree(root / "unpacked")


BUILDERS = {
    "archives": as_archives,
    "folders": as_folders,
    "kaggle": as_kaggle,
    "zip": as_zip,
    "parquet": as_parquet,
    "webdataset": as_webdataset,
    "packed": as_packed,
    "synset-tars": as_class_tars,
    "parts": as_parts,
    "tables": as_tables,
    "one-zip": as_one_archive,
    "one-tar": partial(as_one_archive, kind="tar"),
}
# What SOURCE is, where it is not the folder; and the layout, where it has another name.
FILES = {"zip": ZIP_NAME, "one-zip": "set.zip", "one-tar": "set.tar"}
LAYOUT_OF = {
    "zip": "kaggle",
    "parts": "archives",
    "tables": "folders",
    "one-zip": "packed",
    "one-tar": "packed",
}


@pytest.fixture(scope="module")
def official(release) -> Source:
    return read_archives(release)


@pytest.fixture(params=BUILDERS)
def source(request, official, tmp_path) -> Path:
    """The same images in one of the layouts, `source.name` being its name."""
    root = tmp_path / request.param
    root.mkdir()
    BUILDERS[request.param](official, root)
    return root / FILES.get(request.param, "")


def shards_of(folder: Path) -> dict[str, str]:
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.glob("*.tar"))
    }


@pytest.fixture(scope="module")
def expected(release, tmp_path_factory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("expected") / "dataset"
    prep(PrepRequest(release, folder, OPTIONS, workers=1))
    return shards_of(folder)


def test_every_layout_gives_the_same_shards_and_leaves_nothing_else(source, expected, tmp_path):
    folder = tmp_path / "dataset"
    prep(PrepRequest(source, folder, OPTIONS, workers=1))
    assert shards_of(folder) == expected
    assert not [path for path in folder.rglob("*") if "staging" in str(path.relative_to(folder))]


def test_interrupted_prep_of_any_layout_continues_to_the_same_shards(source, expected, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        prep(PrepRequest(source, tmp_path / "dataset", OPTIONS, workers=1), Interrupting())
    prep(PrepRequest(source, tmp_path / "dataset", OPTIONS, workers=1))
    assert shards_of(tmp_path / "dataset") == expected


class Interrupting(Listener):
    """A progress that sends Ctrl-C after the first step of all but the first kind of work."""

    def advance(self, count: int = 1, note: str = "") -> None:
        raise KeyboardInterrupt


def test_layout_that_is_named_reads_the_same(source, tmp_path):
    name = source.parent.name if source.is_file() else source.name
    name = LAYOUT_OF.get(name, name)
    named, looked = (
        read_source(source, SourceOptions(tmp_path / "s", layout=n)) for n in (name, None)
    )
    assert named.fingerprint() == looked.fingerprint()
    assert named.layout == looked.layout


@pytest.mark.parametrize("layout", LAYOUTS)
def test_wrong_layout_says_what_is_missing(tmp_path, layout):
    with pytest.raises(SourceError) as error:
        read_source(tmp_path, SourceOptions(tmp_path / "s", layout=layout))
    assert f"not the layout '{layout}', which needs {LAYOUTS[layout].needs}" in str(error.value)


def test_unknown_layout_is_a_usage_error(tmp_path):
    with refused(UsageError, "there are archives, kaggle, parquet"):
        read_source(tmp_path, SourceOptions(tmp_path / "s", layout="lmdb"))


def test_source_that_does_not_exist_is_refused(tmp_path):
    with refused(SourceError, "does not exist"):
        read_source(tmp_path / "nowhere", SourceOptions(tmp_path / "s"))


@pytest.mark.parametrize(
    ("name", "what"),
    [("a.tgz", "neither a zip nor a tar"), ("a.jpg", "is not a folder.*\n.*\n.*predict")],
)
def test_source_that_is_a_file_of_no_members_is_refused(tmp_path, name, what):
    (tmp_path / name).touch()
    with refused(SourceError, what):
        read_source(tmp_path / name, SourceOptions(tmp_path / "s"))


def test_unknown_folder_error_names_every_layout(tmp_path):
    (tmp_path / "notes.txt").write_text("nothing here")
    with refused(SourceError, "no archives and no class folders") as error:
        read_source(tmp_path, SourceOptions(tmp_path / "s"))
    assert all(name in message(error.value) for name in LAYOUTS)


@pytest.mark.parametrize(
    "source",
    ["https://host/train.tar", "pipe:touch ran", "s3://bucket/x", "hf://datasets/x", "file:x", "-"],
)
def test_url_or_command_is_a_usage_error_and_nothing_runs(tmp_path, monkeypatch, source):
    monkeypatch.chdir(tmp_path)
    with refused(UsageError, "Nothing was fetched or run"):
        read_source(Path(source), SourceOptions(tmp_path / "s"))
    assert list(tmp_path.iterdir()) == []


def test_archives_are_preferred_to_folders_beside_them(release, tmp_path):
    assert read_source(release, SourceOptions(tmp_path)).layout.startswith("official archives")


def test_val_fraction_is_refused_where_validation_images_are_given(source, tmp_path):
    with refused(UsageError, "--val-fraction"):
        read_source(source, SourceOptions(tmp_path / "s", val_fraction=0.1))


def test_md5_is_for_the_official_archives_alone(tmp_path, official):
    as_folders(official, tmp_path)
    with refused(UsageError, "--check-md5"):
        read_source(tmp_path, SourceOptions(tmp_path / "s", check_md5=True))


def test_archives_that_are_not_the_published_ones_do_not_pass_their_md5(release, tmp_path):
    with refused(SourceError, r"img_train\.tar: its MD5 is [0-9a-f]{32}, not 1d675b"):
        read_source(release, SourceOptions(tmp_path / "s", check_md5=True))


@pytest.mark.parametrize(
    "names", [("cat/", "dog/"), ("train/cat/", "val/cat/"), ("cat/.DS_Store", "dog/._x.jpg")]
)
def test_source_without_an_image_is_refused_and_what_was_passed_over_counted(tmp_path, names):
    for name in names:
        path = tmp_path / "source" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir() if name.endswith("/") else path.touch()
    with refused(SourceError, "no image was found") as error:
        read_source(tmp_path / "source", SourceOptions(tmp_path / "s"))
    assert ("2 hidden file" in error.value.problem) == ("DS_Store" in names[0])


def test_split_of_held_out_images_alone_becomes_a_dataset(tmp_path, official):
    for image in official.images["val"]:
        write(tmp_path / "source/val" / wnid(official, image) / image.name, image.read())
    result = prep(PrepRequest(tmp_path / "source", tmp_path / "dataset", OPTIONS, workers=1))
    numbers = {split: counts["written"] for split, counts in result.splits.items()}
    assert numbers == {"train": 0, "val": len(official.images["val"])}


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("ILSVRC2012_img_train (1).tar", "rename it: ILSVRC2012_img_train.tar"),
        ("ILSVRC2012_img_val copy.tar", "rename it: ILSVRC2012_img_val.tar"),
        ("train-000000.tar.gz", "gunzip"),
        ("photos.tar.gz", "Name the archive: "),
        ("samples.tar", "named after their split"),
        ("food.parquet", "folder named so; this is food.parquet"),
        ("1.JPG", "name the folder above"),
    ],
)
def test_folder_of_no_layout_is_refused_with_what_it_holds_and_what_to_do(tmp_path, name, advice):
    (tmp_path / name).touch()
    (tmp_path / "link").symlink_to(tmp_path)
    with refused(SourceError, "it holds .*1 links") as error:
        read_source(tmp_path, SourceOptions(tmp_path / "s"))
    assert advice in sentence(error.value.hint)


@pytest.mark.parametrize(
    "name", ["train-0.tar", "train.parquet", "data/train-00000-of-00001.parquet"]
)
def test_git_lfs_pointer_in_place_of_a_file_is_named(tmp_path, name):
    write(tmp_path / name, b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    with refused(SourceError, "a Git LFS pointer: fetch the file with git lfs pull"):
        read_source(tmp_path, SourceOptions(tmp_path / "staging"))
