"""The command line of datasets; the commands themselves are tested in tests/commands."""

from pathlib import Path

import pytest
from alexnet_cli.cli.app_data import _find_source, _name_of

from alexnet_cli.cli import app as cli
from alexnet_cli.data.remote.tar_set import TarSet


@pytest.mark.parametrize(("command", "option"), [("prep", "--layout"), ("verify", "--repair")])
def test_help_says_what_the_command_does(alexnet, command, option):
    result = alexnet(command, "--help")
    assert result.exit_code == 0
    assert option in result.stdout


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
