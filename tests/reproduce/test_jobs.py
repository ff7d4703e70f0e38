"""Jobs run once, and again when anything they depend on has changed."""

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest

from alexnet_cli.commands.reproduce import job_arguments
from alexnet_cli.errors import CheckpointError, JobError
from alexnet_cli.inference.metrics import score
from alexnet_cli.inference.predictions import Predictions, load_predictions
from alexnet_cli.model.checkpoint import Checkpoint, TrainState, load_checkpoint, save_checkpoint
from alexnet_cli.recipes.catalog import find_recipe
from alexnet_cli.recipes.overrides import with_settings
from alexnet_cli.recipes.paper_tables import OFFICIAL_SETS, TABLES
from alexnet_cli.reproduce.jobs import (
    EnsembleJob,
    EvalJob,
    Job,
    Shortcuts,
    TableDataset,
    TrainJob,
    finish_job,
    set_aside,
)
from alexnet_cli.reproduce.plan import plan_rows

FINGERPRINT, OTHER = "0123456789abcdef", "fedcba9876543210"
EPOCHS = 3


def option(arguments: list[str], name: str) -> str | None:
    return arguments[arguments.index(name) + 1] if name in arguments else None


def save(path: Path, weight: float, **changes) -> None:
    """Write a checkpoint of one weight."""
    path.parent.mkdir(parents=True, exist_ok=True)
    checkpoint = Checkpoint(
        recipe=find_recipe("paper"),
        weights={"conv1.bias": np.array([weight], np.float32)},
        pixels={"mean_image": np.zeros((1, 1, 3), np.float32)},
        classes=[("n01", "one")],
        fingerprint=FINGERPRINT,
        train_state=TrainState(epoch=EPOCHS),
    )
    save_checkpoint(path, replace(checkpoint, **changes))


@dataclass
class Commands:
    """Stands for the command line: its trainings and measurements leave small files at once.

    A run that is trained further has new weights; one that is at its end keeps those it has.

    Attributes:
        stop_after: the epoch after which every training is stopped, as by a signal.
    """

    calls: list[list[str]] = field(default_factory=list)
    purposes: list[str] = field(default_factory=list)
    stop_after: int | None = None

    def __call__(self, job: Job) -> dict:
        arguments = job_arguments(job)
        self.calls.append(arguments)
        self.purposes.append(job.purpose)
        return {"train": self._train, "eval": self._eval, "ensemble": self._ensemble}[arguments[0]](
            arguments
        )

    def _train(self, arguments: list[str]) -> dict:
        last = Path(option(arguments, "--run")) / "last.safetensors"
        assert ("--resume" in arguments) == last.is_file()
        settings = [text.removeprefix("--set=") for text in arguments if text.startswith("--set=")]
        recipe = with_settings(find_recipe(option(arguments, "--recipe")), settings)
        done, init_from, end = 0, {}, int(option(arguments, "--epochs"))
        if last.is_file():
            old = load_checkpoint(last)
            done, init_from = old.train_state.epoch, old.init_from
        elif parent := option(arguments, "--init-from"):
            init_from = load_checkpoint(Path(parent)).as_source()
        epochs = max(done, self.stop_after or end)
        if epochs > done:
            at = TrainState(epoch=epochs)
            save(last, len(self.calls), recipe=recipe, train_state=at, init_from=init_from)
        if self.stop_after:
            raise JobError("stopped", 143)
        return {"epochs": epochs}

    def _eval(self, arguments: list[str]) -> dict:
        path = Path(option(arguments, "--output"))
        save_predictions(path, Path(arguments[1]), split=option(arguments, "--split"))
        return {"call": len(self.calls)}

    def _ensemble(self, arguments: list[str]) -> dict:
        return {"call": len(self.calls)}

    def verbs(self) -> list[str]:
        return [arguments[0] for arguments in self.calls]


