import typing

from alexnet_cli.cli import options_training
from alexnet_cli.distributed.precision import PRECISIONS


def test_every_option_of_train_says_what_it_is_for():
    values = [v for v in vars(options_training).values() if typing.get_origin(v)]
    declared = [value for value in values if hasattr(value, "__metadata__")]
    assert len(declared) == 14
    assert all(part.help for value in declared for part in value.__metadata__)


def test_precisions_are_those_of_the_engine():
    kind, _ = typing.get_args(options_training.Precision)
    assert typing.get_args(kind) == PRECISIONS
