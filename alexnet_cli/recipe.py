"""A recipe is everything that decides what is learned; where it runs is not in it.

`PAPER` follows the paper's text (sections 3-5). Every other recipe is `replace(PAPER, ...)` with a
comment that says what it is for. A recipe travels as JSON in each run and checkpoint.
"""

import dataclasses
import json
import math
from dataclasses import dataclass, replace
from typing import Any

from alexnet_cli.errors import RecipeError

SCHEDULES = ("plateau", "linear")


@dataclass(frozen=True, slots=True, kw_only=True)
class Conv:
    """One convolution and what follows it: ReLU, then LRN if `norm`, then max pooling if `pool`."""

    filters: int
    size: int
    stride: int = 1
    pad: int = 0
    init_std: float
    init_bias: float
    norm: bool = False
    pool: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Dense:
    """One hidden fully connected layer and its dropout."""

    units: int
    init_std: float
    init_bias: float
    dropout: float = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """The network and how it is trained; the defaults are the paper's.

    Rates are per update on the mean gradient of a batch; errors elsewhere are fractions.
    """

    name: str = "paper"

    # --- the network, section 3.5. Sizes 224 -> 55 -> 27 -> 13 -> 6.
    crop_size: int = 224
    columns: int = 2  # section 3.2: half of the kernels on each GPU
    # Section 3.2: layer 3, and the fully connected layers, read the maps of both columns.
    reads_both: tuple[str, ...] = ("conv3", "fc6", "fc7", "fc8")
    # Section 5: N(0, 0.01); biases 1 in conv2, conv4, conv5 and the hidden layers, 0 elsewhere.
    conv1: Conv = Conv(
        filters=96, size=11, stride=4, init_std=0.01, init_bias=0.0, norm=True, pool=True
    )
    conv2: Conv = Conv(
        filters=256, size=5, pad=2, init_std=0.01, init_bias=1.0, norm=True, pool=True
    )
    # Unlike the paper: conv3, conv4 and conv5 start at std 0.03, as in the 2012 code
    # (layers-145.cfg). With 0.01 the signal shrinks layer by layer and nothing is learned.
    conv3: Conv = Conv(filters=384, size=3, pad=1, init_std=0.03, init_bias=0.0)
    conv4: Conv = Conv(filters=384, size=3, pad=1, init_std=0.03, init_bias=1.0)
    conv5: Conv = Conv(filters=256, size=3, pad=1, init_std=0.03, init_bias=1.0, pool=True)
    fc6: Dense = Dense(units=4096, init_std=0.01, init_bias=1.0)
    fc7: Dense = Dense(units=4096, init_std=0.01, init_bias=1.0)
    fc8_init_std: float = 0.01
    # Section 3.4: pooling windows of 3 every 2 pixels overlap.
    pool_size: int = 3
    pool_stride: int = 2
    # Section 3.3: k = 2, n = 5, alpha = 1e-4, beta = 0.75, alpha times the plain sum of squares.
    lrn_k: float = 2.0
    lrn_size: int = 5
    lrn_alpha: float = 1e-4
    lrn_beta: float = 0.75

    # --- the pictures, section 4.1: random 224x224 patches, reflections, colour noise.
    # Unlike the paper: patches start at offsets 0..32, so 33 x 33; its factor 2048 counts 32 x 32.
    random_crop: bool = True
    mirror: bool = True
    # Unlike the paper: the noise is alpha_i times the standard deviation along each principal
    # component, as in the 2012 code (convdata_jpeg.py:154). The printed eigenvalue is a variance:
    # on the 0..255 scale it would move every pixel by hundreds of grey levels.
    colour_noise: float = 0.1

    # --- the update, section 5.
    batch_size: int = 128
    learning_rate: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 0.0005
    # The paper says one rate for all layers and does not say whether biases decay; in the 2012
    # code they do not (layer.cu:565).
    bias_rate: float = 1.0
    bias_decay: float = 0.0
    epochs: int = 90
    # "plateau" (section 5): divide the rate by ten when the validation error stops improving,
    # `drops` times, and stop when it stops improving once more. "linear": down to zero at the end.
    schedule: str = "plateau"
    drops: int = 3
    patience: int = 5  # epochs without an improvement of at least `min_improvement`
    min_improvement: float = 0.001
    warmup_epochs: float = 0.0  # the rate rises linearly from zero
    seed: int = 0

    def __post_init__(self) -> None:
        if self.schedule not in SCHEDULES:
            raise RecipeError(f"schedule={self.schedule}: choose one of {', '.join(SCHEDULES)}.")
        _check_numbers(self, self.columns)
        if self.pool_stride > self.pool_size:
            raise RecipeError(f"pool_stride={self.pool_stride}: pooling would leave out pixels.")
        dense, read = {"fc6", "fc7", "fc8"}, set(self.reads_both)
        if not dense <= read <= dense | {"conv2", "conv3", "conv4", "conv5"}:
            raise RecipeError("reads_both: name fc6,fc7,fc8 and any of conv2,conv3,conv4,conv5.")

    def convs(self) -> dict[str, Conv]:
        """Return the convolutions in order, by name."""
        return {name: value for name, value in self._fields() if isinstance(value, Conv)}

    def denses(self) -> dict[str, Dense]:
        """Return the hidden fully connected layers in order, by name."""
        return {name: value for name, value in self._fields() if isinstance(value, Dense)}

    def layer_names(self) -> list[str]:
        """Return the layers that hold weights, first to last."""
        return [*self.convs(), *self.denses(), "fc8"]

    def _fields(self) -> list[tuple[str, Any]]:
        return [(field.name, getattr(self, field.name)) for field in dataclasses.fields(self)]

    def to_json(self) -> str:
        """Return the recipe as JSON text, every field included."""
        return json.dumps(dataclasses.asdict(self), indent=2)

    @classmethod
    def from_json(cls, text: str) -> "Recipe":
        """Return the recipe that `to_json` wrote.

        Raises:
            RecipeError: a field is missing, unknown or of another kind.
        """
        try:
            values = json.loads(text)
            for field in dataclasses.fields(cls):
                if (kind := type(field.default)) in (Conv, Dense):
                    values[field.name] = _from_dict(kind, values[field.name])
            values["reads_both"] = tuple(values["reads_both"])
            return _from_dict(cls, values)
        except (TypeError, KeyError, ValueError) as error:
            raise RecipeError(f"not a recipe of this version: {error}") from error


