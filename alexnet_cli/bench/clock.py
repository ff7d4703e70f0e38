"""Times work on devices that run asynchronously, together with other replicas."""

import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from alexnet_cli.distributed.replicas import ALONE, Replicas

CHUNKS = 5
FEWEST = 3  # chunks, if one call takes longer than a chunk should
LIMIT_SECONDS = 30.0
STRETCH = 4  # minimum number of timed calls per call whose input can be ready


class TooSlowError(Exception):
    """A measurement would take longer than the clock's limit."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """A measurement of work whose input is prepared ahead of it.

    Attributes:
        rate: calls per second.
        calls: number of timed calls.
        seconds: that they took.
        ahead: number of calls whose input can be ready before it is needed.
    """

    rate: float
    calls: int
    seconds: float
    ahead: int


@dataclass(frozen=True, slots=True)
class Clock:
    """Repeats work for some seconds.

    Attributes:
        devices: to synchronize with, since calls return before a GPU is done.
        seconds: that a measurement takes, after one call to warm up.
        replicas: all of them repeat equally often, because they wait for each other's gradients.
        limit: seconds; a measurement that would take longer is skipped.
    """

    devices: tuple[torch.device, ...]
    seconds: float
    replicas: Replicas = ALONE
    limit: float = LIMIT_SECONDS

    def rate(self, work: Callable[[], object]) -> float:
        """Return calls per second: the median over some chunks of time.

        Raises:
            TooSlowError: if the minimum number of calls would exceed the limit.
        """
        return self.rates(work)[0]

    def rates(self, *works: Callable[[], object]) -> list[float]:
        """Return calls per second of several works, one chunk of each in turn, to compare them.

        A GPU is only synchronized at the end of a chunk.
        """
        plans = [self._plan(work) for work in works]
        rounds = [
            [calls / self.time(work, calls) for work, (calls, _) in zip(works, plans, strict=True)]
            for _ in range(max(chunks for _, chunks in plans))
        ]
        return [statistics.median(column) for column in zip(*rounds, strict=True)]

    def _plan(self, work: Callable[[], object]) -> tuple[int, int]:
        """Warm up, and return the calls per chunk and the number of chunks."""
        self.time(work)
        seconds = self.of_slowest(self.time(work))
        self.check_limit(FEWEST, seconds)
        share = self.seconds / CHUNKS / seconds
        return max(1, int(share)), min(CHUNKS, max(FEWEST, int(share * CHUNKS)))

    def stretch(self, work: Callable[[], object], ahead: int) -> Stretch:
        """Time work whose input is prepared ahead of it, such as batches of a loader.

        The first `ahead` calls, whose input may be ready, are not timed. At least `STRETCH` times
        as many calls follow, so a different amount of prepared input at the beginning and the end
        cannot change the rate by more than 1 / STRETCH.

        Raises:
            TooSlowError: if that many calls would exceed the limit.
        """
        work()
        began = time.perf_counter()
        for _ in range(ahead - 1):
            work()
            if self.replicas.world_size == 1:  # several replicas must make equally many calls
                self.check_limit(1, time.perf_counter() - began)
        mine = self.time(work, ahead)
        block = self.of_slowest(mine)
        self.check_limit(STRETCH, block)
        blocks = max(STRETCH, math.ceil(self.seconds / block))
        seconds = mine + self.time(work, ahead * (blocks - 1))
        return Stretch(ahead * blocks / seconds, ahead * blocks, seconds, ahead)

    def phases(self, *works: Callable[[], object]) -> list[float]:
        """Return the median seconds of each of several works that are run in rounds.

        Raises:
            TooSlowError: if the minimum number of rounds would exceed the limit.
        """
        rounds: list[list[float]] = []
        began = time.perf_counter()
        while len(rounds) < FEWEST + 1 or time.perf_counter() - began < self.seconds:
            rounds.append([self.time(work) for work in works])
            if len(rounds) == 2:
                self.check_limit(FEWEST, sum(rounds[-1]))
        return [statistics.median(column) for column in zip(*rounds[1:], strict=True)]

    def time(self, work: Callable[[], object], calls: int = 1) -> float:
        """Return the seconds of some calls, until the devices are done."""
        self._wait()
        began = time.perf_counter()
        for _ in range(calls):
            work()
        self._wait()
        return time.perf_counter() - began

    def check_limit(self, times: int, seconds: float) -> None:
        """Raise a TooSlowError if repeating something would exceed the limit."""
        if times * seconds > self.limit:
            raise TooSlowError(
                f"would take {times * seconds:.0f} s or more, the limit is {self.limit:.0f} s"
            )

    def of_slowest(self, seconds: float) -> float:
        """Return the largest of all replicas' seconds."""
        rows = self.replicas.all_gather(torch.tensor([seconds], dtype=torch.float64))
        return max(rows.max().item(), 1e-9)

    def _wait(self) -> None:
        for device in self.devices:
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            elif device.type == "mps":
                torch.mps.synchronize()
