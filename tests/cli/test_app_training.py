"""The command line of what trains; the commands themselves are tested in tests/commands."""

import pytest


@pytest.mark.parametrize("command", ["train", "demo"])
def test_help_says_what_the_command_does(alexnet, command):
    result = alexnet(command, "--help")
    assert result.exit_code == 0
    assert "--device" in result.stdout


def test_recipe_and_settings_are_checked_before_anything_is_read(alexnet, tmp_path):
    result = alexnet("train", tmp_path / "no", "--run", tmp_path / "run", "--recipe", "vgg")
    assert result.exit_code == 2
    assert "no recipe 'vgg'" in result.stderr
    assert not (tmp_path / "run").exists()
