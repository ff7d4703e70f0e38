"""`alexnet check` on shrunken recipes and networks for CIFAR-10, drawn images and a dataset's."""

import io
import json
import math
import shutil
import tarfile

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from alexnet_cli.cli.app import app
from alexnet_cli.model.network import AlexNet, initialize
from alexnet_cli.recipes.cifar import CIFAR_13PCT
from alexnet_cli.recipes.overrides import with_settings

SMALL = ("paper", "--set", "width=0.0625", "--set", "crop_size=99", "--set", "learning_rate=0.03")
FASTER = ("--set", "learning_rate=0.01", "--set", "conv1.filters=16", "--set", "conv2.filters=16")
CIFAR = ("cifar-13pct", *FASTER)
HOPELESS = (*CIFAR, "--set", "learning_rate=1e-9", "--steps", 5)
KEYS = {
    *("recipe", "data", "classes", "chance_loss", "first_loss"),
    *("layers", "overfit", "faults"),
}


def check(*arguments) -> dict:
    """Return what --json prints of a check that must succeed."""
    result = CliRunner().invoke(app, ["check", *map(str, arguments), "--json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.fixture(scope="module")
def of_paper() -> dict:
    """The check of the paper's network, shrunken. Read only."""
    return check(*SMALL)


@pytest.fixture(scope="module")
def of_cifar() -> dict:
    """The check of a network with local layers. Read only."""
    return check(*CIFAR)


# --- a recipe that is right


def test_json_has_statistics_and_the_batch(of_paper):
    assert set(of_paper) == KEYS
    about = (of_paper["recipe"], of_paper["data"], of_paper["classes"])
    assert about == ("paper", "drawn images", 10)
    assert of_paper["chance_loss"] == pytest.approx(math.log(10))
    assert of_paper["first_loss"] == pytest.approx(math.log(10), abs=0.2)
    assert of_paper["overfit"]["learned"] is True
    assert of_paper["faults"] == []


def test_json_has_statistics_of_every_layer_that_info_shows(answer, of_paper):
    layers = [layer["name"] for layer in answer("info", *SMALL)["layers"]]

    assert [row["name"] for row in of_paper["layers"]] == layers
    for row in of_paper["layers"]:
        assert set(row) == {"name", "rms", "std", "dead_fraction"}
        assert row["rms"] >= row["std"] > 0
        assert 0 <= row["dead_fraction"] < 1


def test_json_has_the_loss_before_every_update_of_the_batch(of_cifar):
    one = of_cifar["overfit"]

    assert set(one) == {"images", "learning_rate", "losses", "learned"}
    assert (one["images"], one["learned"]) == (10, True)
    assert one["learning_rate"] == pytest.approx(0.003)
    assert one["losses"][0] == pytest.approx(math.log(10), abs=0.1)
    assert one["losses"][-1] <= 0.05 < min(one["losses"][:-1])
    assert len(one["losses"]) < 300


def test_table_shows_the_values_of_json(of_cifar, shown):
    found, text = of_cifar, shown("check", *CIFAR)

    assert "cifar-13pct, untrained, on drawn images" in text
    for row in found["layers"]:
        (line,) = [line for line in text.splitlines() if f" {row['name']} " in line]
        assert f"{row['rms']:.3g}" in line
        assert f"{row['std']:.3g}" in line
        assert f"{row['dead_fraction']:.0%}" in line
    assert f"first loss {found['first_loss']:.3f}; chance level is ln(10) = 2.303" in text
    steps = len(found["overfit"]["losses"])
    assert f"one batch of 10 images overfitted in {steps} steps at learning rate 0.003" in text


def test_same_command_finds_the_same_and_leaves_no_file(answer, of_cifar, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    assert answer("check", *CIFAR) == of_cifar
    assert list(tmp_path.iterdir()) == []


def test_another_seed_draws_other_weights_and_images(of_cifar):
    other = check(*CIFAR, "--set", "seed=1")

    assert other["layers"] != of_cifar["layers"]
    assert other["overfit"]["learned"]


def test_split_classifier_and_a_linear_layer_can_be_checked(answer):
    sizes = ("--set", "width=0.0625", "--set", "crop_size=72", "--set", "learning_rate=0.03")

    found = answer("check", "pretrain-2011", *sizes)

    assert "bottleneck" in [row["name"] for row in found["layers"]]
    assert found["overfit"]["learned"]


# --- images of a dataset


def first_crops(dataset, count: int, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the first training images' centers minus that of the mean, and their labels."""
    images, labels = [], []
    for path in sorted(dataset.glob("train-*.tar")):
        with tarfile.open(path) as tar:
            for member in tar:
                content = tar.extractfile(member).read()
                if member.name.endswith(".cls"):
                    labels.append(int(content))
                elif member.name.endswith(".jpg"):
                    images.append(np.asarray(Image.open(io.BytesIO(content)), np.float32))
    mean = np.load(dataset / "pixel_stats.npz")["mean_image"]
    near = (len(mean) - size) // 2
    far = near + size
    crops = (np.stack(images[:count]) - mean)[:, near:far, near:far]
    return torch.from_numpy(crops).permute(0, 3, 1, 2), torch.tensor(labels[:count])


def test_images_of_a_dataset_are_the_centres_of_its_first(answer, dataset, unharmed):
    unchanged = unharmed(dataset)

    found = answer("check", *CIFAR, "--set", "seed=4", "--data", dataset)

    assert (found["data"], found["classes"]) == (str(dataset), 10)
    recipe = with_settings(CIFAR_13PCT, [*FASTER[1::2], "seed=4"])
    net = AlexNet(recipe, 10)
    initialize(net, recipe.seed)
    crops, labels = first_crops(dataset, 32, 24)
    with torch.no_grad():
        rms = net.conv1(crops).square().mean().sqrt().item()
        scores = net.eval()(crops)
    assert found["layers"][0]["rms"] == pytest.approx(rms, rel=1e-3)
    for count, loss in ((32, found["first_loss"]), (10, found["overfit"]["losses"][0])):
        probs = scores[:count].double().softmax(dim=1)[torch.arange(count), labels[:count]]
        assert loss == pytest.approx(-probs.log().mean().item(), abs=1e-6)
    unchanged()


def test_dataset_of_two_images_is_overfitted(answer, two_class_dataset):
    found = answer("check", *CIFAR, "--data", two_class_dataset)

    assert found["classes"] == 2
    assert found["chance_loss"] == pytest.approx(math.log(2))
    assert (found["overfit"]["images"], found["overfit"]["learned"]) == (2, True)


def test_images_smaller_than_the_crops_are_refused(fails, dataset):
    failure = fails(3, "check", "paper", "--data", dataset)

    assert "images of 112 pixels" in failure.message
    assert "crops of 224" in failure.message
    assert failure.stdout == ""


def test_missing_pixel_stats_name_the_command_that_makes_them(fails, dataset, tmp_path):
    copy = shutil.copytree(dataset, tmp_path / "copy")
    (copy / "pixel_stats.npz").unlink()

    assert f"alexnet pca {copy}" in fails(3, "check", *CIFAR, "--data", copy).message


def test_folder_that_is_no_dataset_is_refused(fails, tmp_path):
    assert "no dataset" in fails(3, "check", *CIFAR, "--data", tmp_path).message


# --- a recipe that cannot learn


@pytest.mark.parametrize(
    ("settings", "layer"),
    [
        (("learning_rate=1e-9",), "relu4"),
        (("fc8_init_std=0", "conv1.init_std=0"), "conv1"),
    ],
)
def test_recipe_that_cannot_learn_is_exit_6_after_its_table(fails, settings, layer):
    wrong = [part for setting in settings for part in ("--set", setting)]

    failure = fails(6, "check", *CIFAR, *wrong, "--steps", 5)

    assert (
        "recipe cifar-13pct: it does not overfit one batch of 10 images in 5 steps"
        in failure.message
    )
    assert "(loss 2.30" in failure.message
    assert f"images are most alike after layer {layer}." in failure.message
    assert "one batch of 10 images not overfitted in 5 steps" in failure.stdout
    assert "cifar-13pct, untrained" in failure.stdout


def test_recipe_that_cannot_learn_still_answers_in_json(alexnet):
    result = alexnet("check", *HOPELESS, "--json")

    assert result.exit_code == 6
    found = json.loads(result.stdout)
    assert set(found) == KEYS
    assert found["overfit"]["learned"] is False
    (fault,) = found["faults"]
    assert fault in result.stderr


# --- a wrong command line


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        (("nonsense",), "no recipe 'nonsense'"),
        (("paper", "--set", "depth=9"), "no field depth"),
        (("paper", "--set", "crop_size"), "field=value"),
        (("paper", "--set", "crop_size=20"), "has no pixels"),
    ],
)
def test_recipe_that_does_not_exist_is_exit_2(fails, wrong, word):
    failure = fails(2, "check", *wrong)

    assert word in failure.message
    assert failure.stdout == ""


def test_no_steps_are_refused_by_the_parser(wrong_command_line):
    assert "--steps" in wrong_command_line("check", "paper", "--steps", 0)


def test_json_of_a_batch_that_diverged_is_json(alexnet):
    result = alexnet("check", "cifar-relu", "--set", "learning_rate=1000", "--steps", 30, "--json")

    def refuse(word):
        raise AssertionError(f"{word} is no JSON")

    json.loads(result.stdout, parse_constant=refuse)


def test_advice_of_a_run_at_chance_level_checks_the_same_network(alexnet, dataset, tmp_path):
    changes = ("width=0.0625", "crop_size=99", "batch_size=16", "learning_rate=1e-9")
    settings = [f"--set={change}" for change in changes]
    run = ("train", dataset, "--run", tmp_path / "run", "--epochs", 1, "--device", "cpu")
    said = alexnet(*run, *settings).stderr
    advice = next(line for line in said.splitlines() if "alexnet check" in line)
    result = alexnet(*advice.split("alexnet ")[1].split(), "--steps", 1)
    assert result.exit_code == 6, (advice, result.stderr)
