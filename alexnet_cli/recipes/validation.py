"""What the fields of a recipe may hold: choices, numbers within bounds, layers that fit."""

import dataclasses
from typing import Any

from alexnet_cli.errors import RecipeError

CHOICES = {
    "schedule": ("plateau", "linear", "cosine", "events", "stepped", "exponential"),
    "activation": ("relu", "tanh", "sigmoid"),
    "then": (
        "activation",
        "norm",
        "spatial-norm",
        "contrast-norm",
        "max-pool",
        "average-pool",
    ),
}
_RANGES = [
    (8, 256, "crop_size"),
    (1, 2, "columns"),
    (0, 1 << 16, "filters units"),
    (1, 1 << 16, "batch_size share_crops"),
    (1, 99, "size stride pool_size pool_stride lrn_size spatial_size rate_steps bias_steps"),
    (0, 99, "pad drops"),
    (0, 1 << 20, "color_noise_epochs"),
    (1, 1 << 20, "epochs patience"),
    (0, (1 << 63) - 1, "seed"),
    (1e-6, 1e6, "lrn_k spatial_k"),
    (1.0, 1e9, "rate_factor bias_factor"),
    (0.0, 1e6, "lrn_alpha lrn_beta spatial_alpha spatial_beta warmup_epochs"),
    (0.0, 1e6, "init_std fc8_init_std low_init_std"),
    (-1e6, 1e6, "init_bias"),
    (0.0, 1.0, "dropout momentum min_improvement until_train_error label_smoothing"),
    (0.0, 0.99999, "average_decay"),
    (0.0, 1e3, "learning_rate weight_decay decay bias_rate bias_decay color_noise"),
]
_MAY_READ_BOTH = {"conv2", "conv3", "conv4", "conv5", "conv6", "fc6", "fc7", "bottleneck", "fc8"}
_LIMITS = {name: (low, high) for low, high, names in _RANGES for name in names.split()}


def check_numbers(target: Any, columns: int, path: str = "") -> None:
    """Refuse a number outside its limits, or what is none, in a recipe or one of its layers."""
    for field in dataclasses.fields(target):
        value, name = getattr(target, field.name), path + field.name
        if dataclasses.is_dataclass(value):
            check_numbers(value, columns, f"{name}.")
        elif field.type in (int, float):
            low, high = _LIMITS[field.name]
            if not isinstance(value, (int, field.type)) or not low <= value <= high:
                raise RecipeError(f"{name}={value}: it must lie between {low} and {high}.")
            if field.name in ("filters", "units") and value % columns:
                raise RecipeError(f"{name}={value}: it must split into {columns} columns.")


def check_words(target: Any, path: str = "") -> None:
    """Refuse what is no word where words belong, or a word that is not among the choices.

    Raises:
        RecipeError: it is not, or a list names it twice.
    """
    for field in dataclasses.fields(target):
        value, name = getattr(target, field.name), path + field.name
        if dataclasses.is_dataclass(value):
            check_words(value, f"{name}.")
        elif field.type in (bool, str) and not isinstance(value, field.type):
            raise RecipeError(f"{name}={value!r}: expected {field.type.__name__}.")
        elif field.type == tuple[str, ...] and not _are_strings(value):
            raise RecipeError(f"{name}={value!r}: expected names with commas between.")
        elif field.name in CHOICES:
            words = (value,) if isinstance(value, str) else value
            for word in words:
                if word not in CHOICES[field.name]:
                    choices = ", ".join(CHOICES[field.name])
                    raise RecipeError(f"{name}={word}: choose of {choices}.")
            if len(set(words)) < len(words):
                raise RecipeError(f"{name}: {', '.join(words)}: each of them once.")


def _are_strings(value: Any) -> bool:
    return isinstance(value, tuple) and all(isinstance(word, str) for word in value)


def check_layers(recipe: Any) -> None:
    """Refuse layers that make no network.

    Raises:
        RecipeError: it says which field to change.
    """
    if recipe.pool_stride > recipe.pool_size:
        raise RecipeError(f"pool_stride={recipe.pool_stride}: pooling would leave out pixels.")
    if "fc8" not in recipe.reads_both or not set(recipe.reads_both) <= _MAY_READ_BOTH:
        raise RecipeError("reads_both: name fc8 and any of conv2 to conv6, fc6, fc7, bottleneck.")
    if not recipe.conv1.filters:
        raise RecipeError("conv1.filters=0: the first layer cannot be left out.")
    for name, conv in recipe.convs().items():
        if conv.local and recipe.columns > 1:
            raise RecipeError(f"{name}: local layers belong to networks of one column.")
        if conv.local and conv.stride > 1:
            raise RecipeError(f"{name}.stride={conv.stride}: local layers have stride 1.")
        if {"max-pool", "average-pool"} <= set(conv.then):
            raise RecipeError(f"{name}.then: pool once.")
    conv2 = recipe.conv2
    if recipe.low_resolution and ("conv2" in recipe.reads_both or conv2.local or not conv2.filters):
        raise RecipeError("low_resolution: conv2 must be there, shared, and read its own column.")
    if unknown := set(recipe.imports) - set(recipe.layer_names()):
        raise RecipeError(f"imports: no layer {', '.join(sorted(unknown))}.")
