"""One safetensors file holds a network and all that is needed to use it; nothing is ever unpickled.

Tensors: the whole network's parameters by name ("conv1.weight"), the mean image and the RGB
components ("pixels.*"), and in a resumable checkpoint the optimizer's state of each parameter
("optimizer.conv1.weight.momentum_buffer") and its moving average ("ema.conv1.weight"), where the
recipe has one. The header's JSON says where it comes from: recipe, classes, dataset, epoch, errors.
"""

import hashlib
import json
import math
import re
import zlib
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy

import alexnet_cli
from alexnet_cli.errors import CheckpointError, RecipeError, hint, on_one_line
from alexnet_cli.io.atomic import write_atomically
from alexnet_cli.model.architecture import parameter_shapes
from alexnet_cli.recipes.recipe import Recipe
from alexnet_cli.types import USUAL_RULES, DecodeRules

FORMAT = 1
PIXELS, OPTIMIZER, EMA = "pixels.", "optimizer.", "ema."
PIXEL_BYTES = 64 << 20  # limit for mean image and components
BEST_NAME, LAST_NAME = "best.safetensors", "last.safetensors"  # in a run folder
HEADER_BYTES = 8 << 20  # limit; 20,000 classes take one or two
MAX_COPIES = 4  # of the weights: themselves, their average, and an optimizer's two states
DTYPES = {"F32": "float32", "F64": "float64", "F16": "float16", "BF16": "bfloat16"}
READABLE = ("F32", "F64")  # weights; eigenvalues and eigenvectors
IMPORTABLE = (".pth", ".pt", ".bin", ".caffemodel")  # weights that can be imported
UNREADABLE = (safetensors.SafetensorError, OSError)
# torch's DistributedDataParallel puts `module.` before the name of every parameter.
PARALLEL = "module."
PREFIXES = re.compile(r"(?:module\.)?((?:pixels|optimizer|ema)\.)?(?:module\.)?")


@dataclass(slots=True)
class TrainState:
    """How far a run is: everything besides tensors that decides the next update.

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
        """Record the end of an epoch and its validation errors."""
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
    """The content of a checkpoint file.

    Attributes:
        weights: float32 parameters of the whole network by name.
        pixels: mean_image float32 (H, W, 3), eigenvalues and eigenvectors float64.
        classes: (wnid, name) in label order.
        fingerprint: of the dataset it was trained on.
        optimizer: the optimizer's tensors by parameter and state, as
            `conv1.weight.momentum_buffer`; empty unless a run can be resumed from here.
        ema: averaged weights, as `weights`; empty unless the recipe averages them.
        init_from: recipe, dataset and hash of the checkpoint that gave layers their first weights.
        exported_hash: hash of the weights that an exported file was made of; empty for others.
    """

    recipe: Recipe
    weights: dict[str, np.ndarray]
    pixels: dict[str, np.ndarray]
    classes: list[tuple[str, str]]
    fingerprint: str
    train_state: TrainState
    optimizer: dict[str, np.ndarray] = field(default_factory=dict)
    ema: dict[str, np.ndarray] = field(default_factory=dict)
    init_from: dict[str, str] = field(default_factory=dict)
    rules: DecodeRules = USUAL_RULES
    tool: str = f"alexnet {alexnet_cli.__version__}"
    exported_hash: str = ""

    def origin(self) -> dict[str, str]:
        """Return where these weights come from, as short texts."""
        origin = {
            "tool": self.tool,
            "dataset": self.fingerprint,
            "recipe": self.recipe.name,
            "epoch": str(self.train_state.epoch),
            "step": str(self.train_state.total_steps),
        }
        return origin | {f"init_from_{name}": text for name, text in self.init_from.items()}

    def as_source(self) -> dict[str, str]:
        """Return what a network that starts from these weights records about them."""
        return {
            "recipe": self.recipe.name,
            "dataset": self.fingerprint,
            "weights": self.weights_hash(),
        }

    def not_finite(self) -> str:
        """Return the name of a weight with infinite or undefined values, or an empty text."""
        return next((n for n, t in self.weights.items() if not np.isfinite(t).all()), "")

    def for_use(self) -> "Checkpoint":
        """Return what is validated and exported: the averaged weights, if there are any."""
        return replace(self, weights=self.ema or self.weights, optimizer={}, ema={})

    def weights_hash(self) -> str:
        """Return 16 hex digits that identify these weights.

        Those read back from an exported file may differ in the last bit from the ones it was made
        of, but are the same network.
        """
        if self.exported_hash:
            return self.exported_hash
        digest = hashlib.sha256()
        for name in sorted(self.weights):
            digest.update(np.ascontiguousarray(self.weights[name]).tobytes())
        return digest.hexdigest()[:16]


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint atomically: if anything fails, an older one at `path` is kept."""
    tensors = dict(checkpoint.weights)
    tensors |= {PIXELS + name: tensor for name, tensor in checkpoint.pixels.items()}
    tensors |= {OPTIMIZER + name: tensor for name, tensor in checkpoint.optimizer.items()}
    tensors |= {EMA + name: tensor for name, tensor in checkpoint.ema.items()}
    tensors = {name: np.require(tensor, requirements="C") for name, tensor in tensors.items()}
    header = {
        "format": FORMAT,
        "tool": checkpoint.tool,
        "recipe": json.loads(checkpoint.recipe.to_json()),
        "classes": checkpoint.classes,
        "dataset": checkpoint.fingerprint,
        "train_state": asdict(checkpoint.train_state),
        "init_from": checkpoint.init_from,
    }
    if checkpoint.rules != USUAL_RULES:
        header["decode_rules"] = checkpoint.rules.to_json()
    header["checksum"] = _checksum(tensors, header)
    content = safetensors.numpy.save(tensors, {"alexnet": json.dumps(header)})
    with write_atomically(path) as file:
        file.write(content)


