"""The baseline: torchvision's alexnet in a plain PyTorch loop.

It is the network of a later paper: no response normalization, no groups, other widths.
"""

import io
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
import torchvision
from PIL import Image
from torch.utils import data
from torchvision import transforms

from alexnet_cli.bench.clock import Clock, Stretch
from alexnet_cli.data.shards.dataset import Split
from alexnet_cli.distributed.precision import autocast
from alexnet_cli.io.cores import num_cores

MIN_CROP = 63  # the smallest crop of which its last pooling leaves something
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
PREFETCH_FACTOR = 2  # torch's default
LARGE_BATCH = 1024  # from here on one batch per worker: two of 2,048 on 16 cores are 39 GB
TIMEOUT_SECONDS = 60  # without a batch; then torch raises a RuntimeError


class JpegDataset(data.Dataset):
    """The images of a split, read by Pillow and torchvision's transforms."""

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

    def __getstate__(self) -> tuple:
        """Leave out the open files of the split, because a worker process opens its own."""
        split = self.split
        fields = (split.name, split.folder, split.shards, split.samples, split.image_size)
        return fields, self.transform

    def __setstate__(self, state: tuple) -> None:
        fields, self.transform = state
        self.split = Split(*fields)
        self.labels = self.split.labels


class Baseline:
    """torchvision's alexnet with torch's own SGD on one device."""

    def __init__(self, num_classes: int, clock: Clock, precision: str, *, compiled: bool):
        self.clock, self.precision, self.device = clock, precision, clock.devices[0]
        self.num_classes = num_classes
        self.net = torchvision.models.alexnet(num_classes=num_classes).to(self.device).train()
        self.sgd = torch.optim.SGD(self.net.parameters(), lr=1e-6, momentum=0.9, weight_decay=5e-4)
        if compiled:
            self.net.compile()

    def on_drawn(self, num: int, crop_size: int) -> Callable[[], None]:
        """Return a call that runs one step on a random float32 batch on the device."""
        images = torch.randn(num, 3, crop_size, crop_size, device=self.device)
        labels = torch.randint(self.num_classes, (num,), device=self.device)
        return lambda: self._step(images, labels)

    def from_jpegs(
        self, split: Split, num: int, crop_size: int, num_workers: int | None = None
    ) -> Stretch:
        """Time steps on a split's images through one DataLoader, and end its workers.

        Batches that were ready before the clock began are used up first, and several times as many
        are timed. Random orders follow each other without a pause at the end of an epoch.

        Args:
            num: images per batch.
            num_workers: worker processes; by default one per core.

        Raises:
            RuntimeError: if a worker ended, or made no batch within `TIMEOUT_SECONDS`.
            TooSlowError: if the measurement would exceed the clock's limit.
        """
        workers = num_cores() if num_workers is None else num_workers
        factor = 1 if num >= LARGE_BATCH else PREFETCH_FACTOR
        options: dict[str, Any] = {}
        if workers:
            # Spawned, because a forked process could wait for the locks of this one's threads.
            options = {"prefetch_factor": factor, "multiprocessing_context": "spawn"}
            options |= {"timeout": TIMEOUT_SECONDS}
        batches: Any = iter(
            data.DataLoader(
                JpegDataset(split, crop_size),
                num,
                sampler=_endless_order(len(split)),
                num_workers=workers,
                pin_memory=self.device.type == "cuda",
                **options,
            )
        )
        try:
            return self.clock.stretch(lambda: self._step(*next(batches)), max(1, workers * factor))
        finally:
            batches = None  # the last reference; this ends the workers and waits for them

    def _step(self, images: torch.Tensor, labels: torch.Tensor) -> None:
        images = images.to(self.device, non_blocking=True)
        labels = labels.to(self.device, non_blocking=True)
        with autocast(self.device, self.precision):
            loss = F.cross_entropy(self.net(images), labels)
        self.sgd.zero_grad()
        loss.backward()
        self.sgd.step()


def _endless_order(num: int) -> Iterator[int]:
    """Yield the positions of all images in one random order after the other."""
    while True:
        yield from torch.randperm(num).tolist()
