"""Sphinx builds the documentation with this: `tools/docs`."""

import re
import subprocess
import sys
from pathlib import Path

from sphinx.application import Sphinx

CLI = "alexnet_cli.cli.app"  # the module whose `app` is the command line

project = "alexnet"
extensions = ["myst_parser"]
exclude_patterns = []
html_theme = "furo"
html_title = "alexnet"
html_show_copyright = False
myst_heading_anchors = 3


def command_reference() -> str:
    """Return what Typer's own tool writes about every command, without the list of commands."""
    command = [sys.executable, "-m", "typer", CLI, "utils", "docs", "--name", "alexnet"]
    root = Path(__file__).parent.parent
    done = subprocess.run(command, cwd=root, stdout=subprocess.PIPE, text=True, check=True)
    before, _, rest = done.stdout.partition("**Commands**:")
    return before.replace("# `alexnet`", "# Commands", 1) + rest[rest.index("## ") :]


def fill_in_commands(_: Sphinx, page: str, source: list[str]) -> None:
    """Replace the page docs/commands.md by the reference."""
    if page == "commands":
        source[0] = command_reference()


def notebook_text(path: Path) -> str:
    """Return a notebook in the percent format as Markdown, its headings one level deeper."""
    parts = []
    for cell in path.read_text().split("# %%")[1:]:
        kind, _, content = cell.partition("\n")
        if "[markdown]" in kind:
            lines = [line.removeprefix("#").removeprefix(" ") for line in content.splitlines()]
            parts += ["\n".join(f"#{line}" if line.startswith("#") else line for line in lines)]
        else:
            parts += [f"```python\n{content.strip()}\n```"]
    return "\n\n".join(parts)


def fill_in_notebooks(app: Sphinx, page: str, source: list[str]) -> None:
    """Add the notebooks to the page docs/notebooks.md, whose links name their files."""
    if page == "notebooks":
        names = re.findall(r"\]\((notebooks/\w+\.py)\)", source[0])
        text = re.sub(r"^\* \[.*\n", "", source[0], flags=re.MULTILINE)
        source[0] = "\n\n".join([text, *(notebook_text(Path(app.srcdir, name)) for name in names)])


def setup(app: Sphinx) -> None:
    """Connect the functions above."""
    app.connect("source-read", fill_in_commands)
    app.connect("source-read", fill_in_notebooks)
