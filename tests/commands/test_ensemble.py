import itertools
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import Listener

from alexnet_cli.distributed.precision import SLOW_BF16
from alexnet_cli.inference import classifier
from alexnet_cli.inference.ensemble import search_weights, weighted_sum
from alexnet_cli.inference.metrics import topk_credit
from alexnet_cli.inference.predictions import load_predictions
from alexnet_cli.model import checkpoint as checkpoint_module

ON_CPU = ("--device", "cpu")


@pytest.fixture
def altered(predictions, tmp_path):
    """Save the second run's predictions with some fields changed."""

    def save(name: str, **changes):
        path = tmp_path / name
        replace(load_predictions(predictions[1]), **changes).save(path)
        return path

    return save


def test_json_has_members_weights_and_errors(answer, predictions):
    found = answer("ensemble", *predictions)
    assert [member["file"] for member in found["members"]] == [str(path) for path in predictions]
    assert found["weights"] == [0.5, 0.5]
    assert found["images"] == 30
    for errors in (found, *found["members"]):
        assert 0 <= errors["top5_error"] <= errors["top1_error"] <= 1


def test_average_equals_one_made_by_hand(answer, predictions):
    found = answer("ensemble", *predictions)
    first, second = (load_predictions(path) for path in predictions)
    probs = (first.probs.astype(np.float64) + second.probs) / 2
    order = np.argsort(-probs, axis=1)
    is_label = order == first.labels[:, None]
    assert found["top1_error"] == pytest.approx(1 - is_label[:, :1].any(axis=1).mean())
    assert found["top5_error"] == pytest.approx(1 - is_label[:, :5].any(axis=1).mean())
    log_loss = -np.log(probs[np.arange(30), first.labels]).mean()
    assert found["log_loss"] == pytest.approx(log_loss)


def test_checkpoints_give_what_their_predictions_files_give(answer, runs, dataset, predictions):
    checkpoints = [run / "best.safetensors" for run in (runs.first, runs.second)]
    from_files = answer("ensemble", *predictions)
    arguments = ("--data", dataset, "--views", 1, *ON_CPU)
    from_checkpoints = answer("ensemble", *checkpoints, *arguments)
    for name in ("images", "top1_error", "top5_error", "log_loss"):
        assert from_checkpoints[name] == pytest.approx(from_files[name])


def test_checkpoint_beside_a_predictions_file_has_ten_views(
    answer, checkpoint, predictions, dataset
):
    found = answer("ensemble", checkpoint, predictions[1], "--data", dataset, *ON_CPU)
    assert [member["views"] for member in found["members"]] == [10, 1]


def test_table_shows_members_and_average(shown, answer, predictions):
    found, text = answer("ensemble", *predictions), shown("ensemble", *predictions)
    for errors in (found, *found["members"]):
        assert f"{errors['log_loss']:.4f}" in text
        assert f"{errors['top1_error']:.2%}" in text
    assert "average" in text


def test_torch_is_never_loaded_for_predictions_files(needs_no_torch, predictions):
    needs_no_torch("ensemble", *predictions, "--json")


def test_ensemble_of_one_is_refused(fails, predictions):
    assert "at least two" in fails(2, "ensemble", predictions[0]).message


def test_same_network_twice_is_refused(fails, predictions, checkpoint, dataset):
    failure = fails(3, "ensemble", predictions[0], predictions[0])
    assert "are the same network" in failure.message
    arguments = ("--data", dataset, "--views", 1, *ON_CPU)
    failure = fails(3, "ensemble", predictions[0], checkpoint, *arguments)
    assert "are the same network" in failure.message


def test_other_images_are_refused(fails, predictions, altered):
    keys = load_predictions(predictions[1]).keys
    path = altered("other.npz", keys=keys[::-1])
    assert "other.npz" in (message := fails(3, "ensemble", predictions[0], path).message)
    assert "differ in images" in message


@pytest.mark.parametrize(
    ("field", "value"), [("split", "train"), ("fingerprint", "0123"), ("classes", ("x",) * 10)]
)
def test_other_origins_are_refused(fails, predictions, altered, field, value):
    path = altered("other.npz", **{field: value})
    message = fails(3, "ensemble", predictions[0], path).message
    assert f"differ in {'dataset' if field == 'fingerprint' else field}" in message


def test_checkpoint_without_data_is_refused(fails, checkpoint, predictions):
    failure = fails(2, "ensemble", checkpoint, predictions[1])
    assert "--data DATASET" in failure.message


def test_member_that_is_no_checkpoint_is_named(fails, checkpoint, dataset, tmp_path):
    (tmp_path / "bad.safetensors").write_text("no tensors here")
    arguments = (tmp_path / "bad.safetensors", checkpoint, "--data", dataset, *ON_CPU)
    assert "bad.safetensors" in fails(3, "ensemble", *arguments).message


@pytest.fixture
def never_run(monkeypatch):
    """A network that is run at all fails the test."""
    monkeypatch.setattr("alexnet_cli.inference.predict_split.predict_split", pytest.fail)


def test_bad_member_is_found_before_any_is_run(
    fails, runs, dataset, two_class_dataset, predictions, altered, tmp_path, never_run
):
    good = [run / "best.safetensors" for run in (runs.first, runs.second)]
    (tmp_path / "cut.safetensors").write_bytes(good[1].read_bytes()[:-100])
    others = altered("other.npz", keys=load_predictions(predictions[1]).keys[::-1])
    again = tmp_path / "again.safetensors"
    again.write_bytes(good[0].read_bytes())
    faults = {tmp_path / "cut.safetensors": "cut.safetensors", others: "differ in images"}
    faults |= {again: "are the same network", tmp_path / "none.npz": "none.npz"}
    for path, message in faults.items():
        arguments = (*good, path, "--data", dataset, "--views", 1, *ON_CPU)
        assert message in fails(3, "ensemble", *arguments).message
    elsewhere = (*good, "--data", two_class_dataset, *ON_CPU)
    assert "classes unknown to" in fails(3, "ensemble", *elsewhere).message


