"""The runs of the 2012 code, with the schedules in the authors' notes."""

from dataclasses import replace
from typing import Any

from alexnet_cli.recipes.named_recipe import TEST_2010, PublishedResult, from_log, variant
from alexnet_cli.recipes.recipe import PAPER, POOL, Milestone


def hand_set(
    drops: tuple[int, int, int], conv1: tuple[int | None, int], end: int, noise: int = 0
) -> dict[str, Any]:
    """Return a hand-set schedule from the authors' notes: a tenth after each of `drops` epochs.

    Args:
        conv1: after how many epochs conv1's learning rate drops to 1e-5, and to 0.
        noise: after how many epochs the color noise ends.
    """
    milestones = [Milestone(epoch=e, lr=r) for e, r in zip(drops, (1e-3, 1e-4, 1e-5), strict=True)]
    low, frozen = conv1
    if low:
        milestones.append(Milestone(epoch=low, lr=1e-5, layers=("conv1",)))
    milestones.append(Milestone(epoch=frozen, lr=0.0, layers=("conv1",)))
    return {
        "schedule": "milestones",
        "milestones": tuple(sorted(milestones, key=lambda milestone: milestone.epoch)),
        "epochs": end,
        "color_noise_epochs": noise,
    }


# Run 145: what was run in 2012. Unlike the paper's text: ReLU after normalization and pooling in
# layer 1, a second normalization in layer 2, alpha divided by n, biases whose learning rate is
# twice as high and constant, crops shared by 32 images, the stored order in every epoch.
RUN_145 = variant(
    PAPER,
    "original-2012",
    "what was run in 2012 (run 145)",
    published=from_log("145", 40.664, 18.210),
    conv1=replace(PAPER.conv1, then=("norm", "max-pool", "activation")),
    conv2=replace(PAPER.conv2, then=("activation", "norm", "spatial-norm", "max-pool")),
    conv5=replace(PAPER.conv5, then=("max-pool", "activation")),
    lrn_divided=True,
    bias_lr_multiplier=2.0,
    share_crops=32,
    noise_rescaled=True,
    reshuffle=False,
    **hand_set((25, 51, 79), conv1=(67, 72), end=91, noise=67),
)
ORIGINAL_2012 = RUN_145.recipe

# Run 145-2010: the same network on ILSVRC-2010.
ORIGINAL_2010 = variant(
    ORIGINAL_2012,
    "original-2010",
    "the same on ILSVRC-2010 (run 145-2010)",
    data="ilsvrc-2010",
    published=(
        PublishedResult("ilsvrc-2010", 37.4727, 16.9987, TEST_2010, "log, run 145-2010"),
        PublishedResult("ilsvrc-2010", 39.0247, 18.2953, "center view, test", "log, run 145-2010"),
    ),
    **hand_set((23, 51, 78), conv1=(68, 72), end=93, noise=68),
)

# Section 3.2, and run 145-half: one column, but conv5 and the hidden layers of full size, so that
# nearly all parameters remain. Its notes have no last drop.
ONE_GPU = variant(
    ORIGINAL_2010.recipe,
    "one-gpu",
    "one column; two are 1.7 and 1.2 % better",
    data="ilsvrc-2010",
    published=from_log("145-half", 39.168, 18.2287, "ilsvrc-2010", TEST_2010),
    columns=1,
    conv1=replace(ORIGINAL_2010.recipe.conv1, filters=48),
    conv2=replace(ORIGINAL_2010.recipe.conv2, filters=128),
    conv3=replace(ORIGINAL_2010.recipe.conv3, filters=192),
    conv4=replace(ORIGINAL_2010.recipe.conv4, filters=192),
    **hand_set((20, 48, 96), conv1=(66, 72), end=96, noise=66),
)

# Section 3.4, and run 147: without overlap two paddings shrink, which keeps 6 x 6. Its notes have
# neither conv1's 1e-5 nor an end of the noise.
NO_OVERLAP = variant(
    ORIGINAL_2012,
    "no-overlap",
    "pooling windows that do not overlap; overlap is 0.4 and 0.3 % better",
    published=from_log("147", 41.058, 18.510),
    pool_size=2,
    conv2=replace(ORIGINAL_2012.conv2, pad=1),
    conv5=replace(ORIGINAL_2012.conv5, pad=0),
    **hand_set((23, 51, 79), conv1=(None, 79), end=90),
)

# Section 3.3, and run 148: without the spatial normalization too.
NO_LRN = variant(
    ORIGINAL_2012,
    "no-lrn",
    "no response normalization; with it 1.4 and 1.2 % better",
    published=from_log("148", 42.034, 19.362),
    conv1=replace(ORIGINAL_2012.conv1, then=("max-pool", "activation")),
    conv2=replace(ORIGINAL_2012.conv2, then=POOL),
    **hand_set((22, 44, 86), conv1=(69, 73), end=97, noise=69),
)

# Run 149: a third response normalization, before conv5's pooling. Its notes stop at epoch 66; the
# rest is run 145's.
LRN_CONV5 = variant(
    ORIGINAL_2012,
    "lrn-conv5",
    "response normalization after conv5 too (run 149, no figure)",
    conv5=replace(ORIGINAL_2012.conv5, then=("norm", "max-pool", "activation")),
    **hand_set((21, 54, 79), conv1=(66, 72), end=91, noise=66),
)

# Run 150: the columns are combined only at the classifier; wider where they have fewer inputs.
NO_COMMUNICATION = variant(
    ORIGINAL_2012,
    "no-communication",
    "columns that are separate up to the classifier",
    published=from_log("150", 41.828, 19.330),
    reads_both=("fc8",),
    conv2=replace(ORIGINAL_2012.conv2, filters=320),
    fc6=replace(ORIGINAL_2012.fc6, units=8192),
    **hand_set((25, 49, 79), conv1=(66, 72), end=92, noise=66),
)

# Run 170, of 2013: four equal steps of the learning rate by 250 in all, the biases' by ten at half
# time. Its notes have the learning rates; the network is assumed to be run 145's, the length that
# of run 169.
EXP_SCHEDULE = variant(
    ORIGINAL_2012,
    "exp-schedule",
    "learning rates by a formula instead of by hand",
    published=from_log("170", 40.528, 18.048),
    schedule="stepped",
    milestones=(),
    lr_factor=250.0,
    lr_steps=4,
    bias_lr_factor=10.0,
    bias_lr_steps=2,
    epochs=95,
    color_noise_epochs=0,
)

NAMED_RECIPES = [
    RUN_145,
    ORIGINAL_2010,
    ONE_GPU,
    NO_OVERLAP,
    NO_LRN,
    NO_COMMUNICATION,
    LRN_CONV5,
    EXP_SCHEDULE,
]
