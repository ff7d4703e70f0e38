"""Options from environment variables."""

import json
import random
from collections import Counter

import pytest
import typer
from typer.core import TyperOption
from typer.testing import CliRunner

from alexnet_cli.cli import variables
from alexnet_cli.cli.app import app
from alexnet_cli.cli.console import VERBOSITY
from alexnet_cli.cli.job import run_job
from alexnet_cli.cli.tables import RESULT_FILE
from alexnet_cli.distributed.rendezvous import STORE_FILE


@pytest.fixture(autouse=True)
def _restored_verbosity(monkeypatch):
    monkeypatch.setenv(VERBOSITY, "normal")  # --quiet changes it for the processes of a command


def run(*arguments, **environment):
    return CliRunner().invoke(app, [str(argument) for argument in arguments], env=environment)


def options_of(command, prefix):
    """Yield each option with the prefix of its command, those of sub-commands too."""
    for name, inner in getattr(command, "commands", {}).items():
        below = f"{prefix}_{name}".upper().replace("-", "_")
        yield from ((below, part) for part in inner.params if isinstance(part, TyperOption))
        yield from options_of(inner, below)


def test_each_option_has_a_variable_that_nothing_else_reads():
    options = list(options_of(typer.main.get_command(app), "ALEXNET"))
    assert len(options) > 200
    names = [variables.variable_of(option, prefix) for prefix, option in options]
    assert max(Counter(names).values()) == 1
    shared = {option.envvar for _, option in options if option.envvar}
    assert shared == {"ALEXNET_DEVICE"}
    others = {*variables.OF_THE_MACHINE, *shared, RESULT_FILE, STORE_FILE}
    assert others.isdisjoint(names)
    known = {"ALEXNET_TRAIN_BATCH_SIZE", "ALEXNET_TRAIN_SET", "ALEXNET_FIGURE_EXPLAIN_CLASS"}
    assert known | {"ALEXNET_PREDICT_NULL", "ALEXNET_IMPORT_OUTPUT"} <= set(names)


def test_options_are_read_from_the_environment_unless_they_are_typed():
    settings = [f"crop_size={random.randint(128, 220)}", "width=0.25"]
    environment = {"ALEXNET_INFO_SET": "  ".join(settings), "ALEXNET_INFO_JSON": "1"}
    result = run("info", "paper", **environment)
    first, second = (f"--set={setting}" for setting in settings)
    assert result.stdout == run("info", "paper", first, second, "--json").stdout
    assert result.stderr == "Options from the environment: ALEXNET_INFO_SET, ALEXNET_INFO_JSON\n"
    typed = run("info", "paper", second, **environment)
    assert typed.stdout == run("info", "paper", second, "--json").stdout != result.stdout
    assert typed.stderr == "Options from the environment: ALEXNET_INFO_JSON\n"
    assert run("--quiet", "info", "paper", **environment).stderr == ""


@pytest.mark.parametrize("value", ["1", "true", "Yes", "on"])
def test_flag_is_given_by_a_word_that_affirms(value):
    assert json.loads(run("recipes", "paper", ALEXNET_RECIPES_JSON=value).stdout)


@pytest.mark.parametrize("value", ["0", "false", "No", "off", ""])
def test_flag_is_not_given_by_a_word_that_denies(value):
    assert not run("recipes", "paper", ALEXNET_RECIPES_JSON=value).stdout.startswith("{")


@pytest.mark.parametrize(
    ("command", "name", "value"),
    [
        ("train D", "ALEXNET_TRAIN_BATCH_SIZE", "many"),
        ("train D", "ALEXNET_TRAIN_RESUME", "perhaps"),
        ("train D", "ALEXNET_TRAIN_EPOCHS", "0"),
        ("train D", "ALEXNET_TRAIN_ALLOW_DATA_CHANGE", "1"),  # requires another option
        ("eval M D", "ALEXNET_EVAL_VIEWS", "3"),
        ("train D", "ALEXNET_TRAIN_DEVICE", "0"),
        ("train D", "ALEXNET_DEVICE", "0"),
        ("recipes", "ALEXNET_DEBUG", "maybe"),
        ("recipes", "ALEXNET_VERBOSITY", "loud"),
        ("info paper", "ALEXNET_INFO_SET", "momentum=2 seed=x"),
        ("figure filters M", "ALEXNET_FIGURE_FILTERS_THEME", "red"),
    ],
)
def test_wrong_value_is_exit_code_2_and_names_the_variable(command, name, value):
    result = run(*command.split(), "--quiet", **{name: value})
    assert result.exit_code == 2
    assert name in result.stderr
    assert result.stderr.count("\n") <= 3


def test_variable_of_one_command_beats_that_of_all():
    both = {"ALEXNET_DEVICE": "0", "ALEXNET_EVAL_DEVICE": "cpu"}
    assert run("eval", "M", "D", **both).exit_code == 3
    assert run("errors", "M", "D", **both).exit_code == 2


def test_variable_that_names_no_option_is_ignored_with_a_line():
    result = run("recipes", "paper", ALEXNET_RECIPES_JSONN="1", ALEXNET_TRAIN_LRR="1")
    assert result.exit_code == 0
    assert result.stderr.startswith("ALEXNET_RECIPES_JSONN names no option of this command.")
    assert "Did you mean ALEXNET_RECIPES_JSON?" in result.stderr
    assert "LRR" not in result.stderr
    result = run("train", "d", ALEXNET_TRAIN_EPOCH="3", ALEXNET_TRAIN_WEATHER="1")
    assert "Did you mean ALEXNET_TRAIN_EPOCHS?" in result.stderr
    assert "ALEXNET_TRAIN_WEATHER names no option of this command. It is ignored." in result.stderr


def test_variables_of_versions_and_completion_are_left_to_others():
    others = dict.fromkeys(("VERSION", "INSTALL_COMPLETION", "SHOW_COMPLETION", "QUIET"), "x")
    result = run("recipes", "paper", **{f"ALEXNET_{name}": "x" for name in others})
    assert result.exit_code == 0


def test_job_is_exactly_its_command_line(monkeypatch, tmp_path):
    # Stands for `python -m alexnet_cli`; it leaves its environment as the result.
    package = tmp_path / "alexnet_cli"
    package.mkdir()
    program = "import json, os; json.dump(dict(os.environ), open(os.environ['{}'], 'w'))"
    (package / "__main__.py").write_text(program.format(RESULT_FILE))
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    options = list(options_of(typer.main.get_command(app), "ALEXNET"))
    names = [variables.variable_of(option, prefix) for prefix, option in options]
    for name in [*names, *variables.OF_THE_MACHINE, "ALEXNET_DEVICE", "OTHER_TRAIN_SEED"]:
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("ALEXNET_VERBOSITY", "quiet")
    found = run_job(["train", "shards/a"], "A run.", quiet=True)
    assert {name for name in found if name.startswith("ALEXNET_")} == {
        *variables.OF_THE_MACHINE,
        RESULT_FILE,
    }
    assert found["ALEXNET_VERBOSITY"] == "quiet"
    assert found["OTHER_TRAIN_SEED"] == "1"
