"""The Python API: what it loads, and that it agrees with the commands, torch and Pillow."""

import copy
import io
import json
import os
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

import alexnet_cli
from alexnet_cli import load_model, open_dataset
from alexnet_cli.errors import (
    CheckpointError,
    DatasetError,
    ImageError,
    InputError,
    MachineError,
    UsageError,
)
from alexnet_cli.inference.export import export
from alexnet_cli.model.checkpoint import load_checkpoint
from alexnet_cli.model.network import AlexNet


@pytest.fixture(scope="module")
def models(checkpoint, tmp_path_factory):
    """The checkpoint with ten views on torch, and exported with 1, 9 and 10 views."""
    folder = tmp_path_factory.mktemp("api")
    found = {"torch": load_model(checkpoint, device="cpu")}
    for views in (1, 9, 10):
        export(checkpoint, folder / f"{views}.onnx", num_views=views)
        found[f"onnx-{views}"] = load_model(folder / f"{views}.onnx", device="cpu")
    return found


@pytest.fixture(scope="module")
def val(dataset):
    return open_dataset(dataset)["val"]


def loaded_by(program: str, *arguments) -> list[str]:
    """Return the modules that a program loads in a process of its own."""
    program += "\nimport sys; print('\\n'.join(sys.modules))"
    command = [sys.executable, "-c", program, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_import_loads_nothing_but_the_package():
    found = loaded_by("import alexnet_cli")
    assert [name for name in found if name.startswith("alexnet_cli")] == ["alexnet_cli"]
    assert not {"numpy", "torch", "typer"} & set(found)


def test_onnx_model_is_used_without_torch(models, val):
    program = (
        "import sys; from alexnet_cli import load_model, open_dataset\n"
        "model = load_model(sys.argv[1], device='cpu')\n"
        "sample = open_dataset(sys.argv[2])['val'][0]\n"
        "model.predict(sample); model.features(sample); model.layer('conv1').weight"
    )
    found = loaded_by(program, models["onnx-1"].info.path, val.folder)
    assert "onnxruntime" in found
    assert "torch" not in found


def test_every_name_of_the_package_is_found_and_no_other():
    for name in alexnet_cli.__all__:
        assert getattr(alexnet_cli, name) is not None
    assert dir(alexnet_cli) == sorted(alexnet_cli.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = alexnet_cli.nonsense


def test_results_are_those_of_the_command(alexnet, models, release, tmp_path):
    image = Image.fromarray(np.random.default_rng(1).integers(0, 256, (90, 120, 3), np.uint8))
    image.save(tmp_path / "a.png")
    (tmp_path / "b.png").write_text("no image")
    model = models["onnx-10"]
    printed = alexnet("predict", tmp_path, "--model", model.info.path, "--json", "--top", 3)
    found = [result.to_dict() for result in model.predict(tmp_path, top=3)]
    assert found == json.loads(printed.stdout)["images"]
    assert found[0]["predictions"][0]["label"] == model.predict(tmp_path)[0].label


def test_paths_arrays_bytes_and_pillow_images_give_the_same(models, tmp_path):
    pixels = np.random.default_rng(2).integers(0, 256, (150, 120, 3), np.uint8)
    path = tmp_path / "a.png"
    Image.fromarray(pixels).save(path)
    forms = [path, str(path), path.read_bytes(), pixels, Image.fromarray(pixels)]
    first, *others = models["onnx-1"].predict(forms)
    assert [result.top for result in others] == [first.top] * 4
    assert [result.image for result in (first, *others)][2:] == ["image 2", "image 3", "image 4"]
    batch = models["onnx-1"].predict(np.stack([pixels, pixels[::-1]]))
    assert batch[0].top == first.top != batch[1].top


def test_more_images_than_a_batch_keep_their_order(models, val):
    model, samples = models["onnx-10"], val[:]  # 30 images, batches of 3
    expected = model.probabilities(np.stack([sample.pixels for sample in samples]))
    found = model.predict([*samples[:7], b"", *samples[7:]], top=1)
    assert found.pop(7).error == "empty: 0 bytes"
    assert [result.image for result in found] == [sample.key for sample in samples]
    assert [result.label for result in found] == expected.argmax(axis=1).tolist()


def test_improbable_classes_are_left_out(models, val):
    (every,) = models["torch"].predict(val[0], top=10)
    limit = every.top[3].probability
    (found,) = models["torch"].predict(val[0], top=10, min_probability=limit)
    assert found.top == every.top[:4]
    (none,) = models["torch"].predict(val[0], min_probability=1.0)
    assert none.top == ()
    with pytest.raises(InputError, match="no class is that probable"):
        _ = none.label


def test_image_that_cannot_be_read_fails_only_when_it_is_used(models):
    (result,) = models["onnx-1"].predict("none.jpg")
    assert "no such file" in result.error
    with pytest.raises(InputError, match="no such file"):
        _ = result.name
    with pytest.raises(ImageError, match=r"none\.jpg: .*no such file"):
        models["onnx-1"].features("none.jpg")


@pytest.mark.parametrize("views", [1, 9])
def test_views_of_an_exported_model_are_those_asked_for(models, val, views):
    images = np.stack([sample.pixels for sample in val[:3]])
    path = models["onnx-10"].info.path
    assert models["onnx-10"].info.num_views == 10
    found = load_model(path, views=views, device="cpu")
    assert found.info.num_views == views
    expected = models[f"onnx-{views}"].probabilities(images)
    np.testing.assert_array_equal(found.probabilities(images), expected)


WRONG = {
    "four channels": np.zeros((5, 5, 4), np.uint8),
    "fractions": np.zeros((5, 5, 3), np.float32),
    "no pixels": np.zeros((0, 5, 3), np.uint8),
    "a batch of batches": np.zeros((1, 1, 5, 5, 3), np.uint8),
    "None": None,
    "None in a list": [None],
    "a number": 5,
    "a tensor": torch.zeros(5, 5, 3, dtype=torch.uint8),
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_what_is_no_image_is_refused(models, wrong):
    with pytest.raises(UsageError, match="is no image"):
        models["onnx-1"].predict(wrong)


def test_open_files_gray_arrays_and_arrays_of_names_are_images(models, tmp_path):
    gray = np.random.default_rng(3).integers(0, 256, (150, 120), np.uint8)
    path = tmp_path / "a.png"
    Image.fromarray(gray).save(path)
    model, content = models["onnx-1"], path.read_bytes()
    (expected,) = model.predict(path)
    with path.open("rb") as file:
        (found,) = model.predict(file)
    assert found == expected
    (named,) = model.predict(np.array([str(path)]))
    assert named == expected
    assert type(named.image) is str
    forms = [gray, gray[:, :, None], bytearray(content), memoryview(content), io.BytesIO(content)]
    assert [model.predict([form])[0].top for form in forms] == [expected.top] * 5
    forms[4].seek(0)
    assert [model.predict(form)[0].top for form in forms] == [expected.top] * 5


def test_file_opened_as_text_is_refused(models, val, tmp_path):
    for name, content in (("a.jpg", val[0].jpeg), ("words", b"b.jpg")):
        (tmp_path / name).write_bytes(content)
        with (tmp_path / name).open(encoding="utf-8") as file:
            with pytest.raises(UsageError, match=rf"{name}: opened as text") as caught:
                models["onnx-1"].predict(file)
            assert "rb" in caught.value.hint


def test_name_with_a_zero_byte_is_an_image_that_cannot_be_read(models):
    (result,) = models["onnx-1"].predict("a\0b.jpg")
    assert "null byte" in result.error


@pytest.mark.parametrize(
    "limits", [{"top": 0}, {"top": -1}, {"min_probability": -0.1}, {"min_probability": np.nan}]
)
def test_limits_that_are_none_are_refused(models, val, limits):
    with pytest.raises(UsageError, match=next(iter(limits))):
        models["onnx-1"].predict(val[0], **limits)


@pytest.mark.parametrize("views", [0, 7, "10"])
def test_number_of_views_that_no_image_has_is_refused(models, views):
    with pytest.raises(UsageError, match="1, 9 or 10"):
        load_model(models["torch"].info.path, views=views)


@pytest.mark.parametrize("kind", ["torch", "onnx-9"])
def test_one_model_serves_many_threads(models, val, kind):
    model, samples = models[kind], val[:6]
    layers = ["conv1", "relu7", "fc8"]
    expected = {layer: [model.features(sample, layer) for sample in samples] for layer in layers}
    asked = [(layer, i) for i in range(len(samples)) for layer in layers] * 3
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda pair: model.features(samples[pair[1]], pair[0]), asked))
    for (layer, i), features in zip(asked, found, strict=True):
        np.testing.assert_allclose(features, expected[layer][i], atol=1e-4)


def test_models_opened_by_threads_leave_stdout_as_it_was(models):
    before, path = sys.stdout, models["onnx-1"].info.path
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: load_model(path, device="cpu"), range(24)))
    assert sys.stdout is before


