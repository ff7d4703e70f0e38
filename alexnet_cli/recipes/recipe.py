"""A recipe is everything that decides what is learned; where it runs is not in it.

`PAPER`, the defaults, follows the paper's text (sections 3-5); recipes/ derives the others from
it. A recipe travels as JSON in each run and checkpoint.
"""

import dataclasses
import json
from dataclasses import dataclass, replace
from typing import Any

from alexnet_cli.errors import RecipeError
from alexnet_cli.recipes.milestones import Event, check_events
from alexnet_cli.recipes.validation import check_layers, check_numbers, check_words


@dataclass(frozen=True, slots=True, kw_only=True)
class Conv:
    """One convolution and what follows it.

    With no `filters` the layer is left out, and what follows it too.

    Attributes:
        then: the steps that follow, in order: activation; norm, spatial-norm, contrast-norm;
            max-pool or average-pool.
        local: every position has weights of its own.
        decay: its weights decay so many times as fast as the recipe's.
    """

    filters: int
    size: int
    stride: int = 1
    pad: int = 0
    init_std: float
    init_bias: float
    then: tuple[str, ...] = ("activation",)
    local: bool = False
    decay: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Dense:
    """One hidden fully connected layer, its activation unless `linear`, and its dropout.

    With no `units` the layer is left out.
    """

    units: int
    init_std: float
    init_bias: float
    dropout: float = 0.5
    linear: bool = False


