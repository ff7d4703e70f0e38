"""The paper's text and its ablations."""

from dataclasses import replace

from alexnet_cli.recipes.named_recipe import (
    TEST_2010,
    VAL_2012,
    NamedRecipe,
    PublishedResult,
    variant,
)
from alexnet_cli.recipes.recipe import PAPER, POOL

# Section 4.2.
NO_DROPOUT = variant(
    PAPER,
    "no-dropout",
    "substantial overfitting (section 4.2, no figure)",
    fc6=replace(PAPER.fc6, dropout=0.0),
    fc7=replace(PAPER.fc7, dropout=0.0),
)

# Section 4.1.
NO_COLOR_NOISE = variant(
    PAPER, "no-color-noise", "top-1 more than 1 % worse (section 4.1)", color_noise=0.0
)
NO_AUGMENTATION = variant(
    PAPER,
    "no-augmentation",
    "substantial overfitting (section 4.1, no figure)",
    color_noise=0.0,
    random_crop=False,
    mirror=False,
)

# Section 7. Without conv3, conv4 reads both columns; without conv5, its pooling stays.
WITHOUT_CONV3 = variant(
    PAPER,
    "without-conv3",
    "top-1 about 2 % worse (section 7)",
    conv3=replace(PAPER.conv3, filters=0),
    reads_both=("conv4", "fc6", "fc7", "fc8"),
)
WITHOUT_CONV4 = variant(
    PAPER,
    "without-conv4",
    "top-1 about 2 % worse (section 7)",
    conv4=replace(PAPER.conv4, filters=0),
)
WITHOUT_CONV5 = variant(
    PAPER,
    "without-conv5",
    "top-1 about 2 % worse (section 7)",
    conv4=replace(PAPER.conv4, then=POOL),
    conv5=replace(PAPER.conv5, filters=0),
)

# Section 3.4.
AVERAGE_NORM_POOL = ("activation", "norm", "average-pool")
AVERAGE_POOLING = variant(
    PAPER,
    "average-pooling",
    "average instead of max pooling (no figure)",
    conv1=replace(PAPER.conv1, then=AVERAGE_NORM_POOL),
    conv2=replace(PAPER.conv2, then=AVERAGE_NORM_POOL),
    conv5=replace(PAPER.conv5, then=("activation", "average-pool")),
)

# Section 3.3 normalizes across maps. The authors' slides show another form, over 5 x 5 positions of
# the same map; here with the paper's constants.
WITHIN = ("activation", "spatial-norm", "max-pool")
INTRA_CHANNEL_LRN = variant(
    PAPER,
    "intra-channel-lrn",
    "normalization within a map, over space (no figure)",
    conv1=replace(PAPER.conv1, then=WITHIN),
    conv2=replace(PAPER.conv2, then=WITHIN),
    spatial_k=2.0,
    spatial_alpha=1e-4,
    spatial_divided=False,
)

# Section 3.1.
TANH = variant(
    PAPER,
    "tanh",
    "saturating units, several times slower (section 3.1, no figure)",
    activation="tanh",
)
SIGMOID = variant(
    PAPER, "sigmoid", "saturating units (section 3.1, no figure)", activation="sigmoid"
)

NAMED_RECIPES = [
    NamedRecipe(
        PAPER,
        None,
        "the paper's text",
        published=(
            PublishedResult("ilsvrc-2012", 40.7, 18.2, VAL_2012, "paper, table 2"),
            PublishedResult("ilsvrc-2010", 37.5, 17.0, TEST_2010, "paper, table 1"),
            PublishedResult("ilsvrc-2010", 39.0, 18.3, "center view, test", "paper, center view"),
        ),
    ),
    NO_DROPOUT,
    NO_AUGMENTATION,
    NO_COLOR_NOISE,
    WITHOUT_CONV3,
    WITHOUT_CONV4,
    WITHOUT_CONV5,
    AVERAGE_POOLING,
    INTRA_CHANNEL_LRN,
    TANH,
    SIGMOID,
]
