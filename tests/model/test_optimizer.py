"""The update against the paper's rule worked out by hand; under a second."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from alexnet_cli.model.layers import LocalConv2d, TwoScaleConv2d
from alexnet_cli.model.optimizer import (
    PaperSGD,
    build_optimizer,
    layer_of,
    set_learning_rates,
    state_tensors,
)
from alexnet_cli.model.schedule import LearningRates
from alexnet_cli.recipes.recipe import PAPER, Recipe

RATES = [0.1, 0.1, 0.1, 0.01, 0.01, 0.02]
GRADIENTS = [0.5, -0.2, 0.3, 0.4, -0.1, 0.25]


def build_net() -> nn.Linear:
    """Return one weight of 2 and one bias of 3, in float64."""
    net = nn.Linear(1, 1).double()
    nn.init.constant_(net.weight, 2.0)
    nn.init.constant_(net.bias, 3.0)
    return net


class Updates:
    """A recipe's optimizer for a network."""

    def __init__(self, net: nn.Module, recipe: Recipe):
        self.net, self.multiplier = net, recipe.bias_lr_multiplier
        self.optimizer = build_optimizer(recipe, net)

    def step(self, rates: LearningRates | float) -> None:
        """Make one update; a number is the learning rate of the weights."""
        if not isinstance(rates, LearningRates):
            rates = LearningRates(rates, rates * self.multiplier)
        set_learning_rates(self.optimizer, rates)
        self.optimizer.step()

    @property
    def velocity(self) -> list[torch.Tensor]:
        return state_tensors(self.optimizer, self.net)["momentum_buffer"]


def update(net: nn.Linear, step, rates=RATES) -> None:
    for rate, gradient in zip(rates, GRADIENTS, strict=True):
        for parameter in net.parameters():
            parameter.grad = torch.full_like(parameter, gradient)
        step(rate)


def expect(value: float, momentum: float, decay: float, lr_factor: float = 1.0) -> float:
    """Section 5: v <- m v - d e w - e g; w <- w + v."""
    velocity = 0.0
    for rate, gradient in zip(RATES, GRADIENTS, strict=True):
        e = rate * lr_factor
        velocity = momentum * velocity - decay * e * value - e * gradient
        value = value + velocity
    return value


# --- the update


def test_weights_follow_the_rule_of_section_5():
    net = build_net()
    sgd = Updates(net, replace(PAPER, momentum=0.9, weight_decay=0.05))

    update(net, sgd.step)

    assert net.weight.item() == pytest.approx(expect(2.0, 0.9, 0.05), rel=1e-14)


def test_biases_do_not_decay_by_default():
    net = build_net()

    update(net, Updates(net, replace(PAPER, weight_decay=0.05)).step)

    assert net.bias.item() == pytest.approx(expect(3.0, 0.9, decay=0.0), rel=1e-14)


def test_biases_have_their_own_learning_rate_and_decay():
    net = build_net()

    update(net, Updates(net, replace(PAPER, bias_lr_multiplier=2.0, bias_decay=0.03)).step)

    assert net.bias.item() == pytest.approx(expect(3.0, 0.9, 0.03, lr_factor=2.0), rel=1e-14)
    assert net.weight.item() == pytest.approx(expect(2.0, 0.9, 0.0005), rel=1e-14)


def test_first_updates_are_these_numbers():
    net = build_net()
    sgd = Updates(net, replace(PAPER, momentum=0.5, weight_decay=0.1))
    found = []

    for rate, gradient in ((0.1, 1.0), (0.1, 1.0), (0.01, 1.0)):
        net.weight.grad = torch.full_like(net.weight, gradient)
        net.bias.grad = torch.zeros_like(net.bias)
        sgd.step(rate)
        found.append(net.weight.item())

    # v: -.1*.1*2 - .1 = -.12; -.06 - .0188 - .1 = -.1788; -.0894 - .0017012 - .01 = -.1011012
    assert found == pytest.approx([1.88, 1.7012, 1.6000988], rel=1e-12)


def torch_sgd(net: nn.Linear, momentum: float, decay: float):
    sgd = torch.optim.SGD([net.weight], lr=1.0, momentum=momentum, weight_decay=decay)

    def step(rate: float) -> None:
        sgd.param_groups[0]["lr"] = rate
        sgd.step()

    return step


def test_constant_learning_rate_gives_torch_s_sgd():
    ours, of_torch = build_net(), build_net()
    constant = [0.1] * len(RATES)

    update(ours, Updates(ours, replace(PAPER, weight_decay=0.05)).step, constant)
    update(of_torch, torch_sgd(of_torch, 0.9, 0.05), constant)

    assert ours.weight.item() == pytest.approx(of_torch.weight.item(), rel=1e-13)


