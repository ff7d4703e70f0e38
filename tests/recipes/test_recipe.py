"""Recipes as values and as JSON; under a second."""

import dataclasses
import json
import math
from dataclasses import replace

import pytest

from alexnet_cli.errors import RecipeError
from alexnet_cli.recipes.catalog import RECIPES, find_recipe
from alexnet_cli.recipes.overrides import widen, with_settings
from alexnet_cli.recipes.recipe import PAPER, Milestone, Recipe
from alexnet_cli.recipes.small import DEMO, SMALL


def changed(path: str, value) -> str:
    """Return the paper's recipe as JSON with one field changed, or removed if value is ...."""
    values = json.loads(PAPER.to_json())
    *outer, name = path.split(".")
    target = values[outer[0]] if outer else values
    target[name] = value
    if value is ...:
        del target[name]
    return json.dumps(values)


# --- the paper's numbers


def test_paper_recipe_trains_as_section_5_says():
    assert (PAPER.batch_size, PAPER.momentum, PAPER.weight_decay) == (128, 0.9, 0.0005)
    assert (PAPER.learning_rate, PAPER.drops, PAPER.epochs) == (0.01, 3, 90)


def test_paper_recipe_normalizes_as_section_3_3_says():
    assert (PAPER.lrn_k, PAPER.lrn_size, PAPER.lrn_alpha, PAPER.lrn_beta) == (2, 5, 1e-4, 0.75)
    assert [name for name, conv in PAPER.convs().items() if "norm" in conv.then] == [
        "conv1",
        "conv2",
    ]


def test_paper_recipe_pools_as_section_3_4_says():
    assert (PAPER.pool_size, PAPER.pool_stride) == (3, 2)
    assert [name for name, conv in PAPER.convs().items() if "max-pool" in conv.then] == [
        "conv1",
        "conv2",
        "conv5",
    ]


def test_layers_are_named_first_to_last():
    assert PAPER.layer_names() == ["conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8"]
    assert list(PAPER.denses()) == ["fc6", "fc7"]


# --- by name


def test_recipes_are_found_by_name():
    assert [find_recipe(name) for name in ("paper", "small", "demo")] == [PAPER, SMALL, DEMO]


def test_unknown_recipe_is_refused_with_those_like_it():
    with pytest.raises(RecipeError, match="no recipe 'papper'") as caught:
        find_recipe("papper")

    assert caught.value.hint == "Did you mean paper?"
    assert caught.value.exit_code == 2


# --- as JSON


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_comes_back_from_json(name: str):
    assert Recipe.from_json(RECIPES[name].to_json()) == RECIPES[name]


def test_recipe_with_every_field_changed_comes_back_from_json():
    other = replace(
        widen(PAPER, 0.3),
        name='a "b"',
        reads_both=("fc6", "fc7", "fc8", "conv2"),
        random_crop=False,
        learning_rate=0.1 + 0.2,
        seed=2**62 + 1,
    )

    assert Recipe.from_json(other.to_json()) == other


def test_milestones_come_back_from_json_with_fractions_of_epochs_and_their_bias_lrs():
    other = replace(
        PAPER,
        schedule="milestones",
        milestones=(
            Milestone(epoch=0, lr=0.001, layers=("conv1", "conv2")),
            Milestone(epoch=1.18, lr=0.1 + 0.2, layers=("fc8",), bias_lr=0.002),
            Milestone(epoch=5.74, lr=1e-5),
            Milestone(epoch=6, lr=0.0, layers=("fc7",), bias_lr=0.0),
        ),
    )

    found = Recipe.from_json(other.to_json())

    assert found == other
    assert [milestone.bias_lr for milestone in found.milestones] == [None, 0.002, None, 0.0]
    assert all(isinstance(milestone.layers, tuple) for milestone in found.milestones)


def test_other_layers_come_back_from_json():
    other = replace(
        PAPER,
        columns=1,
        conv1=replace(PAPER.conv1, then=("max-pool", "activation", "norm"), decay=0.0),
        conv3=replace(PAPER.conv3, local=True, then=()),
        fc6=replace(PAPER.fc6, units=0),
        bottleneck=replace(PAPER.bottleneck, units=2048, linear=False),
        low_resolution=True,
        split_classes=True,
        spatial_k=2.0,
        spatial_divided=False,
        init_layers=("conv1", "bottleneck", "fc8"),
    )

    assert Recipe.from_json(other.to_json()) == other


