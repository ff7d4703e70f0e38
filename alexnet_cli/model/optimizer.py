"""The paper's update (section 5) as a torch optimizer.

    v <- momentum * v - decay * lr * w - lr * gradient
    w <- w + v

The learning rate is inside v, so dividing it by ten leaves the accumulated velocity unchanged;
torch's SGD multiplies the whole buffer by the new learning rate instead (2012 code,
weights.cu:146).
"""

import inspect
import sys
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.sgd import sgd

from alexnet_cli.model.schedule import LearningRates
from alexnet_cli.recipes.recipe import Recipe


class PaperSGD(Optimizer):
    """Momentum and weight decay as in the paper; v is the state `momentum_buffer`."""

    # Decorated, they import torch._dynamo on their first call, which takes two seconds.
    add_param_group = inspect.unwrap(Optimizer.add_param_group)
    zero_grad = inspect.unwrap(Optimizer.zero_grad)

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 0.01,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
    ):
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        for group in self.param_groups:
            for parameter in group["params"]:
                self.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        assert closure is None, "the loss is not evaluated again"
        merged: dict[tuple[float, float, float], list[Tensor]] = {}
        for group in self.param_groups:
            parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
            if parameters:
                key = (group["lr"], group["momentum"], group["weight_decay"])
                merged.setdefault(key, []).extend(parameters)
        for (lr, momentum, decay), parameters in merged.items():
            self._update(parameters, lr, momentum, decay)

    def _update(
        self, parameters: list[Tensor], lr: float, momentum: float, weight_decay: float
    ) -> None:
        """Run torch's own fused loop, which reads and writes each number once.

        On the GPU of a Mac it is several operations, which also take tensors of any layout.
        It computes b <- momentum * b + (1 - dampening) * (gradient + decay * w); w <- w - lr * b.
        """
        sgd(
            parameters,
            [_in_parameter_layout(parameter) for parameter in parameters],
            [self.state[parameter]["momentum_buffer"] for parameter in parameters],
            momentum=momentum or sys.float_info.min,  # at 0 it would not keep the velocity
            weight_decay=weight_decay,
            dampening=1.0 + lr,
            lr=-1.0,
            nesterov=False,
            maximize=False,
            foreach=False,
            fused=parameters[0].device.type != "mps",
        )


def build_optimizer(recipe: Recipe, net: nn.Module) -> Optimizer:
    """Return the recipe's optimizer for a network, with one group per layer and kind."""
    return PaperSGD(_parameter_groups(recipe, net), momentum=recipe.momentum)


def _parameter_groups(recipe: Recipe, net: nn.Module) -> list[dict[str, Any]]:
    """Return weights and biases of every layer with their weight decay and learning rate."""
    factors = {name: conv.decay for name, conv in recipe.convs().items()}
    lr, bias_lr = recipe.learning_rate, recipe.learning_rate * recipe.bias_lr_multiplier
    groups: dict[tuple[str, bool], dict[str, Any]] = {}
    for name, parameter in net.named_parameters():
        layer, is_weight = layer_of(name), not name.endswith("bias")
        decay = recipe.weight_decay * factors.get(layer, 1.0) if is_weight else recipe.bias_decay
        group = {
            "params": [],
            "layer": layer,
            "is_weight": is_weight,
            "lr": lr if is_weight else bias_lr,
            "weight_decay": decay,
        }
        groups.setdefault((layer, is_weight), group)["params"].append(parameter)
    return list(groups.values())


def freeze(recipe: Recipe, net: nn.Module) -> None:
    """Let the recipe's frozen layers have no gradient, so that no update changes them."""
    for name, parameter in net.named_parameters():
        parameter.requires_grad_(layer_of(name) not in recipe.frozen)


def set_learning_rates(optimizer: Optimizer, rates: LearningRates) -> None:
    """Set the learning rates of the next update.

    Frozen layers lose their gradients, because optimizers skip parameters that have none (2012:
    weights.cu:148).
    """
    for group in optimizer.param_groups:
        lr = rates.of(group["layer"], is_weight=group["is_weight"])
        if lr is None:
            for parameter in group["params"]:
                parameter.grad = None
        else:
            group["lr"] = lr


def state_tensors(optimizer: Optimizer, net: nn.Module) -> dict[str, list[Tensor]]:
    """Return the optimizer's state by name, one tensor for each parameter of the network."""
    states = [optimizer.state[parameter] for parameter in net.parameters()]
    return {name: [state[name] for state in states] for name in states[0]}


def _in_parameter_layout(parameter: Tensor) -> Tensor:
    """Return the gradient in the parameter's memory layout, which the fused loop requires."""
    gradient = parameter.grad
    assert gradient is not None
    if gradient.stride() == parameter.stride():
        return gradient
    return torch.empty_like(parameter).copy_(gradient)


def layer_of(name: str) -> str:
    """Return the layer of a parameter: of `conv1.weight`, and of `parts.0.conv1.weight`, conv1."""
    return name.split(".")[-2] if "." in name else ""
