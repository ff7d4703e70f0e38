"""What a network says about one image: its most probable classes, or why there are none."""

import html
from dataclasses import asdict, dataclass

from alexnet_cli.errors import InputError


@dataclass(frozen=True, slots=True)
class Prediction:
    """One class and its probability, 0..1."""

    label: int
    wnid: str
    name: str
    probability: float


@dataclass(frozen=True, slots=True)
class ImageResult:
    """The most probable classes of one image, or why there are none.

    Attributes:
        image: path of the file, key of the sample, or position among the images given.
        top: the most probable classes first; empty if the image could not be read.
        error: why the image could not be read.
    """

    image: str
    top: tuple[Prediction, ...]
    error: str | None = None

    @property
    def best(self) -> Prediction:
        """The most probable class.

        Raises:
            InputError: if the image could not be read, or no class is probable enough.
        """
        if not self.top:
            raise InputError(f"{self.image}: {self.error or 'no class is that probable'}")
        return self.top[0]

    @property
    def label(self) -> int:
        """Label of the most probable class; errors are those of `best`."""
        return self.best.label

    @property
    def name(self) -> str:
        """Name of the most probable class; errors are those of `best`."""
        return self.best.name

    @property
    def probability(self) -> float:
        """Probability of the most probable class, 0..1; errors are those of `best`."""
        return self.best.probability

    def to_dict(self) -> dict:
        """Return the result as plain values: with `predictions` or with an `error`, never both."""
        if self.error is not None:
            return {"image": self.image, "error": self.error}
        return {"image": self.image, "predictions": [asdict(row) for row in self.top]}

    def _repr_html_(self) -> str:
        """Return a table with bars, which notebooks show."""
        title = f"<caption>{html.escape(self.image)}</caption>"
        if self.error is not None:
            return f"<table>{title}<tr><td>{html.escape(self.error)}</td></tr></table>"
        rows = "".join(
            f"<tr><td>{row.probability:.1%}</td>"
            f'<td><div style="background:#4a90d9;height:0.8em;'
            f'width:{120 * row.probability:.0f}px"></div></td>'
            f"<td>{html.escape(row.name)}</td></tr>"
            for row in self.top
        )
        return f"<table>{title}{rows}</table>"
