"""README.md and docs/*.md: their command lines run, their links and paths lead somewhere."""

import os
import re
import shlex
import subprocess
import sys
from contextlib import chdir
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.main import get_command
from typer.testing import CliRunner

from alexnet_cli import load_model
from alexnet_cli.cli.app import app
from alexnet_cli.recipes.catalog import RECIPES

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
PAGES = {page.name: page for page in (README, *sorted((ROOT / "docs").glob("*.md")))}
COMMANDS = get_command(app).commands

# Programs in the pages that are not ours.
OTHERS = {".", "pip", "python3", "pytest", "dask", "srun", "find", "cat"}

# What makes a command of a page take seconds; a later option replaces an earlier one.
TINY = ("--set", "crop_size=56", "--set", "width=0.0625")
SHORTER = {
    "prep": ("--size", "64", "--workers", "1"),
    "train": (*TINY, "--epochs", "1", "--set", "batch_size=16"),
    "check": ("--set", "width=0.125", "--set", "crop_size=99", "--set", "learning_rate=0.03"),
    "reproduce": (*TINY, "--set", "batch_size=2"),
}
# Command lines that are read but not run, by a part of them.
NOT_RUN = {
    "://": "needs a network or a cluster",
    "torchvision": "fetches 244 MB; tests/commands/test_import.py runs it",
    "alexnet import": "fetches or needs published weights",
    "alexnet download": "fetches up to 248 MB",
    "torchrun": "needs several machines",
    "| alexnet": "reads what another program writes; the tests of predict do",
    "alexnet demo": "takes minutes; its own tests run it",
    "alexnet bench": "measures for minutes; its own tests run it",
    "{000000..000063}": "needs 64 tars",
    "runs/pretrain-2011": "needs a network trained on 21,843 classes",
}


