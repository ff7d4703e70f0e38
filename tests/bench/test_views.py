"""Ten-view evaluation timed against its passes, with and without a dataset."""

import pytest
import torch

from alexnet_cli.bench.clock import Clock
from alexnet_cli.bench.stages import draw_batch, drawn_stats
from alexnet_cli.bench.views import first_of, measure_views
from alexnet_cli.data.shards.dataset import open_dataset
from alexnet_cli.distributed.device_plan import Runtime
from alexnet_cli.training.train_step import TrainStep

CPU = torch.device("cpu")


@pytest.mark.parametrize("has_dataset", [True, False])
def test_evaluation_and_passes_are_both_timed(has_dataset, tiny_recipe, dataset):
    opened = open_dataset(dataset) if has_dataset else None
    stats = opened.load_pixel_stats() if opened else drawn_stats(112)
    train_step = TrainStep(tiny_recipe, 10, stats, Runtime((CPU,)))
    train_step.begin()
    images = torch.from_numpy(draw_batch(4, 112, 10)[0])

    found = measure_views(train_step, Clock((CPU,), 0.2), images, opened)

    assert found.keys() == {"ten views", "ten views, passes alone"}
    assert 0 < found["ten views"] < 2 * found["ten views, passes alone"]


def test_few_images_of_a_dataset_are_its_first(dataset):
    opened = open_dataset(dataset)

    few = first_of(opened, 7).split("train")

    assert len(few) == 7
    assert [few.jpeg(i) for i in range(7)] == [opened.split("train").jpeg(i) for i in range(7)]
