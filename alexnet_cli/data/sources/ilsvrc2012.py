"""Published facts of ILSVRC 2012, to detect another download, a cut one, or permuted labels."""

import hashlib
from pathlib import Path

from alexnet_cli.data.sources.source import Source
from alexnet_cli.errors import SourceError, counted
from alexnet_cli.io.progress import Progress, Tracker

MD5 = {
    "ILSVRC2012_img_train.tar": "1d675b47d978889d74fa0da5fadfb00e",
    "ILSVRC2012_img_val.tar": "29b22e2961454d5413ddabcf34fc5622",
    "ILSVRC2012_devkit_t12.tar.gz": "fa75699e90414af021442c21a62c3abf",
}
DOGS_MD5 = "ccaf1013018ac1037801578038d370da"  # of ILSVRC2012_img_train_t3.tar, 120 dogs
NUM_CLASSES = 1000
COUNTS = {"train": 1_281_167, "val": 50_000}
WNIDS_SHA256 = "385e0240499426c022b773be1ae4da780f057b89c9694c7f47199f62746b6edd"
# Labels (wnids) of ILSVRC2012_val_00000001.JPEG and on. The devkit calls the first class 490.
FIRST_VAL_LABELS = (65, 970, 230, 809, 516)
FIRST_VAL_WNIDS = ("n01751748", "n09193705", "n02105855", "n04263257", "n03125729")
CHUNK = 1 << 24
MEGABYTE = 1_000_000


def check_labels(source: Source) -> None:
    """Raise a SourceError if the first validation images of the 1000 classes have other labels."""
    wnids = [entry.wnid for entry in source.classes]
    # Classes without wnids are named by number; the images' names then identify the set.
    by_number = wnids == [f"{label:03d}" for label in range(NUM_CLASSES)]
    if not by_number and not _are_all_classes(wnids):
        return
    known = {
        f"ILSVRC2012_val_{number:08d}.JPEG": (label, wnid)
        for number, (label, wnid) in enumerate(
            zip(FIRST_VAL_LABELS, FIRST_VAL_WNIDS, strict=True), start=1
        )
    }
    for image in source.images["val"]:
        label, wnid = known.get(image.name, (image.label, ""))
        if image.label != label:
            raise SourceError(
                f"{image.source} is labeled {image.label} "
                f"({source.classes[image.label].wnid}), but it is {label} ({wnid}).",
                hint="The labels follow another order of the classes, such as the devkit's. They "
                "must count the sorted wnids, from 0.",
            )


def warn_of_counts(source: Source, progress: Progress) -> None:
    """Warn if all 1000 classes are there, but not all images."""
    if not _are_all_classes([entry.wnid for entry in source.classes]):
        return
    for split, known in COUNTS.items():
        found = len(source.images[split])
        if found != known:
            progress.say(f"warning: {counted(found, f'{split} image')}; ILSVRC 2012 has {known:,}")


def check_md5(paths: list[Path], progress: Progress) -> None:
    """Compare the archives with their published MD5; raise a SourceError if one differs."""
    known = [path for path in paths if path.name in MD5]
    for path in paths:
        if path not in known:
            progress.say(f"{path.name}: its MD5 is not known")
    total = sum(path.stat().st_size // MEGABYTE for path in known)
    with progress.track("MD5", total) as bar:
        for path in known:
            digest = _md5(path, bar)
            if digest != MD5[path.name]:
                dogs = " That is the archive of task 3, dogs only." if digest == DOGS_MD5 else ""
                raise SourceError(
                    f"{path}: its MD5 is {digest}, not {MD5[path.name]}.{dogs}",
                    hint="Download it again.",
                )
    if known:
        progress.say(f"MD5 as published: {', '.join(path.name for path in known)}")


def _md5(path: Path, bar: Tracker) -> str:
    digest, done = hashlib.md5(usedforsecurity=False), 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
            before, done = done, done + len(chunk)
            bar.advance(done // MEGABYTE - before // MEGABYTE, note=path.name)
    return digest.hexdigest()


def _are_all_classes(wnids: list[str]) -> bool:
    return hashlib.sha256("\n".join(wnids).encode()).hexdigest() == WNIDS_SHA256
