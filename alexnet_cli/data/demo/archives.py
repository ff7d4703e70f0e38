"""A small set of drawn images in the layout of ImageNet's 2012 archives.

The same seed gives the same bytes.
"""

import gzip
import io
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

import numpy as np

from alexnet_cli.data.demo.images import CLASSES, draw_numbered
from alexnet_cli.io.atomic import write_atomically
from alexnet_cli.io.progress import SILENT, Progress, Tracker

TRAIN_TAR = "ILSVRC2012_img_train.tar"
VAL_TAR = "ILSVRC2012_img_val.tar"
DEVKIT = "ILSVRC2012_devkit_t12"
MEMBER_TIME = 1_340_000_000  # June 2012; a fixed time, so that the bytes are reproducible
MAT_HEADER = b"MATLAB 5.0 MAT-file, written without a date".ljust(116)
INNER_NODES = (("n90000101", "texture", slice(0, 6)), ("n90000102", "shape", slice(6, 10)))
SYNSET_FIELDS = (
    "ILSVRC2012_ID", "WNID", "words", "gloss",
    "num_children", "children", "wordnet_height", "num_train_images",
)  # fmt: skip

Members = Iterable[tuple[str, bytes]]


def write_demo_archives(
    folder: Path,
    *,
    images_per_class: int = 100,
    val_per_class: int = 20,
    seed: int = 0,
    progress: Progress = SILENT,
) -> None:
    """Draw the images and write the training, validation and development kit archives.

    As in the official kit, the order of the IDs is not that of the sorted wnids.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    ids = _shuffled_ids(rng)
    val_labels = rng.permutation(np.repeat(np.arange(len(CLASSES)), val_per_class))
    num_images = len(CLASSES) * (images_per_class + val_per_class)
    with progress.track("drawing", num_images) as tracker:
        with write_atomically(folder / TRAIN_TAR) as file:
            _write_tar(file, _train_tars(images_per_class, seed, tracker))
        with write_atomically(folder / VAL_TAR) as file:
            _write_tar(file, _val_images(val_labels, seed, tracker))
    with write_atomically(folder / f"{DEVKIT}.tar.gz") as file:
        with gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0) as packed:
            _write_tar(packed, _devkit_files(ids, val_labels, images_per_class))


def _shuffled_ids(rng: np.random.Generator) -> np.ndarray:
    """Return the ID, 1..K, of each label, in another order than the labels."""
    ids = in_order = np.arange(1, len(CLASSES) + 1)
    while np.array_equal(ids, in_order):
        ids = rng.permutation(in_order)
    return ids


def _train_tars(images_per_class: int, seed: int, tracker: Tracker) -> Members:
    for label, demo_class in enumerate(CLASSES):
        images = []
        for number in range(1, images_per_class + 1):
            jpeg = draw_numbered(seed, "train", label, number)
            images.append((f"{demo_class.wnid}_{number}.JPEG", jpeg))
            tracker.advance()
        class_tar = io.BytesIO()
        _write_tar(class_tar, images)
        yield f"{demo_class.wnid}.tar", class_tar.getvalue()


def _val_images(labels: np.ndarray, seed: int, tracker: Tracker) -> Members:
    for number, label in enumerate(labels.tolist(), start=1):
        yield f"ILSVRC2012_val_{number:08d}.JPEG", draw_numbered(seed, "val", label, number)
        tracker.advance()


def _devkit_files(ids: np.ndarray, val_labels: np.ndarray, images_per_class: int) -> Members:
    ground_truth = "".join(f"{number}\n" for number in ids[val_labels])
    yield f"{DEVKIT}/data/meta.mat", _meta_mat(ids, images_per_class)
    yield f"{DEVKIT}/data/ILSVRC2012_validation_ground_truth.txt", ground_truth.encode()
    yield f"{DEVKIT}/readme.txt", b"Drawn images in the layout of the official kit.\n"


def _meta_mat(ids: np.ndarray, images_per_class: int) -> bytes:
    """Return the synsets in the order of their IDs: classes first, then the two inner nodes."""
    import scipy.io  # 0.2 s that only this function needs

    rows = []
    for label in np.argsort(ids):
        wnid, name = CLASSES[label].wnid, CLASSES[label].name
        gloss = f"a drawn image of the class {name}"
        rows.append((int(ids[label]), wnid, name, gloss, 0, np.zeros((0, 0)), 0, images_per_class))
    for number, (wnid, name, labels) in enumerate(INNER_NODES, start=len(ids) + 1):
        children = np.sort(ids[labels])
        gloss = f"any drawn image of a {name}"
        rows.append((number, wnid, name, gloss, len(children), children, 1, 0))
    synsets = np.array(rows, dtype=[(field, object) for field in SYNSET_FIELDS])
    mat = io.BytesIO()
    scipy.io.savemat(mat, {"synsets": synsets[:, None]})
    return MAT_HEADER + mat.getvalue()[len(MAT_HEADER) :]


def _write_tar(file: BinaryIO | gzip.GzipFile, members: Members) -> None:
    with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size, member.mtime = len(content), MEMBER_TIME
            tar.addfile(member, io.BytesIO(content))
