"""How fast is one training step of the network, and what does response normalisation cost?

Times forward, backward and update on random patches, one variant after the other in each round, and
prints images/s and the ratio to `stock`: the same network with torch.nn.LocalResponseNorm.

    python tools/bench/train_step.py [--recipe paper] [--batch 32] [--rounds 5] [--device cpu]
"""

import argparse
import statistics
import time

import torch
import torch.nn.functional as F
from torch import nn

from alexnet_cli.model.alexnet import AlexNet, initialize
from alexnet_cli.model.sgd import PaperSGD
from alexnet_cli.recipe import Recipe
from alexnet_cli.recipes import find_recipe

CLASSES = 1000


class StockNorm(nn.Module):
    """torch's own layer on each column; it divides alpha by size."""

    def __init__(self, recipe: Recipe):
        super().__init__()
        r = recipe
        self.columns = recipe.columns
        self.norm = nn.LocalResponseNorm(r.lrn_size, r.lrn_alpha * r.lrn_size, r.lrn_beta, r.lrn_k)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([self.norm(part) for part in x.chunk(self.columns, dim=1)], dim=1)


def build(recipe: Recipe, variant: str, device: str) -> tuple[AlexNet, PaperSGD]:
    """Return a network whose norms are ours, torch's or left out."""
    net = AlexNet(recipe, CLASSES)
    initialize(net, 0)
    for name, _ in list(net.named_children()):
        if name.startswith("norm") and variant != "ours":
            setattr(net, name, StockNorm(recipe) if variant == "stock" else nn.Identity())
    net = net.to(device)
    return net, PaperSGD(net, recipe)


def time_step(net: AlexNet, sgd: PaperSGD, x: torch.Tensor, labels: torch.Tensor) -> float:
    """Return the seconds of one step."""
    began = time.perf_counter()
    loss = F.cross_entropy(net(x), labels)
    sgd.zero_grad()
    loss.backward()
    sgd.step(1e-4)
    if x.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - began


def main() -> None:
    """Print one line a variant."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipe", default="paper")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    recipe = find_recipe(arguments.recipe)
    x = torch.randn(arguments.batch, 3, recipe.crop_size, recipe.crop_size).mul_(50)
    x = x.to(arguments.device, memory_format=torch.channels_last)
    labels = torch.randint(CLASSES, (arguments.batch,), device=arguments.device)
    variants = {name: build(recipe, name, arguments.device) for name in ("stock", "ours", "none")}
    rounds: list[dict[str, float]] = []
    for _ in range(arguments.rounds + 1):
        rounds.append({name: time_step(*pair, x, labels) for name, pair in variants.items()})
    for name in variants:
        seconds = statistics.median(row[name] for row in rounds[1:])
        ratio = statistics.median(row["stock"] / row[name] for row in rounds[1:])
        print(f"{name:6} {arguments.batch / seconds:8.1f} images/s   {ratio:5.2f} x stock")


if __name__ == "__main__":
    main()
