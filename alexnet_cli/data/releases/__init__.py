"""Pictures as people have them: find out the layout of a folder, list them all, copy nothing."""

from pathlib import Path

from alexnet_cli.data.releases.archives import read_archives
from alexnet_cli.data.releases.folders import read_folders
from alexnet_cli.data.releases.release import Picture, Release
from alexnet_cli.errors import ReleaseError, UsageError

__all__ = ["Picture", "Release", "read_release"]


def read_release(source: Path, *, val_fraction: float = 0.0, seed: int = 0) -> Release:
    """List every picture under `source`, whatever its layout.

    Args:
        val_fraction: share of each class kept for validation; only for `CLASS/*` folders alone.

    Raises:
        ReleaseError: nothing we read is there, or it is damaged.
    """
    if not source.is_dir():
        what = "is not a folder" if source.exists() else "does not exist"
        raise ReleaseError(f"{source} {what}. Name the folder that holds the archives or classes.")
    archives = read_archives(source)
    if archives is not None:
        if val_fraction:
            raise UsageError("--val-fraction: the archives bring their own validation pictures.")
        return archives
    return read_folders(source, val_fraction=val_fraction, seed=seed)
