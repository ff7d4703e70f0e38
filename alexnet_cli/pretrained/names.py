"""Names of published networks in place of a checkpoint's path."""

from pathlib import Path

from alexnet_cli.io.progress import SILENT, Progress

NAMES = ("torchvision", "bvlc")  # those of `importer.PUBLISHED`, which loads more


def find_model(model: Path, progress: Progress = SILENT) -> Path:
    """Return the path of a model; a published network is imported into the cache on first use.

    A file or folder of that name comes first.

    Raises:
        AlexNetError: if the published file cannot be fetched, is another one, or does not fit.
    """
    if str(model) not in NAMES or model.exists():
        return model
    from alexnet_cli.pretrained.importer import import_into_cache

    return import_into_cache(str(model), progress)
