"""`alexnet train` on a network of milliseconds: beginning, resuming, importing; half a minute."""

import json
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import Listener, train

from alexnet_cli.cli.console import ConsoleProgress
from alexnet_cli.distributed.precision import SLOW_BF16
from alexnet_cli.model.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from alexnet_cli.model.network import AlexNet, initialize
from alexnet_cli.recipes.catalog import find_recipe
from alexnet_cli.recipes.overrides import widen
from alexnet_cli.recipes.recipe import Milestone, Recipe
from alexnet_cli.training.run_directory import RunDirectory
from alexnet_cli.training.train_step import TrainStep
from alexnet_cli.training.trainer import Trainer

# As TINY in tests/conftest.py, said on the command line.
SETTINGS = ["width=0.0625", "crop_size=99", "batch_size=16", "schedule=linear"]
TINY = [part for setting in [*SETTINGS, "learning_rate=0.005"] for part in ("--set", setting)]
ON_CPU = ("--device", "cpu")


def test_json_describes_the_finished_run(answer, dataset, tmp_path):
    run = tmp_path / "runs" / "one"
    found = answer("train", dataset, "--run", run, *TINY, "--epochs", 1, *ON_CPU)
    assert found["run"] == str(run)
    assert (found["epochs"], found["steps"]) == (1, 4)
    assert found["best"]["epoch"] == 1
    assert 0 <= found["best"]["top5_error"] <= found["best"]["top1_error"] <= 1
    assert found["images_per_second"] > 0
    assert {path.name for path in run.iterdir()} == {
        "recipe.json",
        "environment.json",
        "log.jsonl",
        "log.csv",
        "best.safetensors",
        "last.safetensors",
    }


