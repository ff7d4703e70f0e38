"""How fast is a training step of our network, against the same one from torch's own parts?

Times forward, backward and update on random crops, every variant once a round, the order turned
round by round; ratios are taken inside a round, and their median is printed.

    python tools/bench/train_step.py [--recipe paper] [--batch 128] [--rounds 5] [--threads 2]
        [--device cpu] [--variants stock,fp32,bf16]

`stock` is the network of the recipe with torch.nn.LocalResponseNorm and torch.optim.SGD as they
come, in float32; `stock-kept` is the same with our setting of the C library's memory;
`torchvision` is torchvision's alexnet, which has no norms and no groups, in the same plain loop.
Each variant is a process of its own, since that setting holds for a whole process. Compiled
variants print how long the first step took.
"""

import argparse
import multiprocessing
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.connection import Connection

import torch
import torch.nn.functional as F
import torchvision
from torch import nn

from alexnet_cli.distributed.device_plan import keep_freed_memory
from alexnet_cli.distributed.precision import allow_tf32, autocast
from alexnet_cli.model.network import AlexNet, initialize
from alexnet_cli.model.optimizer import build_optimizer
from alexnet_cli.recipes.catalog import find_recipe
from alexnet_cli.recipes.recipe import Recipe

CLASSES = 1000
VARIANTS = "stock,stock-kept,fp32,bf16,compiled,compiled-bf16,torchvision,torchvision-bf16"


class StockNorm(nn.Module):
    """torch's own layer on each column; it divides alpha by size."""

    def __init__(self, recipe: Recipe):
        super().__init__()
        r = recipe
        self.columns = recipe.columns
        alpha = r.lrn_alpha_per_square() * r.lrn_size
        self.norm = nn.LocalResponseNorm(r.lrn_size, alpha, r.lrn_beta, r.lrn_k)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([self.norm(part) for part in x.chunk(self.columns, dim=1)], dim=1)


def build_net(recipe: Recipe, variant: str) -> nn.Module:
    """Return ours, ours with torch's norms, or torchvision's."""
    if variant.startswith("torchvision"):
        return torchvision.models.alexnet(num_classes=CLASSES)
    net = AlexNet(recipe, CLASSES)
    initialize(net, 0)
    if variant.startswith("stock"):
        for name in [name for name, _ in net.named_children() if name.startswith("norm")]:
            setattr(net, name, StockNorm(recipe))
    return net


def build_update(net: nn.Module, recipe: Recipe, variant: str) -> tuple[Callable, Callable]:
    """Return what forgets gradients and what updates by them: ours, or torch.optim.SGD."""
    if variant.startswith(("stock", "torchvision")):
        sgd = torch.optim.SGD(net.parameters(), lr=1e-4, momentum=0.9, weight_decay=5e-4)
        return sgd.zero_grad, sgd.step
    ours = build_optimizer(replace(recipe, learning_rate=1e-4), net)
    return ours.zero_grad, ours.step


def build_step(recipe: Recipe, variant: str, x: torch.Tensor, labels: torch.Tensor) -> Callable:
    """Return a call that makes one step."""
    net = build_net(recipe, variant).to(x.device).train()
    zero_grad, update = build_update(net, recipe, variant)
    precision = "bf16" if variant.endswith("bf16") else "fp32"
    if variant.startswith("compiled"):
        net.compile()

    def step() -> None:
        with autocast(x.device, precision):
            scores = net(x)
        loss = F.cross_entropy(scores.float(), labels)
        zero_grad()
        loss.backward()
        update()

    return step


def seconds_of(step: Callable, device: torch.device) -> float:
    """Return the seconds of one step."""
    began = time.perf_counter()
    step()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began


def serve(pipe: Connection, variant: str, options: argparse.Namespace) -> None:
    """Make a step whenever asked to, and send back its seconds."""
    if variant not in ("stock", "torchvision", "torchvision-bf16"):
        keep_freed_memory()
    torch.set_num_threads(options.threads)
    allow_tf32("fp32")
    torch.manual_seed(0)
    recipe, device = find_recipe(options.recipe), torch.device(options.device)
    x = torch.randn(options.batch, 3, recipe.crop_size, recipe.crop_size, device=device).mul_(50)
    x = x.contiguous(memory_format=torch.channels_last)
    labels = torch.randint(CLASSES, (options.batch,), device=device)
    step = build_step(recipe, variant, x, labels)
    while pipe.recv():
        pipe.send(seconds_of(step, device))


class Process:
    """A variant in a process of its own."""

    def __init__(self, variant: str, options: argparse.Namespace):
        self.pipe, theirs = multiprocessing.Pipe()
        context = multiprocessing.get_context("spawn")
        self.process = context.Process(target=serve, args=(theirs, variant, options))
        self.process.start()

    def step(self) -> float:
        """Return the seconds of one step."""
        self.pipe.send(True)
        return self.pipe.recv()

    def end(self) -> None:
        """Let the process end."""
        self.pipe.send(False)
        self.process.join()


def main() -> None:
    """Print one line a variant."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipe", default="paper")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--variants", default=VARIANTS)
    options = parser.parse_args()
    names = options.variants.split(",")
    variants = {name: Process(name, options) for name in names}
    first = {name: variant.step() for name, variant in variants.items()}
    rounds = []
    for number in range(options.rounds):
        turned = names[number % len(names) :] + names[: number % len(names)]
        rounds.append({name: variants[name].step() for name in turned})
    for variant in variants.values():
        variant.end()
    for name in names:
        speed = options.batch / statistics.median(row[name] for row in rounds)
        ratios = sorted(row[names[0]] / row[name] for row in rounds)
        print(
            f"{name:17} {speed:8.1f} images/s  {statistics.median(ratios):5.2f} x {names[0]} "
            f"({ratios[0]:.2f} to {ratios[-1]:.2f}), first step {first[name]:.1f} s"
        )


if __name__ == "__main__":
    main()