def test_changed_learning_rate_does_not_give_torch_s_sgd():
    ours, of_torch = build_net(), build_net()

    update(ours, Updates(ours, replace(PAPER, weight_decay=0.05)).step)
    update(of_torch, torch_sgd(of_torch, 0.9, 0.05))

    assert abs(ours.weight.item() - of_torch.weight.item()) > 0.01


def test_dividing_the_learning_rate_keeps_the_momentum_buffer():
    net = build_net()
    sgd = Updates(net, replace(PAPER, weight_decay=0.0))
    for parameter in net.parameters():
        parameter.grad = torch.ones_like(parameter)
    sgd.step(0.1)

    sgd.step(0.0)

    assert [v.item() for v in sgd.velocity] == pytest.approx([-0.09, -0.09], rel=1e-14)


def test_momentum_buffer_without_momentum_is_the_last_step():
    net = build_net()
    sgd = Updates(net, replace(PAPER, momentum=0.0, weight_decay=0.1))

    for gradient in (5.0, 1.0):
        before = net.weight.item()
        for parameter in net.parameters():
            parameter.grad = torch.full_like(parameter, gradient)
        sgd.step(0.1)

    assert sgd.velocity[0].item() == pytest.approx(-0.1 * 0.1 * before - 0.1, rel=1e-14)
    assert net.weight.item() == pytest.approx(before + sgd.velocity[0].item(), rel=1e-14)


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_layout_of_a_gradient_does_not_matter(layout: torch.memory_format):
    net = nn.Conv2d(3, 4, 5).to(memory_format=torch.channels_last)
    before, gradient = net.weight.detach().clone(), torch.randn(4, 3, 5, 5)
    net.weight.grad = gradient.clone(memory_format=layout)
    net.bias.grad = torch.zeros(4)

    Updates(net, replace(PAPER, weight_decay=0.0)).step(0.1)

    torch.testing.assert_close(net.weight.detach(), before - 0.1 * gradient)


@pytest.mark.parametrize("rate", [3.0, 0.01, 1e-7])
def test_update_in_float32_is_that_in_float64_but_for_rounding(rate: float):
    """The rule as one formula, a thousand numbers, five updates."""
    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    net = nn.Linear(1000, 1, bias=False)
    value, velocity = net.weight.detach().double().numpy(), 0.0
    sgd = Updates(net, replace(PAPER, weight_decay=0.05))

    for _ in range(5):
        gradient = rng.normal(0, 0.01 / rate, (1, 1000)).astype(np.float32)
        net.weight.grad = torch.from_numpy(gradient)
        sgd.step(rate)
        velocity = 0.9 * velocity - 0.05 * rate * value - rate * gradient.astype(np.float64)
        value = value + velocity

    np.testing.assert_allclose(sgd.velocity[0].numpy(), velocity, rtol=0, atol=5e-8)
    np.testing.assert_allclose(net.weight.detach().numpy(), value, rtol=0, atol=1e-6)


def test_momentum_buffers_are_in_the_order_of_the_parameters():
    net = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 4))

    velocity = Updates(net, PAPER).velocity

    assert [v.shape for v in velocity] == [p.shape for p in net.parameters()]
    assert all((v == 0).all() for v in velocity)


def shrinkage(net: nn.Module, recipe) -> dict[str, float]:
    """Return by what share of itself each parameter shrinks in one step without a gradient."""
    for parameter in net.parameters():
        nn.init.constant_(parameter, 3.0)
        parameter.grad = torch.zeros_like(parameter)
    Updates(net, recipe).step(0.1)
    return {name: 1 - parameter.mean().item() / 3.0 for name, parameter in net.named_parameters()}


def test_layer_decays_as_many_times_as_its_factor_says():
    names = ("conv1", "conv2", "conv3", "fc6")
    net = nn.ModuleDict({name: nn.Linear(2, 3) for name in names}).double()
    conv1, conv2 = replace(PAPER.conv1, decay=0.0), replace(PAPER.conv2, decay=2.5)

    found = shrinkage(net, replace(PAPER, conv1=conv1, conv2=conv2, weight_decay=0.04))

    weights = {"conv1": 0.0, "conv2": 0.1 * 0.04 * 2.5, "conv3": 0.1 * 0.04, "fc6": 0.1 * 0.04}
    expected = {f"{name}.weight": share for name, share in weights.items()}
    expected |= {f"{name}.bias": 0.0 for name in names}
    assert found == pytest.approx(expected, abs=1e-14)


def test_biases_decay_by_their_own_number_whatever_the_layers_factor():
    net = nn.ModuleDict({"conv1": nn.Linear(2, 3)}).double()
    conv1 = replace(PAPER.conv1, decay=7.0)

    found = shrinkage(net, replace(PAPER, conv1=conv1, bias_lr_multiplier=2.0, bias_decay=0.03))

    assert found["conv1.bias"] == pytest.approx(2 * 0.1 * 0.03, abs=1e-14)


