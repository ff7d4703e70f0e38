"""The peer: torchvision's alexnet in a plain PyTorch loop, as its users write one.

torchvision's network is that of a later paper: no response normalisation, no groups, other widths.
"""

import io
from collections.abc import Callable

import torch
import torch.nn.functional as F
import torchvision
from PIL import Image
from torch.utils import data
from torchvision import transforms

from alexnet_cli.cores import num_cores
from alexnet_cli.data.shards.dataset import Split
from alexnet_cli.engine.bench.clock import Clock
from alexnet_cli.engine.devices.precision import autocast

MIN_CROP = 63  # of its last pooling something must be left
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Jpegs(data.Dataset):
    """The pictures of a split as torchvision's users read them: Pillow, then their transforms."""

    def __init__(self, split: Split, crop_size: int):
        self.split, self.labels = split, split.labels
        self.transform = transforms.Compose(
            [
                transforms.RandomCrop(crop_size),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(MEAN, STD),
            ]
        )

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, position: int) -> tuple[torch.Tensor, int]:
        with Image.open(io.BytesIO(self.split.jpeg(position))) as image:
            return self.transform(image.convert("RGB")), int(self.labels[position])


class Peer:
    """torchvision's alexnet with torch's own SGD on one device."""

    def __init__(self, num_classes: int, clock: Clock, precision: str, *, compiled: bool):
        self.clock, self.precision, self.device = clock, precision, clock.devices[0]
        self.num_classes = num_classes
        self.net = torchvision.models.alexnet(num_classes=num_classes).to(self.device).train()
        self.sgd = torch.optim.SGD(self.net.parameters(), lr=1e-6, momentum=0.9, weight_decay=5e-4)
        if compiled:
            self.net.compile()

    def on_drawn(self, num: int, crop_size: int) -> Callable[[], None]:
        """Return a call that makes one step on a drawn batch, float32 on the device."""
        images = torch.randn(num, 3, crop_size, crop_size, device=self.device)
        labels = torch.randint(self.num_classes, (num,), device=self.device)
        return lambda: self._step(images, labels)

    def from_jpegs(
        self, split: Split, num: int, crop_size: int, num_workers: int | None = None
    ) -> float:
        """Return pictures a second of steps on a split's pictures through a DataLoader.

        Args:
            num_workers: by default one a core.
        """
        workers = num_cores() if num_workers is None else num_workers
        loader = data.DataLoader(
            Jpegs(split, crop_size),
            num,
            shuffle=True,
            drop_last=True,
            num_workers=workers,
            pin_memory=self.device.type == "cuda",
            persistent_workers=workers > 0,
        )

        def batches():
            while True:
                yield from loader

        endless = batches()
        return num * self.clock.rate(lambda: self._step(*next(endless)))

    def _step(self, images: torch.Tensor, labels: torch.Tensor) -> None:
        images = images.to(self.device, non_blocking=True)
        labels = labels.to(self.device, non_blocking=True)
        with autocast(self.device, self.precision):
            loss = F.cross_entropy(self.net(images), labels)
        self.sgd.zero_grad()
        loss.backward()
        self.sgd.step()
