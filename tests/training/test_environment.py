"""What environment.json says about the source of the program."""

import json
import subprocess
from importlib import metadata
from pathlib import Path

from alexnet_cli.training.environment import source_version

UNKNOWN = {"commit": None, "modified": None}
COMMIT = "3f786850e387550fdab836ed7e6dc881de23001b"


def make_checkout(folder: Path) -> str:
    """Make a repository with a package and a tag; return the commit that git itself names."""
    package = folder / "alexnet_cli"
    package.mkdir(parents=True)
    (package / "a.py").write_text("a = 1\n")
    who = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    for command in (["init", "-q"], ["add", "."], [*who, "commit", "-qm", "a"], ["tag", "v1-rc"]):
        subprocess.run(["git", "-C", folder, *command], check=True)
    head = ["git", "-C", folder, "rev-parse", "HEAD"]
    return subprocess.run(head, capture_output=True, text=True, check=True).stdout.strip()


def test_checkout_names_its_commit_and_whether_files_differ(tmp_path, monkeypatch):
    commit = make_checkout(tmp_path)
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "of a hook"))
    package = tmp_path / "alexnet_cli"
    assert source_version(package) == {"commit": commit, "modified": False}
    (package / "a.py").write_text("a = 2\n")
    assert source_version(package) == {"commit": commit, "modified": True}


def test_package_installed_below_a_repository_is_not_of_its_commit(tmp_path):
    make_checkout(tmp_path)
    package = tmp_path / ".venv" / "lib" / "alexnet_cli"
    package.mkdir(parents=True)
    assert source_version(package) == UNKNOWN


def test_repository_that_git_cannot_read_is_no_source(tmp_path, monkeypatch):
    (tmp_path / ".git").write_text("gitdir: nowhere\n")
    assert source_version(tmp_path / "alexnet_cli") == UNKNOWN
    monkeypatch.setenv("PATH", str(tmp_path))  # no git at all
    assert source_version(tmp_path / "alexnet_cli") == UNKNOWN


def test_package_that_pip_installed_from_a_repository_has_the_commit_of_pip(tmp_path, monkeypatch):
    package, notes = tmp_path / "alexnet_cli", tmp_path / "alexnet_cli-1.dist-info"
    package.mkdir()
    notes.mkdir()
    (notes / "METADATA").write_text("Metadata-Version: 2.1\nName: alexnet-cli\nVersion: 1\n")
    installed = metadata.Distribution.at(notes)
    monkeypatch.setattr(metadata, "distribution", lambda name: installed)
    assert source_version(package) == UNKNOWN  # from an index
    origin = {"url": "https://example.org/a.git", "vcs_info": {"vcs": "git", "commit_id": COMMIT}}
    (notes / "direct_url.json").write_text(json.dumps(origin))
    assert source_version(package) == {"commit": COMMIT, "modified": None}
    assert source_version(tmp_path / "elsewhere" / "alexnet_cli") == UNKNOWN
    (notes / "direct_url.json").write_text('{"url": "file:///a", "dir_info": {"editable": true}}')
    assert source_version(package) == UNKNOWN