def test_milestone_without_bias_lr_in_json_leaves_the_biases_as_they_are():
    text = changed("milestones", [{"epoch": 2.5, "lr": 0.01, "layers": []}])

    assert Recipe.from_json(text).milestones == (Milestone(epoch=2.5, lr=0.01),)


@pytest.mark.parametrize(
    "milestones",
    [3, [3], ["conv1"], {"epoch": 1}, [{"epoch": 1, "lr": 0.1, "layers": [], "momentum": 0.5}]],
)
def test_json_with_milestones_that_are_none_is_refused(milestones):
    with pytest.raises(RecipeError):
        Recipe.from_json(changed("milestones", milestones))


def test_json_names_every_field():
    values = json.loads(PAPER.to_json())

    assert list(values) == [field.name for field in dataclasses.fields(Recipe)]
    assert values["conv1"]["filters"] == 96


@pytest.mark.parametrize(
    "text", ["", "{", "null", "3", '"paper"', "[]", "{}", '["paper"]', '{"epochs": 3}']
)
def test_json_of_another_kind_is_refused(text: str):
    with pytest.raises(RecipeError, match="not a recipe of this version"):
        Recipe.from_json(text)


@pytest.mark.parametrize("path", ["epochs", "conv4", "conv4.then", "fc6.dropout", "ema_decay"])
def test_field_that_an_older_version_did_not_write_is_the_papers(path: str):
    assert Recipe.from_json(changed(path, ...)) == PAPER


@pytest.mark.parametrize("path", ["conv4", "fc6"])
def test_json_with_a_layer_of_another_type_is_refused(path: str):
    with pytest.raises(RecipeError, match="not a recipe of this version"):
        Recipe.from_json(changed(path, 3))


@pytest.mark.parametrize("path", ["depth", "conv4.depth", "fc6.filters"])
def test_json_with_an_unknown_field_is_refused(path: str):
    with pytest.raises(RecipeError, match=path.split(".")[-1]):
        Recipe.from_json(changed(path, 1))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("epochs", "ten"),
        ("epochs", 2.5),
        ("epochs", None),
        ("learning_rate", [0.1]),
        ("learning_rate", math.nan),
        ("learning_rate", math.inf),
        ("conv3", 384),
        ("conv3", None),
        ("conv3.filters", "384"),
        ("conv3.filters", 384.0),
        ("reads_both", 3),
        ("reads_both", [["conv3"]]),
        ("schedule", 1),
    ],
)
def test_json_with_a_value_of_another_kind_is_refused(path: str, value):
    with pytest.raises(RecipeError):
        Recipe.from_json(changed(path, value))


# --- values that make no network


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("crop_size", 7),
        ("crop_size", 257),
        ("columns", 0),
        ("columns", 3),
        ("pool_size", 0),
        ("lrn_size", 0),
        ("lrn_k", 0.0),
        ("lrn_alpha", -1e-4),
        ("batch_size", 0),
        ("learning_rate", -0.01),
        ("momentum", 1.1),
        ("weight_decay", -1.0),
        ("bias_lr_multiplier", -1.0),
        ("color_noise", -0.1),
        ("epochs", 0),
        ("patience", 0),
        ("drops", -1),
        ("warmup_epochs", -1.0),
        ("seed", -1),
        ("fc8_init_std", -0.1),
    ],
)
def test_number_outside_its_limits_is_refused(name: str, value):
    with pytest.raises(RecipeError, match=f"{name}={value}: must be between"):
        replace(PAPER, **{name: value})


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("conv1.stride", 0),
        ("conv1.size", 0),
        ("conv1.pad", -1),
        ("conv2.filters", -2),
        ("conv3.init_std", -0.01),
        ("conv3.decay", -1.0),
        ("conv6.filters", -2),
        ("fc6.units", -2),
        ("fc7.dropout", 1.5),
        ("bottleneck.units", -2),
        ("bottleneck.dropout", 1.5),
    ],
)
def test_number_of_a_layer_outside_its_limits_is_refused(path: str, value):
    with pytest.raises(RecipeError, match=f"{path}={value}: must be between"):
        with_settings(PAPER, [f"{path}={value}"])


