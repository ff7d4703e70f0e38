import json
import os
import shutil
import signal

import numpy as np
import pytest
import torch

from alexnet_cli.console import ConsoleProgress
from alexnet_cli.model.checkpoint import load_checkpoint

# As TINY in tests/conftest.py, said on the command line.
SETTINGS = ["width=0.0625", "crop_size=99", "batch_size=16", "schedule=linear"]
TINY = [part for setting in [*SETTINGS, "learning_rate=0.005"] for part in ("--set", setting)]
ON_CPU = ("--device", "cpu")


def test_json_says_how_the_run_ended(answer, dataset, tmp_path):
    run = tmp_path / "runs" / "one"
    found = answer("train", dataset, "--run", run, *TINY, "--epochs", 1, *ON_CPU)
    assert found["run"] == str(run)
    assert (found["epochs"], found["steps"]) == (1, 4)
    assert found["best"]["epoch"] == 1
    assert 0 <= found["best"]["top5_error"] <= found["best"]["top1_error"] <= 1
    assert found["images_per_second"] > 0
    assert {path.name for path in run.iterdir()} == {
        "recipe.json",
        "log.jsonl",
        "best.safetensors",
        "last.safetensors",
    }


def test_two_cpu_devices_start_as_one_does(answer, dataset, tmp_path):
    arguments = (*TINY, "--epochs", 1, "--set", "learning_rate=0", *ON_CPU)
    one = answer("train", dataset, "--run", tmp_path / "one", *arguments)
    two = answer("train", dataset, "--run", tmp_path / "two", *arguments, "--gpus", 2)
    assert two["devices"] == ["cpu", "cpu"]
    assert two["best"] == one["best"]


def test_terminated_run_saves_and_resumes_to_the_same_weights(
    answer, fails, dataset, runs, tmp_path, monkeypatch
):
    arguments = ("train", dataset, "--run", tmp_path / "run", *ON_CPU)

    def terminate(*_):
        os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(ConsoleProgress, "say", terminate)  # said after each epoch
        message = fails(143, *arguments, *TINY, "--set", "seed=1", "--epochs", 2).message
    assert "--resume" in message
    assert answer(*arguments, "--resume")["epochs"] == 2
    resumed = load_checkpoint(tmp_path / "run" / "last.safetensors").weights
    expected = load_checkpoint(runs.first / "last.safetensors").weights
    for name, weights in expected.items():
        np.testing.assert_array_equal(resumed[name], weights)


def test_finished_run_resumes_to_a_later_end(alexnet, dataset, runs, tmp_path):
    run = shutil.copytree(runs.first, tmp_path / "run")
    result = alexnet("train", dataset, "--run", run, "--resume", "--epochs", 3, *ON_CPU)
    assert result.exit_code == 0
    assert "3 epochs, 12 steps" in result.stdout
    rows = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    best = min(row["val"]["top1_error"] for row in rows)
    assert f"top-1 {best:.1%}" in result.stdout
    assert "images/s on cpu" in result.stdout
    assert "epoch 3/3: train loss" in result.stderr


def test_finished_run_has_nothing_left_to_do(answer, dataset, runs, unharmed):
    check = unharmed(runs.first)
    found = answer("train", dataset, "--run", runs.first, "--resume", *ON_CPU)
    assert (found["epochs"], found["steps"], found["images_per_second"]) == (2, 8, None)
    check()


def test_existing_run_is_left_as_it_is(fails, dataset, runs, unharmed):
    check = unharmed(runs.first)
    assert "--resume" in fails(3, "train", dataset, "--run", runs.first, *TINY, *ON_CPU).message
    check()


def test_folder_of_other_files_is_left_as_it_is(fails, dataset, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    assert "not empty" in fails(3, "train", dataset, "--run", tmp_path, *TINY, *ON_CPU).message
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_resume_without_a_checkpoint_is_refused(fails, dataset, tmp_path):
    failure = fails(3, "train", dataset, "--run", tmp_path / "none", "--resume", *ON_CPU)
    assert "no checkpoint" in failure.message


def test_resume_with_another_recipe_is_refused(fails, dataset, runs, unharmed):
    check = unharmed(runs.first)
    arguments = ("--run", runs.first, "--resume", "--set", "seed=5", *ON_CPU)
    assert "another recipe" in fails(2, "train", dataset, *arguments).message
    check()


def test_resume_on_another_dataset_is_refused(fails, two_class_dataset, runs, unharmed):
    check = unharmed(runs.first)
    failure = fails(3, "train", two_class_dataset, "--run", runs.first, "--resume", *ON_CPU)
    assert "began with dataset" in failure.message
    check()


def test_missing_pixel_stats_name_the_command_that_makes_them(fails, dataset, tmp_path):
    copy = shutil.copytree(dataset, tmp_path / "copy")
    (copy / "pixel_stats.npz").unlink()
    failure = fails(3, "train", copy, "--run", tmp_path / "run", *TINY, *ON_CPU)
    assert f"alexnet pca {copy}" in failure.message
    assert not (tmp_path / "run").exists()


def test_pictures_smaller_than_the_patches_are_refused(fails, dataset, tmp_path):
    failure = fails(3, "train", dataset, "--run", tmp_path / "run", *ON_CPU)
    assert "patches of 224" in failure.message
    assert not (tmp_path / "run").exists()


def test_missing_dataset_is_refused(fails, tmp_path):
    failure = fails(3, "train", tmp_path / "none", "--run", tmp_path / "run", *ON_CPU)
    assert "alexnet prep" in failure.message


def test_two_gpus_that_are_not_there_are_exit_4(fails, dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    failure = fails(4, "train", dataset, "--run", tmp_path / "run", *TINY, "--gpus", 2)
    assert "2 GPUs wanted, 0 found" in failure.message
    assert "--device cpu --gpus 2" in failure.message
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        (("--gpus", 3), "--gpus 3"),
        (("--recipe", "nonsense"), "nonsense"),
        (("--set", "depth=9"), "no field depth"),
        (("--set", "epochs"), "field=value"),
        (("--set", "epochs=many"), "expected int"),
        (("--set", "batch_size=0"), "batch_size=0"),
    ],
)
def test_what_does_not_exist_is_exit_2(fails, dataset, tmp_path, wrong, word):
    failure = fails(2, "train", dataset, "--run", tmp_path / "run", *ON_CPU, *wrong)
    assert word in failure.message
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("wrong", [("--device", "banana"), ("--gpus", 0), ("--epochs", 0)])
def test_impossible_values_are_refused_by_the_parser(wrong_command_line, tmp_path, wrong):
    assert wrong[0] in wrong_command_line("train", "data", "--run", tmp_path / "run", *wrong)


def test_diverged_training_is_exit_6_and_publishes_nothing(fails, dataset, tmp_path):
    arguments = (*TINY, "--set", "learning_rate=1000", "--epochs", 2, *ON_CPU)
    failure = fails(6, "train", dataset, "--run", tmp_path / "run", *arguments)
    assert "at epoch 1, step" in failure.message
    assert "--set learning_rate=" in failure.message
    assert not list((tmp_path / "run").glob("*.safetensors"))
