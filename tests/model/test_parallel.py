"""The split network against the whole one with the same weights; a few seconds."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from alexnet_cli.errors import UsageError
from alexnet_cli.model.alexnet import AlexNet, initialize
from alexnet_cli.model.parallel import (
    Network,
    SplitAlexNet,
    build_network,
    load_whole_state,
    whole_state,
)
from alexnet_cli.model.sgd import PaperSGD
from alexnet_cli.recipe import PAPER, Recipe
from alexnet_cli.settings import widen

CPU = torch.device("cpu")
CLASSES = 10
SMALL = replace(widen(PAPER, 1 / 16), crop_size=72)
# Dropout draws other masks when the layer is in two parts, so it is off where results compare.
NO_DROPOUT = replace(
    SMALL, fc6=replace(SMALL.fc6, dropout=0.0), fc7=replace(SMALL.fc7, dropout=0.0)
)

gpu = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here"),
]
PLACES = [
    pytest.param((CPU, CPU), id="cpu"),
    pytest.param((torch.device("cuda", 0),) * 2, id="cuda", marks=gpu),
]


@pytest.fixture(autouse=True)
def _exact_cuda():
    """Compare in float32 proper: TF32 keeps 10 bits."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32 = before


def draw_state(recipe: Recipe, seed: int = 0) -> dict[str, torch.Tensor]:
    net = AlexNet(recipe, CLASSES)
    initialize(net, seed)
    return whole_state(net)


def build(recipe: Recipe, devices: tuple[torch.device, ...]) -> Network:
    net = build_network(recipe, CLASSES, devices)
    load_whole_state(net, draw_state(recipe))
    return net


def pair(recipe: Recipe, devices: tuple[torch.device, ...]) -> tuple[Network, Network]:
    """Return the whole and the split network."""
    return build(recipe, devices[:1]), build(recipe, devices)


def draw_batch(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    images = 50 * torch.randn(4, 3, SMALL.crop_size, SMALL.crop_size, generator=generator)
    return images, torch.randint(CLASSES, (4,), generator=generator)


def learn(net: Network, sgd: PaperSGD, seed: int, rate: float) -> None:
    device = next(net.parameters()).device
    images, labels = (tensor.to(device) for tensor in draw_batch(seed))
    sgd.zero_grad()
    F.cross_entropy(net(images), labels).backward()
    sgd.step(rate)


def gradients(net: Network) -> dict[str, torch.Tensor]:
    device = next(net.parameters()).device
    images, labels = (tensor.to(device) for tensor in draw_batch())
    F.cross_entropy(net(images), labels).backward()
    return whole_state(net, [parameter.grad for parameter in net.parameters()])


# --- it computes what the whole network computes


@pytest.mark.parametrize("devices", PLACES)
def test_split_gives_the_scores_of_the_whole(devices):
    whole, split = (net.eval() for net in pair(SMALL, devices))
    images = draw_batch()[0].to(devices[0])

    torch.testing.assert_close(split(images), whole(images), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("devices", PLACES)
def test_split_gives_the_gradients_of_the_whole(devices):
    whole, split = pair(NO_DROPOUT, devices)

    torch.testing.assert_close(gradients(split), gradients(whole), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("devices", PLACES)
def test_split_learns_what_the_whole_learns(devices):
    nets = pair(NO_DROPOUT, devices)
    for net in nets:
        sgd = PaperSGD(net, NO_DROPOUT)
        for step in range(10):
            learn(net, sgd, seed=step, rate=0.005)

    whole, split = (whole_state(net) for net in nets)
    torch.testing.assert_close(split, whole, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(whole["conv1.weight"], draw_state(NO_DROPOUT)["conv1.weight"])


def test_columns_meet_only_where_the_paper_says():
    split, (images, _) = build(SMALL, (CPU, CPU)), draw_batch()
    before = [part.run_stage(0, images) for part in split.parts]
    with torch.no_grad():
        split.parts[0].conv2.weight.zero_()

    after = [part.run_stage(0, images) for part in split.parts]

    assert not torch.equal(before[0], after[0])
    assert torch.equal(before[1], after[1])


# --- weights travel between the two


def test_each_part_holds_its_half_of_every_layer():
    state, split = draw_state(SMALL), build(SMALL, (CPU, CPU))

    for column, part in enumerate(split.parts):
        mine = dict(part.named_parameters())
        for name in ("conv1.weight", "conv3.weight", "conv5.bias", "fc6.weight", "fc7.bias"):
            half = len(state[name]) // 2
            assert torch.equal(mine[name], state[name][half * column : half * (column + 1)]), name
        half = SMALL.fc7.units // 2
        expected = state["fc8.weight"][:, half * column : half * (column + 1)]
        assert torch.equal(mine["fc8.weight"], expected)


def test_fc8_adds_its_bias_once():
    state, split = draw_state(SMALL), build(SMALL, (CPU, CPU))

    assert torch.equal(split.parts[0].fc8.bias, state["fc8.bias"])
    assert split.parts[1].fc8.bias is None


def test_state_comes_back_from_the_parts_as_it_went_in():
    state = draw_state(SMALL, seed=5)
    split = build_network(SMALL, CLASSES, (CPU, CPU))

    load_whole_state(split, state)

    found = whole_state(split)
    assert list(found) == list(state)
    assert all(torch.equal(found[name], state[name]) for name in state)


@pytest.mark.parametrize("devices", [(CPU,), (CPU, CPU)], ids=["whole", "split"])
def test_velocity_comes_back_as_it_went_in(devices):
    state = draw_state(SMALL, seed=6)
    net = build(SMALL, devices)
    velocity = PaperSGD(net, SMALL).velocity

    load_whole_state(net, state, velocity)

    found = whole_state(net, velocity)
    assert all(torch.equal(found[name], state[name]) for name in state)
    assert not torch.equal(whole_state(net)["fc6.weight"], state["fc6.weight"])


def test_state_is_a_contiguous_copy_of_every_parameter_by_its_layer_s_name():
    state = draw_state(SMALL)

    names = [f"{layer}.{kind}" for layer in SMALL.layer_names() for kind in ("weight", "bias")]
    assert list(state) == names
    assert all(tensor.is_contiguous() and not tensor.requires_grad for tensor in state.values())


# --- what is built


def test_one_device_gets_the_whole_network():
    assert isinstance(build_network(SMALL, CLASSES, (CPU,)), AlexNet)


def test_two_devices_get_a_column_each():
    net = build_network(SMALL, CLASSES, (CPU, CPU))

    assert isinstance(net, SplitAlexNet)
    assert [part.columns for part in net.parts] == [(0,), (1,)]


def test_network_of_one_column_is_not_split():
    with pytest.raises(UsageError, match="column"):
        build_network(replace(SMALL, columns=1), CLASSES, (CPU, CPU))


@pytest.mark.parametrize("reads_both", ["conv3", "conv2 conv3 conv4 conv5", ""])
def test_split_is_the_whole_whichever_convolutions_read_both(reads_both: str):
    names = (*reads_both.split(), "fc6", "fc7", "fc8")
    whole, split = (net.eval() for net in pair(replace(SMALL, reads_both=names), (CPU, CPU)))
    images, _ = draw_batch()

    torch.testing.assert_close(split(images), whole(images), rtol=1e-5, atol=1e-5)
