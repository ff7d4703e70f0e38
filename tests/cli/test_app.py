import importlib.metadata
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.core import TyperArgument
from typer.main import get_command

import alexnet_cli
import alexnet_cli.inference.describe as info_module
from alexnet_cli.cli import app as cli
from alexnet_cli.cli import console
from alexnet_cli.commands.prep import _find_source, _name_of
from alexnet_cli.data.remote.tar_set import TarSet

COMMANDS = Path(alexnet_cli.__file__).parent / "commands"
VERBS = sorted(path.stem for path in COMMANDS.glob("*.py") if path.stem != "__init__")
# Commands whose files have another name, because Python takes theirs.
FILES = {"eval": "evaluate", "import": "import_weights"}


def name_of(file: str) -> str:
    """Return the command in a file."""
    return {stem: command for command, stem in FILES.items()}.get(file, file)


def python(*arguments: str, **options) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, *arguments], check=False, text=True, **options)


def test_help_loads_neither_torch_nor_numpy():
    program = (
        "import sys; from alexnet_cli.cli.app import app\n"
        "app(['--help'], standalone_mode=False)\n"
        "print([name for name in ('torch', 'numpy', 'onnx') if name in sys.modules])"
    )
    finished = python("-c", program, capture_output=True)
    assert finished.stdout.splitlines()[-1] == "[]", finished.stderr


def test_commands_of_the_help_are_the_files_of_commands():
    registered = get_command(cli.app).commands
    assert sorted(FILES.get(name, name) for name in registered) == VERBS


def test_help_lists_commands_and_exit_codes(alexnet):
    result = alexnet("--help")
    assert result.exit_code == 0
    for verb in VERBS:
        assert name_of(verb) in result.stdout
    assert "Exit codes: 0 done" in result.stdout


@pytest.mark.parametrize("verb", VERBS)
def test_every_command_has_help(alexnet, verb):
    assert alexnet(name_of(verb), "-h").exit_code == 0


def test_version_is_the_package_version(alexnet):
    result = alexnet("--version")
    assert result.exit_code == 0
    first, *others = result.stdout.splitlines()
    assert first == f"alexnet {alexnet_cli.__version__}"
    for name in ("torch", "numpy", "pillow"):
        assert f"{name} {importlib.metadata.version(name)}" in others


def test_module_and_console_script_are_the_same_command():
    finished = python("-m", "alexnet_cli", "--version", capture_output=True)
    assert finished.stdout.startswith(f"alexnet {alexnet_cli.__version__}\n")
    (script,) = importlib.metadata.distribution("alexnet-cli").entry_points
    assert (script.name, script.load()) == ("alexnet", cli.main)


def test_without_a_command_the_help_is_shown(alexnet):
    assert "Commands" in alexnet().output


