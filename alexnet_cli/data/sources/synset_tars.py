"""One tar per synset, as ImageNet's Fall 2009 and Fall 2011 releases were distributed."""

from pathlib import Path

from alexnet_cli.data.sources.archives import class_tars
from alexnet_cli.data.sources.source import Layout, Source, SourceImage, split_off_val
from alexnet_cli.data.sources.tars import list_class_tar
from alexnet_cli.types import ImageClass


def read_synset_tars(folder: Path, *, val_fraction: float, seed: int) -> Source | None:
    """List the images of every WNID.tar in `folder`; None if there is none."""
    tars = class_tars(folder)
    if not tars:
        return None
    ignored: dict[str, int] = {}
    images: list[SourceImage] = []
    for label, path in enumerate(tars):
        images += list_class_tar(path, label, ignored)
    classes = tuple(ImageClass(path.stem, path.stem) for path in tars)
    splits = split_off_val(images, val_fraction, seed)
    return Source("one tar per synset", classes, splits, {"train": ignored})


LAYOUT = Layout(
    "synset-tars", "one nXXXXXXXX.tar per synset", read_synset_tars, ("val_fraction", "seed")
)
