"""`alexnet reproduce`: a table of the paper, trained, measured, beside what was published."""

from dataclasses import dataclass, field
from pathlib import Path

from alexnet_cli.data.dataset_ref import index_of
from alexnet_cli.distributed.device_plan import choose_devices
from alexnet_cli.distributed.runtime_config import RuntimeConfig
from alexnet_cli.errors import UsageError
from alexnet_cli.io.progress import SILENT, Progress
from alexnet_cli.recipes.paper_tables import (
    FIGURE_1,
    OFFICIAL_SETS,
    RACERS,
    TABLE_NAMES,
    TABLES,
    Racer,
    choose_rows,
)
from alexnet_cli.reproduce.estimate import Estimate, estimate_plan
from alexnet_cli.reproduce.jobs import Job, RunCommand, Shortcuts, TableDataset, run_job
from alexnet_cli.reproduce.plan import PlannedRow, plan_rows
from alexnet_cli.reproduce.race import Race
from alexnet_cli.reproduce.results import race_result, table_result, write_results


@dataclass(frozen=True, slots=True)
class Request:
    """What to reproduce, from what, and how far.

    Attributes:
        data: (name, folder or URL) of each `--data` option.
        only: names of rows; none for all.
    """

    table: str
    data: tuple[tuple[str, Path | str], ...]
    out: Path
    only: tuple[str, ...] = ()
    shortcuts: Shortcuts = field(default_factory=Shortcuts)


def reproduce(request: Request, run_command: RunCommand, *, progress: Progress = SILENT) -> dict:
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
        racers, dataset = _choose_racers(request), datasets.get("cifar-10")
        if dataset is None:
            raise UsageError("figure-1 needs CIFAR-10: --data cifar-10=DATASET")
        laps = Race(dataset, request.out, request.shortcuts).run(racers, run_command)
        return write_results(request.out, race_result(laps, dataset, request.shortcuts))
    jobs, rows = _plan(request, datasets)
    if not jobs:
        raise UsageError(_nothing_to_do(request.table, rows))
    found = {}
    for number, job in enumerate(jobs, 1):
        progress.say(f"job {number} of {len(jobs)}: {job.name}")
        found[job.name] = run_job(job, run_command)
    result = table_result(TABLES[request.table], rows, found, jobs, request.shortcuts)
    return write_results(request.out, result)


def plan(request: Request, *, progress: Progress = SILENT) -> Estimate:
    """Return the command lines of a reproduction with their images, hours and disk.

    Datasets that are not given are taken to have the published sizes.
    """
    _check_name(request.table)
    datasets = _published_datasets() | _open_datasets(request, progress)
    shortcuts = request.shortcuts
    devices = choose_devices(RuntimeConfig(shortcuts.device, shortcuts.num_devices), limit=None)
    if request.table == FIGURE_1:
        race = Race(datasets["cifar-10"], request.out, shortcuts)
        jobs = race.jobs(_choose_racers(request))
    else:
        jobs, _ = _plan(request, datasets)
    return estimate_plan(request.table, jobs, devices, progress)


def _check_name(table: str) -> None:
    if table not in TABLE_NAMES:
        raise UsageError(f"no table {table!r}. Tables: {', '.join(TABLE_NAMES)}.")


def _plan(
    request: Request, datasets: dict[str, TableDataset]
) -> tuple[list[Job], list[PlannedRow]]:
    rows = TABLES[request.table].choose(request.only)
    return plan_rows(rows, datasets, request.out, request.shortcuts)


def _choose_racers(request: Request) -> tuple[Racer, ...]:
    return choose_rows({racer.recipe: racer for racer in RACERS}, request.only)


def _open_datasets(request: Request, progress: Progress) -> dict[str, TableDataset]:
    datasets = {}
    for name, place in request.data:
        if name not in OFFICIAL_SETS:
            known = ", ".join(OFFICIAL_SETS)
            raise UsageError(f"--data {name}={place}: no data set {name!r}. Known: {known}.")
        index = index_of(place, progress)
        counts = {split: entry.written for split, entry in index.splits.items()}
        held_out = {split: count for split, count in counts.items() if split != "train"}
        classes, fingerprint = len(index.classes), index.fingerprint()
        datasets[name] = TableDataset(
            name, str(place), counts["train"], held_out, classes, fingerprint
        )
    return datasets


def _published_datasets() -> dict[str, TableDataset]:
    return {
        name: TableDataset(
            name, f"shards/{name}", s.train, {"val": s.val, "test": s.test}, s.classes
        )
        for name, s in OFFICIAL_SETS.items()
    }


def _nothing_to_do(table: str, rows: list[PlannedRow]) -> str:
    missing = sorted({name for row in rows for name in row.missing})
    return (
        f"{table}: no row has its data. Missing: {', '.join(missing)}.\n"
        f"Give them: --data {missing[0]}=DATASET, or look at the plan: --dry-run"
    )