def test_short_options_are_settings_and_runs_get_unused_names(
    answer, dataset, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    tiny = [part for setting in SETTINGS if "batch" not in setting for part in ("--set", setting)]
    arguments = ("train", dataset, *tiny, "--epochs", 1, *ON_CPU)
    short = answer(*arguments, "--lr", 0.004, "--batch-size", 20, "--seed", 5)
    long = ("learning_rate=0.004", "batch_size=20", "seed=5")
    spelled = answer(*arguments, *(part for setting in long for part in ("--set", setting)))
    assert (short["run"], spelled["run"]) == ("runs/paper", "runs/paper-2")
    assert short["best"] == spelled["best"]
    recipes = [(Path(run) / "recipe.json").read_text() for run in ("runs/paper", "runs/paper-2")]
    assert recipes[0] == recipes[1]
    assert json.loads(recipes[0])["seed"] == 5


def test_field_given_twice_and_unnamed_run_to_resume_are_refused(wrong_command_line, dataset):
    twice = ("--lr", 0.1, "--set", "learning_rate=0.2")
    assert "learning_rate is given twice" in wrong_command_line("train", dataset, *twice)
    assert "--run" in wrong_command_line("train", dataset, "--resume")


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

    def terminate(_progress, line):
        if line.startswith("epoch "):
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
    assert f"{tmp_path / 'none'}: no checkpoint to resume." in failure.message
    assert "without --resume" in failure.message
    assert list(tmp_path.iterdir()) == []


def test_resume_with_another_recipe_is_refused(fails, dataset, runs, unharmed):
    check = unharmed(runs.first)
    arguments = ("--run", runs.first, "--resume", "--set", "seed=5", *ON_CPU)
    message = fails(3, "train", dataset, *arguments).message
    assert "began with another recipe: " in message
    assert "crop_size 99, not 224; conv1.filters 8, not 96; " in message
    assert " more.\n" in message
    check()


def test_resume_on_another_dataset_is_refused(fails, two_class_dataset, runs, unharmed):
    check = unharmed(runs.first)
    failure = fails(3, "train", two_class_dataset, "--run", runs.first, "--resume", *ON_CPU)
    assert "learns 10 classes" in failure.message
    assert "class 0 is n" in failure.message
    assert "cat here" in failure.message
    check()


def test_missing_pixel_stats_name_the_command_that_makes_them(fails, dataset, tmp_path):
    copy = shutil.copytree(dataset, tmp_path / "copy")
    (copy / "pixel_stats.npz").unlink()
    failure = fails(3, "train", copy, "--run", tmp_path / "run", *TINY, *ON_CPU)
    assert f"alexnet pca {copy}" in failure.message
    assert not (tmp_path / "run").exists()


def test_images_smaller_than_the_crops_are_refused(fails, dataset, tmp_path):
    failure = fails(3, "train", dataset, "--run", tmp_path / "run", *ON_CPU)
    assert "crops of 224" in failure.message
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


def test_run_that_another_process_trains_is_left_as_it_is(fails, dataset, runs, unharmed):
    check = unharmed(runs.first)

    with RunDirectory(runs.first).locked():
        resumed = fails(4, "train", dataset, "--run", runs.first, "--resume", *ON_CPU)
        begun = fails(4, "train", dataset, "--run", runs.first, *TINY, *ON_CPU)

    for failure in (resumed, begun):
        assert f"{runs.first}: in use by another process (" in failure.message
    check()


def test_run_stopped_before_its_first_checkpoint_begins_again(answer, fails, dataset, tmp_path):
    arguments = ("train", dataset, "--run", tmp_path / "run", *TINY, "--epochs", 1, *ON_CPU)
    fails(6, *arguments, "--set", "learning_rate=1000")
    left = {path.name for path in (tmp_path / "run").iterdir()}
    assert left == {"recipe.json", "environment.json", "diverged.json"}

    assert answer(*arguments)["steps"] == 4
    assert not (tmp_path / "run" / "diverged.json").exists()

    kept = Recipe.from_json((tmp_path / "run" / "recipe.json").read_text())
    assert kept.learning_rate == 0.005


# --- stopping and saving


def test_signal_in_validation_stops_before_its_end_and_resumes_to_the_same_run(
    answer, fails, dataset, runs, tmp_path, monkeypatch
):
    arguments = ("train", dataset, "--run", tmp_path / "run", *ON_CPU)
    real, calls = Trainer._validate, []

    def validate(trainer):
        calls.append(os.kill(os.getpid(), signal.SIGTERM))
        return real(trainer)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_validate", validate)
        message = fails(143, *arguments, *TINY, "--set", "seed=1", "--epochs", 2).message
    assert "stopped and saved at epoch 1, step 4" in message
    assert not (tmp_path / "run" / "log.jsonl").exists()
    assert len(calls) == 1

    assert answer(*arguments, "--resume")["epochs"] == 2

    resumed, expected = (last_of(run) for run in (tmp_path / "run", runs.first))
    assert_equal(resumed.weights, expected.weights)
    assert resumed.train_state == expected.train_state


@pytest.mark.parametrize(
    ("every", "steps"),
    [(("--save-steps", 1), [1, 2, 3, 4]), (("--save-steps", 3), [3, 4]), ((), [4])],
    ids=str,
)
def test_checkpoints_within_an_epoch_are_as_often_as_asked_for(
    answer, dataset, tmp_path, monkeypatch, every, steps
):
    saved, real = [], RunDirectory.save

    def save(run, checkpoint, *, is_best):
        saved.append(checkpoint.train_state.total_steps)
        real(run, checkpoint, is_best=is_best)

    monkeypatch.setattr(RunDirectory, "save", save)
    answer("train", dataset, "--run", tmp_path / "run", *TINY, "--epochs", 1, *ON_CPU, *every)

    assert saved == steps


def test_full_disk_keeps_the_last_checkpoint_and_the_run_resumes_when_there_is_room(
    answer, fails, dataset, runs, tmp_path, monkeypatch
):
    run, real, first = tmp_path / "run", os.fsync, []
    arguments = ("train", dataset, "--run", run, *ON_CPU)

    def fail(descriptor):
        if first:
            raise OSError(28, "No space left on device")
        if (run / "last.safetensors").exists():
            first.append((run / "last.safetensors").read_bytes())
        return real(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        message = fails(4, *arguments, *TINY, "--set", "seed=1", "--epochs", 2).message

    assert "disk" in message
    assert "last.safetensors is kept" in message
    assert (run / "last.safetensors").read_bytes() == first[0]
    assert last_of(run).train_state.epoch == 1
    assert answer(*arguments, "--resume")["epochs"] == 2
    assert_equal(last_of(run).weights, last_of(runs.first).weights)


def test_log_that_cannot_be_written_is_reported_and_training_continues(
    alexnet, dataset, tmp_path, monkeypatch
):
    def fail(_run, _row):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(RunDirectory, "add_row", fail)
    arguments = ("--run", tmp_path / "run", *TINY, "--epochs", 2, *ON_CPU)
    result = alexnet("train", dataset, *arguments)

    assert result.exit_code == 0, result.output
    line = "log.jsonl: could not be written (No space left on device); training continues"
    assert result.stderr.count(line) == 2
    assert last_of(tmp_path / "run").train_state.epoch == 2


def test_full_memory_of_the_device_is_exit_4_with_a_smaller_batch(
    fails, answer, dataset, tmp_path, monkeypatch
):
    """In the third step; what was saved after the second is kept."""
    run, real = tmp_path / "run", TrainStep.loss
    arguments = ("train", dataset, "--run", run, *ON_CPU)

    def loss(train_step, batch, at, *more):
        if at.step == 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.25 GiB. GPU 0 ..")
        return real(train_step, batch, at, *more)

    with monkeypatch.context() as patch:
        patch.setattr(TrainStep, "loss", loss)
        message = fails(4, *arguments, *TINY, "--epochs", 1, "--save-steps", 1).message

    assert "out of memory with batches of 16 (2.25 GiB needed)" in message
    assert "--set batch_size=8" in message
    assert answer(*arguments, "--resume")["steps"] == 4


@pytest.mark.parametrize(
    ("change", "values"),
    [
        ("batch_size=8", "batch_size 16, not 8."),
        ("seed=5", "seed 1, not 5."),
        ("momentum=0.8", "momentum 0.9, not 0.8."),
        ("fc6.dropout=0", "fc6.dropout 0.5, not 0.0."),
        ("conv2.filters=32", "conv2.filters 16, not 32."),
        ("reads_both=fc8", "reads_both ('conv3', 'fc6', 'fc7', 'fc8'), not ('fc8',)."),
        ("width=4", " more.\n"),
    ],
)
def test_resume_with_anything_else_than_more_epochs_is_refused(
    fails, dataset, runs, unharmed, change, values
):
    check = unharmed(runs.first)
    arguments = ("--run", runs.first, "--resume", *TINY, "--set", "seed=1", "--set", change)

    message = fails(3, "train", dataset, *arguments, *ON_CPU).message

    assert values in message
    assert "only its number of epochs and its devices may change" in message
    check()


@pytest.mark.parametrize(
    "end", [("--epochs", 3), (*TINY, "--set", "seed=1", "--set", "epochs=3")], ids=["option", "set"]
)
def test_changed_end_of_a_resumed_run_is_recorded(answer, dataset, runs, tmp_path, end):
    run = shutil.copytree(runs.first, tmp_path / "run")
    answer("train", dataset, "--run", run, "--resume", *end, *ON_CPU)

    assert Recipe.from_json((run / "recipe.json").read_text()).epochs == 3
    assert last_of(run).recipe.epochs == 3


def test_run_is_resumed_on_another_number_of_devices(answer, dataset, runs, tmp_path):
    run = shutil.copytree(runs.first, tmp_path / "run")
    more = ("--resume", "--epochs", 3, *ON_CPU, "--gpus", 2)

    assert answer("train", dataset, "--run", run, *more)["devices"] == ["cpu", "cpu"]


@pytest.mark.parametrize(
    "wrong", [("--columns", 3), ("--save-minutes", -1), ("--save-steps", -1), ("--precision", "x")]
)
def test_impossible_choices_are_refused_by_the_parser(wrong_command_line, tmp_path, wrong):
    assert wrong[0] in wrong_command_line("train", "data", "--run", tmp_path / "run", *wrong)


# --- beginning with layers of another network

CONVS = ("conv1", "conv2", "conv3", "conv4", "conv5")
HIDDEN = ("fc6", "fc7")
# Section 6's networks as small as TINY.
SMALL = ("--set", "width=0.0625", "--set", "crop_size=99", "--set", "batch_size=16")


def layers_of(weights: dict[str, np.ndarray], *layers: str) -> dict[str, np.ndarray]:
    return {name: tensor for name, tensor in weights.items() if name.partition(".")[0] in layers}


def assert_equal(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        np.testing.assert_array_equal(found[name], tensor, err_msg=name)


def drawn(recipe: Recipe, num_classes: int = 10) -> dict[str, np.ndarray]:
    """Return the weights that a run of this recipe draws."""
    net = AlexNet(recipe, num_classes)
    initialize(net, recipe.seed)
    return {name: parameter.detach().numpy() for name, parameter in net.named_parameters()}


def last_of(run: Path) -> Checkpoint:
    return load_checkpoint(run / "last.safetensors", with_optimizer=True)


def test_imported_and_fresh_layers_are_reported(alexnet, dataset, checkpoint, tmp_path):
    arguments = ("--recipe", "pretrain-2009", *SMALL, "--epochs", 1, "--init-from", checkpoint)

    result = alexnet("train", dataset, "--run", tmp_path / "run", *arguments, *ON_CPU)

    assert result.exit_code == 0, result.output
    friendly_oom_errors = "imported: conv1, conv2, conv3, conv4, conv5; fresh: conv6, fc6, fc7, fc8"
    assert friendly_oom_errors in result.stderr.splitlines()
    assert "imported:" not in result.stdout
    assert result.stdout.startswith(str(tmp_path))


def test_recipe_that_names_no_layer_imports_the_whole_network(alexnet, dataset, runs, tmp_path):
    source = runs.first / "last.safetensors"
    arguments = (*TINY, "--set", "learning_rate=0", "--epochs", 1, "--init-from", source)

    result = alexnet("train", dataset, "--run", tmp_path / "run", *arguments, *ON_CPU)

    assert f"imported: {', '.join((*CONVS, *HIDDEN, 'fc8'))}; fresh: none" in result.stderr
    found = last_of(tmp_path / "run")
    assert_equal(found.weights, load_checkpoint(source).weights)
    # The source has momentum, of which nine tenths would have been kept.
    assert any(tensor.any() for tensor in last_of(runs.first).optimizer.values())
    assert not any(tensor.any() for tensor in found.optimizer.values())


def test_classifier_of_other_classes_is_drawn_afresh(alexnet, two_class_dataset, runs, tmp_path):
    source = runs.first / "last.safetensors"
    still = (*TINY, "--set", "learning_rate=0", "--set", "seed=4", "--epochs", 1)
    arguments = ("--run", tmp_path / "run", *still, "--init-from", source, *ON_CPU)

    result = alexnet("train", two_class_dataset, *arguments)

    assert "fc7; fresh: fc8" in result.stderr
    found = last_of(tmp_path / "run")
    assert_equal(layers_of(found.weights, "fc8"), layers_of(drawn(found.recipe, 2), "fc8"))
    rest = layers_of(load_checkpoint(source).weights, *CONVS, *HIDDEN)
    assert_equal(layers_of(found.weights, *CONVS, *HIDDEN), rest)


def test_classifier_of_as_many_other_classes_is_drawn_afresh(alexnet, dataset, runs, tmp_path):
    source = load_checkpoint(runs.first / "last.safetensors")
    others = [(f"n{number}", name) for number, (_, name) in enumerate(source.classes)]
    save_checkpoint(tmp_path / "others.safetensors", replace(source, classes=others))
    still = (*TINY, "--set", "learning_rate=0", "--epochs", 1)
    arguments = ("--run", tmp_path / "run", *still, "--init-from", tmp_path / "others.safetensors")

    result = alexnet("train", dataset, *arguments, *ON_CPU)

    assert "fc7; fresh: fc8" in result.stderr
    found = last_of(tmp_path / "run")
    assert_equal(layers_of(found.weights, "fc8"), layers_of(drawn(found.recipe), "fc8"))


def test_named_layers_are_imported_on_two_devices_as_on_one(answer, dataset, runs, tmp_path):
    source = runs.first / "last.safetensors"
    still = ("--set", "init_layers=conv2,fc7", "--set", "learning_rate=0", "--set", "seed=4")
    for gpus in (1, 2):
        arguments = ("--run", tmp_path / str(gpus), *TINY, *still, "--epochs", 1, "--gpus", gpus)
        answer("train", dataset, *arguments, "--init-from", source, *ON_CPU)

    found = last_of(tmp_path / "1")
    assert found.recipe.init_layers == ("conv2", "fc7")
    imported = layers_of(load_checkpoint(source).weights, "conv2", "fc7")
    assert_equal(found.weights, drawn(found.recipe) | imported)
    assert_equal(last_of(tmp_path / "2").weights, found.weights)


def test_first_update_of_imported_layers_has_no_momentum(answer, dataset, runs, tmp_path):
    """One update with momentum and one without learn the same if momentum buffers start at zero."""
    source = runs.first / "last.safetensors"
    for momentum in ("0.9", "0"):
        one_step = ("--set", "batch_size=60", "--set", f"momentum={momentum}", "--epochs", 1)
        arguments = ("--run", tmp_path / momentum, *TINY, *one_step, "--init-from", source)
        assert answer("train", dataset, *arguments, *ON_CPU)["steps"] == 1

    found = last_of(tmp_path / "0.9")
    assert_equal(found.weights, last_of(tmp_path / "0").weights)
    assert_equal(found.optimizer, last_of(tmp_path / "0").optimizer)
    assert any(tensor.any() for tensor in found.optimizer.values())


@pytest.fixture(scope="module")
def begun(dataset, checkpoint, tmp_path_factory) -> Path:
    """A run of one epoch that began with the session's checkpoint. Read only."""
    run = tmp_path_factory.mktemp("begun") / "run"
    recipe = replace(
        widen(find_recipe("pretrain-2009"), 1 / 16), crop_size=99, batch_size=16, epochs=1
    )
    train(dataset, run, recipe, init_from=checkpoint)
    return run


def test_checkpoints_keep_where_their_layers_came_from(begun, checkpoint):
    source = load_checkpoint(checkpoint)

    for name in ("last", "best"):
        found = load_checkpoint(begun / f"{name}.safetensors")
        assert found.init_from == {
            "recipe": "paper",
            "dataset": source.fingerprint,
            "weights": source.weights_hash(),
        }


def test_info_shows_where_the_layers_came_from(answer, shown, begun, checkpoint):
    source = load_checkpoint(checkpoint)

    about = answer("info", begun / "best.safetensors")["about"]

    assert about["recipe"] == "pretrain-2009"
    assert about["init_from_recipe"] == "paper"
    assert about["init_from_dataset"] == source.fingerprint
    assert about["init_from_weights"] == source.weights_hash()
    text = shown("info", begun / "best.safetensors")
    assert "init_from_recipe: paper" in text
    assert f"init_from_weights: {source.weights_hash()}" in text
    assert "init_from" not in shown("info", checkpoint)


def test_resumed_run_keeps_where_its_layers_came_from(answer, dataset, begun, tmp_path):
    run = shutil.copytree(begun, tmp_path / "run")

    found = answer("train", dataset, "--run", run, "--resume", "--epochs", 2, *ON_CPU)

    assert found["epochs"] == 2
    assert last_of(run).train_state.epoch == 2
    assert last_of(run).init_from == last_of(begun).init_from != {}


def test_resuming_a_run_that_began_with_imports_needs_no_source(answer, dataset, begun, unharmed):
    check = unharmed(begun)
    arguments = ("--recipe", "pretrain-2009", *SMALL, "--resume", *ON_CPU)

    assert answer("train", dataset, "--run", begun, *arguments)["epochs"] == 1

    check()


def test_next_network_of_the_chain_begins_with_this_one(alexnet, dataset, begun, tmp_path):
    source = begun / "best.safetensors"
    arguments = ("--recipe", "pretrain-2011", *SMALL, "--epochs", 1, "--init-from", source)

    result = alexnet("train", dataset, "--run", tmp_path / "run", *arguments, *ON_CPU)

    assert result.exit_code == 0, result.output
    assert "conv5, conv6; fresh: fc6, fc7, bottleneck, fc8" in result.stderr
    assert last_of(tmp_path / "run").init_from["recipe"] == "pretrain-2009"


def test_layer_at_rest_stays_as_it_was_imported_while_others_learn(dataset, begun, tmp_path):
    """Two epochs by hand: conv1 rests from the first on, conv2 from the second, fc8 learns fast."""
    recipe = replace(
        widen(find_recipe("finetune-2012-from-2009"), 1 / 16),
        crop_size=99,
        batch_size=16,
        epochs=2,
        seed=4,
        milestones=(
            Milestone(epoch=0, lr=0.0, layers=("conv1",)),
            Milestone(epoch=0, lr=1e-4, layers=("conv2",)),
            Milestone(epoch=0, lr=0.01, layers=("fc8",)),
            Milestone(epoch=1, lr=0.0, layers=("conv2",)),
        ),
    )
    source = begun / "last.safetensors"
    finetune = {"init_from": source, "device": "cpu"}
    for epochs in (1, 2):
        train(dataset, tmp_path / str(epochs), replace(recipe, epochs=epochs), **finetune)

    first, second = last_of(tmp_path / "1"), last_of(tmp_path / "2")
    imported = load_checkpoint(source).weights
    for name in first.weights:
        layer, before = name.partition(".")[0], imported[name]
        if layer == "fc8":
            before = drawn(recipe)[name]
        rests = [np.array_equal(first.weights[name], before)]
        rests.append(np.array_equal(second.weights[name], first.weights[name]))
        assert rests == [layer == "conv1", layer in ("conv1", "conv2")], name
        assert first.optimizer[f"{name}.momentum_buffer"].any() == (layer != "conv1")


# --- what cannot begin


def test_recipe_that_imports_layers_needs_a_checkpoint(fails, dataset, tmp_path):
    arguments = ("--run", tmp_path / "run", "--recipe", "finetune-2012", *SMALL, *ON_CPU)

    message = fails(2, "train", dataset, *arguments).message

    assert "recipe finetune-2012 begins with layers of another network" in message
    assert "conv1, conv2, conv3, conv4, conv5, conv6, fc6, fc7" in message
    assert "--init-from" in message
    assert not (tmp_path / "run").exists()


def test_resumed_run_imports_nothing(wrong_command_line, dataset, runs, checkpoint, unharmed):
    check = unharmed(runs.first)
    arguments = ("--run", runs.first, "--resume", "--init-from", checkpoint, *ON_CPU)

    assert "--init-from" in wrong_command_line("train", dataset, *arguments)

    check()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ("--recipe", "pretrain-2011", *SMALL),
            "pretrain-2011 initializes conv6 from the checkpoint, but there is no conv6.weight",
        ),
        (
            ("--recipe", "pretrain-2009", *SMALL, "--set", "conv3.filters=32"),
            "checkpoint, but conv3.weight is (24, 16, 3, 3) there and (32, 16, 3, 3) here",
        ),
        (
            ("--recipe", "cifar-13pct"),
            "no layer of recipe cifar-13pct has the same shape there",
        ),
    ],
)
def test_checkpoint_that_does_not_fit_is_exit_3_and_nothing_is_created(
    fails, dataset, checkpoint, tmp_path, arguments, words
):
    where = ("--run", tmp_path / "runs" / "one", "--init-from", checkpoint, *ON_CPU)

    assert words in fails(3, "train", dataset, *where, *arguments).message

    assert list(tmp_path.iterdir()) == []


