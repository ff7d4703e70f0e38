"""The networks whose published weights `alexnet import` reads, and how they were trained.

`owt` is torchvision's `alexnet`, of arXiv:1404.5997; `bvlc` and `caffenet` are Caffe's
bvlc_alexnet and bvlc_reference_caffenet. Their published errors are of one crop, the center.
"""

from dataclasses import replace

from alexnet_cli.recipes.named_recipe import VAL_2012_CENTER, PublishedResult, variant
from alexnet_cli.recipes.recipe import PAPER, POOL, Milestone

# Unlike the paper: alexnet_weights.IMAGENET1K_V1 has one column, 64 kernels in conv1 and 192 in
# conv2, no response normalization, and dropout before fc6 and fc7 (torchvision, models/alexnet.py).
# Pixels are scaled by 255 x 0.226; what remains of its three standard deviations is in conv1.
# Its training (references/classification): batches of 8 x 32, a tenth of the learning rate every 30
# epochs. Unlike torchvision: crops are shifted, not scaled; first weights are normal with the
# standard deviation of torch's uniform ones, and first biases zero.
NAMED_OWT = variant(
    PAPER,
    "owt",
    "torchvision's alexnet: one column, fewer kernels, no LRN (alexnet import torchvision)",
    published=(
        PublishedResult("ilsvrc-2012", 43.478, 20.934, VAL_2012_CENTER, "torchvision, docs"),
    ),
    columns=1,
    conv1=replace(PAPER.conv1, filters=64, pad=2, round_down=True, init_std=0.0303, then=POOL),
    conv2=replace(PAPER.conv2, filters=192, init_std=0.0144, init_bias=0.0, then=POOL),
    conv3=replace(PAPER.conv3, init_std=0.0139),
    conv4=replace(PAPER.conv4, filters=256, init_std=0.0098, init_bias=0.0),
    conv5=replace(PAPER.conv5, init_std=0.012, init_bias=0.0),
    # Twice torch's for fc6 and fc7: here dropout halves units in tests, not weights in training.
    fc6=replace(PAPER.fc6, init_std=0.012, init_bias=0.0),
    fc7=replace(PAPER.fc7, init_std=0.018, init_bias=0.0, dropout=0.0),
    fc8_init_std=0.009,
    conv_dropout=0.5,
    pixel_scale=57.63,
    color_noise=0.0,
    batch_size=256,
    weight_decay=1e-4,
    bias_decay=1e-4,
    schedule="milestones",
    milestones=(
        Milestone(epoch=30, lr=1e-3, bias_lr=1e-3),
        Milestone(epoch=60, lr=1e-4, bias_lr=1e-4),
    ),
)

# Unlike the paper: one column whose conv2, conv4 and conv5 have two groups, with responses
# normalized across both groups by k = 1 and alpha / n; crops of 227 pixels; first biases of 0.1; no
# color noise (Caffe, models/bvlc_alexnet: train_val.prototxt, solver.prototxt, readme.md).
# The color channels of the imported weights are put in the order RGB; Caffe's were BGR.
NAMED_BVLC = variant(
    PAPER,
    "bvlc",
    "Caffe's replication of the paper's network (alexnet import FILE.caffemodel)",
    published=(PublishedResult("ilsvrc-2012", 42.9, 19.8, VAL_2012_CENTER, "Caffe, bvlc_alexnet"),),
    columns=1,
    crop_size=227,
    conv2=replace(PAPER.conv2, groups=2, init_bias=0.1),
    conv3=replace(PAPER.conv3, init_std=0.01),
    conv4=replace(PAPER.conv4, groups=2, init_std=0.01, init_bias=0.1),
    conv5=replace(PAPER.conv5, groups=2, init_std=0.01, init_bias=0.1),
    # Twice Caffe's 0.005 for fc7, and 0.01 for fc8: see `owt`.
    fc6=replace(PAPER.fc6, init_std=0.005, init_bias=0.1),
    fc7=replace(PAPER.fc7, init_std=0.01, init_bias=0.1),
    fc8_init_std=0.02,
    lrn_k=1.0,
    lrn_divided=True,
    color_noise=0.0,
    batch_size=256,
    bias_lr_multiplier=2.0,
    schedule="milestones",
    milestones=(  # every 100,000 updates
        Milestone(epoch=20, lr=1e-3, bias_lr=2e-3),
        Milestone(epoch=40, lr=1e-4, bias_lr=2e-4),
        Milestone(epoch=60, lr=1e-5, bias_lr=2e-5),
        Milestone(epoch=80, lr=1e-6, bias_lr=2e-6),
    ),
)

# Unlike the paper: as `bvlc`, but pooled before it is normalized (models/bvlc_reference_caffenet).
POOL_NORM = ("activation", "max-pool", "norm")
NAMED_CAFFENET = variant(
    NAMED_BVLC.recipe,
    "caffenet",
    "Caffe's reference network: pooling before normalization (alexnet import FILE.caffemodel)",
    published=(
        PublishedResult(
            "ilsvrc-2012", 42.6, 19.6, VAL_2012_CENTER, "Caffe, bvlc_reference_caffenet"
        ),
    ),
    conv1=replace(NAMED_BVLC.recipe.conv1, then=POOL_NORM),
    conv2=replace(NAMED_BVLC.recipe.conv2, then=POOL_NORM),
)

NAMED_RECIPES = [NAMED_OWT, NAMED_BVLC, NAMED_CAFFENET]
OWT, BVLC, CAFFENET = (entry.recipe for entry in NAMED_RECIPES)
