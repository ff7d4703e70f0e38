"""A table of the paper -> the command lines that make it, each shared run once (section 6)."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from alexnet_cli.engine.training.run_folder import RunFolder
from alexnet_cli.errors import InputError
from alexnet_cli.recipe import Recipe
from alexnet_cli.recipes import ENTRIES, find_recipe
from alexnet_cli.recipes.tables import Row
from alexnet_cli.settings import with_settings


@dataclass(frozen=True, slots=True)
class Shortcuts:
    """What makes a reproduction cheaper than the real one, and where it runs.

    Attributes:
        epochs: for every run; None for each recipe's own.
        settings: `field=value` for every recipe.
    """

    epochs: int | None = None
    settings: tuple[str, ...] = ()
    device: str = "auto"
    num_devices: int | None = None

    def apply(self, recipe: Recipe) -> Recipe:
        """Return a recipe as it will be trained."""
        recipe = with_settings(recipe, list(self.settings))
        return replace(recipe, epochs=self.epochs) if self.epochs else recipe

    def arguments(self, recipe: Recipe) -> list[str]:
        """Return the options of `alexnet train` for a recipe as it will be trained.

        The epochs are always among them: a run that was shortened once must not stay short.
        """
        settings = [f"--set={setting}" for setting in self.settings]
        return ["--epochs", str(recipe.epochs), *settings, *self.places(recipe)]

    def places(self, recipe: Recipe) -> list[str]:
        """Return the options of `alexnet train` and `eval` for where a recipe's network runs.

        On more devices than the network has columns each device holds a replica of the whole.
        """
        options = ["--device", self.device] if self.device != "auto" else []
        if self.num_devices:
            options += ["--gpus", str(self.num_devices)]
            options += ["--columns", "1"] if self.num_devices > recipe.columns else []
        return options


@dataclass(frozen=True, slots=True)
class Source:
    """One data set of a plan: a prepared one, or only a name and the published counts.

    Attributes:
        path: a folder or URL.
        held_out: images by split, those of a split named val or test that has any.
    """

    name: str
    path: str
    train: int
    held_out: dict[str, int]
    classes: int

    @property
    def split(self) -> str:
        """Return the split to measure: test where there is one, as the paper did in 2010."""
        return "test" if self.held_out.get("test") else "val"


@dataclass(frozen=True, slots=True)
class Step:
    """One command line, and what must be done before it.

    Attributes:
        kind: train, eval or ensemble.
        folder: of a training run.
        begins_from: run folder whose checkpoint it begins from.
        output: a file without which the step is not done.
        goes_on: it continues the run of a step before it.
    """

    name: str
    kind: str
    arguments: tuple[str, ...]
    purpose: str
    source: Source
    needs: tuple[str, ...] = ()
    recipe: Recipe | None = None
    folder: Path | None = None
    begins_from: Path | None = None
    output: Path | None = None
    goes_on: bool = False


@dataclass(frozen=True, slots=True)
class PlannedRow:
    """A row and the step whose result is its figure; `missing` names data it lacks."""

    row: Row
    source: Source | None
    step: str | None
    trains: tuple[str, ...]
    missing: tuple[str, ...] = ()


@dataclass(slots=True)
class Planner:
    """Collects the steps of rows in an order in which they can run."""

    out: Path
    sources: dict[str, Source]
    shortcuts: Shortcuts
    steps: dict[str, Step]

    def add_row(self, row: Row) -> PlannedRow:
        """Add what a row needs, or nothing where its data are missing."""
        source = next((self.sources[name] for name in row.data if name in self.sources), None)
        wanted = {row.data[0]} if source is None else set()
        for member in row.members:
            wanted |= {name for name in _data_of_chain(member)[1:] if name not in self.sources}
        if source is not None and not any(source.held_out.values()):
            raise InputError(
                f"{source.path} has training pictures only, so nothing to measure on.\n"
                "Make it again with --val-fraction 0.1, or with val/ beside train/."
            )
        if source is None or wanted:
            return PlannedRow(row, source, None, (), tuple(sorted(wanted)))
        trains = [self._add_train(member, source) for member in row.members]
        evals = [self._add_eval(train, source) for train in trains]
        step = evals[0] if len(evals) == 1 else self._add_ensemble(row, evals, source)
        return PlannedRow(row, source, step, tuple(trains))

    def _add_train(self, recipe_name: str, source: Source) -> str:
        entry = ENTRIES[recipe_name]
        home = source.name == entry.data
        name = recipe_name if home else f"{recipe_name}-on-{source.name}"
        if (key := f"train-{name}") in self.steps:
            return key
        needs, begins_from = (), None
        if parent := entry.begins_from:
            needs = (self._add_train(parent, self.sources[ENTRIES[parent].data]),)
            begins_from = self.steps[needs[0]].folder
        folder = self.out / "runs" / name
        recipe = self.shortcuts.apply(find_recipe(recipe_name))
        arguments = ("train", source.path, "--run", str(folder), "--recipe", recipe_name)
        self.steps[key] = Step(
            key,
            "train",
            (*arguments, *self.shortcuts.arguments(recipe)),
            f"Train {name}: {entry.about}.",
            source,
            needs,
            recipe,
            folder,
            begins_from,
            RunFolder(folder).last,
        )
        return key

    def _add_eval(self, train: str, source: Source) -> str:
        name = train.replace("train-", "eval-", 1)
        step = self.steps[train]
        predictions = self.out / "predictions" / f"{train.removeprefix('train-')}.npz"
        arguments = ("eval", str(step.folder / "last.safetensors"), source.path)
        options = ("--split", source.split, "--predictions", str(predictions))
        self.steps.setdefault(
            name,
            Step(
                name,
                "eval",
                (*arguments, *options, *self.shortcuts.places(step.recipe)),
                f"Measure {train.removeprefix('train-')}, ten views.",
                source,
                (train,),
                step.recipe,
                output=predictions,
            ),
        )
        return name

    def _add_ensemble(self, row: Row, evals: list[str], source: Source) -> str:
        name = "ensemble-" + row.name.replace(" ", "-").replace("*", "-pretrained")
        files = [_option(self.steps[step].arguments, "--predictions") for step in evals]
        self.steps[name] = Step(
            name, "ensemble", ("ensemble", *files), f"Average {row.name}.", source, tuple(evals)
        )
        return name


def _data_of_chain(recipe_name: str) -> list[str]:
    """Return the data of a recipe, of the one it begins from, and so on."""
    entry = ENTRIES[recipe_name]
    return [entry.data, *(_data_of_chain(entry.begins_from) if entry.begins_from else [])]


def _option(arguments: tuple[str, ...], name: str) -> str:
    return arguments[arguments.index(name) + 1]


def plan_rows(
    rows: Iterable[Row], sources: dict[str, Source], out: Path, shortcuts: Shortcuts
) -> tuple[list[Step], list[PlannedRow]]:
    """Return the steps of all rows, shared ones once, and the rows with what they wait for."""
    planner = Planner(out, sources, shortcuts, {})
    planned = [planner.add_row(row) for row in rows]
    return list(planner.steps.values()), planned


def waves(steps: list[Step]) -> list[list[Step]]:
    """Group steps so that those of a group can run at once, after those of the groups before."""
    level: dict[str, int] = {}
    for step in steps:
        level[step.name] = 1 + max((level[need] for need in step.needs), default=-1)
    depth = max(level.values(), default=-1) + 1
    return [[step for step in steps if level[step.name] == i] for i in range(depth)]
