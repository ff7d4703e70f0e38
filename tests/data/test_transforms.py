"""Views and random crops against explicit slices; colors against their distribution."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from alexnet_cli.data.pixel_stats import principal_components
from alexnet_cli.data.transforms import Augmenter, color_components
from alexnet_cli.data.views import View, center_view, nine_views, ten_views, views_of
from alexnet_cli.recipes.recipe import PAPER
from alexnet_cli.types import PixelStats

SIZE, CROP = 12, 8  # offsets 0..4
# Neither random crops, nor mirroring, nor color noise: each test enables what it is about.
PLAIN = replace(PAPER, crop_size=CROP, random_crop=False, mirror=False, color_noise=0.0)
COVARIANCE = np.array([[900.0, 400, 100], [400, 700, 250], [100, 250, 500]])


def some_stats(mean_image: np.ndarray | None = None) -> PixelStats:
    values, vectors = principal_components(COVARIANCE)
    if mean_image is None:
        mean_image = np.zeros((SIZE, SIZE, 3), np.float32)
    return PixelStats(mean_image, values, vectors, 1, "f")


def augmenter(stats: PixelStats | None = None, **changes) -> Augmenter:
    return Augmenter(replace(PLAIN, **changes), stats or some_stats(), torch.device("cpu"))


def images(num: int, *, seed: int = 0) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.integers(0, 256, (num, SIZE, SIZE, 3), dtype=np.uint8))


def coordinates(num: int) -> torch.Tensor:
    """Images whose red is the row and whose green is the column of each pixel."""
    rows, columns = np.mgrid[:SIZE, :SIZE]
    image = np.stack([rows, columns, 0 * rows], axis=-1).astype(np.uint8)
    return torch.from_numpy(image).expand(num, -1, -1, -1)


def channels_last(crops: torch.Tensor) -> np.ndarray:
    return crops.permute(0, 2, 3, 1).numpy()


def test_ten_views_are_corners_and_center_then_the_same_mirrored():
    offsets = [(0, 0), (0, 32), (16, 16), (32, 0), (32, 32)]
    expected = [View(top, left, False) for top, left in offsets]
    expected += [View(top, left, True) for top, left in offsets]
    assert ten_views(256, 224) == expected


def test_center_view_is_one_of_the_ten_and_not_mirrored():
    for image_size, crop_size in ((256, 224), (256, 227), (112, 99), (12, 12)):
        assert center_view(image_size, crop_size) == ten_views(image_size, crop_size)[2]


def test_ten_views_are_these_slices():
    batch = images(3)
    x = batch.numpy().astype(np.float32)
    corners = [x[:, :8, :8], x[:, :8, 4:], x[:, 2:10, 2:10], x[:, 4:, :8], x[:, 4:, 4:]]
    expected = corners + [corner[:, :, ::-1] for corner in corners]
    found = [augmenter().view(batch, view) for view in ten_views(SIZE, CROP)]
    for crops, reference in zip(found, expected, strict=True):
        np.testing.assert_array_equal(channels_last(crops), reference)


def test_nine_views_are_three_by_three_and_none_is_mirrored():
    offsets = [(0, 0), (0, 4), (0, 8), (4, 0), (4, 4), (4, 8), (8, 0), (8, 4), (8, 8)]
    assert nine_views(32, 24) == [View(top, left, False) for top, left in offsets]


def test_center_view_is_the_middle_of_the_nine():
    for image_size, crop_size in ((32, 24), (33, 24), (256, 224), (12, 12)):
        assert center_view(image_size, crop_size) == nine_views(image_size, crop_size)[4]


def test_nine_views_are_these_slices():
    batch = images(3)
    x = batch.numpy().astype(np.float32)
    found = [channels_last(augmenter().view(batch, view)) for view in nine_views(SIZE, CROP)]
    top, middle, bottom = x[:, :8], x[:, 2:10], x[:, 4:]
    expected = [*thirds(top), *thirds(middle), *thirds(bottom)]
    for crops, reference in zip(found, expected, strict=True):
        np.testing.assert_array_equal(crops, reference)


def thirds(rows: np.ndarray) -> list[np.ndarray]:
    """Cut the left, the middle and the right eight of twelve columns."""
    return [rows[:, :, :8], rows[:, :, 2:10], rows[:, :, 4:]]


def test_views_are_chosen_by_their_number_and_hold_the_center_once():
    assert views_of(1, 32, 24) == [View(4, 4, False)]
    assert views_of(9, 32, 24) == nine_views(32, 24)
    assert views_of(10, 32, 24) == ten_views(32, 24)
    for num_views in (1, 9, 10):
        views = views_of(num_views, 32, 24)
        assert len(views) == len(set(views)) == num_views
        assert views.count(center_view(32, 24)) == 1


def test_crop_is_float32_nchw_with_channels_last_in_memory():
    crops = augmenter().view(images(3), center_view(SIZE, CROP))
    assert (crops.shape, crops.dtype) == ((3, 3, CROP, CROP), torch.float32)
    assert crops.is_contiguous(memory_format=torch.channels_last)


def test_random_crops_have_the_form_of_views():
    noisy = augmenter(random_crop=True, mirror=True, color_noise=0.1)
    crops = noisy.random(images(3), np.random.default_rng(0))
    assert (crops.shape, crops.dtype) == ((3, 3, CROP, CROP), torch.float32)
    assert crops.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("view", ten_views(SIZE, CROP))
def test_mean_subtracted_is_its_center_crop_for_every_view(view):
    mean_image = np.random.default_rng(4).uniform(0, 255, (SIZE, SIZE, 3)).astype(np.float32)
    batch = images(2)
    plain = augmenter().view(batch, view)
    centerd = augmenter(some_stats(mean_image)).view(batch, view)
    expected = np.broadcast_to(mean_image[2:10, 2:10], (2, CROP, CROP, 3))
    np.testing.assert_allclose(channels_last(plain - centerd), expected, atol=1e-4)


def test_mean_subtracted_is_its_center_crop_for_random_crops():
    mean_image = np.random.default_rng(4).uniform(0, 255, (SIZE, SIZE, 3)).astype(np.float32)
    choices = {"random_crop": True, "mirror": True}
    batch = images(5)
    plain = augmenter(**choices).random(batch, np.random.default_rng(1))
    centerd = augmenter(some_stats(mean_image), **choices).random(batch, np.random.default_rng(1))
    expected = np.broadcast_to(mean_image[2:10, 2:10], (5, CROP, CROP, 3))
    np.testing.assert_allclose(channels_last(plain - centerd), expected, atol=1e-4)


def test_center_is_cut_without_augmentation():
    batch = images(4)
    found = augmenter().random(batch, np.random.default_rng(0))
    assert torch.equal(found, augmenter().view(batch, center_view(SIZE, CROP)))


def test_every_offset_is_drawn_both_ends_included():
    crops = augmenter(random_crop=True).random(coordinates(1500), np.random.default_rng(2))
    corners = {(int(row), int(column)) for row, column in crops[:, :2, 0, 0]}
    assert corners == {(row, column) for row in range(5) for column in range(5)}


def test_every_offset_is_drawn_about_equally_often():
    crops = augmenter(random_crop=True).random(coordinates(5000), np.random.default_rng(3))
    numbers = (crops[:, 0, 0, 0] * 5 + crops[:, 1, 0, 0]).to(torch.int64)
    counts = np.bincount(numbers.numpy(), minlength=25)
    assert ((counts - 200) ** 2 / 200).sum() < 51.2  # chi squared, 24 degrees: p = 0.001


def test_random_crop_is_a_slice_of_its_image():
    batch = images(20)
    where = augmenter(random_crop=True).random(coordinates(20), np.random.default_rng(5))
    found = augmenter(random_crop=True).random(batch, np.random.default_rng(5))
    for crop, image, corner in zip(
        channels_last(found), batch.numpy(), where[:, :2, 0, 0], strict=True
    ):
        top, left = (int(offset) for offset in corner)
        np.testing.assert_array_equal(crop, image[top : top + CROP, left : left + CROP])


def test_crop_is_mirrored_half_of_the_time():
    crops = augmenter(mirror=True).random(coordinates(2000), np.random.default_rng(6))
    mirrored = (crops[:, 1, 0, 0] > crops[:, 1, 0, -1]).numpy()
    assert abs(mirrored.mean() - 0.5) < 3.3 * 0.5 / 2000**0.5


def test_mirrored_random_crop_is_the_flipped_slice():
    rng = np.random.default_rng(7)
    batch = images(16)
    crops = channels_last(augmenter(mirror=True).random(batch, rng))
    center = batch.numpy()[:, 2:10, 2:10]
    flipped = [(crop == image[:, ::-1]).all() for crop, image in zip(crops, center, strict=True)]
    straight = [(crop == image).all() for crop, image in zip(crops, center, strict=True)]
    assert all(a != b for a, b in zip(flipped, straight, strict=True))
    assert 0 < sum(flipped) < 16


def test_mirroring_does_not_change_the_offsets():
    crops = augmenter(mirror=True, random_crop=True).random(
        coordinates(500), np.random.default_rng(8)
    )
    columns = torch.minimum(crops[:, 1, 0, 0], crops[:, 1, 0, -1])
    assert set(columns.tolist()) == {0.0, 1.0, 2.0, 3.0, 4.0}


def shifts(num: int, alpha: float = 0.1) -> np.ndarray:
    """The color added to each of `num` black images, float64 (num, 3)."""
    black = torch.zeros((num, SIZE, SIZE, 3), dtype=torch.uint8)
    crops = augmenter(color_noise=alpha).random(black, np.random.default_rng(9))
    assert (crops == crops[:, :, :1, :1]).all()
    return crops[:, :, 0, 0].numpy().astype(np.float64)


def test_color_noise_has_the_covariance_of_the_pixels_times_alpha_squared():
    drawn = np.cov(shifts(20_000), rowvar=False)
    np.testing.assert_allclose(drawn, 0.1**2 * COVARIANCE, rtol=0.1)


def test_color_noise_is_normal_with_zero_mean():
    num = 20_000
    along = shifts(num) @ np.linalg.inv(0.1 * color_components(some_stats()).T)
    assert np.abs(along.mean(axis=0)).max() < 4 / num**0.5
    np.testing.assert_allclose((np.abs(along) < 1).mean(axis=0), 0.6827, atol=0.015)


def test_components_of_color_noise_are_independent():
    along = shifts(20_000) @ np.linalg.inv(0.1 * color_components(some_stats()).T)
    np.testing.assert_allclose(np.corrcoef(along, rowvar=False), np.eye(3), atol=0.03)


def test_every_image_gets_its_own_color_noise():
    assert len(np.unique(shifts(50), axis=0)) == 50


def test_color_components_square_to_the_covariance():
    components = color_components(some_stats())
    np.testing.assert_allclose(components @ components.T, COVARIANCE)


def test_same_generator_state_gives_the_same_crops():
    noisy = augmenter(random_crop=True, mirror=True, color_noise=0.1)
    a, b = (noisy.random(images(9), np.random.default_rng(1)) for _ in range(2))
    assert torch.equal(a, b)


def test_another_generator_state_gives_other_crops():
    noisy = augmenter(random_crop=True, mirror=True, color_noise=0.1)
    a, b = (noisy.random(images(9), np.random.default_rng(seed)) for seed in (1, 2))
    assert not torch.equal(a, b)


def test_random_state_of_torch_is_not_used():
    noisy = augmenter(random_crop=True, mirror=True, color_noise=0.1)
    before = torch.get_rng_state()
    noisy.random(images(4), np.random.default_rng(1))
    assert torch.equal(torch.get_rng_state(), before)


def test_images_given_are_not_changed():
    batch = images(4)
    before = batch.clone()
    noisy = augmenter(random_crop=True, mirror=True, color_noise=0.1)
    noisy.random(batch, np.random.default_rng(1))
    for view in ten_views(SIZE, CROP):
        noisy.view(batch, view)
    assert torch.equal(batch, before)


def test_crop_as_large_as_the_image_is_the_image():
    whole = Augmenter(
        replace(PLAIN, crop_size=SIZE, random_crop=True), some_stats(), torch.device("cpu")
    )
    batch = images(3)
    found = whole.random(batch, np.random.default_rng(0))
    np.testing.assert_array_equal(channels_last(found), batch.numpy())


# --- as in the 2012 code


def test_consecutive_images_share_crop_and_reflection():
    crops = augmenter(random_crop=True, mirror=True, share_crops=4).random(
        coordinates(10), np.random.default_rng(0)
    )
    groups = [crops[0:4], crops[4:8], crops[8:10]]
    assert all(torch.equal(crop, group[0]) for group in groups for crop in group)
    assert not torch.equal(groups[0][0], groups[1][0])


def test_shared_crops_get_their_own_color_noise():
    crops = augmenter(share_crops=4, color_noise=0.1).random(
        torch.zeros(4, SIZE, SIZE, 3, dtype=torch.uint8), np.random.default_rng(0)
    )
    assert len({float(crop[0, 0, 0]) for crop in crops}) == 4


def test_only_crops_with_color_noise_are_rescaled():
    batch, noisy = images(3), augmenter(color_noise=0.1, noise_rescaled=True)
    plain = augmenter(color_noise=0.1).random(batch, np.random.default_rng(5))
    rescaled = noisy.random(batch, np.random.default_rng(5))
    quiet = noisy.random(batch, np.random.default_rng(5), with_noise=False)

    np.testing.assert_allclose(rescaled.numpy() * 1.1, plain.numpy(), rtol=1e-5, atol=1e-4)
    assert torch.equal(quiet, augmenter().random(batch, np.random.default_rng(5)))
