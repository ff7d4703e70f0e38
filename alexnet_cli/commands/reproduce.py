"""`alexnet reproduce`: a table of the paper, trained, measured, beside what was published."""

from dataclasses import dataclass, field, replace
from pathlib import Path

from alexnet_cli.data.sources import index_of
from alexnet_cli.engine.devices.layout import choose_devices
from alexnet_cli.engine.tables.estimate import Estimate, estimate_plan
from alexnet_cli.engine.tables.plan import PlannedRow, Shortcuts, Source, Step, plan_rows
from alexnet_cli.engine.tables.race import race_step, run_race, trial_epochs
from alexnet_cli.engine.tables.results import race_result, table_result, write_results
from alexnet_cli.engine.tables.step_records import RunCommand, StepRecords
from alexnet_cli.errors import UsageError
from alexnet_cli.progress import SILENT, Progress
from alexnet_cli.recipes.tables import (
    FIGURE_1,
    OFFICIAL_SETS,
    RACERS,
    TABLE_NAMES,
    TABLES,
    Racer,
)


@dataclass(frozen=True, slots=True)
class Request:
    """What to reproduce, from what, and how far.

    Attributes:
        data: (name, folder or URL) of every `--data`.
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
        what results.json holds.

    Raises:
        UsageError: an unknown table, row or data set, or no row's data are given.
        InputError: a data set cannot be used; or a command failed.
    """
    _check_name(request.table)
    sources = _open_sources(request, progress)
    records = StepRecords(request.out, run_command)
    if request.table == FIGURE_1:
        racers, source = _choose_racers(request), sources.get("cifar-10")
        if source is None:
            raise UsageError("figure-1 needs CIFAR-10: --data cifar-10=DATASET")
        laps = run_race(racers, source, records, request.shortcuts)
        result = race_result(laps, source, request.shortcuts)
        return write_results(request.out, result)
    steps, rows = _plan(request, sources)
    if not steps:
        raise UsageError(_nothing_to_do(request.table, rows))
    found = {}
    for number, step in enumerate(steps, 1):
        progress.say(f"step {number} of {len(steps)}: {step.name}")
        found[step.name] = records.run(step)
    result = table_result(TABLES[request.table], rows, found, steps, request.shortcuts)
    return write_results(request.out, result)


def plan(request: Request, *, progress: Progress = SILENT) -> Estimate:
    """Return the command lines of a reproduction with their images, hours and disk.

    Data sets that are not given are taken to have the published sizes.
    """
    _check_name(request.table)
    sources = _published_sources() | _open_sources(request, progress)
    shortcuts = request.shortcuts
    devices = choose_devices(shortcuts.device, shortcuts.num_devices, limit=None)
    if request.table == FIGURE_1:
        steps = _race_steps(request, sources["cifar-10"])
    else:
        steps, _ = _plan(request, sources)
    commands = StepRecords(request.out, lambda *_: {})
    return estimate_plan(request.table, steps, commands.command_line, devices, progress)


def _check_name(table: str) -> None:
    if table not in TABLE_NAMES:
        raise UsageError(f"no table {table!r}. Tables: {', '.join(TABLE_NAMES)}.")


def _plan(request: Request, sources: dict[str, Source]) -> tuple[list[Step], list[PlannedRow]]:
    rows = TABLES[request.table].choose(list(request.only))
    return plan_rows(rows, sources, request.out, request.shortcuts)


def _race_steps(request: Request, source: Source) -> list[Step]:
    """Return every rate's trial, and the whole of one rate, whichever it will be."""
    steps = []
    for racer in _choose_racers(request):
        trial = trial_epochs(racer, request.shortcuts)
        common = (source, request.out, request.shortcuts)
        trials = [race_step(racer.recipe, rate, trial, *common) for rate in racer.rates]
        whole = race_step(racer.recipe, racer.rates[0], request.shortcuts.epochs, *common)
        needs = tuple(step.name for step in trials)
        steps += trials
        if whole.name not in needs:
            steps.append(replace(whole, needs=needs, goes_on=True))
    return steps


def _choose_racers(request: Request) -> tuple[Racer, ...]:
    names = [racer.recipe for racer in RACERS]
    for name in request.only:
        if name not in names:
            raise UsageError(f"--only {name}: no such row. Rows: {', '.join(names)}.")
    return tuple(r for r in RACERS if not request.only or r.recipe in request.only)


def _open_sources(request: Request, progress: Progress) -> dict[str, Source]:
    sources = {}
    for name, place in request.data:
        if name not in OFFICIAL_SETS:
            known = ", ".join(OFFICIAL_SETS)
            raise UsageError(f"--data {name}={place}: no data set {name!r}. Known: {known}.")
        index = index_of(place, progress)
        counts = {split: entry.written for split, entry in index.splits.items()}
        held_out = {split: count for split, count in counts.items() if split != "train"}
        sources[name] = Source(name, str(place), counts["train"], held_out, len(index.classes))
    return sources


def _published_sources() -> dict[str, Source]:
    return {
        name: Source(
            name,
            f"shards/{name}",
            published.train,
            {"val": published.val, "test": published.test},
            published.classes,
        )
        for name, published in OFFICIAL_SETS.items()
    }


def _nothing_to_do(table: str, rows: list[PlannedRow]) -> str:
    missing = sorted({name for row in rows for name in row.missing})
    return (
        f"{table}: no row has its data. Missing: {', '.join(missing)}.\n"
        f"Give them: --data {missing[0]}=DATASET, or look at the plan: --dry-run"
    )
