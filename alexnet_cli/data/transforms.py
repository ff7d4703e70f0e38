"""uint8 batches -> the network's input, on the network's device (paper section 4.1).

Training: one random crop, mirrored half of the time, the mean subtracted, color noise. Testing: the
center crop, or the ten crops of the paper. Values stay on the 0..255 scale. The mean subtracted is
always the center crop of the mean image, wherever the crop was cut (2012 code,
convdata_jpeg.py:209; the paper does not say).

N images, V views, H and W the dataset's image size (256), S the crop size (224).
"""

import numpy as np
import torch
from torch import Tensor

from alexnet_cli.data.views import View, center_view, cut
from alexnet_cli.recipes.recipe import Recipe
from alexnet_cli.types import PixelStats


class Augmenter:
    """Turns uint8 RGB (N, H, W, 3) into float32 (N, 3, S, S), channels last.

    The values are 0..255 minus the mean, divided by the recipe's `pixel_scale`.
    """

    def __init__(self, recipe: Recipe, stats: PixelStats, device: torch.device):
        self.recipe, self.device = recipe, device
        self.image_size, self.crop_size = len(stats.mean_image), recipe.crop_size
        self.center = center_view(self.image_size, self.crop_size)
        self.mean = torch.from_numpy(cut(stats.mean_image, self.center, self.crop_size)).to(device)
        self.components = color_components(stats)

    def view(self, images: Tensor, view: View) -> Tensor:
        """Cut the same view out of every image, uint8 RGB (N, H, W, 3) on the device."""
        crops = cut(images, view, self.crop_size)
        return self._scale(self._center(crops.flip(2) if view.mirrored else crops))

    def random(
        self,
        images: Tensor,
        rng: np.random.Generator,
        *,
        with_noise: bool = True,
        part: tuple[slice, int] | None = None,
    ) -> Tensor:
        """Cut and mirror images at random and add color noise.

        Args:
            part: the rows of the whole batch that the images are, and the size of that batch. All
                random numbers are drawn for the whole batch, so replicas change nothing.
        """
        rows, num = part or (slice(None), len(images))
        share = self.recipe.share_crops
        groups, limit = -(-num // share), self.image_size - self.crop_size
        offsets = np.full((groups, 2), limit // 2)
        if self.recipe.random_crop:
            offsets = rng.integers(0, limit + 1, (groups, 2))  # section 4.1
        mirrored = rng.random(groups) < 0.5 if self.recipe.mirror else np.zeros(groups, bool)
        offsets, mirrored = (a.repeat(share, axis=0)[:num][rows] for a in (offsets, mirrored))
        crops = self._center(self._gather(images, offsets, mirrored))
        if self.recipe.color_noise and with_noise:
            draws = rng.normal(0.0, self.recipe.color_noise, (num, 3))
            self._add_color_noise(crops, draws[rows])
        return self._scale(crops)

    def _scale(self, crops: Tensor) -> Tensor:
        scale = self.recipe.pixel_scale
        return crops if scale == 1.0 else crops.div_(scale)

    def _add_color_noise(self, crops: Tensor, draws: np.ndarray) -> None:
        """Shift each crop along the principal components of RGB (section 4.1)."""
        shift = copy_async((draws @ self.components.T).astype(np.float32), self.device)
        crops += shift[:, :, None, None]
        if self.recipe.noise_rescaled:  # 2012 code, convdata_jpeg.py:154
            crops /= 1.0 + self.recipe.color_noise

    def _gather(self, images: Tensor, offsets: np.ndarray, mirrored: np.ndarray) -> Tensor:
        """Cut crops at `offsets` (N, 2) and mirror some, in one copy."""
        span = np.arange(self.crop_size)
        rows = offsets[:, :1] + span
        columns = offsets[:, 1:] + np.where(mirrored[:, None], span[::-1], span)
        batch = torch.arange(len(images), device=self.device)[:, None, None]
        indexes = (rows[:, :, None], columns[:, None, :])
        return images[batch, *(copy_async(index, self.device) for index in indexes)]

    def _center(self, crops: Tensor) -> Tensor:
        """Subtract the mean; uint8 (N, S, S, 3) -> float32 (N, 3, S, S) with channels last."""
        crops = crops.to(torch.float32).sub_(self.mean).permute(0, 3, 1, 2)
        return crops.contiguous() if self.device.type == "mps" else crops  # as in build_network


def copy_async(array: np.ndarray, device: torch.device) -> Tensor:
    """Return an array as a tensor on the device; on a CPU they share their memory.

    It is copied to a GPU from pinned memory; from other memory the call would wait for the work
    already launched.
    """
    tensor = torch.from_numpy(array)
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def color_components(stats: PixelStats) -> np.ndarray:
    """Return eigenvectors times standard deviations, float64 (3, 3), components in columns."""
    return stats.eigenvectors * np.sqrt(stats.eigenvalues)
