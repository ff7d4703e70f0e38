"""`alexnet verify`: whether every byte of a dataset is as prep wrote it, and its repair."""

import time
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from alexnet_cli.data.shards.verify import Finding
from alexnet_cli.errors import DatasetError, Hint, counted, hint
from alexnet_cli.io.cores import num_cores
from alexnet_cli.io.folder_lock import locked
from alexnet_cli.io.progress import SILENT, Progress
from alexnet_cli.prep.audit import audit_dataset
from alexnet_cli.prep.folder import in_use
from alexnet_cli.prep.repair import is_index, rebuild_samples, repair, restore_index


@dataclass(frozen=True, slots=True)
class VerifyResult:
    """What verify found and repaired."""

    dataset: str
    deep: bool  # every image was decoded
    shards: int
    samples: int
    bytes: int
    seconds: float  # taken by reading
    findings: list[Finding]  # what is still wrong
    repaired: list[Finding]
    replaced: list[str]  # files that were made again, or removed because they were copies
    rebuilt: bool  # the indexes were to be made again from what is beside them
    repaired_from: str | None  # the source of the repair, if one was requested

    def raise_findings(self) -> None:
        """Raise a DatasetError if anything is wrong."""
        if self.findings:
            num_files = len({finding.file for finding in self.findings})
            raise DatasetError(
                f"{self.dataset}: {counted(len(self.findings), 'finding')} in "
                f"{counted(num_files, 'file')}, first: "
                f"{self.findings[0]}",
                hint=self._remedy(),
            )

    def _remedy(self) -> str | Hint:
        if self.repaired_from:
            return "A repair does not touch what is left: files that prep did not write."
        if not self.rebuilt and all(is_index(finding.file) for finding in self.findings):
            return hint("rebuild", folder=self.dataset)
        return hint("repair_dataset", folder=self.dataset)


def verify(
    folder: Path,
    *,
    deep: bool = False,
    rebuild: bool = False,
    source: Path | None = None,
    layout: str | None = None,
    labels: Path | None = None,
    num_workers: int | None = None,
    progress: Progress = SILENT,
) -> VerifyResult:
    """Compare every file of a dataset with what was recorded when it was made.

    Args:
        deep: also decode every image.
        rebuild: make damaged indexes again from what is whole beside them.
        source: make what is damaged again from these images; the indexes as `rebuild` does.
        layout: of the source, a key of `LAYOUTS`; None to recognize it.
        labels: file of the names and classes of its images, if it was made with one.

    Raises:
        DatasetError: if no index can be trusted, or the repair would not produce the same bytes.
        AlexNetError: as `repair`.
        Stopped: if a signal stopped it.
    """
    if not folder.is_dir():
        raise DatasetError(f"{folder} is not a folder.", hint="Name the folder of a dataset.")
    with locked(folder, partial(in_use, folder)) if source or rebuild else nullcontext():
        replaced = restore_index(folder) if source or rebuild else []
        began = time.perf_counter()
        audit = audit_dataset(folder, deep=deep, num_threads=num_workers, progress=progress)
        seconds = time.perf_counter() - began
        if rebuild and audit.index:
            damaged_files = {finding.file for finding in audit.findings}
            replaced += rebuild_samples(folder, audit.index, damaged_files)
        damaged = [finding for finding in audit.findings if finding.file not in replaced]
        if source and damaged:
            replaced += repair(
                folder,
                source,
                replace(audit, findings=damaged),
                layout=layout,
                labels=labels,
                num_workers=num_workers or num_cores(),
                progress=progress,
            )
    return VerifyResult(
        dataset=str(folder),
        deep=deep,
        shards=audit.num_shards,
        samples=audit.num_samples,
        bytes=audit.num_bytes,
        seconds=round(seconds, 3),
        findings=[f for f in audit.findings if f.file not in replaced],
        repaired=[f for f in audit.findings if f.file in replaced],
        replaced=replaced,
        rebuilt=rebuild,
        repaired_from=str(source) if source else None,
    )
