"""The schedules against the paper's rules worked out by hand; under a second."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from alexnet_cli.model.schedule import count_drops, is_finished, learning_rate, learning_rates_at
from alexnet_cli.recipes.catalog import find_recipe
from alexnet_cli.recipes.recipe import PAPER, SCHEDULES, Milestone

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


def count_drops_of_torch(errors: list[float], patience: int, min_improvement: float) -> int:
    """Return how often torch's own rule divides the rate, by its scheduler."""
    parameter = torch.nn.Parameter(torch.zeros(1))
    sgd = torch.optim.SGD([parameter], lr=1.0)
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(
        sgd,
        factor=0.5,
        patience=patience - 1,  # torch's is exceeded when the rate drops
        threshold=min_improvement,
        threshold_mode="abs",
        eps=0.0,
    )
    for error in errors:
        schedule.step(error)
    return round(-math.log2(sgd.param_groups[0]["lr"]))


@pytest.mark.parametrize("patience", [1, 2, 5])
@pytest.mark.parametrize("min_improvement", [0.0, 0.001, 0.01])
@pytest.mark.parametrize("kind", ["noise", "creeping", "falling", "flat"])
def test_drops_are_those_of_torchs_plateau_rule(patience, min_improvement, kind):
    rng = np.random.default_rng([patience, len(kind)])
    for _ in range(20):
        steps = {
            "noise": rng.normal(0, 0.01, 60),
            "creeping": rng.uniform(-0.0015, 0.0003, 60),
            "falling": rng.normal(-0.005, 0.01, 60),
            "flat": np.zeros(60),
        }[kind]
        errors = (0.7 + np.cumsum(steps)).tolist()
        for end in (1, 7, 30, 60):
            expected = count_drops_of_torch(errors[:end], patience, min_improvement)
            assert count_drops(errors[:end], patience, min_improvement) == expected


def test_error_that_falls_slowly_but_steadily_has_not_stopped_improving():
    """0.08 % an epoch: each is too little to count, any five of them are not."""
    creeping = [0.6 - 0.0008 * epoch for epoch in range(40)]

    assert count_drops(creeping, patience=5, min_improvement=0.001) == 0


def test_more_patience_waits_longer():
    flat = [0.9] * 13

    assert [count_drops(flat, patience, 0.001) for patience in (1, 3, 5, 12, 13)] == [
        12,
        4,
        2,
        1,
        0,
    ]


# --- learning rates

FLAT = replace(PAPER, patience=2, drops=3, learning_rate=0.01)
LINEAR = replace(PAPER, schedule="linear", epochs=10, learning_rate=0.5)
WARM = replace(LINEAR, warmup_epochs=2.0)


@pytest.mark.parametrize(
    ("num_epochs", "rate"),
    [(0, 1e-2), (2, 1e-2), (3, 1e-3), (4, 1e-3), (5, 1e-4), (7, 1e-5), (9, 1e-5), (50, 1e-5)],
)
def test_plateau_divides_the_learning_rate_by_ten_up_to_its_drops(num_epochs: int, rate: float):
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
def test_learning_rate_rises_in_the_warmup_and_falls_to_zero(recipe, progress: float, rate: float):
    assert learning_rate(recipe, progress, []) == pytest.approx(rate, abs=1e-15)


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_decay_to_zero_ignores_errors(schedule: str):
    recipe = replace(WARM, schedule=schedule)

    assert learning_rate(recipe, 5.0, [0.9] * 5) == learning_rate(recipe, 5.0, [])


@pytest.mark.parametrize("warmup", [0, 1, 3])
def test_cosine_is_that_of_torch_s_scheduler(warmup: int):
    recipe = replace(LINEAR, schedule="cosine", warmup_epochs=float(warmup))
    sgd = torch.optim.SGD([torch.zeros(1)], lr=0.5)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(sgd, T_max=10 - warmup)
    expected = []
    for _ in range(warmup, 11):
        expected.append(scheduler.get_last_lr()[0])
        sgd.step()
        scheduler.step()

    found = [learning_rate(recipe, epoch, []) for epoch in range(warmup, 11)]

    assert found == pytest.approx(expected, abs=1e-15)