@pytest.mark.parametrize("kind", ["torch", "onnx-10"])
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copies_of_a_model_predict_the_same(models, val, kind, copied):
    assert copied(models[kind]).predict(val[0]) == models[kind].predict(val[0])


@pytest.mark.parametrize("layer", [None, "conv1", "pool5", "drop7", "fc8"])
@pytest.mark.parametrize("kind", ["torch", "onnx-1", "onnx-9", "onnx-10"])
def test_features_are_those_of_the_network_run_by_hand(models, val, kind, layer):
    checkpoint = load_checkpoint(models["torch"].info.path)
    net = AlexNet(checkpoint.recipe, len(checkpoint.classes)).eval()
    net.load_state_dict({name: torch.from_numpy(t) for name, t in checkpoint.weights.items()})
    samples, size = val[:4], checkpoint.recipe.crop_size
    start = (112 - size) // 2
    crops = np.stack([sample.pixels for sample in samples]).astype(np.float32)
    crops = (crops - checkpoint.pixels["mean_image"])[:, start : start + size, start : start + size]
    x = torch.from_numpy(crops.transpose(0, 3, 1, 2))
    for name, module in net.named_children():
        x = module(x)
        if name == (layer or "relu7"):
            break
    found = models[kind].features(samples, layer)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, x.detach().numpy(), atol=2e-3, rtol=1e-3)


