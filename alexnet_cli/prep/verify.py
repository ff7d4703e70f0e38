"""`alexnet verify`: is every byte of a dataset as prep wrote it? And its repair from the source."""

import time
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from alexnet_cli.data.shards.verify import Finding
from alexnet_cli.errors import DatasetError
from alexnet_cli.io.cores import num_cores
from alexnet_cli.io.folder_lock import locked
from alexnet_cli.io.progress import SILENT, Progress
from alexnet_cli.prep.audit import audit_dataset
from alexnet_cli.prep.folder import in_use
from alexnet_cli.prep.rebuild import is_index, rebuild_samples, restore_index
from alexnet_cli.prep.repair import repair


@dataclass(frozen=True, slots=True)
class VerifyResult:
    """What verify found, and what it put right.

    Attributes:
        deep: every image was decoded.
        seconds: that the reading took.
        findings: what is still wrong.
        repaired: findings that are put right.
        replaced: files that were made again, or removed because they were copies.
        rebuilt: the indexes were to be made again from what is beside them.
        repaired_from: the source of the repair, if one was asked for.
    """

    dataset: str
    deep: bool
    shards: int
    samples: int
    bytes: int
    seconds: float
    findings: list[Finding]
    repaired: list[Finding]
    replaced: list[str]
    rebuilt: bool
    repaired_from: str | None

    def raise_findings(self) -> None:
        """Raise a DatasetError if anything is wrong."""
        if not self.findings:
            return
        num_files = len({finding.file for finding in self.findings})
        raise DatasetError(
            f"{self.dataset}: {len(self.findings)} findings in {num_files} files, first:\n"
            f"{self.findings[0]}\n{self._remedy()}"
        )

    def _remedy(self) -> str:
        if self.repaired_from:
            return "A repair does not touch what is left: files that prep did not write."
        if not self.rebuilt and all(is_index(finding.file) for finding in self.findings):
            return f"Rebuild the indexes: alexnet verify {self.dataset} --rebuild"
        return f"Rebuild what is damaged: alexnet verify {self.dataset} --repair SOURCE"


def verify(
    folder: Path,
    *,
    deep: bool = False,
    rebuild: bool = False,
    source: Path | None = None,
    layout: str | None = None,
    num_workers: int | None = None,
    progress: Progress = SILENT,
) -> VerifyResult:
    """Compare every file of a dataset with what was recorded when it was made.

    Args:
        deep: also decode every image.
        rebuild: make damaged indexes again from what is whole beside them.
        source: make what is damaged again from these images; the indexes as `rebuild` does.
        layout: of the source, one of `LAYOUTS`; by default found out by looking.

    Raises:
        DatasetError: there is no index to trust, or the repair would not give the same bytes.
        AlexNetError: as `repair`.
        Stopped: by a signal.
    """
    if not folder.is_dir():
        raise DatasetError(f"{folder} is not a folder. Name the folder of a dataset.")
    with locked(folder, partial(in_use, folder)) if source or rebuild else nullcontext():
        replaced = restore_index(folder) if source or rebuild else []
        began = time.perf_counter()
        audit = audit_dataset(folder, deep=deep, num_threads=num_workers, progress=progress)
        seconds = time.perf_counter() - began
        if rebuild:
            replaced += rebuild_samples(folder, audit)
        damaged = [finding for finding in audit.findings if finding.file not in replaced]
        if source and damaged:
            rest = replace(audit, findings=damaged)
            how = {"layout": layout, "num_workers": num_workers or num_cores()}
            replaced += repair(folder, source, rest, **how, progress=progress)
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