def test_cosine_rises_in_the_warmup_as_the_linear_one():
    for progress in (0.0, 0.5, 1.9):
        rate = learning_rate(replace(WARM, schedule="cosine"), progress, [])
        assert rate == learning_rate(WARM, progress, []) < 0.5


def test_long_warmup_and_a_linear_fall_are_the_one_cycle_policy():
    one_cycle = replace(LINEAR, warmup_epochs=3.0)
    sgd = torch.optim.SGD([torch.zeros(1)], lr=0.5, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        sgd,
        max_lr=0.5,
        total_steps=101,  # a hundred updates of a tenth of an epoch, and the end
        pct_start=31 / 101,  # torch counts the update at the top as one of the rise
        anneal_strategy="linear",
        cycle_momentum=False,
        div_factor=1e9,
        final_div_factor=1.0,
    )
    expected = []
    for _ in range(100):
        expected.append(scheduler.get_last_lr()[0])
        sgd.step()
        scheduler.step()

    found = [learning_rate(one_cycle, step / 10, []) for step in range(100)]

    assert found == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_biases_follow_the_weights_at_their_own_rate(schedule: str):
    recipe = replace(WARM, schedule=schedule, bias_lr_multiplier=2.0)

    for progress in (0.5, 2.0, 7.3):
        rates = learning_rates_at(recipe, progress, [])
        assert rates.biases == 2 * rates.weights > 0


# --- learning rates by a formula (2012)

# Run 170: weights in four steps by 250, biases in two by ten; here over a hundred epochs.
STEPPED = replace(
    PAPER,
    schedule="stepped",
    learning_rate=0.01,
    bias_lr_multiplier=2.0,
    lr_factor=250.0,
    lr_steps=4,
    bias_lr_factor=10.0,
    bias_lr_steps=2,
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
def test_stepped_learning_rates_are_those_of_run_170(
    progress: float, weights: float, biases: float
):
    rates = learning_rates_at(STEPPED, progress, [])

    assert rates.of("conv1", is_weight=True) == pytest.approx(weights, rel=1e-4)
    assert rates.of("fc8", is_weight=False) == pytest.approx(biases, rel=1e-12)


@pytest.mark.parametrize(("factor", "steps"), [(1000.0, 4), (250.0, 4), (10.0, 2), (7.0, 9)])
def test_stepped_learning_rates_are_equally_long_and_equally_far_apart(factor: float, steps: int):
    recipe = replace(STEPPED, lr_factor=factor, lr_steps=steps, epochs=90)
    plateaus = np.geomspace(0.01, 0.01 / factor, steps).repeat(90 * 8 // steps)

    found = [learning_rates_at(recipe, (i + 0.5) / 8, []).weights for i in range(len(plateaus))]

    np.testing.assert_allclose(found, plateaus, rtol=1e-12)


def test_one_step_is_a_constant_learning_rate():
    recipe = replace(STEPPED, lr_steps=1, bias_lr_steps=1)

    assert {learning_rates_at(recipe, epochs, []).weights for epochs in range(101)} == {0.01}
    assert {learning_rates_at(recipe, epochs, []).biases for epochs in range(101)} == {0.02}


def test_exponential_schedule_is_linear_in_the_logarithm():
    recipe = replace(STEPPED, schedule="exponential")
    progress = np.linspace(0, 100, 41)
    line = np.exp(np.interp(progress, [0, 100], np.log([0.01, 0.01 / 250])))

    found = [learning_rates_at(recipe, p, []) for p in progress]

    np.testing.assert_allclose([rates.weights for rates in found], line, rtol=1e-12)
    np.testing.assert_allclose([rates.biases for rates in found], [0.02] * 20 + [0.002] * 21)


def test_formulas_take_no_notice_of_errors_and_end_after_their_epochs():
    for recipe in (STEPPED, replace(STEPPED, schedule="exponential")):
        assert learning_rates_at(recipe, 60.0, [0.9] * 60) == learning_rates_at(recipe, 60.0, [])
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
        (replace(LINEAR, schedule="cosine"), 9, False),
        (replace(LINEAR, schedule="cosine"), 10, True),
    ],
)
def test_training_ends_with_its_epochs_or_its_drops(recipe, num_epochs: int, finished: bool):
    assert is_finished(recipe, num_epochs, [0.9] * num_epochs) is finished


