"""A recipe with some fields changed by `field=value` settings, or with all layers scaled."""

import dataclasses
import math
from dataclasses import replace
from typing import Any

from alexnet_cli.errors import RecipeError, did_you_mean
from alexnet_cli.recipes.recipe import Recipe

SHORT_NAMES = {"lr": "learning_rate", "wd": "weight_decay", "bs": "batch_size"}


def field_of(setting: str) -> str:
    """Return the field that a `field=value` setting changes, by its full name."""
    name = setting.partition("=")[0]
    return SHORT_NAMES.get(name, name)


def with_settings(recipe: Recipe, settings: list[str]) -> Recipe:
    """Return the recipe with `field=value` settings applied; `conv3.init_std=0.01` reaches inside.

    `width=0.5` scales all layers; `lr`, `wd` and `bs` are short for the fields they stand for.

    Raises:
        RecipeError: if a field is unknown or a value has the wrong type.
    """
    for setting in settings:
        _, equals, text = setting.partition("=")
        path = field_of(setting)
        if not equals:
            raise RecipeError(
                f"{setting!r} is not a setting: write field=value.", hint="For example: epochs=30"
            )
        recipe = (
            widen(recipe, _parse(path, text, 1.0))
            if path == "width"
            else _set(recipe, path.split("."), path, text)
        )
    return recipe


def layers_between(recipe: Recipe, text: str) -> tuple[str, ...]:
    """Return layers in their order: `conv1,conv2`, or from one to another, `conv1-conv5`.

    Raises:
        RecipeError: if there is no such layer, or a range ends before it begins.
    """
    names, chosen = recipe.layer_names(), set()
    for part in filter(None, text.replace(" ", "").split(",")):
        first, is_range, last = part.partition("-")
        ends = [first, last] if is_range else [first]
        if unknown := [name for name in ends if name not in names]:
            layers = f"Layers: {', '.join(names)}."
            near = did_you_mean(unknown[0], names, layers)
            raise RecipeError(f"no layer {unknown[0]!r}.", hint=near)
        begin, end = names.index(first), names.index(ends[-1])
        if begin > end:
            raise RecipeError(f"{part}: {last} comes before {first}.")
        chosen.update(names[begin : end + 1])
    return tuple(name for name in names if name in chosen)


def _set(target: Any, names: list[str], path: str, text: str) -> Any:
    known = [field.name for field in dataclasses.fields(target)]
    if names[0] not in known:
        is_inner = len(known) < 20
        otherwise = (
            f"Fields: {', '.join(known)}." if is_inner else "alexnet recipes paper lists all."
        )
        near = did_you_mean(names[0], [*known, *([] if is_inner else ["width"])], otherwise)
        raise RecipeError(f"{path}={text}: no field {names[0]}.", hint=near)
    old = getattr(target, names[0])
    inner = dataclasses.is_dataclass(old)
    if inner != (len(names) == 2):
        fields = ", ".join(f.name for f in dataclasses.fields(old)) if inner else "none"
        raise RecipeError(f"{path}={text}: fields inside {names[0]}: {fields}.")
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
        raise RecipeError(f"{path}={text}: expected {type(old).__name__}.") from error
    if isinstance(value, float) and not math.isfinite(value):
        raise RecipeError(f"{path}={text}: expected a finite number.")
    return value


def widen(recipe: Recipe, width: float) -> Recipe:
    """Return the recipe with every layer's kernels and units times `width`, in multiples of 8.

    The initial weights grow by 1 / sqrt(width) where a layer has fewer inputs, so that the
    activations start at the scale they have in the full network.

    Raises:
        RecipeError: if the width is not above 0 and at most 16.
    """
    if not 0 < width <= 16:
        raise RecipeError(f"width={width}: must be above 0 and at most 16.")

    def scaled(count: int) -> int:
        return max(8, 8 * math.floor(count * width / 8 + 0.5))

    gain = 1 / math.sqrt(width)
    convs: dict[str, Any] = {
        name: replace(
            conv,
            filters=scaled(conv.filters),
            init_std=conv.init_std * (gain if name != "conv1" else 1.0),
        )
        for name, conv in recipe.convs().items()
    }
    denses: dict[str, Any] = {
        name: replace(dense, units=scaled(dense.units), init_std=dense.init_std * gain)
        for name, dense in recipe.denses().items()
    }
    return replace(recipe, **convs, **denses, fc8_init_std=recipe.fc8_init_std * gain)
