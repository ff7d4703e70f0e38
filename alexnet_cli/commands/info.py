"""`alexnet info`: the network's table, of a recipe or of a checkpoint (paper section 3.5)."""

from dataclasses import dataclass
from pathlib import Path

from alexnet_cli.model.alexnet import LayerInfo, describe_layers
from alexnet_cli.model.checkpoint import load_checkpoint
from alexnet_cli.recipe import Recipe

PAPER_CLASSES = 1000


@dataclass(frozen=True, slots=True)
class InfoResult:
    """The network, and for a checkpoint where it comes from.

    Attributes:
        input: channels, rows, columns of the patch the network reads.
    """

    recipe: str
    classes: int
    input: tuple[int, int, int]
    parameters: int
    layers: list[LayerInfo]
    origin: dict | None


def info(
    checkpoint_path: Path | None, recipe: Recipe, num_classes: int = PAPER_CLASSES
) -> InfoResult:
    """Describe a checkpoint's network, or without one a recipe's.

    Raises:
        CheckpointError: the file is none, or damaged.
    """
    origin = None
    if checkpoint_path:
        checkpoint = load_checkpoint(checkpoint_path)
        recipe, num_classes = checkpoint.recipe, len(checkpoint.classes)
        origin = {**checkpoint.origin(), "best": checkpoint.progressed.best}
    layers = describe_layers(recipe, num_classes)
    return InfoResult(
        recipe=recipe.name,
        classes=num_classes,
        input=(3, recipe.crop_size, recipe.crop_size),
        parameters=sum(layer.parameters for layer in layers),
        layers=layers,
        origin=origin,
    )
