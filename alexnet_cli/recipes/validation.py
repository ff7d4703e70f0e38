"""Bounds and choices beside a recipe's fields, and the checks that read them."""

import dataclasses
from typing import Any

from alexnet_cli.errors import RecipeError

MAY_READ_BOTH = {"conv2", "conv3", "conv4", "conv5", "conv6", "fc6", "fc7", "bottleneck", "fc8"}


def bounded(low: float, high: float, default: Any = dataclasses.MISSING) -> Any:
    """Return a number field that may be from `low` to `high`."""
    return dataclasses.field(default=default, metadata={"bounds": (low, high)})


def one_of(choices: tuple[str, ...], default: Any) -> Any:
    """Return a field that is one of the choices, or a tuple of some of them."""
    return dataclasses.field(default=default, metadata={"choices": choices})


def check_fields(target: Any, path: str = "") -> None:
    """Check the types, bounds and choices of a dataclass and of the dataclasses inside it.

    Raises:
        RecipeError: if a value has another type or is not allowed.
    """
    for field in dataclasses.fields(target):
        value, name = getattr(target, field.name), path + field.name
        if dataclasses.is_dataclass(value):
            check_fields(value, f"{name}.")
        elif field.type in (bool, str) and not isinstance(value, field.type):
            raise RecipeError(f"{name}={value!r}: expected {field.type.__name__}.")
        elif field.type == tuple[str, ...] and not _are_strings(value):
            raise RecipeError(f"{name}={value!r}: expected names separated by commas.")
        if bounds := field.metadata.get("bounds"):
            _check_number(name, value, field.type, bounds)
        if choices := field.metadata.get("choices"):
            _check_choice(name, value, choices)


def _check_number(name: str, value: Any, kind: Any, bounds: tuple[float, float]) -> None:
    low, high = bounds
    kinds = int if kind is int else (int, float)
    is_unset = value is None and kind == float | None
    if not is_unset and (not isinstance(value, kinds) or not low <= value <= high):
        raise RecipeError(f"{name}={value}: must be between {low} and {high}.")


def _check_choice(name: str, value: Any, choices: tuple[str, ...]) -> None:
    words = (value,) if isinstance(value, str) else value
    for word in words:
        if word not in choices:
            raise RecipeError(f"{name}={word}: choose from {', '.join(choices)}.")
    if len(set(words)) < len(words):
        raise RecipeError(f"{name}: {', '.join(words)}: list each of them once.")


def _are_strings(value: Any) -> bool:
    return isinstance(value, tuple) and all(isinstance(word, str) for word in value)


def check_layers(recipe: Any) -> None:
    """Check that the layers fit together.

    Raises:
        RecipeError: if they do not; the message says which field to change.
    """
    for name, size in recipe.layer_widths().items():
        if size % recipe.columns:
            raise RecipeError(f"{name}={size}: not divisible by {recipe.columns} columns.")
    if recipe.pool_stride > recipe.pool_size:
        raise RecipeError(f"pool_stride={recipe.pool_stride}: pooling would skip pixels.")
    if "fc8" not in recipe.reads_both or not set(recipe.reads_both) <= MAY_READ_BOTH:
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
    _check_groups(recipe)
    conv2 = recipe.conv2
    if recipe.low_resolution and ("conv2" in recipe.reads_both or conv2.local or not conv2.filters):
        raise RecipeError(
            "low_resolution: conv2 must exist, share its weights and read its own column."
        )
    _check_names("init_layers", recipe.init_layers, recipe.layer_names())
    _check_names("frozen", recipe.frozen, recipe.layer_names())
    if set(recipe.frozen) == set(recipe.layer_names()):
        raise RecipeError("frozen: all layers are; leave one to train.")


def _check_groups(recipe: Any) -> None:
    channels = 3
    for name, conv in recipe.convs().items():
        if conv.groups > 1 and (recipe.columns > 1 or conv.local):
            raise RecipeError(f"{name}.groups: groups belong to networks of one column.")
        if conv.filters % conv.groups or channels % conv.groups:
            raise RecipeError(
                f"{name}.groups={conv.groups}: does not divide its {channels} channels and "
                f"{conv.filters} filters."
            )
        channels = conv.filters


def check_milestones(milestones: tuple, layer_names: list[str]) -> None:
    """Check the learning rates that are set by hand.

    Raises:
        RecipeError: if a milestone has values that are not allowed, or their order is not that of
            their epochs.
    """
    if not all(dataclasses.is_dataclass(milestone) for milestone in milestones):
        raise RecipeError(
            "milestones: not a list of milestones; it cannot be set on the command line."
        )
    for i, milestone in enumerate(milestones):
        check_fields(milestone, f"milestones[{i}].")
        _check_names("milestones", milestone.layers, layer_names)
        if not milestone.layers and not milestone.lr:
            raise RecipeError("milestones: name the layers that a learning rate of 0 freezes.")
    epochs = [milestone.epoch for milestone in milestones]
    if epochs != sorted(epochs):
        raise RecipeError("milestones: list them in the order of their epochs.")


def _check_names(field: str, names: tuple[str, ...], layer_names: list[str]) -> None:
    if unknown := set(names) - set(layer_names):
        raise RecipeError(f"{field}: no layer {', '.join(sorted(unknown))}.")
