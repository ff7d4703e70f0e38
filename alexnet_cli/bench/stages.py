"""The speed of each stage of training, from the disk to the update, in images per second.

N images of a batch, S their side.
"""

from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import simplejpeg
import torch
import torch.nn.functional as F

from alexnet_cli.bench.clock import Clock
from alexnet_cli.data.batches.loader import batches_of, epoch_order
from alexnet_cli.data.shards.dataset import Split
from alexnet_cli.distributed.precision import autocast, sums_dtype
from alexnet_cli.distributed.prefetch import OnDevice, open_reader, to_device
from alexnet_cli.distributed.replicas import num_reading_threads
from alexnet_cli.model.checkpoint import TrainState
from alexnet_cli.model.optimizer import set_learning_rates
from alexnet_cli.model.schedule import LearningRates
from alexnet_cli.training.train_step import TrainStep
from alexnet_cli.training.trainer import READ_EVERY
from alexnet_cli.types import PixelStats

MARGIN = 32  # pixels by which drawn images exceed the crops; 256 and 224 in the paper
SAMPLES = 1024  # images that are read and decoded repeatedly
AHEAD = 8  # maximum number of batches that the reader and its copies have ready
MIN_EPOCH = 500_000  # images per epoch, whose end would interrupt a measurement
RATES = LearningRates(1e-6, 1e-6)  # of the updates; labels are random


def drawn_stats(image_size: int) -> PixelStats:
    """Return pixel statistics for random images."""
    mean = np.full((image_size, image_size, 3), 127.5, np.float32)
    return PixelStats(mean, np.array([3e4, 1e3, 3e2]), np.eye(3), 0, "")


def draw_batch(num: int, image_size: int, num_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Return random images, uint8 (N, S, S, 3), and labels, int64 (N,)."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (num, image_size, image_size, 3), np.uint8)
    return images, rng.integers(0, num_classes, num)


@dataclass(slots=True)
class Steps:
    """A network that is trained on the same random batch, or on a split, without end.

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
        """The device that receives images."""
        return self.train_step.runtime.device

    def parts(self) -> dict[str, float]:
        """Return images per second of each part of a step, on one replica."""
        train_step = self.train_step
        rng = np.random.default_rng(0)
        kept = {}
        images, labels = self.batch
        train_step.net.train()

        def augment() -> None:
            kept["crops"] = train_step.augmenter.random(images, rng)

        def forward() -> None:
            with autocast(self.device, train_step.runtime.precision):
                kept["scores"] = train_step.net(kept["crops"])

        def backward() -> None:
            train_step.optimizer.zero_grad()
            F.cross_entropy(kept.pop("scores").float(), labels).backward()

        def update() -> None:
            set_learning_rates(train_step.optimizer, RATES)
            train_step.optimizer.step()

        works = (augment, forward, backward, update)
        seconds = self.clock.phases(*works)
        return {work.__name__: self.num / s for work, s in zip(works, seconds, strict=True)}

    def on_drawn(self) -> Callable[[], None]:
        """Return a call that runs one whole step, with augmentation, on the random batch."""
        step = self._stepper()
        return lambda: step(self.batch)

    def from_shards(self, split: Split) -> float:
        """Return images per second of whole steps on a split's images, read as in training.

        Raises:
            TooSlowError: if the measurement would exceed the clock's limit.
        """
        return self._rate_of(self._stepper(), split)

    def reader(self, split: Split) -> float:
        """Return images per second that arrive on the device, decoded, when nothing else runs.

        Raises:
            TooSlowError: if the measurement would exceed the clock's limit.
        """
        return self._rate_of(lambda batch: None, split)

    def _rate_of(self, use: Callable[[OnDevice], None], split: Split) -> float:
        batches = self.batches(lengthen(split, MIN_EPOCH))
        try:
            return self.num * self.clock.stretch(lambda: use(next(batches)), AHEAD).rate
        finally:
            batches.close()

    def _stepper(self) -> Callable[[OnDevice], None]:
        """Return a call that runs one update on a batch."""
        state = TrainState()
        tally = torch.zeros(3, dtype=sums_dtype(self.device), device=self.device)

        def step(batch: OnDevice) -> None:
            loss = self.train_step.loss(batch, state, self.num, tally)
            state.step += 1
            if state.step % READ_EVERY == 0:
                self.train_step.runtime.replicas.all_gather(tally)
            self.train_step.update(loss, RATES, state.step)

        return step

    def batches(self, split: Split) -> Generator[OnDevice, None, None]:
        """Yield full batches in random order, epoch after epoch."""
        share = self.train_step.runtime.replicas.share
        epoch = 0
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
    """Return a split of at least `num` samples: those of the given one, repeated."""
    times = -(-num // len(split))
    return replace(split, samples=np.tile(split.samples, times)) if times > 1 else split


def measure_reading(split: Split, clock: Clock) -> dict[str, float]:
    """Return images per second of reading bytes, which are cached, and of decoding them."""
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
