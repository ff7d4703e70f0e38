"""The networks the paper trained on CIFAR-10: Figure 1, and section 3.3's 13 % and 11 %.

Images of 32 pixels, the mean image subtracted, no color noise.
"""

from dataclasses import replace

from alexnet_cli.recipes.named_recipe import PublishedResult, variant
from alexnet_cli.recipes.recipe import NORM_POOL, PAPER, POOL, Conv, Dense, Milestone

NO_CONV = replace(PAPER.conv5, filters=0)
NO_DENSE = Dense(units=0, init_std=0.01, init_bias=0.0)
AVERAGE_POOL = ("activation", "average-pool")
NINE_VIEWS = "nine views, test"

# Section 3.1, Figure 1: four layers without any regularization, each network with its own learning
# rate. The 2012 code has no such run. This is its closest network, the "19 %" one of its examples:
# three convolutions and a classifier; there conv1 pools before its activation.
NAMED_RELU = variant(
    PAPER,
    "cifar-relu",
    "six times as fast to 25 % training error as tanh (figure 1)",
    data="cifar-10",
    crop_size=32,
    columns=1,
    reads_both=("fc8",),
    conv1=Conv(
        filters=32, size=5, pad=2, init_std=1e-4, init_bias=0.0, then=("max-pool", "activation")
    ),
    conv2=Conv(filters=32, size=5, pad=2, init_std=0.01, init_bias=0.0, then=AVERAGE_POOL),
    conv3=Conv(filters=64, size=5, pad=2, init_std=0.01, init_bias=0.0, then=AVERAGE_POOL),
    conv4=NO_CONV,
    conv5=NO_CONV,
    fc6=NO_DENSE,
    fc7=NO_DENSE,
    random_crop=False,
    mirror=False,
    color_noise=0.0,
    learning_rate=0.001,
    bias_lr_multiplier=2.0,
    weight_decay=0.0,
    schedule="milestones",
    epochs=100,
    until_train_error=0.25,
)
CIFAR_RELU = NAMED_RELU.recipe
NAMED_TANH = variant(
    CIFAR_RELU, "cifar-tanh", "figure 1, the slower one", data="cifar-10", activation="tanh"
)
CIFAR_TANH = NAMED_TANH.recipe

# Section 3.3: "a four-layer CNN", the 2012 code's "13 %" network, two convolutions and two layers
# with local weights. Crops of 24 of 32 pixels. The authors trained on four fifths of the images for
# some 300 epochs, then on all for 150, then at a tenth and a hundredth of the learning rate; here
# all images are used from the beginning.
LOCAL = Conv(filters=32, size=3, pad=1, init_std=0.04, init_bias=0.0, local=True)
NAMED_13PCT = variant(
    CIFAR_RELU,
    "cifar-13pct",
    "four layers, without response normalization",
    data="cifar-10",
    published=(PublishedResult("cifar-10", 13.0, None, NINE_VIEWS, "paper, section 3.3"),),
    crop_size=24,
    conv1=Conv(filters=64, size=5, pad=2, init_std=1e-4, init_bias=0.0, then=POOL, decay=0.0),
    conv2=Conv(filters=64, size=5, pad=2, init_std=0.01, init_bias=0.0, then=POOL, decay=0.0),
    conv3=LOCAL,
    conv4=LOCAL,
    random_crop=True,
    mirror=True,
    weight_decay=0.004,
    until_train_error=0.0,
    milestones=(
        Milestone(epoch=450, lr=1e-4, bias_lr=2e-4),
        Milestone(epoch=460, lr=1e-5, bias_lr=2e-5),
    ),
    epochs=470,
)
CIFAR_13PCT = NAMED_13PCT.recipe

# The same with response normalization before each pooling layer; not in the released code, whose
# author published these constants with a later version: size 5, 0.001 / 5, 0.75, k = 1.
CIFAR_11PCT = variant(
    CIFAR_13PCT,
    "cifar-11pct",
    "the same with response normalization",
    data="cifar-10",
    published=(PublishedResult("cifar-10", 11.0, None, NINE_VIEWS, "paper, section 3.3"),),
    conv1=replace(CIFAR_13PCT.conv1, then=NORM_POOL),
    conv2=replace(CIFAR_13PCT.conv2, then=NORM_POOL),
    lrn_k=1.0,
    lrn_alpha=0.001,
    lrn_divided=True,
)

NAMED_RECIPES = [NAMED_RELU, NAMED_TANH, NAMED_13PCT, CIFAR_11PCT]