def test_source_that_is_no_checkpoint_is_exit_3_and_nothing_is_created(fails, dataset, tmp_path):
    source = tmp_path / "none.safetensors"
    arguments = (*TINY, "--init-from", source, *ON_CPU)

    assert "no such file" in fails(3, "train", dataset, "--run", tmp_path / "a", *arguments).message
    source.write_bytes(b"no tensors here")
    failure = fails(3, "train", dataset, "--run", tmp_path / "a", *arguments)

    assert "not an alexnet checkpoint" in failure.message
    assert [path.name for path in tmp_path.iterdir()] == [source.name]


def test_layer_to_import_that_the_recipe_lacks_is_exit_2(fails, dataset, checkpoint, tmp_path):
    arguments = (*TINY, "--set", "init_layers=conv9", "--init-from", checkpoint, *ON_CPU)

    failure = fails(2, "train", dataset, "--run", tmp_path / "run", *arguments)

    assert "no layer conv9" in failure.message
    assert not (tmp_path / "run").exists()


def test_run_that_began_is_not_begun_again_from_another(fails, dataset, runs, checkpoint, unharmed):
    check = unharmed(runs.second)
    arguments = ("--run", runs.second, *TINY, "--init-from", checkpoint, *ON_CPU)

    assert "--resume" in fails(3, "train", dataset, *arguments).message

    check()


