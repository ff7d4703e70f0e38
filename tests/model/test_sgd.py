"""The update and the schedules against the paper's rules worked out by hand; under a second."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from alexnet_cli.model.layers import LocalConv2d, TwoScaleConv2d
from alexnet_cli.model.sgd import (
    PaperSGD,
    Rates,
    count_drops,
    is_finished,
    layer_of,
    learning_rate,
    rates_at,
)
from alexnet_cli.recipe import PAPER, Event
from alexnet_cli.recipes import find_recipe

RATES = [0.1, 0.1, 0.1, 0.01, 0.01, 0.02]
GRADIENTS = [0.5, -0.2, 0.3, 0.4, -0.1, 0.25]


def build_net() -> nn.Linear:
    """Return one weight of 2 and one bias of 3, in float64."""
    net = nn.Linear(1, 1).double()
    nn.init.constant_(net.weight, 2.0)
    nn.init.constant_(net.bias, 3.0)
    return net


def update(net: nn.Linear, step, rates=RATES) -> None:
    for rate, gradient in zip(rates, GRADIENTS, strict=True):
        for parameter in net.parameters():
            parameter.grad = torch.full_like(parameter, gradient)
        step(rate)


def expect(value: float, momentum: float, decay: float, rate_factor: float = 1.0) -> float:
    """Section 5: v <- m v - d e w - e g; w <- w + v."""
    velocity = 0.0
    for rate, gradient in zip(RATES, GRADIENTS, strict=True):
        e = rate * rate_factor
        velocity = momentum * velocity - decay * e * value - e * gradient
        value = value + velocity
    return value


# --- the update


def test_weights_follow_the_rule_of_section_5():
    net = build_net()
    sgd = PaperSGD(net, replace(PAPER, momentum=0.9, weight_decay=0.05))

    update(net, sgd.step)

    assert net.weight.item() == pytest.approx(expect(2.0, 0.9, 0.05), rel=1e-14)


def test_biases_do_not_decay_by_default():
    net = build_net()

    update(net, PaperSGD(net, replace(PAPER, weight_decay=0.05)).step)

    assert net.bias.item() == pytest.approx(expect(3.0, 0.9, decay=0.0), rel=1e-14)


def test_biases_have_their_own_rate_and_decay():
    net = build_net()

    update(net, PaperSGD(net, replace(PAPER, bias_rate=2.0, bias_decay=0.03)).step)

    assert net.bias.item() == pytest.approx(expect(3.0, 0.9, 0.03, rate_factor=2.0), rel=1e-14)
    assert net.weight.item() == pytest.approx(expect(2.0, 0.9, 0.0005), rel=1e-14)


def test_first_updates_are_these_numbers():
    net = build_net()
    sgd = PaperSGD(net, replace(PAPER, momentum=0.5, weight_decay=0.1))
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


def test_at_a_constant_rate_it_is_torch_s_sgd():
    ours, of_torch = build_net(), build_net()
    constant = [0.1] * len(RATES)

    update(ours, PaperSGD(ours, replace(PAPER, weight_decay=0.05)).step, constant)
    update(of_torch, torch_sgd(of_torch, 0.9, 0.05), constant)

    assert ours.weight.item() == pytest.approx(of_torch.weight.item(), rel=1e-13)


def test_after_a_change_of_rate_it_is_not_torch_s_sgd():
    ours, of_torch = build_net(), build_net()

    update(ours, PaperSGD(ours, replace(PAPER, weight_decay=0.05)).step)
    update(of_torch, torch_sgd(of_torch, 0.9, 0.05))

    assert abs(ours.weight.item() - of_torch.weight.item()) > 0.01


def test_dividing_the_rate_leaves_the_velocity_as_it_is():
    net = build_net()
    sgd = PaperSGD(net, replace(PAPER, weight_decay=0.0))
    for parameter in net.parameters():
        parameter.grad = torch.ones_like(parameter)
    sgd.step(0.1)

    sgd.step(0.0)

    assert [v.item() for v in sgd.velocity] == pytest.approx([-0.09, -0.09], rel=1e-14)


def test_velocity_stands_in_the_order_of_the_parameters():
    net = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 4))

    velocity = PaperSGD(net, PAPER).velocity

    assert [v.shape for v in velocity] == [p.shape for p in net.parameters()]
    assert all((v == 0).all() for v in velocity)


def shrinkage(net: nn.Module, recipe) -> dict[str, float]:
    """Return by what share of itself each parameter shrinks in one step without a gradient."""
    for parameter in net.parameters():
        nn.init.constant_(parameter, 3.0)
        parameter.grad = torch.zeros_like(parameter)
    PaperSGD(net, recipe).step(0.1)
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

    found = shrinkage(net, replace(PAPER, conv1=conv1, bias_rate=2.0, bias_decay=0.03))

    assert found["conv1.bias"] == pytest.approx(2 * 0.1 * 0.03, abs=1e-14)


def test_biases_of_every_position_do_not_decay():
    net = nn.ModuleDict({"conv3": LocalConv2d(2, 4, window=3, pad=1, side=5)}).double()
    assert net["conv3"].bias.dim() == 2

    found = shrinkage(net, replace(PAPER, weight_decay=0.04))

    assert found == pytest.approx({"conv3.weight": 0.004, "conv3.bias": 0.0}, abs=1e-14)


def test_biases_of_every_position_have_the_biases_rate():
    net = nn.ModuleDict({"conv3": LocalConv2d(2, 4, window=3, pad=1, side=5)}).double()
    for parameter in net.parameters():
        nn.init.constant_(parameter, 3.0)
        parameter.grad = torch.ones_like(parameter)

    PaperSGD(net, replace(PAPER, weight_decay=0.0)).step(Rates(0.1, 0.5))

    assert (net["conv3"].weight == 3.0 - 0.1).all()
    assert (net["conv3"].bias == 3.0 - 0.5).all()


def test_weights_for_the_small_picture_decay_as_weights():
    net = nn.ModuleDict({"conv2": TwoScaleConv2d(4, 6, 5, padding=2)}).double()

    found = shrinkage(net, replace(PAPER, weight_decay=0.04))

    shares = {"conv2.weight": 0.004, "conv2.low_weight": 0.004, "conv2.bias": 0.0}
    assert found == pytest.approx(shares, abs=1e-14)


def test_resting_layer_keeps_weights_biases_and_velocity():
    net = nn.ModuleDict({"conv1": nn.Linear(2, 3), "conv2": nn.Linear(3, 2)}).double()
    sgd = PaperSGD(net, replace(PAPER, weight_decay=0.5))
    for parameter in net.parameters():
        parameter.grad = torch.ones_like(parameter)
    sgd.step(Rates(0.1, 0.2))
    before = [tensor.detach().clone() for tensor in (*net.parameters(), *sgd.velocity)]

    sgd.step(Rates(0.1, 0.2, {"conv1": 0.0}, {"conv1": 0.7}))

    pairs = zip(before, (*net.parameters(), *sgd.velocity), strict=True)
    kept = [torch.equal(was, tensor) for was, tensor in pairs]
    assert kept == 2 * [True, True, False, False]  # conv1's two, conv2's two


def test_resting_layer_needs_no_gradients():
    net = nn.ModuleDict({"conv1": nn.Linear(2, 3), "conv2": nn.Linear(3, 2)}).double()
    before = net["conv1"].weight.detach().clone()
    for parameter in net["conv2"].parameters():
        parameter.grad = torch.ones_like(parameter)

    PaperSGD(net, PAPER).step(Rates(0.1, 0.2, {"conv1": 0.0}))

    assert torch.equal(net["conv1"].weight, before)


def test_gradients_are_forgotten():
    net = build_net()
    net(torch.ones(1, 1).double()).sum().backward()

    PaperSGD(net, PAPER).zero_grad()

    assert [parameter.grad for parameter in net.parameters()] == [None, None]


# --- when the error stops improving


@pytest.mark.parametrize(
    ("errors", "drops"),
    [
        ([], 0),
        ([0.9], 0),
        ([0.9, 0.8, 0.7, 0.6], 0),
        ([0.9, 0.9], 0),
        ([0.9, 0.9, 0.9], 1),  # two epochs in a row without improvement
        ([0.9, 0.95, 0.92], 1),
        ([0.9, 0.9, 0.8, 0.8], 0),  # the count starts again at an improvement
        ([0.9, 0.9, 0.9, 0.9], 1),  # and at a drop
        ([0.9, 0.9, 0.9, 0.9, 0.9], 2),
        ([0.9, 0.895, 0.891], 1),  # too small to count, even together
        ([0.9, 0.895, 0.88], 0),
        ([0.5, 0.9, 0.8, 0.7, 0.6], 2),  # better than the epoch before is not better than the best
        ([0.9, 0.9, 0.9, 0.5, 0.5, 0.5], 2),
    ],
)
def test_drops_are_counted(errors: list[float], drops: int):
    assert count_drops(errors, patience=2, min_improvement=0.01) == drops


def test_more_patience_waits_longer():
    flat = [0.9] * 13

    assert [count_drops(flat, patience, 0.001) for patience in (1, 3, 5, 12, 13)] == [
        12,
        4,
        2,
        1,
        0,
    ]


# --- rates

FLAT = replace(PAPER, patience=2, drops=3, learning_rate=0.01)
LINEAR = replace(PAPER, schedule="linear", epochs=10, learning_rate=0.5)
WARM = replace(LINEAR, warmup_epochs=2.0)


@pytest.mark.parametrize(
    ("num_epochs", "rate"),
    [(0, 1e-2), (2, 1e-2), (3, 1e-3), (4, 1e-3), (5, 1e-4), (7, 1e-5), (9, 1e-5), (50, 1e-5)],
)
def test_plateau_divides_the_rate_by_ten_up_to_its_drops(num_epochs: int, rate: float):
    found = learning_rate(FLAT, num_epochs, [0.9] * num_epochs)

    assert found == pytest.approx(rate, rel=1e-12)


@pytest.mark.parametrize(
    ("recipe", "progress", "rate"),
    [
        (LINEAR, 0.0, 0.5),
        (LINEAR, 2.5, 0.375),
        (LINEAR, 9.0, 0.05),
        (LINEAR, 10.0, 0.0),
        (WARM, 0.0, 0.0),
        (WARM, 0.5, 0.125),
        (WARM, 1.9, 0.475),
        (WARM, 2.0, 0.5),
        (WARM, 6.0, 0.25),
        (WARM, 10.0, 0.0),
        (replace(FLAT, warmup_epochs=4.0), 1.0, 0.0025),
        (replace(FLAT, warmup_epochs=4.0), 4.0, 0.01),
    ],
)
def test_rate_rises_in_the_warmup_and_falls_to_zero(recipe, progress: float, rate: float):
    assert learning_rate(recipe, progress, []) == pytest.approx(rate, abs=1e-15)


def test_linear_rate_takes_no_notice_of_errors():
    assert learning_rate(LINEAR, 5.0, [0.9] * 5) == learning_rate(LINEAR, 5.0, [])


# --- rates by a formula (2012)

# Run 170: weights in four steps by 250, biases in two by ten; here over a hundred epochs.
STEPPED = replace(
    PAPER,
    schedule="stepped",
    learning_rate=0.01,
    bias_rate=2.0,
    rate_factor=250.0,
    rate_steps=4,
    bias_factor=10.0,
    bias_steps=2,
    epochs=100,
)


@pytest.mark.parametrize(
    ("progress", "weights", "biases"),
    [
        (0.0, 0.01, 0.02),
        (24.999, 0.01, 0.02),
        (25.0, 0.0015874, 0.02),
        (49.999, 0.0015874, 0.02),
        (50.0, 0.00025198, 0.002),
        (74.999, 0.00025198, 0.002),
        (75.0, 4e-5, 0.002),
        (100.0, 4e-5, 0.002),
    ],
)
def test_stepped_rates_are_those_of_run_170(progress: float, weights: float, biases: float):
    rates = rates_at(STEPPED, progress, [])

    assert rates.of("conv1", is_weight=True) == pytest.approx(weights, rel=1e-4)
    assert rates.of("fc8", is_weight=False) == pytest.approx(biases, rel=1e-12)


@pytest.mark.parametrize(("factor", "steps"), [(1000.0, 4), (250.0, 4), (10.0, 2), (7.0, 9)])
def test_stepped_rates_are_equally_long_and_equally_far_apart(factor: float, steps: int):
    recipe = replace(STEPPED, rate_factor=factor, rate_steps=steps, epochs=90)
    plateaus = np.geomspace(0.01, 0.01 / factor, steps).repeat(90 * 8 // steps)

    found = [rates_at(recipe, (i + 0.5) / 8, []).weights for i in range(len(plateaus))]

    np.testing.assert_allclose(found, plateaus, rtol=1e-12)


def test_one_step_is_a_rate_that_stays():
    recipe = replace(STEPPED, rate_steps=1, bias_steps=1)

    assert {rates_at(recipe, epochs, []).weights for epochs in range(101)} == {0.01}
    assert {rates_at(recipe, epochs, []).biases for epochs in range(101)} == {0.02}


def test_exponential_rate_falls_along_a_straight_line_of_its_logarithm():
    recipe = replace(STEPPED, schedule="exponential")
    progress = np.linspace(0, 100, 41)
    line = np.exp(np.interp(progress, [0, 100], np.log([0.01, 0.01 / 250])))

    found = [rates_at(recipe, p, []) for p in progress]

    np.testing.assert_allclose([rates.weights for rates in found], line, rtol=1e-12)
    np.testing.assert_allclose([rates.biases for rates in found], [0.02] * 20 + [0.002] * 21)


def test_formulas_take_no_notice_of_errors_and_end_after_their_epochs():
    for recipe in (STEPPED, replace(STEPPED, schedule="exponential")):
        assert rates_at(recipe, 60.0, [0.9] * 60) == rates_at(recipe, 60.0, [])
        assert not is_finished(recipe, 99, [0.9] * 99)
        assert is_finished(recipe, 100, [0.9] * 100)


# --- the end


@pytest.mark.parametrize(
    ("recipe", "num_epochs", "finished"),
    [
        (FLAT, 0, False),
        (FLAT, 8, False),  # three drops
        (FLAT, 9, True),  # stopped improving once more
        (replace(FLAT, drops=0), 2, False),
        (replace(FLAT, drops=0), 3, True),
        (replace(FLAT, epochs=4), 3, False),
        (replace(FLAT, epochs=4), 4, True),
        (LINEAR, 9, False),
        (LINEAR, 10, True),
        (LINEAR, 11, True),
    ],
)
def test_training_ends_with_its_epochs_or_its_drops(recipe, num_epochs: int, finished: bool):
    assert is_finished(recipe, num_epochs, [0.9] * num_epochs) is finished


def test_training_without_validation_ends_with_its_epochs():
    assert not is_finished(FLAT, PAPER.epochs - 1, [])
    assert is_finished(FLAT, PAPER.epochs, [])


@pytest.mark.parametrize("schedule", ["plateau", "linear", "events", "stepped", "exponential"])
def test_training_ends_when_the_training_error_is_low_enough(schedule: str):
    recipe = replace(FLAT, schedule=schedule, until_train_error=0.25)

    ends = [is_finished(recipe, 1, [0.9], error) for error in (1.0, 0.26, 0.25, 0.1, 0.0)]

    assert ends == [False, False, True, True, True]


@pytest.mark.parametrize("schedule", ["plateau", "linear", "events", "stepped", "exponential"])
def test_training_error_of_zero_ends_nothing_unless_asked_for(schedule: str):
    recipe = replace(FLAT, schedule=schedule)

    assert recipe.until_train_error == 0.0
    assert not is_finished(recipe, 1, [0.9], 0.0)


# --- the hand-set schedule of 2012

ORIGINAL = find_recipe("original-2012")


@pytest.mark.parametrize(
    ("epochs_done", "weights", "conv1"),
    [
        (0.0, 0.01, 0.01),
        (24.99, 0.01, 0.01),
        (25.0, 1e-3, 1e-3),
        (50.5, 1e-3, 1e-3),
        (51.0, 1e-4, 1e-4),
        (67.0, 1e-4, 1e-5),
        (72.0, 1e-4, None),
        (79.0, 1e-5, None),
        (90.9, 1e-5, None),
    ],
)
def test_events_set_the_rates_of_run_145(epochs_done, weights, conv1):
    rates = rates_at(ORIGINAL, epochs_done, [])

    assert rates.of("fc6", is_weight=True) == weights
    assert rates.of("conv1", is_weight=True) == conv1
    assert rates.of("fc6", is_weight=False) == 0.02
    assert rates.of("conv1", is_weight=False) == (None if conv1 is None else 0.02)


def test_layer_with_its_own_rate_follows_the_next_drop():
    events = (Event(epoch=1, rate=0.5, layers=("fc7",)), Event(epoch=2, rate=0.1))
    recipe = replace(PAPER, schedule="events", events=events)

    assert rates_at(recipe, 1.5, []).of("fc7", is_weight=True) == 0.5
    assert rates_at(recipe, 2.0, []).of("fc7", is_weight=True) == 0.1


def by_hand(*events: Event):
    """Return a recipe of these events; weights begin at 0.01 and biases at 0.02."""
    return replace(PAPER, schedule="events", bias_rate=2.0, events=events)


def rates_of(recipe, layer: str, *progress: float) -> list[tuple[float | None, float | None]]:
    """Return the rates of a layer's weights and biases after so many epochs each."""
    found = [rates_at(recipe, done, []) for done in progress]
    return [tuple(rates.of(layer, is_weight=kind) for kind in (True, False)) for rates in found]


