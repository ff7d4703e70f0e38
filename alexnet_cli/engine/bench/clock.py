"""Times work that devices do on their own, together with other replicas that do the same."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from alexnet_cli.engine.devices.replicas import ALONE, Replicas

CHUNKS = 5
FEWEST = 3  # where one call takes longer than a chunk should


@dataclass(frozen=True, slots=True)
class Clock:
    """Repeats work for some seconds.

    Attributes:
        devices: those to wait for, since a GPU works on after the call returns.
        seconds: that a measurement is to take, after one call to warm up.
        replicas: repeat as often as each other, as they wait for each other's gradients.
    """

    devices: tuple[torch.device, ...]
    seconds: float
    replicas: Replicas = ALONE

    def rate(self, work: Callable[[], object]) -> float:
        """Return how often a second the work is done: the median over some chunks of time."""
        return self.rates(work)[0]

    def rates(self, *works: Callable[[], object]) -> list[float]:
        """Return the same of several works, a chunk of each in turn, so that they can be compared.

        Chunks of calls are not interrupted: a GPU is waited for at their ends only.
        """
        plans = [self._plan(work) for work in works]
        rounds = [
            [calls / self.time(work, calls) for work, (calls, _) in zip(works, plans, strict=True)]
            for _ in range(max(chunks for _, chunks in plans))
        ]
        return [statistics.median(column) for column in zip(*rounds, strict=True)]

    def _plan(self, work: Callable[[], object]) -> tuple[int, int]:
        """Warm up, and return the calls of a chunk and the number of chunks."""
        self.time(work)
        share = self.seconds / CHUNKS / max(self.time(work), 1e-9)
        least = self.replicas.gather(torch.tensor([share], dtype=torch.float64)).min().item()
        return max(1, int(least)), min(CHUNKS, max(FEWEST, int(least * CHUNKS)))

    def phases(self, *works: Callable[[], object]) -> list[float]:
        """Return the median seconds of each of some works that follow each other, in rounds."""
        rounds, began = [], time.perf_counter()
        while len(rounds) < FEWEST + 1 or time.perf_counter() - began < self.seconds:
            rounds.append([self.time(work) for work in works])
        return [statistics.median(column) for column in zip(*rounds[1:], strict=True)]

    def time(self, work: Callable[[], object], calls: int = 1) -> float:
        """Return the seconds of some calls, until the devices are done."""
        self._wait()
        began = time.perf_counter()
        for _ in range(calls):
            work()
        self._wait()
        return time.perf_counter() - began

    def _wait(self) -> None:
        for device in self.devices:
            if device.type == "cuda":
                torch.cuda.synchronize(device)
