"""The runs before 145, which the paper's row of five networks averages, as far as is known.

They have 64 kernels in conv1, and conv2 also reads a small blurred image.
"""

from dataclasses import replace
from typing import Any

from alexnet_cli.recipes.named_recipe import NamedRecipe, from_log
from alexnet_cli.recipes.original_2012 import ORIGINAL_2012
from alexnet_cli.recipes.recipe import Milestone

STEM = ("conv1", "conv2")

# The learning rates that the script of run 120 sets (run4.sh); for the others the notes say "the
# same policy, 95 to 100 epochs".
SCRIPTED: dict[str, Any] = {
    "schedule": "milestones",
    "milestones": (
        Milestone(epoch=22, lr=1e-3, bias_lr=2e-3),
        Milestone(epoch=49, lr=1e-4),
        Milestone(epoch=66, lr=1e-5, layers=STEM),
        Milestone(epoch=73, lr=0.0, layers=STEM),
        Milestone(epoch=81, lr=1e-5),
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


NAMED_RECIPES = [
    NamedRecipe(
        FIVE_CNNS_137,
        "original-2012",
        "a low-resolution path beside 64 kernels in conv1 (run 137)",
        published=from_log("137", 40.782, 18.344),
    ),
    NamedRecipe(
        FIVE_CNNS_135,
        "five-cnns-137",
        "the second normalization subtracts the local mean (run 135)",
        published=from_log("135", 41.070, 18.416),
    ),
    NamedRecipe(
        FIVE_CNNS_131,
        "five-cnns-135",
        "response normalization with k = 1 (run 131)",
        published=from_log("131", 40.934, 18.574),
    ),
    NamedRecipe(
        FIVE_CNNS_120,
        "five-cnns-131",
        "layer 1 normalized after pooling and ReLU (run 120)",
        published=from_log("120", 41.044, 18.714),
    ),
]
