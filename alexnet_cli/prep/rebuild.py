"""Lost or damaged indexes of a dataset, made again from what is whole beside them.

index.json comes from its copy, a sample index from its shards. Shards and rejected.csv cannot be
made without the source: that is `repair`.
"""

from contextlib import suppress
from pathlib import Path

from alexnet_cli.data.shards.dataset import samples_name
from alexnet_cli.data.shards.index import INDEX_COPY, INDEX_NAME, FileRecord, read_index
from alexnet_cli.data.shards.tar_layout import scan_samples
from alexnet_cli.errors import DatasetError
from alexnet_cli.io.atomic import write_bytes
from alexnet_cli.prep.audit import Audit
from alexnet_cli.prep.side_files import sample_index


def is_index(name: str) -> bool:
    """Tell whether a file of a dataset is one of those that can be made again from others."""
    return name in (INDEX_NAME, INDEX_COPY) or name.endswith(samples_name(""))


def restore_index(folder: Path) -> list[str]:
    """Make index.json and its copy the same again, index.json first if it can be trusted.

    Returns:
        The name of the file that was written, if one was.

    Raises:
        DatasetError: neither can be trusted; nothing has changed.
    """
    paths = folder / INDEX_NAME, folder / INDEX_COPY
    if not any(path.is_file() for path in paths):
        read_index(folder)  # says how to make one
    for source, target in (paths, paths[::-1]):
        with suppress(DatasetError):
            read_index(folder, source.name)
            content = source.read_bytes()
            if target.is_file() and target.read_bytes() == content:
                return []
            write_bytes(target, content)
            return [target.name]
    raise DatasetError(
        f"{folder}: neither {INDEX_NAME} nor its copy can be trusted; nothing was changed.\n"
        f"Put {INDEX_NAME} back from elsewhere, or make the dataset again: alexnet prep"
    )


def rebuild_samples(folder: Path, audit: Audit) -> list[str]:
    """Make damaged sample indexes again where every shard of their split is whole.

    Returns:
        The names of those that got the bytes they had.
    """
    damaged, rebuilt = {finding.file for finding in audit.findings}, []
    for split, record in audit.index.splits.items():
        name = samples_name(split)
        if name not in damaged or damaged & {shard.name for shard in record.shards}:
            continue
        content = sample_index([scan_samples(folder / shard.name) for shard in record.shards])
        if audit.index.files.get(name) == FileRecord.of(content):
            write_bytes(folder / name, content)
            rebuilt.append(name)
    return rebuilt
