"""`eval` and `ensemble` on datasets with some of the network's classes, or in another order."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers import evaluate

from alexnet_cli.data.demo.images import CLASSES, draw_numbered
from alexnet_cli.inference.export import export
from alexnet_cli.inference.metrics import topk_credit
from alexnet_cli.inference.predictions import load_predictions
from alexnet_cli.inference.statistics import wilson_interval
from alexnet_cli.model.checkpoint import load_checkpoint, save_checkpoint
from alexnet_cli.prep.build import prep
from alexnet_cli.prep.plan import PrepOptions, PrepRequest

ON_CPU = ("--device", "cpu")
CHOSEN = (9, 2, 4, 7, 5, 0)
PER_CLASS = 4


def make_dataset(folder: Path, names: dict[str, int], options: PrepOptions | None = None) -> Path:
    """Prepare validation images of some of the demo's classes, in folders of these names."""
    for name, label in names.items():
        (folder / "source" / "val" / name).mkdir(parents=True)
        for number in range(PER_CLASS):
            path = folder / "source" / "val" / name / f"{number}.JPEG"
            path.write_bytes(draw_numbered(0, "val", label, number))
    made = folder / "dataset"
    prep(PrepRequest(folder / "source", made, options or PrepOptions(size=112), workers=1))
    return made


@pytest.fixture(scope="module")
def by_wnid(tmp_path_factory) -> Path:
    """Six of the classes, by wnid. Read only."""
    folder = tmp_path_factory.mktemp("by-wnid")
    return make_dataset(folder, {CLASSES[label].wnid: label for label in CHOSEN})


@pytest.fixture(scope="module")
def by_name(tmp_path_factory) -> Path:
    """The same images in folders named in words, which sort in another order. Read only."""
    folder = tmp_path_factory.mktemp("by-name")
    names = {CLASSES[label].name.title().replace(" ", "_"): label for label in CHOSEN}
    return make_dataset(folder, names)


@pytest.fixture(scope="module")
def by_number(tmp_path_factory) -> Path:
    """The same images in folders 3, 5, ... 13; the 13 sorts before the 3 as text. Read only."""
    folder = tmp_path_factory.mktemp("by-number")
    return make_dataset(folder, {str(3 + 2 * n): label for n, label in enumerate(CHOSEN)})


@pytest.fixture
def names_file(tmp_path) -> Path:
    """What the numbers are called: most lines are of classes that are not there."""
    lines = [f"unused {n}" for n in range(14)]
    for n, label in enumerate(CHOSEN):
        lines[3 + 2 * n] = CLASSES[label].name
    path = tmp_path / "names.txt"
    path.write_text("\n".join(lines))
    return path


@pytest.fixture(scope="module")
def figures(checkpoint, by_wnid, tmp_path_factory) -> dict:
    """Both figures of ten views, counted image by image from the probabilities over all outputs."""
    path = tmp_path_factory.mktemp("p") / "p.npz"
    evaluate(checkpoint, by_wnid, predictions=path)
    saved = load_predictions(path)
    chosen = sorted(CHOSEN)
    counts = {"whole": [], "subset": [], "log_loss": []}
    for row, label in zip(saved.probs.astype(float), saved.labels, strict=True):
        counts["whole"].append([label not in np.argsort(-row)[:k] for k in (1, 5)])
        some = row[chosen]
        place = chosen.index(label)
        counts["subset"].append([place not in np.argsort(-some)[:k] for k in (1, 5)])
        counts["log_loss"].append(-np.log(some[place] / some.sum()))
    return {name: np.mean(values, axis=0) for name, values in counts.items()}


@pytest.mark.parametrize("keep", [True, False])
def test_subset_by_wnid_has_both_figures(answer, checkpoint, by_wnid, figures, tmp_path, keep):
    more = ("--output", tmp_path / "p.npz") if keep else ()

    found = answer("eval", checkpoint, by_wnid, *more, *ON_CPU)

    subset = found["subset"]
    assert (found["images"], found["matched_by"]) == (24, "wnid")
    assert (found["model_classes"], found["dataset_classes"], subset["classes"]) == (10, 6, 6)
    assert [found["top1_error"], found["top5_error"]] == pytest.approx(figures["whole"])
    assert [subset["top1_error"], subset["top5_error"]] == pytest.approx(figures["subset"])
    assert subset["log_loss"] == pytest.approx(figures["log_loss"], rel=1e-6)
    assert subset["top5_error"] < found["top5_error"]  # 5 of 6 against 5 of 10
    assert subset["center"]["log_loss"] < found["center"]["log_loss"]
    for errors in (found, found["center"], subset, subset["center"]):
        for k in ("top1", "top5"):
            expected = wilson_interval(errors[f"{k}_error"], 24)
            assert errors[f"{k}_interval"] == pytest.approx(expected)


