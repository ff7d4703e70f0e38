"""Zips, tars and packed tars of class folders are read as the folders in them."""

import io
import shutil
import stat
import subprocess
import tarfile
import zipfile
from pathlib import Path

import pytest
from helpers import Listener, refused
from PIL import Image

from alexnet_cli.data.sources import members, packed
from alexnet_cli.data.sources.detect import read_source
from alexnet_cli.data.sources.source import Source, SourceOptions
from alexnet_cli.errors import MachineError, SourceError
from alexnet_cli.prep.build import prep
from alexnet_cli.prep.plan import PrepOptions, PrepRequest

OPTIONS = PrepOptions(size=16, shard_size=3)
KINDS = ("zip", "tar", "gztar", "bztar", "xztar")
SUFFIXES = {"gztar": "tar.gz", "bztar": "tar.bz2", "xztar": "tar.xz"}


def read(source: Path, **how) -> Source:
    return read_source(source, SourceOptions(source.parent / "staging", **how))


def listed(source: Source, split: str = "train") -> list[tuple[str, int, str]]:
    return [(image.name, image.label, image.parent) for image in source.images[split]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A set as people pack it: a folder of its name, and what lies beside the images."""
    root = tmp_path_factory.mktemp("packed") / "set" / "imagenette2-160"
    names = ["train/cat/1.JPEG", "train/cat/2.JPEG", "train/dog/1.JPEG", "train/dog/deep/3.JPEG"]
    for number, name in enumerate([*names, "val/cat/9.JPEG", "val/dog/9.JPEG"]):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 30), (40 * number, 90, 200)).save(path, "JPEG")
    (root / "noisy_imagenette.csv").write_text("path,label\n")
    (root / "train/cat/notes.txt").write_text("a note")
    (root / "train/cat/._1.JPEG").write_bytes(b"left by a file manager")
    (root / "val/dog/empty.JPEG").touch()
    return root


@pytest.fixture(params=[(kind, rooted) for kind in KINDS for rooted in (True, False)], ids=str)
def archive(request, folder, tmp_path) -> Path:
    kind, rooted = request.param
    top = folder.parent if rooted else folder
    return Path(shutil.make_archive(str(tmp_path / "imagenette2-160"), kind, top))


def shards(dataset: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in dataset.glob("*.tar")}


@pytest.fixture(scope="module")
def expected(folder, tmp_path_factory) -> tuple[dict[str, bytes], dict[str, int], list]:
    """Shards, ignored files and rejected images of the folder."""
    dataset = tmp_path_factory.mktemp("expected") / "dataset"
    result = prep(PrepRequest(folder, dataset, OPTIONS, workers=1))
    return shards(dataset), result.ignored, result.rejected


def test_archive_makes_the_dataset_of_its_folder(archive, expected, tmp_path):
    result = prep(PrepRequest(archive, tmp_path / "dataset", OPTIONS, workers=1))
    assert (shards(tmp_path / "dataset"), result.ignored, result.rejected) == expected
    assert not (tmp_path / "dataset/.prep").exists()


def test_folder_within_an_archive_may_be_named(folder, tmp_path):
    path = Path(shutil.make_archive(str(tmp_path / "set"), "gztar", folder.parent))
    listener = Listener()
    options = SourceOptions(tmp_path / "staging")
    source = read_source(path / "imagenette2-160/train", options, listener)
    assert listener.lines[0].startswith(f"{path} is packed, so it is read to its end")
    assert [entry.wnid for entry in source.classes] == ["cat", "dog"]
    assert len(source.images["train"]) == 4
    with refused(SourceError, "there is no such folder in .*set.tar.gz"):
        read(path / "imagenette2-160/test")


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_archives_named_after_splits_are_read_together(folder, tmp_path, kind):
    shutil.make_archive(str(tmp_path / "Training"), kind, folder.parent, "imagenette2-160/train")
    shutil.make_archive(str(tmp_path / "valid"), "gztar", folder / "val")
    whole, parts = read(folder), read(tmp_path)
    assert [image[:2] for image in listed(parts)] == [image[:2] for image in listed(whole)]
    assert [i[:2] for i in listed(parts, "val")] == [i[:2] for i in listed(whole, "val")]
    shutil.copy(tmp_path / "valid.tar.gz", tmp_path / "valid.tgz")
    with refused(SourceError, "holds valid.tar.gz and valid.tgz"):
        read(tmp_path)


def test_labels_in_a_file_of_the_archive_are_read(tmp_path):
    rows = [("cat", "train/cat/images/a.JPEG"), ("dog", "train/dog/images/b.JPEG")]
    files = {name: "x" for _, name in rows} | {"val/images/1.JPEG": "x", "words.txt": "cat Kitty\n"}
    files["val/val_annotations.txt"] = "1.JPEG\tdog\t0\t0\t62\t62\n"
    for kind in ("zip", "tar.gz"):
        source = read(pack(tmp_path / f"tiny-imagenet-200.{kind}", files))
        assert [image.label for image in source.images["val"]] == [1]
        assert [entry.name for entry in source.classes] == ["Kitty", "dog"]


def pack(path: Path, files: dict[str, str], links: dict[str, str] | None = None) -> Path:
    """Write an archive of texts, and of symbolic links to the paths given."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name, text in files.items():
                archive.writestr(name, text)
            for name, target in (links or {}).items():
                member = zipfile.ZipInfo(name)
                member.external_attr = (stat.S_IFLNK | 0o777) << 16
                archive.writestr(member, target)
        return path
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as archive:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
        for name, target in (links or {}).items():
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, target
            archive.addfile(member)
    return path


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_links_in_an_archive_are_counted_or_refused_as_in_folders(tmp_path, kind):
    files = {"cat/1.jpg": "1", "dog/2.jpg": "2"}
    source = read(pack(tmp_path / f"a.{kind}", files, {"cat/again.jpg": "../dog/2.jpg"}))
    assert len(source.images["train"]) == 2
    assert source.ignored == {"symbolic link": 1}
    for links in ({"cat/3.jpg": "../../3.jpg"}, {"owl": "/data/owl"}, {"cat/x.jpg": "gone.jpg"}):
        with refused(SourceError, r"1 links lead out of it, such as .* -> .*\n.*\n.*name the fold"):
            read(pack(tmp_path / f"b.{kind}", files, links))


def test_hard_link_in_a_tar_is_another_image(tmp_path):
    (tmp_path / "set/cat").mkdir(parents=True)
    (tmp_path / "set/cat/1.jpg").write_text("the image")
    (tmp_path / "set/cat/2.jpg").hardlink_to(tmp_path / "set/cat/1.jpg")
    subprocess.run(["tar", "cf", tmp_path / "a.tar", "-C", tmp_path / "set", "."], check=True)
    images = read(tmp_path / "a.tar").images["train"]
    assert [(image.name, image.read()) for image in images] == [
        ("1.jpg", b"the image"),
        ("2.jpg", b"the image"),
    ]


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
@pytest.mark.parametrize(
    ("names", "what"),
    [
        (["cat/1.jpg", "../../etc/1.jpg"], "etc/1.jpg leads out of the archive"),
        (["cat/1.jpg", "cat/" * 60 + "1.jpg"], "is in 61 folders"),
        (["cat/1.jpg", "cat/1.jpg/2.jpg"], "cat/1.jpg is both a file and a folder"),
        (["cat/1/2.jpg", "cat/1"], "cat/1 is both a file and a folder"),
        (["1.jpg", "2.jpg"], r"no class folders; it holds 2 \*\.jpg"),
        (["n01440764.tar"], r"no class folders; it holds 1 \*\.tar"),
        ([], "no class folders; it holds nothing"),
        (["cat/.DS_Store"], "no image was found; passed over: 1 hidden file"),
    ],
)
def test_archive_of_odd_members_is_refused_by_name(tmp_path, kind, names, what):
    with refused(SourceError, what):
        read(pack(tmp_path / f"a.{kind}", dict.fromkeys(names, "x")))


def test_names_are_those_an_unpacked_archive_would_have(tmp_path):
    files = {"./cat/1.jpg": "old", "/cat//2.jpg": "2", "cat/1.jpg": "new"}
    images = read(pack(tmp_path / "a.tar", files)).images["train"]
    assert [(image.name, image.read()) for image in images] == [("1.jpg", b"new"), ("2.jpg", b"2")]
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        member = zipfile.ZipInfo("cat\\1.jpg")
        member.create_system = 0
        archive.writestr(member, "x")
    assert listed(read(tmp_path / "a.zip")) == [("1.jpg", 0, "cat/")]


def test_too_many_members_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(members, "MAX_MEMBERS", 9)
    with refused(SourceError, "over 9 members"):
        read(pack(tmp_path / "a.tar", {f"cat/{number}.jpg": "" for number in range(10)}))


def test_encrypted_zip_is_refused(tmp_path):
    path = pack(tmp_path / "a.zip", {"cat/1.jpg": "x"})
    content = bytearray(path.read_bytes())
    for magic, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(magic) + flags] |= 1
    path.write_bytes(content)
    with refused(SourceError, r"cat/1.jpg is encrypted.*\n.*\n.*password"):
        read(path)


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz", "tar.xz"])
@pytest.mark.parametrize("share", [0.1, 0.3, 0.5])
def test_cut_archive_is_refused(folder, tmp_path, kind, share):
    form = {"zip": "zip", "tar": "tar", "tar.gz": "gztar", "tar.xz": "xztar"}[kind]
    path = Path(shutil.make_archive(str(tmp_path / "a"), form, folder))
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with refused(SourceError, "cut or damaged"):
        read(path)


