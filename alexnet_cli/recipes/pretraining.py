"""Section 6's networks, pre-trained on all of ImageNet: runs 146-2009, 146-2011 and 146-2012.

The chain of the 2012 code: some thirty epochs of run 145 on ILSVRC-2012, then the Fall 2009
release, then (for the paper's "1 CNN*") Fall 2011, then ILSVRC-2012 again. Each recipe names the
layers it initializes from the run before; the others are drawn at random. Epochs with a fraction
are the notes' batch files (1024 images) divided by the size of the set.
"""

from dataclasses import replace

from alexnet_cli.recipes.named_recipe import VAL_2012, PublishedResult, from_log, variant
from alexnet_cli.recipes.original_2012 import ORIGINAL_2012
from alexnet_cli.recipes.recipe import Milestone

CONVS = ("conv1", "conv2", "conv3", "conv4", "conv5")
HIDDEN = ("fc6", "fc7")

# Run 146-2009: a sixth convolution that reads both columns; 10,184 classes. The notes' batch 1600
# of epoch 2 and batch 6491 of epoch 6, of some 8,800 in an epoch: after 1.18 and 5.74 epochs.
PRETRAIN_2009 = variant(
    ORIGINAL_2012,
    "pretrain-2009",
    "all of Fall 2009, 10,184 classes",
    data="fall-2009",
    init_from="original-2012",
    conv5=replace(ORIGINAL_2012.conv5, then=("max-pool", "activation")),
    conv6=replace(ORIGINAL_2012.conv6, filters=256),
    reads_both=("conv3", "conv6", "fc6", "fc7", "fc8"),
    init_layers=CONVS,
    schedule="milestones",
    milestones=(
        Milestone(epoch=0, lr=0.001, layers=CONVS),
        Milestone(epoch=0, lr=0.01, layers=("conv6",), bias_lr=0.002),
        Milestone(epoch=1.18, lr=0.001),
    ),
    epochs=6,
    color_noise_epochs=0,
)

# Run 146-2011: 21,843 classes, half of them on each column, behind a linear layer of 2048 units.
PRETRAIN_2011 = variant(
    PRETRAIN_2009.recipe,
    "pretrain-2011",
    "all of Fall 2011, 21,843 classes",
    data="fall-2011",
    init_from="pretrain-2009",
    bottleneck=replace(ORIGINAL_2012.bottleneck, units=2048),
    split_classes=True,
    reads_both=("conv3", "conv6", "fc6", "fc7", "bottleneck", "fc8"),
    init_layers=(*CONVS, "conv6"),
    milestones=(
        Milestone(epoch=0, lr=0.001, layers=CONVS),
        Milestone(epoch=0, lr=0.001, layers=("conv6",), bias_lr=0.002),
        Milestone(epoch=6, lr=0.001),
    ),
    epochs=8,
)

# Run 146-2012-2011, the paper's "1 CNN*": only the classifier is random. After 300 batch files of
# 1,252 its learning rate is ten times that of the others, for nine epochs.
FINETUNE_2012 = variant(
    PRETRAIN_2009.recipe,
    "finetune-2012",
    "1 CNN*: pre-trained on Fall 2011 (run 146-2012-2011)",
    published=(
        PublishedResult("ilsvrc-2012", 39.0, 16.6, VAL_2012, "paper, table 2"),
        PublishedResult("ilsvrc-2012", 38.990, 16.622, VAL_2012, "log, run 146-2012-2011"),
    ),
    init_from="pretrain-2011",
    init_layers=(*CONVS, "conv6", *HIDDEN),
    learning_rate=0.001,
    bias_lr_multiplier=20.0,
    milestones=(
        Milestone(epoch=0, lr=1e-4, layers=("conv1",)),
        Milestone(epoch=0.24, lr=0.01, layers=("fc8",)),
        Milestone(epoch=5, lr=1e-5, layers=("conv1",)),
        Milestone(epoch=7, lr=0.0, layers=("conv1",)),
        Milestone(epoch=9, lr=0.001, layers=("fc8",)),
        Milestone(epoch=22, lr=1e-4),
        Milestone(epoch=42, lr=1e-5),
    ),
    epochs=54,
    color_noise_epochs=38,
)

# Run 146-2012-2009: straight from Fall 2009; likely one of the seven of the paper's best row.
FINETUNE_2012_FROM_2009 = variant(
    FINETUNE_2012.recipe,
    "finetune-2012-from-2009",
    "pre-trained on Fall 2009 only (run 146-2012-2009)",
    published=from_log("146-2012-2009", 39.100, 16.876),
    init_from="pretrain-2009",
    milestones=(
        Milestone(epoch=0, lr=1e-4, layers=("conv1",)),
        Milestone(epoch=3, lr=1e-5, layers=("conv1",)),
        Milestone(epoch=4, lr=0.0, layers=("conv1",)),
        Milestone(epoch=22, lr=1e-4),
        Milestone(epoch=42, lr=1e-5),
    ),
    epochs=52,
)

NAMED_RECIPES = [PRETRAIN_2009, PRETRAIN_2011, FINETUNE_2012, FINETUNE_2012_FROM_2009]
