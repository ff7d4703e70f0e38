"""Training: stopped anywhere and resumed it is the run that was never stopped; some 15 seconds."""

import io
import json
import math
import os
import shutil
import signal
import tracemalloc
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import CPU, Listener, assert_near, flip, predict_checkpoint, read_last, resume, train
from PIL import Image
from torch.nn import functional as F

from alexnet_cli.cli import hints
from alexnet_cli.data.batches.loader import epoch_order
from alexnet_cli.data.batches.readers import ProcessReader
from alexnet_cli.data.dataset_ref import DatasetRef
from alexnet_cli.data.pixel_stats import load_pixel_stats
from alexnet_cli.data.shards.dataset import open_dataset
from alexnet_cli.distributed.device_plan import Runtime
from alexnet_cli.errors import (
    DatasetError,
    DivergedError,
    InputError,
    MachineError,
    Stopped,
    UsageError,
)
from alexnet_cli.inference import predict_split
from alexnet_cli.inference.metrics import score
from alexnet_cli.io.progress import SILENT
from alexnet_cli.model.architecture import layers_of
from alexnet_cli.model.checkpoint import load_checkpoint
from alexnet_cli.model.network import AlexNet
from alexnet_cli.model.split import whole_state
from alexnet_cli.recipes.recipe import Milestone, Recipe
from alexnet_cli.training import metrics_logger
from alexnet_cli.training import trainer as trainer_module
from alexnet_cli.training.run import TrainRequest
from alexnet_cli.training.run import train as train_run
from alexnet_cli.training.run_directory import RunDirectory
from alexnet_cli.training.train_step import TrainStep
from alexnet_cli.training.trainer import Trainer

NUM_STEPS = 4  # an epoch: 60 images, 16 a step


class Bell:
    """A progress that raises a signal after a number of updates, or when an epoch is reported."""

    def __init__(self, *, step: int = 0, epoch: int = 0, number: int = signal.SIGTERM):
        self.step, self.epoch, self.number = step, epoch, number
        self.num_steps = 0

    def say(self, line: str) -> None:
        if str(line).startswith(f"epoch {self.epoch}/"):
            signal.raise_signal(self.number)

    @contextmanager
    def track(self, what: str, total: int):
        yield self

    def advance(self, count: int = 1, note: str = "") -> None:
        if note:  # a train step; validation has no note
            self.num_steps += 1
            if self.num_steps == self.step:
                signal.raise_signal(self.number)


def plain(recipe: Recipe) -> Recipe:
    """Return the recipe without dropout, whose masks differ when layers are split."""
    return replace(
        recipe, fc6=replace(recipe.fc6, dropout=0.0), fc7=replace(recipe.fc7, dropout=0.0)
    )


def build_trainer(
    recipe: Recipe, dataset: Path, run: Path, progress=SILENT, num_classes: int = 10
) -> Trainer:
    opened = open_dataset(dataset)
    stats = load_pixel_stats(dataset, opened.fingerprint)
    train_step = TrainStep(recipe, num_classes, stats, Runtime((CPU,)))
    return Trainer(train_step, opened, RunDirectory(run), progress)


