import io
import json
import sys

import pytest

from alexnet_cli.cli import console
from alexnet_cli.cli.console import (
    ConsoleProgress,
    LogLines,
    print_error,
    print_json,
    print_line,
    safe,
    shows_unicode,
)

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


class Clock:
    """A clock that stands still until it is set."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_short_work_in_a_log_file_shows_only_the_lines_that_stay(capsys):
    progress = ConsoleProgress()
    with progress.track("epoch 1", 10) as bar:
        bar.advance(5, note="loss 1.0")
        progress.say("[half] way")
        bar.advance(5)
    shown = capsys.readouterr()
    assert shown.err == "[half] way\n"
    assert shown.out == ""


def test_long_work_in_a_log_file_is_a_line_soon_and_then_one_a_minute(capsys):
    clock = Clock()
    lines = LogLines("epoch 1", 10_000, clock)
    for second in range(1, 200):
        clock.now = second
        lines.advance(20, note=f"loss {second}")
    assert capsys.readouterr().err.splitlines() == [
        "epoch 1: 200 of 10,000 (2%), 20/s, 0:08:10 left, loss 10",
        "epoch 1: 1,400 of 10,000 (14%), 20/s, 0:07:10 left, loss 70",
        "epoch 1: 2,600 of 10,000 (26%), 20/s, 0:06:10 left, loss 130",
        "epoch 1: 3,800 of 10,000 (38%), 20/s, 0:05:10 left, loss 190",
    ]


def test_verbose_work_in_a_log_file_is_a_line_every_ten_seconds(capsys, monkeypatch):
    monkeypatch.setenv(console.VERBOSITY, "verbose")
    clock = Clock()
    lines = LogLines("verify", 0, clock)
    for second in range(1, 41):
        clock.now = second
        lines.advance(0)
    assert capsys.readouterr().err.count("\n") == 4


@pytest.mark.parametrize("force", ["FORCE_COLOR", "CLICOLOR_FORCE"])
def test_log_file_has_no_control_codes_whatever_forces_colors(capsys, monkeypatch, force):
    monkeypatch.setenv(force, "1")
    ConsoleProgress().say("epoch 1 of 90")
    print_error("the disk is full.")
    assert capsys.readouterr().err == "epoch 1 of 90\nerror: the disk is full.\n"


def test_quiet_shows_errors_but_no_progress(capsys, monkeypatch):
    monkeypatch.setenv(console.VERBOSITY, "quiet")
    with ConsoleProgress().track("epoch 1", 10) as bar:
        bar.advance(10, note="loss")
    ConsoleProgress().say("best so far")
    print_error("the disk is full.")
    assert capsys.readouterr().err == "error: the disk is full.\n"


def test_terminal_that_cannot_move_its_cursor_gets_lines(monkeypatch):
    terminal = stream("utf-8")
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "dumb")
    with ConsoleProgress().track("epoch 1", 10) as bar:
        bar.advance(10)
    assert "\x1b" not in written(terminal)


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


@pytest.mark.parametrize(("encoding", "expected"), [("utf-8", True), ("ascii", False)])
def test_characters_of_a_terminal_are_known_while_a_bar_is_drawn(monkeypatch, encoding, expected):
    out, bars = stream(encoding), stream("utf-8")
    bars.isatty = lambda: True
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", bars)
    monkeypatch.setenv("TERM", "xterm")
    assert shows_unicode() == expected
    with ConsoleProgress().track("images", 3):
        assert sys.stdout is not out  # rich prints above the bar
        assert shows_unicode() == expected
