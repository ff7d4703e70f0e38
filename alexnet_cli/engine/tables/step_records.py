"""Runs the steps of a plan, and remembers in OUT/steps what each gave, so that none runs twice."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from alexnet_cli.atomic import write_bytes
from alexnet_cli.data.remote import location
from alexnet_cli.data.sources import index_of
from alexnet_cli.engine.tables.plan import Step
from alexnet_cli.engine.training.run_folder import RunFolder
from alexnet_cli.model.checkpoint import load_checkpoint

RunCommand = Callable[[list[str], str], dict]


@dataclass(slots=True)
class StepRecords:
    """What the steps of one output folder gave.

    Attributes:
        run_command: called with a command line and its purpose; returns its JSON.
    """

    out: Path
    run_command: RunCommand

    def run(self, step: Step) -> dict:
        """Return a step's result: the recorded one if nothing it depends on changed since."""
        key, record = self._key(step), self._read(step.name)
        is_there = step.output is None or step.output.is_file()
        if record.get("key") == key and is_there:
            return record["result"]
        if step.kind == "train" and self._cannot_go_on(step):
            set_aside(step.folder)
        result = self.run_command(self.command_line(step), step.purpose)
        self._write(step.name, {"key": key, "arguments": step.arguments, "result": result})
        return result

    def _cannot_go_on(self, step: Step) -> bool:
        """Tell whether a run's folder is of no use: no last checkpoint, or weights that are stale.

        A run that began with another's layers is stale when that other one was trained on.
        """
        run = RunFolder(step.folder)
        if run.is_stranded():
            return True
        if step.begins_from is None or not run.last.is_file():
            return False
        parent = load_checkpoint(RunFolder(step.begins_from).last)
        return load_checkpoint(run.last).began_from.get("weights") != parent.weights_hash()

    def command_line(self, step: Step) -> list[str]:
        """Return the command to run now: a stopped run is resumed."""
        arguments = list(step.arguments)
        if step.kind == "train":
            if step.goes_on or RunFolder(step.folder).last.is_file():
                arguments.append("--resume")
            elif step.begins_from:
                arguments += ["--init-from", str(RunFolder(step.begins_from).last)]
        return arguments

    def _key(self, step: Step) -> str:
        """Return a hash of the command, its data set and the results it builds on."""
        about = [
            _without_places(step.arguments),
            index_of(location(step.source.path)).fingerprint(),
            [self._read(need).get("key") for need in step.needs],
        ]
        return hashlib.sha256(json.dumps(about).encode()).hexdigest()[:16]

    def _read(self, name: str) -> dict:
        try:
            record = json.loads((self.out / "steps" / f"{name}.json").read_text())
        except (OSError, ValueError):
            return {}
        return record if isinstance(record, dict) else {}

    def _write(self, name: str, record: dict) -> None:
        (self.out / "steps").mkdir(parents=True, exist_ok=True)
        content = json.dumps(record, indent=2) + "\n"
        write_bytes(self.out / "steps" / f"{name}.json", content.encode())


def set_aside(folder: Path) -> None:
    """Give a folder another name, so that its place is free and nothing is lost."""
    number = 1
    while (target := folder.with_name(f"{folder.name}.old-{number}")).exists():
        number += 1
    if folder.exists():
        folder.rename(target)


def _without_places(arguments: tuple[str, ...]) -> list[str]:
    """Leave out where a step ran, which does not change its result."""
    kept = list(arguments)
    for option in ("--device", "--gpus", "--columns"):
        if option in kept:
            at = kept.index(option)
            del kept[at : at + 2]
    return kept
