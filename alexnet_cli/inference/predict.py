"""`alexnet predict`: images -> class names and probabilities, by a checkpoint or ONNX model."""

import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from alexnet_cli.data.imagenet_classes import shown_name
from alexnet_cli.data.images.decode import read_file
from alexnet_cli.data.images.resize import to_square
from alexnet_cli.distributed.runtime_config import RuntimeConfig
from alexnet_cli.errors import (
    CheckpointError,
    ImageError,
    InputError,
    RejectedError,
    UsageError,
    hint,
    on_one_line,
)
from alexnet_cli.io.progress import SILENT, Progress
from alexnet_cli.types import DecodeRules

CROPS_PER_BATCH = 32  # images times views


@dataclass(frozen=True, slots=True)
class Prediction:
    """One class and its probability, 0..1."""

    label: int
    wnid: str
    name: str
    probability: float


@dataclass(frozen=True, slots=True)
class ImagePredictions:
    """The most probable classes of one image, or why there are none."""

    image: str
    predictions: list[Prediction]
    error: str | None = None


@dataclass(frozen=True, slots=True)
class PredictResult:
    """One entry per image, in the order of the arguments."""

    model: str
    runtime: str
    views: int
    images: list[ImagePredictions]
    ignored: dict[str, int]  # entries of folders that are no images, by kind

    def to_json(self) -> dict:
        """Return the result as JSON: each entry has predictions or an error, never both."""
        result = asdict(self)
        for entry in result["images"]:
            del entry["error" if entry["error"] is None else "predictions"]
        return result

    def check_all_read(self) -> None:
        """Raise an error if images could not be read.

        Raises:
            InputError: if no image could be read.
            RejectedError: if some images could not be read.
        """
        bad = [entry for entry in self.images if entry.error]
        if not bad:
            return
        count = f"{len(bad)} of {len(self.images)} images could not be read"
        message = f"{count}, first {on_one_line(bad[0].image)}: {bad[0].error}"
        raise InputError(message) if len(bad) == len(self.images) else RejectedError(message)


@dataclass(frozen=True, slots=True)
class _Model:
    """A checkpoint or an ONNX model."""

    classes: list[tuple[str, str]]
    image_size: int
    views: int
    runtime: str
    probabilities: Callable[[np.ndarray], np.ndarray]
    rules: DecodeRules


