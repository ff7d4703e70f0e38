"""Training further from another network: frozen layers, the recipe finetune, an early end."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers import train

from alexnet_cli.errors import CheckpointError
from alexnet_cli.model.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from alexnet_cli.recipes.small import FINETUNE, finetune_of

ON_CPU = ("--device", "cpu")
CONVS = ("conv1", "conv2", "conv3", "conv4", "conv5")
QUICK = ("--recipe", "finetune", "--set", "batch_size=16")


def last_of(run: Path) -> Checkpoint:
    return load_checkpoint(run / "last.safetensors", with_optimizer=True)


def is_frozen(name: str, layers=CONVS) -> bool:
    return name.partition(".")[0] in layers


@pytest.mark.parametrize("gpus", [1, 2])
def test_frozen_layers_keep_every_bit_and_have_no_momentum(
    answer, dataset, checkpoint, tmp_path, gpus
):
    arguments = ("--run", tmp_path / "run", *QUICK, "--init-from", checkpoint, "--epochs", 2)
    answer("train", dataset, *arguments, "--freeze", "conv1-conv5", "--gpus", gpus, *ON_CPU)
    found, source = last_of(tmp_path / "run"), load_checkpoint(checkpoint)
    assert found.recipe.frozen == CONVS
    for name, tensor in found.weights.items():
        assert np.array_equal(tensor, source.weights[name]) == is_frozen(name), name
        assert found.optimizer[f"{name}.momentum_buffer"].any() != is_frozen(name), name


def test_resumed_run_keeps_layers_frozen_and_is_the_run_never_stopped(
    dataset, checkpoint, tmp_path
):
    recipe = replace(
        finetune_of(load_checkpoint(checkpoint).recipe),
        batch_size=16,
        schedule="plateau",
        frozen=("conv1", "fc6"),
        ema_decay=0.9,
    )
    train(dataset, tmp_path / "whole", replace(recipe, epochs=2), init_from=checkpoint)
    train(dataset, tmp_path / "half", replace(recipe, epochs=1), init_from=checkpoint)
    train(dataset, tmp_path / "half", None, resume=True, num_epochs=2)
    whole, half = last_of(tmp_path / "whole"), last_of(tmp_path / "half")
    source = load_checkpoint(checkpoint).weights
    for name, tensor in whole.weights.items():
        np.testing.assert_array_equal(half.weights[name], tensor)
        assert np.array_equal(tensor, source[name]) == is_frozen(name, ("conv1", "fc6"))
        assert np.array_equal(whole.ema[name], source[name]) == is_frozen(name, ("conv1", "fc6"))


def test_finetune_takes_the_network_of_the_checkpoint_and_new_classes(
    answer, fails, two_class_dataset, checkpoint, tmp_path
):
    arguments = ("--run", tmp_path / "run", *QUICK, "--init-from", checkpoint, "--epochs", 1)
    answer("train", two_class_dataset, *arguments, *ON_CPU)
    found, source = last_of(tmp_path / "run"), load_checkpoint(checkpoint)
    assert found.recipe.name == "finetune"
    assert found.recipe.network() == source.recipe.network()
    assert found.recipe.class_weights == "balanced"
    assert len(found.classes) == 2
    # --recipe finetune may stand beside --resume: the network is then the run's own.
    again = ("--run", tmp_path / "run", *QUICK, "--resume", "--epochs", 2)
    assert answer("train", two_class_dataset, *again, *ON_CPU)["epochs"] == 2
    # Without it, --set and --freeze change the recipe of that name, not paper.
    other = ("train", two_class_dataset, "--run", tmp_path / "run", *QUICK[2:], "--resume", *ON_CPU)
    message = fails(3, *other, "--epochs", 2, "--freeze", "conv1").message
    assert "began with another recipe: frozen (), not ('conv1',)." in message


def test_recipe_finetune_keeps_only_the_network_of_another(tiny_recipe):
    found = finetune_of(replace(tiny_recipe, frozen=("conv1",), seed=9))
    assert found == replace(FINETUNE, **tiny_recipe.network())
    assert (found.frozen, found.seed) == ((), 0)
    assert found.learning_rate == FINETUNE.learning_rate != tiny_recipe.learning_rate


def test_run_ends_when_the_error_has_not_improved(answer, dataset, checkpoint, tmp_path):
    still = ("--set", "learning_rate=0", "--set", "stop_after=2", "--epochs", 9)
    arguments = ("--run", tmp_path / "run", *QUICK, *still, "--init-from", checkpoint, *ON_CPU)
    found = answer("train", dataset, *arguments)
    assert found["epochs"] == 3
    assert found["best"]["epoch"] == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--recipe", "finetune"), "--init-from MODEL, or torchvision"),
        (("--freeze", "conv1"), "--init-from MODEL, or torchvision"),
        (("--init-from", "CKPT", *QUICK, "--freeze", "conv9"), "no layer 'conv9'"),
        (("--init-from", "CKPT", *QUICK, "--freeze", "fc6-conv2"), "conv2 comes before fc6"),
        (("--init-from", "CKPT", *QUICK, "--freeze", "conv1-fc8"), "all layers are"),
        (
            ("--init-from", "CKPT"),
            "differs from paper in conv1.filters, conv2.filters, conv3.filters, conv4.filters, "
            "conv5.filters, ...",
        ),
    ],
)
def test_unusable_choices_are_refused(fails, dataset, checkpoint, tmp_path, arguments, words):
    arguments = [checkpoint if word == "CKPT" else word for word in arguments]
    failure = fails(2, "train", dataset, "--run", tmp_path / "run", *arguments, *ON_CPU)
    assert words in failure.message
    assert not (tmp_path / "run").exists()


def test_network_that_nobody_named_has_the_advice_to_finetune(fails, dataset, checkpoint, tmp_path):
    arguments = ("--run", tmp_path / "run", "--init-from", checkpoint, *ON_CPU)
    assert "--recipe finetune" in fails(2, "train", dataset, *arguments).message


def test_frozen_layer_that_the_checkpoint_lacks_is_refused(dataset, checkpoint, tmp_path):
    source = load_checkpoint(checkpoint)
    path = tmp_path / "other.safetensors"
    classes = [(f"n{number}", name) for number, (_, name) in enumerate(source.classes)]
    save_checkpoint(path, replace(source, classes=classes))
    recipe = replace(finetune_of(source.recipe), frozen=("fc8",), epochs=1)
    with pytest.raises(CheckpointError, match="freezes fc8 of the checkpoint, but it has other"):
        train(dataset, tmp_path / "run", recipe, init_from=path)
    wide = replace(recipe, frozen=("conv2",), conv2=replace(recipe.conv2, filters=32))
    with pytest.raises(CheckpointError, match=r"freezes conv2 .*, but conv2\.weight"):
        train(dataset, tmp_path / "run", wide, init_from=checkpoint)
