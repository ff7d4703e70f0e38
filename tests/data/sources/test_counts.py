"""Every file of a source is written, rejected or ignored, and counted, in its split."""

import io
import tarfile
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from alexnet_cli.data.remote.stream import open_tars
from alexnet_cli.data.remote.tar_set import TarSet
from alexnet_cli.data.remote.tar_stream import UNREADABLE
from alexnet_cli.data.sources.cifar import VARIANTS
from alexnet_cli.prep.build import PrepResult, prep
from alexnet_cli.prep.plan import PrepOptions, PrepRequest

OPTIONS = PrepOptions(size=16, shard_size=4)
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
WNIDS = ("n01440764", "n01443537")
rng = np.random.default_rng(3)


def image() -> bytes:
    file = io.BytesIO()
    Image.fromarray(rng.integers(0, 255, (24, 20, 3), dtype=np.uint8)).save(file, "JPEG")
    return file.getvalue()


# What is found among images: name, content, and why it is ignored; "" where it is rejected.
ODD = (
    ("notes.txt", b"a note", "note beside the images"),
    ("boxes.xml", b"<a/>", "note beside the images"),
    ("README.md", b"# Set", "note beside the images"),
    ("._a.jpg", b"\0\5\x16\7", "hidden file"),
    (".DS_Store", b"x", "hidden file"),
    ("Thumbs.db", b"x", "hidden file"),
    ("empty.jpg", b"", ""),
    ("text.jpg", b"no image", ""),
    ("pointer.JPEG", LFS, ""),
    ("program.exe", b"MZ", ""),
)
Files = dict[str, bytes]


def drawn(folder: str, num_images: int) -> tuple[Files, Counter, int]:
    """Draw images with some of the odd files; return files, ignored by reason, and rejected."""
    files = {f"{folder}{number}.JPEG": image() for number in range(num_images)}
    ignored: Counter[str] = Counter()
    rejected = 0
    for name, content, reason in ODD:
        if rng.random() < 0.7:
            files[folder + name] = content
            ignored[reason] += bool(reason)
            rejected += not reason
    return files, +ignored, rejected


class Expected:
    """The numbers that a layout must report, by split."""

    def __init__(self):
        self.found: Counter[str] = Counter()
        self.rejected: Counter[str] = Counter()
        self.ignored: dict[str, Counter[str]] = {}

    def add(self, split: str, drawn: tuple[Files, Counter, int]) -> Files:
        files, ignored, rejected = drawn
        self.found[split] += len(files)
        self.rejected[split] += rejected
        self.ignored.setdefault(split, Counter()).update(ignored)
        return files

    def ignore(self, split: str, reason: str, count: int = 1, *, added: bool = True) -> None:
        self.found[split] += count if added else 0
        self.ignored.setdefault(split, Counter())[reason] += count


def write(root: Path, files: Files) -> None:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)


