"""`alexnet predict`: images -> class names and probabilities, by a checkpoint or ONNX model."""

import codecs
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from alexnet_cli.data.images.decode import MAX_FILE_BYTES
from alexnet_cli.errors import InputError, RejectedError, UsageError, hint, on_one_line
from alexnet_cli.inference.images import ImageLike, find_images
from alexnet_cli.inference.load import load_model, newest_checkpoint
from alexnet_cli.inference.model import Model
from alexnet_cli.inference.results import ImageResult
from alexnet_cli.inference.rows import open_rows
from alexnet_cli.io.atomic import check_output, write_output, writing_to_stdout
from alexnet_cli.io.progress import SILENT, Progress

STANDARD_INPUT = "-"


@dataclass(frozen=True, slots=True)
class PredictRequest:
    """Images to classify, and by what.

    Attributes:
        images: files, folders, globs, or "-" for one image on standard input.
        image_list: a file of image files, one per line; "-" is standard input.
        null_separated: whether names in the list end with a zero byte instead of a line break.
        model: a checkpoint, run folder or .onnx model; by default the newest run below `runs/`.
        num_top: maximum number of classes for each image.
        min_probability: less probable classes are left out.
        num_views: 1, 9 or 10. By default 10, or as many as an ONNX model was exported with.
    """

    images: tuple[str, ...] = ()
    image_list: str | None = None
    null_separated: bool = False
    model: Path | None = None
    num_top: int = 5
    min_probability: float = 0.0
    num_views: int | None = None
    device: str = "auto"


@dataclass(slots=True)
class Predicting:
    """The results of a request, one per image in the order named, while they are computed.

    Attributes:
        ignored: entries of folders that are no images, by kind.
        total: number of images.
        num_bad: images so far that could not be read.
    """

    request: PredictRequest
    model: Model
    paths: list[str]
    ignored: dict[str, int]
    total: int
    progress: Progress
    num_bad: int = 0
    first_bad: str = ""

    def results(self) -> Iterator[ImageResult]:
        """Yield each result once; nothing of it is kept."""
        request = self.request
        with self.progress.track("predict", self.total) as bar:
            for result in self.model.predict_each(
                self._images(), top=request.num_top, min_probability=request.min_probability
            ):
                if result.error is not None:
                    self.num_bad += 1
                    self.first_bad = (
                        self.first_bad or f"{on_one_line(result.image)}: {result.error}"
                    )
                bar.advance()
                yield result

    def write(self, output: Path | None, kind: str) -> None:
        """Write all results as rows of a file, which appears when it is complete, or to stdout.

        Args:
            kind: "csv", "jsonl" or "parquet".

        Raises:
            MachineError: if the package for Parquet is not installed.
        """
        if output is None:
            with writing_to_stdout():
                self._write_rows(sys.stdout.buffer, kind)
                sys.stdout.buffer.flush()
            return
        check_output(output)
        with write_output(output) as file:
            self._write_rows(file, kind)

    def check_all_read(self) -> None:
        """Raise an error if images could not be read.

        Raises:
            InputError: if no image could be read.
            RejectedError: if some images could not be read.
        """
        if not self.num_bad:
            return
        count = f"{self.num_bad} of {self.total} images could not be read"
        message = f"{count}, first {self.first_bad}"
        raise InputError(message) if self.num_bad == self.total else RejectedError(message)

    def _write_rows(self, file: BinaryIO, kind: str) -> None:
        num_top = min(self.request.num_top, len(self.model.classes))
        with open_rows(file, kind, num_top) as write:
            for result in self.results():
                write(result)

    def _images(self) -> Iterator[tuple[str, ImageLike]]:
        self.paths.reverse()
        while self.paths:  # a path is forgotten once its image is classified
            path = self.paths.pop()
            yield path, _read_standard_input() if path == STANDARD_INPUT else path


def predict(request: PredictRequest, progress: Progress = SILENT) -> Predicting:
    """Find the images of a request and open its model.

    Raises:
        UsageError: if a name is no file, folder or matching glob, or the list is empty.
        InputError: if the list cannot be read.
        CheckpointError: if the model cannot be used.
        MachineError: if memory is full, or the device cannot be used.
    """
    if request.image_list == STANDARD_INPUT and STANDARD_INPUT in request.images:
        raise UsageError("standard input can be an image or a list of images, not both.")
    if request.images.count(STANDARD_INPUT) > 1:
        raise UsageError("standard input is one image.", hint="Name - once.")
    ignored: Counter[str] = Counter()
    paths: list[str] = []
    for name in request.images:
        paths += [name] if name == STANDARD_INPUT else find_images([name], ignored)
    if request.image_list:
        paths += _read_list(request.image_list, request.null_separated)
    if not paths:
        raise UsageError("no images are named.", hint="Name files, folders or globs.")
    model = load_model(
        request.model or newest_checkpoint(Path("runs")),
        views=request.num_views,
        device=request.device,
    )
    views = f"{model.info.num_views} view{'s' if model.info.num_views > 1 else ''}"
    progress.say(f"model {model.info.path} on {model.info.runtime}, {views}")
    return Predicting(request, model, paths, dict(ignored), len(paths), progress)


def _read_list(name: str, null_separated: bool) -> list[str]:
    """Return the paths in a list; those relative to a folder are relative to the current one."""
    try:
        is_input = name == STANDARD_INPUT
        content = sys.stdin.buffer.read() if is_input else Path(name).read_bytes()
    except OSError as error:
        raise InputError(f"{name}: {error.strerror or error}.") from error
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):  # as PowerShell writes
        content = content.decode("utf-16", "replace").encode()
    content = content.removeprefix(codecs.BOM_UTF8)
    if b"\0" in content and not null_separated:
        raise InputError(
            f"{name}: not a list of names, one per line: it has zero bytes.",
            hint=hint("null_separated"),
        )
    if null_separated and b"\n" in content and b"\0" not in content:
        raise InputError(
            f"{name}: its names end with line breaks, not with zero bytes.",
            hint=hint("line_separated"),
        )
    separator = b"\0" if null_separated else b"\n"
    names = content.split(separator)
    if not null_separated:
        names = [line.removesuffix(b"\r") for line in names if line.strip()]
    return [line.decode("utf-8", "surrogateescape") for line in names if line]


def _read_standard_input() -> bytes:
    return sys.stdin.buffer.read(MAX_FILE_BYTES + 1)