def test_names_and_numbered_folders_give_the_same_figures(
    answer, checkpoint, by_wnid, by_name, by_number, names_file
):
    arguments = ("--views", 1, *ON_CPU)
    expected = answer("eval", checkpoint, by_wnid, *arguments)
    for dataset, more in ((by_name, ()), (by_number, ("--class-names", names_file))):
        found = answer("eval", checkpoint, dataset, *more, *arguments)
        assert found["matched_by"] == "name"
        for name in ("top1_error", "top5_error", "log_loss"):
            assert found[name] == pytest.approx(expected[name], rel=1e-6)
            assert found["subset"][name] == pytest.approx(expected["subset"][name], rel=1e-6)


def test_numbered_folders_without_names_are_refused(fails, checkpoint, by_number):
    failure = fails(3, "eval", checkpoint, by_number, *ON_CPU)

    assert "its classes are numbers" in failure.message
    assert "--class-names FILE" in failure.message


def test_streamed_numbers_are_named_by_either_option(
    answer, fails, checkpoint, by_number, by_wnid, cache, tmp_path
):
    tars, names = tmp_path / "tars", tmp_path / "names.txt"
    tars.mkdir()
    shutil.copy(by_number / "val-000000.tar", tars)
    names.write_text("".join(f"{CLASSES[label].name}\n" for label in CHOSEN))
    arguments = ("--stream", "--views", 1, *ON_CPU)
    assert "--classes FILE" in fails(3, "eval", checkpoint, tars, *arguments).message
    expected = answer("eval", checkpoint, by_wnid, "--views", 1, *ON_CPU)
    for option in ("--classes", "--class-names"):
        found = answer("eval", checkpoint, tars, option, names, *arguments)
        assert found["matched_by"] == "name"
        assert found["log_loss"] == pytest.approx(expected["log_loss"], rel=1e-3)


def test_predictions_file_keeps_which_classes_were_meant(answer, checkpoint, by_name, tmp_path):
    path = tmp_path / "p.npz"
    answer("eval", checkpoint, by_name, "--views", 1, "--output", path, *ON_CPU)

    saved = load_predictions(path)

    names = sorted((CLASSES[label].name.title(), label) for label in CHOSEN)
    assert saved.outputs == tuple(label for _, label in names)
    assert saved.names == tuple(entry.name for entry in CLASSES)
    assert np.array_equal(np.array(saved.outputs)[saved.dataset_labels], saved.labels)
    some = saved.among_classes_of_dataset()
    np.testing.assert_allclose(some.probs.sum(axis=1), 1)
    assert some.classes == tuple(CLASSES[label].wnid for _, label in names)


def test_ensemble_on_a_subset_has_both_figures(answer, shown, runs, by_wnid, tmp_path):
    members = [run / "best.safetensors" for run in (runs.first, runs.second)]
    files = [tmp_path / "a.npz", tmp_path / "b.npz"]
    for member, path in zip(members, files, strict=True):
        evaluate(member, by_wnid, predictions=path, num_views=1)

    found = answer("ensemble", *files)

    both = [load_predictions(path) for path in files]
    probs = sum(one.probs.astype(float) for one in both) / 2
    labels = both[0].labels
    assert found["top5_error"] == pytest.approx(1 - topk_credit(probs, labels, 5).mean())
    some = probs[:, sorted(CHOSEN)]
    credit = topk_credit(some, both[0].dataset_labels, 5)
    assert found["subset"]["top5_error"] == pytest.approx(1 - credit.mean())
    assert all(member["subset"]["top5_interval"] for member in found["members"])
    run = answer("ensemble", *members, "--data", by_wnid, "--views", 1, *ON_CPU)
    assert run["subset"]["log_loss"] == pytest.approx(found["subset"]["log_loss"])
    text = " ".join(shown("ensemble", *files).split())
    assert "6 of the network's 10 classes" in text
    assert f"{found['subset']['top5_error']:.2%}" in text


def test_members_with_their_classes_in_another_order_are_averaged_by_class(
    answer, runs, dataset, tmp_path
):
    second, order = load_checkpoint(runs.second / "best.safetensors"), np.roll(np.arange(10), 3)
    second.classes = [second.classes[label] for label in order]
    for name in ("fc8.weight", "fc8.bias"):
        second.weights[name] = second.weights[name][order]
    save_checkpoint(tmp_path / "turned.safetensors", second)
    options = ("--data", dataset, "--views", 1, *ON_CPU)
    first = runs.first / "best.safetensors"

    found = answer("ensemble", first, tmp_path / "turned.safetensors", *options)

    expected = answer("ensemble", first, runs.second / "best.safetensors", *options)
    for name in ("top1_error", "top5_error", "log_loss"):
        assert found[name] == pytest.approx(expected[name])


def test_names_without_a_network_are_refused(fails, checkpoint, by_wnid, names_file, tmp_path):
    evaluate(checkpoint, by_wnid, predictions=tmp_path / "a.npz", num_views=1)
    files = (tmp_path / "a.npz", tmp_path / "a.npz")
    failure = fails(2, "ensemble", *files, "--class-names", names_file)
    assert "keep what their classes are called" in failure.message


