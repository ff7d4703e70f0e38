"""Steps run once, and again when anything they depend on has changed."""

import json
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest

from alexnet_cli.data.shards.index import Index, Shard, SplitIndex
from alexnet_cli.data.synsets import ImageClass
from alexnet_cli.engine.tables.plan import Shortcuts, Source, Step, plan_rows
from alexnet_cli.engine.tables.step_records import RunCommand, StepRecords, set_aside
from alexnet_cli.engine.training.run_folder import RunFolder
from alexnet_cli.errors import ChildError
from alexnet_cli.model.checkpoint import Checkpoint, Progressed, load_checkpoint, save_checkpoint
from alexnet_cli.recipes.small import DEMO
from alexnet_cli.recipes.tables import OFFICIAL_SETS, TABLES


@dataclass
class Commands:
    """Stands for the command line: remembers the calls, each with a result of its own."""

    calls: list[list[str]] = field(default_factory=list)
    purposes: list[str] = field(default_factory=list)

    def __call__(self, arguments: list[str], purpose: str) -> dict:
        self.calls.append(arguments)
        self.purposes.append(purpose)
        return {"call": len(self.calls), "verb": arguments[0]}


def write_dataset(folder: Path, content: str) -> None:
    """Write the index of a dataset whose pictures are known by `content`."""
    shard = Shard("train-000000.tar", 10, 1000, sha256=content)
    splits = {"train": SplitIndex(10, 10, 0, (shard,))}
    index = Index({"size": 8}, {}, (ImageClass("n01", "one"),), splits, "test")
    folder.mkdir(exist_ok=True)
    (folder / "index.json").write_text(index.to_json())


@pytest.fixture
def source(tmp_path) -> Source:
    write_dataset(tmp_path / "shards", "first pictures")
    return Source("ilsvrc-2012", str(tmp_path / "shards"), 10, {"val": 5}, 1)


@pytest.fixture
def commands() -> Commands:
    return Commands()


@pytest.fixture
def records(tmp_path, commands) -> StepRecords:
    return StepRecords(tmp_path / "out", commands)


@pytest.fixture
def train(source, records) -> Step:
    folder = records.out / "runs" / "a"
    arguments = ("train", source.path, "--run", str(folder))
    return Step("train-a", "train", arguments, "Train a.", source, folder=folder)


@pytest.fixture
def measure(source, train) -> Step:
    arguments = ("eval", f"{train.folder}/last.safetensors", source.path)
    return Step("eval-a", "eval", arguments, "Measure a.", source, needs=("train-a",))


@pytest.fixture
def average(source) -> Step:
    arguments = ("ensemble", "a.npz", "b.npz")
    return Step("ensemble-a", "ensemble", arguments, "Average.", source, needs=("eval-a",))


def verbs(commands: Commands) -> list[str]:
    return [arguments[0] for arguments in commands.calls]


def test_step_gives_what_its_command_gave(records, commands, train):
    assert records.run(train) == {"call": 1, "verb": "train"}
    assert commands.calls == [list(train.arguments)]
    assert commands.purposes == ["Train a."]


def test_step_runs_once_even_for_another_process(records, commands, train, measure):
    first = [records.run(step) for step in (train, measure)]
    again = StepRecords(records.out, commands)
    assert [again.run(step) for step in (train, measure)] == first
    assert verbs(commands) == ["train", "eval"]


def test_record_can_be_read_by_people_and_programs(records, train):
    records.run(train)
    record = json.loads((records.out / "steps" / "train-a.json").read_text())
    assert record["arguments"] == list(train.arguments)
    assert record["result"] == {"call": 1, "verb": "train"}
    assert set(record) == {"key", "arguments", "result"}


def test_step_runs_again_after_its_arguments_changed(records, commands, train):
    records.run(train)
    changed = replace(train, arguments=(*train.arguments, "--epochs", "2"))
    assert records.run(changed) == {"call": 2, "verb": "train"}
    assert records.run(changed) == {"call": 2, "verb": "train"}
    assert len(commands.calls) == 2


def test_another_purpose_is_no_reason_to_run_again(records, commands, train):
    records.run(train)
    records.run(replace(train, purpose="In other words."))
    assert len(commands.calls) == 1


