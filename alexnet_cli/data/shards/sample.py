"""One labeled image of a dataset."""

from dataclasses import dataclass, field

import numpy as np
import simplejpeg
from PIL import Image


@dataclass(frozen=True, slots=True)
class Sample:
    """One labeled image of a dataset.

    Attributes:
        key: its WebDataset key.
        jpeg: the content of its file.
        label: the position of its class in the dataset's classes.
        name: the name of its class.
    """

    key: str
    jpeg: bytes = field(repr=False)
    label: int
    name: str

    @property
    def pixels(self) -> np.ndarray:
        """uint8 RGB (H, W, 3)."""
        return simplejpeg.decode_jpeg(self.jpeg, "RGB")

    @property
    def image(self) -> Image.Image:
        """The image for Pillow."""
        return Image.fromarray(self.pixels)
