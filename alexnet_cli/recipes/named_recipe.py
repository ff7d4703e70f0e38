"""A named recipe: what it shows, and the published results that it is compared with.

Published errors are in percent: "paper" is the 2012 text, "log" the authors' own notes in their
2012 code, exact counts; others name the project that published the weights. They are of one run
each, from unknown seeds: 0.3 % is within noise.
"""

from dataclasses import dataclass, replace
from typing import Any

from alexnet_cli.recipes.recipe import Recipe

VAL_2012, TEST_2010 = "ten views, validation", "ten views, test"
VAL_2012_CENTER = "center view, validation"


@dataclass(frozen=True, slots=True)
class PublishedResult:
    """A published result; errors in percent, as printed, or None where only one was.

    Attributes:
        protocol: views and split.
    """

    data: str
    top1_error: float
    top5_error: float | None
    protocol: str
    source: str

    def as_fractions(self) -> "PublishedResult":
        """Return the same result with its errors as fractions."""
        top5 = None if self.top5_error is None else round(self.top5_error / 100, 8)
        return replace(self, top1_error=round(self.top1_error / 100, 8), top5_error=top5)


def from_log(
    run: str,
    top1_error: float,
    top5_error: float,
    data: str = "ilsvrc-2012",
    protocol: str = VAL_2012,
) -> tuple[PublishedResult, ...]:
    """Return the result of one run in the authors' notes."""
    return (PublishedResult(data, top1_error, top5_error, protocol, f"log, run {run}"),)


@dataclass(frozen=True, slots=True)
class NamedRecipe:
    """A recipe with a name.

    Attributes:
        parent: the recipe it differs from in a few fields; None for the paper's.
        summary: what it shows.
        data: the dataset it is trained on.
        init_from: the recipe whose checkpoint provides its first weights.
    """

    recipe: Recipe
    parent: str | None
    summary: str
    data: str = "ilsvrc-2012"
    published: tuple[PublishedResult, ...] = ()
    init_from: str | None = None


def variant(
    parent: Recipe,
    name: str,
    summary: str,
    *,
    data: str = "ilsvrc-2012",
    published: tuple[PublishedResult, ...] = (),
    init_from: str | None = None,
    **changes: Any,
) -> NamedRecipe:
    """Return a named recipe that differs from a named parent in some fields."""
    recipe = replace(parent, name=name, **changes)
    return NamedRecipe(recipe, parent.name, summary, data, published, init_from)
