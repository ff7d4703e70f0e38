"""What a plan costs: images, hours, disk."""

import shlex
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from alexnet_cli.commands.reproduce import job_arguments, prep_commands
from alexnet_cli.distributed.precision import allow_tf32
from alexnet_cli.io.progress import SILENT
from alexnet_cli.model.network import AlexNet
from alexnet_cli.recipes.overrides import with_settings
from alexnet_cli.recipes.paper_tables import OFFICIAL_SETS, TABLES
from alexnet_cli.recipes.recipe import Recipe
from alexnet_cli.reproduce import estimate as estimate_module
from alexnet_cli.reproduce.estimate import SHARD_BYTES, Estimate, estimate_plan, measure_training
from alexnet_cli.reproduce.jobs import EnsembleJob, EvalJob, Job, Shortcuts, TableDataset, TrainJob
from alexnet_cli.reproduce.plan import plan_rows

CPU = torch.device("cpu")
SMALL = ("width=0.0625", "crop_size=99", "batch_size=4")
SET = TableDataset("ilsvrc-2012", "absent/a", 1000, {"val": 300, "test": 0}, 10)


@pytest.fixture(scope="module")
def small(tiny_recipe) -> Recipe:
    return with_settings(tiny_recipe, ["batch_size=4", "epochs=6"])


def train(name: str, recipe: Recipe, images: int = 1000, dataset: TableDataset = SET) -> TrainJob:
    dataset = replace(dataset, train=images)
    return TrainJob(name, "Train.", dataset, recipe.name, recipe, Path(name), Shortcuts())


def measure(name: str, recipe: Recipe, dataset: TableDataset = SET) -> EvalJob:
    return EvalJob(
        name, "Measure.", train("t", recipe, dataset.train, dataset), Path(f"{name}.npz")
    )


AVERAGE = EnsembleJob("x", "Average.", ())


def estimate(*jobs: Job, devices: int = 1) -> Estimate:
    """Estimate jobs and the training of every network that is measured."""
    trains = {job.train.name: job.train for job in jobs if isinstance(job, EvalJob)}
    given = {job.name for job in jobs}
    jobs = [*(train for name, train in trains.items() if name not in given), *jobs]
    return estimate_plan("a table", jobs, (CPU,) * devices, SILENT)


def hours_of(estimate: Estimate) -> dict[str, float]:
    return {step.job.name: step.hours for step in estimate.steps}


# --- images


def test_images_are_those_trained_on_and_every_view_measured(small):
    found = estimate(train("t", small), measure("e", small), AVERAGE)
    images = {step.job.name: step.images for step in found.steps}
    assert images == {"t": 6 * 1000, "e": 10 * 300, "x": 0}
    assert found.images == 9000


def test_images_measured_are_those_of_the_test_set_where_there_is_one(small):
    dataset = TableDataset("ilsvrc-2010", "shards/b", 1000, {"val": 300, "test": 700}, 10)
    _, step = estimate(measure("e", small, dataset)).steps
    assert step.images == 7000


def test_table_of_the_paper_is_counted_with_its_recipes_epochs():
    rows = TABLES["ilsvrc-2012"].choose(["1 CNN"])
    real = TableDataset("ilsvrc-2012", "shards/a", 1_281_167, {"val": 50_000}, 1000)
    steps, _ = plan_rows(rows, {"ilsvrc-2012": real}, Path("out"), Shortcuts(settings=SMALL))
    assert estimate(*steps).images == 91 * 1_281_167 + 10 * 50_000


def test_shortened_runs_are_counted_with_their_epochs():
    rows = TABLES["ablations"].choose(["paper"])
    shortcuts = Shortcuts(2, SMALL)
    steps, _ = plan_rows(rows, {"ilsvrc-2012": SET}, Path("out"), shortcuts)
    assert estimate(*steps).images == 2 * 1000 + 10 * 300


# --- hours


def test_hours_are_images_by_the_measured_rate(small):
    found = estimate(train("a", small, 1000), train("b", small, 2000))
    hours = hours_of(found)
    ((name, rate),) = found.rates.items()
    assert name == "paper, 10 classes"
    assert hours["a"] == pytest.approx(6 * 1000 / rate / 3600, rel=0.01)
    assert hours["b"] == pytest.approx(2 * hours["a"])
    assert found.hours == pytest.approx(3 * hours["a"])


def test_image_measured_takes_a_third_of_one_trained_on(small):
    hours = hours_of(estimate(train("t", small, 500), measure("e", small)))
    assert hours["e"] == pytest.approx(hours["t"] / 3)


def test_average_takes_no_time(small):
    assert hours_of(estimate(train("t", small), AVERAGE))["x"] == 0


def test_networks_are_measured_once_for_each_number_of_classes(small):
    other = with_settings(small, ["activation=tanh", "name=tanh"])
    many = TableDataset("ilsvrc-2010", "shards/b", 1000, {"val": 300}, 12)
    measured = measure("e", small, many)
    found = estimate(train("a", small), train("b", small), train("c", other), measured)
    assert set(found.rates) == {"paper, 10 classes", "tanh, 10 classes", "paper, 12 classes"}
    assert all(rate > 0 for rate in found.rates.values())


def test_hours_are_those_of_one_job_after_the_other(small):
    found = estimate(*(train(f"run {i}", small) for i in range(9)), devices=2)
    unit = found.steps[0].hours
    assert found.hours == pytest.approx(9 * unit)