def predict(
    names: list[str],
    model_path: Path | None = None,
    *,
    num_top: int = 5,
    num_views: int | None = None,
    device: str = "auto",
    progress: Progress = SILENT,
) -> PredictResult:
    """Classify files, folders and globs of images.

    Args:
        model_path: a checkpoint, or an .onnx model, for which torch is not imported; by default
            the newest run below `runs/`.
        num_views: 1, 9 or 10; fixed for an ONNX model. By default 10.

    Raises:
        UsageError: if a name is no file, folder or matching glob.
        CheckpointError: if the model cannot be used.
        MachineError: if memory is full, or the GPU failed.
    """
    ignored: dict[str, int] = {}
    paths = find_images(names, ignored)
    model_path = model_path or newest_checkpoint(Path("runs"))
    model = _load_model(model_path, num_views, device)
    views = f"{model.views} view{'s' if model.views > 1 else ''}"
    progress.say(f"model {model_path} on {model.runtime}, {views}")
    with progress.track("predict", len(paths)) as bar:
        rows: list[ImagePredictions] = []
        batch_size = max(1, CROPS_PER_BATCH // model.views)
        for start in range(0, len(paths), batch_size):
            part = paths[start : start + batch_size]
            rows.extend(_predict_batch(model, part, num_top))
            bar.advance(len(part))
    return PredictResult(str(model_path), model.runtime, model.views, rows, ignored)


def find_images(names: list[str], ignored: dict[str, int]) -> list[Path]:
    """Return the paths of files, folders (their images, sorted) and globs, in the order named.

    Args:
        ignored: what is passed over in folders is counted in it, by kind.

    Raises:
        UsageError: if a name is a URL or standard input, or nothing matches.
    """
    paths: list[Path] = []
    for name in names:
        if name == "-" or "://" in name:
            raise UsageError(f"{name}: not supported.", hint="Name files, folders or globs.")
        path = Path(name)
        # Unlike Path.is_dir, os.path answers for names that are too long, too.
        if os.path.isdir(name):  # noqa: PTH112
            # Here, because a single file does without it and it takes a tenth of a second.
            from alexnet_cli.data.sources.folders import list_image_files

            found = list_image_files(path, ignored)
        elif os.path.exists(name) or not any(sign in name for sign in "*?["):  # noqa: PTH110
            found = [path]
        else:
            found = sorted(Path(path.anchor or ".").glob(str(path.relative_to(path.anchor))))
        if not found:
            passed = ", ".join(f"{count} {kind}" for kind, count in ignored.items())
            raise UsageError(f"{name}: no images there{passed and f' (passed over: {passed})'}.")
        paths.extend(found)
    return paths


def newest_checkpoint(runs: Path) -> Path:
    """Return the best checkpoint of the run that was written last.

    Raises:
        CheckpointError: if there is no run.
    """
    found = sorted(runs.glob("*/best.safetensors"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise CheckpointError(f"no run in {runs}/ here.", hint=hint("name_model"))
    return found[-1]


def _load_model(path: Path, num_views: int | None, device: str) -> _Model:
    if path.suffix == ".onnx":
        from alexnet_cli.onnx.runtime import load_onnx

        onnx = load_onnx(path, device)
        info = onnx.info
        if num_views not in (None, info.views):
            raise UsageError(
                f"{num_views} views: {path} was exported with {info.views}.",
                hint=hint("exported_views", views=info.views),
            )
        engine = f"onnxruntime {onnx.provider.removesuffix('ExecutionProvider')}"
        return _Model(
            info.classes, info.image_size, info.views, engine, onnx.probabilities, info.rules
        )
    # Imported here, because torch takes two seconds to load and ONNX models do not need it.
    from alexnet_cli.distributed.device_plan import Runtime, choose_devices
    from alexnet_cli.distributed.oom_errors import friendly_oom_errors
    from alexnet_cli.inference.classifier import load_classifier

    advice = hint("free_memory")
    with friendly_oom_errors(1, advice):
        runtime = Runtime(choose_devices(RuntimeConfig(device)))
        classifier, checkpoint = load_classifier(path, runtime)
    views = classifier.views(num_views or 10)

    def probabilities(images: np.ndarray) -> np.ndarray:
        with friendly_oom_errors(len(images), advice):
            return classifier.probabilities(images, views).mean(axis=0)

    return _Model(
        checkpoint.classes,
        classifier.augmenter.image_size,
        len(views),
        f"torch {classifier.augmenter.device}",
        probabilities,
        checkpoint.rules,
    )


def _predict_batch(model: _Model, paths: list[Path], num_top: int) -> Iterator[ImagePredictions]:
    images, errors = {}, {}
    for path in paths:
        try:
            images[path] = to_square(read_file(path), model.image_size, model.rules)
        except ImageError as error:
            errors[path] = error.problem
    probs = model.probabilities(np.stack(list(images.values()))) if images else ()
    rows = dict(zip(images, probs, strict=True))
    for path in paths:
        if path in errors:
            yield ImagePredictions(str(path), [], errors[path])
        else:
            yield ImagePredictions(str(path), _most_probable(model, rows[path], num_top))


def _most_probable(model: _Model, probs: np.ndarray, num_top: int) -> list[Prediction]:
    order = np.argsort(-probs, kind="stable")[:num_top]
    named = ((int(k), *model.classes[k], float(probs[k])) for k in order)
    return [
        Prediction(label, wnid, shown_name(wnid, name), prob) for label, wnid, name, prob in named
    ]
