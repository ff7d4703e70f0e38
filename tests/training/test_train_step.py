"""One update of the network: shares of a batch give together what the whole batch gives."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from alexnet_cli.data.pixel_stats import load_pixel_stats
from alexnet_cli.data.shards.dataset import open_dataset
from alexnet_cli.distributed.device_plan import Runtime
from alexnet_cli.distributed.replicas import ALONE, Replicas
from alexnet_cli.errors import CheckpointError
from alexnet_cli.model.checkpoint import TrainState
from alexnet_cli.model.optimizer import build_optimizer, set_learning_rates, state_tensors
from alexnet_cli.model.schedule import LearningRates
from alexnet_cli.model.split import whole_state
from alexnet_cli.recipes.recipe import Recipe
from alexnet_cli.training.train_step import TrainStep
from alexnet_cli.types import DecodeRules, PixelStats

CPU = torch.device("cpu")
NUM_CLASSES = 10
SIDE = 112
AT = TrainState(epoch=1, step=2, total_steps=6)


class Pretended(Replicas):
    """One of several replicas, without the others: its gradients are its own."""

    def wrap(self, net, devices):
        """Return the network itself."""
        return net


@pytest.fixture(scope="module")
def stats() -> PixelStats:
    """Made up."""
    rng = np.random.default_rng(0)
    axes = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    mean = rng.uniform(80, 140, (SIDE, SIDE, 3)).astype(np.float32)
    return PixelStats(mean, np.array([900.0, 90.0, 9.0]), axes, 1, "f")


def build(recipe: Recipe, stats: PixelStats, replicas: Replicas = ALONE, **place) -> TrainStep:
    place = {"devices": (CPU,), **place}
    train_step = TrainStep(recipe, NUM_CLASSES, stats, Runtime(replicas=replicas, **place))
    train_step.begin()
    return train_step


def draw(num: int) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(num)
    images = rng.integers(0, 256, (num, SIDE, SIDE, 3), np.uint8)
    return torch.from_numpy(images), torch.from_numpy(rng.integers(0, NUM_CLASSES, num))


def zeros() -> torch.Tensor:
    return torch.zeros(3, dtype=torch.float64)


def momentum_buffers(train_step: TrainStep) -> list[torch.Tensor]:
    return state_tensors(train_step.optimizer, train_step.net)["momentum_buffer"]


def gradients(
    train_step: TrainStep, batch, num: int
) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Return a share's gradient, and its tally."""
    tally = zeros()
    train_step.optimizer.zero_grad()
    train_step.loss(batch, AT, num, tally).backward()
    named = train_step.net.named_parameters()
    return {name: parameter.grad.clone() for name, parameter in named}, tally


# --- shares


@pytest.mark.parametrize(
    ("num", "count"), [(16, 2), (12, 3), (7, 2), (5, 4), (2, 3), (1, 2)], ids=str
)
def test_mean_gradient_of_the_replicas_is_that_of_the_batch(tiny_recipe, stats, num, count):
    """With random crops, color noise and dropout; shares that are uneven, and empty ones."""
    assert tiny_recipe.fc6.dropout
    assert tiny_recipe.color_noise
    images, labels = draw(num)
    expected, expected_tally = gradients(build(tiny_recipe, stats), (images, labels), num)

    found, tally = [], zeros()
    for rank in range(count):
        replicas = Pretended(rank, count)
        rows = replicas.share.rows(num)
        share = images[rows], labels[rows]
        own, own_tally = gradients(build(tiny_recipe, stats, replicas), share, num)
        found.append(own)
        tally += own_tally

    for name, gradient in expected.items():
        mean = sum(own[name] for own in found) / count
        scale = gradient.abs().max().item() or 1.0
        torch.testing.assert_close(mean, gradient, rtol=1e-4, atol=1e-5 * scale, msg=name)
    torch.testing.assert_close(tally, expected_tally, rtol=1e-6, atol=0)
    assert tally[2] == num


def test_empty_share_has_a_gradient_of_zero_and_counts_nothing(tiny_recipe, stats):
    images, labels = draw(2)
    train_step = build(tiny_recipe, stats, Pretended(0, 3))

    found, tally = gradients(train_step, (images[:0], labels[:0]), 2)

    assert not any(gradient.any() for gradient in found.values())
    assert tally.tolist() == [0, 0, 0]


def double(train_step: TrainStep) -> TrainStep:
    """Make a train step compute in float64, where the order of sums does not matter."""
    train_step.net.double()
    train_step.optimizer = build_optimizer(train_step.recipe, train_step.net)
    augment = train_step.augmenter.random
    train_step.augmenter.random = lambda *args, **keywords: augment(*args, **keywords).double()
    return train_step