def _from_dict(kind: type, values: dict) -> Any:
    if different := {field.name for field in dataclasses.fields(kind)} ^ set(values):
        raise ValueError(f"missing or unknown: {', '.join(sorted(different))}")
    return kind(**values)


_RANGES = [
    (8, 256, "crop_size"),
    (1, 2, "columns"),
    (1, 1 << 16, "filters units batch_size"),
    (1, 99, "size stride pool_size pool_stride lrn_size"),
    (0, 99, "pad drops"),
    (1, 1 << 20, "epochs patience"),
    (0, (1 << 63) - 1, "seed"),
    (1e-6, 1e6, "lrn_k"),
    (0.0, 1e6, "lrn_alpha lrn_beta init_std fc8_init_std warmup_epochs"),
    (-1e6, 1e6, "init_bias"),
    (0.0, 1.0, "dropout momentum min_improvement"),
    (0.0, 1e3, "learning_rate weight_decay bias_rate bias_decay colour_noise"),
]
_LIMITS = {name: (low, high) for low, high, names in _RANGES for name in names.split()}


def _check_numbers(target: Any, columns: int, path: str = "") -> None:
    """Refuse a number outside its limits, or what is none, in a recipe or one of its layers."""
    for field in dataclasses.fields(target):
        value, name = getattr(target, field.name), path + field.name
        if dataclasses.is_dataclass(value):
            _check_numbers(value, columns, f"{name}.")
        elif field.type in (int, float):
            low, high = _LIMITS[field.name]
            if not isinstance(value, (int, field.type)) or not low <= value <= high:
                raise RecipeError(f"{name}={value}: it must lie between {low} and {high}.")
            if field.name in ("filters", "units") and value % columns:
                raise RecipeError(f"{name}={value}: it must split into {columns} columns.")