def test_training_without_validation_ends_with_its_epochs():
    assert not is_finished(FLAT, PAPER.epochs - 1, [])
    assert is_finished(FLAT, PAPER.epochs, [])


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_training_ends_when_the_training_error_is_low_enough(schedule: str):
    recipe = replace(FLAT, schedule=schedule, until_train_error=0.25)

    ends = [is_finished(recipe, 1, [0.9], error) for error in (1.0, 0.26, 0.25, 0.1, 0.0)]

    assert ends == [False, False, True, True, True]


@pytest.mark.parametrize("schedule", SCHEDULES)
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
def test_milestones_set_the_learning_rates_of_run_145(epochs_done, weights, conv1):
    rates = learning_rates_at(ORIGINAL, epochs_done, [])

    assert rates.of("fc6", is_weight=True) == weights
    assert rates.of("conv1", is_weight=True) == conv1
    assert rates.of("fc6", is_weight=False) == 0.02
    assert rates.of("conv1", is_weight=False) == (None if conv1 is None else 0.02)


def test_layer_with_its_own_learning_rate_follows_the_next_drop():
    milestones = (Milestone(epoch=1, lr=0.5, layers=("fc7",)), Milestone(epoch=2, lr=0.1))
    recipe = replace(PAPER, schedule="milestones", milestones=milestones)

    assert learning_rates_at(recipe, 1.5, []).of("fc7", is_weight=True) == 0.5
    assert learning_rates_at(recipe, 2.0, []).of("fc7", is_weight=True) == 0.1


def by_hand(*milestones: Milestone):
    """Return a recipe of these milestones; weights begin at 0.01 and biases at 0.02."""
    return replace(PAPER, schedule="milestones", bias_lr_multiplier=2.0, milestones=milestones)


def rates_of(recipe, layer: str, *progress: float) -> list[tuple[float | None, float | None]]:
    """Return the learning rates of a layer's weights and biases after each number of epochs."""
    found = [learning_rates_at(recipe, done, []) for done in progress]
    return [tuple(rates.of(layer, is_weight=kind) for kind in (True, False)) for rates in found]


def test_milestones_may_come_amid_an_epoch():
    recipe = by_hand(
        Milestone(epoch=1.18, lr=1e-3), Milestone(epoch=2.5, lr=1e-4, layers=("conv1",))
    )

    assert rates_of(recipe, "conv1", 1.0, 1.179, 1.18, 2.49, 2.5) == [
        (0.01, 0.02),
        (0.01, 0.02),
        (1e-3, 0.02),
        (1e-3, 0.02),
        (1e-4, 0.02),
    ]


def test_layers_may_have_their_own_learning_rates_from_the_start():
    recipe = by_hand(
        Milestone(epoch=0, lr=1e-4, layers=("conv1", "conv2")), Milestone(epoch=3, lr=1e-3)
    )

    assert rates_of(recipe, "conv1", 0.0, 2.9, 3.0) == [(1e-4, 0.02), (1e-4, 0.02), (1e-3, 0.02)]
    assert rates_of(recipe, "conv2", 0.0) == [(1e-4, 0.02)]
    assert rates_of(recipe, "conv3", 0.0, 3.0) == [(0.01, 0.02), (1e-3, 0.02)]


def test_bias_lr_is_that_of_the_last_milestone_with_one():
    recipe = by_hand(
        Milestone(epoch=1, lr=1e-3, bias_lr=0.004),
        Milestone(epoch=2, lr=1e-4),
        Milestone(epoch=3, lr=1e-5, bias_lr=0.0005),
    )

    biases = [rates_of(recipe, "fc7", epochs)[0][1] for epochs in (0.0, 1.0, 2.0, 3.0)]
    assert biases == [0.02, 0.004, 0.004, 0.0005]


