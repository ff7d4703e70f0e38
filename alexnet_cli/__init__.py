"""AlexNet (Krizhevsky, Sutskever, Hinton, NIPS 2012), from ImageNet's archives to its results.

What this package offers to programs is loaded when it is first used: importing it takes
milliseconds, and torch is imported only by what trains, or reads a checkpoint.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from alexnet_cli.data.dataset_ref import DatasetRef, open_dataset
    from alexnet_cli.data.shards.dataset import Dataset, Split
    from alexnet_cli.data.shards.sample import Sample
    from alexnet_cli.distributed.runtime_config import RuntimeConfig
    from alexnet_cli.errors import AlexNetError
    from alexnet_cli.inference.load import load_model
    from alexnet_cli.inference.model import Model, ModelLayer
    from alexnet_cli.inference.results import ImageResult, Prediction
    from alexnet_cli.recipes.catalog import find_recipe
    from alexnet_cli.recipes.recipe import Recipe
    from alexnet_cli.training.run import TrainRequest, TrainResult, train

__version__ = "0.1.0"

__all__ = [
    "AlexNetError",
    "Dataset",
    "DatasetRef",
    "ImageResult",
    "Model",
    "ModelLayer",
    "Prediction",
    "Recipe",
    "RuntimeConfig",
    "Sample",
    "Split",
    "TrainRequest",
    "TrainResult",
    "__version__",
    "find_recipe",
    "load_model",
    "open_dataset",
    "train",
]

_MODULES = {
    "AlexNetError": "errors",
    "Dataset": "data.shards.dataset",
    "DatasetRef": "data.dataset_ref",
    "ImageResult": "inference.results",
    "Model": "inference.model",
    "ModelLayer": "inference.model",
    "Prediction": "inference.results",
    "Recipe": "recipes.recipe",
    "RuntimeConfig": "distributed.runtime_config",
    "Sample": "data.shards.sample",
    "Split": "data.shards.dataset",
    "TrainRequest": "training.run",
    "TrainResult": "training.run",
    "find_recipe": "recipes.catalog",
    "load_model": "inference.load",
    "open_dataset": "data.dataset_ref",
    "train": "training.run",
}


def __getattr__(name: str) -> Any:
    """Load what is asked for (PEP 562)."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        module = import_module(f"{__name__}.{_MODULES[name]}")
    except ModuleNotFoundError as error:
        from alexnet_cli.errors import missing_package

        raise missing_package(error) or error from error
    return getattr(module, name)


def __dir__() -> list[str]:
    return __all__
