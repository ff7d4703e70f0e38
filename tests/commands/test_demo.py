import json
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest
from typer.testing import CliRunner

import alexnet_cli.data.demo.archives as archives_module
from alexnet_cli.cli import app as cli
from alexnet_cli.cli.options import unused_folder
from alexnet_cli.commands import demo as demo_command
from alexnet_cli.commands.demo import IMAGENET_COMMANDS
from alexnet_cli.data.demo.archives import write_demo_archives

# What makes each command of the demo a matter of a second.
SHRUNK = {
    "prep": ("--workers", "1", "--size", "64"),
    "train": ("--set", "crop_size=56", "--set", "width=0.25", "--epochs", "1"),
}


@dataclass
class Caller:
    """Runs the demo's commands in this process, shrunk, and remembers them."""

    commands: list[list[str]] = field(default_factory=list)

    def __call__(self, arguments: list[str], purpose: str, **_) -> dict:
        assert purpose.endswith(".")
        self.commands.append(arguments)
        shrunk = [*arguments, *SHRUNK.get(arguments[0], ()), "--json"]
        result = CliRunner().invoke(cli.app, shrunk)
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)


@pytest.fixture(scope="module", autouse=True)
def _few_images():
    with pytest.MonkeyPatch.context() as patch:
        few = partial(write_demo_archives, images_per_class=2, val_per_class=2)
        patch.setattr(archives_module, "write_demo_archives", few)
        yield


@pytest.fixture(scope="module")
def caller() -> Caller:
    return Caller()


@pytest.fixture(scope="module")
def result(caller, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo_command, "run_job", caller)
        folder = str(tmp_path_factory.mktemp("demo"))
        invoked = CliRunner().invoke(cli.app, ["demo", folder, "--device", "cpu", "--json"])
    assert invoked.exit_code == 0, invoked.output
    return json.loads(invoked.stdout)


def test_table_has_two_networks_and_their_average(result):
    assert [row["name"] for row in result["rows"]] == [
        "first, center view",
        "first, ten views",
        "second, center view",
        "second, ten views",
        "both, ten views, averaged",
    ]
    for row in result["rows"]:
        assert 0 <= row["top5_error"] <= row["top1_error"] <= 1


def test_every_verb_is_shown_in_its_order(result, caller):
    verbs = [arguments[0] for arguments in caller.commands]
    assert verbs == [
        *("prep", "pca"),
        *("train", "eval") * 2,
        *("ensemble", "export", "predict", "report"),
    ]


def test_folder_holds_what_the_commands_made(result):
    folder = Path(result["folder"])
    for name in ("dataset/index.json", "runs/second/best.safetensors", "model.onnx", "report.html"):
        assert (folder / name).is_file()
    assert len(list((folder / "images").iterdir())) == 5


def test_commands_for_imagenet_are_real_command_lines(result, alexnet):
    assert result["next"] == IMAGENET_COMMANDS
    for line in result["next"]:
        name, verb, *_ = line.split()
        assert name == "alexnet"
        assert alexnet(verb, "--help").exit_code == 0


def test_command_line_prints_the_table_as_json(answer, tmp_path, monkeypatch):
    monkeypatch.setattr(demo_command, "run_job", Caller())
    found = answer("demo", tmp_path / "new", "--device", "cpu")
    assert found["rows"][-1]["name"] == "both, ten views, averaged"
    assert found["folder"] == str(tmp_path / "new")


def test_folder_of_other_files_is_left_as_it_is(fails, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    assert "left as it is" in fails(3, "demo", tmp_path).message
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_default_folder_is_a_new_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert unused_folder(Path("demo")) == Path("demo")
    for name in ("demo", "demo-2"):
        Path(name).mkdir()
    assert unused_folder(Path("demo")) == Path("demo-3")