def test_events_may_come_amid_an_epoch():
    recipe = by_hand(Event(epoch=1.18, rate=1e-3), Event(epoch=2.5, rate=1e-4, layers=("conv1",)))

    assert rates_of(recipe, "conv1", 1.0, 1.179, 1.18, 2.49, 2.5) == [
        (0.01, 0.02),
        (0.01, 0.02),
        (1e-3, 0.02),
        (1e-3, 0.02),
        (1e-4, 0.02),
    ]


def test_layers_may_have_their_own_rates_from_the_beginning():
    recipe = by_hand(
        Event(epoch=0, rate=1e-4, layers=("conv1", "conv2")), Event(epoch=3, rate=1e-3)
    )

    assert rates_of(recipe, "conv1", 0.0, 2.9, 3.0) == [(1e-4, 0.02), (1e-4, 0.02), (1e-3, 0.02)]
    assert rates_of(recipe, "conv2", 0.0) == [(1e-4, 0.02)]
    assert rates_of(recipe, "conv3", 0.0, 3.0) == [(0.01, 0.02), (1e-3, 0.02)]


def test_rate_of_the_biases_is_that_of_the_last_event_that_names_one():
    recipe = by_hand(
        Event(epoch=1, rate=1e-3, bias_rate=0.004),
        Event(epoch=2, rate=1e-4),
        Event(epoch=3, rate=1e-5, bias_rate=0.0005),
    )

    biases = [rates_of(recipe, "fc7", epochs)[0][1] for epochs in (0.0, 1.0, 2.0, 3.0)]
    assert biases == [0.02, 0.004, 0.004, 0.0005]


