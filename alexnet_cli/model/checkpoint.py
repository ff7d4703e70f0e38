"""One safetensors file holds a network and all that is needed to use it; nothing is ever unpickled.

Tensors: the whole network's parameters by name ("conv1.weight"), the mean image and the RGB
components ("pixels.*"), and in a resumable checkpoint each parameter's velocity ("velocity.*") and
moving average ("average.*"), where the recipe asks for one.
The header's JSON says how it came about: recipe, classes, dataset, epoch, errors.
"""

import hashlib
import json
import math
import zlib
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy

import alexnet_cli
from alexnet_cli.errors import CheckpointError, RecipeError
from alexnet_cli.io.atomic import write_atomically
from alexnet_cli.model.tensor_file import (
    AVERAGE,
    HEADER_BYTES,
    PIXELS,
    VELOCITY,
    read_header,
    read_tensors,
    without_parallel,
)
from alexnet_cli.recipes.recipe import Recipe

FORMAT = 1
PIXEL_BYTES = 64 << 20  # at most, of mean image and components


@dataclass(slots=True)
class TrainState:
    """How far a run is: everything that decides what the next update does.

    Attributes:
        epoch: finished epochs.
        step: updates done in the current epoch.
        total_steps: updates done in all.
        val_errors: validation top-1 error after each finished epoch.
        train_errors: training top-1 error of each finished epoch.
        best: epoch, top-1 and top-5 error of the best epoch (errors None without validation).
        num_seen, num_wrong, loss_sum: over the current epoch's updates.
    """

    epoch: int = 0
    step: int = 0
    total_steps: int = 0
    val_errors: list[float] = field(default_factory=list)
    train_errors: list[float] = field(default_factory=list)
    best: dict | None = None
    num_seen: int = 0
    num_wrong: int = 0
    loss_sum: float = 0.0

    @property
    def train_loss(self) -> float:
        """Mean training loss of the current epoch so far."""
        return self.loss_sum / max(self.num_seen, 1)

    @property
    def train_error(self) -> float:
        """Top-1 error on the training crops of the current epoch so far."""
        return self.num_wrong / max(self.num_seen, 1)

    def next_epoch(self, val: dict[str, float] | None, *, is_best: bool) -> None:
        """Note the end of an epoch and its validation errors."""
        self.train_errors.append(self.train_error)
        self.epoch, self.step = self.epoch + 1, 0
        self.num_seen, self.num_wrong, self.loss_sum = 0, 0, 0.0
        if val:
            self.val_errors.append(val["top1_error"])
        if is_best:
            errors = val or {}
            self.best = {
                "epoch": self.epoch,
                "top1_error": errors.get("top1_error"),
                "top5_error": errors.get("top5_error"),
            }