def save_predictions(path: Path, checkpoint: Path, **changes) -> None:
    """Write predictions of two images of six classes."""
    probs = np.random.default_rng(0).dirichlet(np.ones(6), (2, 2)).astype(np.float32)
    found = Predictions(
        keys=("a", "b"),
        probs=probs[0],
        center_probs=probs[1],
        labels=np.array([0, 3]),
        classes=tuple("abcdef"),
        names=tuple("abcdef"),
        outputs=tuple(range(6)),
        fingerprint=FINGERPRINT,
        split="val",
        views=10,
        weights_hash=load_checkpoint(checkpoint).weights_hash(),
    )
    replace(found, **changes).save(path)


@pytest.fixture
def dataset() -> TableDataset:
    return TableDataset("ilsvrc-2012", "shards/a", 10, {"val": 2}, 1, FINGERPRINT)


@pytest.fixture
def commands() -> Commands:
    return Commands()


@pytest.fixture
def out(tmp_path) -> Path:
    return tmp_path / "out"


def make_train(
    name: str, dataset: TableDataset, out: Path, parent: TrainJob | None = None
) -> TrainJob:
    recipe, folder = replace(find_recipe("paper"), epochs=EPOCHS), out / "runs" / name
    return TrainJob(
        f"train-{name}", f"Train {name}.", dataset, "paper", recipe, folder, Shortcuts(), parent
    )


@pytest.fixture
def train(dataset, out) -> TrainJob:
    return make_train("a", dataset, out)


@pytest.fixture
def child(dataset, train, out) -> TrainJob:
    """A training that begins with the first one's last checkpoint."""
    return make_train("b", dataset, out, train)


@pytest.fixture
def measure(train, out) -> EvalJob:
    return EvalJob("eval-a", "Measure a.", train, out / "predictions" / "a.npz")


@pytest.fixture
def average(measure) -> EnsembleJob:
    return EnsembleJob("ensemble-a", "Average.", (measure, measure))


@pytest.fixture
def run(commands):
    """Run jobs in turn; returns their results."""
    return lambda *jobs: [finish_job(job, commands) for job in jobs]


def longer(job: TrainJob, epochs: int = 9) -> TrainJob:
    return replace(job, recipe=replace(job.recipe, epochs=epochs))


def with_train(job: EvalJob, train: TrainJob) -> EvalJob:
    return replace(job, train=train)


# --- what is done is not run again


def test_job_gives_what_its_command_gave(run, commands, train, measure, average):
    assert run(train, measure, average) == [{"epochs": EPOCHS}, {"call": 2}, {"call": 3}]
    assert commands.verbs() == ["train", "eval", "ensemble"]
    assert commands.calls[1:] == [job_arguments(measure), job_arguments(average)]
    assert commands.purposes == ["Train a.", "Measure a.", "Average."]


def test_trainings_and_measurements_run_once_and_averages_always(
    run, commands, train, measure, average
):
    for _ in range(3):
        run(train, measure, average)
    assert commands.verbs() == ["train", "eval", "ensemble", "ensemble", "ensemble"]


def test_finished_run_is_as_long_as_its_checkpoint_says(run, commands, train):
    run(longer(train, 5))
    assert run(longer(train, 4)) == [{"epochs": 5}]
    assert len(commands.calls) == 1


def test_errors_of_finished_measurement_are_those_of_its_predictions(run, train, measure):
    run(train, measure)
    found = load_predictions(measure.predictions)
    ten, center = (score(probs, found.labels) for probs in (found.probs, found.center_probs))
    (result,) = run(measure)
    assert result["images"] == 2
    assert (result["top1_error"], result["top5_error"]) == (ten.top1_error, ten.top5_error)
    assert result["center"]["top1_error"] == center.top1_error
    assert result["center"]["top5_error"] == center.top5_error
    assert ten != center


def test_another_purpose_is_no_reason_to_run_again(run, commands, train, measure):
    run(train, measure)
    run(*(replace(job, purpose="In other words.") for job in (train, measure)))
    assert len(commands.calls) == 2