def read_log(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


MEASURED = {"images_per_second", "data_wait", "memory_mb"}


def read_log_without_speed(run: Path) -> list[dict]:
    return [{n: value for n, value in row.items() if n not in MEASURED} for row in read_log(run)]


def assert_same_run(found: Path, expected: Path) -> None:
    """Compare bit for bit: the resumable and the best checkpoint, and the log but for its speed."""
    assert read_log_without_speed(found) == read_log_without_speed(expected)
    for name in ("last.safetensors", "best.safetensors"):
        assert (found / name).read_bytes() == (expected / name).read_bytes(), name


def stop(dataset: Path, run: Path, recipe: Recipe, bell: Bell) -> Stopped:
    with pytest.raises(Stopped) as caught:
        train(dataset, run, recipe, progress=bell)
    return caught.value


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    """Networks this small wait for one another's threads longer than they compute."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def recipe(tiny_recipe) -> Recipe:
    """Two epochs of four steps."""
    return tiny_recipe


@pytest.fixture(scope="module")
def straight(dataset, recipe, tmp_path_factory, _one_thread) -> Path:
    """The run of that recipe that was never stopped. Read only."""
    run = tmp_path_factory.mktemp("straight") / "run"
    train(dataset, run, recipe)
    return run


# --- stopping and going on


@pytest.mark.parametrize("step", [1, 3, NUM_STEPS, NUM_STEPS + 1, NUM_STEPS + 2, 2 * NUM_STEPS])
def test_run_stopped_after_any_step_resumes_to_the_run_never_stopped(
    dataset, straight, recipe, tmp_path, step: int
):
    stop(dataset, tmp_path / "run", recipe, Bell(step=step))
    assert read_last(tmp_path / "run").train_state.total_steps == step

    resume(dataset, tmp_path / "run", None)

    assert_same_run(tmp_path / "run", straight)


def test_run_stopped_between_epochs_resumes_to_the_run_never_stopped(
    dataset, straight, recipe, tmp_path
):
    stop(dataset, tmp_path / "run", recipe, Bell(epoch=1))
    assert read_last(tmp_path / "run").train_state.epoch == 1

    resume(dataset, tmp_path / "run", recipe)

    assert_same_run(tmp_path / "run", straight)


def test_run_stopped_again_and_again_resumes_to_the_run_never_stopped(
    dataset, straight, recipe, tmp_path
):
    run = tmp_path / "run"
    stop(dataset, run, recipe, Bell(step=1))
    for _ in range(4):
        with pytest.raises(Stopped):
            resume(dataset, run, None, progress=Bell(step=1))

    resume(dataset, run, None)

    assert_same_run(run, straight)


@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_stopped_run_reports_the_signal_and_how_to_resume(
    dataset, recipe, tmp_path, number, exit_code: int
):
    stopped = stop(dataset, tmp_path / "run", recipe, Bell(step=2, number=number))

    assert stopped.exit_code == exit_code
    assert "epoch 1, step 2" in stopped.problem
    assert "--resume" in hints.message(stopped)


def test_signal_after_the_last_epoch_finds_the_run_finished(dataset, straight, recipe, tmp_path):
    train(dataset, tmp_path / "run", recipe, progress=Bell(epoch=2))

    assert_same_run(tmp_path / "run", straight)


@pytest.mark.parametrize("num_syncs", range(4))
def test_run_whose_disk_failed_after_an_epoch_resumes_to_the_run_never_stopped(
    dataset, straight, recipe, tmp_path, monkeypatch, num_syncs: int
):
    """Resuming syncs the log twice, then the epoch's end syncs best and last twice each."""
    run = tmp_path / "run"
    stop(dataset, run, recipe, Bell(step=2))
    done, real_fsync = [], os.fsync

    def fail(descriptor):
        if len(done) == 2 + num_syncs:
            raise OSError(28, "No space left on device")
        done.append(real_fsync(descriptor))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises((OSError, MachineError), match="No space"):
            resume(dataset, run, None)

    resume(dataset, run, None)

    assert_same_run(run, straight)


def test_run_on_two_devices_is_resumed_on_one(dataset, recipe, tmp_path):
    train(dataset, tmp_path / "straight", plain(recipe))
    bell = Bell(step=NUM_STEPS + 2)
    with pytest.raises(Stopped):
        train(dataset, tmp_path / "run", plain(recipe), num_devices=2, progress=bell)

    resume(dataset, tmp_path / "run", None)

    assert_near(tmp_path / "run", tmp_path / "straight")


# --- two devices


def test_two_devices_learn_what_one_does(dataset, recipe, tmp_path):
    for num_devices in (1, 2):
        run = tmp_path / str(num_devices)
        train(dataset, run, plain(recipe), num_devices=num_devices)

    assert_near(tmp_path / "2", tmp_path / "1")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_cuda_learns_what_the_cpu_does(dataset, recipe, tmp_path):
    for device in ("cpu", "cuda"):
        train(dataset, tmp_path / device, plain(recipe), device=device)

    losses = [[row["train_loss"] for row in read_log(tmp_path / d)] for d in ("cpu", "cuda")]
    assert losses[1] == pytest.approx(losses[0], rel=1e-2)


def test_network_of_one_column_on_two_devices_is_refused_before_the_run_begins(
    dataset, recipe, tmp_path
):
    where = {"device": "cpu", "num_devices": 2, "columns": 2}
    with pytest.raises(UsageError, match="runs on 1 device"):
        train(dataset, tmp_path / "run", replace(recipe, columns=1), **where)

    assert not (tmp_path / "run").exists()


# --- what is learned


def test_network_overfits_its_training_images(dataset, recipe, tmp_path):
    still = replace(plain(recipe), random_crop=False, mirror=False, color_noise=0.0)

    train(dataset, tmp_path / "run", replace(still, epochs=20))

    log = read_log(tmp_path / "run")
    assert log[0]["train_loss"] > 2
    assert log[-1]["train_loss"] < 1.5  # chance level is ln 10 = 2.3
    assert log[-1]["train_top1_error"] < 0.5


def test_same_seed_learns_the_same_and_another_does_not(dataset, straight, recipe, tmp_path):
    train(dataset, tmp_path / "run", recipe)

    assert_same_run(tmp_path / "run", straight)
    train(dataset, tmp_path / "other", replace(recipe, seed=1))
    assert read_log_without_speed(tmp_path / "other") != read_log_without_speed(straight)


def test_first_update_is_that_of_the_paper_on_the_first_batch(dataset, recipe, tmp_path):
    """One step by hand: v = -rate * (gradient + decay * w), from the same crops."""
    recipe = replace(plain(recipe), epochs=1, batch_size=60)
    trainer = build_trainer(recipe, dataset, tmp_path / "run")
    trainer.start()
    before, seen = whole_state(trainer.train_step.net), []
    before = {name: tensor.clone() for name, tensor in before.items()}
    trainer.train_step.net.register_forward_pre_hook(
        lambda _, inputs: seen.append(inputs[0].clone())
    )
    labels = []
    real_loss = F.cross_entropy

    def note_labels(scores, target, **how):
        labels.append(target.clone())
        return real_loss(scores, target, **how)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(F, "cross_entropy", note_labels)
        RunDirectory(tmp_path / "run").create(recipe)
        trainer.train()

    by_hand = build_trainer(recipe, dataset, tmp_path / "other")
    by_hand.start()
    scores = by_hand.train_step.net(seen[0])
    loss = -scores.log_softmax(dim=1)[torch.arange(60), labels[0]].mean()
    loss.backward()
    after = whole_state(trainer.train_step.net)
    for name, parameter in by_hand.train_step.net.named_parameters():
        decay = recipe.weight_decay if name.endswith("weight") else 0.0
        step = -recipe.learning_rate * (parameter.grad + decay * before[name])
        torch.testing.assert_close(after[name], before[name] + step, rtol=1e-5, atol=1e-6)


def test_no_two_updates_draw_the_same_crops_and_masks(dataset, recipe, tmp_path):
    """Masks are drawn from the generator that crops are drawn from."""
    masks = []
    for seed in (0, 1):
        trainer = build_trainer(replace(recipe, seed=seed), dataset, tmp_path / str(seed))
        trainer.run.create(trainer.recipe)
        trainer.start()
        trainer.train_step.net.register_forward_pre_hook(
            lambda net, _: masks.append(net.drop6.mask.numpy().tobytes()) if net.training else None
        )
        trainer.train()

    assert len(masks) == len(set(masks)) == 2 * 2 * NUM_STEPS


# --- what is kept


def test_log_has_a_row_per_epoch_with_the_learning_rate_of_its_last_update(straight, recipe):
    log = read_log(straight)

    assert [(row["epoch"], row["steps"]) for row in log] == [(1, NUM_STEPS), (2, 2 * NUM_STEPS)]
    # Linear from 0.005 at the start to 0 after 8 updates.
    rates = [recipe.learning_rate * (1 - step / 8) for step in (3, 7)]
    assert [row["learning_rate"] for row in log] == pytest.approx(rates)


def test_best_is_the_first_epoch_with_the_least_validation_error(dataset, runs):
    for run in (runs.first, runs.second):
        errors = [row["val"]["top1_error"] for row in read_log(run)]
        best = load_checkpoint(run / "best.safetensors").train_state

        assert best.epoch == 1 + errors.index(min(errors))
        assert best.best["top1_error"] == min(errors)


def test_epoch_that_is_no_better_than_the_best_does_not_replace_it(dataset, recipe, tmp_path):
    result = train(dataset, tmp_path / "run", replace(recipe, learning_rate=0.0))

    first, second = (row["val"]["top1_error"] for row in read_log(tmp_path / "run"))
    assert first == second
    assert result.best["epoch"] == 1


def test_best_checkpoint_has_the_scores_of_the_log(dataset, runs):
    path = runs.first / "best.safetensors"

    found = predict_checkpoint(path, dataset, "val", 1)

    row = read_log(runs.first)[load_checkpoint(path).train_state.epoch - 1]["val"]
    scores = score(found.probs, found.labels)
    assert row == {
        "top1_error": scores.top1_error,
        "top5_error": scores.top5_error,
        "log_loss": pytest.approx(scores.log_loss),
    }


def test_checkpoint_carries_all_it_takes_to_use_it(dataset, straight, recipe):
    found = load_checkpoint(straight / "best.safetensors")

    opened = open_dataset(dataset)
    stats = load_pixel_stats(dataset, opened.fingerprint)
    assert found.recipe == recipe
    assert found.fingerprint == opened.fingerprint
    assert found.classes == [(entry.wnid, entry.name) for entry in opened.classes]
    assert np.array_equal(found.pixels["mean_image"], stats.mean_image)
    assert np.array_equal(found.pixels["eigenvalues"], stats.eigenvalues)
    assert np.array_equal(found.pixels["eigenvectors"], stats.eigenvectors)


def test_plateau_ends_the_run_when_nothing_improves(dataset, recipe, tmp_path):
    never = replace(recipe, schedule="plateau", patience=1, drops=1, min_improvement=1.0, epochs=9)

    result = train(dataset, tmp_path / "run", never)

    rates = [row["learning_rate"] for row in read_log(tmp_path / "run")]
    # The first epoch cannot fail to improve; the second drops the rate; the third ends it.
    assert result.epochs == 3
    assert rates == pytest.approx([0.005, 0.005, 0.0005])


def test_dataset_without_validation_trains_to_its_last_epoch(dataset, recipe, tmp_path):
    trainer = build_trainer(replace(recipe, epochs=1), dataset, tmp_path / "run")
    trainer.dataset.splits.pop("val")
    trainer.run.create(trainer.recipe)
    trainer.start()

    trainer.train()

    assert trainer.state.best == {"epoch": 1, "top1_error": None, "top5_error": None}
    assert "val" not in read_log(tmp_path / "run")[0]


def test_run_is_kept_from_other_processes_while_it_trains(dataset, recipe, tmp_path):
    run, refused = RunDirectory(tmp_path / "run"), []

    class Intruder(Bell):
        def say(self, line: str) -> None:
            if str(line).startswith("epochs of"):  # said before anything begins
                return
            with pytest.raises(MachineError, match="in use by") as caught, run.locked():
                pass
            refused.append((str(line).split(":")[0], caught.value.exit_code))

    train(dataset, run.path, replace(recipe, epochs=1), progress=Intruder())
    resume(dataset, run.path, None, 2, progress=Intruder())

    epochs = [entry for entry in refused if entry[0].startswith("epoch")]
    assert epochs == [("epoch 1/1", 4), ("epoch 2/2", 4)]
    with run.locked():
        pass


# --- a goal


def reaching(recipe: Recipe, goal: float) -> Recipe:
    """Return ten epochs of learning the same crops, which end at a training error."""
    still = replace(plain(recipe), random_crop=False, mirror=False, color_noise=0.0)
    return replace(
        still, schedule="milestones", learning_rate=0.01, until_train_error=goal, epochs=10
    )


@pytest.fixture(scope="module")
def train_errors(dataset, recipe, tmp_path_factory) -> list[float]:
    """Training error after each of ten epochs without a goal."""
    run = tmp_path_factory.mktemp("without") / "run"
    train(dataset, run, reaching(recipe, 0.0))
    return [row["train_top1_error"] for row in read_log(run)]


def test_run_without_a_goal_trains_to_its_last_epoch(train_errors):
    assert len(train_errors) == 10
    assert train_errors[-1] < train_errors[0]


def test_run_ends_after_the_first_epoch_that_reaches_its_goal(
    dataset, recipe, tmp_path, train_errors
):
    goal = sorted(train_errors)[3]  # equal to an epoch's error: no more is enough
    num_epochs = 1 + next(i for i, error in enumerate(train_errors) if error <= goal)
    assert 1 < num_epochs < 10

    result = train(dataset, tmp_path / "run", reaching(recipe, goal))

    assert result.epochs == num_epochs
    log = read_log(tmp_path / "run")
    assert [row["train_top1_error"] for row in log] == train_errors[:num_epochs]
    assert read_last(tmp_path / "run").train_state.train_errors == train_errors[:num_epochs]


def test_run_that_reached_its_goal_trains_nothing_more_when_resumed(
    dataset, recipe, tmp_path, train_errors
):
    run = tmp_path / "run"
    first = train(dataset, run, reaching(recipe, max(train_errors[1:])), device="cpu")
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    assert first.epochs < 10

    for num_epochs in (None, 20):
        result = resume(dataset, run, None, num_epochs)
        assert (result.epochs, result.steps) == (first.epochs, first.steps)
        assert result.images_per_second is None

    assert {path.name: path.read_bytes() for path in run.iterdir() if path.suffix != ".json"} == {
        name: content for name, content in before.items() if not name.endswith(".json")
    }


def test_run_stopped_before_its_goal_resumes_to_the_run_never_stopped(
    dataset, recipe, tmp_path, train_errors
):
    wanted = reaching(recipe, max(train_errors[1:]))
    straight = train(dataset, tmp_path / "straight", wanted)
    stop(dataset, tmp_path / "run", wanted, Bell(step=3))

    assert resume(dataset, tmp_path / "run", None).epochs == straight.epochs

    assert_same_run(tmp_path / "run", tmp_path / "straight")


# --- when the network does not learn


class Lines(Bell):
    """A progress that keeps the lines that stay."""

    def __init__(self, *, epoch: int = 0):
        super().__init__(epoch=epoch)
        self.lines = []

    def say(self, line: str) -> None:
        self.lines.append(hints.sentence(line))
        super().say(line)


def notices(lines: list[str]) -> list[str]:
    """Return the lines that report a run that is not learning."""
    return [line for line in lines if "still at chance level" in line]


def test_run_that_is_not_learning_is_reported_after_a_quarter_of_its_epochs(
    dataset, recipe, tmp_path
):
    said, slow = Lines(), replace(recipe, learning_rate=1e-9, epochs=8)

    train(dataset, tmp_path / "run", slow, progress=said)

    losses = [row["train_loss"] for row in read_log(tmp_path / "run")]
    found = notices(said.lines)
    assert found[-1] == (
        f"Loss {losses[-1]:.3f} is still at chance level (ln 10 = 2.303) after 8 epochs."
    )
    assert min(losses) > 0.99 * math.log(10)
    falls = np.array(losses[:-1]) - losses[1:]  # from each epoch to the next
    flat = [epoch for epoch in range(3, 8) if falls[epoch - 2] < 0.01 * math.log(10)]
    assert flat
    assert [int(line.split()[-2]) for line in found] == [*flat, 8]
    recipe_path = tmp_path / "run" / "recipe.json"
    assert said.lines[-1].endswith(f"alexnet check {recipe_path} --data {dataset}")


def test_run_that_is_not_learning_is_reported_after_it_was_resumed(dataset, recipe, tmp_path):
    slow, straight, rest = replace(recipe, learning_rate=1e-9, epochs=8), Lines(), Lines()
    train(dataset, tmp_path / "straight", slow, progress=straight)
    first = Lines(epoch=4)
    stop(dataset, tmp_path / "run", slow, first)

    resume(dataset, tmp_path / "run", None, progress=rest)

    assert notices(first.lines) + notices(rest.lines) == notices(straight.lines)


def test_report_of_a_run_that_is_not_learning_has_the_std_of_its_scores(dataset, recipe, tmp_path):
    """By numpy, from the checkpoint: the center crops of the first images in stored order."""
    said = Lines()
    slow = replace(recipe, learning_rate=1e-9, epochs=1)
    train(dataset, tmp_path / "run", slow, progress=said)

    checkpoint, split = read_last(tmp_path / "run"), open_dataset(dataset).split("train")
    images = [np.asarray(Image.open(io.BytesIO(split.jpeg(i)))) for i in range(len(split))]
    middle = slice((112 - 99) // 2, (112 - 99) // 2 + 99)
    mean = checkpoint.pixels["mean_image"]
    crops = (np.stack(images) - mean)[:, middle, middle].transpose(0, 3, 1, 2)
    net = AlexNet(recipe, 10).eval()
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            parameter.copy_(torch.from_numpy(checkpoint.weights[name]))
        scores = net(torch.from_numpy(np.ascontiguousarray(crops))).double().numpy()
    spread = np.sqrt(scores.var(axis=0).mean())
    scores_text, layer_text = said.lines[2].split(". Images are most alike after layer ")
    assert float(scores_text.split()[-1]) == pytest.approx(spread, rel=0.06)  # two digits are shown
    assert layer_text.split(":")[0] in [layer.name for layer in layers_of(recipe, 10)]


def test_run_of_dead_units_names_the_layer_after_which_images_are_alike(dataset, recipe, tmp_path):
    said = Lines()
    dead = replace(recipe, conv3=replace(recipe.conv3, init_std=0.0, init_bias=-1.0), epochs=1)

    train(dataset, tmp_path / "run", dead, progress=said)

    assert "after layer conv3: standard deviation 0, rms 1." in said.lines[2]


def test_run_that_learns_is_not_reported(dataset, recipe, tmp_path):
    said, still = Lines(), reaching(recipe, 0.0)

    train(dataset, tmp_path / "run", replace(still, epochs=16), progress=said)

    losses = [row["train_loss"] for row in read_log(tmp_path / "run")]
    assert losses[0] >= 0.99 * math.log(10) > losses[-1]
    assert notices(said.lines) == []


def test_run_on_two_devices_is_reported_in_the_same_words(dataset, recipe, tmp_path):
    found = []
    for num_devices in (1, 2):
        said, slow = Lines(), replace(plain(recipe), learning_rate=1e-9, epochs=1)
        where = {"device": "cpu", "num_devices": num_devices, "progress": said}
        train(dataset, tmp_path / str(num_devices), slow, **where)
        found.append(said.lines[1:])

    assert found[0][:2] == found[1][:2]
    assert len(found[0]) == len(found[1]) == 3


# --- when the loss is no number


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_loss_that_is_no_number_stops_before_the_update(
    dataset, recipe, tmp_path, monkeypatch, wrong: float
):
    after_each, calls, real_loss = [], [], F.cross_entropy

    class Watch(Bell):
        def advance(self, count: int = 1, note: str = "") -> None:
            if note:
                state = whole_state(trainer.train_step.net)
                after_each.append({name: tensor.clone() for name, tensor in state.items()})

    def overflow(scores, labels, **how):
        calls.append(labels)
        loss = real_loss(scores, labels, **how)
        return loss + wrong if len(calls) == 3 else loss

    monkeypatch.setattr(F, "cross_entropy", overflow)
    trainer = build_trainer(recipe, dataset, tmp_path / "run", Watch())
    trainer.run.create(recipe)
    trainer.start()
    with pytest.raises(DivergedError, match="epoch 1, step 2") as caught:
        trainer.train()

    assert caught.value.exit_code == 6
    assert len(after_each) == 2
    now = whole_state(trainer.train_step.net)
    assert all(torch.equal(now[name], tensor) for name, tensor in after_each[-1].items())


def test_diverging_run_keeps_its_last_checkpoint(dataset, recipe, tmp_path, monkeypatch):
    run, real_loss = tmp_path / "run", F.cross_entropy
    stop(dataset, run, recipe, Bell(step=NUM_STEPS + 1))
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    sessions = json.loads(before.pop("environment.json"))["sessions"]

    monkeypatch.setattr(F, "cross_entropy", lambda *a, **b: real_loss(*a, **b) * math.nan)
    with pytest.raises(DivergedError, match="is kept"):
        resume(dataset, run, None)

    (run / "diverged.json").unlink()
    after = {path.name: path.read_bytes() for path in run.iterdir()}
    first, _ = json.loads(after.pop("environment.json"))["sessions"]
    assert [first] == sessions
    assert after == before


def test_network_that_overflows_in_validation_publishes_nothing(
    dataset, recipe, tmp_path, monkeypatch
):
    """The epoch's only update makes weights that are finite and scores that are not."""
    real_loss = F.cross_entropy
    monkeypatch.setattr(F, "cross_entropy", lambda *given, **how: real_loss(*given, **how) * 1e25)

    with pytest.raises(DivergedError, match="scores of val are not finite"):
        train(dataset, tmp_path / "run", replace(recipe, batch_size=60))

    kept = {path.name for path in (tmp_path / "run").iterdir()}
    assert kept == {"recipe.json", "environment.json", "diverged.json"}


# --- schedules set by hand, as in 2012


@pytest.fixture(scope="module")
def by_hand(recipe) -> Recipe:
    """Three epochs: conv1 rests after the first, the noise ends after the second."""
    return replace(
        recipe,
        epochs=3,
        schedule="milestones",
        milestones=(Milestone(epoch=1, lr=0.0, layers=("conv1",)), Milestone(epoch=2, lr=1e-4)),
        color_noise_epochs=2,
        share_crops=8,
        noise_rescaled=True,
        reshuffle=False,
        bias_lr_multiplier=2.0,
    )


def test_layer_at_rest_keeps_weights_and_biases(dataset, by_hand, tmp_path):
    train(dataset, tmp_path / "one", replace(by_hand, epochs=1))
    train(dataset, tmp_path / "all", by_hand)

    before, after = read_last(tmp_path / "one").weights, read_last(tmp_path / "all").weights
    for name in before:
        assert np.array_equal(before[name], after[name]) == name.startswith("conv1."), name


def test_noise_ends_and_the_stored_order_stays(dataset, by_hand, tmp_path, monkeypatch):
    noise, orders = [], []
    trainer = build_trainer(by_hand, dataset, tmp_path / "run")
    random, reader = trainer.train_step.augmenter.random, trainer_module.batches_of

    def note_noise(images, rng, *, with_noise, part):
        noise.append(with_noise)
        return random(images, rng, with_noise=with_noise, part=part)

    def note_order(split, batch_size, *, shuffle, **how):
        orders.append(shuffle)
        return reader(split, batch_size, shuffle=shuffle, **how)

    monkeypatch.setattr(trainer.train_step.augmenter, "random", note_noise)
    monkeypatch.setattr(trainer_module, "batches_of", note_order)
    trainer.run.create(by_hand)
    trainer.start()
    trainer.train()

    assert noise == [True] * 8 + [False] * 4
    assert orders == [None] * 3


def test_run_set_by_hand_resumes_to_the_run_never_stopped(dataset, by_hand, tmp_path):
    train(dataset, tmp_path / "straight", by_hand)
    stop(dataset, tmp_path / "run", by_hand, Bell(step=6))
    resume(dataset, tmp_path / "run", None)

    assert_same_run(tmp_path / "run", tmp_path / "straight")


def test_run_that_another_process_just_began_keeps_its_recipe(dataset, tiny_recipe, tmp_path):
    run = RunDirectory(tmp_path / "run")
    run.create(tiny_recipe)
    with run.locked(), pytest.raises(MachineError, match="Nothing was changed"):
        train(dataset, run.path, replace(tiny_recipe, seed=9))
    assert Recipe.from_json((run.path / "recipe.json").read_text()) == tiny_recipe


@pytest.mark.parametrize("left", ['{"epoch": 1, "train_loss": 9.0}\n', '{"epoch": 1, "tra'])
def test_run_that_begins_again_has_its_own_rows_only(dataset, tiny_recipe, tmp_path, left):
    run = RunDirectory(tmp_path / "run")
    run.create(tiny_recipe)
    run.log.write_text(left)
    train(dataset, run.path, tiny_recipe)
    assert [row["epoch"] for row in run.rows()] == [1, 2]
    assert run.rows()[0]["train_loss"] < 9


def test_run_whose_first_checkpoint_failed_advises_to_begin_with_its_weights(
    dataset, tiny_recipe, tmp_path, monkeypatch
):
    real, folder = os.fsync, tmp_path / "run"

    def fail(descriptor):
        has_best = (folder / "best.safetensors").exists()
        if has_best and not os.path.samestat(os.fstat(descriptor), folder.stat()):
            raise OSError(28, "No space left on device")
        real(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(MachineError, match="No space"):
            train(dataset, tmp_path / "run", tiny_recipe)

    with pytest.raises(InputError, match=r"contains best\.safetensors only") as caught:
        train(dataset, tmp_path / "run", tiny_recipe)
    assert f"--init-from {tmp_path}/run/best.safetensors begins" in hints.message(caught.value)
    best = tmp_path / "run" / "best.safetensors"
    assert train(dataset, tmp_path / "new", tiny_recipe, init_from=best).epochs == 2


def test_goal_that_every_epoch_reaches_still_trains_one(dataset, tiny_recipe, tmp_path):
    recipe = replace(tiny_recipe, until_train_error=1.0)
    result = train(dataset, tmp_path / "run", recipe)
    assert result.epochs == 1


def test_run_is_not_reported_while_its_learning_rate_still_rises(dataset, recipe, tmp_path):
    said, slow = Lines(), replace(recipe, learning_rate=1e-9, epochs=8, warmup_epochs=7.0)

    train(dataset, tmp_path / "run", slow, progress=said)

    assert [line.split()[-2:] for line in notices(said.lines)] == [["8", "epochs."]]


# --- averaged weights, smoothed labels


@pytest.fixture(scope="module")
def averaging(recipe) -> Recipe:
    """An average that lags behind: of all eight updates."""
    return replace(recipe, ema_decay=0.99, label_smoothing=0.1)


@pytest.fixture(scope="module")
def averaged(dataset, averaging, tmp_path_factory, _one_thread) -> Path:
    """The run of that recipe that was never stopped. Read only."""
    run = tmp_path_factory.mktemp("averaged") / "run"
    train(dataset, run, averaging)
    return run


@pytest.mark.parametrize("step", [1, NUM_STEPS + 2])
def test_averaging_run_stopped_after_any_step_resumes_to_the_run_never_stopped(
    dataset, averaged, averaging, tmp_path, step: int
):
    stop(dataset, tmp_path / "run", averaging, Bell(step=step))

    resume(dataset, tmp_path / "run", None)

    assert_same_run(tmp_path / "run", averaged)


def test_average_changes_what_is_validated_and_not_what_is_learned(
    dataset, averaged, averaging, tmp_path
):
    train(dataset, tmp_path / "run", replace(averaging, ema_decay=0.0))

    with_average, without = read_last(averaged), read_last(tmp_path / "run")
    for name, tensor in without.weights.items():
        assert np.array_equal(with_average.weights[name], tensor), name
        assert not np.array_equal(with_average.ema[name], tensor), name
    pairs = zip(read_log(averaged), read_log(tmp_path / "run"), strict=True)
    for row, other in pairs:
        assert row["train_loss"] == other["train_loss"]
        assert row["val"]["log_loss"] != other["val"]["log_loss"]


@pytest.mark.parametrize("name", ["best.safetensors", "last.safetensors"])
def test_averaged_checkpoint_has_the_scores_of_the_log(dataset, averaged, name: str):
    epoch = load_checkpoint(averaged / name).train_state.epoch

    found = predict_checkpoint(averaged / name, dataset, "val", 1)

    scores = score(found.probs, found.labels)
    row = read_log(averaged)[epoch - 1]["val"]
    assert row["top1_error"] == scores.top1_error
    assert row["log_loss"] == pytest.approx(scores.log_loss)


def test_run_stopped_before_its_first_update_keeps_the_first_weights_as_their_average(
    dataset, averaging, tmp_path
):
    begun = build_trainer(averaging, dataset, tmp_path / "run")
    begun.start()

    first = begun.train_step.checkpoint(begun.dataset, begun.state, {})

    for name, tensor in first.weights.items():
        assert np.array_equal(first.ema[name], tensor), name


def test_smoothed_labels_are_what_the_loss_is_taken_of(dataset, recipe, tmp_path):
    """Against (1 - e) on the label and e / K on every class."""
    still = plain(replace(recipe, learning_rate=0.0, label_smoothing=0.3, epochs=1))
    still = replace(still, random_crop=False, mirror=False, color_noise=0.0)
    train(dataset, tmp_path / "run", still)

    found = predict_checkpoint(tmp_path / "run" / "last.safetensors", dataset, "train", 1)

    log_probs = np.log(found.probs.astype(np.float64))
    num_classes = log_probs.shape[1]
    targets = 0.7 * np.eye(num_classes)[found.labels] + 0.3 / num_classes
    expected = -(targets * log_probs).sum(axis=1).mean()
    assert read_log(tmp_path / "run")[0]["train_loss"] == pytest.approx(expected, rel=1e-5)


def damage_last_image(dataset: Path, recipe: Recipe) -> tuple[Path, bytes]:
    """Change a byte of the image that the first epoch ends with; return shard and content."""
    split = open_dataset(dataset).split("train")
    row = split.samples[epoch_order(len(split), recipe.seed, 0)[-1]]
    shard = dataset / split.shards[row["shard"]].name
    whole = shard.read_bytes()
    flip(shard, int(row["offset"] + row["length"] // 2))
    return shard, whole


def test_shard_that_fails_in_the_middle_costs_no_step(dataset, straight, recipe, tmp_path):
    """Another byte in the image that comes last: three steps are saved, and resumed from."""
    damaged = shutil.copytree(dataset, tmp_path / "damaged")
    shard, whole = damage_last_image(damaged, recipe)

    with pytest.raises(DatasetError, match="saved at epoch 1, step 3") as caught:
        train(damaged, tmp_path / "run", recipe)
    assert shard.name in caught.value.problem
    assert "--resume" in hints.message(caught.value)

    shard.write_bytes(whole)
    resume(damaged, tmp_path / "run", None)
    assert_same_run(tmp_path / "run", straight)


# --- losses that are not read at every step, as on a GPU


def read_every(monkeypatch, steps: int) -> None:
    """Have the loss read as seldom as on a GPU, whatever the device."""
    seldom = property(lambda _: steps, lambda _, value: None)
    monkeypatch.setattr(Trainer, "_read_every", seldom, raising=False)


def means_of(dataset: Path, recipe: Recipe, run: Path, monkeypatch, curve_every: int):
    """Train; return the points of the curves, and what the bar shows after each update."""
    points, said = {}, Listener()

    def draw(_logger, step: int, values: dict) -> None:
        if "loss" in values:
            points[step] = values["loss"]

    monkeypatch.setattr(metrics_logger.MetricsLogger, "draw", draw)
    monkeypatch.setattr(metrics_logger, "CURVE_EVERY", curve_every)
    train(dataset, run, recipe, progress=said)
    return points, [note for note in said.notes if note]


@pytest.mark.parametrize("every", [2, 3, 20])
def test_curves_and_bar_show_losses_of_the_steps_at_which_they_are_read(
    dataset, recipe, tmp_path, monkeypatch, every
):
    """Epochs of four steps; a loss is read at some of them, and at the last."""
    with monkeypatch.context() as patch:
        true, all_notes = means_of(dataset, recipe, tmp_path / "all", patch, 1)
    read_every(monkeypatch, every)

    points, notes = means_of(dataset, recipe, tmp_path / "some", monkeypatch, 3)

    assert set(true) == set(range(1, 9))
    assert all(loss > 1 for loss in true.values())
    assert points == {step: true[step] for step in points}
    assert len(points) == 2  # one every three of eight
    read = [s for s in range(1, 9) if ((s - 1) % 4 + 1) % every == 0 or s % 4 == 0]
    assert set(points) <= set(read)
    assert notes == [all_notes[step - 1] for step in read]


@pytest.mark.parametrize("steps", [2, 20])
def test_run_saved_for_a_failed_image_between_two_readings_forgets_no_step(
    dataset, straight, recipe, tmp_path, monkeypatch, steps
):
    read_every(monkeypatch, steps)
    damaged = shutil.copytree(dataset, tmp_path / "damaged")
    shard, whole = damage_last_image(damaged, recipe)
    with pytest.raises(DatasetError, match="saved at epoch 1, step 3"):
        train(damaged, tmp_path / "run", recipe)
    assert read_last(tmp_path / "run").train_state.num_seen == 3 * 16

    shard.write_bytes(whole)
    resume(damaged, tmp_path / "run", None)

    assert_same_run(tmp_path / "run", straight)


@pytest.mark.parametrize("signals", [[0, 0], [0, signal.SIGTERM], [signal.SIGINT, 0]])
def test_replicas_agree_on_a_stop_signal_in_validation(dataset, recipe, tmp_path, signals):
    class Two:
        """Two replicas; the row of this one is recorded, and the signals of both are returned."""

        world_size, rows = 2, []

        def all_gather(self, row):
            self.rows.append(row.tolist())
            return torch.tensor(signals)[:, None]

    trainer = build_trainer(recipe, dataset, tmp_path / "run")
    trainer.replicas = Two()
    trainer.stop_signal.signal_number = signals[0]

    trainer._exchange_signals()

    assert trainer.stop_requested() == max(signals)
    assert Two.rows[-1] == [signals[0]]


# --- validation


@pytest.fixture
def unlike_average(dataset, recipe, tmp_path) -> Trainer:
    """A trainer whose weights differ from their average."""
    trainer = build_trainer(replace(recipe, ema_decay=0.9), dataset, tmp_path / "unlike")
    trainer.start()
    for tensor in trainer.train_step.ema.tensors:
        tensor.normal_(0.0, 0.02)
    return trainer


def test_run_stopped_in_validation_keeps_its_own_weights(unlike_average):
    net = unlike_average.train_step.net
    before = [parameter.detach().clone() for parameter in net.parameters()]
    unlike_average.run.create(unlike_average.recipe)
    unlike_average.stop_signal.signal_number = signal.SIGTERM
    with pytest.raises(Stopped):
        unlike_average._validate()

    assert all(torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True))


def test_memory_of_validation_does_not_grow_with_images_and_classes(
    dataset, recipe, tmp_path, monkeypatch
):
    """Probabilities of 450 more images of 4,000 classes would be 7 MB."""
    monkeypatch.setattr(predict_split, "BATCH_SIZE", 8)
    num_classes = 4000
    trainer = build_trainer(recipe, dataset, tmp_path / "run", num_classes=num_classes)
    trainer.start()
    val, peaks = trainer.dataset.split("val"), []
    for times in (5, 5, 20):  # the first one also loads what is loaded once
        trainer.dataset.splits["val"] = replace(val, samples=np.tile(val.samples, times))
        tracemalloc.start()
        try:
            trainer._validate()
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()

    assert abs(peaks[2] - peaks[1]) < 450 * num_classes * 4 / 3


def test_run_read_by_processes_is_bit_for_bit_the_run_read_by_threads(
    dataset, runs, tmp_path, monkeypatch
):
    @contextmanager
    def open_processes(split, device, num_threads):
        with ProcessReader(split, 2) as reader:
            yield reader

    monkeypatch.setattr(trainer_module, "open_reader", open_processes)
    train(dataset, tmp_path / "run", read_last(runs.first).recipe)
    for name, weights in read_last(runs.first).weights.items():
        np.testing.assert_array_equal(read_last(tmp_path / "run").weights[name], weights)


def test_number_of_reading_threads_is_what_was_asked_for(dataset, recipe, tmp_path, monkeypatch):
    counts = []
    opened = trainer_module.open_reader

    def open_reader(split, device, num_threads):
        counts.append(num_threads)
        return opened(split, device, num_threads)

    monkeypatch.setattr(trainer_module, "open_reader", open_reader)
    request = TrainRequest(
        DatasetRef.parse(str(dataset)), tmp_path / "run", replace(recipe, epochs=1), workers=3
    )
    train_run(request)
    assert counts == [3]
