"""One tar per synset, as ImageNet's Fall 2009 and Fall 2011 releases were distributed."""

from collections import defaultdict
from pathlib import Path

from alexnet_cli.data.sources.archives import class_tars
from alexnet_cli.data.sources.labels import SPLIT_NAMES, split_of_folder
from alexnet_cli.data.sources.listing import class_folders
from alexnet_cli.data.sources.source import Layout, Source, SourceImage, split_off_val
from alexnet_cli.data.sources.tars import list_class_tar
from alexnet_cli.errors import SourceError, UsageError, hint
from alexnet_cli.types import ImageClass


def read_synset_tars(folder: Path, *, val_fraction: float, seed: int) -> Source | None:
    """List the images of every WNID.tar in `folder`, or in its folders named after splits.

    Returns None if there is none.
    """
    ignored: dict[str, dict[str, int]] = defaultdict(dict)
    files: list[Path] = []
    if tars := class_tars(folder):
        wnids = [path.stem for path in tars]
        listed = _list_tars(tars, wnids, ignored["train"])
        images = split_off_val(listed, val_fraction, seed)
        files += tars
    else:
        by_split = _tars_of_splits(folder)
        if not by_split:
            return None
        if val_fraction and "train" in by_split:
            raise UsageError(
                f"{folder}: its tars are split already, so no share of the images is kept for "
                "validation.",
                hint=hint("leave_out", option="val-fraction"),
            )
        first = [by_split["train"]] if "train" in by_split else by_split.values()
        wnids = sorted({path.stem for tars in first for path in tars})
        images = {"train": [], "val": []}
        for split, tars in by_split.items():
            images[split] = _list_tars(tars, wnids, ignored[split])
            files += tars
    classes = tuple(ImageClass(wnid, wnid) for wnid in wnids)
    return Source("one tar per synset", classes, images, ignored, files=tuple(files))


def _tars_of_splits(folder: Path) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    others: list[Path] = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        split = split_of_folder(path.name)
        if split and path.is_dir() and (tars := class_tars(path)):
            if split in found:
                raise SourceError(
                    f"{path} and {found[split][0].parent} hold tars of one split.",
                    hint="Keep one of them.",
                )
            found[split] = tars
        elif split and path.is_dir() and class_folders(path):
            others.append(path)
    if found and others:
        raise SourceError(
            f"{others[0]} holds class folders, but {next(iter(found.values()))[0].parent} tars.",
            hint="Unpack each tar into a folder of its name, or name one of the two.",
        )
    return {split: found[split] for split in SPLIT_NAMES if split in found}


def _list_tars(tars: list[Path], wnids: list[str], ignored: dict[str, int]) -> list[SourceImage]:
    images: list[SourceImage] = []
    for path in tars:
        if path.stem not in wnids:
            raise SourceError(
                f"{path}: there are no training images of this class.",
                hint="Remove it, or add its training images.",
            )
        images += list_class_tar(path, wnids.index(path.stem), ignored)
    return images


LAYOUT = Layout(
    "synset-tars",
    "one nXXXXXXXX.tar per synset, in one folder or in train and val",
    read_synset_tars,
    ("val_fraction", "seed"),
)
