"""How many images a second each stage of training can take, from the disk to the update.

N images of a batch, S their side.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import simplejpeg
import torch
import torch.nn.functional as F

from alexnet_cli.bench.clock import Clock
from alexnet_cli.data.batches.loader import batches_of, epoch_order
from alexnet_cli.data.shards.dataset import Split
from alexnet_cli.distributed.precision import autocast
from alexnet_cli.distributed.prefetch import OnDevice, open_reader, to_device
from alexnet_cli.distributed.replicas import num_reading_threads
from alexnet_cli.model.checkpoint import TrainState
from alexnet_cli.model.schedule import Rates
from alexnet_cli.training.train_step import TrainStep
from alexnet_cli.training.trainer import READ_EVERY
from alexnet_cli.types import PixelStats

MARGIN = 32  # pixels that drawn images are larger than the crops; 256 and 224 in the paper
SAMPLES = 1024  # images that are read and decoded again and again
AHEAD = 8  # batches that our reader and its copies to the device have ready, at most
MIN_EPOCH = 500_000  # images of an epoch in a measurement, which its end would interrupt
RATES = Rates(1e-6, 1e-6)  # of the updates; labels are drawn, and nothing is to be learned


def drawn_stats(image_size: int) -> PixelStats:
    """Return pixel statistics for images of noise."""
    mean = np.full((image_size, image_size, 3), 127.5, np.float32)
    return PixelStats(mean, np.array([3e4, 1e3, 3e2]), np.eye(3), 0, "")


def draw_batch(num: int, image_size: int, num_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Return images of noise, uint8 (N, S, S, 3), and labels, int64 (N,)."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (num, image_size, image_size, 3), np.uint8)
    return images, rng.integers(0, num_classes, num)


@dataclass(slots=True)
class Steps:
    """A learner that is trained on the same drawn batch, or on a split, without an end.

    Attributes:
        num: images in a batch of all replicas.
        batch: this replica's share of it, on the device.
    """

    train_step: TrainStep
    clock: Clock
    num: int
    batch: OnDevice

    @property
    def device(self) -> torch.device:
        """Where images go."""
        return self.train_step.place.devices[0]

    def parts(self) -> dict[str, float]:
        """Return images a second of each part of a step on its own, on one replica."""
        train_step, rng, at = self.train_step, np.random.default_rng(0), {}
        images, labels = self.batch
        train_step.net.train()

        def augment() -> None:
            at["crops"] = train_step.augmenter.random(images, rng)

        def forward() -> None:
            with autocast(self.device, train_step.place.precision):
                at["scores"] = train_step.net(at["crops"])

        def backward() -> None:
            train_step.sgd.zero_grad()
            F.cross_entropy(at.pop("scores").float(), labels).backward()

        def update() -> None:
            train_step.sgd.step(RATES)

        works = (augment, forward, backward, update)
        seconds = self.clock.phases(*works)
        return {work.__name__: self.num / s for work, s in zip(works, seconds, strict=True)}

    def on_drawn(self) -> Callable[[], None]:
        """Return a call that makes one whole step, augmentation included, on the drawn batch."""
        step = self._stepper()
        return lambda: step(self.batch)

    def from_shards(self, split: Split) -> float:
        """Return images per second of whole steps on a split's images, read as in training.

        Raises:
            TooSlowError: the measurement would exceed the clock's limit.
        """
        step = self._stepper()
        return self._rate_of(step, split)

    def reader(self, split: Split) -> float:
        """Return images per second that arrive on the device, decoded, when nothing else runs.

        Raises:
            TooSlowError: the measurement would exceed the clock's limit.
        """
        return self._rate_of(lambda batch: None, split)

    def _rate_of(self, use: Callable[[OnDevice], None], split: Split) -> float:
        batches = self.batches(lengthen(split, MIN_EPOCH))
        try:
            return self.num * self.clock.stretch(lambda: use(next(batches)), AHEAD).rate
        finally:
            batches.close()

    def _stepper(self) -> Callable[[OnDevice], None]:
        """Return a call that makes one update on a batch."""
        at, rows = TrainState(), self.train_step.place.replicas
        tally = torch.zeros(3, dtype=torch.float64, device=self.device)

        def step(batch: OnDevice) -> None:
            loss = self.train_step.loss(batch, at, self.num, tally)
            at.step += 1
            if at.step % READ_EVERY == 0:
                rows.gather(tally)
            self.train_step.update(loss, RATES, at.step)

        return step

    def batches(self, split: Split) -> Iterator[OnDevice]:
        """Yield full batches in drawn order, epoch after epoch."""
        share, epoch = self.train_step.place.replicas.share, 0
        with open_reader(split, self.device, num_reading_threads()) as reader:
            while True:
                batches = batches_of(
                    split, self.num, shuffle=(0, epoch), share=share, reader=reader
                )
                for batch in to_device(batches, self.device):
                    if len(batch[1]) == len(self.batch[1]):
                        yield batch
                epoch += 1


def lengthen(split: Split, num: int) -> Split:
    """Return a split of at least `num` samples: those of the given one, again and again."""
    times = -(-num // len(split))
    return replace(split, samples=np.tile(split.samples, times)) if times > 1 else split


def measure_reading(split: Split, clock: Clock) -> dict[str, float]:
    """Return images a second of reading bytes (from memory, once read), and of decoding them."""
    positions = epoch_order(len(split), 0, 0)[:SAMPLES].tolist()
    parts = np.array_split(np.array(positions), 4 * num_reading_threads())
    with ThreadPoolExecutor(num_reading_threads()) as pool:
        jpegs = list(pool.map(split.jpeg, positions))
        read = clock.rate(lambda: list(pool.map(lambda part: _read(split, part), parts)))
        chunks = [jpegs[i :: len(parts)] for i in range(len(parts))]
        decode = clock.rate(lambda: list(pool.map(_decode, chunks)))
    return {"read": len(positions) * read, "decode": len(positions) * decode}


def _read(split: Split, positions: np.ndarray) -> None:
    for position in positions.tolist():
        split.jpeg(position)


def _decode(jpegs: list[bytes]) -> None:
    for jpeg in jpegs:
        simplejpeg.decode_jpeg(jpeg, "RGB")