def test_packed_tar_that_the_disk_cannot_hold_is_refused_before_it_is_read(tmp_path, monkeypatch):
    path = pack(tmp_path / "a.tar.gz", {"cat/1.jpg": "x" * 100_000, "cat/2.jpg": "x"})
    monkeypatch.setattr("alexnet_cli.io.disk.free_bytes", lambda folder: 50_000)
    monkeypatch.setattr(packed, "free_bytes", lambda folder: 50_000)
    with refused(MachineError, r"the unpacked copy of the images needs over 0.1 MB"):
        read(path)


def test_file_larger_than_any_image_is_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(packed, "MAX_FILE_BYTES", 10)
    for kind in ("zip", "tar"):
        source = read(pack(tmp_path / f"a.{kind}", {"cat/1.jpg": "x" * 11, "cat/2.jpg": "x"}))
        assert len(source.images["train"]) == 1
        assert source.ignored == {members.NO_PLAIN_FILE: 1}


@pytest.mark.parametrize(("magic", "kind"), [(b"7z\xbc\xaf'\x1c", "7z"), (b"Rar!\x1a\7", "rar")])
def test_other_archives_are_named(tmp_path, magic, kind):
    (tmp_path / "a.bin").write_bytes(magic + bytes(600))
    with refused(SourceError, f"a {kind} file, which is not read"):
        read(tmp_path / "a.bin")


