"""The paper's network with fewer kernels, for less data and a CPU."""

from dataclasses import replace

from alexnet_cli.recipes.named_recipe import NamedRecipe
from alexnet_cli.recipes.overrides import widen
from alexnet_cli.recipes.recipe import PAPER

# For some ten thousand images and a CPU: three eighths of the kernels, a schedule that ends.
SMALL = replace(
    widen(PAPER, 0.375),
    name="small",
    batch_size=64,
    epochs=16,
    schedule="linear",
    warmup_epochs=1.0,
)

# For the thousand generated images of `alexnet demo`: a quarter of the kernels.
DEMO = replace(
    widen(PAPER, 0.25),
    name="demo",
    batch_size=32,
    epochs=8,
    schedule="linear",
    warmup_epochs=1.0,
)

NAMED_RECIPES = [
    NamedRecipe(SMALL, "paper", "some ten thousand images and a CPU", data="your own"),
    NamedRecipe(DEMO, "paper", "the generated images of alexnet demo", data="demo"),
]