@pytest.mark.parametrize("name", ["conv1", "conv4", "fc6", "fc8"])
def test_parameters_of_checkpoint_and_exported_model_are_equal(models, name):
    weights = load_checkpoint(models["torch"].info.path).weights
    for kind in ("torch", "onnx-10"):
        layer = models[kind].layer(name)
        np.testing.assert_array_equal(layer.weight, weights[f"{name}.weight"])
        np.testing.assert_array_equal(layer.bias, weights[f"{name}.bias"])


def test_session_that_fails_in_a_layer_is_an_error_of_its_own(models, val):
    class Failing:
        def run(self, *_):
            raise RuntimeError("CUDA failure 2: out of memory")

    model = copy.copy(models["onnx-1"])
    model._layer_session = ("pool5", Failing())
    with pytest.raises(MachineError, match="out of memory, or the GPU failed"):
        model.features(val[0], "pool5")


def test_run_is_its_best_checkpoint_without_torch_too(runs, monkeypatch):
    expected = load_model(runs.first, device="cpu").info
    monkeypatch.setattr("alexnet_cli.inference.network.has_package", lambda name: name != "torch")
    found = load_model(runs.first, device="cpu").info
    assert found.path == expected.path == runs.first / "best.safetensors"
    assert (found.num_views, found.recipe) == (expected.num_views, expected.recipe)
    assert found.runtime.startswith("onnxruntime")


def test_unknown_layer_and_layer_without_weights_are_named(models):
    with pytest.raises(UsageError, match="no layer 'conv9'") as caught:
        models["onnx-1"].layer("conv9")
    assert "conv5" in caught.value.hint
    with pytest.raises(UsageError, match="layer pool1 has no weight"):
        _ = models["onnx-1"].layer("pool1").weight


def test_result_is_shown_as_a_table_without_markup_of_names():
    rows = (alexnet_cli.Prediction(0, "n1", "<b>cat</b>", 0.75),)
    shown = alexnet_cli.ImageResult("<script>.jpg", rows)._repr_html_()
    tags = []
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, _: tags.append(tag)
    parser.feed(shown)
    assert {"table", "tr", "td"} <= set(tags)
    assert not {"b", "script"} & set(tags)
    assert "75.0%" in shown
    assert "&lt;b&gt;" in alexnet_cli.ImageResult("a", (), "<b>")._repr_html_()


def test_split_is_a_sequence_of_labeled_images(dataset, val):
    classes = open_dataset(dataset).classes
    assert len(val) == len(list(val)) == 30
    assert [sample.label for sample in val] == val.labels.tolist()
    assert [sample.key for sample in val] == val.keys()
    assert val[-1] == val[29]
    sample = val[3]
    assert sample.name == classes[sample.label].name
    assert sample.image.size == (112, 112)
    np.testing.assert_array_equal(np.asarray(sample.image), sample.pixels)
    with pytest.raises(IndexError):
        val[30]