@pytest.mark.parametrize("shortcuts", [Shortcuts(device="cuda"), Shortcuts(None, (), "cuda", 2)])
def test_another_place_is_no_reason_to_run_again(run, commands, train, measure, shortcuts):
    run(train, measure)
    moved = replace(train, shortcuts=shortcuts)
    run(moved, with_train(measure, moved))
    assert len(commands.calls) == 2


def test_run_that_reached_its_goal_early_is_finished(run, commands, train):
    recipe = replace(train.recipe, until_train_error=0.25)
    at = TrainState(epoch=1, train_errors=[0.2])
    save(train.last, 1, recipe=recipe, train_state=at)
    assert run(replace(train, recipe=recipe)) == [{"epochs": 1}]
    assert commands.calls == []


# --- what is not done


@pytest.mark.parametrize("epochs", [0, 1, EPOCHS - 1])
def test_unfinished_run_is_resumed(run, commands, train, epochs):
    errors = [0.9] * epochs
    save(train.last, 1, train_state=TrainState(epoch=epochs, train_errors=errors))
    assert run(train) == [{"epochs": EPOCHS}]
    assert option(commands.calls[0], "--epochs") == str(EPOCHS)
    assert commands.calls[0][-1] == "--resume"


def test_run_is_trained_on_and_measured_again_after_its_epochs_changed(
    run, commands, train, measure
):
    run(train, measure)
    more = longer(train)
    assert run(more, with_train(measure, more))[0] == {"epochs": 9}
    run(more, with_train(measure, more))
    assert commands.verbs() == ["train", "eval"] * 2


def test_run_of_another_recipe_is_left_to_train_to_refuse(run, commands, train):
    run(train)
    settings = ("seed=5",)
    recipe = with_settings(train.recipe, list(settings))
    run(replace(train, recipe=recipe, shortcuts=Shortcuts(settings=settings)))
    assert "--set=seed=5" in commands.calls[1]
    assert commands.calls[1][-1] == "--resume"


def test_jobs_run_again_after_their_dataset_changed(run, commands, dataset, train, measure):
    run(train, measure)
    changed = replace(train, dataset=replace(dataset, fingerprint=OTHER))
    run(changed, with_train(measure, changed))
    assert commands.verbs() == ["train", "eval"] * 2


def test_failed_command_leaves_its_job_to_be_done(run, train, measure, commands):
    def fail(job: Job) -> dict:
        raise JobError(job.name, 3)

    run(train)
    with pytest.raises(JobError, match="eval"):
        finish_job(measure, fail)
    run(train, measure)
    assert commands.verbs() == ["train", "eval"]


def test_lost_predictions_are_measured_again_and_nothing_else(run, commands, train, measure):
    run(train, measure)
    measure.predictions.unlink()
    run(train, measure)
    assert commands.verbs() == ["train", "eval", "eval"]