@pytest.mark.parametrize(
    "setting", ["conv2.filters=255", "fc6.units=4095", "bottleneck.units=2047"]
)
def test_layer_that_does_not_split_into_the_columns_is_refused(setting: str):
    with pytest.raises(RecipeError, match=f"{setting}: not divisible by 2 columns"):
        with_settings(PAPER, [setting])
    assert with_settings(PAPER, ["columns=1", setting])


def test_pooling_that_leaves_out_pixels_is_refused():
    with pytest.raises(RecipeError, match="pool_stride=4"):
        replace(PAPER, pool_stride=4)


@pytest.mark.parametrize(
    "names", ["", "conv3", "fc6,fc7", "conv1,fc6,fc7,fc8", "conv9,fc6,fc7,fc8", "pool1,fc6,fc7,fc8"]
)
def test_layers_that_cannot_read_both_columns_are_refused(names: str):
    with pytest.raises(RecipeError, match="reads_both"):
        with_settings(PAPER, [f"reads_both={names}"])


def test_bottleneck_may_read_both_columns():
    names = ("bottleneck", *PAPER.reads_both)

    assert with_settings(PAPER, [f"reads_both={','.join(names)}"]).reads_both == names


def test_first_layer_cannot_be_left_out():
    with pytest.raises(RecipeError, match="the first layer cannot be left out"):
        with_settings(PAPER, ["conv1.filters=0"])


@pytest.mark.parametrize("name", ["conv1", "conv2", "conv3", "conv4", "conv5"])
def test_local_layer_of_two_columns_is_refused(name: str):
    with pytest.raises(RecipeError, match="local layers belong to networks of one column"):
        with_settings(PAPER, [f"{name}.local=true"])
    assert with_settings(PAPER, ["columns=1", f"{name}.stride=1", f"{name}.local=true"])


def test_local_layer_that_is_left_out_is_no_reason_to_refuse():
    assert with_settings(PAPER, ["conv6.local=true"])


@pytest.mark.parametrize("setting", ["conv2.filters=0", "reads_both=conv2,conv3,fc6,fc7,fc8"])
def test_low_resolution_without_a_conv2_of_its_own_column_is_refused(setting: str):
    with pytest.raises(RecipeError, match="low_resolution: conv2 must exist"):
        with_settings(PAPER, [setting, "low_resolution=true"])
    assert with_settings(PAPER, [setting])


@pytest.mark.parametrize(
    ("settings", "unknown"),
    [
        (["init_layers=conv9"], "conv9"),
        (["init_layers=conv1,conv6"], "conv6"),
        (["init_layers=bottleneck,conv1,pool1"], "bottleneck, pool1"),
        (["fc6.units=0", "init_layers=fc6"], "fc6"),
    ],
)
def test_init_layers_that_do_not_exist_are_refused(settings: list[str], unknown: str):
    with pytest.raises(RecipeError, match=f"init_layers: no layer {unknown}"):
        with_settings(PAPER, settings)


def test_init_layers_that_exist_are_allowed():
    settings = ["conv6.filters=256", "bottleneck.units=2048"]
    names = ["conv1", "conv6", "fc6", "bottleneck", "fc8"]

    found = with_settings(PAPER, [*settings, f"init_layers={','.join(names)}"])

    assert found.init_layers == tuple(names)


def test_layer_that_pools_twice_is_refused():
    with pytest.raises(RecipeError, match="conv1"):
        with_settings(PAPER, ["conv1.then=max-pool,average-pool"])


def test_local_layer_with_a_stride_is_refused():
    with pytest.raises(RecipeError, match="stride"):
        with_settings(PAPER, ["columns=1", "conv3.local=true", "conv3.stride=2"])


def test_low_resolution_with_a_local_conv2_is_refused():
    with pytest.raises(RecipeError, match="low_resolution"):
        with_settings(PAPER, ["columns=1", "low_resolution=true", "conv2.local=true"])


