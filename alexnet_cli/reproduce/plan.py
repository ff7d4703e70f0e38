"""A table of the paper -> the jobs that make it, each shared run once (section 6)."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar, cast

from alexnet_cli.errors import InputError, hint
from alexnet_cli.recipes.catalog import NAMED_RECIPES, find_recipe
from alexnet_cli.recipes.paper_tables import Row
from alexnet_cli.reproduce.jobs import EnsembleJob, EvalJob, Job, Shortcuts, TableDataset, TrainJob

AnyJob = TypeVar("AnyJob", TrainJob, EvalJob, EnsembleJob)


@dataclass(frozen=True, slots=True)
class PlannedRow:
    """A row and the job whose result is its error; `missing` names datasets it lacks."""

    row: Row
    dataset: TableDataset | None
    job: EvalJob | EnsembleJob | None = None
    trains: tuple[TrainJob, ...] = ()
    missing: tuple[str, ...] = ()


@dataclass(slots=True)
class Planner:
    """Collects the jobs of rows in an order in which they can run."""

    out: Path
    datasets: dict[str, TableDataset]
    shortcuts: Shortcuts
    jobs: dict[str, Job] = field(default_factory=dict)

    def add_row(self, row: Row) -> PlannedRow:
        """Add the jobs of a row, or nothing where its datasets are missing."""
        dataset = next((self.datasets[name] for name in row.data if name in self.datasets), None)
        parents = {name for member in row.members for name in _datasets_of_parents(member)}
        missing = parents - {*self.datasets} | ({row.data[0]} if dataset is None else set())
        if dataset and not any(dataset.held_out.values()):
            raise InputError(
                f"{dataset.path} has training images only, so there is nothing to measure on.",
                hint=hint("validation_split"),
            )
        if missing or dataset is None:
            return PlannedRow(row, dataset, missing=tuple(sorted(missing)))
        trains = tuple(self._add_train(member, dataset) for member in row.members)
        evals = tuple(self._add_eval(train) for train in trains)
        job = evals[0] if len(evals) == 1 else self._add_ensemble(row, evals)
        return PlannedRow(row, dataset, job, trains)

    def _add_train(self, recipe_name: str, dataset: TableDataset) -> TrainJob:
        entry = NAMED_RECIPES[recipe_name]
        parent = None
        if entry.init_from:
            parent_data = NAMED_RECIPES[entry.init_from].data
            parent = self._add_train(entry.init_from, self.datasets[parent_data])
        name = recipe_name if dataset.name == entry.data else f"{recipe_name}-on-{dataset.name}"
        return self._add(
            TrainJob(
                f"train-{name}",
                f"Train {name}: {entry.summary}.",
                dataset,
                recipe_name,
                self.shortcuts.apply(find_recipe(recipe_name)),
                self.out / "runs" / name,
                self.shortcuts,
                parent,
            )
        )

    def _add_eval(self, train: TrainJob) -> EvalJob:
        name, predictions = train.folder.name, self.out / "predictions"
        purpose = f"Measure {name}, ten views."
        return self._add(EvalJob(f"eval-{name}", purpose, train, predictions / f"{name}.npz"))

    def _add_ensemble(self, row: Row, evals: tuple[EvalJob, ...]) -> EnsembleJob:
        name = "ensemble-" + row.name.replace(" ", "-").replace("*", "-pretrained")
        return self._add(EnsembleJob(name, f"Average {row.name}.", evals))

    def _add(self, job: AnyJob) -> AnyJob:
        return cast(AnyJob, self.jobs.setdefault(job.name, job))


def _datasets_of_parents(recipe_name: str) -> list[str]:
    """Return the dataset of the recipe whose weights a recipe begins with, and so on."""
    parent = NAMED_RECIPES[recipe_name].init_from
    return [NAMED_RECIPES[parent].data, *_datasets_of_parents(parent)] if parent else []


def plan_rows(
    rows: Iterable[Row], datasets: dict[str, TableDataset], out: Path, shortcuts: Shortcuts
) -> tuple[list[Job], list[PlannedRow]]:
    """Return the jobs of all rows, shared ones once, and the rows with the job of each."""
    planner = Planner(out, datasets, shortcuts)
    planned = [planner.add_row(row) for row in rows]
    return list(planner.jobs.values()), planned
