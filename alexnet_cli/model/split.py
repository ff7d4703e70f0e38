"""The network split over two devices, one column on each (section 3.2), in one process.

The columns run independently up to each layer that reads both; there each device receives the
other's activations, and autograd carries the gradients back the same way. The class scores are
summed, or concatenated, on the first device.
"""

from functools import reduce
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from alexnet_cli.errors import UsageError
from alexnet_cli.model.network import AlexNet, split_evenly
from alexnet_cli.model.optimizer import state_tensors
from alexnet_cli.recipes.recipe import Recipe

State = dict[str, Tensor]


class SplitAlexNet(nn.Module):
    """One column on each device; computes what the whole network computes."""

    def __init__(self, recipe: Recipe, num_classes: int, devices: tuple[torch.device, ...]):
        super().__init__()
        self.recipe, self.num_classes, self.devices = recipe, num_classes, devices
        self.parts = nn.ModuleList(
            AlexNet(recipe, num_classes, columns=(column,)).to(device)
            for column, device in enumerate(devices)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map float (N, 3, H, W) on any device to logits (N, K) on the first."""
        inputs = [x.to(device, non_blocking=True) for device in self.devices]
        parts: Any = self.parts
        stages = parts[0].stages
        for stage, names in enumerate(stages):
            if stage and (names[0] != "fc8" or self.recipe.split_classes):
                inputs = self._exchange(inputs)
            pairs = zip(parts, inputs, strict=True)
            inputs = [part.run_stage(stage, own) for part, own in pairs]
        scores = [part.to(self.devices[0]) for part in inputs]
        if self.recipe.split_classes:
            return torch.cat(scores, dim=1)
        return reduce(torch.add, scores)

    def _exchange(self, outputs: list[Tensor]) -> list[Tensor]:
        """Copy all columns' activations to every device, column 0 first."""
        return [
            torch.cat([output.to(device, non_blocking=True) for output in outputs], dim=1)
            for device in self.devices
        ]


Network = AlexNet | SplitAlexNet


def build_network(recipe: Recipe, num_classes: int, devices: tuple[torch.device, ...]) -> Network:
    """Return the network with undrawn weights, whole on one device or split over two.

    Raises:
        UsageError: if the recipe has only one column, which cannot be split.
    """
    if len(devices) == 1:
        net = AlexNet(recipe, num_classes).to(devices[0])
        if devices[0].type == "mps":  # gradients with channels last are wrong before macOS 15
            net.to(memory_format=torch.contiguous_format)
        return net
    if len(devices) != recipe.columns:
        raise UsageError(f"{len(devices)} devices: a network of 1 column runs on one device only.")
    return SplitAlexNet(recipe, num_classes, devices)


def whole_state(net: Network, tensors: list[Tensor] | None = None) -> State:
    """Return the network's parameters as those of the whole, on the CPU.

    Args:
        tensors: one tensor for each parameter, such as its momentum buffer, to return instead.
    """
    named = dict(zip(_parameter_names(net), tensors or net.parameters(), strict=True))
    named = {name: tensor.detach().cpu() for name, tensor in named.items()}
    if isinstance(net, AlexNet):
        return {name: tensor.contiguous() for name, tensor in named.items()}
    names = [name.removeprefix("parts.0.") for name in named if name.startswith("parts.0.")]
    merged = {}
    for name in names:
        parts = [named[key] for p in range(len(net.parts)) if (key := f"parts.{p}.{name}") in named]
        dim = _split_dim(net.recipe, name)
        merged[name] = torch.cat(parts, dim).contiguous() if parts[0].dim() else parts[0]
    return merged


@torch.no_grad()
def load_whole_state(net: Network, state: State, tensors: list[Tensor] | None = None) -> None:
    """Copy the whole network's parameters into `net`, sliced to where its columns are.

    Args:
        tensors: one tensor for each parameter to copy into instead.

    Raises:
        LookupError, ValueError: if a tensor is missing or has another shape.
    """
    for name, target in zip(_parameter_names(net), tensors or net.parameters(), strict=True):
        if isinstance(net, AlexNet):
            source = state[name]
        else:
            part, whole_name = name.removeprefix("parts.").split(".", 1)
            source = _column_of(net.recipe, state[whole_name], whole_name, int(part))
        if source.shape != target.shape:
            raise ValueError(f"{name} is {tuple(source.shape)}, not {tuple(target.shape)}")
        target.copy_(source)


def load_optimizer_state(net: Network, optimizer: Optimizer, state: State) -> None:
    """Replace an optimizer's state by that of the whole network.

    Args:
        state: tensors by parameter and name, such as `conv1.weight.momentum_buffer`.

    Raises:
        LookupError, ValueError: if a tensor is missing or has another shape.
    """
    for name in {*state_tensors(optimizer, net), *(key.rpartition(".")[2] for key in state)}:
        suffix = f".{name}"
        own = {key.removesuffix(suffix): t for key, t in state.items() if key.endswith(suffix)}
        is_scalar = all(tensor.dim() == 0 for tensor in own.values())
        tensors = [torch.zeros(()) if is_scalar else torch.zeros_like(p) for p in net.parameters()]
        load_whole_state(net, own, tensors)
        for parameter, tensor in zip(net.parameters(), tensors, strict=True):
            optimizer.state[parameter][name] = tensor


def _parameter_names(net: Network) -> list[str]:
    return [name for name, _ in net.named_parameters()]


def _split_dim(recipe: Recipe, name: str) -> int:
    """Kernels and units are split by output; fc8 by input where its outputs are summed."""
    return 1 if name == "fc8.weight" and not recipe.split_classes else 0


def _column_of(recipe: Recipe, tensor: Tensor, name: str, column: int) -> Tensor:
    if tensor.dim() == 0 or (name == "fc8.bias" and not recipe.split_classes):
        return tensor
    dim = _split_dim(recipe, name)
    return tensor.split(split_evenly(tensor.shape[dim], recipe.columns), dim)[column]
