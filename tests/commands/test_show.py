"""`alexnet show`: counts of classes, and sheets whose tiles are the images of the dataset."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from alexnet_cli.data.shards.dataset import open_dataset
from alexnet_cli.figures import sheet

TINY = ("--set", "crop_size=99")


@pytest.fixture
def drawn(monkeypatch) -> list[np.ndarray]:
    """Keep what is drawn instead of writing a file."""
    images: list[np.ndarray] = []
    monkeypatch.setattr(sheet, "show_image", lambda _axes, image, **_: images.append(image))
    monkeypatch.setattr(sheet, "save", lambda _figure, _path: None)
    return images


def test_counts_are_those_of_the_labels(answer, dataset):
    found = answer("show", dataset)
    assert found["splits"] == {"train": 60, "val": 30}
    assert [row["images"] for row in found["classes"]] == [{"train": 6, "val": 3}] * 10
    assert found["sheet"] is None


def test_text_of_many_classes_shows_the_smallest_and_largest(shown, dataset, monkeypatch):
    text = shown("show", dataset)
    assert "images of each class" in text
    monkeypatch.setattr("alexnet_cli.commands.show.MAX_ROWS", 9)
    text = shown("show", dataset)
    assert "smallest classes" in text
    assert "half of the classes have at least 6 images in train" in text


def test_sheet_shows_the_images_of_each_class(answer, dataset, drawn, tmp_path):
    found = answer("show", dataset, "-o", tmp_path / "s.png", "--count", 4, "--split", "val")

    split = open_dataset(dataset).split("val")
    keys = split.keys()
    assert len(drawn) == len(found["sheet"]["numbers"]["shown"]) == 10
    for label, (image, shown) in enumerate(
        zip(drawn, found["sheet"]["numbers"]["shown"], strict=True)
    ):
        assert len(shown) == 3
        for place, key in enumerate(shown):
            position = keys.index(key)
            assert split.labels[position] == label
            left = 1 + place * 113
            assert (image[1:113, left : left + 112] == split[position].pixels).all()


def test_classes_are_chosen_by_name_and_the_seed_decides_the_images(answer, dataset, tmp_path):
    def images(seed: int) -> dict:
        arguments = ("--class", "n90000004", "--count", 3, "--seed", seed)
        found = answer("show", dataset, "-o", tmp_path / "s.png", *arguments)["sheet"]
        with Image.open(tmp_path / "s.png") as image:
            assert image.size[0] > 300
        return found["numbers"]

    assert images(0) == images(0)
    assert images(0)["shown"] != images(1)["shown"]
    assert len(images(0)["classes"]) == 1


def test_augmented_images_are_crops_and_the_mean_is_subtracted(dataset, tiny_recipe):
    """Without color noise the steps can be computed from the image by hand."""
    opened = open_dataset(dataset)
    image, mean = opened["train"][7].pixels, opened.load_pixel_stats().mean_image[6:105, 6:105]
    recipe = replace(tiny_recipe, color_noise=0.0, pixel_scale=2.0)

    crop, noisy, *inputs = sheet.augmentation_of(opened, recipe, image, (3,))

    crops = {
        pixels[top : top + 99, left : left + 99].tobytes()
        for pixels in (image, image[:, ::-1])
        for top in range(14)
        for left in range(14)
    }
    assert crop.tobytes() in crops
    assert (noisy == crop).all()
    expected = np.rint(crop - mean + 127.5).clip(0, 255)
    assert np.abs(inputs[0] - expected).max() <= 1
    assert len({array.tobytes() for array in inputs}) == len(inputs) == 5


def test_color_noise_shifts_the_colors_of_a_crop(dataset, tiny_recipe):
    opened = open_dataset(dataset)
    image = np.full((112, 112, 3), 128, np.uint8)
    crop, noisy, *_ = sheet.augmentation_of(opened, tiny_recipe, image, (1,))
    assert (crop == 128).all()
    shifts = np.unique(noisy.reshape(-1, 3), axis=0)
    assert len(shifts) == 1
    assert (shifts != 128).any()


def test_augmented_sheet_has_a_row_of_each_class(answer, dataset, drawn, tmp_path):
    found = answer("show", dataset, "-o", tmp_path / "s.png", "--augmented", *TINY)["sheet"]
    assert found["numbers"]["augmented"] == "paper"
    assert len(drawn) == 8 * len(sheet.STAGES)
    assert {image.shape for image in drawn} == {(112, 112, 3), (99, 99, 3)}


def test_large_images_are_shrunk():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (2, 256, 256, 3), dtype=np.uint8)
    for small, image in zip(sheet.thumbnails(images), images, strict=True):
        means = image.reshape(128, 2, 128, 2, 3).mean(axis=(1, 3))
        assert np.abs(small - means).max() <= 1


def test_unknown_class_and_class_without_images_are_refused(fails, dataset, tmp_path):
    out = ("-o", tmp_path / "s.png")
    assert "there is none" in fails(2, "show", dataset, *out, "--class", "unicorn").message
    assert not (tmp_path / "s.png").exists()


def test_crop_larger_than_the_images_is_refused(fails, dataset, tmp_path):
    failure = fails(3, "show", dataset, "-o", tmp_path / "s.png", "--augmented")
    assert "crops of 224" in failure.message


def test_options_of_a_sheet_need_a_file(wrong_command_line, dataset, tmp_path):
    options = (
        ["--augmented"],
        ["--class", "x"],
        ["--split", "val"],
        ["--count", "3"],
        ["--seed", "1"],
    )
    for option in (*options, ["--theme", "dark"]):
        assert "requires -o FILE" in wrong_command_line("show", dataset, *option)
    out = ("-o", tmp_path / "s.png")
    assert "is for --augmented" in wrong_command_line("show", dataset, *out, *TINY)
    assert "--seed" in wrong_command_line("show", dataset, *out, "--seed", -1)


def test_counts_need_neither_torch_nor_matplotlib(needs_no_torch, dataset):
    needs_no_torch("show", dataset)


def test_tars_without_an_index_are_to_be_made_a_dataset(fails, tars):
    failure = fails(3, "show", tars)
    assert "train, eval, errors and pca read them as they are: --stream" in failure.message
    assert f"alexnet prep '{tars}' DATASET" in failure.message
