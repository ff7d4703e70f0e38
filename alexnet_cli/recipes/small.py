"""The paper's network with fewer kernels, for less data and a CPU."""

from dataclasses import replace

from alexnet_cli.recipes.named_recipe import variant
from alexnet_cli.recipes.overrides import widen
from alexnet_cli.recipes.recipe import PAPER, Recipe

# For some ten thousand images and a CPU: three eighths of the kernels, a schedule that ends.
NAMED_SMALL = variant(
    widen(PAPER, 0.375),
    "small",
    "some ten thousand images and a CPU",
    data="your own",
    batch_size=64,
    epochs=16,
    schedule="linear",
    warmup_epochs=1.0,
)

# For the thousand generated images of `alexnet demo`: a quarter of the kernels.
NAMED_DEMO = variant(
    widen(PAPER, 0.25),
    "demo",
    "the generated images of alexnet demo",
    data="demo",
    batch_size=32,
    epochs=8,
    schedule="linear",
    warmup_epochs=1.0,
)

# For some hundred images of new classes and the weights of another network, whose layers take the
# place of the paper's here: see `finetune_of`.
NAMED_FINETUNE = variant(
    PAPER,
    "finetune",
    "a few hundred images, from the layers of another network",
    data="your own",
    init_from="paper",
    batch_size=32,
    learning_rate=0.002,
    schedule="linear",
    warmup_epochs=1.0,
    epochs=60,
    stop_after=15,
    min_improvement=0.0,
    class_weights="balanced",
)

NAMED_RECIPES = [NAMED_FINETUNE, NAMED_SMALL, NAMED_DEMO]
SMALL = NAMED_SMALL.recipe
DEMO = NAMED_DEMO.recipe
FINETUNE = NAMED_FINETUNE.recipe


def finetune_of(network: Recipe) -> Recipe:
    """Return the recipe `finetune` for the network of another recipe."""
    return replace(FINETUNE, **network.network())