def test_checkpoints_are_loaded_once_and_their_networks_built_once(
    answer, runs, dataset, predictions, monkeypatch
):
    calls = []
    for module, name in ((checkpoint_module, "load_checkpoint"), (classifier, "build_network")):
        real = getattr(module, name)

        def counted(*arguments, name=name, real=real):
            calls.append(name)
            return real(*arguments)

        monkeypatch.setattr(module, name, counted)
    members = (runs.first / "best.safetensors", runs.second / "best.safetensors")

    found = answer("ensemble", *members, "--data", dataset, "--views", 1, *ON_CPU)

    assert calls == ["load_checkpoint", "build_network"] * 2
    assert found["log_loss"] == answer("ensemble", *predictions)["log_loss"]


@pytest.mark.parametrize("content", [None, b"", b"no arrays here"])
def test_member_that_is_no_predictions_file_is_named(fails, predictions, tmp_path, content):
    path = tmp_path / "bad.npz"
    if content is not None:
        path.write_bytes(content)
    failure = fails(3, "ensemble", predictions[0], path)
    problem = "No such file" if content is None else "not a predictions file"
    assert f"bad.npz: {problem}" in failure.message


def test_three_views_are_refused(wrong_command_line, predictions):
    assert "--views: 3" in wrong_command_line("ensemble", *predictions, "--views", 3)


# --- weights


def test_given_weights_are_those_of_a_weighted_mean(answer, predictions):
    found = answer("ensemble", *predictions, "--weights", "3,1")
    probs, labels = zip(
        *((f["probs"], f["labels"]) for f in map(np.load, predictions)), strict=True
    )
    mean = 0.75 * probs[0].astype(float) + 0.25 * probs[1]
    assert found["weights"] == [0.75, 0.25]
    wrong = [row.argmax() != label for row, label in zip(mean, labels[0], strict=True)]
    assert found["top1_error"] == pytest.approx(sum(wrong) / len(wrong))
    assert found["searched_on"] == 0


def test_searched_weights_are_reported_on_the_other_half(answer, shown, predictions):
    found = answer("ensemble", *predictions, "--weights", "search")
    assert (found["images"], found["searched_on"]) == (15, 15)
    assert sum(found["weights"]) == pytest.approx(1)
    assert "searched on 15" in shown("ensemble", *predictions, "--weights", "search")


def test_search_trusts_the_member_that_is_right():
    labels = np.arange(40) % 20
    right = np.eye(20)[labels] * 0.2 + 0.04
    wrong = np.roll(np.eye(20)[labels], (0, 7), (0, 1)) * 0.2 + 0.04
    blind = np.linspace(0.9, 0.1, 20)[None].repeat(40, axis=0)
    weights = search_weights([blind, right, wrong], labels)
    averaged = weighted_sum([blind, right, wrong], weights)
    assert topk_credit(averaged, labels, 5).mean() == 1.0
    assert weights[1] > weights[0]


def test_search_equals_trying_every_step_by_hand():
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 12, 50)
    probs = [rng.dirichlet(np.ones(12) * 0.3, 50) for _ in range(3)]

    def error(weights):
        mixed = sum(w * p for w, p in zip(weights, probs, strict=True))
        return sum(
            label not in np.argsort(-row)[:5] for row, label in zip(mixed, labels, strict=True)
        )

    expected = [0.5, 0.5, 0.5]
    for _, member in itertools.product(range(5), range(3)):
        best = error(expected)
        for step in range(21):
            trial = [*expected[:member], step / 20, *expected[member + 1 :]]
            if error(trial) < best:
                best, expected = error(trial), trial
    assert search_weights(probs, labels) == pytest.approx(np.array(expected) / sum(expected))


@pytest.mark.parametrize("weights", ["", "1", "1,2,3", "1,x", "0,0", "-1,2", "nan,1", "inf,1"])
def test_invalid_weights_are_exit_2(fails, predictions, weights):
    assert (
        f"weights {weights!r}: write equal"
        in fails(2, "ensemble", *predictions, "--weights", weights).message
    )


# --- precision


def test_checkpoints_are_run_in_the_precision_that_is_named(
    alexnet, runs, dataset, predictions, monkeypatch
):
    checkpoints = [run / "best.safetensors" for run in (runs.first, runs.second)]
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    arguments = ("--data", dataset, "--views", 1, "--precision", "bf16", *ON_CPU, "--json")

    result = alexnet("ensemble", *checkpoints, *arguments)

    found, exact = (
        json.loads(result.stdout),
        json.loads(alexnet("ensemble", *predictions, "--json").stdout),
    )
    assert found["precision"] == "bf16"
    assert found["log_loss"] != exact["log_loss"]
    assert found["log_loss"] == pytest.approx(exact["log_loss"], abs=0.05)
    assert " ".join(result.stderr.split()).count(SLOW_BF16) == 1


def test_predictions_files_have_no_precision(answer, predictions):
    assert answer("ensemble", *predictions)["precision"] is None


# --- progress


@pytest.mark.parametrize("num_members", [2, 5])
def test_search_for_weights_shows_how_far_it_is(num_members):
    rng, listener = np.random.default_rng(0), Listener()
    members = rng.dirichlet(np.ones(10), (num_members, 40))

    search_weights(members, rng.integers(0, 10, 40), listener)

    assert (listener.total, listener.done) == (5 * num_members, 5 * num_members)
    assert listener.notes[-1].startswith("top-5 error ")