def load_checkpoint(path: Path, *, with_optimizer: bool = False) -> Checkpoint:
    """Read a checkpoint that `save_checkpoint` wrote.

    Args:
        with_optimizer: whether to return all of it, to resume training, or `for_use`.

    Raises:
        CheckpointError: if the file is not a checkpoint, is damaged, or is of a newer version.
    """
    path = checkpoint_file(path)
    header = read_header(path)
    try:
        if header["format"] > FORMAT:
            raise CheckpointError(
                f"{path}: written by {on_one_line(str(header['tool']))}, which is newer.",
                hint="Update alexnet.",
            )
        _check_size(path, header)
        stored = _read_tensors(path)
        tensors = _without_parallel(stored)
        whole = _assemble(tensors, header)
        _check_tensors(whole)
    except (KeyError, TypeError, ValueError, RecipeError) as error:
        reason = on_one_line(str(error))
        raise CheckpointError(f"{path}: not a checkpoint of this version ({reason}).") from error
    # Renamed tensors keep the checksum of their old names.
    if not any(header.get("checksum") == _checksum(t, header) for t in (tensors, stored)):
        raise CheckpointError(
            f"{path}: damaged, its checksum does not match.", hint="Use another checkpoint."
        )
    checkpoint = whole if with_optimizer else whole.for_use()
    if name := checkpoint.not_finite():
        raise CheckpointError(f"{path}: {on_one_line(name)} has values that are not finite.")
    return checkpoint


def read_recipe(path: Path) -> Recipe:
    """Return a checkpoint's recipe without reading its tensors.

    Raises:
        CheckpointError: if the file is not a checkpoint; damaged tensors are not noticed.
    """
    try:
        return Recipe.from_json(json.dumps(read_header(path)["recipe"]))
    except (CheckpointError, RecipeError, KeyError, TypeError):
        return load_checkpoint(path).recipe  # raises the error that says what is wrong


def checkpoint_file(path: Path) -> Path:
    """Return the best checkpoint of a run folder; any other path as it is."""
    best = path / BEST_NAME
    return best if best.is_file() else path


def read_header(path: Path) -> dict:
    """Return the header's JSON.

    Raises:
        CheckpointError: if the file is not a checkpoint, or its header is too long.
    """
    path = checkpoint_file(path)
    if path.is_dir():
        raise CheckpointError(
            f"{path}: a folder without {BEST_NAME}.", hint="Name a run folder or a checkpoint."
        )
    if not path.is_file():
        raise CheckpointError(
            f"{path}: no such file.", hint="Checkpoints are runs/NAME/best.safetensors."
        )
    try:
        with path.open("rb") as file:
            if int.from_bytes(file.read(8), "little") > HEADER_BYTES:
                raise ValueError("its header is too long")
        with safetensors.safe_open(path, framework="numpy") as file:
            return json.loads(file.metadata()["alexnet"])
    except (*UNREADABLE, KeyError, TypeError, ValueError, RecursionError) as error:
        raise _not_a_checkpoint(path) from error


