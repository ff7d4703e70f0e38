import pickle
from dataclasses import replace
from pathlib import Path

import pytest

from alexnet_cli.data.sources.source import Source, SourceImage
from alexnet_cli.prep.plan import PrepOptions, plan_shards
from alexnet_cli.types import ImageClass


def release(num_train: int, num_val: int = 3) -> Source:
    counts = {"train": num_train, "val": num_val}
    images = {
        split: [
            SourceImage(f"{split}{i:03d}.png", Path("a"), -1, i + 1, i % 2) for i in range(count)
        ]
        for split, count in counts.items()
    }  # fmt: skip
    classes = (ImageClass("ant", "ant"), ImageClass("bee", "bee"))
    return Source("drawn", classes, images, {})


def names(source: Source, split: str, options: PrepOptions) -> list[str]:
    tasks = plan_shards(source, Path("new"), options)
    return [p.source for task in tasks if task.split == split for p in task.images]


@pytest.mark.parametrize(("count", "shards"), [(1, 1), (10, 1), (11, 2), (40, 4)])
def test_every_image_is_in_one_shard(count, shards):
    options = PrepOptions(shard_size=10)
    tasks = plan_shards(release(count), Path("new"), options)
    assert sum(task.split == "train" for task in tasks) == shards
    assert sorted(names(release(count), "train", options)) == [
        f"train{i:03d}.png" for i in range(count)
    ]


def test_numbers_count_on_from_shard_to_shard():
    tasks = plan_shards(release(25), Path("new"), PrepOptions(shard_size=10))
    train = [task for task in tasks if task.split == "train"]
    assert [(task.name, task.first_number) for task in train] == [
        ("train-000000.tar", 0), ("train-000001.tar", 10), ("train-000002.tar", 20)
    ]  # fmt: skip


def test_training_is_shuffled_by_the_seed_and_validation_is_not():
    orders = [names(release(25), "train", PrepOptions(seed=seed)) for seed in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2]
    assert orders[0] != sorted(orders[0])
    assert names(release(25), "val", PrepOptions()) == ["val000.png", "val001.png", "val002.png"]


def test_tasks_know_the_wnids_of_their_images_size_and_quality():
    options = PrepOptions(size=64, quality=80, shard_size=10)
    for task in plan_shards(release(25), Path("new"), options):
        assert task.wnids == tuple(("ant", "bee")[image.label] for image in task.images)
        assert (task.folder, task.size, task.quality) == (Path("new"), 64, 80)


def test_size_of_a_task_does_not_grow_with_the_number_of_classes():
    few = release(100)
    many = replace(
        few, classes=(*few.classes, *[ImageClass(f"n{i:08d}", "") for i in range(20_000)])
    )
    sizes = [
        len(pickle.dumps(plan_shards(source, Path("new"), PrepOptions())[0]))
        for source in (few, many)
    ]
    assert sizes[0] == sizes[1]
