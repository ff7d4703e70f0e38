"""One tar per synset, as ImageNet's Fall 2009 and Fall 2011 releases were distributed."""

import re
from pathlib import Path

from alexnet_cli.data.sources.labels import WNID
from alexnet_cli.data.sources.source import Layout, Source, SourceImage, split_off_val
from alexnet_cli.data.sources.tars import image_of, list_whole_tar
from alexnet_cli.types import ImageClass

FILE = re.compile(rf"({WNID})\.tar")


def read_synset_tars(folder: Path, *, val_fraction: float, seed: int) -> Source | None:
    """List the images of every WNID.tar in `folder`; None if there is none."""
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
    return Source("one tar per synset", classes, splits, ignored)


LAYOUT = Layout(
    "synset-tars", "one nXXXXXXXX.tar per synset", read_synset_tars, ("val_fraction", "seed")
)
