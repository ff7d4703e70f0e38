import csv
from dataclasses import replace

import pytest

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
