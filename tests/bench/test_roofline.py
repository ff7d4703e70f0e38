"""Operations and bytes of a network against those worked out by hand."""

from dataclasses import replace

import pytest
import torch

from alexnet_cli.bench.clock import Clock
from alexnet_cli.bench.roofline import count_flops, measure_copy, measure_products, update_bytes
from alexnet_cli.recipes.catalog import find_recipe
from alexnet_cli.recipes.recipe import PAPER

# Outputs times inputs of each, of one column where a layer reads its own: multiplications.
PRODUCTS = {
    "conv1": 55 * 55 * 96 * (3 * 11 * 11),
    "conv2": 27 * 27 * 256 * (48 * 5 * 5),
    "conv3": 13 * 13 * 384 * (256 * 3 * 3),
    "conv4": 13 * 13 * 384 * (192 * 3 * 3),
    "conv5": 13 * 13 * 256 * (192 * 3 * 3),
    "fc6": 4096 * 6 * 6 * 256,
    "fc7": 4096 * 4096,
    "fc8": 1000 * 4096,
}


def test_operations_of_the_paper_s_network_are_two_a_product():
    forward, step = count_flops(PAPER, 1000)

    assert forward == 2 * sum(PRODUCTS.values())
    assert forward == 1_448_813_632
    assert step == 3 * forward - 2 * PRODUCTS["conv1"]  # the image needs no gradient


def test_operations_do_not_depend_on_the_norms():
    assert count_flops(find_recipe("no-lrn"), 1000) == count_flops(PAPER, 1000)


def test_operations_of_fc8_are_those_of_its_classes():
    more, fewer = (count_flops(PAPER, num)[0] for num in (1001, 1000))

    assert more - fewer == 2 * 4096


def test_update_goes_five_times_through_the_weights():
    assert update_bytes(PAPER, 1000) == 5 * 4 * 60_965_224


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_limits_of_this_machine_are_of_a_likely_size(precision: str, monkeypatch):
    monkeypatch.setattr("alexnet_cli.bench.roofline.SIDE", {"cpu": 256})
    monkeypatch.setattr("alexnet_cli.bench.roofline.COPIED", {"cpu": 1 << 22})
    clock = Clock((torch.device("cpu"),), 0.01)

    assert 1e7 < measure_products(clock, precision) < 1e14
    assert 1e7 < measure_copy(clock) < 1e13


def test_matrices_are_random_since_constant_ones_let_a_gpu_clock_higher(monkeypatch):
    monkeypatch.setattr("alexnet_cli.bench.roofline.SIDE", {"cpu": 64})
    seen, product = [], torch.mm

    def mm(a, b, out):
        seen.extend([a, b])
        return product(a, b, out=out)

    monkeypatch.setattr(torch, "mm", mm)
    measure_products(Clock((torch.device("cpu"),), 0.0), "fp32")

    assert seen
    assert all(0.9 < matrix.std() < 1.1 for matrix in seen)


def test_network_of_other_sizes_is_counted_too():
    small = replace(PAPER, crop_size=99)

    assert 0 < count_flops(small, 10)[0] < count_flops(PAPER, 10)[0]