# --- precision


def test_cpu_without_bfloat16_instructions_is_reported_once(
    dataset, tiny_recipe, tmp_path, monkeypatch
):
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    said = Listener()

    result = train(dataset, tmp_path / "run", tiny_recipe, precision="bf16", progress=said)

    assert (result.epochs, result.precision) == (2, "bf16")
    assert said.lines.count(SLOW_BF16) == 1


def test_decoded_images_train_to_the_same_weights(answer, copy, runs, tmp_path):
    arguments = (*TINY, "--set", "seed=1", "--epochs", 2, *ON_CPU)
    found = answer("train", copy, "--run", tmp_path / "raw", *arguments, "--cache", "raw")
    assert found["epochs"] == 2
    assert {path.name.partition("-")[0] for path in copy.glob("*.raw")} == {"train", "val"}
    cached = load_checkpoint(tmp_path / "raw" / "last.safetensors").weights
    for name, weights in load_checkpoint(runs.first / "last.safetensors").weights.items():
        np.testing.assert_array_equal(cached[name], weights)


def test_replicas_build_one_cache_and_train_as_one_process_does(answer, copy, tmp_path):
    arguments = (*TINY, "--epochs", 1, "--set", "learning_rate=0", *ON_CPU)
    one = answer("train", copy, "--run", tmp_path / "one", *arguments)
    how = ("--gpus", 2, "--columns", 1, "--cache", "raw")
    two = answer("train", copy, "--run", tmp_path / "two", *arguments, *how)
    assert two["best"] == one["best"]
    assert len(list(copy.glob("*.raw"))) == 2
    assert not list(copy.glob("*.partial"))


def test_cache_is_not_for_streamed_tars(fails, copy, tmp_path):
    pattern = f"{copy}/train-000000.tar"
    refusal = fails(2, "train", pattern, "--stream", "--run", tmp_path / "run", "--cache", "raw")
    assert "--cache" in refusal.message
