from dataclasses import replace

from alexnet_cli.inference.predictions import load_predictions


def test_json_has_both_errors_and_their_difference(answer, predictions):
    found = answer("compare", *predictions)

    assert (found["first"], found["second"]) == tuple(map(str, predictions))
    assert (found["images"], found["split"], found["subset"]) == (30, "val", None)
    for k in ("top1", "top5"):
        row = found[k]
        alone = [answer("errors", path) for path in predictions] if k == "top1" else []
        for which, errors in zip(("first", "second"), alone, strict=False):
            assert row[f"{which}_error"] == errors["top1_error"]
        assert len(row["only_first_images"]) == row["only_first"]
        assert row["interval"][0] < row["difference"] < row["interval"][1]
        assert 0 < row["p"] <= 1


def test_table_shows_errors_difference_and_p(answer, shown, predictions):
    found, text = answer("compare", *predictions), shown("compare", *predictions)

    lines = " ".join(text.replace("\u2502", " ").split())
    for letter, which in (("A", "first"), ("B", "second")):
        assert f"{letter}: {found[which]}" in lines
        errors = [f"{found[k][f'{which}_error']:.2%} (" for k in ("top1", "top5")]
        row = next(line for line in text.splitlines() if f"error of {letter}" in line)
        assert all(error in row for error in errors)
    row = next(line for line in text.splitlines() if "McNemar" in line)
    assert f"{found['top1']['p']:.2g}" in row
    row = next(line for line in text.splitlines() if "B minus A" in line)
    assert f"{found['top1']['difference']:+.2%}" in row


def test_torch_is_never_loaded(needs_no_torch, predictions):
    needs_no_torch("compare", *predictions, "--json")


def test_files_of_other_images_are_exit_3(fails, predictions, tmp_path):
    other = replace(load_predictions(predictions[1]), split="test")
    other.save(tmp_path / "other.npz")

    message = fails(3, "compare", predictions[0], tmp_path / "other.npz").message

    assert "differ in split: test and val" in message


def test_file_that_is_no_predictions_file_is_named(fails, predictions, checkpoint):
    message = fails(3, "compare", predictions[0], checkpoint).message
    assert f"{checkpoint}: a network, not a predictions file" in message
