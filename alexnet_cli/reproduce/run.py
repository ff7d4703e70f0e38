"""A table or figure of the paper: what it needs is trained and measured, or its cost estimated."""

from dataclasses import dataclass, field
from pathlib import Path

from alexnet_cli.data.dataset_ref import DatasetRef
from alexnet_cli.distributed.device_plan import choose_devices
from alexnet_cli.distributed.runtime_config import RuntimeConfig
from alexnet_cli.errors import UsageError, did_you_mean, hint
from alexnet_cli.io.progress import SILENT, Progress
from alexnet_cli.recipes.paper_tables import (
    FIGURE_1,
    FIGURE_1_NETWORKS,
    OFFICIAL_SETS,
    TABLE_NAMES,
    TABLES,
    Figure1Network,
    choose_rows,
)
from alexnet_cli.reproduce.estimate import Estimate, estimate_plan
from alexnet_cli.reproduce.figure_1 import Figure1
from alexnet_cli.reproduce.jobs import Job, RunJob, Shortcuts, TableDataset, finish_job
from alexnet_cli.reproduce.plan import PlannedRow, plan_rows
from alexnet_cli.reproduce.results import figure_1_result, table_result, write_results


@dataclass(frozen=True, slots=True)
class ReproduceRequest:
    """What to reproduce, from which datasets, and how far.

    Attributes:
        data: pairs of an official data set's name and a dataset.
        only: names of rows; empty for all rows.
    """

    table: str
    data: tuple[tuple[str, DatasetRef], ...]
    out: Path
    only: tuple[str, ...] = ()
    shortcuts: Shortcuts = field(default_factory=Shortcuts)


def reproduce(request: ReproduceRequest, run_job: RunJob, *, progress: Progress = SILENT) -> dict:
    """Train what is missing, resume what was stopped, measure, and write results.md and .json.

    Returns:
        The content of results.json.

    Raises:
        UsageError: if the table, a row or a dataset is unknown, or no row has its datasets.
        InputError: if a dataset or checkpoint cannot be used.
        JobError: if a command failed or was stopped.
    """
    _check_name(request.table)
    datasets = _open_datasets(request, progress)
    if request.table == FIGURE_1:
        return _reproduce_figure_1(request, datasets.get("cifar-10"), run_job)
    jobs, rows = _plan(request, datasets)
    if not jobs:
        missing = sorted({name for row in rows for name in row.missing})
        raise UsageError(
            f"{request.table}: no row has its dataset; missing are {', '.join(missing)}.",
            hint=hint("dataset_of_table", name=missing[0]),
        )
    found = {}
    for number, job in enumerate(jobs, 1):
        progress.say(f"job {number} of {len(jobs)}: {job.name}")
        found[job.name] = finish_job(job, run_job)
    result = table_result(TABLES[request.table], rows, found, jobs, request.shortcuts)
    return write_results(request.out, result)


def _reproduce_figure_1(
    request: ReproduceRequest, dataset: TableDataset | None, run_job: RunJob
) -> dict:
    networks = _choose_networks(request)
    if dataset is None:
        raise UsageError("figure-1 needs CIFAR-10.", hint=hint("dataset_of_table", name="cifar-10"))
    runs = Figure1(dataset, request.out, request.shortcuts).run(networks, run_job)
    return write_results(request.out, figure_1_result(runs, dataset, request.shortcuts))


def plan(request: ReproduceRequest, *, progress: Progress = SILENT) -> Estimate:
    """Return the jobs of a reproduction with their images, hours and disk.

    Datasets that are not given are assumed to have the published sizes.
    """
    _check_name(request.table)
    datasets = _published_datasets() | _open_datasets(request, progress)
    shortcuts = request.shortcuts
    devices = choose_devices(RuntimeConfig(shortcuts.device, shortcuts.num_devices), limit=None)
    if request.table == FIGURE_1:
        figure = Figure1(datasets["cifar-10"], request.out, shortcuts)
        jobs = figure.jobs(_choose_networks(request))
    else:
        jobs, _ = _plan(request, datasets)
    return estimate_plan(request.table, jobs, devices, progress)


def _check_name(table: str) -> None:
    if table not in TABLE_NAMES:
        tables = f"Tables: {', '.join(TABLE_NAMES)}."
        near = did_you_mean(table, TABLE_NAMES, tables)
        raise UsageError(f"no table {table!r}.", hint=near)


def _plan(
    request: ReproduceRequest, datasets: dict[str, TableDataset]
) -> tuple[list[Job], list[PlannedRow]]:
    rows = TABLES[request.table].choose(request.only)
    return plan_rows(rows, datasets, request.out, request.shortcuts)


def _choose_networks(request: ReproduceRequest) -> tuple[Figure1Network, ...]:
    return choose_rows({network.recipe: network for network in FIGURE_1_NETWORKS}, request.only)


def _open_datasets(request: ReproduceRequest, progress: Progress) -> dict[str, TableDataset]:
    datasets = {}
    for name, place in request.data:
        if name not in OFFICIAL_SETS:
            known = ", ".join(OFFICIAL_SETS)
            raise UsageError(f"{name}={place}: no data set {name!r}. Known: {known}.")
        index = DatasetRef.parse(place).read_index(progress)
        counts = {split: entry.written for split, entry in index.splits.items()}
        datasets[name] = TableDataset(
            name,
            str(place),
            train=counts["train"],
            held_out={split: count for split, count in counts.items() if split != "train"},
            classes=len(index.classes),
            fingerprint=index.fingerprint(),
        )
    return datasets


def _published_datasets() -> dict[str, TableDataset]:
    return {
        name: TableDataset(
            name, f"shards/{name}", s.train, {"val": s.val, "test": s.test}, s.classes
        )
        for name, s in OFFICIAL_SETS.items()
    }
