import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from alexnet_cli.model.checkpoint import load_checkpoint, save_checkpoint
from alexnet_cli.types import DecodeRules

ON_CPU = ("--device", "cpu")


def probabilities_of(found: dict) -> list[dict[int, float]]:
    return [
        {row["label"]: row["probability"] for row in entry["predictions"]}
        for entry in found["images"]
    ]


def names_of(found: dict) -> list[str]:
    return [Path(entry["image"]).name for entry in found["images"]]


@pytest.fixture
def onnx_answer(answer, onnx_model):
    """Predict with the exported model."""

    def call(*arguments) -> dict:
        return answer("predict", *arguments, "--model", onnx_model, *ON_CPU)

    return call


def test_json_has_the_most_probable_classes_in_order(answer, checkpoint, images):
    found = answer("predict", images / "b.jpg", "--model", checkpoint, *ON_CPU)
    (entry,) = found["images"]
    assert entry["image"] == str(images / "b.jpg")
    assert len(entry["predictions"]) == 5
    assert all(set(row) == {"label", "wnid", "name", "probability"} for row in entry["predictions"])
    probabilities = [row["probability"] for row in entry["predictions"]]
    assert probabilities == sorted(probabilities, reverse=True)
    for row in entry["predictions"]:
        assert row["wnid"] == f"n{90000001 + row['label']}"


def test_top_limits_the_classes_that_are_shown(onnx_answer, images):
    (all_of_them,) = probabilities_of(onnx_answer(images / "b.jpg", "--top", 99))
    assert sum(all_of_them.values()) == pytest.approx(1, abs=1e-5)
    assert len(all_of_them) == 10
    assert len(probabilities_of(onnx_answer(images / "b.jpg", "--top", 1))[0]) == 1


def test_onnx_and_checkpoint_agree(answer, onnx_answer, checkpoint, images):
    expected = answer("predict", images, "--model", checkpoint, "--top", 10, *ON_CPU)
    found = onnx_answer(images, "--top", 10)
    assert found["views"] == expected["views"] == 10
    for mine, theirs in zip(probabilities_of(found), probabilities_of(expected), strict=True):
        assert mine == pytest.approx(theirs, abs=1e-3)


def test_one_view_differs_from_ten(answer, checkpoint, images):
    arguments = ("predict", images / "b.jpg", "--model", checkpoint, *ON_CPU)
    one, ten = answer(*arguments, "--views", 1), answer(*arguments)
    assert (one["views"], ten["views"]) == (1, 10)
    assert probabilities_of(one) != probabilities_of(ten)


def test_files_folders_and_globs_keep_the_order_named(onnx_answer, images, monkeypatch):
    found = onnx_answer(images / "sub" / "c.png", images, images / "*.jpg")
    assert names_of(found) == ["c.png", "a.JPEG", "b.jpg", "c.png", "b.jpg"]
    monkeypatch.chdir(images)
    assert names_of(onnx_answer("**/*.png", "?.JPEG")) == ["c.png", "a.JPEG"]


def test_text_shows_names_percent_and_bars(shown, answer, onnx_model, images):
    arguments = ("predict", images / "b.jpg", "--model", onnx_model, *ON_CPU)
    best = answer(*arguments)["images"][0]["predictions"][0]
    text = shown(*arguments)
    row = next(line for line in text.splitlines() if best["wnid"] in line)
    assert f"{best['probability']:.1%}" in row
    assert best["name"] in row