# Sections 3.3 and 3.4: normalization after the ReLU, pooling last.
NORM_POOL = ("activation", "norm", "max-pool")
POOL = ("activation", "max-pool")


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
    activation: str = "relu"  # section 3.1
    # Section 5: N(0, 0.01); biases 1 in conv2, conv4, conv5 and the hidden layers, 0 elsewhere.
    conv1: Conv = Conv(filters=96, size=11, stride=4, init_std=0.01, init_bias=0.0, then=NORM_POOL)
    conv2: Conv = Conv(filters=256, size=5, pad=2, init_std=0.01, init_bias=1.0, then=NORM_POOL)
    # Unlike the paper: conv3, conv4 and conv5 start at std 0.03, as in the 2012 code
    # (layers-145.cfg). With 0.01 the signal shrinks layer by layer: the first scores of different
    # photos differ by 0.003 instead of 0.05.
    conv3: Conv = Conv(filters=384, size=3, pad=1, init_std=0.03, init_bias=0.0)
    conv4: Conv = Conv(filters=384, size=3, pad=1, init_std=0.03, init_bias=1.0)
    conv5: Conv = Conv(filters=256, size=3, pad=1, init_std=0.03, init_bias=1.0, then=POOL)
    # Not in the paper's network; the pre-trained ones of section 6 have it.
    conv6: Conv = Conv(filters=0, size=3, pad=1, init_std=0.03, init_bias=1.0)
    fc6: Dense = Dense(units=4096, init_std=0.01, init_bias=1.0)
    fc7: Dense = Dense(units=4096, init_std=0.01, init_bias=1.0)
    # Not in the paper's network; run 146-2011 has it before its 21,843 classes.
    bottleneck: Dense = Dense(units=0, init_std=0.01, init_bias=0.0, dropout=0.0, linear=True)
    fc8_init_std: float = 0.01
    low_init_std: float = 0.01  # of conv2's weights for the low-resolution image
    split_classes: bool = False  # a column holds half of the classes, not half of fc8's inputs
    # conv2 also reads a blurred image of a quarter of the size, as in runs 120 to 141.
    low_resolution: bool = False
    # Section 3.4: pooling windows of 3 every 2 pixels overlap.
    pool_size: int = 3
    pool_stride: int = 2
    # Section 3.3: k = 2, n = 5, alpha = 1e-4, beta = 0.75, alpha times the plain sum of squares.
    lrn_k: float = 2.0
    lrn_size: int = 5
    lrn_alpha: float = 1e-4
    lrn_beta: float = 0.75
    lrn_divided: bool = False  # alpha / n for each square, as in the 2012 code (layer.py:1183)
    # A spatial-norm step: x * (k + alpha / n^2 * sum of n x n squares in the same map)^-beta. A
    # contrast-norm step sums the squares of the distances to the mean around each position.
    spatial_k: float = 1.0
    spatial_size: int = 5
    spatial_alpha: float = 1e-3
    spatial_beta: float = 0.75
    spatial_divided: bool = True

    # --- the images, section 4.1: random 224x224 crops, reflections, color noise.
    # Unlike the paper: crops start at offsets 0..32, so 33 x 33; its factor 2048 counts 32 x 32.
    random_crop: bool = True
    mirror: bool = True
    # Unlike the paper: the noise is alpha_i times the standard deviation along each principal
    # component, as in the 2012 code (convdata_jpeg.py:154). The printed eigenvalue is a variance:
    # on the 0..255 scale it would move every pixel by hundreds of gray levels.
    color_noise: float = 0.1
    color_noise_epochs: int = 0  # the noise ends after so many; 0 for never
    noise_rescaled: bool = False  # noisy crops divided by 1 + color_noise, as in the 2012 code
    share_crops: int = 1  # so many consecutive images share crop and reflection; 32 in 2012
    reshuffle: bool = True  # a new order each epoch; in 2012 the stored one, every time

    # --- the update, section 5.
    batch_size: int = 128
    learning_rate: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 0.0005
    # The paper says one rate for all layers and does not say whether biases decay; in the 2012
    # code they do not (layer.cu:565).
    bias_rate: float = 1.0
    bias_decay: float = 0.0
    # Not in the paper: the share of each target that is spread evenly over all classes
    # (arXiv:1512.00567, section 7). The training loss of a guess is still ln(classes).
    label_smoothing: float = 0.0
    # Not in the paper: what is validated and exported is a moving average of the weights, of which
    # each update keeps so much (model/average.py); 0 for the weights themselves.
    average_decay: float = 0.0
    epochs: int = 90
    # "plateau" (section 5): divide the rate by ten when the validation error stops improving,
    # `drops` times, and stop when it stops improving once more. "linear": down to zero at the end,
    # with a long warm-up the one-cycle policy; "cosine": along half a cosine (arXiv:1608.03983).
    # "events": as listed; biases keep their rate but where an event names one. "stepped": in
    # `rate_steps` equal steps down by `rate_factor`, biases by their own (2012 code, lr.cu:132);
    # "exponential": the weights' steps infinitely small (lr.cu:99).
    schedule: str = "plateau"
    drops: int = 3
    # The error has stopped improving when `patience` epochs in a row are not better by more than
    # `min_improvement` than the best error, which moves only with such an improvement.
    patience: int = 5
    min_improvement: float = 0.001
    warmup_epochs: float = 0.0  # the rate rises linearly from zero
    events: tuple[Event, ...] = ()
    rate_factor: float = 250.0
    rate_steps: int = 4
    bias_factor: float = 1.0
    bias_steps: int = 1
    until_train_error: float = 0.0  # end after the first epoch whose training error is no more
    imports: tuple[str, ...] = ()  # layers that begin as those of another checkpoint
    seed: int = 0

    def __post_init__(self) -> None:
        check_words(self)
        check_numbers(self, self.columns)
        check_layers(self)
        check_events(self.events, self.layer_names())

    def convs(self) -> dict[str, Conv]:
        """Return the convolutions in order, by name, without those left out."""
        fields = dict(self._fields())
        return {n: conv for n, conv in fields.items() if isinstance(conv, Conv) and conv.filters}

    def denses(self) -> dict[str, Dense]:
        """Return the hidden fully connected layers in order, by name."""
        return {n: dense for n, dense in self._fields() if isinstance(dense, Dense) and dense.units}

    def layer_names(self) -> list[str]:
        """Return the layers that hold weights, first to last."""
        return [*self.convs(), *self.denses(), "fc8"]

    def reads_own_column(self, name: str) -> bool:
        """Tell whether a layer reads its own column only; conv1 reads the image, as all do."""
        return name != "conv1" and name not in self.reads_both

    def number_of(self, name: str) -> str:
        """Return what the layers after `conv2` or `fc6` are numbered: relu2, drop6, relu_conv6."""
        return "_conv6" if name == "conv6" else name.removeprefix("conv").removeprefix("fc")

    def lrn_alpha_per_square(self) -> float:
        """Return what multiplies each square inside the response normalization."""
        return self.lrn_alpha / self.lrn_size if self.lrn_divided else self.lrn_alpha

    def spatial_alpha_per_square(self) -> float:
        """Return what multiplies each square inside the normalizations over space."""
        return self.spatial_alpha / (self.spatial_size**2 if self.spatial_divided else 1)

    def _fields(self) -> list[tuple[str, Any]]:
        return [(field.name, getattr(self, field.name)) for field in dataclasses.fields(self)]

    def flat(self) -> dict[str, Any]:
        """Return every field, with layers spread to `conv1.filters` and so on."""
        flat = {}
        for name, value in dataclasses.asdict(self).items():
            if isinstance(value, dict):
                flat |= {f"{name}.{inner}": entry for inner, entry in value.items()}
            else:
                flat[name] = value
        return flat

    def to_json(self) -> str:
        """Return the recipe as JSON text, every field included."""
        return json.dumps(dataclasses.asdict(self), indent=2)

    @classmethod
    def from_json(cls, text: str) -> "Recipe":
        """Return the recipe that `to_json` wrote; fields an older version lacked are the paper's.

        Raises:
            RecipeError: a field is unknown or of another kind.
        """
        try:
            values = json.loads(text)
            recipe = _from_dict(PAPER, values)
            if "name" not in values:
                raise ValueError("it has no name")
            return recipe
        except (TypeError, KeyError, ValueError) as error:
            raise RecipeError(f"not a recipe of this version: {error}") from error


def _from_dict(defaults: Any, values: dict) -> Any:
    """Return `defaults` with the values of a JSON object, inner objects included."""
    known = {field.name: getattr(defaults, field.name) for field in dataclasses.fields(defaults)}
    if not isinstance(values, dict):
        raise TypeError(f"{values!r} is no layer")
    if unknown := set(values) - set(known):
        raise ValueError(f"unknown: {', '.join(sorted(unknown))}")
    changes = dict(values)
    for name, value in values.items():
        if dataclasses.is_dataclass(known[name]):
            changes[name] = _from_dict(known[name], value)
        elif name == "events":
            changes[name] = tuple(Event(**{**e, "layers": _strings(e["layers"])}) for e in value)
        elif isinstance(known[name], tuple):
            changes[name] = _strings(value)
    return replace(defaults, **changes)


def _strings(values: Any) -> tuple[str, ...]:
    if not isinstance(values, list):
        raise TypeError(f"{values!r} is no list")
    return tuple(values)


PAPER = Recipe()