def test_other_decoding_is_in_json_and_on_one_line(answer, shown, checkpoint, tmp_path):
    options = PrepOptions(size=112, apply_orientation=True)
    turned = make_dataset(tmp_path, {CLASSES[0].wnid: 0}, options)

    rules = answer("eval", checkpoint, turned, "--views", 1, *ON_CPU)["decode_rules"]

    assert rules["differ"]
    assert (rules["model"]["apply_orientation"], rules["dataset"]["apply_orientation"]) == (0, 1)
    text = shown("eval", checkpoint, turned, "--views", 1, *ON_CPU)
    (line,) = [line for line in text.splitlines() if "decoded differently" in line]
    assert "not turned and as EXIF says" in line


# --- ONNX models and run folders


def near(found: dict, expected: dict) -> None:
    """See that two evaluations found the same, but for rounding."""
    for name in ("top1_error", "top5_error"):
        assert found[name] == expected[name]
        assert (
            found[name.replace("error", "interval")] == expected[name.replace("error", "interval")]
        )
    assert found["log_loss"] == pytest.approx(expected["log_loss"], rel=1e-4)


@pytest.mark.parametrize("keep", [True, False])
def test_onnx_file_of_one_view_has_the_figures_of_its_checkpoint(
    answer, checkpoint, by_wnid, one_view, tmp_path, keep
):
    more = ("--output", tmp_path / "p.npz") if keep else ()

    found = answer("eval", one_view, by_wnid, *more, *ON_CPU)

    expected = answer("eval", checkpoint, by_wnid, *ON_CPU)
    near(found, expected)
    near(found["center"], expected["center"])
    near(found["subset"], expected["subset"])
    near(found["subset"]["center"], expected["subset"]["center"])
    assert (found["views"], found["model"]) == (10, str(one_view))


@pytest.fixture(scope="session")
def one_view(checkpoint, tmp_path_factory) -> Path:
    """The checkpoint exported with its center view. Read only."""
    path = tmp_path_factory.mktemp("onnx") / "one.onnx"
    export(checkpoint, path, num_views=1)
    return path


def test_onnx_file_of_ten_views_has_their_figure_and_that_of_the_center(
    answer, checkpoint, dataset, onnx_model, one_view, tmp_path
):
    paths = [tmp_path / "ten.npz", tmp_path / "one.npz"]
    found = answer("eval", onnx_model, dataset, "--output", paths[0], *ON_CPU)
    answer("eval", one_view, dataset, "--output", paths[1], *ON_CPU)

    expected = answer("eval", checkpoint, dataset, *ON_CPU)
    near(found, expected)
    near(found["center"], expected["center"])
    assert found["views"] == 10
    ten, one = map(load_predictions, paths)
    np.testing.assert_array_equal(ten.center_probs, one.center_probs)
    np.testing.assert_array_equal(ten.probs, one.probs)
    assert ten.weights_hash == load_checkpoint(checkpoint).weights_hash()


@pytest.mark.parametrize("views", [1, 9])
def test_views_of_an_onnx_file_can_be_chosen(answer, checkpoint, dataset, onnx_model, views):
    arguments = (dataset, "--views", views, *ON_CPU)
    near(answer("eval", onnx_model, *arguments), answer("eval", checkpoint, *arguments))


def test_torch_is_never_loaded_for_an_onnx_file(needs_no_torch, one_view, by_wnid):
    needs_no_torch("eval", one_view, by_wnid, "--views", 1, "--json", *ON_CPU)


@pytest.mark.parametrize("options", [("--gpus", 2), ("--precision", "bf16"), ("--columns", 1)])
def test_onnx_file_runs_on_torch_where_onnxruntime_cannot(
    answer, checkpoint, one_view, dataset, options
):
    arguments = (dataset, *options, "--views", 9, *ON_CPU)
    found = answer("eval", one_view, *arguments)
    near(found, answer("eval", checkpoint, *arguments))
    assert found["precision"] == ("bf16" if "bf16" in options else "fp32")


def test_onnx_file_for_images_of_another_size_is_refused(fails, one_view, tmp_path):
    larger = make_dataset(tmp_path, {CLASSES[0].wnid: 0}, PrepOptions(size=128))

    message = fails(3, "eval", one_view, larger, *ON_CPU).message

    assert "made for 112-pixel images" in message


def test_run_folder_stands_for_its_best_checkpoint(answer, runs, dataset):
    arguments = (dataset, "--views", 1, *ON_CPU)
    found = answer("eval", runs.first, *arguments)
    near(found, answer("eval", runs.first / "best.safetensors", *arguments))


def test_onnx_file_is_a_member_of_an_ensemble(answer, fails, runs, dataset, one_view, tmp_path):
    second, options = runs.second / "best.safetensors", ("--data", dataset, "--views", 1, *ON_CPU)

    found = answer("ensemble", one_view, second, *options)

    expected = answer("ensemble", runs.first / "best.safetensors", second, *options)
    assert found["log_loss"] == pytest.approx(expected["log_loss"], rel=1e-5)
    same = (runs.first / "best.safetensors", one_view, *options)
    assert "are the same network" in fails(3, "ensemble", *same).message
