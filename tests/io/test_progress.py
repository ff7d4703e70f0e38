import pytest

from alexnet_cli.io.progress import SILENT


def test_silent_progress_reports_nothing(capsys):
    SILENT.say("a line")
    with SILENT.track("work", 3) as tracker:
        tracker.advance()
        tracker.advance(2, note="a note")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_silent_progress_lets_errors_through():
    with pytest.raises(KeyError, match="ours"), SILENT.track("work", 3):
        raise KeyError("ours")
