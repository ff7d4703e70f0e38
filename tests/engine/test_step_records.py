"""Steps run once, and again when anything they depend on has changed."""

import json
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from alexnet_cli.data.dataset import Index, Shard, SplitIndex
from alexnet_cli.data.synsets import ImageClass
from alexnet_cli.engine.plan import Shortcuts, Source, Step, plan_rows
from alexnet_cli.engine.step_records import RunCommand, StepRecords, set_aside
from alexnet_cli.errors import ChildError
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
    assert record["needs"] == []
    assert set(record) == {"key", "needs", "arguments", "result"}


def test_record_holds_the_keys_of_the_steps_it_was_made_from(records, train, measure, average):
    found = {}
    for step in (train, measure, average):
        records.run(step)
        path = records.out / "steps" / f"{step.name}.json"
        found[step.name] = json.loads(path.read_text())
    assert found["eval-a"]["needs"] == [found["train-a"]["key"]]
    assert found["ensemble-a"]["needs"] == [found["eval-a"]["key"]]


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


def trained(step: Step, content: str) -> Path:
    """Make the folder of a run that was trained, or stopped; returns its last checkpoint."""
    step.folder.mkdir(parents=True, exist_ok=True)
    last = step.folder / "last.safetensors"
    last.write_text(content)
    return last


def longer(step: Step) -> Step:
    return replace(step, arguments=(*step.arguments, "--epochs", "9"))


def test_run_whose_beginning_changed_is_begun_anew_and_its_folder_kept(
    records, commands, train, child
):
    for number, step in enumerate((train, longer(train), longer(longer(train))), 1):
        for run in (step, child):
            records.run(run)
            trained(run, f"trained {number} times")
    begin = [*child.arguments, "--init-from", f"{train.folder}/last.safetensors"]
    assert commands.calls[1::2] == [begin] * 3
    runs = {path.parent.name: path.read_text() for path in records.out.glob("runs/*/last.*")}
    assert runs == {
        "a": "trained 3 times",
        "b.old-1": "trained 1 times",
        "b.old-2": "trained 2 times",
        "b": "trained 3 times",
    }


def test_run_that_begins_from_one_begun_anew_is_begun_anew(records, commands, train, child):
    grandchild = replace(
        child,
        name="train-c",
        needs=("train-b",),
        folder=child.folder.with_name("c"),
        begins_from=child.folder,
    )
    for step in (train, child, grandchild, longer(train), child, grandchild):
        records.run(step)
        trained(step, "weights")
    assert ["--resume" in call for call in commands.calls] == [False] * 3 + [True, False, False]
    folders = sorted(path.name for path in (records.out / "runs").iterdir())
    assert folders == ["a", "b", "b.old-1", "c", "c.old-1"]


def test_run_whose_beginning_is_the_same_is_gone_on_with(records, commands, train, child):
    for step in (train, child):
        records.run(step)
        trained(step, "weights")
    records.run(train)
    records.run(longer(child))
    assert commands.calls[2:] == [[*longer(child).arguments, "--resume"]]
    assert not child.folder.with_name("b.old-1").exists()


def test_run_whose_record_is_lost_is_gone_on_with(records, commands, train, child):
    for step in (train, child):
        records.run(step)
        trained(step, "weights")
    (records.out / "steps" / "train-b.json").unlink()
    records.run(child)
    assert commands.calls[2:] == [[*child.arguments, "--resume"]]


def test_run_that_begins_from_nothing_is_gone_on_with_whatever_changed(records, commands, train):
    records.run(train)
    trained(train, "weights")
    records.run(longer(train))
    assert commands.calls[1:] == [[*longer(train).arguments, "--resume"]]
    assert [path.name for path in (records.out / "runs").iterdir()] == ["a"]


def test_run_whose_folder_is_lost_too_is_begun_anew(records, commands, train, child):
    for step in (train, child, longer(train), child):
        records.run(step)  # no command leaves a folder here
    assert "--init-from" in commands.calls[3]
    assert not (records.out / "runs").exists()


def stop(step: Step) -> RunCommand:
    """Return a command line in which this training is stopped and saved."""

    def run_command(arguments: list[str], purpose: str) -> dict:
        trained(step, "stopped")
        raise ChildError("stopped", 143)

    return run_command


def test_stopped_run_whose_beginning_changed_is_begun_anew(records, commands, train, child):
    records.run(train)
    with pytest.raises(ChildError):
        StepRecords(records.out, stop(child)).run(child)
    for step in (longer(train), child):
        records.run(step)
    assert "--init-from" in commands.calls[-1]


def test_run_begun_anew_and_then_stopped_is_gone_on_with(records, commands, train, child):
    for step in (train, child):
        records.run(step)
        trained(step, "weights")
    records.run(longer(train))
    with pytest.raises(ChildError):
        StepRecords(records.out, stop(child)).run(child)
    records.run(child)
    assert "--resume" in commands.calls[-1]


def test_run_is_gone_on_with_wherever_its_beginning_was_trained(source, records, commands):
    rows = TABLES["ilsvrc-2012"].choose(["1 CNN*"])
    sources = {name: replace(source, name=name) for name in OFFICIAL_SETS}
    for device in ("cpu", "cuda"):
        steps, _ = plan_rows(rows, sources, records.out, Shortcuts(device=device))
        for step in steps:
            if step.kind == "train":
                records.run(step)
                trained(step, "weights")
    assert not list((records.out / "runs").glob("*.old-*"))


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
    (train.folder / "best.safetensors").touch()
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