def train_in_float64(recipe: Recipe, stats: PixelStats, devices: int, replicas: int) -> dict:
    """Return the weights after six updates, the replicas' gradients averaged by hand."""
    train_steps = [
        double(build(recipe, stats, Pretended(rank, replicas), devices=(CPU,) * devices))
        for rank in range(replicas)
    ]
    for step in range(6):
        images, labels = draw(7)
        at = replace(AT, step=step)
        for train_step in train_steps:
            rows = train_step.runtime.replicas.share.rows(7)
            train_step.optimizer.zero_grad()
            train_step.loss((images[rows], labels[rows]), at, 7, zeros()).backward()
        for parameters in zip(
            *(train_step.net.parameters() for train_step in train_steps), strict=True
        ):
            mean = sum(parameter.grad for parameter in parameters) / replicas
            for parameter in parameters:
                parameter.grad = mean.clone()
        for train_step in train_steps:
            set_learning_rates(train_step.optimizer, LearningRates(1e-3, 2e-3))
            train_step.optimizer.step()
    return whole_state(train_steps[0].net)


@pytest.mark.parametrize(("devices", "replicas"), [(2, 1), (1, 2), (1, 3), (2, 2)])
def test_dropout_is_the_same_on_any_devices_and_replicas(tiny_recipe, stats, devices, replicas):
    """Two columns on two devices, replicas of the whole network, and replicas of a pair."""
    assert tiny_recipe.fc6.dropout
    assert tiny_recipe.fc7.dropout
    expected = train_in_float64(tiny_recipe, stats, 1, 1)

    found = train_in_float64(tiny_recipe, stats, devices, replicas)

    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-12, atol=1e-14, msg=name)


def test_columns_drop_units_independently(tiny_recipe, stats):
    """Also where every device has a default generator of its own that was seeded alike."""
    train_step = build(tiny_recipe, stats, devices=(CPU, CPU))
    torch.manual_seed(0)

    train_step.loss(draw(64), AT, 64, zeros())

    masks = {name: m.mask for name, m in train_step.net.named_modules() if hasattr(m, "mask")}
    assert masks.keys() == {f"parts.{p}.drop{n}" for p in (0, 1) for n in (6, 7)}
    for number in (6, 7):
        first, second = (masks[f"parts.{p}.drop{number}"].float() for p in (0, 1))
        assert 0.4 < (first == second).float().mean() < 0.6
        assert 0.4 < first.mean() < 0.6


def test_step_neither_uses_nor_changes_the_default_generator(tiny_recipe, stats):
    """A compiler replaces its numbers by its own, and GPUs have one each."""
    train_step, losses = build(tiny_recipe, stats), []

    for seed in (0, 1):
        torch.manual_seed(seed)
        state = torch.get_rng_state()
        losses.append(train_step.loss(draw(4), AT, 4, zeros()).item())
        assert torch.equal(torch.get_rng_state(), state)

    assert losses[0] == losses[1]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch 2.11's own
def test_compiled_step_drops_the_same_units(tiny_recipe, stats):
    """Traced as torch.compile traces it; no kernels are made, which takes a C++ compiler."""
    eager, traced = build(tiny_recipe, stats), build(tiny_recipe, stats)
    traced.net.compile(backend="aot_eager", dynamic=False)

    for step in range(3):
        at = replace(AT, step=step)
        losses = [train_step.loss(draw(6), at, 6, zeros()).item() for train_step in (eager, traced)]
        assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    torch.compiler.reset()


def test_tally_has_the_sum_of_losses_and_the_wrong_answers(tiny_recipe, stats):
    """By the scores themselves; of the network as it was before the update."""
    images, labels = draw(9)
    train_step, scores = build(tiny_recipe, stats), []
    train_step.net.register_forward_hook(
        lambda _net, _input, output: scores.append(output.detach())
    )
    tally = torch.tensor([100.0, 10.0, 1.0], dtype=torch.float64)

    loss = train_step.loss((images, labels), AT, 9, tally)

    expected = F.cross_entropy(scores[0], labels)
    torch.testing.assert_close(loss.detach(), expected)
    assert tally[0] - 100 == pytest.approx(9 * expected.item(), rel=1e-6)
    assert tally[1] - 10 == (scores[0].argmax(1) != labels).sum()
    assert tally[2] - 1 == 9


# --- draws


@pytest.mark.parametrize("changes", [{"epoch": 2}, {"step": 3}])
def test_draws_depend_on_epoch_and_step_alone(tiny_recipe, stats, changes):
    batch, train_step = draw(4), build(tiny_recipe, stats)

    losses = []
    for at in (AT, AT, replace(AT, **changes), replace(AT, total_steps=99)):
        torch.manual_seed(len(losses))
        losses.append(train_step.loss(batch, at, 4, zeros()).item())

    assert losses[0] == losses[1] == losses[3] != losses[2]