def shell_lines(page: Path) -> list[str]:
    """Return the command lines of the sh blocks of a page, continued lines joined."""
    blocks = re.findall(r"^```sh\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]


def parts_of(line: str) -> list[list[str]]:
    """Return the commands of a line, between `&&`, `&` and `|`, each as a shell splits it."""
    parts, words = [[]], shlex.split(line, posix=True)
    for word in words:
        if word in ("&&", "&", "|"):
            parts.append([])
        else:
            parts[-1].append(word)
    return [part for part in parts if part]


def cut_target(words: list[str]) -> tuple[list[str], str | None]:
    """Return a command without `> FILE` at its end, and that file."""
    return (words[:-2], words[-1]) if words[-2:-1] == [">"] else (words, None)


def inline_commands(page: Path) -> list[str]:
    """Return the `alexnet ...` command lines between backquotes in a page's text."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    return [" ".join(found.split()) for found in re.findall(r"`(alexnet\s[^`]+)`", text)]


def read_arguments(arguments: list[str]) -> None:
    """Let a command read its arguments, without running it."""
    common = ("--debug", "--quiet", "--verbose")
    name, *rest = [word for word in arguments if word not in common]
    if name in ("help", "--help", "--version", "-V", "--install-completion", "COMMAND"):
        return
    assert name in COMMANDS, f"there is no command {name}"
    if rest:
        COMMANDS[name].make_context(name, rest)


def read_command(words: list[str]) -> None:
    """Check one command of a line: ours are read by the program, tools must exist."""
    words, _ = cut_target(words)
    program = words[1] if words[0] == "python" else words[0]
    if program == "torchrun":
        read_arguments(words[words.index("alexnet_cli") + 1 :])
    elif program == "alexnet":
        read_arguments(words[1:])
    elif program.startswith("tools/"):
        source = (ROOT / program).read_text()
        for option in (word for word in words if word.startswith("--")):
            assert option in source, f"{program} has no {option}"
    else:
        assert program in OTHERS, f"what is {program}?"


def snippets(page: Path) -> str:
    """Return the Python of a page, its blocks one after the other."""
    return "\n".join(re.findall(r"^```python\n(.*?)^```", page.read_text(), re.M | re.S))


def run_page(page: Path, archives: Path) -> list[str]:
    """Run the alexnet commands of a page in this folder, one after the other; return them."""
    done = []
    for line in shell_lines(page):
        if any(part in line for part in NOT_RUN):
            continue
        for words in parts_of(line):
            if words[0] != "alexnet":
                continue
            words, target = cut_target(words)
            arguments = [str(archives) if word == "/data/imagenet" else word for word in words[1:]]
            if "finetune" in arguments:  # which takes the network from the checkpoint
                arguments += ("--epochs", "1")
            elif "--resume" not in arguments:  # which takes the recipe from the run
                arguments += SHORTER.get(arguments[0], ())
            if "--augmented" in arguments:
                arguments += TINY
            if arguments[0] in ("train", "reproduce"):
                arguments += ["--device", "cpu"]
            if "--gpus" in arguments and int(arguments[arguments.index("--gpus") + 1]) > 2:
                arguments += ["--gpus", "2"]
            result = CliRunner().invoke(app, arguments)
            assert result.exit_code == 0, f"{arguments}\n{result.output}"
            if target:
                Path(target).write_text(result.stdout)
            done.append(arguments[0])
    return done


@pytest.fixture(scope="module")
def workplace(release, tmp_path_factory) -> Path:
    """A folder where the commands of the README ran, with class folders of photos."""
    folder = tmp_path_factory.mktemp("workplace")
    rng = np.random.default_rng(0)
    for name in (f"{kind}/{number}.png" for kind in ("cat", "dog") for number in range(10)):
        path = folder / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (70, 80, 3), np.uint8)).save(path)
    with chdir(folder):
        ran = run_page(README, release)
    assert ran == ["prep", "pca", "train", "eval", "export", "predict"]
    return folder


@pytest.mark.parametrize("name", [name for name in PAGES if name != "README.md"])
def test_commands_of_a_page_run_after_those_of_the_readme(name, workplace, release):
    with chdir(workplace):
        run_page(PAGES[name], release)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of webdataset
@pytest.mark.parametrize("name", [name for name in PAGES if snippets(PAGES[name])])
def test_python_of_a_page_runs_after_the_commands_of_the_readme(
    name, workplace, tiny_recipe, monkeypatch
):
    monkeypatch.chdir(workplace)
    # The recipe of the pages takes minutes.
    monkeypatch.setitem(RECIPES, "small", replace(tiny_recipe, crop_size=56))
    exec(compile(snippets(PAGES[name]), name, "exec"), {"__name__": "snippet"})


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name", ["explained", "finetune", "deploy"])
def test_notebook_runs_cell_by_cell_after_the_commands_of_the_readme(
    name, workplace, monkeypatch, capsys
):
    monkeypatch.chdir(workplace)
    path = ROOT / "docs" / "notebooks" / f"{name}.py"
    assert f"notebooks/{name}.py" in PAGES["notebooks.md"].read_text()
    cells = path.read_text().split("# %%")
    assert cells[0] == ""
    names = {"__name__": "notebook"}
    for cell in cells[1:]:
        exec(compile(f"# %%{cell}", str(path), "exec"), names)

    printed = capsys.readouterr().out
    if name == "explained":
        assert "most similar to photos/cat/0.png is photos/" in printed
    elif name == "finetune":
        assert "2 classes: {'train': 16, 'val': 4}" in printed
        frozen = load_model("runs/my-photos").layer("conv3").weight
        assert np.array_equal(frozen, load_model("runs/paper").layer("conv3").weight)
    else:
        assert len(Path("labels.csv").read_text().splitlines()) == 20
        assert float(printed.rpartition(":")[2]) < 1e-6


# What mypy need not read to know our own types.
UNREAD = ("torch", "onnx", "onnxruntime", "google", "scipy", "fsspec", "pyarrow", "safetensors")


def test_python_of_the_pages_passes_mypy_strict(tmp_path):
    config = (
        f"[mypy]\nstrict = true\nfollow_imports = silent\ncache_dir = {ROOT}/.mypy_cache/strict\n"
    )
    config += "".join(
        f"[mypy-{name}.*]\nfollow_imports = skip\nignore_missing_imports = true\n"
        for name in UNREAD
    )
    (tmp_path / "mypy.ini").write_text(config)
    (tmp_path / "snippet.py").write_text(
        f"{snippets(PAGES['python.md'])}\nreveal_type((result, kernels, sample, outcome))\n"
    )

    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "snippet.py"],
        cwd=tmp_path,
        env={**os.environ, "MYPYPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )

    assert checked.returncode == 0, checked.stdout
    for name in ("ImageResult", "ndarray", "Sample", "TrainResult | None"):
        assert name in checked.stdout, checked.stdout


@pytest.mark.parametrize("name", PAGES)
def test_command_lines_are_read_by_the_program_as_written(name):
    for line in [*shell_lines(PAGES[name]), *inline_commands(PAGES[name])]:
        for words in parts_of(line):
            read_command(words)


def test_every_command_is_in_the_table_of_the_readme():
    listed = re.findall(r"^\| `alexnet (\w+)", README.read_text(), re.MULTILINE)
    assert sorted(listed) == sorted(COMMANDS)


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in headings}


@pytest.mark.parametrize("name", PAGES)
def test_links_and_named_paths_exist(name):
    page = PAGES[name]
    text = page.read_text()
    for target in re.findall(r"\]\((?!https?:)([^)\s]+)\)", text):
        path, _, anchor = target.partition("#")
        assert (page.parent / path).exists(), target
        assert not anchor or anchor in anchors(page.parent / path), target
    for path in re.findall(r"`((?:alexnet_cli|docs|tests|tools)/[\w./-]*)", text):
        assert (ROOT / path).exists(), path
