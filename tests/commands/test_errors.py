import csv
from dataclasses import replace

import numpy as np
import pytest

from alexnet_cli.cli.tables import short_name
from alexnet_cli.inference.predictions import load_predictions

ON_CPU = ("--device", "cpu")


@pytest.mark.parametrize("kind", ["checkpoint", "run folder", "onnx"])
def test_model_gives_what_its_predictions_file_gives(
    answer, runs, onnx_model, dataset, tmp_path, kind
):
    best, path = runs.first / "best.safetensors", tmp_path / "p.npz"
    model = {"checkpoint": best, "run folder": runs.first, "onnx": onnx_model}[kind]
    answer("eval", best, dataset, "--output", path, *ON_CPU)

    found = answer("errors", model, dataset, *ON_CPU)

    expected = answer("errors", path)
    assert (found.pop("source"), expected.pop("source")) == (str(model), str(path))
    for row in [*found.pop("mistakes"), *expected["mistakes"]]:
        row.pop("probability"), row.pop("label_probability")
    del expected["mistakes"]
    assert found == expected
    assert (found["images"], len(found["classes"])) == (30, 10)


def test_tables_show_classes_pairs_and_mistakes(answer, shown, predictions):
    found, text = answer("errors", predictions[0]), shown("errors", predictions[0], "--top", 3)

    assert f"top-1 error {found['top1_error']:.2%}" in text
    worst = max(found["classes"], key=lambda row: row["top1_error"])
    low, high = (f"{100 * end:.1f}" for end in worst["top1_interval"])
    assert f"{worst['top1_error']:.2%} ({low}-{high})" in text
    assert found["mistakes"][0]["image"] in text
    assert f"{found['mistakes'][0]['probability']:.1%}" in text
    for title in ("highest error", "most confused pairs", "most confident mistakes"):
        assert title in text


def test_csv_has_every_class(answer, shown, predictions, tmp_path):
    path = tmp_path / "new" / "classes.csv"
    path.parent.mkdir()

    text = shown("errors", predictions[0], "-o", path)

    assert "errors of 10 classes" in text
    with path.open(newline="") as file:
        rows = [*csv.DictReader(file)]
    found = answer("errors", predictions[0])["classes"]
    assert [row["wnid"] for row in rows] == [row["wnid"] for row in found]
    assert [float(row["top1_error"]) for row in rows] == [row["top1_error"] for row in found]


def test_names_from_data_stay_on_their_line(shown, predictions, tmp_path):
    found = load_predictions(predictions[0])
    names = ("a\nb[bold]\x1b[2J", *found.names[1:])
    replace(found, names=names).save(tmp_path / "odd.npz")

    text = shown("errors", tmp_path / "odd.npz")

    assert "\x1b" not in text
    assert "a\\nb[bold]" in text


def test_torch_is_never_loaded_for_a_predictions_file(needs_no_torch, predictions):
    needs_no_torch("errors", predictions[0], "--json")


def test_predictions_file_with_a_dataset_and_model_without_are_exit_2(
    fails, predictions, checkpoint, dataset
):
    assert "needs no dataset" in fails(2, "errors", predictions[0], dataset).message
    assert "needs a dataset" in fails(2, "errors", checkpoint).message


def test_csv_that_cannot_be_written_is_exit_4(fails, predictions, tmp_path):
    (tmp_path / "file").write_text("")
    fails(4, "errors", predictions[0], "-o", tmp_path / "file" / "x.csv")


def test_csv_never_replaces_a_file_of_another_kind(fails, predictions, tmp_path):
    model = tmp_path / "model.onnx"
    model.write_bytes(b"weights")
    assert "does not end in .csv" in fails(2, "errors", predictions[0], "-o", model).message
    assert model.read_bytes() == b"weights"


def test_folder_instead_of_predictions_is_called_a_network(fails, runs, predictions):
    found = fails(3, "compare", runs.first, predictions[0])
    assert f"{runs.first}: a network, not a predictions file" in found.message
    assert f"alexnet eval {runs.first} DATASET -o FILE.npz" in found.message


def test_missing_predictions_are_called_missing(fails, predictions, tmp_path):
    path = tmp_path / "none.npz"
    found = fails(3, "compare", predictions[0], path)
    assert f"{path}: No such file or directory." in found.message


@pytest.mark.parametrize("fault", ["logarithms", "twice", "no images"])
def test_what_are_no_probabilities_of_images_is_refused(fails, predictions, tmp_path, fault):
    with np.load(predictions[0]) as content:
        arrays = dict(content)
    num = 0 if fault == "no images" else len(arrays["keys"])
    for name in ("keys", "probs", "center_probs", "labels"):
        if name in arrays:
            arrays[name] = arrays[name][:num]
    for name in {"probs", "center_probs"} & {*arrays}:
        arrays[name] = np.log(arrays[name]) if fault == "logarithms" else 2 * arrays[name]
    np.savez(tmp_path / "p.npz", **arrays)
    problem = "it has no images" if fault == "no images" else "do not add up to 1"
    assert problem in fails(3, "errors", tmp_path / "p.npz").message


def test_names_of_folders_are_shown_whole_and_words_of_wnids_are_cut():
    assert short_name("Smith, John", "Smith, John") == "Smith, John"
    assert short_name("n02012849", "crane, bird") == "crane"
