"""The runs before 145, which the paper's row of five networks averages, as far as is known.

They have 64 kernels in conv1, and conv2 also reads a small blurred image.
"""

from dataclasses import replace
from typing import Any

from alexnet_cli.recipes.named_recipe import from_log, variant
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
FIVE_CNNS_137 = variant(
    ORIGINAL_2012,
    "five-cnns-137",
    "a low-resolution path beside 64 kernels in conv1 (run 137)",
    published=from_log("137", 40.782, 18.344),
    conv1=replace(ORIGINAL_2012.conv1, filters=64),
    low_resolution=True,
    **SCRIPTED,
)
CONTRAST = ("activation", "norm", "contrast-norm", "max-pool")
FIVE_CNNS_135 = variant(
    FIVE_CNNS_137.recipe,
    "five-cnns-135",
    "the second normalization subtracts the local mean (run 135)",
    published=from_log("135", 41.070, 18.416),
    conv2=replace(FIVE_CNNS_137.recipe.conv2, then=CONTRAST),
)
FIVE_CNNS_131 = variant(
    FIVE_CNNS_135.recipe,
    "five-cnns-131",
    "response normalization with k = 1 (run 131)",
    published=from_log("131", 40.934, 18.574),
    lrn_k=1.0,
)
FIVE_CNNS_120 = variant(
    FIVE_CNNS_131.recipe,
    "five-cnns-120",
    "layer 1 normalized after pooling and ReLU (run 120)",
    published=from_log("120", 41.044, 18.714),
    conv1=replace(FIVE_CNNS_131.recipe.conv1, then=("max-pool", "activation", "norm")),
)


NAMED_RECIPES = [FIVE_CNNS_137, FIVE_CNNS_135, FIVE_CNNS_131, FIVE_CNNS_120]
