"""Results as tables."""

import io
import sys

import pytest

from alexnet_cli.cli import tables as report

ERRORS = {"top1_error": 0.12345, "top5_error": 0.05, "log_loss": 0.5}
CAT = {"label": 3, "wnid": "n0003", "name": "cat, house cat", "probability": 0.5}


def test_prep_shows_rejects_with_reasons(capsys):
    split = {"found": 1234, "written": 1233, "rejected": 1, "shards": 2}
    row = {"split": "train", "source": "a\n.JPEG", "reason": "empty", "detail": "0 bytes"}
    report.show_prep(
        {
            "dataset": "shards/new",
            "classes": 1000,
            "splits": {"train": split},
            "rejected": [row],
            "reasons": {"empty": 1},
            "ignored": {"hidden file": 3},
            "already_complete": False,
        }
    )
    text = capsys.readouterr().out
    for words in ("1,234", "1 empty", "3 hidden file", r"rejected a\n.JPEG: empty (0 bytes)"):
        assert words in text


def test_errors_are_percent_on_the_screen(capsys):
    about = {"checkpoint": "a", "dataset": "b", "split": "val", "images": 50000, "views": 10}
    about["precision"] = "fp32"
    report.show_eval({**about, **ERRORS, "center": {**ERRORS, "top1_error": 0.2}})
    text = capsys.readouterr().out
    for words in ("50,000", "12.35%", "20.00%", "5.00%", "0.5000"):
        assert words in text


def test_run_without_validation_shows_no_errors(capsys):
    best = {"epoch": 2, "top1_error": None, "top5_error": None}
    about = {"run": "runs/a", "epochs": 2, "steps": 1000, "devices": ["cpu", "cpu"]}
    report.show_train({**about, "best": best, "images_per_second": 12.3})
    text = capsys.readouterr().out
    assert "1,000 steps" in text
    assert "12 images/s on cpu + cpu" in text
    assert "top-1" not in text


@pytest.mark.parametrize(("encoding", "block"), [("utf-8", "\u2588"), ("ascii", "#")])
def test_bars_are_as_long_as_the_probability(monkeypatch, encoding, block):
    out = io.TextIOWrapper(io.BytesIO(), encoding=encoding, newline="\n")
    monkeypatch.setattr(sys, "stdout", out)
    rows = [{"image": "a.jpg", "predictions": [CAT]}, {"image": "b.jpg", "error": "empty"}]
    report.show_predict({"images": rows})
    out.flush()
    lines = out.buffer.getvalue().decode(encoding).splitlines()
    assert lines[0] == "a.jpg"
    assert lines[1].split() == ["50.0%", block * 15, "cat", "(n0003)"]
    assert lines[2:] == ["b.jpg", "  empty"]


def test_demo_ends_with_the_table_and_the_commands(capsys):
    rows = [{"name": "first, ten views", **ERRORS}]
    about = {"folder": "demo", "seconds": 100.4, "next": ["alexnet prep A B", "alexnet pca B"]}
    report.show_demo({"rows": rows, **about})
    text = capsys.readouterr().out
    assert "12.35%" in text
    assert "100 s" in text
    assert text.splitlines()[-2:] == ["  alexnet prep A B", "  alexnet pca B"]