def test_rate_of_the_biases_may_be_for_named_layers():
    recipe = by_hand(
        Event(epoch=1, rate=1e-3, layers=("conv5", "fc6"), bias_rate=0.002),
        Event(epoch=2, rate=1e-3, layers=("conv5",)),
        Event(epoch=3, rate=1e-4),
        Event(epoch=4, rate=1e-5, bias_rate=0.0007),
    )

    named = [(0.01, 0.02), (1e-3, 0.002), (1e-3, 0.002), (1e-4, 0.002), (1e-5, 0.0007)]
    assert rates_of(recipe, "conv5", 0.5, 1.5, 2.5, 3.5, 4.5) == named
    others = [(0.01, 0.02), (0.01, 0.02), (0.01, 0.02), (1e-4, 0.02), (1e-5, 0.0007)]
    assert rates_of(recipe, "fc7", 0.5, 1.5, 2.5, 3.5, 4.5) == others


def test_biases_of_rate_zero_do_not_put_the_layer_to_rest():
    recipe = by_hand(Event(epoch=1, rate=1e-3, layers=("conv2",), bias_rate=0.0))

    assert rates_of(recipe, "conv2", 1.0) == [(1e-3, 0.0)]


def test_layer_at_rate_zero_rests_for_good():
    recipe = by_hand(
        Event(epoch=1, rate=0.0, layers=("conv1", "conv2")),
        Event(epoch=2, rate=1e-3, bias_rate=0.004),
        Event(epoch=3, rate=1e-4, layers=("conv1",), bias_rate=0.003),
    )

    assert rates_of(recipe, "conv1", 0.9, 1.0, 2.0, 3.0) == [(0.01, 0.02)] + [(None, None)] * 3
    assert rates_of(recipe, "conv2", 0.9, 1.0, 2.0, 3.0) == [(0.01, 0.02)] + [(None, None)] * 3
    assert rates_of(recipe, "fc6", 1.0, 3.0) == [(0.01, 0.02), (1e-3, 0.004)]