@pytest.mark.parametrize(
    "arguments", [("nonsense",), ("prep",), ("--nonsense",), ("pca", "a", "b")]
)
def test_wrong_command_line_is_exit_2_without_a_traceback(alexnet, arguments):
    result = alexnet(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "Traceback" not in result.stderr


def test_bug_of_ours_is_one_line_and_how_to_see_more(alexnet, monkeypatch):
    def fail(*_, **__):
        raise ValueError("boom")

    monkeypatch.setattr(info_module, "info", fail)
    result = alexnet("info")
    assert result.exit_code == 1
    assert result.stderr.splitlines() == [
        "error: internal error, ValueError: boom",
        "Show where: alexnet info ... --debug",
    ]
    assert result.stdout == ""


def test_debug_shows_where_a_bug_is(alexnet, monkeypatch):
    def fail(*_, **__):
        raise ValueError("boom")

    monkeypatch.setattr(info_module, "info", fail)
    result = alexnet("--debug", "info")
    assert result.exit_code == 1
    assert "Traceback" in result.stderr
    assert 'raise ValueError("boom")' in result.stderr


def test_debug_is_read_after_the_command_and_from_the_environment(alexnet, monkeypatch):
    assert "Traceback" in alexnet("info", "nothing", "--debug").stderr
    assert "Traceback" not in alexnet("info", "nothing").stderr
    monkeypatch.setenv("ALEXNET_DEBUG", "1")
    result = alexnet("info", "nothing")
    assert result.exit_code == 2
    assert "Traceback" in result.stderr


def test_option_before_the_command_fails_in_the_lines_of_every_error(alexnet):
    result = alexnet("--nonsense", "info")
    assert result.exit_code == 2
    assert result.stderr.splitlines() == [
        "error: No such option: --nonsense",
        "Help: alexnet --help",
    ]


def test_versions_for_a_reader_that_is_gone_end_with_141():
    reader, writer = os.pipe()
    os.close(reader)
    finished = python("-m", "alexnet_cli", "-V", stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert (finished.returncode, finished.stderr) == (141, "")


def test_help_is_a_command_too(alexnet):
    assert alexnet("help").stdout == alexnet("--help").stdout
    assert alexnet("help", "eval").stdout == alexnet("eval", "--help").stdout


def test_output_that_is_not_utf8_is_escaped(tmp_path):
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    missing = str(tmp_path / "caf\u00e9")
    command = ("-m", "alexnet_cli", "pca", missing)
    finished = python(*command, capture_output=True, env=environment)
    assert finished.returncode == 3
    assert r"caf\xe9" in finished.stderr


def test_datasets_come_first_among_the_commands():
    names = [command.callback.__name__ for command in cli.app.registered_commands]
    assert names[:3] == ["prep", "verify", "pca"]


def test_dataset_is_called_after_a_folder_or_an_archive_up_to_its_dot(tmp_path):
    (tmp_path / "v1.2").mkdir()
    (tmp_path / "cifar.tar.gz").touch()
    assert _name_of(tmp_path / "v1.2") == "v1.2"
    assert _name_of(tmp_path / "cifar.tar.gz") == "cifar"
    assert _name_of(Path()) == Path.cwd().name


def test_paths_stay_paths_and_urls_and_commands_are_tars():
    assert _find_source("images", None, False) == Path("images")
    for text in ("s3://bucket/train-{0..9}.tar", "{s3://a,s3://b}/train-0.tar", "pipe:cat a"):
        assert _find_source(text, None, True) == TarSet(text, None, True)


def test_recipe_and_settings_are_checked_before_anything_is_read(alexnet, tmp_path):
    result = alexnet("train", tmp_path / "no", "--run", tmp_path / "run", "--recipe", "vgg")
    assert result.exit_code == 2
    assert "no recipe 'vgg'" in result.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("option", "verbosity"), [("--quiet", "quiet"), ("-v", "verbose")])
def test_jobs_and_replicas_inherit_how_much_is_shown(alexnet, monkeypatch, option, verbosity):
    monkeypatch.setenv(console.VERBOSITY, "normal")
    assert alexnet(option, "recipes", "paper").exit_code == 0
    assert os.environ[console.VERBOSITY] == verbosity


def test_quiet_and_verbose_contradict_each_other(alexnet):
    result = alexnet("--quiet", "--verbose", "recipes")
    assert result.exit_code == 2
    assert "contradicts --verbose" in result.stderr


def complete(line: str, shell: str, folder: Path) -> str:
    """Return what a shell is offered for a command line that ends at the cursor."""
    *words, last = line.split(" ")
    environment = {
        **os.environ,
        "_ALEXNET_COMPLETE": f"complete_{shell}",
        "_TYPER_COMPLETE_ARGS": line,
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(words)),
        "_TYPER_COMPLETE_WORD_TO_COMPLETE": last,
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
    }
    program = "import sys; from alexnet_cli.cli.app import main; sys.argv[0] = 'alexnet'; main()"
    finished = python("-c", program, capture_output=True, env=environment, cwd=folder)
    return finished.stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish", "powershell"])
def test_shells_complete_recipes_and_runs(tmp_path, shell):
    for name in ("first", "second"):
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "recipe.json").touch()
    recipes = complete("alexnet train shards --recipe no-", shell, tmp_path)
    assert "no-lrn" in recipes
    assert "cifar-relu" not in recipes
    assert "runs/second" in complete("alexnet train shards --run runs/s", shell, tmp_path)


def test_arguments_are_named_in_upper_case_without_brackets():
    def names(command):
        for inner in getattr(command, "commands", {}).values():
            yield from names(inner)
        yield from (
            part.metavar or part.name for part in command.params if isinstance(part, TyperArgument)
        )

    found = list(names(get_command(cli.app)))
    assert len(found) > 30
    assert [name for name in found if not re.fullmatch("[A-Z|]+", name)] == []


@pytest.mark.parametrize(
    ("line", "problem", "command"),
    [
        ("predict x --format xml", "'--format': 'xml' is not one of 'table', ", "predict"),
        ("figure explain a b --method x", "'--method': 'x' is not one of ", "figure explain"),
        ("figure explain", "Missing argument 'MODEL'", "figure explain"),
        ("figure nothing", "No such command 'nothing'", "figure"),
        ("nothing", "No such command 'nothing'", ""),
    ],
)
def test_wrong_command_line_names_the_help_of_its_command(alexnet, line, problem, command):
    result = alexnet(*line.split())
    assert result.exit_code == 2
    assert problem in result.stderr
    assert f"Help: {f'alexnet {command}'.strip()} --help" in result.stderr