@dataclass(slots=True)
class Checkpoint:
    """What a checkpoint file holds.

    Attributes:
        weights: float32 parameters of the whole network by name.
        pixels: mean_image float32 (H, W, 3), eigenvalues and eigenvectors float64.
        classes: (wnid, name) in label order.
        fingerprint: the dataset it learned from.
        velocity: as weights; empty unless the run can be resumed from here.
        average: as velocity; empty unless the recipe averages the weights.
        began_from: recipe, dataset and hash of the weights that some layers were imported from.
    """

    recipe: Recipe
    weights: dict[str, np.ndarray]
    pixels: dict[str, np.ndarray]
    classes: list[tuple[str, str]]
    fingerprint: str
    train_state: TrainState
    velocity: dict[str, np.ndarray] = field(default_factory=dict)
    average: dict[str, np.ndarray] = field(default_factory=dict)
    began_from: dict[str, str] = field(default_factory=dict)
    tool: str = f"alexnet {alexnet_cli.__version__}"

    def origin(self) -> dict[str, str]:
        """Return where these weights come from, as short texts."""
        origin = {
            "tool": self.tool,
            "dataset": self.fingerprint,
            "recipe": self.recipe.name,
            "epoch": str(self.train_state.epoch),
            "step": str(self.train_state.total_steps),
        }
        return origin | {f"began_from_{name}": text for name, text in self.began_from.items()}

    def as_source(self) -> dict[str, str]:
        """Return what a network that begins with these weights remembers of them."""
        return {
            "recipe": self.recipe.name,
            "dataset": self.fingerprint,
            "weights": self.weights_hash(),
        }

    def not_finite(self) -> str:
        """Return the name of a weight that holds infinity or no number; empty if none does."""
        return next((n for n, t in self.weights.items() if not np.isfinite(t).all()), "")

    def for_use(self) -> "Checkpoint":
        """Return what is validated and exported: the averaged weights, if there are any."""
        return replace(self, weights=self.average or self.weights, velocity={}, average={})

    def weights_hash(self) -> str:
        """Return 16 hex digits that name these weights."""
        digest = hashlib.sha256()
        for name in sorted(self.weights):
            digest.update(np.ascontiguousarray(self.weights[name]).tobytes())
        return digest.hexdigest()[:16]


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint atomically: an older one at `path` survives anything that goes wrong."""
    tensors = dict(checkpoint.weights)
    tensors |= {PIXELS + name: tensor for name, tensor in checkpoint.pixels.items()}
    tensors |= {VELOCITY + name: tensor for name, tensor in checkpoint.velocity.items()}
    tensors |= {AVERAGE + name: tensor for name, tensor in checkpoint.average.items()}
    tensors = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    header = {
        "format": FORMAT,
        "tool": checkpoint.tool,
        "recipe": json.loads(checkpoint.recipe.to_json()),
        "classes": checkpoint.classes,
        "dataset": checkpoint.fingerprint,
        "train_state": asdict(checkpoint.train_state),
        "began_from": checkpoint.began_from,
    }
    header["checksum"] = _checksum(tensors, header)
    content = safetensors.numpy.save(tensors, {"alexnet": json.dumps(header)})
    with write_atomically(path) as file:
        file.write(content)


def load_checkpoint(path: Path, *, with_velocity: bool = False) -> Checkpoint:
    """Read a checkpoint that `save_checkpoint` wrote.

    Args:
        with_velocity: to go on training; otherwise what is of use without that (`for_use`).

    Raises:
        CheckpointError: it is none, is damaged, or comes from a newer version.
    """
    header = read_header(path)
    try:
        if header["format"] > FORMAT:
            raise CheckpointError(
                f"{path}: made by {header['tool']}, which is newer. Update alexnet."
            )
        _check_size(path, header)
        stored = read_tensors(path)
        tensors = without_parallel(stored)
        whole = _assemble(tensors, header)
        _check_tensors(whole)
    except (KeyError, TypeError, ValueError, RecipeError) as error:
        raise CheckpointError(f"{path}: not a checkpoint of this version ({error}).") from error
    # Renamed tensors keep the checksum of their old names.
    if not any(header.get("checksum") == _checksum(t, header) for t in (tensors, stored)):
        raise CheckpointError(
            f"{path}: damaged, its checksum does not match. Use another checkpoint."
        )
    checkpoint = whole if with_velocity else whole.for_use()
    for name, tensor in checkpoint.weights.items():
        if not np.isfinite(tensor).all():
            raise CheckpointError(f"{path}: {name} holds numbers that are not finite.")
    return checkpoint


def read_recipe(path: Path) -> Recipe:
    """Return a checkpoint's recipe without reading its tensors.

    Raises:
        CheckpointError: it is none; a damaged tensor goes unnoticed.
    """
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            header = json.loads(file.metadata()["alexnet"])
            return Recipe.from_json(json.dumps(header["recipe"]))
    except Exception:  # whatever is wrong, the whole reading says it better
        return load_checkpoint(path).recipe


def _assemble(tensors: dict[str, np.ndarray], header: dict) -> Checkpoint:
    def under(prefix: str) -> dict[str, np.ndarray]:
        return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}

    return Checkpoint(
        recipe=Recipe.from_json(json.dumps(header["recipe"])),
        weights={n: t for n, t in tensors.items() if not n.startswith((PIXELS, VELOCITY, AVERAGE))},
        pixels=under(PIXELS),
        classes=[(wnid, name) for wnid, name in header["classes"]],
        fingerprint=header["dataset"],
        train_state=TrainState(**header["train_state"]),
        velocity=under(VELOCITY),
        average=under(AVERAGE),
        began_from=dict(header.get("began_from", {})),
        tool=header["tool"],
    )


def _check_size(path: Path, header: dict) -> None:
    """Refuse to read more than a network, its velocity and its average can be.

    Raises:
        ValueError: the file, which may have holes and take no room on the disk, is larger.
    """
    from alexnet_cli.model.network import parameter_shapes  # torch, which plans do not need

    recipe = Recipe.from_json(json.dumps(header["recipe"]))
    if not header["classes"]:
        raise ValueError("it has no classes")
    shapes = parameter_shapes(recipe, len(header["classes"]))
    limit = 3 * 4 * sum(math.prod(shape) for shape in shapes.values()) + PIXEL_BYTES
    if path.stat().st_size > limit + HEADER_BYTES:
        raise ValueError("it is larger than its network can be")


def _check_tensors(checkpoint: Checkpoint) -> None:
    """See that velocity and average fit the weights, and that all of them are float32.

    Raises:
        ValueError: they do not.
    """
    shapes = {name: tensor.shape for name, tensor in checkpoint.weights.items()}
    for kind in ("weights", "velocity", "average"):
        tensors = getattr(checkpoint, kind)
        if tensors and {name: tensor.shape for name, tensor in tensors.items()} != shapes:
            raise ValueError(f"its {kind} does not fit its weights")
        for name, tensor in tensors.items():
            if tensor.dtype != np.float32:
                raise ValueError(f"{kind} of {name} is {tensor.dtype}, not float32")


def _checksum(tensors: dict[str, np.ndarray], header: dict) -> str:
    """Return a CRC-32 over header and tensors: finds damage, is no defence against forgery."""
    about = {name: value for name, value in header.items() if name != "checksum"}
    crc = zlib.crc32(json.dumps(about).encode())
    for name in sorted(tensors):
        crc = zlib.crc32(name.encode(), crc)
        crc = zlib.crc32(tensors[name].reshape(-1).view(np.uint8), crc)
    return f"{crc:08x}"
