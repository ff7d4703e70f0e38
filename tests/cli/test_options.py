import typing

import typer

from alexnet_cli.cli import options
from alexnet_cli.distributed.runtime_config import PRECISIONS


def test_every_shared_option_says_what_it_is_for():
    shared = [value for value in vars(options).values() if typing.get_origin(value)]
    declared = [value for value in shared if hasattr(value, "__metadata__")]
    assert len(declared) >= 20
    assert all(part.help for value in declared for part in value.__metadata__)


def test_device_is_one_of_three():
    kind, option = typing.get_args(options.Device)
    assert typing.get_args(kind) == ("auto", "cuda", "cpu")
    assert isinstance(option, typer.models.OptionInfo)


def test_precisions_are_those_of_the_forward_and_backward_passes():
    kind, _ = typing.get_args(options.Precision)
    assert typing.get_args(kind) == PRECISIONS
