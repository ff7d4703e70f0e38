"""The paper's network with fewer kernels, for less data and a CPU."""

from alexnet_cli.recipes.named_recipe import variant
from alexnet_cli.recipes.overrides import widen
from alexnet_cli.recipes.recipe import PAPER

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

NAMED_RECIPES = [NAMED_SMALL, NAMED_DEMO]
SMALL = NAMED_SMALL.recipe
DEMO = NAMED_DEMO.recipe
