"""`alexnet import`: published weights, by name or in a file -> a checkpoint."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from alexnet_cli.data.imagenet_classes import imagenet_classes
from alexnet_cli.data.remote.cache import cache_folder, locked_file
from alexnet_cli.data.remote.published import PublishedFile, fetch_published
from alexnet_cli.data.sources.class_list import named_class, read_class_list
from alexnet_cli.errors import CheckpointError, UsageError, counted, hint, on_one_line
from alexnet_cli.io.atomic import check_new
from alexnet_cli.io.disk import size_in_words
from alexnet_cli.io.hashes import hash_of
from alexnet_cli.io.progress import SILENT, Progress
from alexnet_cli.model.checkpoint import Checkpoint, TrainState, save_checkpoint
from alexnet_cli.pretrained.weights import (
    MAX_FILE_BYTES,
    Imported,
    UnknownNetworkError,
    constant_image,
)

# Sizes and hashes as published: torchvision's name has the first eight digits, Caffe's readme.md
# the SHA-1.
PUBLISHED: dict[str, PublishedFile] = {
    "torchvision": PublishedFile(
        "alexnet-owt-7be5be79.pth",
        "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
        244_408_911,
        "sha256",
        "7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02",
    ),
    "bvlc": PublishedFile(
        "bvlc_alexnet.caffemodel",
        "http://dl.caffe.berkeleyvision.org/bvlc_alexnet.caffemodel",
        None,
        "sha1",
        "9116a64c0fbe4459d18f4bb6b56d647b63920377",
    ),
}
IMAGE_SIZE = 256  # to which images are resized before they are cropped


@dataclass(frozen=True, slots=True)
class ImportRequest:
    """Weights to import.

    Attributes:
        source: a name of `PUBLISHED`, or the path of a file.
        output: the checkpoint to write.
        mean: a mean image of Caffe, .binaryproto; by default the mean color.
        classes: file of class names, one a line; by default ImageNet's 1,000.
        force: whether to replace an existing file.
    """

    source: str
    output: Path
    mean: Path | None = None
    classes: Path | None = None
    force: bool = False


@dataclass(frozen=True, slots=True)
class ImportResult:
    """What was written.

    Attributes:
        sha256: of the file read.
    """

    checkpoint: str
    source: str
    sha256: str
    recipe: str
    classes: int
    parameters: int


def import_weights(request: ImportRequest, progress: Progress = SILENT) -> ImportResult:
    """Write a checkpoint of published weights, or of a model that `alexnet export` wrote.

    Raises:
        CheckpointError: if the file holds another network or is damaged.
        InputError: if the checkpoint exists and `force` is not set.
        AlexNetError: if a named file cannot be fetched.
    """
    check_new(request.output, force=request.force)
    published = _published(request.source)
    path = fetch_published(published, progress) if published else Path(request.source)
    exported = _read_export(request, path)
    checkpoint = exported or read_weights(path, request.mean, request.classes)
    request.output.parent.mkdir(parents=True, exist_ok=True)
    save_checkpoint(request.output, checkpoint)
    return ImportResult(
        checkpoint=str(request.output),
        source=published.url if published else str(path),
        sha256=hash_of(path) if exported else checkpoint.init_from["sha256"],
        recipe=checkpoint.recipe.name,
        classes=len(checkpoint.classes),
        parameters=sum(tensor.size for tensor in checkpoint.weights.values()),
    )


def default_output(source: str) -> Path:
    """Return the checkpoint that a source is imported to unless another is named."""
    name = source if _published(source) else Path(source).stem
    return Path("runs") / name / "best.safetensors"


def import_into_cache(name: str, progress: Progress = SILENT) -> Path:
    """Return the checkpoint of a name of `PUBLISHED` in the cache, after importing it if needed.

    Raises:
        AlexNetError: as `import_weights`.
    """
    path = cache_folder() / "models" / f"{name}-{PUBLISHED[name].digest[:8]}.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.is_file():
        with locked_file(path):
            if not path.is_file():
                import_weights(ImportRequest(name, path), progress)
    return path


def _published(source: str) -> PublishedFile | None:
    return None if Path(source).exists() else PUBLISHED.get(source)


def _read_export(request: ImportRequest, path: Path) -> Checkpoint | None:
    """Return the network of a model that `alexnet export` wrote; None if it is another file.

    Raises:
        CheckpointError: if it is damaged.
        UsageError: if a mean image or classes are named, which are in the file.
    """
    from alexnet_cli.onnx.model_file import is_export, open_onnx_file
    from alexnet_cli.onnx.parameters import checkpoint_of

    is_onnx = path.suffix.lower() == ".onnx" and path.is_file() and path.stat().st_size > 0
    if not is_onnx or not is_export(path):
        return None
    if request.mean or request.classes:
        raise UsageError(f"{path}: an exported model has its own mean image and classes.")
    return checkpoint_of(open_onnx_file(path))


def read_weights(
    path: Path, mean: Path | None = None, class_names: Path | None = None
) -> Checkpoint:
    """Return the network of a file as a checkpoint.

    Raises:
        CheckpointError: if the file holds another network or is damaged.
    """
    _check_file(path)
    found = _read(path, mean)
    recipe = found.recipe
    return Checkpoint(
        recipe=recipe,
        weights=found.weights,
        pixels={
            "mean_image": constant_image(found.mean, IMAGE_SIZE),
            # Not published: color noise along the components of a dataset needs the dataset.
            "eigenvalues": np.zeros(3),
            "eigenvectors": np.eye(3),
        },
        classes=_classes(path, found.num_classes, class_names),
        fingerprint="unknown",
        train_state=TrainState(),
        init_from={"recipe": recipe.name, "file": path.name, "sha256": hash_of(path)},
    )


def _check_file(path: Path) -> None:
    if not path.is_file():
        names = ", ".join(PUBLISHED)
        raise UsageError(
            f"{path}: no such file.", hint=f"Name a file of weights, or one of: {names}."
        )
    if path.stat().st_size > MAX_FILE_BYTES:
        size = size_in_words(path.stat().st_size)
        raise CheckpointError(f"{path}: {size}, more than any of these networks has.")


def _read(path: Path, mean: Path | None) -> Imported:
    """Read a file by its suffix.

    Raises:
        CheckpointError: if it holds another network or is damaged.
    """
    suffix = path.suffix.lower()
    if suffix not in READERS:
        raise CheckpointError(
            f"{path}: not a file of weights that can be imported.",
            hint=f"They end in {', '.join(READERS)}.",
        )
    if mean and suffix in TORCH:
        raise UsageError(f"{path}: a mean image belongs to networks of Caffe.")
    try:
        return READERS[suffix](path, mean)
    except UnknownNetworkError as error:
        raise CheckpointError(
            f"{path}: not the weights of an AlexNet of torchvision or Caffe: "
            f"{on_one_line(str(error))}."
        ) from error


def _torchvision(path: Path, _mean: Path | None) -> Imported:
    from alexnet_cli.pretrained.torchvision import read_torchvision

    return read_torchvision(path)


def _caffe(path: Path, mean: Path | None) -> Imported:
    from alexnet_cli.pretrained.caffe import read_caffemodel, read_mean

    return read_caffemodel(path, read_mean(mean) if mean else None)


def _onnx(path: Path, mean: Path | None) -> Imported:
    from alexnet_cli.pretrained.caffe import read_mean
    from alexnet_cli.pretrained.onnx_zoo import read_onnx

    return read_onnx(path, read_mean(mean) if mean else None)


TORCH = (".pth", ".pt", ".bin")
READERS: Mapping[str, Callable[[Path, Path | None], Imported]] = {
    **dict.fromkeys(TORCH, _torchvision),
    ".caffemodel": _caffe,
    ".onnx": _onnx,
}


def _classes(path: Path, num_classes: int, names: Path | None) -> list[tuple[str, str]]:
    """Return the classes of a network: those of a file, or ImageNet's.

    Raises:
        UsageError: if there are not as many names as classes.
    """
    classes = [(entry.wnid, entry.name) for entry in imagenet_classes()]
    if names:
        named = map(named_class, read_class_list(names).names)
        classes = [(entry.wnid, entry.name) for entry in named]
    if len(classes) != num_classes:
        whose = f"{names} has" if names else "ImageNet has"
        raise UsageError(
            f"{path}: made for {counted(num_classes, 'class')}, {whose} {len(classes):,}.",
            hint=hint("name_classes"),
        )
    return classes