def test_local_biases_do_not_decay():
    net = nn.ModuleDict({"conv3": LocalConv2d(2, 4, window=3, pad=1, side=5)}).double()
    assert net["conv3"].bias.dim() == 2

    found = shrinkage(net, replace(PAPER, weight_decay=0.04))

    assert found == pytest.approx({"conv3.weight": 0.004, "conv3.bias": 0.0}, abs=1e-14)


def test_local_biases_have_the_learning_rate_of_biases():
    net = nn.ModuleDict({"conv3": LocalConv2d(2, 4, window=3, pad=1, side=5)}).double()
    for parameter in net.parameters():
        nn.init.constant_(parameter, 3.0)
        parameter.grad = torch.ones_like(parameter)

    Updates(net, replace(PAPER, weight_decay=0.0)).step(LearningRates(0.1, 0.5))

    assert (net["conv3"].weight == 3.0 - 0.1).all()
    assert (net["conv3"].bias == 3.0 - 0.5).all()


def test_weights_for_the_small_image_decay_as_weights():
    net = nn.ModuleDict({"conv2": TwoScaleConv2d(4, 6, 5, padding=2)}).double()

    found = shrinkage(net, replace(PAPER, weight_decay=0.04))

    shares = {"conv2.weight": 0.004, "conv2.low_weight": 0.004, "conv2.bias": 0.0}
    assert found == pytest.approx(shares, abs=1e-14)


def test_frozen_layer_keeps_weights_biases_and_momentum():
    net = nn.ModuleDict({"conv1": nn.Linear(2, 3), "conv2": nn.Linear(3, 2)}).double()
    sgd = Updates(net, replace(PAPER, weight_decay=0.5))
    for parameter in net.parameters():
        parameter.grad = torch.ones_like(parameter)
    sgd.step(LearningRates(0.1, 0.2))
    before = [tensor.detach().clone() for tensor in (*net.parameters(), *sgd.velocity)]

    sgd.step(LearningRates(0.1, 0.2, {"conv1": 0.0}, {"conv1": 0.7}))

    pairs = zip(before, (*net.parameters(), *sgd.velocity), strict=True)
    kept = [torch.equal(was, tensor) for was, tensor in pairs]
    assert kept == 2 * [True, True, False, False]  # conv1's two, conv2's two


def test_frozen_layer_needs_no_gradients():
    net = nn.ModuleDict({"conv1": nn.Linear(2, 3), "conv2": nn.Linear(3, 2)}).double()
    before = net["conv1"].weight.detach().clone()
    for parameter in net["conv2"].parameters():
        parameter.grad = torch.ones_like(parameter)

    Updates(net, PAPER).step(LearningRates(0.1, 0.2, {"conv1": 0.0}))

    assert torch.equal(net["conv1"].weight, before)


def test_gradients_are_cleared():
    net = build_net()
    net(torch.ones(1, 1).double()).sum().backward()

    build_optimizer(PAPER, net).zero_grad()

    assert [parameter.grad for parameter in net.parameters()] == [None, None]


@pytest.mark.parametrize(
    ("name", "layer"), [("conv1.weight", "conv1"), ("parts.1.fc6.bias", "fc6"), ("weight", "")]
)
def test_parameters_belong_to_their_layer(name, layer):
    assert layer_of(name) == layer


def test_network_learns_without_torch_dynamo():
    """It takes two seconds to import, and only torch.compile needs it."""
    program = (
        "import sys, torch\n"
        "import alexnet_cli.training.run, alexnet_cli.inference.evaluate\n"
        "from alexnet_cli.model.network import AlexNet\n"
        "from alexnet_cli.model.optimizer import build_optimizer\n"
        "from alexnet_cli.recipes.overrides import widen\n"
        "from alexnet_cli.recipes.recipe import PAPER\n"
        "net = AlexNet(widen(PAPER, 1 / 16), 2)\n"
        "optimizer = build_optimizer(PAPER, net)\n"
        "optimizer.zero_grad()\n"
        "net(torch.ones(1, 3, 224, 224)).sum().backward()\n"
        "optimizer.step()\n"
        "sys.exit('torch._dynamo' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_groups_of_other_values_are_those_of_torch_optimizers():
    weight, other = (nn.Parameter(torch.full((2,), 3.0)) for _ in range(2))
    optimizer = PaperSGD([{"params": [weight], "lr": 0.5}, {"params": [other]}], lr=0.25)
    for parameter in (weight, other):
        parameter.grad = torch.ones(2)

    optimizer.step()

    assert (weight == 2.5).all()
    assert (other == 2.75).all()
    assert optimizer.state_dict()["state"].keys() == {0, 1}