@pytest.mark.parametrize("places", [("--device", "cuda"), ("--device", "cuda", "--gpus", "2")])
def test_another_place_is_no_reason_to_run_again(records, commands, train, measure, places):
    for step in (train, measure, train, measure):
        records.run(step)
        records.run(replace(step, arguments=(*step.arguments, *places)))
    assert verbs(commands) == ["train", "eval"]


def test_what_stands_after_a_place_is_a_reason_to_run_again(records, commands, train):
    for more in ((), ("--epochs", "2"), ("--epochs", "3")):
        records.run(replace(train, arguments=(*train.arguments, "--device", "cpu", *more)))
    assert len(commands.calls) == 3


def test_step_runs_again_after_its_dataset_changed(records, commands, source, train, measure):
    for step in (train, measure):
        records.run(step)
    write_dataset(Path(source.path), "other pictures")
    for step in (train, measure):
        records.run(step)
    assert verbs(commands) == ["train", "eval"] * 2


def test_dataset_made_again_with_the_same_pictures_has_not_changed(
    records, commands, source, train
):
    records.run(train)
    write_dataset(Path(source.path), "first pictures")
    records.run(train)
    assert len(commands.calls) == 1


def test_steps_run_again_after_one_they_build_on_changed(
    records, commands, train, measure, average
):
    for step in (train, measure, average):
        records.run(step)
    for step in (replace(train, arguments=(*train.arguments, "--epochs", "2")), measure, average):
        records.run(step)
    assert verbs(commands) == ["train", "eval", "ensemble"] * 2


def test_steps_before_a_changed_one_do_not_run_again(records, commands, train, measure, average):
    for step in (train, measure, average):
        records.run(step)
    for step in (train, replace(measure, arguments=(*measure.arguments, "--views", "1")), average):
        records.run(step)
    assert verbs(commands) == ["train", "eval", "ensemble", "eval", "ensemble"]


def test_lost_record_makes_its_step_run_again_and_no_other(records, commands, train, measure):
    for step in (train, measure):
        records.run(step)
    (records.out / "steps" / "train-a.json").unlink()
    for step in (train, measure):
        records.run(step)
    # The command gave the same run, so what was measured on it holds.
    assert verbs(commands) == ["train", "eval", "train"]


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b"7", b'"text"', b"{}", b'{"key": "0"}', b"\xff\xfe{}", b"\x00"],
)
def test_broken_record_is_run_again(records, commands, train, content):
    records.run(train)
    path = records.out / "steps" / "train-a.json"
    path.write_bytes(content)
    assert records.run(train) == {"call": 2, "verb": "train"}
    assert json.loads(path.read_text())["result"] == {"call": 2, "verb": "train"}


def test_record_cut_short_is_run_again(records, commands, train):
    records.run(train)
    path = records.out / "steps" / "train-a.json"
    path.write_bytes(path.read_bytes()[:-20])
    records.run(train)
    assert len(commands.calls) == 2


def test_failed_command_leaves_no_record(records, commands, train, measure):
    def fail(arguments: list[str], purpose: str) -> dict:
        raise RuntimeError(arguments[0])

    records.run(train)
    failing = StepRecords(records.out, fail)
    with pytest.raises(RuntimeError, match="eval"):
        failing.run(measure)
    assert [path.name for path in (records.out / "steps").iterdir()] == ["train-a.json"]
    records.run(measure)
    assert verbs(commands) == ["train", "eval"]


# --- what a step leaves


def test_step_whose_output_is_lost_runs_again_and_no_other(
    records, commands, tmp_path, train, measure, average
):
    predictions = tmp_path / "a.npz"
    predictions.touch()
    measure = replace(measure, output=predictions)
    for step in (train, measure, average):
        records.run(step)
    predictions.unlink()
    for step in (train, measure, average):
        records.run(step)
    # The command gave the same predictions, so their average holds.
    assert verbs(commands) == ["train", "eval", "ensemble", "eval"]


