"""A recipe: everything that decides what is learned; where it runs is not in it.

`PAPER`, the defaults, follows the paper's text (sections 3-5); the other modules of this folder
derive the named recipes from it. Runs and checkpoints store their recipe as JSON.
"""

import dataclasses
import json
from dataclasses import dataclass, replace
from typing import Any

from alexnet_cli.errors import RecipeError, did_you_mean, some_names
from alexnet_cli.recipes.validation import (
    bounded,
    check_fields,
    check_layers,
    check_milestones,
    one_of,
)

STEPS = ("activation", "norm", "spatial-norm", "contrast-norm", "max-pool", "average-pool")
SCHEDULES = ("plateau", "linear", "cosine", "milestones", "stepped", "exponential")


@dataclass(frozen=True, slots=True, kw_only=True)
class Conv:
    """One convolution and the steps that follow it.

    With no `filters` the layer is left out, and the steps that follow it too.

    Attributes:
        then: the steps that follow, in order.
        local: every position has its own weights.
        groups: into how many groups the channels are divided, in a network of one column.
        round_down: windows stop where the image and its padding end, as in other libraries.
        decay: multiple of the recipe's weight decay for this layer.
    """

    filters: int = bounded(0, 1 << 16)
    size: int = bounded(1, 99)
    stride: int = bounded(1, 99, default=1)
    pad: int = bounded(0, 99, default=0)
    init_std: float = bounded(0.0, 1e6)
    init_bias: float = bounded(-1e6, 1e6)
    then: tuple[str, ...] = one_of(STEPS, default=("activation",))
    local: bool = False
    groups: int = bounded(1, 1 << 16, default=1)
    round_down: bool = False
    decay: float = bounded(0.0, 1e3, default=1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dense:
    """One hidden fully connected layer, its activation unless `linear`, and its dropout.

    With no `units` the layer is left out.
    """

    units: int = bounded(0, 1 << 16)
    init_std: float = bounded(0.0, 1e6)
    init_bias: float = bounded(-1e6, 1e6)
    dropout: float = bounded(0.0, 1.0, default=0.5)
    linear: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Milestone:
    """A learning rate set by hand after some epochs, as the authors did between restarts.

    Attributes:
        epoch: epochs done, with a fraction.
        lr: for the weights of `layers`. At 0 their weights and biases are frozen from then on.
        layers: all layers when empty.
        bias_lr: for the biases of the same layers; None leaves it unchanged.
    """

    epoch: float = bounded(0, 1e6)
    lr: float = bounded(0, 1e6)
    layers: tuple[str, ...] = ()
    bias_lr: float | None = bounded(0, 1e6, default=None)


# Sections 3.3 and 3.4: normalization after the ReLU, pooling last.
NORM_POOL = ("activation", "norm", "max-pool")
POOL = ("activation", "max-pool")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """The network and how it is trained; the defaults are the paper's.

    Learning rates apply to the mean gradient of a batch; errors are fractions.
    """

    name: str = "paper"

    # --- the network, section 3.5. Sizes 224 -> 55 -> 27 -> 13 -> 6.
    crop_size: int = bounded(8, 256, default=224)
    columns: int = bounded(1, 2, default=2)  # section 3.2: half of the kernels on each GPU
    # Section 3.2: layer 3, and the fully connected layers, read the maps of both columns.
    reads_both: tuple[str, ...] = ("conv3", "fc6", "fc7", "fc8")
    activation: str = one_of(("relu", "tanh", "sigmoid"), default="relu")  # section 3.1
    # Section 5: N(0, 0.01); biases 1 in conv2, conv4, conv5 and the hidden layers, 0 elsewhere.
    conv1: Conv = Conv(filters=96, size=11, stride=4, init_std=0.01, init_bias=0.0, then=NORM_POOL)
    conv2: Conv = Conv(filters=256, size=5, pad=2, init_std=0.01, init_bias=1.0, then=NORM_POOL)
    # Unlike the paper: conv3, conv4 and conv5 start at std 0.03, as in the 2012 code
    # (layers-145.cfg). With 0.01 the signal shrinks layer by layer: the first scores of different
    # images differ by 0.003 instead of 0.05.
    conv3: Conv = Conv(filters=384, size=3, pad=1, init_std=0.03, init_bias=0.0)
    conv4: Conv = Conv(filters=384, size=3, pad=1, init_std=0.03, init_bias=1.0)
    conv5: Conv = Conv(filters=256, size=3, pad=1, init_std=0.03, init_bias=1.0, then=POOL)
    # Not in the paper's network: dropout of the last pooled maps, before fc6.
    conv_dropout: float = bounded(0.0, 1.0, default=0.0)
    # Not in the paper's network; the pre-trained ones of section 6 have it.
    conv6: Conv = Conv(filters=0, size=3, pad=1, init_std=0.03, init_bias=1.0)
    fc6: Dense = Dense(units=4096, init_std=0.01, init_bias=1.0)
    fc7: Dense = Dense(units=4096, init_std=0.01, init_bias=1.0)
    # Not in the paper's network; run 146-2011 has it before its 21,843 classes.
    bottleneck: Dense = Dense(units=0, init_std=0.01, init_bias=0.0, dropout=0.0, linear=True)
    fc8_init_std: float = bounded(0.0, 1e6, default=0.01)
    # Standard deviation of conv2's first weights for the low-resolution image.
    low_init_std: float = bounded(0.0, 1e6, default=0.01)
    split_classes: bool = False  # a column holds half of the classes, not half of fc8's inputs
    # conv2 also reads a blurred image of a quarter of the size, as in runs 120 to 141.
    low_resolution: bool = False
    # Section 3.4: pooling windows of 3 every 2 pixels overlap.
    pool_size: int = bounded(1, 99, default=3)
    pool_stride: int = bounded(1, 99, default=2)
    # Section 3.3: k = 2, n = 5, alpha = 1e-4, beta = 0.75, alpha times the plain sum of squares.
    lrn_k: float = bounded(1e-6, 1e6, default=2.0)
    lrn_size: int = bounded(1, 99, default=5)
    lrn_alpha: float = bounded(0.0, 1e6, default=1e-4)
    lrn_beta: float = bounded(0.0, 1e6, default=0.75)
    lrn_divided: bool = False  # alpha / n for each square, as in the 2012 code (layer.py:1183)
    # A spatial-norm step: x * (k + alpha / n^2 * sum of n x n squares in the same map)^-beta. A
    # contrast-norm step sums the squares of the distances to the mean around each position.
    spatial_k: float = bounded(1e-6, 1e6, default=1.0)
    spatial_size: int = bounded(1, 99, default=5)
    spatial_alpha: float = bounded(0.0, 1e6, default=1e-3)
    spatial_beta: float = bounded(0.0, 1e6, default=0.75)
    spatial_divided: bool = True

    # The network reads gray levels minus the mean, divided by this.
    pixel_scale: float = bounded(1e-3, 1e3, default=1.0)

    # --- the images, section 4.1: random 224x224 crops, reflections, color noise.
    # Unlike the paper: crops start at offsets 0..32, so 33 x 33; its factor 2048 counts 32 x 32.
    random_crop: bool = True
    mirror: bool = True
    # Unlike the paper: the noise is alpha_i times the standard deviation along each principal
    # component, as in the 2012 code (convdata_jpeg.py:154). The printed eigenvalue is a variance:
    # on the 0..255 scale it would move every pixel by hundreds of gray levels.
    color_noise: float = bounded(0.0, 1e3, default=0.1)
    # The noise ends after this many epochs; 0 for never.
    color_noise_epochs: int = bounded(0, 1 << 20, default=0)
    noise_rescaled: bool = False  # noisy crops divided by 1 + color_noise, as in the 2012 code
    # Consecutive images that share crop and reflection; 32 in 2012.
    share_crops: int = bounded(1, 1 << 16, default=1)
    reshuffle: bool = True  # a new order each epoch; in 2012 the stored one, every time

    # --- the update, section 5.
    batch_size: int = bounded(1, 1 << 16, default=128)
    learning_rate: float = bounded(0.0, 1e3, default=0.01)
    momentum: float = bounded(0.0, 1.0, default=0.9)
    weight_decay: float = bounded(0.0, 1e3, default=0.0005)
    # Learning rate of the biases as a multiple of that of the weights. The paper has one learning
    # rate for all layers and does not say whether biases decay; in the 2012 code they do not
    # (layer.cu:565).
    bias_lr_multiplier: float = bounded(0.0, 1e3, default=1.0)
    # Not in the paper: learning rate of fc8, which starts from random values, as a multiple of that
    # of the layers of another network (Caffe's example finetune_flickr_style: ten).
    classifier_lr_multiplier: float = bounded(0.0, 1e3, default=1.0)
    bias_decay: float = bounded(0.0, 1e3, default=0.0)
    # Not in the paper: the share of each target that is spread evenly over all classes
    # (arXiv:1512.00567, section 7). The training loss at chance level is still ln(classes).
    label_smoothing: float = bounded(0.0, 1.0, default=0.0)
    # Not in the paper: a moving average of the weights is validated and exported (model/ema.py);
    # the share of it that each update keeps, or 0 for the weights themselves.
    ema_decay: float = bounded(0.0, 0.99999, default=0.0)
    epochs: int = bounded(1, 1 << 20, default=90)
    # "plateau" (section 5): divide the learning rate by ten when the validation error stops
    # improving, `drops` times, and stop when it stops improving once more. "linear": down to zero
    # at the end, with a long warm-up the one-cycle policy; "cosine": along half a cosine
    # (arXiv:1608.03983). "milestones": as listed; biases keep theirs unless a milestone has one.
    # "stepped": in `lr_steps` equal steps down by `lr_factor`, biases by their own (2012 code,
    # lr.cu:132); "exponential": the weights' steps infinitely small (lr.cu:99).
    schedule: str = one_of(SCHEDULES, default="plateau")
    drops: int = bounded(0, 99, default=3)
    # The error has stopped improving when `patience` epochs in a row are not better by more than
    # `min_improvement` than the best error, which moves only with such an improvement.
    patience: int = bounded(1, 1 << 20, default=5)
    min_improvement: float = bounded(0.0, 1.0, default=0.001)
    # The learning rate rises linearly from zero over this many epochs.
    warmup_epochs: float = bounded(0.0, 1e6, default=0.0)
    milestones: tuple[Milestone, ...] = ()
    lr_factor: float = bounded(1.0, 1e9, default=250.0)
    lr_steps: int = bounded(1, 99, default=4)
    bias_lr_factor: float = bounded(1.0, 1e9, default=1.0)
    bias_lr_steps: int = bounded(1, 99, default=1)
    # Training ends after the first epoch whose training error is not above this.
    until_train_error: float = bounded(0.0, 1.0, default=0.0)
    # Not in the paper: training ends when the validation error has not improved by more than
    # `min_improvement` for this many epochs in a row; 0 for never.
    stop_after: int = bounded(0, 1 << 20, default=0)
    # Not in the paper: "balanced" weighs the loss of each image by images / (classes * images of
    # its class), so that every class counts alike.
    class_weights: str = one_of(("none", "balanced"), default="none")
    init_layers: tuple[str, ...] = ()  # layers whose first weights come from another checkpoint
    frozen: tuple[str, ...] = ()  # layers that keep the weights of that checkpoint
    seed: int = bounded(0, (1 << 63) - 1, default=0)

    def __post_init__(self) -> None:
        check_fields(self)
        check_layers(self)
        check_milestones(self.milestones, self.layer_names())

    def convs(self) -> dict[str, Conv]:
        """Return the convolutions in order, by name, without those left out."""
        return {n: conv for n, conv in self._fields() if isinstance(conv, Conv) and conv.filters}

    def denses(self) -> dict[str, Dense]:
        """Return the hidden fully connected layers in order, by name."""
        return {n: dense for n, dense in self._fields() if isinstance(dense, Dense) and dense.units}

    def layer_names(self) -> list[str]:
        """Return the layers that hold weights, first to last."""
        return [*self.convs(), *self.denses(), "fc8"]

    def layer_widths(self) -> dict[str, int]:
        """Return the number of filters or units by field, as `conv1.filters`."""
        widths = {f"{name}.filters": conv.filters for name, conv in self.convs().items()}
        return widths | {f"{name}.units": dense.units for name, dense in self.denses().items()}

    def network(self) -> dict[str, Any]:
        """Return the fields that make up the network."""
        return {name: getattr(self, name) for name in NETWORK_FIELDS}

    def network_differs(self, other: "Recipe") -> list[str]:
        """Return the fields by which another network computes something else; not its crops."""
        return [
            name
            for name in self.changes_from(other)
            if name.partition(".")[0] in NETWORK_FIELDS
            and not name.endswith(TRAINING_PARTS)
            and name != "crop_size"
        ]

    def reads_own_column(self, name: str) -> bool:
        """Return whether a layer reads its own column only; conv1 reads the image."""
        return name != "conv1" and name not in self.reads_both

    def lrn_alpha_per_square(self) -> float:
        """Return the factor of each square inside the response normalization."""
        return self.lrn_alpha / self.lrn_size if self.lrn_divided else self.lrn_alpha

    def spatial_alpha_per_square(self) -> float:
        """Return the factor of each square inside the normalizations over space."""
        return self.spatial_alpha / (self.spatial_size**2 if self.spatial_divided else 1)

    def _fields(self) -> list[tuple[str, Any]]:
        return [(field.name, getattr(self, field.name)) for field in dataclasses.fields(self)]

    def flat(self) -> dict[str, Any]:
        """Return every field, with those of layers as `conv1.filters` and so on."""
        flat: dict[str, Any] = {}
        for name, value in dataclasses.asdict(self).items():
            if isinstance(value, dict):
                flat |= {f"{name}.{inner}": entry for inner, entry in value.items()}
            else:
                flat[name] = value
        return flat

    def changes_from(self, other: "Recipe") -> dict[str, tuple[Any, Any]]:
        """Return the fields of `flat` in which it differs: the other's value, and its own."""
        theirs, mine = other.flat(), self.flat()
        return {
            name: (theirs[name], value) for name, value in mine.items() if value != theirs[name]
        }

    def to_json(self) -> str:
        """Return the recipe as JSON text, every field included."""
        return json.dumps(dataclasses.asdict(self), indent=2)

    @classmethod
    def from_json(cls, text: str) -> "Recipe":
        """Return the recipe that `to_json` wrote; fields that are missing are the paper's.

        Raises:
            RecipeError: if a field is unknown or has another type.
        """
        try:
            values = json.loads(text)
            recipe = _from_dict(PAPER, values)
            if "name" not in values:
                raise ValueError("it has no name")
            return recipe
        except (TypeError, KeyError, ValueError) as error:
            raise RecipeError(f"not a recipe of this version: {error}") from error


def _network_fields() -> tuple[str, ...]:
    names = [field.name for field in dataclasses.fields(Recipe)]
    return tuple(names[names.index("name") + 1 : names.index("pixel_scale") + 1])


def _from_dict(defaults: Any, values: dict) -> Any:
    """Return `defaults` with the values of a JSON object, inner objects included."""
    if not isinstance(values, dict):
        raise TypeError(f"{values!r} is not a layer")
    known = {field.name: getattr(defaults, field.name) for field in dataclasses.fields(defaults)}
    if unknown := sorted(set(values) - set(known)):
        near = did_you_mean(unknown[0], known)
        raise ValueError(f"unknown: {some_names(unknown)}. {near}".strip())
    changes = dict(values)
    for name, value in values.items():
        if dataclasses.is_dataclass(known[name]):
            changes[name] = _from_dict(known[name], value)
        elif name == "milestones":
            changes[name] = tuple(
                Milestone(**{**m, "layers": _strings(m["layers"])}) for m in value
            )
        elif isinstance(known[name], tuple):
            changes[name] = _strings(value)
    return replace(defaults, **changes)


def _strings(values: Any) -> tuple[str, ...]:
    if not isinstance(values, list):
        raise TypeError(f"{values!r} is not a list")
    return tuple(values)


# Of these, what only matters while weights are drawn or trained.
TRAINING_PARTS = ("init_std", "init_bias", "decay", "dropout")
NETWORK_FIELDS = _network_fields()  # the network and its pixels; the others say how it is trained
PAPER = Recipe()
