"""What a run tells: one row and one line an epoch, curves where they are wanted."""

import json

import pytest

from alexnet_cli.io.progress import SILENT
from alexnet_cli.training.metrics_logger import MetricsLogger
from alexnet_cli.training.run_directory import RunDirectory

ROW = {
    "epoch": 2,
    "steps": 40,
    "train_loss": 1.5,
    "images_per_second": 99.7,
    "val": {"top1_error": 0.25, "top5_error": 0.1, "log_loss": 1.0},
}


class Said:
    """A progress that keeps its lines."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


@pytest.mark.parametrize(
    ("row", "is_best", "seconds", "line"),
    [
        (ROW, True, 0, "train loss 1.500, val top-1 25.0%, top-5 10.0%, 100 images/s, best"),
        (ROW, False, 61, "top-5 10.0%, 100 images/s, 1 min left"),
        (ROW, False, 7260, "100 images/s, 2 h 1 min left"),
        ({**ROW, "val": None}, True, 0, "epoch 2/90: train loss 1.500, 100 images/s, best"),
    ],
)
def test_epoch_is_told_in_one_line(tmp_path, row, is_best, seconds, line):
    said = Said()
    logger = MetricsLogger(RunDirectory(tmp_path), said)
    logger.say_epoch(row, 90, is_best=is_best, seconds_left=seconds)

    (found,) = said.lines
    assert found.startswith("epoch 2/90: ")
    assert found.endswith(line)


def test_epochs_and_some_steps_become_curves(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    logger = MetricsLogger(RunDirectory(tmp_path), SILENT, with_curves=True)
    with logger.opened(0):
        for step in range(1, 41):
            logger.note_step(step, 2.0, 0.01)
        logger.note_epoch(ROW)

    assert json.loads((tmp_path / "log.jsonl").read_text()) == ROW
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("loss")] == [20, 40]
    assert [event.step for event in events.Scalars("val/top1_error")] == [40]


def test_log_that_cannot_be_written_is_said_and_training_goes_on(tmp_path):
    said = Said()
    (tmp_path / "log.jsonl").mkdir()
    MetricsLogger(RunDirectory(tmp_path), said).note_epoch(ROW)

    assert "log.jsonl: could not be written (Is a directory); going on" in said.lines[0]


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
        monkeypatch.setattr(logger.board, "add", lambda step, _: points.append(step))
        for step in read:
            logger.note_step(step, 2.0, 0.01)

    assert points == drawn