def test_newest_run_here_is_used_and_named(alexnet, runs, images, tmp_path, monkeypatch):
    for age, run in ((100, runs.second), (50, runs.first)):
        copy = shutil.copytree(run, tmp_path / "runs" / run.name)
        when = (copy / "best.safetensors").stat().st_mtime - age
        os.utime(copy / "best.safetensors", (when, when))
    monkeypatch.chdir(tmp_path)
    result = alexnet("predict", images / "b.jpg", *ON_CPU, "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["model"] == str(Path("runs/first/best.safetensors"))
    assert "runs/first/best.safetensors" in result.stderr


def test_no_run_here_asks_for_a_model(fails, images, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "--model" in fails(3, "predict", images / "b.jpg", *ON_CPU).message


def test_one_missing_image_is_a_row_with_its_reason(fails, onnx_model, images):
    names = (images / "b.jpg", images / "none.jpg", images / "sub" / "c.png")
    failure = fails(5, "predict", *names, "--model", onnx_model, *ON_CPU, "--json")
    entries = json.loads(failure.stdout)["images"]
    assert [entry["image"] for entry in entries] == [str(name) for name in names]
    assert "no such file" in entries[1]["error"]
    assert "predictions" not in entries[1]
    assert entries[0]["predictions"]
    assert entries[2]["predictions"]
    assert "1 of 3 images" in failure.message


def test_bad_image_is_shown_among_the_good(fails, onnx_model, images):
    names = (images / "notes.txt", images / "b.jpg")
    failure = fails(5, "predict", *names, "--model", onnx_model, *ON_CPU)
    assert "not-an-image" in failure.stdout
    assert "%" in failure.stdout


def test_only_bad_images_are_exit_3(fails, onnx_model, images):
    names = (images / "none.jpg", images / "notes.txt")
    failure = fails(3, "predict", *names, "--model", onnx_model, *ON_CPU, "--json")
    assert all("error" in entry for entry in json.loads(failure.stdout)["images"])
    assert "2 of 2 images" in failure.message


@pytest.mark.parametrize("name", ["https://example.org/cat.jpg", "file:///cat.jpg"])
def test_urls_are_refused(fails, onnx_model, name):
    failure = fails(2, "predict", "--model", onnx_model, "--", name)
    assert "not supported" in failure.message


def test_folder_or_glob_without_images_is_refused(fails, onnx_model, tmp_path):
    for name in (tmp_path, tmp_path / "*.jpg"):
        assert "no images there" in fails(2, "predict", name, "--model", onnx_model).message


@pytest.mark.parametrize("name", ["bad.onnx", "bad.safetensors"])
@pytest.mark.parametrize("content", [b"", b"no model here"])
def test_model_that_is_none_is_refused(fails, images, tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    arguments = (images / "b.jpg", "--model", tmp_path / name, *ON_CPU)
    assert f"{name}: not an" in fails(3, "predict", *arguments).message


@pytest.mark.parametrize("name", ["none.onnx", "none.safetensors"])
def test_missing_model_is_refused(fails, images, tmp_path, name):
    arguments = (images / "b.jpg", "--model", tmp_path / name, *ON_CPU)
    assert "no such file" in fails(3, "predict", *arguments).message


@pytest.mark.parametrize("views", [1, 9])
def test_views_of_an_exported_model_can_be_chosen(answer, checkpoint, onnx_model, images, views):
    arguments = ("predict", images / "b.jpg", "--views", views, *ON_CPU, "--model")
    found, expected = (answer(*arguments, model) for model in (onnx_model, checkpoint))
    assert found["views"] == views
    rows, others = (result["images"][0]["predictions"] for result in (found, expected))
    assert [row["label"] for row in rows] == [row["label"] for row in others]
    probs, exact = ([row["probability"] for row in part] for part in (rows, others))
    assert probs == pytest.approx(exact, rel=1e-4)


@pytest.mark.parametrize(
    "wrong", [("--views", 3), ("--top", 0), ("--device", "banana"), ("--device", "CPU")]
)
def test_impossible_values_are_refused_by_the_parser(wrong_command_line, onnx_model, images, wrong):
    arguments = (images / "b.jpg", "--model", onnx_model, *wrong)
    assert wrong[0] in wrong_command_line("predict", *arguments)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device is here")
@pytest.mark.parametrize("model", ["onnx_model", "checkpoint"])
def test_cuda_that_is_not_there_is_exit_4(fails, request, images, model):
    path = request.getfixturevalue(model)
    arguments = (images / "b.jpg", "--model", path, "--device", "cuda", "--json")
    failure = fails(4, "predict", *arguments)
    assert "--device cpu" in failure.message
    assert failure.stdout == ""


def test_hostile_names_are_escaped(alexnet, onnx_model, images, tmp_path):
    name = "red\x1b[31m\nwarning [bold]x[dim] :smile:.jpg"
    shutil.copy(images / "b.jpg", tmp_path / name)
    (tmp_path / f"{name}.png").write_text("no image")
    arguments = ("predict", tmp_path, "--model", onnx_model)
    text = alexnet(*arguments, *ON_CPU)
    assert text.exit_code == 5
    assert "\x1b" not in text.output
    assert r"red\x1b[31m\nwarning [bold]x[dim] :smile:.jpg" in text.stdout
    assert r"red\x1b[31m" in text.stderr
    found = json.loads(alexnet(*arguments, *ON_CPU, "--json").stdout)
    assert Path(found["images"][0]["image"]).name == name


def test_names_that_are_no_utf8_are_escaped(alexnet, onnx_model, images, tmp_path):
    name = os.fsdecode(b"caf\xe9.jpg")
    shutil.copy(images / "b.jpg", tmp_path / name)
    text = alexnet("predict", tmp_path, "--model", onnx_model, *ON_CPU)
    assert text.exit_code == 0
    assert r"caf\udce9.jpg" in text.stdout


def test_image_named_like_an_option_can_be_given(onnx_answer, images, tmp_path, monkeypatch):
    shutil.copy(images / "b.jpg", tmp_path / "--help.jpg")
    monkeypatch.chdir(tmp_path)
    assert names_of(onnx_answer("./--help.jpg")) == ["--help.jpg"]


def test_torch_is_never_loaded_for_onnx(needs_no_torch, onnx_model, images):
    needs_no_torch("predict", images / "b.jpg", "--model", onnx_model, *ON_CPU)


def test_line_break_in_the_name_of_a_image_found_in_a_folder_ends_no_line(
    fails, onnx_model, tmp_path
):
    (tmp_path / "a\nb.jpg").write_text("no image")

    message = fails(3, "predict", tmp_path, "--model", onnx_model).message

    assert r"a\nb.jpg: not-an-image" in message


def test_files_of_a_folder_are_those_that_prep_reads_and_the_others_are_counted(
    shown, onnx_answer, onnx_model, images, tmp_path
):
    for name in ("a.jfif", "no_suffix", "._b.jpg", "boxes.xml"):
        shutil.copy(images / "b.jpg", tmp_path / name)
    found = onnx_answer(tmp_path)
    assert names_of(found) == ["a.jfif", "no_suffix"]
    assert found["ignored"] == {"hidden file": 1, "note beside the images": 1}
    text = shown("predict", tmp_path, "--model", onnx_model, *ON_CPU)
    assert "passed over: 1 hidden file" in text


def test_over_long_name_is_a_row_among_the_others(fails, onnx_model, images):
    names = (images / "b.jpg", images / f"{'x' * 300}.jpg")
    failure = fails(5, "predict", *names, "--model", onnx_model, *ON_CPU, "--json")
    good, bad = json.loads(failure.stdout)["images"]
    assert good["predictions"]
    assert "File name too long" in bad["error"]


def test_folder_that_cannot_be_listed_is_a_row_among_the_others(
    fails, onnx_model, images, tmp_path, monkeypatch
):
    (tmp_path / "closed").mkdir()
    shutil.copy(images / "b.jpg", tmp_path / "b.jpg")
    scandir = os.scandir

    def fail(path):
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", fail)
    failure = fails(5, "predict", tmp_path, "--model", onnx_model, *ON_CPU, "--json")
    good, bad = json.loads(failure.stdout)["images"]
    assert good["predictions"]
    assert bad["image"].endswith("closed")


def test_run_folder_stands_for_its_best_checkpoint(answer, runs, images):
    best, run = runs.first / "best.safetensors", runs.first
    predictions = [
        answer("predict", images / "b.jpg", "--model", path, *ON_CPU)["images"]
        for path in (best, run)
    ]
    assert predictions[0] == predictions[1]
    assert answer("info", run)["about"] == answer("info", best)["about"]


def test_folder_that_is_no_run_is_no_model(fails, images):
    failure = fails(3, "predict", images / "b.jpg", "--model", images, *ON_CPU)
    assert "a folder without best.safetensors" in failure.message


@pytest.mark.parametrize("kind", ["checkpoint", "onnx"])
def test_rules_of_decoding_travel_with_the_model(answer, checkpoint, images, tmp_path, kind):
    rules = DecodeRules(apply_orientation=True)
    model = tmp_path / "upright.safetensors"
    save_checkpoint(model, replace(load_checkpoint(checkpoint), rules=rules))
    assert load_checkpoint(model).rules == rules
    if kind == "onnx":
        answer("export", model, "-o", tmp_path / "upright.onnx")
        model = tmp_path / "upright.onnx"
    exif = Image.Exif()
    exif[0x0112] = 6
    with Image.open(images / "b.jpg") as image:
        image.save(tmp_path / "rotated.png", exif=exif)
        image.transpose(Image.Transpose.ROTATE_270).save(tmp_path / "upright.png")
        image.save(tmp_path / "plain.png")
    names = [tmp_path / f"{name}.png" for name in ("rotated", "upright", "plain")]
    rotated, upright, plain = probabilities_of(answer("predict", *names, "--model", model, *ON_CPU))
    assert rotated == pytest.approx(upright, abs=1e-6)
    assert rotated != pytest.approx(plain, abs=1e-6)


def test_class_named_by_its_wnid_is_shown_with_the_words_of_imagenet(
    shown, answer, checkpoint, images, tmp_path
):
    source = load_checkpoint(checkpoint)
    wnids = ["n01440764", "n01443537"]
    classes = [(w, w) for w in wnids] + [(w, n) for w, n in source.classes[2:]]
    path = tmp_path / "wnids.safetensors"
    save_checkpoint(path, replace(source, classes=classes))
    arguments = ("predict", images / "b.jpg", "--model", path, "--top", 10, *ON_CPU)
    (entry,) = answer(*arguments)["images"]
    names = {row["wnid"]: row["name"] for row in entry["predictions"]}
    assert names["n01440764"] == "tench, Tinca tinca"
    assert names["n90000003"] == source.classes[2][1]
    assert "goldfish (n01443537)" in shown(*arguments)


def test_pictures_are_shown_on_a_terminal_only(monkeypatch, shown, alexnet, onnx_model, images):
    plain = shown("predict", images, "--model", onnx_model)
    assert shown("predict", images, "--model", onnx_model, "--show") == plain
    monkeypatch.setattr("alexnet_cli.cli.pictures.can_draw", lambda: True)
    drawn = shown("predict", images, "--model", onnx_model, "--show")
    assert drawn.count("\u2580" * 24) == 3 * 12
    rest = [line for line in drawn.splitlines() if "\u2580" not in line]
    assert rest == plain.splitlines()


def test_pictures_are_for_people(wrong_command_line, onnx_model, images):
    arguments = ("predict", images, "--model", onnx_model, "--show")
    assert "table for people" in wrong_command_line(*arguments, "--json")
    assert "table for people" in wrong_command_line(*arguments, "--format", "csv")
