import io
import json
import sys

import pytest

from alexnet_cli import console
from alexnet_cli.console import ConsoleProgress, print_error, print_json, print_line, safe

ERRORS = {"top1_error": 0.12345, "top5_error": 0.05, "log_loss": 0.5}
CAT = {"label": 3, "wnid": "n0003", "name": "cat, house cat", "probability": 0.5}


def stream(encoding: str) -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(), encoding=encoding, newline="\n")


def written(target: io.TextIOWrapper) -> str:
    target.flush()
    return target.buffer.getvalue().decode(target.encoding)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("cat.jpg", "cat.jpg"),
        ("caf\u00e9.jpg", "caf\u00e9.jpg"),
        ("\x1b[31mred", r"\x1b[31mred"),
        ("two\nlines\r", r"two\nlines\r"),
        ("\udce9.jpg", r"\udce9.jpg"),
        ("\u202egpj.exe", r"\u202egpj.exe"),
        ("[bold]not markup", "[bold]not markup"),
        (":smile:", ":smile:"),
    ],
)
def test_names_are_shown_as_they_are_or_escaped(capsys, name, shown):
    print_line(f"<{safe(name)}>")
    assert capsys.readouterr().out == f"<{shown}>\n"


def test_error_is_at_most_three_lines_on_stderr(capsys):
    print_error("one\ntwo\nthree\nfour")
    shown = capsys.readouterr()
    assert shown.err == "error: one\ntwo\nthree\n"
    assert shown.out == ""


def test_long_error_line_is_not_broken(capsys):
    print_error("word " * 100)
    assert capsys.readouterr().err.count("\n") == 1


def test_json_is_one_line(capsys):
    print_json({"name": "two\nlines \udce9"})
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    assert json.loads(out) == {"name": "two\nlines \udce9"}


def test_any_name_can_be_printed_on_any_terminal(monkeypatch):
    out, err = stream("ascii"), stream("ascii")
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    console.setup()
    print_line("caf\u00e9")
    print_error("caf\u00e9")
    assert written(out) == "caf\\xe9\n"
    assert written(err) == "error: caf\\xe9\n"


def test_without_a_terminal_progress_is_only_what_stays(capsys):
    progress = ConsoleProgress()
    with progress.track("epoch 1", 10) as bar:
        bar.advance(5, note="loss 1.0")
        progress.say("[half] way")
        bar.advance(5)
    shown = capsys.readouterr()
    assert shown.err == "[half] way\n"
    assert shown.out == ""


def test_on_a_terminal_progress_draws_count_rate_and_note(monkeypatch):
    terminal = stream("utf-8")
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "150")
    with ConsoleProgress().track("epoch 1", 10) as bar:
        for _ in range(10):
            bar.advance(note="loss \x1b 1.0")
    text = written(terminal)
    assert "epoch 1" in text
    assert "100%" in text
    assert "/s" in text
    assert r"loss \x1b 1.0" in text


def test_prep_shows_rejects_with_reasons(capsys):
    split = {"found": 1234, "written": 1233, "rejected": 1, "shards": 2}
    row = {"split": "train", "source": "a\n.JPEG", "reason": "empty", "detail": "0 bytes"}
    console.show_prep(
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
    console.show_eval({**about, **ERRORS, "center": {**ERRORS, "top1_error": 0.2}})
    text = capsys.readouterr().out
    for words in ("50,000", "12.35%", "20.00%", "5.00%", "0.5000"):
        assert words in text


def test_run_without_validation_shows_no_errors(capsys):
    best = {"epoch": 2, "top1_error": None, "top5_error": None}
    about = {"run": "runs/a", "epochs": 2, "steps": 1000, "devices": ["cpu", "cpu"]}
    console.show_train({**about, "best": best, "images_per_second": 12.3})
    text = capsys.readouterr().out
    assert "1,000 steps" in text
    assert "12 images/s on cpu + cpu" in text
    assert "top-1" not in text


@pytest.mark.parametrize(("encoding", "block"), [("utf-8", "\u2588"), ("ascii", "#")])
def test_bars_are_as_long_as_the_probability(monkeypatch, encoding, block):
    out = stream(encoding)
    monkeypatch.setattr(sys, "stdout", out)
    rows = [{"image": "a.jpg", "predictions": [CAT]}, {"image": "b.jpg", "error": "empty"}]
    console.show_predict({"images": rows})
    lines = written(out).splitlines()
    assert lines[0] == "a.jpg"
    assert lines[1].split() == ["50.0%", block * 15, "cat", "(n0003)"]
    assert lines[2:] == ["b.jpg", "  empty"]


def test_demo_ends_with_the_table_and_the_commands(capsys):
    rows = [{"name": "first, ten views", **ERRORS}]
    about = {"folder": "demo", "seconds": 100.4, "next": ["alexnet prep A B", "alexnet pca B"]}
    console.show_demo({"rows": rows, **about})
    text = capsys.readouterr().out
    assert "12.35%" in text
    assert "100 s" in text
    assert text.splitlines()[-2:] == ["  alexnet prep A B", "  alexnet pca B"]
