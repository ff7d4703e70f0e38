import io
import tarfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from PIL import Image

from alexnet_cli.data.demo.archives import write_demo_archives
from alexnet_cli.data.demo.images import CLASSES

NAMES = (
    "ILSVRC2012_img_train.tar",
    "ILSVRC2012_img_val.tar",
    "ILSVRC2012_devkit_t12.tar.gz",
)
WNIDS = [demo_class.wnid for demo_class in CLASSES]


def members(source: Path | bytes) -> dict[str, bytes]:
    file = io.BytesIO(source if isinstance(source, bytes) else source.read_bytes())
    with tarfile.open(fileobj=file) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar}


def synsets_of(folder: Path) -> np.ndarray:
    meta = members(folder / NAMES[2])["ILSVRC2012_devkit_t12/data/meta.mat"]
    return scipy.io.loadmat(io.BytesIO(meta), squeeze_me=True)["synsets"]


def ground_truth_of(folder: Path) -> list[int]:
    name = "ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt"
    return [int(line) for line in members(folder / NAMES[2])[name].decode().splitlines()]


def thumbnail(image: Image.Image, size: int = 32) -> np.ndarray:
    """Gray central square with its mean and contrast taken out."""
    side = min(image.size)
    left, top = (image.width - side) / 2, (image.height - side) / 2
    box = (left, top, left + side, top + side)
    pixels = np.asarray(image.convert("L").resize((size, size), box=box), np.float32)
    return (pixels - pixels.mean()) / pixels.std()


@pytest.fixture(scope="module")
def release(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("demo") / "release"
    write_demo_archives(folder, images_per_class=4, val_per_class=3)
    return folder


def test_archives_and_nothing_else_are_in_the_folder(release):
    assert sorted(path.name for path in release.iterdir()) == sorted(NAMES)


def test_train_tar_holds_one_tar_per_class(release):
    class_tars = members(release / NAMES[0])
    assert list(class_tars) == [f"{wnid}.tar" for wnid in WNIDS]
    for wnid in WNIDS:
        images = members(class_tars[f"{wnid}.tar"])
        assert list(images) == [f"{wnid}_{number}.JPEG" for number in (1, 2, 3, 4)]


def test_val_tar_is_flat_and_numbered_from_one(release):
    expected = [f"ILSVRC2012_val_{number:08d}.JPEG" for number in range(1, 31)]
    assert list(members(release / NAMES[1])) == expected


def test_images_are_different_jpegs_of_various_sizes(release):
    class_tars = members(release / NAMES[0]).values()
    contents = [*members(release / NAMES[1]).values()]
    contents += [content for tar in class_tars for content in members(tar).values()]
    images = [Image.open(io.BytesIO(content)) for content in contents]
    for image in images:
        image.load()
        assert image.format == "JPEG"
        assert 80 <= min(image.size) <= 320
    assert len(set(contents)) == len(contents) == 70
    assert len({image.size for image in images}) > 60
    assert {np.sign(image.width - image.height) for image in images} >= {-1, 1}
    assert {image.mode for image in images} == {"RGB", "L"}


def test_leaf_synsets_are_the_classes_with_ids_from_one(release):
    leaves = [row for row in synsets_of(release) if row["num_children"] == 0]
    assert [row["ILSVRC2012_ID"] for row in leaves] == list(range(1, len(CLASSES) + 1))
    words = {row["WNID"]: row["words"] for row in leaves}
    assert words == {demo_class.wnid: demo_class.name for demo_class in CLASSES}
    assert {row["num_train_images"] for row in leaves} == {4}


def test_order_of_devkit_ids_is_not_that_of_the_wnids(release):
    wnids = [str(row["WNID"]) for row in synsets_of(release) if row["num_children"] == 0]
    assert wnids != sorted(wnids)


def test_inner_nodes_follow_the_classes_and_partition_them(release):
    inner = [row for row in synsets_of(release) if row["num_children"] > 0]
    assert [row["ILSVRC2012_ID"] for row in inner] == [11, 12]
    assert [row["num_children"] for row in inner] == [len(row["children"]) for row in inner]
    assert sorted(np.concatenate([row["children"] for row in inner])) == list(range(1, 11))


def test_ground_truth_has_every_class_equally_often_in_mixed_order(release):
    ids = ground_truth_of(release)
    assert Counter(ids) == dict.fromkeys(range(1, len(CLASSES) + 1), 3)
    assert ids != sorted(ids)


def test_ground_truth_matches_the_images(release):
    """Stripes are recognized by the direction in which gray levels change."""
    wnid_of_id = {row["ILSVRC2012_ID"]: row["WNID"] for row in synsets_of(release)}
    names = {demo_class.wnid: demo_class.name for demo_class in CLASSES}
    checked = 0
    images = members(release / NAMES[1]).values()
    for number, image in zip(ground_truth_of(release), images, strict=True):
        pixels = thumbnail(Image.open(io.BytesIO(image)))
        down, across = (np.abs(np.diff(pixels, axis=axis)).mean() for axis in (0, 1))
        name = names[wnid_of_id[number]]
        is_horizontal, is_vertical = down > 1.5 * across, across > 1.5 * down
        assert (name == "horizontal stripes") == is_horizontal, name
        assert (name == "vertical stripes") == is_vertical, name
        checked += is_horizontal + is_vertical
    assert checked == 6


def test_same_seed_writes_the_same_bytes_and_another_seed_others(tmp_path):
    for folder, seed in (("a", 5), ("b", 5), ("c", 6)):
        write_demo_archives(tmp_path / folder, images_per_class=1, val_per_class=1, seed=seed)
    for name in NAMES:
        a, b, c = ((tmp_path / folder / name).read_bytes() for folder in "abc")
        assert a == b
        assert a != c


def test_members_carry_no_owner_and_one_fixed_time(release):
    for name in NAMES:
        with tarfile.open(release / name) as tar:
            assert {(m.uid, m.gid, m.uname, m.gname, m.mtime) for m in tar} == {
                (0, 0, "", "", 1_340_000_000)
            }