def _read_tensors(path: Path) -> dict[str, np.ndarray]:
    """Return a file's tensors by name.

    Raises:
        CheckpointError: if the file is cut short, or a tensor is neither float32 nor float64.
    """
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            names = list(file.keys())
            for name in names:
                if (dtype := file.get_slice(name).get_dtype()) not in READABLE:
                    raise CheckpointError(
                        f"{path}: {on_one_line(name)} is {DTYPES.get(dtype, dtype)}, not float32: "
                        "it was converted after training.",
                        hint="Use the checkpoint that alexnet train wrote.",
                    )
            return {name: file.get_tensor(name) for name in names}
    except UNREADABLE as error:
        raise _not_a_checkpoint(path) from error


def _not_a_checkpoint(path: Path) -> CheckpointError:
    if path.suffix.lower() == ".npz":
        return CheckpointError(
            f"{path}: not a network; .npz files have the predictions of one.",
            hint=f"To see its errors: alexnet errors {path}",
        )
    usual = "Checkpoints are the .safetensors files that alexnet train writes."
    suffix = path.suffix.lower()
    foreign = hint("import_model", path=path)
    return CheckpointError(
        f"{path}: not an alexnet checkpoint, or a damaged one.",
        hint=foreign if suffix in IMPORTABLE else usual,
    )


def _without_parallel(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the tensors without `module.` in their names, if all weights carry it."""
    weights = [name for name in tensors if not name.startswith((PIXELS, OPTIMIZER, EMA))]
    if not all(name.startswith(PARALLEL) for name in weights):
        return tensors
    bare = {PREFIXES.sub(r"\1", name, count=1): tensor for name, tensor in tensors.items()}
    return bare if len(bare) == len(tensors) else tensors


def _assemble(tensors: dict[str, np.ndarray], header: dict) -> Checkpoint:
    def under(prefix: str) -> dict[str, np.ndarray]:
        return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}

    return Checkpoint(
        recipe=Recipe.from_json(json.dumps(header["recipe"])),
        weights={n: t for n, t in tensors.items() if not n.startswith((PIXELS, OPTIMIZER, EMA))},
        pixels=under(PIXELS),
        classes=[(wnid, name) for wnid, name in header["classes"]],
        fingerprint=header["dataset"],
        train_state=TrainState(**header["train_state"]),
        optimizer=under(OPTIMIZER),
        ema=under(EMA),
        init_from=dict(header["init_from"]),
        rules=DecodeRules.from_json(header.get("decode_rules", {})),
        tool=header["tool"],
    )


def _check_size(path: Path, header: dict) -> None:
    """Check that a file is not larger than its network can be; it may be sparse.

    Raises:
        ValueError: if it is larger.
    """
    recipe = Recipe.from_json(json.dumps(header["recipe"]))
    if not header["classes"]:
        raise ValueError("it has no classes")
    shapes = parameter_shapes(recipe, len(header["classes"]))
    limit = MAX_COPIES * 4 * sum(math.prod(shape) for shape in shapes.values()) + PIXEL_BYTES
    if path.stat().st_size > limit + HEADER_BYTES:
        raise ValueError("it is larger than its network can be")


def _check_tensors(checkpoint: Checkpoint) -> None:
    """Check that optimizer state and average have the shapes of the weights, all in float32.

    Raises:
        ValueError: if they do not.
    """
    shapes = {name: tensor.shape for name, tensor in checkpoint.weights.items()}
    kinds = {"weights": checkpoint.weights, "averaged weights": checkpoint.ema}
    for key, tensor in checkpoint.optimizer.items():
        name, _, state = key.rpartition(".")
        kinds.setdefault(state, {})[name] = tensor
    for kind, tensors in kinds.items():
        is_scalar = tensors and not any(tensor.ndim for tensor in tensors.values())
        found = {name: shapes.get(name) if is_scalar else t.shape for name, t in tensors.items()}
        if tensors and found != shapes:
            raise ValueError(f"its {kind} does not fit its weights")
        for name, tensor in tensors.items():
            if tensor.dtype != np.float32:
                raise ValueError(f"{kind} of {name} is {tensor.dtype}, not float32")


def _checksum(tensors: dict[str, np.ndarray], header: dict) -> str:
    """Return a CRC-32 of header and tensors; it finds damage, not forgery."""
    about = {name: value for name, value in header.items() if name != "checksum"}
    crc = zlib.crc32(json.dumps(about).encode())
    for name in sorted(tensors):
        crc = zlib.crc32(name.encode(), crc)
        crc = zlib.crc32(tensors[name].reshape(-1).view(np.uint8).data, crc)
    return f"{crc:08x}"