def test_draws_depend_on_the_seed(tiny_recipe, stats):
    batch = draw(4)
    train_step = build(tiny_recipe, stats)
    first = train_step.loss(batch, AT, 4, zeros()).item()

    train_step.recipe = replace(tiny_recipe, seed=9)

    assert train_step.loss(batch, AT, 4, zeros()).item() != first


@pytest.mark.parametrize(("last", "noises"), [(0, [True] * 3), (2, [True, True, False])])
def test_color_noise_ends_after_the_epochs_of_the_recipe(
    tiny_recipe, stats, monkeypatch, last, noises
):
    train_step = build(replace(tiny_recipe, color_noise_epochs=last), stats)
    found, real = [], train_step.augmenter.random

    def note(images, rng, *, with_noise, part):
        found.append(with_noise)
        return real(images, rng, with_noise=with_noise, part=part)

    monkeypatch.setattr(train_step.augmenter, "random", note)
    for epoch in range(3):
        train_step.loss(draw(2), TrainState(epoch=epoch), 2, zeros())

    assert found == noises


# --- weights


def test_first_weights_are_the_same_on_one_device_and_on_two(tiny_recipe, stats):
    one, two = (
        build(tiny_recipe, stats, devices=(CPU,) * n).checkpoint(FAKE, AT, {}) for n in (1, 2)
    )

    assert one.weights.keys() == two.weights.keys()
    for name, tensor in one.weights.items():
        np.testing.assert_array_equal(two.weights[name], tensor, err_msg=name)
    assert not any(tensor.any() for tensor in two.optimizer.values())


class FAKE:
    """What a checkpoint asks of a dataset."""

    classes, fingerprint = (), "f"
    rules = DecodeRules(apply_orientation=True)


def test_update_is_the_paper_s(tiny_recipe, stats):
    """v <- 0.9 v - 0.0005 lr w - lr g, w <- w + v, from a momentum buffer that is not zero."""
    train_step, batch = build(tiny_recipe, stats), draw(4)
    rates = LearningRates(0.01, 0.02)
    train_step.update(train_step.loss(batch, AT, 4, zeros()), rates, 1)
    before = train_step.checkpoint(FAKE, AT, {})
    found, _ = gradients(train_step, batch, 4)

    train_step.update(train_step.loss(batch, AT, 4, zeros()), rates, 2)

    after = train_step.checkpoint(FAKE, AT, {})
    for name, w in before.weights.items():
        rate, decay = (0.02, 0.0) if name.endswith("bias") else (0.01, tiny_recipe.weight_decay)
        g = found[name].numpy()
        v = (
            tiny_recipe.momentum * before.optimizer[f"{name}.momentum_buffer"]
            - rate * decay * w
            - rate * g
        )
        np.testing.assert_allclose(
            after.optimizer[f"{name}.momentum_buffer"], v, rtol=1e-4, atol=1e-7, err_msg=name
        )
        np.testing.assert_allclose(after.weights[name], w + v, rtol=1e-5, atol=1e-7, err_msg=name)


@pytest.mark.parametrize("ema_decay", [0.0, 0.9])
@pytest.mark.parametrize("num_devices", [1, 2])
def test_checkpoint_is_a_copy(tiny_recipe, stats, ema_decay, num_devices):
    recipe = replace(tiny_recipe, ema_decay=ema_decay)
    train_step = build(recipe, stats, devices=(CPU,) * num_devices)
    train_step.update(train_step.loss(draw(4), AT, 4, zeros()), LearningRates(0.01, 0.01), 1)
    at = TrainState(val_errors=[0.5])
    checkpoint = train_step.checkpoint(FAKE, at, {})
    kinds = ("weights", "optimizer") + (("ema",) if ema_decay else ())
    kept = {kind: {n: t.copy() for n, t in getattr(checkpoint, kind).items()} for kind in kinds}

    train_step.update(train_step.loss(draw(4), AT, 4, zeros()), LearningRates(0.01, 0.01), 2)
    at.val_errors.append(0.4)

    later = train_step.checkpoint(FAKE, at, {})
    assert checkpoint.train_state.val_errors == [0.5]
    assert checkpoint.rules == FAKE.rules
    for kind in kinds:
        for name, tensor in kept[kind].items():
            np.testing.assert_array_equal(getattr(checkpoint, kind)[name], tensor)
            assert not np.array_equal(getattr(later, kind)[name], tensor), (kind, name)