@pytest.mark.parametrize(
    "content", [b"", b"PK\x03\x04", b"{}", b"\x93NUMPY", b"\x00" * 1000, "half", "folder"]
)
def test_damaged_predictions_are_measured_again(run, commands, train, measure, content):
    run(train, measure)
    whole = measure.predictions.read_bytes()
    measure.predictions.unlink()
    if content == "folder":
        measure.predictions.mkdir()
        assert measure.find_result() is None
        return
    measure.predictions.write_bytes(whole[: len(whole) // 2] if content == "half" else content)
    run(measure)
    assert commands.verbs() == ["train", "eval", "eval"]
    assert measure.predictions.read_bytes() == whole


@pytest.mark.parametrize(
    "changes",
    [
        {"weights_hash": OTHER},
        {"fingerprint": OTHER},
        {"split": "test"},
        {"views": 1},
        {"views": 9},
    ],
)
def test_predictions_of_something_else_are_measured_again(run, commands, train, measure, changes):
    run(train)
    save_predictions(measure.predictions, train.last)
    run(measure)
    assert commands.verbs() == ["train"]
    save_predictions(measure.predictions, train.last, **changes)
    run(measure)
    assert commands.verbs() == ["train", "eval"]


def test_predictions_made_by_hand_are_used(run, commands, train, measure):
    run(train)
    save_predictions(measure.predictions, train.last)
    run(train, measure)
    assert commands.verbs() == ["train"]


def test_run_whose_folder_is_lost_is_begun_again(run, commands, train):
    run(train)
    train.last.unlink()
    train.folder.rmdir()
    run(train)
    assert commands.calls[1] == commands.calls[0] == job_arguments(train)[:-1]


def test_damaged_checkpoint_ends_the_reproduction(run, commands, train):
    run(train)
    train.last.write_bytes(train.last.read_bytes()[:-4])
    with pytest.raises(CheckpointError, match=r"last\.safetensors"):
        run(train)
    assert len(commands.calls) == 1


# --- runs that begin with the weights of others


def weights(out: Path) -> dict[str, float]:
    """Return the weight of every run's last checkpoint, by the name of its folder."""
    return {
        path.parent.name: load_checkpoint(path).weights["conv1.bias"].item()
        for path in out.glob("runs/*/last.safetensors")
    }


def begins(call: list[str], job: TrainJob) -> bool:
    """Tell whether a command begins a run with its parent's last checkpoint."""
    return call[-2:] == ["--init-from", str(job.parent.last)]


def test_run_whose_parent_changed_is_begun_again_and_its_folder_kept(
    run, commands, train, child, out
):
    for epochs in (3, 5, 7):
        run(longer(train, epochs), child)
    assert all(begins(call, child) for call in commands.calls[1::2])
    assert weights(out) == {"a": 5, "b.old-1": 2, "b.old-2": 4, "b": 6}


def test_run_whose_parent_was_begun_again_is_begun_again(run, commands, dataset, train, child, out):
    grandchild = make_train("c", dataset, out, child)
    run(train, child, grandchild, longer(train), child, grandchild)
    assert ["--resume" in call for call in commands.calls] == [False] * 3 + [True, False, False]
    assert weights(out) == {"a": 4, "b": 5, "b.old-1": 2, "c": 6, "c.old-1": 3}


def test_run_whose_parent_is_the_same_is_trained_on(run, commands, train, child, out):
    run(train, child, train, longer(child))
    assert commands.calls[2:] == [job_arguments(longer(child))]
    assert commands.calls[2][-1] == "--resume"
    assert weights(out) == {"a": 1, "b": 3}


def test_run_is_done_if_its_parent_was_trained_to_the_same_weights(
    run, commands, train, child, out
):
    run(train, child)
    save(train.last, 1, train_state=TrainState(epoch=9))
    run(longer(train), child)
    assert len(commands.calls) == 2
    assert weights(out) == {"a": 1, "b": 2}


@pytest.mark.parametrize("init_from", [{}, {"weights": ""}, {"recipe": "demo"}])
def test_run_that_does_not_say_how_it_began_is_begun_again(
    run, commands, train, child, out, init_from
):
    run(train)
    save(child.last, 7, init_from=init_from)
    run(child)
    assert begins(commands.calls[1], child)
    assert weights(out) == {"a": 1, "b.old-1": 7, "b": 2}


def test_run_that_begins_with_nothing_is_trained_on(run, commands, train, out):
    run(train, longer(train))
    assert commands.calls[1][-1] == "--resume"
    assert [path.name for path in (out / "runs").iterdir()] == ["a"]


def stop(job: TrainJob) -> None:
    """Run a training that is stopped and saved after an epoch."""
    with pytest.raises(JobError):
        finish_job(job, Commands(stop_after=1))


def test_stopped_run_is_resumed(run, commands, train, child, out):
    run(train)
    stop(child)
    run(child)
    assert commands.calls[1][-1] == "--resume"
    assert set(weights(out)) == {"a", "b"}


def test_stopped_run_whose_parent_changed_is_begun_again(run, commands, train, child, out):
    run(train)
    stop(child)
    run(longer(train), child)
    assert begins(commands.calls[-1], child)
    assert weights(out) == {"a": 2, "b.old-1": 1, "b": 3}


def test_run_begun_again_and_then_stopped_is_resumed(run, commands, train, child, out):
    run(train, child, longer(train))
    stop(child)
    run(child)
    assert commands.calls[-1][-1] == "--resume"
    assert set(weights(out)) == {"a", "b.old-1", "b"}


def test_plan_runs_once_wherever_it_runs(run, dataset, commands, out):
    rows = TABLES["ilsvrc-2012"].choose(["1 CNN*"])
    datasets = {name: replace(dataset, name=name) for name in OFFICIAL_SETS}
    places = [Shortcuts(device="cpu"), Shortcuts(device="cuda", num_devices=2), Shortcuts()]
    for shortcuts in places:
        jobs, _ = plan_rows(rows, datasets, out, shortcuts)
        run(*jobs)
    assert commands.verbs() == ["train"] * 4 + ["eval"]
    assert not list((out / "runs").glob("*.old-*"))


# --- folders that no run can be resumed in


@pytest.mark.parametrize("has_parent", [False, True])
def test_folder_without_a_last_checkpoint_is_set_aside_for_its_best(
    run, commands, train, child, out, has_parent
):
    run(train)
    job = child if has_parent else make_train("b", train.dataset, out)
    job.folder.mkdir(parents=True)
    (job.folder / "best.safetensors").write_text("best")
    run(job)
    assert "--resume" not in commands.calls[1]
    assert has_parent == ("--init-from" in commands.calls[1])
    assert (out / "runs" / "b.old-1" / "best.safetensors").read_text() == "best"
    assert [path.name for path in job.folder.iterdir()] == ["last.safetensors"]


def test_folder_without_any_checkpoint_is_left_in_its_place(run, commands, train, out):
    train.folder.mkdir(parents=True)
    (train.folder / "recipe.json").touch()
    run(train)
    assert "--resume" not in commands.calls[0]
    assert [path.name for path in (out / "runs").iterdir()] == ["a"]


def test_folder_whose_job_is_done_is_never_set_aside(run, commands, train, child, out):
    run(train, child)
    for job in (train, child):
        (job.folder / "best.safetensors").touch()
    run(train, child)
    assert len(commands.calls) == 2
    assert not list((out / "runs").glob("*.old-*"))


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

BEGIN = ["--recipe", "paper", "--epochs", "3"]


def test_new_run_is_begun(train):
    assert job_arguments(train) == ["train", "shards/a", "--run", str(train.folder), *BEGIN]


def test_run_with_a_checkpoint_is_resumed(train, child):
    for job in (train, child):
        command = ["train", "shards/a", "--run", str(job.folder), *BEGIN, "--resume"]
        job.folder.mkdir(parents=True)
        job.last.touch()
        assert job_arguments(job) == command


def test_run_stopped_before_its_first_checkpoint_is_begun_again(train):
    before = job_arguments(train)
    train.folder.mkdir(parents=True)
    (train.folder / "recipe.json").touch()
    assert job_arguments(train) == before


def test_new_run_begins_with_the_last_checkpoint_of_its_parent(child):
    assert job_arguments(child)[-2:] == [
        "--init-from",
        str(child.parent.folder / "last.safetensors"),
    ]


def test_rest_of_a_trial_is_planned_as_resumed(train):
    assert job_arguments(replace(train, follows_trial=True)) == [*job_arguments(train), "--resume"]


def test_looking_at_a_command_line_writes_nothing(out, train, child, measure, average):
    jobs: list[Job] = [train, child, measure, average]
    assert [job_arguments(job)[0] for job in jobs] == ["train", "train", "eval", "ensemble"]
    assert not out.exists()