def test_step_whose_output_is_there_does_not_run_again(records, commands, tmp_path, measure):
    predictions = tmp_path / "a.npz"
    predictions.touch()
    measure = replace(measure, output=predictions)
    first, again = records.run(measure), records.run(measure)
    assert first == again == {"call": 1, "verb": "eval"}


def test_folder_in_the_place_of_an_output_is_none(records, commands, tmp_path, measure):
    for _ in range(2):
        records.run(replace(measure, output=tmp_path))
    assert len(commands.calls) == 2


def test_run_whose_folder_is_lost_is_begun_again(records, commands, train):
    train = replace(train, output=train.folder / "last.safetensors")
    train.folder.mkdir(parents=True)
    train.output.touch()
    records.run(train)
    train.output.unlink()
    train.folder.rmdir()
    records.run(train)
    assert commands.calls[1] == list(train.arguments)


# --- runs that begin from others


@pytest.fixture
def child(source, train) -> Step:
    """A training that begins from the first one's last checkpoint."""
    folder = train.folder.with_name("b")
    arguments = ("train", source.path, "--run", str(folder), "--epochs", "3")
    step = Step("train-b", "train", arguments, "Train b.", source, ("train-a",))
    return replace(step, folder=folder, begins_from=train.folder)


def trained(step: Step, weight: float) -> None:
    """Leave what a run does that was trained, or stopped: these weights, and its first beginning.

    A run that is resumed goes on with the beginning it had.
    """
    run, began_from = RunFolder(step.folder), {}
    if run.last.is_file():
        began_from = load_checkpoint(run.last).began_from
    elif step.begins_from:
        parent = load_checkpoint(RunFolder(step.begins_from).last)
        began_from = {"weights": parent.weights_hash()}
    save(run.last, weight, began_from)


def save(path: Path, weight: float, began_from: dict[str, str]) -> None:
    """Write a checkpoint of one weight."""
    path.parent.mkdir(parents=True, exist_ok=True)
    checkpoint = Checkpoint(
        recipe=DEMO,
        weights={"conv1.bias": np.array([weight], np.float32)},
        pixels={"mean_image": np.zeros((1, 1, 3), np.float32)},
        classes=[("n01", "one")],
        fingerprint="0123456789abcdef",
        progressed=Progressed(),
        began_from=began_from,
    )
    save_checkpoint(path, checkpoint)


def weights(out: Path) -> dict[str, float]:
    """Return the weight of every run's last checkpoint, by the name of its folder."""
    return {
        path.parent.name: load_checkpoint(path).weights["conv1.bias"].item()
        for path in out.glob("runs/*/last.safetensors")
    }


def longer(step: Step) -> Step:
    return replace(step, arguments=(*step.arguments, "--epochs", "9"))


def begin(child: Step) -> list[str]:
    """Return the command that begins this run with another's last checkpoint."""
    return [*child.arguments, "--init-from", f"{child.begins_from}/last.safetensors"]


def test_run_whose_beginning_changed_is_begun_anew_and_its_folder_kept(
    records, commands, train, child
):
    for number, step in enumerate((train, longer(train), longer(longer(train))), 1):
        for run in (step, child):
            records.run(run)
            trained(run, number)
    assert commands.calls[1::2] == [begin(child)] * 3
    assert weights(records.out) == {"a": 3, "b.old-1": 1, "b.old-2": 2, "b": 3}


def test_run_that_begins_from_one_begun_anew_is_begun_anew(records, commands, train, child):
    grandchild = replace(
        child,
        name="train-c",
        needs=("train-b",),
        folder=child.folder.with_name("c"),
        begins_from=child.folder,
    )
    steps = (train, child, grandchild, longer(train), child, grandchild)
    for weight, step in enumerate(steps, 1):
        records.run(step)
        trained(step, weight)
    assert ["--resume" in call for call in commands.calls] == [False] * 3 + [True, False, False]
    assert weights(records.out) == {"a": 4, "b": 5, "b.old-1": 2, "c": 6, "c.old-1": 3}


def test_run_whose_beginning_is_the_same_is_gone_on_with(records, commands, train, child):
    for weight, step in enumerate((train, child)):
        records.run(step)
        trained(step, weight)
    records.run(train)
    records.run(longer(child))
    assert commands.calls[2:] == [[*longer(child).arguments, "--resume"]]
    assert weights(records.out) == {"a": 0, "b": 1}


