"""A dataset as a command names it: a folder that prep made, its URL, or tars of others."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from alexnet_cli.data.remote.cache import open_files
from alexnet_cli.data.remote.files import check_url, is_url
from alexnet_cli.data.remote.stream import open_tars
from alexnet_cli.data.remote.tar_set import TarSet
from alexnet_cli.data.remote.tar_stream import LOST
from alexnet_cli.data.shards.dataset import Dataset
from alexnet_cli.data.shards.dataset import open_dataset as open_folder
from alexnet_cli.data.shards.index import INDEX_COPY, INDEX_NAME, Index, read_index
from alexnet_cli.errors import DatasetError, RejectedError, hint
from alexnet_cli.io.progress import SILENT, Progress
from alexnet_cli.types import USUAL_RULES, DecodeRules


@dataclass(frozen=True, slots=True)
class DatasetRef:
    """A reference to a dataset; nothing is read before it is opened.

    Attributes:
        place: a folder, a URL, or tars without an index.
    """

    place: Path | str | TarSet

    @classmethod
    def parse(
        cls,
        text: "str | Path | DatasetRef",
        *,
        stream: bool = False,
        classes: Path | None = None,
        allow_pipe: bool = False,
    ) -> "DatasetRef":
        """Return the reference that a text, or a path, means.

        Args:
            stream: whether the text names tars: a folder, a tar, or names with {000..099}.
            classes, allow_pipe: as in `TarSet`.

        Raises:
            UsageError: if nothing is fetched from URLs of this kind.
        """
        if isinstance(text, DatasetRef):
            return text
        if stream:
            return cls(TarSet(str(text), classes, allow_pipe))
        return cls(check_url(str(text)) if is_url(str(text)) else Path(text))

    def __str__(self) -> str:
        return str(self.place)

    def open(
        self,
        splits: Sequence[str],
        *,
        fetch_now: bool = False,
        image_size: int | None = None,
        rules: DecodeRules = USUAL_RULES,
        progress: Progress = SILENT,
    ) -> Dataset:
        """Open the dataset.

        Args:
            splits: those that will be read.
            fetch_now: whether to fetch all their shards now, several at a time, instead of each
                when it is first read.
            image_size: size to resize the images of tars to; by default the size that they all
                have, or the paper's 256.
            rules: how the images of tars become pixels; those of a dataset are made already.

        Raises:
            AlexNetError: if it is not a dataset, is damaged, or cannot be read.
        """
        if isinstance(self.place, TarSet):
            return open_tars(self.place, splits, image_size, rules, progress)
        self.check_no_tars()
        if isinstance(self.place, str):
            return open_files(self.place, progress).open(splits, fetch_now, progress)
        return open_folder(self.place)

    def check_all_used(self) -> None:
        """Raise a RejectedError if the tars that were opened have samples that are not used."""
        if not isinstance(self.place, TarSet):
            return
        lost = {reason: num for reason, num in self.place.passed_over.items() if reason in LOST}
        if lost:
            counts = ", ".join(f"{count:,} {reason}" for reason, count in sorted(lost.items()))
            raise RejectedError(
                f"{self}: some samples were not used: {counts}.",
                kept="The result is complete without them.",
                hint=hint("accept_samples", tars=str(self), count=sum(lost.values())),
            )

    def read_index(self, progress: Progress = SILENT) -> Index:
        """Return the index of a folder or URL; nothing else is read."""
        if isinstance(self.place, str):
            return open_files(self.place, progress).index
        return read_index(Path(str(self.place)))

    def check_no_tars(self) -> None:
        """Raise a DatasetError with advice if the place holds tars that prep did not make."""
        is_bare = str(self.place).endswith(".tar")
        if isinstance(self.place, Path) and self.place.is_dir():
            indexed = any((self.place / name).is_file() for name in (INDEX_NAME, INDEX_COPY))
            is_bare = not indexed and any(self.place.glob("*.tar"))
        if is_bare:
            tars = self.place
            if isinstance(tars, Path) and not tars.is_dir():
                tars = tars.parent
            raise DatasetError(
                f"{self}: tars without an {INDEX_NAME}, so no dataset that prep made.",
                hint=hint("stream_tars", tars=str(tars)),
            )


def open_dataset(place: str | Path) -> Dataset:
    """Open a dataset that prep made: `open_dataset("shards/photos")["val"][0].image`.

    Args:
        place: its folder or URL; from a URL shards are fetched when they are first read.

    Raises:
        AlexNetError: if it is not a dataset, is damaged, or cannot be read.
    """
    ref = DatasetRef.parse(place)
    return ref.open(tuple(ref.read_index().splits)) if isinstance(ref.place, str) else ref.open(())
