"""The paper's network, trained to the paper's error in less time by later findings.

Published results are of a reduced CaffeNet on all of ILSVRC-2012, one run each: the tables of
github.com/ducha-aiki/caffenet-benchmark, described in arXiv:1606.02228. Our measurements are of a
network with a quarter of the kernels on 10,000 images of 20 classes.
"""

from alexnet_cli.recipes.named_recipe import VAL_2012, PublishedResult, variant
from alexnet_cli.recipes.recipe import PAPER

NAMED_FAST = variant(
    PAPER,
    "fast",
    "the paper's error in a third of its updates; not run on ILSVRC yet",
    published=(PublishedResult("ilsvrc-2012", 40.7, 18.2, VAL_2012, "paper, table 2"),),
    # Lr_policy.md: a linear decay to zero is 2.3 % better than three drops after as many epochs,
    # 0.4 % worse after half as many. So two thirds of the paper's 90, with one epoch of warm-up as
    # in `small`. Measured: 5 epochs end 3.4 % lower than 8 with three drops.
    schedule="linear",
    warmup_epochs=1.0,
    epochs=60,
    # BatchSize.md: batches of 128 and 256 end within 0.1 % at the paper's rate; 512 costs 0.2 % at
    # twice the rate, 1.6 % at the same. Half of the updates halves the memory traffic of 61 million
    # weights and momentum buffers. Measured, at twice the learning rate: 6.6 % worse on 10,000
    # images, which make few updates; use 128 or 64 there.
    batch_size=256,
    # About two epochs. Measured: 50 % error is reached a tenth sooner; no difference at the end.
    ema_decay=0.9999,
)

NAMED_RECIPES = [NAMED_FAST]
FAST = NAMED_FAST.recipe
