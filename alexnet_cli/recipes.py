"""The named recipes: each a few changed fields, what it is for, and the figure it must reach.

Targets are error rates in percent: "paper" is the 2012 text, "log" the authors' own notes in their
2012 code, exact counts. One run each, from unknown seeds: 0.3 % is within noise.
"""

from dataclasses import dataclass, replace

from alexnet_cli.errors import RecipeError
from alexnet_cli.recipe import PAPER, Event, Recipe, widen


@dataclass(frozen=True, slots=True)
class Target:
    """A published figure; errors in percent, as printed.

    Attributes:
        protocol: views and split.
    """

    data: str
    top1_error: float
    top5_error: float
    protocol: str
    source: str

    def as_fractions(self) -> "Target":
        """Return the same target with its errors as fractions."""
        top1, top5 = round(self.top1_error / 100, 8), round(self.top5_error / 100, 8)
        return replace(self, top1_error=top1, top5_error=top5)


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of `alexnet recipes`.

    Attributes:
        parent: the recipe it differs from in a few fields; None for the paper's.
        about: what it shows.
    """

    recipe: Recipe
    parent: str | None
    about: str
    data: str = "ilsvrc-2012"
    targets: tuple[Target, ...] = ()


VAL_2012, TEST_2010 = "ten views, validation", "ten views, test"


def logged(
    drops: tuple[int, int, int], conv1: tuple[int | None, int], end: int, noise: int = 0
) -> dict:
    """Return a hand-set schedule as the authors' notes tell it: by ten at each of `drops`.

    Args:
        conv1: after how many epochs conv1 goes to 1e-5, and to rest.
        noise: after how many the colour noise ends.
    """
    events = [Event(epoch=e, rate=r) for e, r in zip(drops, (1e-3, 1e-4, 1e-5), strict=True)]
    low, rest = conv1
    if low:
        events.append(Event(epoch=low, rate=1e-5, layers=("conv1",)))
    events.append(Event(epoch=rest, rate=0.0, layers=("conv1",)))
    events = tuple(sorted(events, key=lambda event: event.epoch))
    return {"schedule": "events", "events": events, "epochs": end, "colour_noise_epochs": noise}


# Run 145: what was run in 2012. Against the paper's text: ReLU after normalisation and pooling in
# layer 1, a second normalisation in layer 2, alpha divided by n, biases that learn twice as fast
# and keep their rate, patches shared by 32 images, the stored order in every epoch.
ORIGINAL_2012 = replace(
    PAPER,
    name="original-2012",
    conv1=replace(PAPER.conv1, relu_last=True),
    conv2=replace(PAPER.conv2, spatial_norm=True),
    conv5=replace(PAPER.conv5, relu_last=True),
    lrn_divided=True,
    bias_rate=2.0,
    share_patches=32,
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

# Section 3.3, and run 148: without the spatial normalisation too.
NO_LRN = replace(
    ORIGINAL_2012,
    name="no-lrn",
    conv1=replace(ORIGINAL_2012.conv1, norm=False),
    conv2=replace(ORIGINAL_2012.conv2, norm=False, spatial_norm=False),
    **logged((22, 44, 86), conv1=(69, 73), end=97, noise=69),
)

# Run 149: a third response normalisation, before conv5's pooling. Its notes stop at epoch 66; the
# rest is run 145's.
LRN_CONV5 = replace(
    ORIGINAL_2012,
    name="lrn-conv5",
    conv5=replace(ORIGINAL_2012.conv5, norm=True),
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

# Section 4.2.
NO_DROPOUT = replace(
    PAPER,
    name="no-dropout",
    fc6=replace(PAPER.fc6, dropout=0.0),
    fc7=replace(PAPER.fc7, dropout=0.0),
)

# Section 4.1.
NO_COLOUR_NOISE = replace(PAPER, name="no-colour-noise", colour_noise=0.0)
NO_AUGMENTATION = replace(NO_COLOUR_NOISE, name="no-augmentation", random_crop=False, mirror=False)

# Section 7. Where conv3 goes, conv4 reads both columns; where conv5 goes, its pooling stays.
WITHOUT_CONV3 = replace(
    PAPER,
    name="without-conv3",
    conv3=replace(PAPER.conv3, filters=0),
    reads_both=("conv4", "fc6", "fc7", "fc8"),
)
WITHOUT_CONV4 = replace(PAPER, name="without-conv4", conv4=replace(PAPER.conv4, filters=0))
WITHOUT_CONV5 = replace(
    PAPER,
    name="without-conv5",
    conv4=replace(PAPER.conv4, pool=True),
    conv5=replace(PAPER.conv5, filters=0),
)

# Sections 3.1 and 3.4.
AVERAGE_POOLING = replace(PAPER, name="average-pooling", pooling="average")
TANH = replace(PAPER, name="tanh", activation="tanh")
SIGMOID = replace(PAPER, name="sigmoid", activation="sigmoid")

# For some ten thousand pictures and a CPU: three eighths of the kernels, a schedule that ends.
SMALL = replace(
    widen(PAPER, 0.375),
    name="small",
    batch_size=64,
    epochs=16,
    schedule="linear",
    warmup_epochs=1.0,
)

# For the thousand generated pictures of `alexnet demo`: a quarter of the kernels.
DEMO = replace(
    widen(PAPER, 0.25),
    name="demo",
    batch_size=32,
    epochs=8,
    schedule="linear",
    warmup_epochs=1.0,
)

_ENTRIES = [
    Entry(
        PAPER,
        None,
        "the paper's text",
        targets=(
            Target("ilsvrc-2012", 40.7, 18.2, VAL_2012, "paper, table 2"),
            Target("ilsvrc-2010", 37.5, 17.0, TEST_2010, "paper, table 1"),
            Target("ilsvrc-2010", 39.0, 18.3, "centre view, test", "paper, centre view"),
        ),
    ),
    Entry(
        ORIGINAL_2012,
        "paper",
        "what was run in 2012 (run 145)",
        targets=(Target("ilsvrc-2012", 40.664, 18.210, VAL_2012, "log, run 145"),),
    ),
    Entry(
        ORIGINAL_2010,
        "original-2012",
        "the same on ILSVRC-2010 (run 145-2010)",
        data="ilsvrc-2010",
        targets=(
            Target("ilsvrc-2010", 37.4727, 16.9987, TEST_2010, "log, run 145-2010"),
            Target("ilsvrc-2010", 39.0247, 18.2953, "centre view, test", "log, run 145-2010"),
        ),
    ),
    Entry(
        ONE_GPU,
        "original-2010",
        "one column; two are 1.7 and 1.2 % better",
        data="ilsvrc-2010",
        targets=(Target("ilsvrc-2010", 39.168, 18.2287, TEST_2010, "log, run 145-half"),),
    ),
    Entry(
        NO_OVERLAP,
        "original-2012",
        "pooling windows that do not overlap; overlap is 0.4 and 0.3 % better",
        targets=(Target("ilsvrc-2012", 41.058, 18.510, VAL_2012, "log, run 147"),),
    ),
    Entry(
        NO_LRN,
        "original-2012",
        "no response normalisation; with it 1.4 and 1.2 % better",
        targets=(Target("ilsvrc-2012", 42.034, 19.362, VAL_2012, "log, run 148"),),
    ),
    Entry(
        NO_COMMUNICATION,
        "original-2012",
        "columns that never meet before the classifier",
        targets=(Target("ilsvrc-2012", 41.828, 19.330, VAL_2012, "log, run 150"),),
    ),
    Entry(
        LRN_CONV5, "original-2012", "response normalisation after conv5 too (run 149, no figure)"
    ),
    Entry(NO_DROPOUT, "paper", "substantial overfitting (section 4.2, no figure)"),
    Entry(NO_AUGMENTATION, "paper", "substantial overfitting (section 4.1, no figure)"),
    Entry(NO_COLOUR_NOISE, "paper", "top-1 more than 1 % worse (section 4.1)"),
    Entry(WITHOUT_CONV3, "paper", "top-1 about 2 % worse (section 7)"),
    Entry(WITHOUT_CONV4, "paper", "top-1 about 2 % worse (section 7)"),
    Entry(WITHOUT_CONV5, "paper", "top-1 about 2 % worse (section 7)"),
    Entry(AVERAGE_POOLING, "paper", "average instead of max pooling (no figure)"),
    Entry(TANH, "paper", "saturating units, several times slower (section 3.1, no figure)"),
    Entry(SIGMOID, "paper", "saturating units (section 3.1, no figure)"),
    Entry(SMALL, "paper", "some ten thousand pictures and a CPU", data="your own"),
    Entry(DEMO, "paper", "the generated pictures of alexnet demo", data="demo"),
]

ENTRIES: dict[str, Entry] = {entry.recipe.name: entry for entry in _ENTRIES}
RECIPES: dict[str, Recipe] = {name: entry.recipe for name, entry in ENTRIES.items()}


def find_recipe(name: str) -> Recipe:
    """Return the recipe of that name.

    Raises:
        RecipeError: there is none.
    """
    if name not in RECIPES:
        raise RecipeError(f"no recipe {name!r}. Recipes: {', '.join(RECIPES)}.")
    return RECIPES[name]