def test_run_is_gone_on_with_if_the_other_was_run_again_to_the_same_weights(
    records, commands, train, child
):
    for weight, step in enumerate((train, child)):
        records.run(step)
        trained(step, weight)
    records.run(longer(train))  # trains no further: it had come to its end
    records.run(child)
    assert commands.calls[3:] == [[*child.arguments, "--resume"]]
    assert weights(records.out) == {"a": 0, "b": 1}


def test_run_whose_record_is_lost_is_gone_on_with(records, commands, train, child):
    for weight, step in enumerate((train, child)):
        records.run(step)
        trained(step, weight)
    (records.out / "steps" / "train-b.json").unlink()
    records.run(child)
    assert commands.calls[2:] == [[*child.arguments, "--resume"]]


def test_stale_run_is_begun_anew_even_if_every_record_is_lost(records, commands, train, child):
    for weight, step in enumerate((train, child, longer(train))):
        records.run(step)
        trained(step, weight)
    for path in (records.out / "steps").iterdir():
        path.unlink()
    records.run(longer(train))
    records.run(child)
    assert commands.calls[3:] == [[*longer(train).arguments, "--resume"], begin(child)]
    assert weights(records.out) == {"a": 2, "b.old-1": 1}


@pytest.mark.parametrize("began_from", [{}, {"weights": ""}, {"recipe": "demo"}])
def test_run_that_does_not_say_how_it_began_is_begun_anew(
    records, commands, train, child, began_from
):
    records.run(train)
    trained(train, 1)
    save(child.folder / "last.safetensors", 2, began_from)
    records.run(child)
    assert commands.calls[1:] == [begin(child)]
    assert weights(records.out) == {"a": 1, "b.old-1": 2}


def test_run_that_begins_from_nothing_is_gone_on_with_whatever_changed(records, commands, train):
    records.run(train)
    trained(train, 1)
    records.run(longer(train))
    assert commands.calls[1:] == [[*longer(train).arguments, "--resume"]]
    assert [path.name for path in (records.out / "runs").iterdir()] == ["a"]


def test_run_whose_folder_is_lost_too_is_begun_anew(records, commands, train, child):
    for step in (train, child, longer(train), child):
        records.run(step)  # no command leaves a folder here
    assert "--init-from" in commands.calls[3]
    assert not (records.out / "runs").exists()


def stop(step: Step, weight: float) -> RunCommand:
    """Return a command line in which this training is stopped and saved."""

    def run_command(arguments: list[str], purpose: str) -> dict:
        trained(step, weight)
        raise ChildError("stopped", 143)

    return run_command


def test_stopped_run_is_gone_on_with(records, commands, train, child):
    records.run(train)
    trained(train, 1)
    with pytest.raises(ChildError):
        StepRecords(records.out, stop(child, 2)).run(child)
    records.run(child)
    assert commands.calls[1:] == [[*child.arguments, "--resume"]]


def test_stopped_run_whose_beginning_changed_is_begun_anew(records, commands, train, child):
    records.run(train)
    trained(train, 1)
    with pytest.raises(ChildError):
        StepRecords(records.out, stop(child, 2)).run(child)
    records.run(longer(train))
    trained(train, 3)
    records.run(child)
    assert commands.calls[-1] == begin(child)
    assert weights(records.out) == {"a": 3, "b.old-1": 2}


def test_run_begun_anew_and_then_stopped_is_gone_on_with(records, commands, train, child):
    for weight, step in enumerate((train, child, longer(train))):
        records.run(step)
        trained(step, weight)
    with pytest.raises(ChildError):
        StepRecords(records.out, stop(child, 3)).run(child)
    records.run(child)
    assert commands.calls[-1] == [*child.arguments, "--resume"]
    assert weights(records.out) == {"a": 2, "b.old-1": 1, "b": 3}