def test_plan_is_listed_in_order_with_the_commands_to_run(small):
    first = train("a", small)
    jobs = [first, replace(train("b", small), parent=first), measure("c", small)]
    found = estimate(*jobs, train("t", small))
    assert [step.job.name for step in found.steps] == ["a", "b", "c", "t"]
    assert job_arguments(found.steps[1].job) == [
        *("train", "absent/a", "--run", "b", "--recipe", "paper", "--epochs", "6"),
        *("--init-from", "a/last.safetensors"),
    ]
    assert job_arguments(found.steps[2].job)[:3] == ["eval", "t/last.safetensors", "absent/a"]
    assert (found.table, found.devices) == ("a table", ["cpu"])


@pytest.mark.parametrize(
    ("columns", "devices", "kind", "measured", "factor"),
    [
        (2, 1, "cuda", (16, 1), 1),
        (2, 2, "cuda", (16, 2), 1),
        (2, 3, "cuda", (6, 1), 3),
        (2, 8, "cuda", (2, 1), 8),
        (1, 2, "cuda", (8, 1), 2),
        (1, 2, "cpu", (8, 1), 1),
    ],
)
def test_replicas_are_measured_with_their_share_of_a_batch(
    small, monkeypatch, columns, devices, kind, measured, factor
):
    calls = []

    def note(recipe, _num_classes, used):
        calls.append((recipe.batch_size, len(used)))
        return 100.0

    monkeypatch.setattr(estimate_module, "measure_training", note)
    recipe = with_settings(small, [f"columns={columns}", "reads_both=fc8", "batch_size=16"])
    places = tuple(torch.device(kind, i) for i in range(devices))

    found = estimate_plan("a table", [train("a", recipe)], places, SILENT)

    assert calls == [measured]
    assert found.rates == {"paper, 10 classes": 100.0 * factor}


# --- disk


def test_run_holds_its_weights_twice_and_the_velocity_once(small):
    (step,) = estimate(train("a", small)).steps
    parameters = sum(tensor.numel() for tensor in AlexNet(small, 10).parameters())
    assert step.disk_bytes == (2 + 1) * 4 * parameters


def test_run_that_averages_its_weights_holds_the_average_too(small):
    (step,) = estimate(train("a", replace(small, ema_decay=0.9))).steps
    (other,) = estimate(train("a", small)).steps
    assert step.disk_bytes == other.disk_bytes * 4 // 3


def test_predictions_hold_the_probabilities_of_all_views_and_of_the_center(small):
    _, step = estimate(measure("e", small)).steps
    assert step.disk_bytes == 300 * 10 * 4 * 2


def test_disk_of_the_plan_is_that_of_its_steps(small):
    found = estimate(train("t", small), measure("e", small), AVERAGE)
    assert found.steps[2].disk_bytes == 0
    assert found.disk_bytes == found.steps[0].disk_bytes + found.steps[1].disk_bytes > 0


def test_each_set_is_on_disk_once_with_all_its_splits(small):
    dataset = TableDataset("ilsvrc-2010", "shards/b", 1000, {"val": 300, "test": 700}, 10)
    steps = [train("a", small, 500), measure("e", small, dataset), measure("f", small, dataset)]
    assert estimate(*steps).data_bytes == (500 + 300 + 2000) * SHARD_BYTES


def test_sets_that_are_not_there_are_to_be_prepared(small, tmp_path):
    (tmp_path / "ilsvrc-2012").mkdir()
    steps = [
        train(name, small, 1000, TableDataset(name, str(tmp_path / name), 1000, {"val": 300}, 10))
        for name in ("ilsvrc-2012", "fall-2009", "cifar-10")
    ]
    fall, cifar = tmp_path / "fall-2009", tmp_path / "cifar-10"
    missing = estimate(*steps, *steps).to_prepare
    assert {dataset.name: prep_commands(dataset) for dataset in missing} == {
        "fall-2009": f"alexnet prep SOURCE {fall} && alexnet pca {fall}",
        "cifar-10": f"alexnet prep SOURCE {cifar} --size 32 --quality 100 && alexnet pca {cifar}",
    }


@pytest.mark.parametrize("name", OFFICIAL_SETS)
def test_commands_that_prepare_a_set_can_be_run(small, tmp_path, alexnet, name):
    dataset = TableDataset(name, str(tmp_path / name), 1000, {"val": 300}, 10)
    (missing,) = estimate(measure("e", small, dataset)).to_prepare
    for command in prep_commands(missing).split(" && "):
        program, *arguments = shlex.split(command)
        assert program == "alexnet"
        # It lacks nothing but the files: exit 3, not 2.
        result = alexnet(*arguments)
        assert result.exit_code == 3, result.output


def test_prepared_image_is_taken_to_have_some_20_kilobytes():
    assert 15_000 < SHARD_BYTES < 35_000


def test_plan_of_nothing_costs_nothing():
    found = estimate()
    assert (found.images, found.hours) == (0, 0)
    assert (found.disk_bytes, found.data_bytes, found.steps) == (0, 0, [])


# --- measuring


@pytest.mark.parametrize("devices", [1, 2])
def test_rate_of_a_small_network_is_measured(small, devices):
    allow_tf32("tf32")

    rate = measure_training(small, 10, (CPU,) * devices)

    assert 0 < rate < 1e6
    assert torch.backends.cudnn.conv.fp32_precision == "ieee"
