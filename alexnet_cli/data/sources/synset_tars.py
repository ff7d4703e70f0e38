"""One tar a synset, as ImageNet's Fall 2009 and Fall 2011 releases were given out."""

import re
from pathlib import Path

from alexnet_cli.data.sources.devkit import ImageClass
from alexnet_cli.data.sources.labels import WNID
from alexnet_cli.data.sources.source import Source, SourceImage, split_off_val
from alexnet_cli.data.sources.tars import image_of, list_whole_tar

FILE = re.compile(rf"({WNID})\.tar")


def read_synset_tars(folder: Path, *, val_fraction: float, seed: int) -> Source | None:
    """List the images of every WNID.tar in `folder`; None if there is none.

    Raises:
        SourceError: a tar is cut or damaged.
    """
    named = sorted(path for path in folder.glob("*.tar") if FILE.fullmatch(path.name))
    tars = [path for path in named if path.is_file()]
    if not tars:
        return None
    ignored: dict[str, int] = {}
    images: list[SourceImage] = []
    for label, path in enumerate(tars):
        members = list_whole_tar(path, ignored)
        images += [image_of(path, f"{path.name}/", member, label) for member in members]
    classes = tuple(ImageClass(path.stem, path.stem) for path in tars)
    splits = split_off_val(images, val_fraction, seed)
    return Source("one tar a synset", classes, splits, ignored)
