"""The split network against the whole one with the same weights; a few seconds."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from alexnet_cli.errors import RecipeError, UsageError
from alexnet_cli.model.network import AlexNet, initialize
from alexnet_cli.model.optimizer import build_optimizer, state_tensors
from alexnet_cli.model.split import (
    Network,
    SplitAlexNet,
    build_network,
    load_optimizer_state,
    load_whole_state,
    whole_state,
)
from alexnet_cli.recipes.overrides import widen
from alexnet_cli.recipes.recipe import PAPER, Recipe

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
    conv = torch.backends.cudnn.conv
    before, conv.fp32_precision = conv.fp32_precision, "ieee"
    yield
    conv.fp32_precision = before


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


def learn(net: Network, optimizer: torch.optim.Optimizer, seed: int) -> None:
    device = next(net.parameters()).device
    images, labels = (tensor.to(device) for tensor in draw_batch(seed))
    optimizer.zero_grad()
    F.cross_entropy(net(images), labels).backward()
    optimizer.step()


def gradients(net: Network) -> dict[str, torch.Tensor]:
    device = next(net.parameters()).device
    images, labels = (tensor.to(device) for tensor in draw_batch())
    F.cross_entropy(net(images), labels).backward()
    return whole_state(net, [parameter.grad for parameter in net.parameters()])


# --- it computes what the whole network computes


@pytest.mark.parametrize("devices", PLACES)
def test_split_computes_the_scores_of_the_whole(devices):
    whole, split = (net.eval() for net in pair(SMALL, devices))
    images = draw_batch()[0].to(devices[0])

    torch.testing.assert_close(split(images), whole(images), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("devices", PLACES)
def test_split_computes_the_gradients_of_the_whole(devices):
    whole, split = pair(NO_DROPOUT, devices)

    torch.testing.assert_close(gradients(split), gradients(whole), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("devices", PLACES)
def test_split_learns_what_the_whole_learns(devices):
    nets = pair(NO_DROPOUT, devices)
    for net in nets:
        optimizer = build_optimizer(replace(NO_DROPOUT, learning_rate=0.005), net)
        for step in range(10):
            learn(net, optimizer, seed=step)

    whole, split = (whole_state(net) for net in nets)
    torch.testing.assert_close(split, whole, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(whole["conv1.weight"], draw_state(NO_DROPOUT)["conv1.weight"])


def test_columns_are_combined_only_where_the_paper_says():
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
def test_momentum_buffers_are_loaded_and_returned_unchanged(devices):
    state = draw_state(SMALL, seed=6)
    net = build(SMALL, devices)
    optimizer = build_optimizer(SMALL, net)

    named = {f"{name}.momentum_buffer": tensor for name, tensor in state.items()}
    load_optimizer_state(net, optimizer, named)

    found = whole_state(net, state_tensors(optimizer, net)["momentum_buffer"])
    assert all(torch.equal(found[name], state[name]) for name in state)
    assert not torch.equal(whole_state(net)["fc6.weight"], state["fc6.weight"])


@pytest.mark.parametrize("devices", [(CPU,), (CPU, CPU)], ids=["whole", "split"])
def test_state_of_any_torch_optimizer_is_loaded_and_returned_unchanged(devices):
    nets = [build(NO_DROPOUT, devices) for _ in range(2)]
    optimizers = [torch.optim.AdamW(net.parameters()) for net in nets]
    learn(nets[0], optimizers[0], seed=1)
    states = state_tensors(optimizers[0], nets[0])
    named = {
        f"{name}.{kind}": tensor
        for kind, tensors in states.items()
        for name, tensor in whole_state(nets[0], tensors).items()
    }

    load_optimizer_state(nets[1], optimizers[1], named)
    load_whole_state(nets[1], whole_state(nets[0]))

    assert list(states) == ["step", "exp_avg", "exp_avg_sq"]
    for net, optimizer in zip(nets, optimizers, strict=True):
        learn(net, optimizer, seed=2)
    found, expected = (whole_state(net) for net in reversed(nets))
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize("devices", [(CPU,), (CPU, CPU)], ids=["whole", "split"])
def test_optimizer_state_that_lacks_a_tensor_is_refused(devices):
    net = build(SMALL, devices)

    with pytest.raises(LookupError):
        load_optimizer_state(net, build_optimizer(SMALL, net), {})


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


# --- networks of other layers

BOTTLENECK = replace(SMALL.bottleneck, units=6)
NO_FC6, NO_FC7 = replace(SMALL.fc6, units=0), replace(SMALL.fc7, units=0)
OPTIONS = {
    "classes split": replace(NO_DROPOUT, split_classes=True),
    "classes split, columns apart": replace(
        NO_DROPOUT, split_classes=True, reads_both=("fc8",), bottleneck=BOTTLENECK
    ),
    "classes split, no hidden layers": replace(SMALL, fc6=NO_FC6, fc7=NO_FC7, split_classes=True),
    "bottleneck": replace(NO_DROPOUT, bottleneck=BOTTLENECK),
    "bottleneck that reads both, classes split": replace(
        NO_DROPOUT,
        bottleneck=BOTTLENECK,
        split_classes=True,
        reads_both=("bottleneck", *SMALL.reads_both),
    ),
    "bottleneck alone": replace(SMALL, fc6=NO_FC6, fc7=NO_FC7, bottleneck=BOTTLENECK),
    "without hidden layers": replace(SMALL, fc6=NO_FC6, fc7=NO_FC7),
    "low resolution": replace(NO_DROPOUT, low_resolution=True),
    "six convolutions": replace(
        NO_DROPOUT,
        conv6=replace(SMALL.conv6, filters=8),
        reads_both=("conv3", "conv6", "fc6", "fc7", "fc8"),
    ),
    "norms over space": replace(
        NO_DROPOUT,
        conv1=replace(SMALL.conv1, then=("max-pool", "activation", "norm", "spatial-norm")),
        conv2=replace(SMALL.conv2, then=("activation", "norm", "contrast-norm", "average-pool")),
        spatial_alpha=3.0,
    ),
}


def draw_lively_state(recipe: Recipe, num_classes: int) -> dict[str, torch.Tensor]:
    """Draw weights that keep the signal's size, in float64."""
    generator, state = torch.Generator().manual_seed(0), whole_state(AlexNet(recipe, num_classes))
    for name, tensor in state.items():
        drawn = torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
        if not name.endswith("bias"):
            drawn *= (1.5 / tensor[0].numel()) ** 0.5
        state[name] = drawn
    return state


