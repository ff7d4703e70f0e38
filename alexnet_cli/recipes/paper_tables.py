"""The paper's tables and Figure 1: which recipes make each row, and what was published of it.

Errors are percent as printed. A row of several recipes averages their probabilities.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from alexnet_cli.errors import UsageError


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a table.

    Attributes:
        members: recipes whose probabilities are averaged.
        data: names of the data sets it may be measured on; the first that is given is taken.
        views: 10, or 1 for the center.
        paper: the published (top-1, top-5) error; None where there is none.
        baseline: the row it is compared with.
        paper_gain: by how much the paper says the baseline is better; None where it does not.
    """

    name: str
    members: tuple[str, ...]
    data: tuple[str, ...] = ("ilsvrc-2012",)
    views: int = 10
    paper: tuple[float | None, float | None] | None = None
    baseline: str | None = None
    paper_gain: tuple[float | None, float | None] | None = None


@dataclass(frozen=True, slots=True)
class PaperTable:
    """Rows under a title."""

    title: str
    rows: tuple[Row, ...]

    def choose(self, names: Sequence[str]) -> tuple[Row, ...]:
        """Return the rows of those names, as `choose_rows`."""
        return choose_rows({row.name: row for row in self.rows}, names)


def choose_rows(rows: dict, names: Sequence[str]) -> tuple:
    """Return the rows of those names in the table's order, or all if there are no names.

    Raises:
        UsageError: if there is no row of a name.
    """
    for name in names:
        if name not in rows:
            raise UsageError(f"{name}: no such row. Rows: {', '.join(rows)}.")
    return tuple(row for name, row in rows.items() if not names or name in names)


@dataclass(frozen=True, slots=True)
class Figure1Network:
    """One curve of Figure 1: a recipe and the learning rates to try, the likeliest first."""

    recipe: str
    learning_rates: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class OfficialSet:
    """Images and classes of a published set, for plans without it.

    Attributes:
        size: side of the images to make of it, pixels.
        quality: of their JPEGs.
    """

    train: int
    val: int
    test: int
    classes: int
    size: int = 256
    quality: int = 90


# Fall 2009 and 2011: sizes as published; classes as in the 2012 code's layers.
OFFICIAL_SETS = {
    "ilsvrc-2012": OfficialSet(1_281_167, 50_000, 0, 1000),
    "ilsvrc-2010": OfficialSet(1_261_406, 50_000, 150_000, 1000),
    "fall-2009": OfficialSet(8_900_000, 0, 0, 10_184),
    "fall-2011": OfficialSet(14_197_122, 0, 0, 21_843),
    "cifar-10": OfficialSet(50_000, 0, 10_000, 10, size=32, quality=100),
}

FIVE = ("five-cnns-120", "five-cnns-131", "five-cnns-135", "five-cnns-137", "original-2012")
# Which two were pre-trained is not recorded; the release has these two.
SEVEN = (*FIVE, "finetune-2012", "finetune-2012-from-2009")

# Rows of 2010 come from the test set where it is given; without ILSVRC-2010, from ILSVRC-2012.
SET_2010 = ("ilsvrc-2010", "ilsvrc-2012")


def _ablation(
    recipe: str,
    baseline: str,
    gain: tuple[float | None, float | None] | None = None,
    data: tuple[str, ...] = ("ilsvrc-2012",),
) -> Row:
    return Row(recipe, (recipe,), data, baseline=baseline, paper_gain=gain)


TABLES = {
    "ilsvrc-2010": PaperTable(
        "Table 1, and section 6: ILSVRC-2010 test set",
        (
            Row("CNN", ("original-2010",), ("ilsvrc-2010",), 10, (37.5, 17.0)),
            Row("CNN, center", ("original-2010",), ("ilsvrc-2010",), 1, (39.0, 18.3)),
        ),
    ),
    "ilsvrc-2012": PaperTable(
        "Table 2: ILSVRC-2012 validation set",
        (
            Row("1 CNN", ("original-2012",), paper=(40.7, 18.2)),
            Row("1 CNN, text", ("paper",), paper=(40.7, 18.2)),
            Row("5 CNNs", FIVE, paper=(38.1, 16.4)),
            Row("1 CNN*", ("finetune-2012",), paper=(39.0, 16.6)),
            Row("7 CNNs*", SEVEN, paper=(36.7, 15.4)),
        ),
    ),
    "ablations": PaperTable(
        "Sections 3, 4 and 7: what each part is worth",
        (
            Row("original-2012", ("original-2012",), paper=(40.7, 18.2)),
            _ablation("no-overlap", "original-2012", (0.4, 0.3)),
            _ablation("no-lrn", "original-2012", (1.4, 1.2)),
            _ablation("lrn-conv5", "original-2012"),
            _ablation("no-communication", "original-2012"),
            _ablation("exp-schedule", "original-2012"),
            Row("original-2010", ("original-2010",), SET_2010, paper=(37.5, 17.0)),
            _ablation("one-gpu", "original-2010", (1.7, 1.2), SET_2010),
            Row("paper", ("paper",), paper=(40.7, 18.2)),
            _ablation("no-dropout", "paper"),
            _ablation("no-augmentation", "paper"),
            _ablation("no-color-noise", "paper", (1.0, None)),
            _ablation("without-conv3", "paper", (2.0, None)),
            _ablation("without-conv4", "paper", (2.0, None)),
            _ablation("without-conv5", "paper", (2.0, None)),
            _ablation("intra-channel-lrn", "paper"),
            _ablation("average-pooling", "paper"),
            _ablation("tanh", "paper"),
            _ablation("sigmoid", "paper"),
        ),
    ),
}

FIGURE_1 = "figure-1"
FIGURE_1_GOAL = 0.25
FIGURE_1_TRIAL_EPOCHS = 5  # of every learning rate, before the best one is trained to the goal
FIGURE_1_RATIO = 6.0  # as printed: "six times faster"
FIGURE_1_NETWORKS = (
    Figure1Network("cifar-relu", (0.004, 0.002, 0.008)),
    Figure1Network("cifar-tanh", (0.016, 0.008, 0.032)),
)
TABLE_NAMES = (*TABLES, FIGURE_1)
