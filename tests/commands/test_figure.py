"""`alexnet figure`: each kind is written, says what it shows, and refuses what it cannot draw."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from alexnet_cli.data.images.resize import to_square
from alexnet_cli.data.shards.dataset import open_dataset
from alexnet_cli.figures import activations, explain, predictions
from alexnet_cli.inference.features import features_of
from alexnet_cli.inference.on_cpu import load_on_cpu, read_image
from alexnet_cli.model.checkpoint import load_checkpoint, save_checkpoint


@pytest.fixture
def photo(tmp_path) -> Path:
    pixels = np.random.default_rng(2).integers(0, 256, (90, 140, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def size_of(path: str | Path) -> tuple[int, int]:
    with Image.open(path) as image:
        image.load()
        return image.size


def test_filters_of_a_run_folder(answer, runs, tmp_path):
    found = answer("figure", "filters", runs.first, "-o", tmp_path / "f.png", "--normalize-each")
    assert found["kind"] == "filters"
    assert len(found["numbers"]["color_index"]) == 2
    assert size_of(found["path"])[0] > 300


def test_predictions_are_of_random_images_that_the_seed_decides(
    answer, checkpoint, dataset, tmp_path
):
    def images(seed: int) -> list[str]:
        arguments = ("--count", 2, "--seed", seed, "-o", tmp_path / "p.png")
        return answer("figure", "predictions", checkpoint, dataset, *arguments)["numbers"]["images"]

    assert images(0) == images(0)
    assert images(0) != images(1)
    assert len(set(images(0))) == 2
    assert all(name.startswith("val-") for name in images(0))


def test_only_errors_leaves_out_what_is_right(monkeypatch, answer, checkpoint, dataset, tmp_path):
    """A network that always says class 0 is right for the three images of class 0."""
    found = load_checkpoint(checkpoint)
    bias = np.float32([1000] + [0] * 9)
    path = tmp_path / "always.safetensors"
    save_checkpoint(path, replace(found, weights=found.weights | {"fc8.bias": bias}))
    monkeypatch.setattr(predictions, "save", lambda figure, path: None)
    arguments = ("figure", "predictions", path, dataset, "--count", 64, "-o", tmp_path / "p.png")
    everything, wrong = answer(*arguments), answer(*arguments, "--only-errors")
    assert (len(everything["numbers"]["images"]), everything["numbers"]["wrong"]) == (30, 27)
    assert (len(wrong["numbers"]["images"]), wrong["numbers"]["wrong"]) == (27, 27)


def test_bars_are_the_most_probable_classes_and_the_right_one_differs(
    monkeypatch, alexnet, checkpoint, dataset, tmp_path
):
    figures = []
    monkeypatch.setattr(predictions, "save", lambda figure, path: figures.append(figure))
    arguments = ("--count", 2, "-o", tmp_path / "p.png")
    assert alexnet("figure", "predictions", checkpoint, dataset, *arguments).exit_code == 0
    titles = [axes.get_title() for axes in figures[0].axes if axes.get_title()]
    bars = [axes.patches for axes in figures[0].axes if len(axes.patches)]
    texts = [axes.texts for axes in figures[0].axes if len(axes.texts)]
    assert len(titles) == len(bars) == 2
    for title, boxes, words in zip(titles, bars, texts, strict=True):
        widths = [box.get_width() for box in boxes]
        assert widths == sorted(widths, reverse=True)
        assert len(widths) == 5
        names = [text.get_text() for text in words][::2]
        colored = [box.get_facecolor()[0] > box.get_facecolor()[2] for box in boxes]
        assert colored == [name == title for name in names]


def test_neighbors_are_the_nearest_training_images(answer, checkpoint, dataset, tmp_path):
    arguments = ("figure", "neighbors", checkpoint, dataset, "-o", tmp_path / "n.png")
    found = answer(*arguments, "--count", 3, "--device", "cpu")["numbers"]
    classifier, _ = load_on_cpu(checkpoint)
    opened = open_dataset(dataset)

    def features(split: str) -> dict[str, np.ndarray]:
        of_split = opened.split(split)
        images = np.stack([to_square(of_split.jpeg(i), 112) for i in range(len(of_split))])
        values = features_of(classifier, torch.from_numpy(images)).numpy().astype(np.float64)
        return dict(zip(of_split.keys(), values, strict=True))

    train, val = features("train"), features("val")
    for query, names in zip(found["queries"], found["neighbors"], strict=True):
        distances = {name: np.linalg.norm(val[query] - value) for name, value in train.items()}
        expected = sorted(distances, key=distances.get)[:6]
        got = [distances[name] for name in names]
        assert got == pytest.approx([distances[name] for name in expected], rel=1e-4)


def test_image_is_no_neighbor_of_itself(answer, checkpoint, dataset, tmp_path):
    arguments = ("figure", "neighbors", checkpoint, dataset, "-o", tmp_path / "n.png")
    found = answer(*arguments, "--queries", "train", "--device", "cpu")["numbers"]
    for query, names in zip(found["queries"], found["neighbors"], strict=True):
        assert query not in names
        assert len(names) == 6


@pytest.mark.parametrize("method", ["gradcam", "occlusion", "saliency"])
def test_explanation_has_the_image_the_network_and_each_column(
    monkeypatch, answer, checkpoint, photo, tmp_path, method
):
    titles = []
    save = explain.save
    monkeypatch.setattr(
        explain,
        "save",
        lambda figure, path: (
            titles.extend(a.get_title() for a in figure.axes),
            save(figure, path),
        ),
    )
    arguments = (checkpoint, photo, "--method", method, "-o", tmp_path / "e.svg")
    found = answer("figure", "explain", *arguments)
    assert len(titles) == 4
    assert titles[2:] == ["column 0 only", "column 1 only"]
    assert found["numbers"]["method"] == method
    assert "<svg" in (tmp_path / "e.svg").read_text()


def test_class_to_explain_is_named_by_wnid_or_name(answer, checkpoint, photo, tmp_path):
    def label(wanted: str) -> int:
        arguments = (checkpoint, photo, "--class", wanted, "-o", tmp_path / "e.png")
        return answer("figure", "explain", *arguments)["numbers"]["label"]

    assert label("n90000004") == 3
    assert label("Checkerboard") == label("CHECKERBOARD")


def test_unknown_class_is_refused(fails, checkpoint, photo, tmp_path):
    arguments = (checkpoint, photo, "--class", "unicorn", "-o", tmp_path / "e.png")
    failure = fails(2, "figure", "explain", *arguments)
    assert "class 'unicorn': there is none" in failure.message


def test_activations_of_a_layer(answer, checkpoint, photo, tmp_path, tiny_recipe):
    arguments = (checkpoint, photo, "--layer", "conv2", "-o", tmp_path / "a.pdf")
    found = answer("figure", "activations", *arguments)
    filters = tiny_recipe.conv2.filters
    assert found["numbers"]["maps"] == [filters // 2, filters // 2]
    assert (tmp_path / "a.pdf").read_bytes().startswith(b"%PDF")


def test_signed_maps_have_colors_for_both_signs_and_those_of_zeros_are_silent(
    monkeypatch, answer, checkpoint, photo, tmp_path
):
    figures = []
    monkeypatch.setattr(activations, "save", lambda figure, path: figures.append(figure))
    for layer in ("relu1", "conv1"):
        arguments = (checkpoint, photo, "--layer", layer, "-o", tmp_path / "a.png")
        found = answer("figure", "activations", *arguments)["numbers"]
        classifier, loaded = load_on_cpu(checkpoint)
        image = torch.from_numpy(read_image(photo, classifier, loaded))
        maps = features_of(classifier, image, layer)[0]
        assert sum(found["silent"]) == sum(not bool(one.count_nonzero()) for one in maps)
    limits = [[axes.images[0].get_clim() for axes in figure.axes] for figure in figures]
    assert limits == [[(0, 1)] * 2, [(-1, 1)] * 2]


def test_first_activation_is_drawn_by_default_whatever_it_is(answer, checkpoint, photo, tmp_path):
    found = load_checkpoint(checkpoint)
    path = tmp_path / "tanh.safetensors"
    save_checkpoint(path, replace(found, recipe=replace(found.recipe, activation="tanh")))
    for model, layer in ((checkpoint, "relu1"), (path, "tanh1")):
        numbers = answer("figure", "activations", model, photo, "-o", tmp_path / "a.png")["numbers"]
        assert numbers["layer"] == layer


def test_layer_without_maps_is_refused_with_those_that_have(fails, checkpoint, photo, tmp_path):
    arguments = (checkpoint, photo, "--layer", "fc6", "-o", tmp_path / "a.png")
    failure = fails(2, "figure", "activations", *arguments)
    assert "conv1, relu1" in failure.message


def test_confusion_of_a_predictions_file_and_of_its_network_is_the_same(
    answer, predictions, checkpoint, dataset, tmp_path
):
    out = ("-o", tmp_path / "c.png")
    of_file = answer("figure", "confusion", predictions[0], *out)["numbers"]
    model = (checkpoint, dataset, "--views", 1, "--device", "cpu")
    assert answer("figure", "confusion", *model, *out)["numbers"] == of_file
    counts = np.array(of_file["counts"])
    assert counts.sum() == of_file["images"] == 30
    assert of_file["top1_error"] == pytest.approx(1 - np.trace(counts) / 30)
    assert size_of(tmp_path / "c.png")[0] > 300


def test_confusion_of_a_network_needs_a_dataset(fails, checkpoint, tmp_path):
    failure = fails(2, "figure", "confusion", checkpoint, "-o", tmp_path / "c.png")
    assert "needs a dataset" in failure.message


def test_curves_of_two_runs(answer, runs, tmp_path):
    found = answer("figure", "curves", runs.first, runs.second, "-o", tmp_path / "c.png")
    assert [run["epochs"] for run in found["numbers"]["runs"].values()] == [2, 2]


@pytest.mark.parametrize("kind", ["filters", "explain", "activations"])
def test_unreadable_model_is_refused(fails, kind, photo, tmp_path):
    image = () if kind == "filters" else (photo,)
    fails(3, "figure", kind, photo, *image, "-o", tmp_path / "x.png")
    assert not (tmp_path / "x.png").exists()


def test_other_suffixes_are_refused_with_advice(fails, checkpoint, tmp_path):
    failure = fails(2, "figure", "filters", checkpoint, "-o", tmp_path / "x.jpeg")
    assert ".png, .svg, .pdf" in failure.message
    assert "-o FILE.png" in failure.message


def test_damaged_dataset_is_refused(fails, checkpoint, tmp_path, copy):
    (copy / "val-000000.tar").unlink()
    fails(3, "figure", "predictions", checkpoint, copy, "-o", tmp_path / "p.png")
    assert not (tmp_path / "p.png").exists()


def test_text_names_the_file_and_its_numbers(shown, checkpoint, tmp_path):
    text = shown("figure", "filters", checkpoint, "-o", tmp_path / "f.png")
    assert "f.png" in text
    assert "color index:" in text


def test_image_that_cannot_be_read_is_named(fails, checkpoint, tmp_path):
    (tmp_path / "empty.png").write_bytes(b"")
    for path, problem in ((tmp_path / "empty.png", "empty"), (tmp_path, "unreadable")):
        found = fails(3, "figure", "explain", checkpoint, path, "-o", tmp_path / "e.png")
        assert f"{path}: {problem}: " in found.message


def test_figure_gets_its_folder(answer, checkpoint, tmp_path):
    found = answer("figure", "filters", checkpoint, "-o", tmp_path / "new/f.png")
    assert size_of(found["path"])[0] > 300


def test_negative_seed_is_a_wrong_command_line(fails, checkpoint, dataset):
    for kind in ("predictions", "neighbors"):
        found = fails(2, "figure", kind, checkpoint, dataset, "--seed", -1)
        assert "--seed" in found.message