def test_events_of_the_same_epoch_come_in_their_order():
    fast, slow = Event(epoch=2, rate=0.5, layers=("fc8",)), Event(epoch=2, rate=0.1)

    assert rates_of(by_hand(slow, fast), "fc8", 2.0) == [(0.5, 0.02)]
    assert rates_of(by_hand(fast, slow), "fc8", 2.0) == [(0.1, 0.02)]


def test_run_of_events_ends_after_its_epochs():
    assert not is_finished(ORIGINAL, 90, [0.5] * 90)
    assert is_finished(ORIGINAL, 91, [0.5] * 91)


@pytest.mark.parametrize(
    ("name", "layer"), [("conv1.weight", "conv1"), ("parts.1.fc6.bias", "fc6"), ("weight", "")]
)
def test_parameters_belong_to_their_layer(name, layer):
    assert layer_of(name) == layer


def test_ten_updates_with_events_are_those_of_the_rule_in_plain_numpy():
    torch.manual_seed(0)
    net = nn.ModuleDict({"conv1": nn.Linear(3, 4), "conv2": nn.Linear(4, 2)}).double()
    sgd = PaperSGD(net, replace(ORIGINAL, weight_decay=0.05))
    values = {name: p.detach().numpy().copy() for name, p in net.named_parameters()}
    velocity = dict.fromkeys(values, 0.0)
    rng = np.random.default_rng(1)
    # (weights, conv1's weights or None at rest) of each update; biases at 0.02 unless at rest.
    plan = [(0.01, 0.01)] * 3 + [(1e-3, 1e-3)] * 2 + [(1e-4, 1e-5)] * 2 + [(1e-5, None)] * 3
    for weights, conv1 in plan:
        layers = {} if conv1 == weights else {"conv1": conv1 or 0.0}
        for name, parameter in net.named_parameters():
            gradient = rng.normal(size=parameter.shape)
            parameter.grad = torch.from_numpy(gradient)
            rate = {"conv1.weight": conv1, "conv2.weight": weights, "conv2.bias": 0.02}.get(
                name, None if conv1 is None else 0.02
            )
            if rate is None:
                continue
            decay = 0.05 if name.endswith("weight") else 0.0
            velocity[name] = 0.9 * velocity[name] + rate * -gradient - rate * decay * values[name]
            values[name] = values[name] + velocity[name]
        sgd.step(Rates(weights, 0.02, layers))

    for name, parameter in net.named_parameters():
        np.testing.assert_allclose(parameter.detach().numpy(), values[name], rtol=1e-12)