def test_split_feeds_a_data_loader_of_torch(val):
    pairs = val.as_torch()
    assert isinstance(pairs, Dataset)
    assert isinstance(pickle.loads(pickle.dumps(pairs))[0], tuple)  # for workers
    images, labels = next(iter(DataLoader(pairs, batch_size=30)))
    assert labels.tolist() == val.labels.tolist()
    np.testing.assert_array_equal(images[7].permute(1, 2, 0), val[7].pixels)
    sizes = [image for image, _ in val.as_torch(lambda image: image.size)]
    assert sizes == [(112, 112)] * 30


def test_dataset_behind_a_url_is_a_sequence_too(web, dataset, val):
    found = open_dataset(web(dataset).url)["val"]
    assert found[29] == val[29]


def test_package_is_marked_as_typed():
    assert (Path(alexnet_cli.__file__).parent / "py.typed").is_file()


def test_checkpoint_runs_on_onnxruntime_where_torch_is_missing(checkpoint, val, monkeypatch):
    expected = load_model(checkpoint, device="cpu")
    monkeypatch.setitem(sys.modules, "torch", None)
    found = load_model(checkpoint)
    assert found.info.runtime == "onnxruntime CPU"
    assert found.info.num_views == 10
    assert found.layers == expected.layers
    np.testing.assert_array_equal(found.layer("fc7").weight, expected.layer("fc7").weight)
    copy = pickle.loads(pickle.dumps(found))
    monkeypatch.undo()
    images = np.stack([sample.pixels for sample in val[:5]])
    np.testing.assert_allclose(
        found.probabilities(images), expected.probabilities(images), atol=1e-5
    )
    np.testing.assert_array_equal(copy.probabilities(images), found.probabilities(images))
    np.testing.assert_allclose(
        found.outputs_of("fc7", images), expected.outputs_of("fc7", images), atol=1e-5
    )


@pytest.mark.parametrize("how", ["shorter", "other", "moved", "removed"])
def test_model_file_may_be_replaced_while_it_is_open(checkpoint, val, tmp_path, how):
    path, other = tmp_path / "model.onnx", tmp_path / "other.onnx"
    export(checkpoint, path)
    model = load_model(path)
    images = np.stack([sample.pixels for sample in val[:3]])
    probs, kernels = model.probabilities(images), model.layer("conv1").weight
    if how == "shorter":
        path.write_bytes(b"short")
    elif how == "other":
        content = path.read_bytes()
        os.utime(path, ns=(0, 0))
        path.write_bytes(content[:-1000] + bytes(1000))
    elif how == "moved":
        other.write_bytes(b"other")
        other.replace(path)
    else:
        path.unlink()
    np.testing.assert_array_equal(model.probabilities(images), probs)
    if how in ("moved", "removed"):
        np.testing.assert_array_equal(model.layer("conv1").weight, kernels)
        assert model.outputs_of("fc6", images).shape[0] == 3
    else:
        for use in (lambda: model.layer("conv1"), lambda: model.outputs_of("fc6", images)):
            with pytest.raises(CheckpointError, match="written over since it was opened"):
                use()


def test_split_for_torch_says_what_is_missing(val, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "alexnet_cli.data.torch_dataset", raising=False)
    with pytest.raises(MachineError, match="torch is not installed"):
        val.as_torch()


def test_dataset_in_place_of_a_split_is_refused(checkpoint, dataset):
    model = load_model(checkpoint, device="cpu")
    with pytest.raises(UsageError, match="a dataset is no image") as caught:
        model.predict(open_dataset(dataset))
    assert caught.value.hint == "Name a split of it: dataset['train']."


def test_positions_that_are_none_are_refused(val):
    assert val[np.int64(3)].key == val[3].key
    for position in (None, "3", 1.0, [1, 2], np.ones(len(val), bool)):
        with pytest.raises(TypeError):
            _ = val[position]


def test_dataset_is_like_a_dict_of_its_splits(dataset, val):
    opened = open_dataset(dataset)
    assert list(opened) == ["train", "val"]
    assert "val" in opened
    assert "test" not in opened
    with pytest.raises(DatasetError, match="no split 0"):
        _ = opened[0]
    assert opened["val"] != val  # compared by identity, as files are
    assert repr(val) == f"<val of {dataset}, {len(val)} samples>"
    assert repr(opened).endswith(f"classes, train of {len(opened['train'])}, val of {len(val)}>")
    assert len(repr(val[0])) < 200