def lively_pair(recipe: Recipe, num_classes: int) -> tuple[Network, Network]:
    """Return the whole and the split network on the CPU, in float64, with the same weights."""
    nets = [
        build_network(recipe, num_classes, devices).double() for devices in ((CPU,), (CPU,) * 2)
    ]
    for net in nets:
        load_whole_state(net, draw_lively_state(recipe, num_classes))
    return nets[0], nets[1]


@pytest.mark.parametrize("num_classes", [10, 11])
@pytest.mark.parametrize("name", OPTIONS)
def test_split_computes_scores_and_gradients_of_other_layers(name: str, num_classes: int):
    whole, split = lively_pair(OPTIONS[name], num_classes)
    images, labels = draw_batch()
    scores, found = [], []
    for net in (whole, split):
        scores.append(net(images.double() / 50))
        F.cross_entropy(scores[-1], labels).backward()
        found.append(whole_state(net, [parameter.grad for parameter in net.parameters()]))

    assert scores[0].shape == (4, num_classes)
    torch.testing.assert_close(scores[1], scores[0], rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(found[1], found[0], rtol=1e-7, atol=1e-11)
    assert all(gradient.abs().max() > 1e-8 for gradient in found[0].values())


@pytest.mark.parametrize("num_classes", [2, 10, 11])
@pytest.mark.parametrize("name", OPTIONS)
def test_state_of_other_layers_comes_back_as_it_went_in(name: str, num_classes: int):
    state = draw_lively_state(OPTIONS[name], num_classes)
    _, split = lively_pair(OPTIONS[name], num_classes)

    found = whole_state(split)

    assert list(found) == list(state)
    assert all(torch.equal(found[key], state[key]) for key in state)
    assert all(tensor.is_contiguous() for tensor in found.values())


def test_first_column_holds_the_smaller_half_of_the_classes():
    recipe = OPTIONS["classes split"]
    state, (_, split) = draw_lively_state(recipe, 11), lively_pair(recipe, 11)

    parts = [(part.fc8.weight, part.fc8.bias) for part in split.parts]

    assert torch.equal(parts[0][0], state["fc8.weight"][:5])
    assert torch.equal(parts[1][0], state["fc8.weight"][5:])
    assert torch.equal(parts[0][1], state["fc8.bias"][:5])
    assert torch.equal(parts[1][1], state["fc8.bias"][5:])


def test_state_of_another_number_of_classes_is_refused():
    recipe = OPTIONS["classes split"]
    split = build_network(recipe, 11, (CPU, CPU))

    with pytest.raises(ValueError, match=r"fc8\.weight is"):
        load_whole_state(split, draw_lively_state(recipe, 13))


def test_local_layers_of_two_columns_are_refused_before_a_network_is_built():
    with pytest.raises(RecipeError, match="local layers belong to networks of one column"):
        replace(SMALL, conv3=replace(SMALL.conv3, local=True))


def test_network_with_local_layers_is_not_split():
    recipe = replace(SMALL, columns=1, conv3=replace(SMALL.conv3, local=True))

    with pytest.raises(UsageError, match="column"):
        build_network(recipe, CLASSES, (CPU, CPU))