def widen(recipe: Recipe, width: float) -> Recipe:
    """Return the recipe with every layer's kernels and units times `width`, in multiples of 8.

    The initial weights grow by 1 / sqrt(width) where a layer's inputs became fewer, so that the
    activations begin at the scale they have in the full network.
    """
    if not 0 < width <= 16:
        raise RecipeError(f"width={width}: it must lie above 0 and up to 16.")

    def scaled(count: int) -> int:
        return max(8, 8 * math.floor(count * width / 8 + 0.5))

    gain = 1 / math.sqrt(width)
    convs = {
        name: replace(
            conv,
            filters=scaled(conv.filters),
            init_std=conv.init_std * (gain if name != "conv1" else 1.0),
        )
        for name, conv in recipe.convs().items()
    }
    denses = {
        name: replace(dense, units=scaled(dense.units), init_std=dense.init_std * gain)
        for name, dense in recipe.denses().items()
    }
    return replace(recipe, **convs, **denses, fc8_init_std=recipe.fc8_init_std * gain)


def with_settings(recipe: Recipe, settings: list[str]) -> Recipe:
    """Return the recipe with `field=value` settings applied; `conv3.init_std=0.01` reaches inside.

    `width=0.5` scales all layers.

    Raises:
        RecipeError: an unknown field or a value of the wrong kind.
    """
    for setting in settings:
        path, equals, text = setting.partition("=")
        if not equals:
            raise RecipeError(f"--set {setting}: write field=value, for example epochs=30.")
        recipe = (
            widen(recipe, _parse(path, text, 1.0))
            if path == "width"
            else _set(recipe, path.split("."), path, text)
        )
    return recipe


def _set(target: Any, names: list[str], path: str, text: str) -> Any:
    known = [field.name for field in dataclasses.fields(target)]
    if names[0] not in known:
        raise RecipeError(f"--set {path}={text}: no field {names[0]}. Fields: {', '.join(known)}.")
    old = getattr(target, names[0])
    inner = dataclasses.is_dataclass(old)
    if inner != (len(names) == 2):
        fields = ", ".join(f.name for f in dataclasses.fields(old)) if inner else "none"
        raise RecipeError(f"--set {path}={text}: fields inside {names[0]}: {fields}.")
    new = _set(old, names[1:], path, text) if inner else _parse(path, text, old)
    return replace(target, **{names[0]: new})


def _parse(path: str, text: str, old: Any) -> Any:
    try:
        if isinstance(old, bool):
            return {"true": True, "false": False}[text.lower()]
        if isinstance(old, tuple):
            return tuple(name for name in text.split(",") if name)
        value = type(old)(text)
    except (ValueError, KeyError) as error:
        raise RecipeError(f"--set {path}={text}: expected {type(old).__name__}.") from error
    if isinstance(value, float) and not math.isfinite(value):
        raise RecipeError(f"--set {path}={text}: expected a finite number.")
    return value


PAPER = Recipe()

# For some ten thousand pictures and a CPU: three eighths of the kernels, a schedule that ends.
SMALL = replace(
    widen(PAPER, 0.375),
    name="small",
    batch_size=64,
    epochs=16,
    schedule="linear",
    warmup_epochs=1.0,
)

# For the thousand generated pictures of `alexnet demo`: a quarter of the kernels.
DEMO = replace(
    widen(PAPER, 0.25),
    name="demo",
    batch_size=32,
    epochs=8,
    schedule="linear",
    warmup_epochs=1.0,
)

RECIPES: dict[str, Recipe] = {recipe.name: recipe for recipe in (PAPER, SMALL, DEMO)}


def find_recipe(name: str) -> Recipe:
    """Return the recipe of that name.

    Raises:
        RecipeError: there is none.
    """
    if name not in RECIPES:
        raise RecipeError(f"no recipe {name!r}. Recipes: {', '.join(RECIPES)}.")
    return RECIPES[name]