def test_plan_runs_once_wherever_it_runs(source, records, commands):
    rows = TABLES["ilsvrc-2012"].choose(["1 CNN*"])
    sources = {name: replace(source, name=name) for name in OFFICIAL_SETS}
    places = [Shortcuts(device="cpu"), Shortcuts(device="cuda", num_devices=2), Shortcuts()]
    for shortcuts in places:
        steps, _ = plan_rows(rows, sources, records.out, shortcuts)
        for weight, step in enumerate(steps):
            num_calls = len(commands.calls)
            records.run(step)
            if len(commands.calls) == num_calls:
                continue
            if step.kind == "train":
                trained(step, weight)
            else:
                step.output.parent.mkdir()
                step.output.touch()
    assert verbs(commands) == ["train"] * 4 + ["eval"]
    assert not list((records.out / "runs").glob("*.old-*"))


# --- folders that are of no use


@pytest.mark.parametrize("begins_from", [None, Path("runs/parent")])
def test_folder_without_a_last_checkpoint_is_set_aside_for_its_best(
    records, commands, train, begins_from
):
    train = replace(train, begins_from=begins_from)
    train.folder.mkdir(parents=True)
    (train.folder / "best.safetensors").write_text("best")
    records.run(train)
    assert commands.calls == [list(train.arguments) if begins_from is None else begin(train)]
    assert not train.folder.exists()
    assert (records.out / "runs" / "a.old-1" / "best.safetensors").read_text() == "best"


def test_folder_without_any_checkpoint_is_left_in_its_place(records, commands, train):
    train.folder.mkdir(parents=True)
    (train.folder / "recipe.json").touch()
    records.run(train)
    assert commands.calls == [list(train.arguments)]
    assert [path.name for path in (records.out / "runs").iterdir()] == ["a"]


def test_folder_whose_step_is_done_is_never_set_aside(records, commands, train):
    records.run(train)
    train.folder.mkdir(parents=True)
    (train.folder / "best.safetensors").touch()
    records.run(train)
    assert len(commands.calls) == 1
    assert train.folder.exists()


def test_folder_set_aside_keeps_what_it_holds(tmp_path):
    for number in range(3):
        folder = tmp_path / "run"
        folder.mkdir()
        (folder / "log.jsonl").write_text(str(number))
        set_aside(folder)
        assert not folder.exists()
        assert (tmp_path / f"run.old-{number + 1}" / "log.jsonl").read_text() == str(number)
    set_aside(tmp_path / "run")  # nothing is there
    assert len(list(tmp_path.iterdir())) == 3


# --- the command to run now


def test_new_run_is_begun_as_planned(records, train):
    assert records.command_line(train) == list(train.arguments)


def test_stopped_run_is_resumed(records, commands, train):
    train.folder.mkdir(parents=True)
    (train.folder / "last.safetensors").touch()
    assert records.command_line(train) == [*train.arguments, "--resume"]
    records.run(train)
    assert commands.calls == [[*train.arguments, "--resume"]]


def test_run_stopped_before_its_first_checkpoint_is_begun_again(records, train):
    train.folder.mkdir(parents=True)
    (train.folder / "recipe.json").touch()
    assert records.command_line(train) == list(train.arguments)


def test_pretrained_run_begins_with_the_last_checkpoint_of_another(records, train):
    child = replace(train, begins_from=Path("runs/parent"))
    expected = [*train.arguments, "--init-from", "runs/parent/last.safetensors"]
    assert records.command_line(child) == expected


def test_pretrained_run_that_was_stopped_is_resumed_and_not_begun_again(records, train):
    train.folder.mkdir(parents=True)
    (train.folder / "last.safetensors").touch()
    child = replace(train, begins_from=Path("runs/parent"))
    assert records.command_line(child) == [*train.arguments, "--resume"]


def test_resumed_run_has_the_record_of_the_run_as_planned(records, commands, train):
    first = records.run(train)
    train.folder.mkdir(parents=True)
    (train.folder / "last.safetensors").touch()
    assert records.run(train) == first
    assert len(commands.calls) == 1


def test_measurements_are_run_as_planned(records, measure, average):
    for step in (measure, average):
        assert records.command_line(step) == list(step.arguments)


def test_looking_at_a_command_line_runs_and_writes_nothing(records, commands, train):
    records.command_line(train)
    assert commands.calls == []
    assert not records.out.exists()
