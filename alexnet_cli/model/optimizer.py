"""The paper's update (section 5).

    v <- momentum * v - decay * rate * w - rate * gradient
    w <- w + v

The rate is inside v, so dividing it by ten leaves the velocity gathered so far as it is; torch's
SGD multiplies the whole buffer by the new rate instead (2012 code, weights.cu:146).
"""

import sys
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim.sgd import sgd

from alexnet_cli.model.schedule import Rates
from alexnet_cli.recipes.recipe import Recipe


@dataclass(frozen=True, slots=True)
class _Member:
    """A parameter and its velocity."""

    layer: str
    is_weight: bool
    decay: float
    parameter: Tensor
    velocity: Tensor


class PaperSGD:
    """Momentum and weight decay for a network's parameters; biases have their own rate and decay.

    Attributes:
        velocity: v of each parameter, in the order of `net.parameters()`.
    """

    def __init__(self, net: nn.Module, recipe: Recipe):
        self.momentum = recipe.momentum
        self.bias_rate = recipe.bias_rate
        factors = {name: conv.decay for name, conv in recipe.convs().items()}
        self.members = []
        for name, parameter in net.named_parameters():
            layer, is_weight = layer_of(name), not name.endswith("bias")
            decay = recipe.weight_decay * factors.get(layer, 1.0)
            decay = decay if is_weight else recipe.bias_decay
            velocity = torch.zeros_like(parameter)
            self.members.append(_Member(layer, is_weight, decay, parameter, velocity))
        self.velocity = [member.velocity for member in self.members]

    @torch.no_grad()
    def step(self, rates: Rates | float) -> None:
        """Update every parameter from its gradient; layers may rest (2012: weights.cu:148).

        Args:
            rates: or one number, for the weights; biases then get `bias_rate` times it.
        """
        if not isinstance(rates, Rates):
            rates = Rates(rates, rates * self.bias_rate)
        groups: dict[tuple[float, float], list[_Member]] = {}
        for member in self.members:
            rate = rates.of(member.layer, is_weight=member.is_weight)
            if rate is not None:
                groups.setdefault((rate, member.decay), []).append(member)
        for (rate, decay), members in groups.items():
            self._update(members, rate, decay)

    def _update(self, members: list[_Member], rate: float, decay: float) -> None:
        """Run torch's own loop over the numbers, which reads and writes each of them once.

        It computes b <- momentum * b + (1 - dampening) * (gradient + decay * w); w <- w - lr * b.
        """
        sgd(
            [member.parameter for member in members],
            [_laid_out_as(member.parameter, member.parameter.grad) for member in members],
            [member.velocity for member in members],
            momentum=self.momentum or sys.float_info.min,  # at 0 it would leave out the velocity
            weight_decay=decay,
            dampening=1.0 + rate,
            lr=-1.0,
            nesterov=False,
            maximize=False,
            fused=True,
        )

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for member in self.members:
            member.parameter.grad = None


def _laid_out_as(parameter: Tensor, gradient: Tensor) -> Tensor:
    """Return the gradient in the parameter's order in memory, which is torch's loop's order."""
    if gradient.stride() == parameter.stride():
        return gradient
    return torch.empty_like(parameter).copy_(gradient)


def layer_of(name: str) -> str:
    """Return the layer of a parameter: of `conv1.weight`, and of `parts.0.conv1.weight`, conv1."""
    return name.split(".")[-2] if "." in name else ""