def test_folders_unpacked_beside_their_archives_are_read(folder, tmp_path):
    for split in ("train", "val"):
        shutil.make_archive(str(tmp_path / split), "zip", folder, split)
    shutil.copytree(folder / "val", tmp_path / "val")
    with refused(SourceError, "train.zip is an archive, but val a folder.*\n.*\nUnpack train.zip"):
        read(tmp_path)
    shutil.copytree(folder / "train", tmp_path / "train")
    assert read(tmp_path).layout == "train/CLASS and val/CLASS folders"
    shutil.rmtree(tmp_path / "train")
    (tmp_path / "val").rename(tmp_path / "notes")
    assert "warning: not read, though beside: notes" in read(tmp_path).notes


@pytest.mark.parametrize(
    ("name", "members", "advice"),
    [
        ("ILSVRC2012_img_val.tar", ["ILSVRC2012_val_00000001.JPEG"], "folder of the archives: "),
        ("ILSVRC2012_img_train.tar", ["n01440764.tar"], "Name the folder of the archives: "),
        ("fall11_whole.tar", ["n01440764.tar"], "prep reads a folder of tars, one for each class"),
        ("train-0.tar", ["0.jpg", "0.cls"], "Name the folder of the tars of samples: "),
        ("train-0.tar.gz", ["0.jpg", "0.json"], "Unpack the samples: gunzip .*train-0.tar.gz"),
        ("test.zip", ["1.jpg"], "to classify them: alexnet predict FOLDER"),
        ("test.zip", ["test/1.jpg"], "alexnet predict test, once unpacked"),
    ],
)
def test_archive_of_something_else_is_refused_with_what_would_be_right(
    tmp_path, name, members, advice
):
    with refused(SourceError, advice):
        read(pack(tmp_path / name, dict.fromkeys(members, "x")))
