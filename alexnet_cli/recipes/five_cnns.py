"""The runs before 145: with them the paper's row of five networks was averaged, as far as is known.

They have 64 kernels in conv1, and conv2 reads a small blurred image beside them.
"""

from dataclasses import replace

from alexnet_cli.recipes.named_recipe import VAL_2012, NamedRecipe, PublishedResult
from alexnet_cli.recipes.original_2012 import ORIGINAL_2012
from alexnet_cli.recipes.recipe import Event

STEM = ("conv1", "conv2")

# The rates that run 120's script sets (run4.sh); the notes say "the same policy, 95 to 100 epochs"
# of the others.
SCRIPTED = {
    "schedule": "events",
    "events": (
        Event(epoch=22, rate=1e-3, bias_rate=2e-3),
        Event(epoch=49, rate=1e-4),
        Event(epoch=66, rate=1e-5, layers=STEM),
        Event(epoch=73, rate=0.0, layers=STEM),
        Event(epoch=81, rate=1e-5),
    ),
    "epochs": 95,
    "color_noise_epochs": 66,
}

# Run 137: run 145 with fewer kernels and the low-resolution path.
FIVE_CNNS_137 = replace(
    ORIGINAL_2012,
    name="five-cnns-137",
    conv1=replace(ORIGINAL_2012.conv1, filters=64),
    low_resolution=True,
    **SCRIPTED,
)
CONTRAST = ("activation", "norm", "contrast-norm", "max-pool")
FIVE_CNNS_135 = replace(
    FIVE_CNNS_137,
    name="five-cnns-135",
    conv2=replace(FIVE_CNNS_137.conv2, then=CONTRAST),
)
FIVE_CNNS_131 = replace(FIVE_CNNS_135, name="five-cnns-131", lrn_k=1.0)
FIVE_CNNS_120 = replace(
    FIVE_CNNS_131,
    name="five-cnns-120",
    conv1=replace(FIVE_CNNS_131.conv1, then=("max-pool", "activation", "norm")),
)


def _logged(top1_error: float, top5_error: float, run: str) -> tuple[PublishedResult, ...]:
    return (PublishedResult("ilsvrc-2012", top1_error, top5_error, VAL_2012, f"log, run {run}"),)


NAMED_RECIPES = [
    NamedRecipe(
        FIVE_CNNS_137,
        "original-2012",
        "a low-resolution path beside 64 kernels in conv1 (run 137)",
        targets=_logged(40.782, 18.344, "137"),
    ),
    NamedRecipe(
        FIVE_CNNS_135,
        "five-cnns-137",
        "the second normalization subtracts the local mean (run 135)",
        targets=_logged(41.070, 18.416, "135"),
    ),
    NamedRecipe(
        FIVE_CNNS_131,
        "five-cnns-135",
        "response normalization with k = 1 (run 131)",
        targets=_logged(40.934, 18.574, "131"),
    ),
    NamedRecipe(
        FIVE_CNNS_120,
        "five-cnns-131",
        "layer 1 normalized after pooling and ReLU (run 120)",
        targets=_logged(41.044, 18.714, "120"),
    ),
]