def write_tar(path: Path, files: Files, links: dict[str, str] | None = None) -> None:
    with tarfile.open(path, "w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        for name, target in (links or {}).items():
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, target
            tar.addfile(member)


def class_folders(root: Path, expected: Expected) -> Files:
    """Draw train, val and a flat test set, with links and files beside the classes."""
    files: Files = {}
    for split in ("train", "val"):
        for wnid in WNIDS:
            files |= expected.add(split, drawn(f"{split}/{wnid}/", 3))
        files[f"{split}/stray.jpg"] = image()
        expected.ignore(split, "file beside the class folders")
    files |= {f"test/{number}.jpg": image() for number in range(3)}
    expected.ignore("test", "test image without a label", 3)
    return files


def as_folders(root: Path, expected: Expected) -> Path:
    write(root, class_folders(root, expected))
    (root / f"train/{WNIDS[0]}/again.jpg").symlink_to(root / f"train/{WNIDS[1]}/0.JPEG")
    expected.ignore("train", "symbolic link")
    return root


def as_zip(root: Path, expected: Expected) -> Path:
    with zipfile.ZipFile(root / "set.zip", "w") as archive:
        for name, content in class_folders(root, expected).items():
            archive.writestr(f"set/{name}", content)
    return root / "set.zip"


def as_tar(root: Path, expected: Expected) -> Path:
    link = {f"train/{WNIDS[0]}/again.jpg": f"../{WNIDS[1]}/0.JPEG"}
    write_tar(root / "set.tar", class_folders(root, expected), link)
    expected.ignore("train", "symbolic link")
    return root / "set.tar"


def as_kaggle(root: Path, expected: Expected) -> Path:
    inside = root / "ILSVRC/Data/CLS-LOC"
    for wnid in WNIDS:
        write(inside, expected.add("train", drawn(f"train/{wnid}/", 3)))
    files = expected.add("val", drawn("val/", 4))
    write(inside, files)
    write(inside, {"test/1.JPEG": image()})
    expected.ignore("test", "test image without a label")
    rows = [f"{Path(name).stem},{WNIDS[0]} 1 2 3 4" for name in files] + [f"gone,{WNIDS[1]}"]
    expected.ignore("val", "row of LOC_val_solution.csv without its image")
    for name in files:
        if Path(name).name in [odd for odd, _, reason in ODD if reason]:
            expected.ignore("val", "row of LOC_val_solution.csv without its image")
    (root / "LOC_val_solution.csv").write_text("\n".join(["ImageId,PredictionString", *rows]))
    return root


def as_class_tars(root: Path, expected: Expected) -> Path:
    for wnid in WNIDS:
        files = expected.add("train", drawn(f"{wnid}/", 3))
        write_tar(root / f"{wnid}.tar", files, {f"{wnid}/link.JPEG": "0.JPEG"})
        expected.ignore("train", "tar member that is no plain file")
    return root


def as_archives(root: Path, expected: Expected) -> Path:
    (root / "train").mkdir()
    as_class_tars(root / "train", expected)
    files = expected.add("val", drawn("", 4))
    write_tar(root / "ILSVRC2012_img_val.tar", files)
    hidden = {name for name, _, reason in ODD if reason}
    rows = [f"{name} {number % 2}" for number, name in enumerate(sorted(set(files) - hidden))]
    (root / "val.txt").write_text("\n".join(rows))
    return root


def as_flat(root: Path, expected: Expected) -> Path:
    files = expected.add("train", drawn("", 5))
    write(root / "train", files)
    hidden = {name for name, _, reason in ODD if reason}
    rows = [f"{name},{WNIDS[k % 2]}" for k, name in enumerate(sorted(set(files) - hidden))]
    (root / "train.csv").write_text("\n".join([*rows, "gone.jpg,n01440764"]))
    expected.ignore("train", "row of train.csv without its image")
    return root


def as_webdataset(root: Path, expected: Expected) -> Path:
    for split in ("train", "val", "test"):
        samples: Files = {}
        for number in range(4):
            samples |= {f"{number}.jpg": image(), f"{number}.cls": b"%d" % (number % 2)}
        expected.found[split] += 4
        samples |= {"4.jpg": b"", "4.cls": b"0", "5.png": b"no image", "5.cls": b"1"}
        expected.found[split] += 2
        expected.rejected[split] += 2
        samples |= {"6.jpg": image(), "6.png": image(), "6.cls": b"1"}
        expected.found[split] += 1
        expected.ignore(split, "another image of a sample")
        samples |= {"7.npy": b"x", "7.cls": b"1"}
        expected.ignore(split, "sample without an image")
        samples |= {"README.md": b"# Set", "about.txt": b"a set", "meta.yaml": b"a: 1"}
        expected.ignore(split, "file beside the samples", 3)
        samples |= {"._0.jpg": b"\0\5\x16\7", ".DS_Store": b"x"}
        expected.ignore(split, "hidden file", 2)
        if split == "test":
            samples |= {"8.jpg": image(), "9.jpg": image(), "9.json": b"{}"}
            expected.ignore(split, "test image without a label", 2)
        write_tar(root / f"{split}-000000.tar", samples, {"link.jpg": "0.jpg"})
        expected.ignore(split, "tar member that is no plain file")
    return root


def as_parquet(root: Path, expected: Expected) -> Path:
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    for split in ("train", "test"):
        contents = [image(), image(), b"", b"no image", LFS]
        expected.found[split] += 5
        expected.rejected[split] += 3
        labels = [0, 1, 0, 1, 0]
        if split == "test":
            contents, labels = [*contents, image()], [*labels, -1]
            expected.ignore(split, "test image without a label")
        cells = [{"bytes": content, "path": f"{k}.jpg"} for k, content in enumerate(contents)]
        parquet.write_table(pa.table({"image": cells, "label": labels}), root / f"{split}.parquet")
    return root


def as_cifar(root: Path, expected: Expected) -> Path:
    variant = VARIANTS[0]
    folder = root / variant.folder
    write(folder, {variant.names: b"cat\ndog\n", "readme.html": b"<html>"})
    for name in (*variant.train, variant.test):
        write(folder, {name: (b"\0" + bytes(3072) + b"\1" + bytes(3072))})
        expected.found["test" if name == variant.test else "train"] += 2
    return root


LAYOUTS: dict[str, Callable[[Path, Expected], Path]] = {
    name.removeprefix("as_"): function
    for name, function in list(globals().items())
    if name.startswith("as_")
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_file_is_written_rejected_or_ignored_in_its_split(layout, tmp_path):
    expected = Expected()
    root = tmp_path / "source"
    root.mkdir()
    source = LAYOUTS[layout](root, expected)
    result = prep(PrepRequest(source, tmp_path / "dataset", OPTIONS, workers=1))
    again = prep(PrepRequest(source, tmp_path / "dataset", OPTIONS, workers=1))
    assert again.already_complete
    for found in (result, again):
        check(found, expected)


def check(result: PrepResult, expected: Expected) -> None:
    for split, counts in result.splits.items():
        assert counts["found"] == counts["written"] + counts["rejected"] + counts["ignored"], split
    found = {split: counts["found"] for split, counts in result.splits.items() if counts["found"]}
    assert found == dict(expected.found)
    rejected = Counter({split: counts["rejected"] for split, counts in result.splits.items()})
    assert +rejected == +expected.rejected
    assert len(result.rejected) == rejected.total() == sum(result.reasons.values())
    ignored = {split: dict(+reasons) for split, reasons in expected.ignored.items() if +reasons}
    assert result.ignored_by_split == ignored
    assert result.ignored == sum(expected.ignored.values(), Counter())
    for split, counts in result.splits.items():
        assert counts["ignored"] == sum(ignored.get(split, {}).values())


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_streamed_tars_are_counted_as_prep_counts_them(tmp_path, monkeypatch, split):
    monkeypatch.setenv("ALEXNET_CACHE", str(tmp_path / "cache"))
    expected = Expected()
    as_webdataset(tmp_path, expected)
    tars = TarSet(str(tmp_path / f"{split}-000000.tar"))
    dataset = open_tars(tars, [split])
    counts = expected.ignored[split] + Counter({UNREADABLE: expected.rejected[split]})
    assert tars.passed_over == counts
    assert len(dataset.splits[split]) == expected.found[split] - counts.total()
