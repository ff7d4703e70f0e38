from pathlib import Path

import pytest

from alexnet_cli.cli.command import PANELS
from alexnet_cli.cli.spellings import common_first


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        ("train D -q", "-q train D"),
        ("train D --debug --epochs 3 -v", "--debug -v train D --epochs 3"),
        ("--quiet train D", "--quiet train D"),
        ("predict -- -q", "predict -- -q"),
        ("predict -q -- -v", "-q predict -- -v"),
        ("help", "--help"),
        ("help figure filters", "figure filters --help"),
        ("info help", "info help"),
    ],
)
def test_options_of_all_commands_are_read_wherever_they_are_typed(typed: str, read: str):
    assert common_first(typed.split()) == read.split()


@pytest.mark.parametrize(
    ("words", "file"),
    [
        ("predict --top 3 -dash.png", "-dash.png"),
        ("predict --dash.v2.png", "--dash.v2.png"),
        ("info -q.npz", "-q.npz"),
        ("figure explain M -x.png --theme dark", "-x.png"),
        ("show -folder", "-folder"),
    ],
)
def test_file_whose_name_begins_with_a_dash_is_advised(alexnet, tmp_path, monkeypatch, words, file):
    monkeypatch.chdir(tmp_path)
    Path("-folder").mkdir()
    result = alexnet(*words.split())
    assert result.exit_code == 2
    advice = f"error: {file}: no such option.\nIf it is a file: ./{file}\n"
    assert result.stderr == advice
    assert "no such option" not in alexnet(*words.replace(file, f"./{file}").split()).stderr.lower()


@pytest.mark.parametrize(
    "words", ["predict --tops 3 a.png", "show -x d", "train d --learning-rate=0.01"]
)
def test_option_that_does_not_exist_is_no_file(alexnet, words):
    assert "No such option" in alexnet(*words.split()).stderr


MISSING = "nowhere.safetensors"
DATA = "nodata"


@pytest.mark.parametrize("option", ["--model", "--weights", "--checkpoint"])
@pytest.mark.parametrize(
    "command",
    [
        ["eval", "{model}", DATA],
        ["eval", DATA, "{model}", "--views", "1"],
        ["errors", "{model}", DATA],
        ["export", "-o", "x.onnx", "{model}"],
        ["info", "{model}"],
        ["predict", "{model}", "x.jpg"],
        ["figure", "filters", "-o", "x.png", "{model}"],
        ["figure", "explain", "x.jpg", "{model}"],
        ["report", "{model}"],
    ],
    ids=lambda command: " ".join(command[:2]),
)
def test_model_is_also_named_by_an_option(alexnet, tmp_path, monkeypatch, command, option):
    monkeypatch.chdir(tmp_path)
    for words in ([option, MISSING], [f"{option}={MISSING}"]):
        arguments = []
        for word in command:
            arguments += words if word == "{model}" else [word]
        result = alexnet(*arguments)
        assert "No such option" not in result.stderr
        assert f"{MISSING}: no such file" in result.stderr, result.stderr


def test_members_of_an_ensemble_are_named_by_options_but_weights_are_numbers(alexnet, tmp_path):
    arguments = ("--model", tmp_path / "a.npz", "--checkpoint", tmp_path / "b.npz")
    assert "a.npz: No such file" in alexnet("ensemble", *arguments, "--weights", "1,2").stderr


def test_option_without_its_value_is_refused(alexnet):
    result = alexnet("eval", "D", "--model")
    assert result.exit_code == 2
    assert "--model" in result.stderr


@pytest.mark.parametrize("command", ["train", "prep", "eval", "reproduce", "predict", "bench"])
def test_options_of_a_long_help_are_in_groups_of_a_fixed_order(alexnet, command):
    lines = alexnet(command, "--help").stdout.splitlines()
    titles = [line.strip("\u256d\u256e\u2500 ") for line in lines if line.startswith("\u256d")]
    groups = [title for title in titles if title in PANELS]
    assert groups == [panel for panel in PANELS if panel in groups]
    assert {"Data", "Devices", "Output"} - {"Data" if command == "bench" else ""} <= set(groups)
    start = next(number for number, line in enumerate(lines) if " Options " in line)
    end = next(number for number in range(start, len(lines)) if lines[number].startswith("\u2570"))
    alone = [line.split()[1] for line in lines[start:end] if line.startswith("\u2502 -")]
    assert alone == ["--help"]
