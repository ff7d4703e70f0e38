"""How fast is training on a CPU, alone and beside busy processes, by OpenMP's waiting?

Trains a recipe on a prepared dataset as `alexnet train` does: images decoded by threads, crops,
steps, the loss read after each step. Every setting has one process, started before the first
round; in each round it trains once alone and once beside `while True: pass`, the order turned round
by round. Other training processes sleep meanwhile.

    python tools/bench/beside_others.py DATASET [--recipe demo] [--batch 0] [--threads 2]
        [--busy 2] [--seconds 4] [--rounds 5] [--settings default,chosen]

`default` is the OpenMP runtime's own waiting, `chosen` what the `alexnet` command sets, `passive`
no busy waiting at all (OMP_WAIT_POLICY=PASSIVE GOMP_SPINCOUNT=0), and a number is a GOMP_SPINCOUNT.

Speeds are medians over rounds, in images/s. The fair share of training is threads / (threads +
busy) of the processor time when the cores are as many as the threads, so `share` is the speed
beside the busy processes divided by that part of the speed alone: 1.00 loses nothing to waiting.
`alone` is compared with the first setting inside each round.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path

from alexnet_cli.cli.openmp import WAITING_VARIABLES, limit_busy_waiting

ROUND_WARM_UP_STEPS = 2


def train_on_request(options: argparse.Namespace) -> None:
    """Train for the seconds that each line of stdin asks for; answer with images/s."""
    import torch

    from alexnet_cli.data.batches.loader import batches_of
    from alexnet_cli.data.pixel_stats import load_pixel_stats
    from alexnet_cli.data.shards.dataset import open_dataset
    from alexnet_cli.distributed.device_plan import Runtime
    from alexnet_cli.distributed.prefetch import OnDevice, to_device
    from alexnet_cli.model.checkpoint import TrainState
    from alexnet_cli.model.schedule import LearningRates
    from alexnet_cli.recipes.catalog import find_recipe
    from alexnet_cli.training.train_step import TrainStep

    torch.set_num_threads(options.threads)
    recipe, dataset = find_recipe(options.recipe), open_dataset(options.dataset)
    size = options.batch or recipe.batch_size
    cpu = torch.device("cpu")
    stats = load_pixel_stats(dataset.folder, dataset.fingerprint)
    train_step = TrainStep(recipe, len(dataset.classes), stats, Runtime((cpu,)))
    train_step.begin()
    split = dataset.split("train")
    tally = torch.zeros(3, dtype=torch.float64)
    rates = LearningRates(weights=1e-4, biases=1e-4)

    def batches() -> Iterator[OnDevice]:
        for epoch in count():
            order = {"shuffle": (0, epoch), "num_threads": options.threads}
            yield from to_device(batches_of(split, size, **order), cpu)

    def step(batch: OnDevice, number: int) -> int:
        num = len(batch[1])
        loss = train_step.loss(batch, TrainState(step=number), num, tally)
        tally.tolist()
        train_step.update(loss, rates, number + 1)
        return num

    feed = enumerate(batches())
    for line in sys.stdin:
        for _ in range(ROUND_WARM_UP_STEPS):
            number, batch = next(feed)
            step(batch, number)
        began, seen = time.perf_counter(), 0
        while (elapsed := time.perf_counter() - began) < float(line):
            number, batch = next(feed)
            seen += step(batch, number)
        print(seen / elapsed, flush=True)


def environment_of(setting: str) -> dict[str, str]:
    """Return this process's environment with one setting of OpenMP's waiting."""
    environment = {k: v for k, v in os.environ.items() if k not in WAITING_VARIABLES}
    if setting == "chosen":
        limit_busy_waiting(environment)
    elif setting == "passive":
        environment |= {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0"}
    elif setting != "default":
        environment["GOMP_SPINCOUNT"] = setting
    return environment


@contextmanager
def busy_processes(number: int) -> Iterator[None]:
    """Keep some processes busy meanwhile."""
    command = [sys.executable, "-c", "while True: pass"]
    processes = [subprocess.Popen(command) for _ in range(number)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


@contextmanager
def trainer(setting: str) -> Iterator[subprocess.Popen]:
    """Start a process that trains on request."""
    command = [sys.executable, __file__, *sys.argv[1:], "--child"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=environment_of(setting), **pipes) as process:
        try:
            yield process
        finally:
            process.stdin.close()


def speed_of(process: subprocess.Popen, seconds: float) -> float:
    """Let a process train; return images/s."""
    process.stdin.write(f"{seconds}\n")
    process.stdin.flush()
    return float(process.stdout.readline())


def main() -> None:
    """Print one line a setting."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--recipe", default="demo")
    parser.add_argument("--batch", type=int, default=0, help="0: the recipe's own.")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--busy", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--settings", default="default,chosen")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        train_on_request(options)
        return
    names = options.settings.split(",")
    fair = options.threads / (options.threads + options.busy)
    alone, beside = [], []
    with ExitStack() as stack:
        trainers = {name: stack.enter_context(trainer(name)) for name in names}
        for process in trainers.values():
            speed_of(process, 1.0)  # the first steps are slow
        for number in range(options.rounds):
            order = names[number % len(names) :] + names[: number % len(names)]
            alone.append({name: speed_of(trainers[name], options.seconds) for name in order})
            with busy_processes(options.busy):
                beside.append({name: speed_of(trainers[name], options.seconds) for name in order})
    for name in names:
        quiet = statistics.median(row[name] for row in alone)
        shared = statistics.median(row[name] for row in beside)
        ratios = sorted(row[name] / row[names[0]] for row in alone)
        shares = sorted(b[name] / (fair * a[name]) for a, b in zip(alone, beside, strict=True))
        print(
            f"{name:9} alone {quiet:7.1f} images/s, {statistics.median(ratios):.2f} x {names[0]} "
            f"({ratios[0]:.2f} to {ratios[-1]:.2f}); beside {options.busy} busy processes "
            f"{shared:7.1f} images/s, share {statistics.median(shares):.2f} "
            f"({shares[0]:.2f} to {shares[-1]:.2f})"
        )


if __name__ == "__main__":
    main()
