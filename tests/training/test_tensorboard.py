"""Curves read back with TensorBoard's own reader."""

import sys

import pytest

from alexnet_cli.errors import UsageError
from alexnet_cli.training.tensorboard import TensorBoardLogger


def read_back(folder) -> dict[str, list[tuple[int, float]]]:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulator.EventAccumulator(str(folder))
    events.Reload()
    return {
        tag: [(event.step, round(event.value, 6)) for event in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
    }


def test_numbers_are_drawn_by_the_count_of_updates(tmp_path):
    pytest.importorskip("tensorboard")
    board = TensorBoardLogger(tmp_path)
    board.add(20, {"train_loss": 2.5, "val": {"top1_error": 0.5}})
    board.add(40, {"train_loss": 2.25})
    board.close()

    assert read_back(tmp_path) == {
        "train_loss": [(20, 2.5), (40, 2.25)],
        "val/top1_error": [(20, 0.5)],
    }


def test_resumed_run_draws_what_it_repeats_only_once(tmp_path):
    pytest.importorskip("tensorboard")
    for first, values in ((0, (1.0, 2.0, 3.0)), (2, (5.0, 6.0))):
        board = TensorBoardLogger(tmp_path, first)
        for step, value in enumerate(values, start=first or 1):
            board.add(step, {"loss": value})
        board.close()

    assert read_back(tmp_path) == {"loss": [(1, 1.0), (2, 5.0), (3, 6.0)]}


def test_no_folder_draws_nothing(tmp_path):
    board = TensorBoardLogger(None)
    board.add(1, {"loss": 1.0})
    board.close()


def test_missing_package_is_said(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(UsageError, match="pip install tensorboard"):
        TensorBoardLogger(tmp_path)
