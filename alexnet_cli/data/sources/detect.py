"""Images as people have them: find out the layout of a folder, list them all, move nothing."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

from alexnet_cli.data.sources.archives import find_archives, read_archives
from alexnet_cli.data.sources.cifar import read_cifar
from alexnet_cli.data.sources.devkit import ImageClass
from alexnet_cli.data.sources.folders import read_folders
from alexnet_cli.data.sources.ilsvrc2012 import check_labels, check_md5, warn_of_counts
from alexnet_cli.data.sources.kaggle import read_kaggle
from alexnet_cli.data.sources.parquet import read_parquet
from alexnet_cli.data.sources.source import Source
from alexnet_cli.data.sources.synset_tars import read_synset_tars
from alexnet_cli.data.sources.webdataset import read_webdataset
from alexnet_cli.errors import SourceError, UsageError
from alexnet_cli.io.disk import fault_in_words, is_ours
from alexnet_cli.io.progress import SILENT, Progress

# What each layout must have, in the order in which we look for them.
LAYOUTS = {
    "archives": "ILSVRC*_train.tar, ILSVRC*_val.tar and the devkit",
    "kaggle": "ILSVRC/Data/CLS-LOC/train and val with LOC_val_solution.csv, or Kaggle's zip",
    "parquet": "train-*.parquet with image and label",
    "webdataset": "train-*.tar with jpg and cls",
    "cifar": "cifar-10-binary.tar.gz or cifar-10-batches-bin (CIFAR-100 alike)",
    "synset-tars": "one nXXXXXXXX.tar a synset",
    "folders": "train/CLASS with val/CLASS or test/CLASS folders, or CLASS folders",
}
SPLIT_BY_US = ("synset-tars", "folders")
# pipe:COMMAND and https://HOST as pathlib leaves them
URL = re.compile(r"-|(pipe|file|fd|data):.*|[a-z][a-z0-9+.-]*:/.*", re.IGNORECASE | re.DOTALL)


def read_source(
    source: Path,
    spool: Path,
    *,
    layout: str | None = None,
    val_fraction: float = 0.0,
    seed: int = 0,
    md5: bool = False,
    follow_links: bool = False,
    progress: Progress = SILENT,
) -> Source:
    """List every image of `source`, whatever its layout. Nothing is written.

    Args:
        spool: the folder for what cannot be read in place; `fill_staging` will fill it.
        layout: one of `LAYOUTS`; by default found out by looking.
        val_fraction: share of each class kept for validation, where none is given.
        md5: compare the official archives with their published MD5 first.
        follow_links: follow links that lead out of a folder of classes.

    Raises:
        SourceError: nothing we read is there, it is damaged, or its labels are permuted.
        UsageError: an option or a source that does not exist or does not fit the layout.
    """
    with _faults_told(source):
        _check_source(source, layout)
        if md5:
            _check_md5(source, layout, progress)
        readers = _readers(spool, val_fraction, seed, follow_links)
        for name in [layout] if layout else LAYOUTS:
            release = readers[name](source)
            if release is not None:
                break
        else:
            raise SourceError(_nothing_found(source, layout))
    if val_fraction and name not in SPLIT_BY_US:
        raise UsageError(f"--val-fraction: the layout {name!r} brings its own splits.")
    if follow_links and name != "folders":
        raise UsageError(f"--follow-links is for class folders; this is the layout {name!r}.")
    release = _with_readable_classes(release)
    check_labels(release)
    warn_of_counts(release, progress)
    return release


def _readers(
    spool: Path, val_fraction: float, seed: int, follow_links: bool
) -> dict[str, Callable[[Path], Source | None]]:
    split = {"val_fraction": val_fraction, "seed": seed}
    return {
        "archives": read_archives,
        "kaggle": read_kaggle,
        "parquet": partial(read_parquet, spool=spool),
        "webdataset": read_webdataset,
        "cifar": partial(read_cifar, spool=spool),
        "synset-tars": partial(read_synset_tars, **split),
        "folders": partial(read_folders, **split, follow_links=follow_links),
    }


def _with_readable_classes(release: Source) -> Source:
    """Escape what is no UTF-8 in the names of classes; models and tables hold them as text."""
    names = [[_escaped(text) for text in (c.wnid, c.name)] for c in release.classes]
    return replace(release, classes=tuple(ImageClass(wnid, name) for wnid, name in names))


def _escaped(text: str) -> str:
    return text.encode(errors="backslashreplace").decode()


@contextmanager
def _faults_told(source: Path) -> Iterator[None]:
    """Turn what the source's disk does to us into the fault of a source."""
    try:
        yield
    except BrokenPipeError:  # of our output, not of the source
        raise
    except OSError as error:
        if is_ours(error):
            raise
        raise SourceError(
            f"{fault_in_words(error, source)}, so the images cannot be listed.\n"
            "Nothing was written. Make it readable and run the same command again."
        ) from error


def _check_source(source: Path, layout: str | None) -> None:
    if layout is not None and layout not in LAYOUTS:
        raise UsageError(f"--layout {layout}: there are {', '.join(LAYOUTS)}.")
    if source.exists():
        return
    if URL.fullmatch(str(source)):
        raise UsageError(f"{source}: not supported, nothing was fetched or run. Name a folder.")
    raise SourceError(
        f"{source} does not exist. Name the folder that holds the archives or classes."
    )


def _check_md5(source: Path, layout: str | None, progress: Progress) -> None:
    archives = find_archives(source) if layout in (None, "archives") else []
    if not archives:
        raise UsageError("--check-md5 is for the official archives; here are none.")
    check_md5([path for path in archives if path is not None], progress)


def _nothing_found(source: Path, layout: str | None) -> str:
    if layout:
        return f"{source}: not the layout {layout!r}, which needs {LAYOUTS[layout]}."
    if not source.is_dir():
        return f"{source} is not a folder. Name the folder that holds the archives or classes."
    return (
        f"{source}: no archives and no class folders. prep reads official archives, Kaggle's\n"
        "CLS-LOC folders or zip, parquet, WebDataset tars, CIFAR binaries, one tar a synset,\n"
        f"and train/CLASS or CLASS folders. To say which: --layout {'|'.join(LAYOUTS)}"
    )