@pytest.mark.parametrize("ema_decay", [0.0, 0.9])
@pytest.mark.parametrize("num_devices", [1, 2])
def test_restored_train_step_continues_bit_for_bit(tiny_recipe, stats, ema_decay, num_devices):
    recipe, place = replace(tiny_recipe, ema_decay=ema_decay), {"devices": (CPU,) * 2}
    place["devices"] = place["devices"][:num_devices]
    straight = build(recipe, stats, **place)
    straight.update(straight.loss(draw(4), AT, 4, zeros()), LearningRates(0.01, 0.01), 1)
    resumed = build(replace(recipe, seed=5), stats, **place)
    resumed.recipe = recipe
    resumed.restore(straight.checkpoint(FAKE, AT, {}))

    for train_step in (straight, resumed):
        train_step.update(train_step.loss(draw(4), AT, 4, zeros()), LearningRates(0.01, 0.01), 2)

    expected, found = (train_step.checkpoint(FAKE, AT, {}) for train_step in (straight, resumed))
    for kind in ("weights", "optimizer", "ema"):
        assert getattr(found, kind).keys() == getattr(expected, kind).keys()
        for name, tensor in getattr(expected, kind).items():
            np.testing.assert_array_equal(getattr(found, kind)[name], tensor, err_msg=name)


@pytest.mark.parametrize("kind", ["weights", "optimizer", "ema"])
def test_checkpoint_of_another_network_is_refused(tiny_recipe, stats, kind):
    train_step = build(replace(tiny_recipe, ema_decay=0.9), stats)
    checkpoint = train_step.checkpoint(FAKE, AT, {})
    suffix = ".momentum_buffer" if kind == "optimizer" else ""
    getattr(checkpoint, kind).pop(f"conv4.weight{suffix}")

    with pytest.raises(CheckpointError, match=f"its {kind} does not fit its recipe .*conv4.weight"):
        train_step.restore(checkpoint)


def test_low_precision_passes_leave_weights_momentum_and_loss_in_float32(dataset, tiny_recipe):
    stats = load_pixel_stats(dataset, open_dataset(dataset).fingerprint)
    train_step = build(tiny_recipe, stats, precision="bf16")

    loss = train_step.loss(draw(4), AT, 4, zeros())
    train_step.update(loss, LearningRates(0.01, 0.01), 1)

    assert loss.dtype == torch.float32
    for tensor in (*train_step.net.parameters(), *momentum_buffers(train_step)):
        assert tensor.dtype == torch.float32


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_update_on_gpu_waits_for_nothing(tiny_recipe, stats, precision):
    device, rates = torch.device("cuda", 0), LearningRates(1e-3, 2e-3)
    train_step = build(tiny_recipe, stats, devices=(device,), precision=precision)
    batch, tally = tuple(tensor.to(device) for tensor in draw(8)), zeros().to(device)
    train_step.update(train_step.loss(batch, AT, 8, tally), rates, 1)

    torch.cuda.set_sync_debug_mode("error")
    try:
        train_step.update(train_step.loss(batch, AT, 8, tally), rates, 2)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("num_devices", [1, 2])
def test_numbers_that_are_not_finite_are_counted_by_tensor(tiny_recipe, stats, num_devices):
    recipe = replace(tiny_recipe, ema_decay=0.9)
    train_step = build(recipe, stats, devices=(CPU,) * num_devices)
    assert train_step.count_not_finite() == {}

    with torch.no_grad():
        next(train_step.net.parameters())[:2, 0, 0, 0] = torch.tensor([torch.nan, torch.inf])
        momentum_buffers(train_step)[0][0, 0, 0, 0] = -torch.inf

    assert train_step.count_not_finite() == {
        "weights conv1.weight": 2,
        "momentum_buffer conv1.weight": 1,
    }


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_balanced_loss_counts_every_class_alike(stats, tiny_recipe, smoothing):
    recipe = replace(tiny_recipe, class_weights="balanced", label_smoothing=smoothing)
    train_step = build(recipe, stats)
    counts = np.arange(1, NUM_CLASSES + 1)
    train_step.balance_classes(np.repeat(np.arange(NUM_CLASSES), counts))
    scores = torch.randn(6, NUM_CLASSES, generator=torch.Generator().manual_seed(1))
    train_step._forward = lambda crops: scores
    images, labels = draw(6)
    found = train_step.loss((images, labels), TrainState(), 6, zeros())

    log_probs = scores.double().log_softmax(dim=1).numpy()
    weights = counts.sum() / (NUM_CLASSES * counts)
    assert (weights * counts).sum() == pytest.approx(counts.sum())  # the mean weight is 1
    expected = 0.0
    for row, label in zip(log_probs, labels.tolist(), strict=True):
        expected -= (1 - smoothing) * weights[label] * row[label]
        expected -= smoothing / NUM_CLASSES * (weights * row).sum()
    assert float(found) == pytest.approx(expected / 6, rel=1e-5)