def test_bias_lr_may_be_for_named_layers():
    recipe = by_hand(
        Milestone(epoch=1, lr=1e-3, layers=("conv5", "fc6"), bias_lr=0.002),
        Milestone(epoch=2, lr=1e-3, layers=("conv5",)),
        Milestone(epoch=3, lr=1e-4),
        Milestone(epoch=4, lr=1e-5, bias_lr=0.0007),
    )

    named = [(0.01, 0.02), (1e-3, 0.002), (1e-3, 0.002), (1e-4, 0.002), (1e-5, 0.0007)]
    assert rates_of(recipe, "conv5", 0.5, 1.5, 2.5, 3.5, 4.5) == named
    others = [(0.01, 0.02), (0.01, 0.02), (0.01, 0.02), (1e-4, 0.02), (1e-5, 0.0007)]
    assert rates_of(recipe, "fc7", 0.5, 1.5, 2.5, 3.5, 4.5) == others


def test_bias_lr_of_zero_does_not_freeze_the_layer():
    recipe = by_hand(Milestone(epoch=1, lr=1e-3, layers=("conv2",), bias_lr=0.0))

    assert rates_of(recipe, "conv2", 1.0) == [(1e-3, 0.0)]


def test_layer_at_learning_rate_zero_stays_frozen():
    recipe = by_hand(
        Milestone(epoch=1, lr=0.0, layers=("conv1", "conv2")),
        Milestone(epoch=2, lr=1e-3, bias_lr=0.004),
        Milestone(epoch=3, lr=1e-4, layers=("conv1",), bias_lr=0.003),
    )

    assert rates_of(recipe, "conv1", 0.9, 1.0, 2.0, 3.0) == [(0.01, 0.02)] + [(None, None)] * 3
    assert rates_of(recipe, "conv2", 0.9, 1.0, 2.0, 3.0) == [(0.01, 0.02)] + [(None, None)] * 3
    assert rates_of(recipe, "fc6", 1.0, 3.0) == [(0.01, 0.02), (1e-3, 0.004)]


def test_milestones_of_the_same_epoch_come_in_their_order():
    fast, slow = Milestone(epoch=2, lr=0.5, layers=("fc8",)), Milestone(epoch=2, lr=0.1)

    assert rates_of(by_hand(slow, fast), "fc8", 2.0) == [(0.5, 0.02)]
    assert rates_of(by_hand(fast, slow), "fc8", 2.0) == [(0.1, 0.02)]


def test_run_of_milestones_ends_after_its_epochs():
    assert not is_finished(ORIGINAL, 90, [0.5] * 90)
    assert is_finished(ORIGINAL, 91, [0.5] * 91)


def test_run_ends_after_epochs_without_improvement_whatever_the_schedule():
    recipe = replace(PAPER, schedule="linear", epochs=50, stop_after=3, min_improvement=0.0)
    errors = [0.5, 0.4, 0.41, 0.42]
    assert not is_finished(recipe, 4, errors)
    assert is_finished(recipe, 5, [*errors, 0.4])
    assert not is_finished(recipe, 5, [*errors, 0.39])
    assert not is_finished(replace(recipe, stop_after=0), 5, [*errors, 0.4])


# --- a classifier that starts from random values


@pytest.mark.parametrize(
    "name", ["finetune", "paper", "original-2012", "exp-schedule", "cifar-relu"]
)
@pytest.mark.parametrize("progress", [0.4, 1.0, 7.5, 40.0])
def test_classifier_learns_faster_by_its_factor_and_no_other_layer_does(name, progress):
    recipe = find_recipe(name)
    usual, faster = (
        learning_rates_at(replace(recipe, classifier_lr_multiplier=factor), progress, [0.5])
        for factor in (1.0, 10.0)
    )
    for is_weight in (True, False):
        rates = [
            [rates.of(layer, is_weight=is_weight) for layer in recipe.layer_names()]
            for rates in (usual, faster)
        ]
        assert rates[1][:-1] == rates[0][:-1]
        assert rates[1][-1] == pytest.approx(10 * rates[0][-1])


def test_frozen_classifier_stays_frozen():
    milestone = Milestone(epoch=1.0, lr=0.0, layers=("fc8",))
    recipe = replace(
        PAPER, schedule="milestones", milestones=(milestone,), classifier_lr_multiplier=10.0
    )
    assert learning_rates_at(recipe, 2.0, []).of("fc8", is_weight=True) is None