def test_layers_left_out_are_not_among_the_layers():
    settings = ["conv4.filters=0", "fc7.units=0", "conv6.filters=256", "bottleneck.units=2048"]

    found = with_settings(PAPER, settings)

    names = ["conv1", "conv2", "conv3", "conv5", "conv6", "fc6", "bottleneck", "fc8"]
    assert found.layer_names() == names
    assert [*found.convs(), *found.denses()] == names[:-1]


def test_unknown_schedule_is_refused_with_the_known_ones():
    with pytest.raises(RecipeError, match="plateau, linear"):
        replace(PAPER, schedule="polynomial")


# --- width


@pytest.mark.parametrize("width", [0.01, 1 / 16, 0.1, 0.25, 0.3, 0.375, 0.5, 0.77, 1.5, 2.0, 16.0])
def test_every_width_splits_into_columns_of_multiples_of_four(width: float):
    found = widen(PAPER, width)

    counts = [conv.filters for conv in found.convs().values()]
    counts += [dense.units for dense in found.denses().values()]
    assert all(count >= 8 and count % 8 == 0 for count in counts)
    full = [96, 256, 384, 384, 256, 4096, 4096]
    assert all(abs(count - width * n) <= 8 for count, n in zip(counts, full, strict=True))


def test_width_of_one_is_the_recipe_itself():
    assert widen(PAPER, 1.0) == PAPER


def test_narrow_layers_start_with_larger_weights_so_that_sums_keep_their_size():
    found = widen(PAPER, 0.25)

    # A quarter of the inputs: twice the standard deviation. conv1's inputs are still RGB.
    stds = [conv.init_std for conv in found.convs().values()]
    stds += [found.fc6.init_std, found.fc7.init_std, found.fc8_init_std]
    assert stds == pytest.approx([0.01, 0.02, 0.06, 0.06, 0.06, 0.02, 0.02, 0.02])


def test_width_changes_nothing_but_layers():
    found = widen(SMALL, 0.5)

    layers = {name: getattr(SMALL, name) for name in PAPER.layer_names()[:-1]}
    assert replace(found, **layers, fc8_init_std=SMALL.fc8_init_std) == SMALL


def test_width_scales_the_bottleneck_and_a_sixth_convolution_too():
    full = with_settings(PAPER, ["bottleneck.units=2048", "conv6.filters=256"])

    found = widen(full, 0.25)

    assert (found.bottleneck.units, found.conv6.filters) == (512, 64)
    stds = (found.bottleneck.init_std, found.conv6.init_std)
    assert stds == pytest.approx((2 * full.bottleneck.init_std, 2 * full.conv6.init_std))
    assert found.bottleneck == replace(
        full.bottleneck, units=512, init_std=found.bottleneck.init_std
    )


@pytest.mark.parametrize("width", [1 / 16, 0.5, 2.0])
def test_layers_left_out_stay_left_out_at_any_width(width: float):
    few = with_settings(PAPER, ["conv4.filters=0", "fc6.units=0", "fc7.units=0"])

    found = widen(few, width)

    assert found.layer_names() == ["conv1", "conv2", "conv3", "conv5", "fc8"]
    for name in ("conv4", "conv6", "fc6", "fc7", "bottleneck"):
        assert getattr(found, name) == getattr(few, name)


@pytest.mark.parametrize(
    "text",
    ['{"name": 3}', '{"name": "a", "mirror": "false"}', '{"name": "a", "reads_both": "fc8"}'],
)
def test_json_with_fields_of_another_kind_is_refused(text):
    with pytest.raises(RecipeError):
        Recipe.from_json(text)


def test_flat_fields_are_those_of_the_recipe_and_of_its_layers():
    flat = PAPER.flat()

    assert flat["batch_size"] == 128
    assert flat["conv1.filters"] == 96
    assert flat["fc6.dropout"] == 0.5
    assert not any(isinstance(value, dict) for value in flat.values())
    other = replace(PAPER, seed=5, conv2=replace(PAPER.conv2, pad=1)).flat()
    assert {n for n in flat if other[n] != flat[n]} == {"seed", "conv2.pad"}
