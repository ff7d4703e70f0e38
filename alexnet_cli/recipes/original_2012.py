"""The runs of the 2012 code, with the schedules that the authors' notes tell."""

from dataclasses import replace

from alexnet_cli.recipes.named_recipe import TEST_2010, VAL_2012, NamedRecipe, PublishedResult
from alexnet_cli.recipes.recipe import PAPER, POOL, Event


def logged(
    drops: tuple[int, int, int], conv1: tuple[int | None, int], end: int, noise: int = 0
) -> dict:
    """Return a hand-set schedule as the authors' notes tell it: by ten at each of `drops`.

    Args:
        conv1: after how many epochs conv1 goes to 1e-5, and to rest.
        noise: after how many the color noise ends.
    """
    events = [Event(epoch=e, rate=r) for e, r in zip(drops, (1e-3, 1e-4, 1e-5), strict=True)]
    low, rest = conv1
    if low:
        events.append(Event(epoch=low, rate=1e-5, layers=("conv1",)))
    events.append(Event(epoch=rest, rate=0.0, layers=("conv1",)))
    events = tuple(sorted(events, key=lambda event: event.epoch))
    return {"schedule": "events", "events": events, "epochs": end, "color_noise_epochs": noise}


# Run 145: what was run in 2012. Against the paper's text: ReLU after normalization and pooling in
# layer 1, a second normalization in layer 2, alpha divided by n, biases that learn twice as fast
# and keep their rate, crops shared by 32 images, the stored order in every epoch.
ORIGINAL_2012 = replace(
    PAPER,
    name="original-2012",
    conv1=replace(PAPER.conv1, then=("norm", "max-pool", "activation")),
    conv2=replace(PAPER.conv2, then=("activation", "norm", "spatial-norm", "max-pool")),
    conv5=replace(PAPER.conv5, then=("max-pool", "activation")),
    lrn_divided=True,
    bias_rate=2.0,
    share_crops=32,
    noise_rescaled=True,
    reshuffle=False,
    **logged((25, 51, 79), conv1=(67, 72), end=91, noise=67),
)

# Run 145-2010: the same network on ILSVRC-2010.
ORIGINAL_2010 = replace(
    ORIGINAL_2012,
    name="original-2010",
    **logged((23, 51, 78), conv1=(68, 72), end=93, noise=68),
)

# Section 3.2, and run 145-half: one column, but conv5 and the hidden layers of full size, so that
# nearly all parameters remain. Its notes tell no last drop.
ONE_GPU = replace(
    ORIGINAL_2010,
    name="one-gpu",
    columns=1,
    conv1=replace(ORIGINAL_2010.conv1, filters=48),
    conv2=replace(ORIGINAL_2010.conv2, filters=128),
    conv3=replace(ORIGINAL_2010.conv3, filters=192),
    conv4=replace(ORIGINAL_2010.conv4, filters=192),
    **logged((20, 48, 96), conv1=(66, 72), end=96, noise=66),
)

# Section 3.4, and run 147: with windows side by side two paddings shrink, which keeps 6 x 6. Its
# notes tell neither conv1's 1e-5 nor an end of the noise.
NO_OVERLAP = replace(
    ORIGINAL_2012,
    name="no-overlap",
    pool_size=2,
    conv2=replace(ORIGINAL_2012.conv2, pad=1),
    conv5=replace(ORIGINAL_2012.conv5, pad=0),
    **logged((23, 51, 79), conv1=(None, 79), end=90),
)

# Section 3.3, and run 148: without the spatial normalization too.
NO_LRN = replace(
    ORIGINAL_2012,
    name="no-lrn",
    conv1=replace(ORIGINAL_2012.conv1, then=("max-pool", "activation")),
    conv2=replace(ORIGINAL_2012.conv2, then=POOL),
    **logged((22, 44, 86), conv1=(69, 73), end=97, noise=69),
)

# Run 149: a third response normalization, before conv5's pooling. Its notes stop at epoch 66; the
# rest is run 145's.
LRN_CONV5 = replace(
    ORIGINAL_2012,
    name="lrn-conv5",
    conv5=replace(ORIGINAL_2012.conv5, then=("norm", "max-pool", "activation")),
    **logged((21, 54, 79), conv1=(66, 72), end=91, noise=66),
)

# Run 150: the columns meet only at the classifier; wider where they lost inputs.
NO_COMMUNICATION = replace(
    ORIGINAL_2012,
    name="no-communication",
    reads_both=("fc8",),
    conv2=replace(ORIGINAL_2012.conv2, filters=320),
    fc6=replace(ORIGINAL_2012.fc6, units=8192),
    **logged((25, 49, 79), conv1=(66, 72), end=92, noise=66),
)

# Run 170, of 2013: four equal steps of the rate by 250 in all, the biases' by ten at half time. Its
# notes give the rates; the network is taken to be run 145's, the length that of run 169.
EXP_SCHEDULE = replace(
    ORIGINAL_2012,
    name="exp-schedule",
    schedule="stepped",
    events=(),
    rate_factor=250.0,
    rate_steps=4,
    bias_factor=10.0,
    bias_steps=2,
    epochs=95,
    color_noise_epochs=0,
)

NAMED_RECIPES = [
    NamedRecipe(
        ORIGINAL_2012,
        "paper",
        "what was run in 2012 (run 145)",
        targets=(PublishedResult("ilsvrc-2012", 40.664, 18.210, VAL_2012, "log, run 145"),),
    ),
    NamedRecipe(
        ORIGINAL_2010,
        "original-2012",
        "the same on ILSVRC-2010 (run 145-2010)",
        data="ilsvrc-2010",
        targets=(
            PublishedResult("ilsvrc-2010", 37.4727, 16.9987, TEST_2010, "log, run 145-2010"),
            PublishedResult(
                "ilsvrc-2010", 39.0247, 18.2953, "center view, test", "log, run 145-2010"
            ),
        ),
    ),
    NamedRecipe(
        ONE_GPU,
        "original-2010",
        "one column; two are 1.7 and 1.2 % better",
        data="ilsvrc-2010",
        targets=(PublishedResult("ilsvrc-2010", 39.168, 18.2287, TEST_2010, "log, run 145-half"),),
    ),
    NamedRecipe(
        NO_OVERLAP,
        "original-2012",
        "pooling windows that do not overlap; overlap is 0.4 and 0.3 % better",
        targets=(PublishedResult("ilsvrc-2012", 41.058, 18.510, VAL_2012, "log, run 147"),),
    ),
    NamedRecipe(
        NO_LRN,
        "original-2012",
        "no response normalization; with it 1.4 and 1.2 % better",
        targets=(PublishedResult("ilsvrc-2012", 42.034, 19.362, VAL_2012, "log, run 148"),),
    ),
    NamedRecipe(
        NO_COMMUNICATION,
        "original-2012",
        "columns that never meet before the classifier",
        targets=(PublishedResult("ilsvrc-2012", 41.828, 19.330, VAL_2012, "log, run 150"),),
    ),
    NamedRecipe(
        LRN_CONV5, "original-2012", "response normalization after conv5 too (run 149, no figure)"
    ),
    NamedRecipe(
        EXP_SCHEDULE,
        "original-2012",
        "rates by a formula instead of by hand",
        targets=(PublishedResult("ilsvrc-2012", 40.528, 18.048, VAL_2012, "log, run 170"),),
    ),
]
