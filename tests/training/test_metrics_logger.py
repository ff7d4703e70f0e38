"""Metrics per epoch: the log, the line on the screen, curves for TensorBoard, throughput."""

import json
import resource
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from helpers import CPU, Listener

from alexnet_cli import errors
from alexnet_cli.io.progress import SILENT
from alexnet_cli.recipes.recipe import PAPER
from alexnet_cli.training import loggers, metrics_logger
from alexnet_cli.training.metrics_logger import MetricsLogger, Throughput
from alexnet_cli.training.run_directory import RunDirectory

ROW = {
    "epoch": 2,
    "steps": 40,
    "train_loss": 1.5,
    "images_per_second": 99.7,
    "val": {"top1_error": 0.25, "top5_error": 0.1, "log_loss": 1.0},
}


def read_back(folder) -> dict[str, list[tuple[int, float]]]:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulator.EventAccumulator(str(folder))
    events.Reload()
    return {
        tag: [(event.step, round(event.value, 6)) for event in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
    }


@pytest.mark.parametrize(
    ("row", "is_best", "seconds", "line"),
    [
        (ROW, True, 0, "train loss 1.500, val top-1 25.0%, top-5 10.0%, 100 images/s, best"),
        (ROW, False, 61, "top-5 10.0%, 100 images/s, 1 min left"),
        (ROW, False, 7260, "100 images/s, 2 h 1 min left"),
        ({**ROW, "val": None}, True, 0, "epoch 2/90: train loss 1.500, 100 images/s, best"),
    ],
)
def test_epoch_is_reported_in_one_line(tmp_path, row, is_best, seconds, line):
    said = Listener()
    logger = MetricsLogger(RunDirectory(tmp_path), said)
    logger.report_epoch(row, 90, is_best=is_best, seconds_left=seconds)

    (found,) = said.lines
    assert found.startswith("epoch 2/90: ")
    assert found.endswith(line)


def test_line_ends_with_the_losses_as_blocks_on_a_terminal_only(tmp_path, monkeypatch):
    said = Listener()
    logger = MetricsLogger(RunDirectory(tmp_path), said)
    for epoch, loss in enumerate((8.0, 4.5, 1.0), 1):
        logger.log_epoch({**ROW, "epoch": epoch, "train_loss": loss})
        for shows in (False, True):
            monkeypatch.setattr(metrics_logger, "shows_blocks", lambda _, shows=shows: shows)
            logger.report_epoch(ROW, 90, is_best=False, seconds_left=0)

    # One epoch is no curve.
    assert [line.isascii() for line in said.lines] == [True, True, True, False, True, False]
    assert said.lines[-1].endswith("  \u2588\u2585\u2581")


def test_epochs_and_some_steps_become_curves(tmp_path):
    pytest.importorskip("tensorboard")
    logger = MetricsLogger(RunDirectory(tmp_path), SILENT, ("tensorboard",))
    with logger.opened(0):
        for step in range(1, 41):
            logger.log_step(step, 2.0, 0.01)
        logger.log_epoch(ROW)

    assert json.loads((tmp_path / "log.jsonl").read_text()) == ROW
    curves = read_back(tmp_path / "tensorboard")
    assert [step for step, _ in curves["loss"]] == [20, 40]
    assert curves["val/top1_error"] == [(40, 0.25)]


def test_log_that_cannot_be_written_does_not_stop_training(tmp_path):
    said = Listener()
    (tmp_path / "log.jsonl").mkdir()
    MetricsLogger(RunDirectory(tmp_path), said).log_epoch(ROW)

    assert "log.jsonl: could not be written (Is a directory); training continues" in said.lines[0]


@pytest.mark.parametrize(
    ("first", "read", "drawn"),
    [
        (0, range(20, 101, 20), [20, 40, 60, 80, 100]),
        (0, [20, 30, 50, 70, 90], [20, 50, 70, 90]),  # of an epoch of 30 steps, read every 20
        (33, range(34, 70), [40, 60]),
    ],
)
def test_curves_have_a_point_in_every_twenty_steps_at_which_a_loss_was_read(
    tmp_path, monkeypatch, first, read, drawn
):
    points = []
    logger = MetricsLogger(RunDirectory(tmp_path), SILENT)
    with logger.opened(first):
        monkeypatch.setattr(logger, "draw", lambda step, _: points.append(step))
        for step in read:
            logger.log_step(step, 2.0, 0.01)

    assert points == drawn


# --- TensorBoard


def draw(folder: Path, first: int, rows: dict[int, dict]) -> None:
    logger = MetricsLogger(RunDirectory(folder), SILENT, ("tensorboard",))
    with logger.opened(first):
        for step, values in rows.items():
            logger.draw(step, values)


def test_numbers_are_drawn_by_number_of_updates(tmp_path):
    pytest.importorskip("tensorboard")
    first = {"train_loss": 2.5, "val": {"top1_error": 0.5}}
    draw(tmp_path, 0, {20: first, 40: {"train_loss": 2.25}})

    assert read_back(tmp_path / "tensorboard") == {
        "train_loss": [(20, 2.5), (40, 2.25)],
        "val/top1_error": [(20, 0.5)],
    }


def test_resumed_run_draws_what_it_repeats_only_once(tmp_path):
    pytest.importorskip("tensorboard")
    draw(tmp_path, 0, {step: {"loss": float(step)} for step in (1, 2, 3)})
    draw(tmp_path, 2, {step: {"loss": 3.0 + step} for step in (2, 3)})

    assert read_back(tmp_path / "tensorboard") == {"loss": [(1, 1.0), (2, 5.0), (3, 6.0)]}


def test_nothing_is_drawn_without_tensorboard(tmp_path):
    logger = MetricsLogger(RunDirectory(tmp_path), SILENT)
    with logger.opened(0):
        logger.draw(1, {"loss": 1.0})
    assert list(tmp_path.iterdir()) == []


# --- other programs


class FakeWandb:
    """What is used of wandb, which needs a service."""

    def __init__(self):
        self.inits, self.logged, self.finished = [], [], 0

    def init(self, **options):
        self.inits.append(options)
        return self

    @property
    def id(self) -> str:
        return f"id-{len(self.inits)}"

    def log(self, values: dict, step: int) -> None:
        self.logged.append((step, values))

    def finish(self) -> None:
        self.finished += 1


class FakeMLflow:
    """What is used of mlflow, which needs a server."""

    def __init__(self):
        self.calls, self.params = [], {}

    def set_experiment(self, name: str) -> None:
        self.calls.append(("experiment", name))

    def start_run(self, run_id: str | None, run_name: str | None):
        self.calls.append(("start", run_id, run_name))
        return SimpleNamespace(info=SimpleNamespace(run_id="m-1"))

    def log_params(self, params: dict) -> None:
        assert len(params) <= 100
        self.params |= params

    def log_metrics(self, values: dict, step: int, synchronous: bool) -> None:
        assert not synchronous
        self.calls.append((step, values))

    def flush_async_logging(self) -> None:
        self.calls.append("flush")

    def end_run(self) -> None:
        self.calls.append("end")


ROWS = [(20, {"loss": 2.5, "lr": 0.01}), (40, {"train_loss": 1.5, "val": {"top1_error": 0.25}})]


def draw_rows(folder: Path, name: str, first: int = 0, said=SILENT) -> None:
    logger = MetricsLogger(RunDirectory(folder), said, (name,), PAPER.flat())
    with logger.opened(first):
        for step, values in ROWS:
            logger.draw(step, values)


def test_wandb_gets_recipe_and_numbers_and_continues_its_run(tmp_path, monkeypatch):
    wandb = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    draw_rows(tmp_path, "wandb")
    assert wandb.logged == [(20, ROWS[0][1]), (40, {"train_loss": 1.5, "val/top1_error": 0.25})]
    config = wandb.inits[0]["config"]
    assert {**config, **PAPER.flat()} == PAPER.flat()
    assert {name for name in config if config[name] != PAPER.flat()[name]} <= {
        name for name, value in PAPER.flat().items() if isinstance(value, tuple)
    }
    assert (wandb.inits[0]["id"], wandb.inits[0]["project"]) == (None, "alexnet")
    assert wandb.finished == 1
    draw_rows(tmp_path, "wandb", first=40)
    assert wandb.inits[1]["id"] == "id-1"


def test_mlflow_gets_recipe_and_numbers_and_continues_its_run(tmp_path, monkeypatch):
    mlflow = FakeMLflow()
    monkeypatch.setitem(sys.modules, "mlflow", mlflow)
    draw_rows(tmp_path, "mlflow")
    begun = [("experiment", "alexnet"), ("start", None, tmp_path.name)]
    numbers = [ROWS[0], (40, {"train_loss": 1.5, "val/top1_error": 0.25})]
    assert mlflow.calls == [*begun, *numbers, "flush", "end"]
    assert mlflow.params == {name: str(value) for name, value in PAPER.flat().items()}
    draw_rows(tmp_path, "mlflow", first=40)
    assert ("start", "m-1", None) in mlflow.calls


@pytest.mark.parametrize("fault", ["init", "log", "finish"])
def test_program_that_fails_is_left_out_and_training_continues(tmp_path, monkeypatch, fault):
    wandb, said = FakeWandb(), Listener()

    def fail(*_, **__):
        raise RuntimeError("no\nlogin")

    setattr(wandb, fault, fail)
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    draw_rows(tmp_path, "wandb", said=said)
    assert said.lines == ["wandb: no login; training continues without it"]


def test_run_whose_programs_fail_is_trained_to_its_end(
    alexnet, dataset, tiny_recipe, tmp_path, monkeypatch
):
    wandb = FakeWandb()
    wandb.log = None  # calling it raises a TypeError
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    monkeypatch.setattr(loggers, "require_package", lambda name: None)
    recipe = tmp_path / "tiny.json"
    recipe.write_text(replace(tiny_recipe, epochs=1).to_json())
    command = ["train", dataset, "--run", tmp_path / "run", "--recipe", recipe]
    result = alexnet(*command, "--device", "cpu", "--log", "wandb,tensorboard")
    assert result.exit_code == 0, result.output
    assert result.stderr.count("training continues without it") == 1
    assert "train_loss" in read_back(tmp_path / "run" / "tensorboard")


@pytest.mark.parametrize(("name", "extra"), [("tensorboard", "train"), ("wandb", "loggers")])
def test_missing_package_is_an_error_before_anything_is_written(
    alexnet, tmp_path, monkeypatch, name, extra
):
    monkeypatch.setattr(errors, "find_spec", lambda package: None)
    result = alexnet("train", "D", "--run", tmp_path / "run", "--log", name)
    assert result.exit_code == 4
    assert result.stderr.splitlines() == [
        f"error: {name} is not installed.",
        f'Install it: pip install "alexnet-cli[{extra}]"',
    ]


def test_wrong_program_is_answered_with_those_like_it(alexnet, tmp_path):
    result = alexnet("train", "D", "--run", tmp_path / "run", "--log", "tensorbord")
    assert result.exit_code == 2
    assert "Did you mean tensorboard?" in result.stderr


# --- throughput


@pytest.fixture
def clock(monkeypatch) -> list[float]:
    """The current time in seconds, which tests change."""
    now = [100.0]
    monkeypatch.setattr(metrics_logger.time, "perf_counter", lambda: now[0])
    return now


def slow(clock: list[float], seconds: list[float]):
    """Yield numbers, each after some seconds."""
    for number, wait in enumerate(seconds):
        clock[0] += wait
        yield number


def test_speed_and_waiting_of_an_epoch(clock):
    meter = Throughput(CPU)
    meter.begin_epoch()
    for _ in meter.timed(slow(clock, [1.0, 0.5, 0.0])):
        clock[0] += 2.0
        meter.count(16)
    meter.end_epoch()

    row = meter.row()
    assert row["images_per_second"] == pytest.approx(48 / 7.5)
    assert row["data_wait"] == pytest.approx(1.5 / 7.5)
    assert (meter.images, meter.seconds) == (48, 7.5)


def test_timed_batches_are_unchanged(clock):
    assert list(Throughput(CPU).timed(slow(clock, [1, 1, 1]))) == [0, 1, 2]
    assert list(Throughput(CPU).timed([])) == []


def test_time_between_two_epochs_does_not_count(clock):
    meter = Throughput(CPU)
    for seconds in (2.0, 4.0):
        meter.begin_epoch()
        clock[0] += seconds
        meter.count(10)
        meter.end_epoch()
        clock[0] += 100.0  # validation

    assert meter.row()["images_per_second"] == pytest.approx(10 / 4.0)
    assert (meter.images, meter.seconds) == (20, 6.0)


def test_waiting_of_an_epoch_does_not_count_in_the_next(clock):
    meter = Throughput(CPU)
    meter.begin_epoch()
    list(meter.timed(slow(clock, [5.0])))
    meter.end_epoch()
    meter.begin_epoch()
    clock[0] += 1.0
    meter.end_epoch()

    assert meter.row()["data_wait"] == 0


def test_epoch_without_a_step_has_a_speed_of_zero(clock):
    meter = Throughput(CPU)
    meter.begin_epoch()
    meter.end_epoch()

    assert meter.row()["images_per_second"] == 0
    assert meter.row()["data_wait"] == 0
    assert meter.seconds_for(1000) == 0


def test_remaining_seconds_follow_from_the_speed_so_far(clock):
    meter = Throughput(CPU)
    meter.begin_epoch()
    clock[0] += 4.0
    meter.count(20)
    meter.end_epoch()

    assert meter.seconds_for(100) == pytest.approx(20.0)


def test_memory_is_the_peak_of_this_process():
    row = Throughput(CPU).row()

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    assert row["memory_mb"] == pytest.approx(peak, rel=0.01)
    with open("/proc/self/status") as file:  # noqa: PTH123 - not of a disk
        high = next(int(line.split()[1]) for line in file if line.startswith("VmHWM"))
    assert row["memory_mb"] == pytest.approx(high * 1024 / 1e6, rel=0.1)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_memory_is_that_of_the_gpu():
    device = torch.device("cuda", 0)
    torch.cuda.reset_peak_memory_stats(device)
    block = torch.zeros(64 << 20, dtype=torch.uint8, device=device)
    assert Throughput(device).row()["memory_mb"] >= len(block) / 1e6
