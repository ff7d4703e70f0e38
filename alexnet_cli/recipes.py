"""The named recipes: each a few changed fields, what it is for, and the figure it must reach.

Targets are error rates in percent: "paper" is the 2012 text, "log" the authors' own notes in their
2012 code, exact counts. One run each, from unknown seeds: 0.3 % is within noise.
"""

from dataclasses import dataclass, replace

from alexnet_cli.errors import RecipeError
from alexnet_cli.recipe import PAPER, Recipe, widen


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

# Section 3.2, and run 145-half: one column, but conv5 and the hidden layers of full size, so that
# nearly all parameters remain.
ONE_GPU = replace(
    PAPER,
    name="one-gpu",
    columns=1,
    conv1=replace(PAPER.conv1, filters=48),
    conv2=replace(PAPER.conv2, filters=128),
    conv3=replace(PAPER.conv3, filters=192),
    conv4=replace(PAPER.conv4, filters=192),
)

# Section 3.4, and run 147: with windows side by side two paddings shrink, which keeps 6 x 6.
NO_OVERLAP = replace(
    PAPER,
    name="no-overlap",
    pool_size=2,
    conv2=replace(PAPER.conv2, pad=1),
    conv5=replace(PAPER.conv5, pad=0),
)

# Section 3.3. Run 148 left out the 2012 code's spatial normalisation as well.
NO_LRN = replace(
    PAPER,
    name="no-lrn",
    conv1=replace(PAPER.conv1, norm=False),
    conv2=replace(PAPER.conv2, norm=False),
)

# Run 149: a third response normalisation.
LRN_CONV5 = replace(PAPER, name="lrn-conv5", conv5=replace(PAPER.conv5, norm=True))

# Run 150: the columns meet only at the classifier; wider where they lost inputs.
NO_COMMUNICATION = replace(
    PAPER,
    name="no-communication",
    reads_both=("fc8",),
    conv2=replace(PAPER.conv2, filters=320),
    fc6=replace(PAPER.fc6, units=8192),
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
        ONE_GPU,
        "paper",
        "one column; two are 1.7 and 1.2 % better",
        data="ilsvrc-2010",
        targets=(Target("ilsvrc-2010", 39.168, 18.2287, TEST_2010, "log, run 145-half"),),
    ),
    Entry(
        NO_OVERLAP,
        "paper",
        "pooling windows that do not overlap; overlap is 0.4 and 0.3 % better",
        targets=(Target("ilsvrc-2012", 41.058, 18.510, VAL_2012, "log, run 147"),),
    ),
    Entry(
        NO_LRN,
        "paper",
        "no response normalisation; with it 1.4 and 1.2 % better",
        targets=(Target("ilsvrc-2012", 42.034, 19.362, VAL_2012, "log, run 148"),),
    ),
    Entry(
        NO_COMMUNICATION,
        "paper",
        "columns that never meet before the classifier",
        targets=(Target("ilsvrc-2012", 41.828, 19.330, VAL_2012, "log, run 150"),),
    ),
    Entry(LRN_CONV5, "paper", "response normalisation after conv5 too (run 149, no figure)"),
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
