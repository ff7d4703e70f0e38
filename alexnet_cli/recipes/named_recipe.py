"""What is said of a named recipe: what it is for, and the figure it must reach.

Targets are error rates in percent: "paper" is the 2012 text, "log" the authors' own notes in their
2012 code, exact counts. One run each, from unknown seeds: 0.3 % is within noise.
"""

from dataclasses import dataclass, replace

from alexnet_cli.recipes.recipe import Recipe


@dataclass(frozen=True, slots=True)
class PublishedResult:
    """A published figure; errors in percent, as printed, or None where only one was.

    Attributes:
        protocol: views and split.
    """

    data: str
    top1_error: float
    top5_error: float | None
    protocol: str
    source: str

    def as_fractions(self) -> "PublishedResult":
        """Return the same target with its errors as fractions."""
        top1, top5 = (
            None if error is None else round(error / 100, 8)
            for error in (self.top1_error, self.top5_error)
        )
        return replace(self, top1_error=top1, top5_error=top5)


@dataclass(frozen=True, slots=True)
class NamedRecipe:
    """One line of `alexnet recipes`.

    Attributes:
        parent: the recipe it differs from in a few fields; None for the paper's.
        about: what it shows.
        init_from: the recipe whose checkpoint it begins with.
    """

    recipe: Recipe
    parent: str | None
    about: str
    data: str = "ilsvrc-2012"
    targets: tuple[PublishedResult, ...] = ()
    init_from: str | None = None


VAL_2012, TEST_2010 = "ten views, validation", "ten views, test"
