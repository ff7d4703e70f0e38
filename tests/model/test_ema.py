"""The moving average of the weights against its formula in numpy; under a second."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from alexnet_cli.model.ema import AveragedWeights
from alexnet_cli.model.network import AlexNet, initialize
from alexnet_cli.model.split import SplitAlexNet, load_whole_state, whole_state
from alexnet_cli.recipes.recipe import PAPER
from alexnet_cli.recipes.small import DEMO

AVERAGED = replace(PAPER, ema_decay=0.9)


def build_net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 4)).double()


@torch.no_grad()
def walk(net: nn.Module, average: AveragedWeights, steps: int, first: int = 1) -> list[np.ndarray]:
    """Change all weights at random in several steps; return the first parameter's values."""
    values = []
    for n in range(first, first + steps):
        rng = np.random.default_rng(n)
        for parameter in net.parameters():
            parameter += torch.from_numpy(rng.normal(size=parameter.shape)).to(parameter.dtype)
        average.update(n)
        values.append(next(iter(net.parameters())).detach().numpy().copy())
    return values


def copies(tensors) -> list[torch.Tensor]:
    return [tensor.detach().clone() for tensor in tensors]


def all_equal(tensors, others) -> bool:
    return all(torch.equal(a, b) for a, b in zip(tensors, others, strict=True))


@pytest.mark.parametrize("steps", [1, 2, 8, 73, 74, 75, 150])
def test_average_follows_its_formula(steps: int):
    net = build_net()
    average = AveragedWeights(net, AVERAGED)

    values = walk(net, average, steps)

    expected = values[0]
    for n, value in enumerate(values[1:], start=2):
        decay = 0.9 if n >= 82 else (n - 1) / (n + 8)  # 81 / 90 = 0.9
        expected = decay * expected + (1 - decay) * value
    np.testing.assert_allclose(average.tensors[0].numpy(), expected, rtol=1e-12)


def test_first_weights_leave_no_trace():
    net = build_net()
    average = AveragedWeights(net, AVERAGED)
    for tensor in average.tensors:
        tensor.fill_(1e30)

    walk(net, average, 1)

    assert all_equal(average.tensors, net.parameters())


def test_average_starts_as_the_weights():
    net = build_net()
    average = AveragedWeights(net, AVERAGED)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter += 1

    average.reset()

    assert all_equal(average.tensors, net.parameters())


def test_average_of_weights_that_stay_is_those_weights():
    net = build_net()
    average = AveragedWeights(net, AVERAGED)

    for n in range(1, 40):
        average.update(n)

    assert all_equal(average.tensors, net.parameters())


def test_recipe_without_an_average_keeps_none():
    net = build_net()
    average = AveragedWeights(net, PAPER)
    walk(net, average, 3)
    before = copies(net.parameters())

    with average.swapped():
        assert all_equal(net.parameters(), before)

    assert average.tensors == []


def test_average_stands_in_for_the_weights_and_leaves_them_bit_for_bit():
    net = build_net()
    average = AveragedWeights(net, AVERAGED)
    walk(net, average, 5)
    weights, averaged = copies(net.parameters()), copies(average.tensors)
    assert not all_equal(weights, averaged)

    with average.swapped():
        assert all_equal(net.parameters(), averaged)

    assert all_equal(net.parameters(), weights)
    assert all_equal(average.tensors, averaged)


def test_weights_come_back_when_what_was_done_with_the_average_failed():
    net = build_net()
    average = AveragedWeights(net, AVERAGED)
    walk(net, average, 5)
    weights, averaged = copies(net.parameters()), copies(average.tensors)

    with pytest.raises(KeyboardInterrupt), average.swapped():
        raise KeyboardInterrupt

    assert all_equal(net.parameters(), weights)
    assert all_equal(average.tensors, averaged)


def test_parameters_stay_where_they_are_in_memory():
    net = build_net()
    average = AveragedWeights(net, AVERAGED)
    places = [parameter.data_ptr() for parameter in net.parameters()]

    with average.swapped():
        assert [parameter.data_ptr() for parameter in net.parameters()] == places


def test_average_needs_no_gradients_and_takes_none():
    net = build_net()
    average = AveragedWeights(net, AVERAGED)
    walk(net, average, 2)

    assert not any(tensor.requires_grad for tensor in average.tensors)
    with average.swapped():
        net(torch.ones(1, 2).double()).sum().backward()
    assert all(parameter.grad is not None for parameter in net.parameters())


# --- whole and split networks

SMALL = replace(DEMO, crop_size=72, ema_decay=0.9)
CPU = torch.device("cpu")


def build_pair() -> tuple[AlexNet, SplitAlexNet]:
    """Return the same network whole and split."""
    whole, split = AlexNet(SMALL, 4), SplitAlexNet(SMALL, 4, (CPU, CPU))
    initialize(whole, 0)
    load_whole_state(split, whole_state(whole))
    return whole, split


def test_split_network_averages_as_the_whole_one():
    nets = build_pair()
    averages = [AveragedWeights(net, SMALL) for net in nets]

    for n in (1, 2, 3):
        state = {name: (n * tensor + n) for name, tensor in whole_state(nets[0]).items()}
        for net, average in zip(nets, averages, strict=True):
            load_whole_state(net, state)
            average.update(n)

    whole, split = (
        whole_state(net, average.tensors) for net, average in zip(nets, averages, strict=True)
    )
    assert whole.keys() == split.keys()
    assert all(torch.equal(whole[name], split[name]) for name in whole)
    assert not torch.equal(whole["fc8.weight"], whole_state(nets[0])["fc8.weight"])


def test_average_continues_bit_for_bit_from_a_saved_one():
    net, other = build_pair()[0], build_pair()[0]
    straight, resumed = AveragedWeights(net, SMALL), AveragedWeights(other, SMALL)
    walk(net, straight, 3)
    weights, averaged = (
        {name: tensor.clone() for name, tensor in whole_state(net, tensors).items()}
        for tensors in (None, straight.tensors)
    )
    walk(net, straight, 3, first=4)

    load_whole_state(other, weights)
    load_whole_state(other, averaged, resumed.tensors)
    walk(other, resumed, 3, first=4)

    assert all_equal(net.parameters(), other.parameters())
    assert all_equal(straight.tensors, resumed.tensors)
