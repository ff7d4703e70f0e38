import typing

import pytest

from alexnet_cli.cli import options
from alexnet_cli.distributed.runtime_config import DEVICES, PRECISIONS


def test_every_shared_option_says_what_it_is_for():
    shared = [value for value in vars(options).values() if typing.get_origin(value)]
    declared = [value for value in shared if hasattr(value, "__metadata__")]
    assert len(declared) >= 20
    assert all(part.help for value in declared for part in value.__metadata__)


def test_devices_are_those_that_help_names():
    _, option = typing.get_args(options.Device)
    assert tuple(option.metavar.split("|")) == DEVICES
    assert options.complete_device("c") == ["cuda", "cpu"]


@pytest.mark.parametrize("command", [["eval", "CKPT", "DATA"], ["predict", "x.jpg"]])
def test_number_in_place_of_a_device_is_refused_before_anything_is_read(alexnet, command):
    result = alexnet(*command, "--device", "0")
    assert result.exit_code == 2
    assert "For GPU 0 write cuda:0" in result.stderr


def test_precisions_are_those_of_the_forward_and_backward_passes():
    kind, _ = typing.get_args(options.Precision)
    assert typing.get_args(kind) == PRECISIONS


def test_device_is_also_read_from_the_environment(alexnet, monkeypatch):
    monkeypatch.setenv("ALEXNET_DEVICE", "0")
    result = alexnet("eval", "CKPT", "DATA")
    assert result.exit_code == 2
    assert "For GPU 0 write cuda:0" in result.stderr
    assert "For GPU 0" not in alexnet("eval", "CKPT", "DATA", "--device", "cpu").stderr
