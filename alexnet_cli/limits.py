"""What the fields of a recipe may hold: choices, and numbers within bounds."""

import dataclasses
from typing import Any

from alexnet_cli.errors import RecipeError

CHOICES = {
    "schedule": ("plateau", "linear", "events", "stepped", "exponential"),
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
    (1, 1 << 16, "batch_size share_patches"),
    (1, 99, "size stride pool_size pool_stride lrn_size spatial_size rate_steps bias_steps"),
    (0, 99, "pad drops"),
    (0, 1 << 20, "colour_noise_epochs"),
    (1, 1 << 20, "epochs patience"),
    (0, (1 << 63) - 1, "seed"),
    (1e-6, 1e6, "lrn_k spatial_k"),
    (1.0, 1e9, "rate_factor bias_factor"),
    (0.0, 1e6, "lrn_alpha lrn_beta spatial_alpha spatial_beta warmup_epochs"),
    (0.0, 1e6, "init_std fc8_init_std low_init_std"),
    (-1e6, 1e6, "init_bias"),
    (0.0, 1.0, "dropout momentum min_improvement until_train_error"),
    (0.0, 1e3, "learning_rate weight_decay decay bias_rate bias_decay colour_noise"),
]
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
