"""A table of the paper from one command: planned, trained once, measured, compared."""

import json
import shlex
from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from alexnet_cli.cli import app as cli
from alexnet_cli.commands import reproduce as reproduce_command
from alexnet_cli.commands.reproduce import job_arguments
from alexnet_cli.errors import JobError
from alexnet_cli.inference.predictions import load_predictions
from alexnet_cli.model.checkpoint import load_checkpoint
from alexnet_cli.prep.build import prep
from alexnet_cli.prep.plan import PrepOptions, PrepRequest
from alexnet_cli.recipes.catalog import RECIPES
from alexnet_cli.recipes.paper_tables import (
    FIGURE_1_NETWORKS,
    FIGURE_1_TRIAL_EPOCHS,
    TABLE_NAMES,
    TABLES,
    Figure1Network,
)
from alexnet_cli.reproduce import run as reproduce_verb
from alexnet_cli.reproduce.jobs import Job
from alexnet_cli.reproduce.run import ReproduceRequest, Shortcuts, plan, reproduce

SHRUNK = ("width=0.0625", "crop_size=99", "batch_size=16")
SMALL = tuple(f"--set={setting}" for setting in SHRUNK)
TINY_FIGURE_1 = ("--set=width=0.25", "--set=crop_size=32", "--set=batch_size=16")
ROWS = ("original-2012", "no-lrn")
EPOCHS = 2


@dataclass
class Caller:
    """Runs the commands of a reproduction in this process and remembers them.

    Attributes:
        stop_at: the training (counted from one) that is stopped after an epoch, as by SIGTERM.
    """

    stop_at: int | None = None
    commands: list[list[str]] = field(default_factory=list)

    def __call__(self, arguments: list[str], purpose: str, **_) -> dict:
        assert purpose.endswith(".")
        self.commands.append(arguments)
        if self.verbs().count("train") == self.stop_at:
            assert arguments[arguments.index("--epochs") + 1] == str(EPOCHS)
            invoke([*arguments, "--epochs", "1"])
            raise JobError("`alexnet train` ended with exit code 143", 143)
        return invoke(arguments)

    def run(self, job: Job) -> dict:
        return self(job_arguments(job), job.purpose)

    def verbs(self) -> list[str]:
        return [arguments[0] for arguments in self.commands]


def invoke(arguments: list[str]) -> dict:
    result = CliRunner().invoke(cli.app, [*arguments, "--json"])
    if result.exit_code:
        raise JobError(result.output, result.exit_code)
    return json.loads(result.stdout)


@pytest.fixture
def caller(monkeypatch) -> Caller:
    """What runs the commands of `alexnet reproduce` in this process."""
    caller = Caller()
    monkeypatch.setattr(reproduce_command, "run_job", caller)
    return caller


def two_rows(dataset: Path, out: Path) -> ReproduceRequest:
    shortcuts = Shortcuts(EPOCHS, SHRUNK, device="cpu")
    return ReproduceRequest("ablations", (("ilsvrc-2012", dataset),), out, ROWS, shortcuts)


@dataclass(frozen=True)
class Finished:
    """A reproduction of two rows that nothing disturbed."""

    out: Path
    result: dict
    caller: Caller


@pytest.fixture(scope="module")
def finished(dataset, tmp_path_factory) -> Finished:
    """Read only."""
    out, caller = tmp_path_factory.mktemp("results") / "ablations", Caller()
    return Finished(out, reproduce(two_rows(dataset, out), caller.run), caller)


def option(arguments: list[str], name: str) -> str:
    return arguments[arguments.index(name) + 1]


# --- the plan


def printed_commands(text: str) -> list[list[str]]:
    """Return the command lines that a dry run printed, split as a shell splits them."""
    lines = [line for line in text.splitlines() if line.startswith("  $ ")]
    commands = [shlex.split(part) for line in lines for part in line[4:].split(" && ")]
    assert {command[0] for command in commands} == {"alexnet"}
    return [command[1:] for command in commands]


def dry_run(shown, table: str, *more) -> list[list[str]]:
    small = TINY_FIGURE_1 if table == "figure-1" else (*SMALL, "--set=batch_size=2")
    return printed_commands(shown("reproduce", table, "--dry-run", "--device=cpu", *small, *more))


def trainings(commands: list[list[str]]) -> list[list[str]]:
    return [arguments for arguments in commands if arguments[0] == "train"]


@pytest.mark.parametrize("table", TABLE_NAMES)
def test_plan_without_data_prints_real_command_lines_and_writes_nothing(
    table, shown, alexnet, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    commands = dry_run(shown, table)
    assert len(commands) >= 2
    for arguments in commands:
        # Each is a command line that lacks nothing but the files: exit 3, not 2.
        result = alexnet(*arguments)
        assert result.exit_code == 3, f"{arguments}: {result.output}"
    assert list(tmp_path.iterdir()) == []


def test_plan_has_the_networks_of_the_table(shown, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    commands = dry_run(shown, "ilsvrc-2012", "--only", "7 CNNs*")
    counts = Counter(arguments[0] for arguments in commands)
    assert (counts["train"], counts["eval"], counts["ensemble"]) == (9, 7, 1)
    names = {option(arguments, "--recipe") for arguments in trainings(commands)}
    assert names == {*TABLES["ilsvrc-2012"].rows[-1].members, "pretrain-2009", "pretrain-2011"}
    for arguments in trainings(commands):
        run = f"results/ilsvrc-2012/runs/{option(arguments, '--recipe')}"
        assert option(arguments, "--run") == run


def test_plan_of_figure_1_has_every_rates_trial_and_the_whole_of_one(shown, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    commands = trainings(dry_run(shown, "figure-1", "--only", "cifar-tanh"))
    assert {option(arguments, "--recipe") for arguments in commands} == {"cifar-tanh"}
    rates = FIGURE_1_NETWORKS[1].learning_rates
    for rate, arguments in zip((*rates, rates[0]), commands, strict=True):
        assert f"--set=learning_rate={rate:g}" in arguments
    epochs = [FIGURE_1_TRIAL_EPOCHS] * len(rates) + [RECIPES["cifar-tanh"].epochs]
    assert [int(option(arguments, "--epochs")) for arguments in commands] == epochs


def test_plan_of_a_shortened_figure_1_is_short(answer, tmp_path):
    options = (
        "--dry-run",
        "--epochs",
        "2",
        "--device",
        "cpu",
        "--output",
        tmp_path,
        *TINY_FIGURE_1,
    )
    found = answer("reproduce", "figure-1", *options, "--only", "cifar-relu")
    assert [step["images"] for step in found["steps"]] == [2 * 50_000] * 3


def test_plan_counts_the_published_images_where_none_are_given(answer, tmp_path):
    arguments = (
        "ilsvrc-2010",
        "--dry-run",
        "--device",
        "cpu",
        "--output",
        tmp_path / "out",
        *SMALL,
    )
    found = answer("reproduce", *arguments)
    train, measure = found["steps"]
    assert train["images"] == 93 * 1_261_406
    assert measure["images"] == 10 * 150_000
    assert found["hours"] > 0
    assert (found["table"], found["devices"]) == ("ilsvrc-2010", ["cpu"])
    assert list(found["rates"]) == ["original-2010, 1000 classes"]
    assert set(found) == {
        *("table", "devices", "rates", "steps", "images", "hours"),
        *("disk_bytes", "data_bytes", "to_prepare"),
    }
    assert set(train) == {"name", "command", "images", "hours", "disk_bytes"}


def test_plan_takes_the_images_that_are_given(answer, dataset, tmp_path):
    arguments = ("ablations", "--only", "tanh", "--data", f"ilsvrc-2012={dataset}", "--dry-run")
    place = ("--device", "cpu", "--output", tmp_path / "out")
    found = answer("reproduce", *arguments, *place, *SMALL)
    train, measure = found["steps"]
    assert train["images"] == 90 * 60
    assert measure["images"] == 10 * 30
    assert str(dataset) in train["command"]


def test_plan_takes_images_at_a_url_and_fetches_none(answer, web, cache, dataset, tmp_path):
    server = web(dataset)
    arguments = ("ablations", "--only", "tanh", "--data", f"ilsvrc-2012={server.url}", "--dry-run")

    found = answer("reproduce", *arguments, "--device", "cpu", "--output", tmp_path / "out", *SMALL)

    assert found["steps"][0]["images"] == 90 * 60
    assert server.url in found["steps"][0]["command"]
    assert found["to_prepare"] == {}
    assert set(server.asked) == {"index.json"}


def test_plan_begins_with_preparing_the_data_that_are_not_there(
    shown, dataset, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    own = ("--data", f"ilsvrc-2012={dataset}", "--only", "1 CNN*")
    commands = dry_run(shown, "ilsvrc-2012", *own)
    assert [arguments[0] for arguments in commands[:5]] == ["prep", "pca", "prep", "pca", "train"]
    assert [arguments[-1] for arguments in commands[:4:2]] == [
        "shards/fall-2009",
        "shards/fall-2011",
    ]
    for prepare, compute in (commands[:2], commands[2:4]):
        assert prepare[-1] == compute[-1]
    commands = dry_run(shown, "ablations", "--data", f"ilsvrc-2012={dataset}", "--only", "tanh")
    assert [arguments[0] for arguments in commands] == ["train", "eval"]


def test_images_of_cifar_10_are_to_be_prepared_at_their_own_size(shown, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    prepare, *_ = dry_run(shown, "figure-1", "--only", "cifar-relu")
    assert option(prepare, "--size") == "32"


def test_plan_shows_that_a_stopped_run_will_be_resumed(dataset, finished):
    steps = plan(two_rows(dataset, finished.out)).steps
    for step in steps:
        arguments = job_arguments(step.job)
        assert ("--resume" in arguments) == (arguments[0] == "train")


def test_printed_commands_can_be_pasted_whatever_the_folder_is_called(shown, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    commands = dry_run(shown, "figure-1", "--only", "cifar-relu", "--output", "my results")
    for arguments in trainings(commands):
        assert option(arguments, "--run").startswith("my results/runs/")


# --- a table


def test_errors_are_those_that_eval_reports(finished, dataset, answer):
    rows = finished.result["rows"]
    assert [row["name"] for row in rows] == list(ROWS)
    for row in rows:
        last = finished.out / "runs" / row["name"] / "last.safetensors"
        found = answer("eval", last, dataset, "--device", "cpu")
        assert row["ours"] == [found["top1_error"], found["top5_error"]]
        assert row["images"] == found["images"] == 30


def test_errors_are_those_of_the_saved_predictions(finished):
    for row in finished.result["rows"]:
        found = load_predictions(finished.out / "predictions" / f"{row['name']}.npz")
        wrong = found.probs.argmax(axis=1) != found.labels
        assert row["ours"][0] == pytest.approx(wrong.mean())


def test_gain_is_against_the_row_of_run_145(finished):
    base, other = finished.result["rows"]
    expected = np.subtract(other["ours"], base["ours"])
    np.testing.assert_allclose(other["gain"], expected, atol=1e-12)
    assert base["gain"] is None


def test_shortened_reproduction_says_all_it_is_not(finished, dataset):
    caveats = " ".join(finished.result["caveats"])
    assert len(finished.result["caveats"]) == 4
    for text in ("2-epoch runs", "width=0.0625", "crop_size=99", str(dataset), "10 classes"):
        assert text in caveats
    assert "measured on 30 images of val, not 50,000 of val" in caveats
    for row, own in zip(finished.result["rows"], (91, 97), strict=True):
        assert (row["epochs"], row["recipe_epochs"]) == ([EPOCHS], [own])
        assert row["images_trained_on"] == [EPOCHS * 60]


def test_results_are_written_for_people_and_programs(finished):
    found = json.loads((finished.out / "results.json").read_text())
    assert found == finished.result
    names = {path.name for path in finished.out.iterdir()}
    assert names == {"results.json", "results.md", "runs", "predictions"}
    text = (finished.out / "results.md").read_text()
    assert text.startswith("# Sections 3, 4 and 7")
    for row in found["rows"]:
        top1, top5 = (100 * error for error in row["ours"])
        assert f"| {top1:.1f} / {top5:.1f} |" in text
        assert f"\n| {row['name']} | " in text


def test_networks_are_trained_and_measured_in_turn(finished):
    assert finished.caller.verbs() == ["train", "eval"] * 2
    recipes = [option(a, "--recipe") for a in finished.caller.commands if a[0] == "train"]
    assert recipes == list(ROWS)


def test_run_again_nothing_is_run(finished, dataset):
    again = Caller()
    assert reproduce(two_rows(dataset, finished.out), again.run) == finished.result
    assert again.commands == []


def test_images_at_a_url_give_what_those_of_a_folder_give(
    finished, dataset, cache, tmp_path, answer, caller
):
    url, out = dataset.as_uri(), tmp_path / "out"
    arguments = ("ablations", "--data", f"ilsvrc-2012={url}", "--output", out, "--epochs", EPOCHS)
    arguments += ("--device", "cpu", *SMALL, "--only", "no-lrn")

    found = answer("reproduce", *arguments)

    assert caller.verbs() == ["train", "eval"]
    assert all(url in command for command in caller.commands)
    mine, theirs = found["rows"][0], finished.result["rows"][1]
    assert (mine["ours"], mine["dataset"]) == (theirs["ours"], url)
    assert answer("reproduce", *arguments) == found
    assert caller.verbs() == ["train", "eval"]


def test_run_again_with_fewer_rows_nothing_is_run(finished, dataset, shown, caller, answer):
    options = ("--data", f"ilsvrc-2012={dataset}", "--output", finished.out, "--epochs", EPOCHS)
    arguments = ("ablations", *options, "--device", "cpu", *SMALL, "--only", "no-lrn")
    kept = {path: path.read_bytes() for path in finished.out.glob("results.*")}
    text = shown("reproduce", *arguments)
    found = answer("reproduce", *arguments)
    assert caller.commands == []
    assert [row["ours"] for row in found["rows"]] == [finished.result["rows"][1]["ours"]]
    assert "not the published experiment: 2-epoch runs" in text
    assert str(finished.out / "results.md") in text
    for path, content in kept.items():
        path.write_bytes(content)


def test_lost_predictions_are_measured_again(finished, dataset):
    lost = finished.out / "predictions" / "no-lrn.npz"
    before = load_predictions(lost)
    lost.unlink()
    again = Caller()
    assert reproduce(two_rows(dataset, finished.out), again.run) == finished.result
    assert again.verbs() == ["eval"]
    np.testing.assert_array_equal(load_predictions(lost).probs, before.probs)


def test_predictions_of_other_weights_are_measured_again(finished, dataset):
    mine, other = (finished.out / "predictions" / f"{name}.npz" for name in ROWS)
    kept = mine.read_bytes()
    mine.write_bytes(other.read_bytes())
    again = Caller()
    assert reproduce(two_rows(dataset, finished.out), again.run) == finished.result
    assert again.verbs() == ["eval"]
    assert load_predictions(mine).weights_hash != load_predictions(other).weights_hash
    assert len(mine.read_bytes()) == len(kept)


def test_average_of_networks_is_that_of_their_predictions(dataset, tmp_path):
    data, only = (("ilsvrc-2012", dataset),), ("5 CNNs",)
    request = ReproduceRequest("ilsvrc-2012", data, tmp_path, only, Shortcuts(1, SHRUNK, "cpu"))
    first, again = Caller(), Caller()
    result = reproduce(request, first.run)
    assert first.verbs() == ["train"] * 5 + ["eval"] * 5 + ["ensemble"]
    assert reproduce(request, again.run) == result
    assert again.verbs() == ["ensemble"]
    (row,) = result["rows"]
    found = [load_predictions(tmp_path / "predictions" / f"{name}.npz") for name in row["members"]]
    wrong = np.mean([each.probs for each in found], axis=0).argmax(axis=1) != found[0].labels
    assert row["ours"][0] == pytest.approx(wrong.mean())


def test_stopped_reproduction_goes_on_to_the_same_results(finished, dataset, tmp_path):
    stopped, resumed = Caller(stop_at=2), Caller()
    request = two_rows(dataset, tmp_path / "out")
    with pytest.raises(JobError) as ended:
        reproduce(request, stopped.run)
    assert ended.value.exit_code == 143
    assert stopped.verbs() == ["train", "eval", "train"]
    assert not (tmp_path / "out" / "results.json").exists()

    result = reproduce(request, resumed.run)

    assert resumed.verbs() == ["train", "eval"]
    assert resumed.commands[0] == [*stopped.commands[-1], "--resume"]
    assert result["rows"] == finished.result["rows"]
    assert result["caveats"] == finished.result["caveats"]
    for name in ROWS:
        own, other = (
            load_checkpoint(out / "runs" / name / "last.safetensors").weights_hash()
            for out in (tmp_path / "out", finished.out)
        )
        assert own == other


def test_signal_ends_the_command_with_its_own_exit_code(dataset, tmp_path, alexnet, caller):
    caller.stop_at = 1
    options = ("--data", f"ilsvrc-2012={dataset}", "--epochs", EPOCHS, "--device", "cpu", *SMALL)
    result = alexnet("reproduce", "ablations", *options, "--output", tmp_path / "out")
    assert result.exit_code == 143
    assert result.stdout == ""
    assert "error: `alexnet train` ended with exit code 143\n" in result.stderr
    assert len(caller.commands) == 1


CHAIN = ("original-2012", "pretrain-2009", "pretrain-2011", "finetune-2012")


def check_chain(runs: Path) -> None:
    """Each network must have begun with the last weights of the one before."""
    found = [load_checkpoint(runs / name / "last.safetensors") for name in CHAIN]
    assert found[0].init_from == {}
    for parent, child in pairwise(found):
        assert child.init_from["recipe"] == parent.recipe.name
        assert child.init_from["weights"] == parent.weights_hash()


@pytest.fixture
def pretrain(dataset, tmp_path, answer, caller):
    """Pre-train and fine-tune for some epochs; returns the row and the calls this took."""

    def run(epochs: int) -> tuple[dict, list[list[str]]]:
        caller.commands.clear()
        names = ("ilsvrc-2012", "fall-2009", "fall-2011")
        data = [text for name in names for text in ("--data", f"{name}={dataset}")]
        options = (*data, "--only", "1 CNN*", "--epochs", epochs, "--device", "cpu", *SMALL)
        found = answer("reproduce", "ilsvrc-2012", *options, "--output", tmp_path)
        return found["rows"][0], list(caller.commands)

    return run


def test_pretrained_network_begins_with_what_it_was_pretrained_to(pretrain, tmp_path):
    row, commands = pretrain(1)
    assert [arguments[0] for arguments in commands] == ["train"] * 4 + ["eval"]
    assert row["images"] == 30
    check_chain(tmp_path / "runs")


def test_networks_that_began_with_stale_weights_are_begun_anew_and_the_old_ones_kept(
    pretrain, tmp_path
):
    pretrain(1)
    runs = tmp_path / "runs"
    before = {name: load_checkpoint(runs / name / "last.safetensors") for name in CHAIN}
    row, commands = pretrain(2)
    assert row["epochs"] == [2]
    assert ["--resume" in arguments for arguments in commands] == [True] + [False] * 4
    check_chain(runs)
    old = {f"{name}.old-1" for name in CHAIN[1:]}
    assert {path.name for path in runs.iterdir()} == {*CHAIN, *old}
    for name in CHAIN[1:]:
        kept = load_checkpoint(runs / f"{name}.old-1" / "last.safetensors")
        assert kept.weights_hash() == before[name].weights_hash()


def test_shortened_runs_are_trained_on_once_they_are_no_longer_to_be_short(dataset, tmp_path):
    # Two epochs stand for the recipe's ninety.
    data, settings = (("ilsvrc-2012", dataset),), (*SHRUNK, "epochs=2")
    results = [
        reproduce(
            ReproduceRequest(
                "ablations", data, tmp_path, ("paper",), Shortcuts(epochs, settings, "cpu")
            ),
            Caller().run,
        )
        for epochs in (1, None)
    ]
    assert [result["rows"][0]["epochs"] for result in results] == [[1], [2]]


# --- figure 1


@pytest.fixture
def figure_1(dataset, tmp_path, answer, caller):
    """Figure1 on the generated images; returns the result and the calls."""

    def run(*options) -> tuple[dict, list[list[str]]]:
        place = ("--data", f"cifar-10={dataset}", "--output", tmp_path / "out", "--device", "cpu")
        return answer("reproduce", "figure-1", *place, *TINY_FIGURE_1, *options), caller.commands

    return run


def test_figure_1_tries_every_rate_and_draws_the_curves(figure_1, tmp_path, dataset):
    found, commands = figure_1("--only", "cifar-relu", "--epochs", "2")
    rates = list(FIGURE_1_NETWORKS[0].learning_rates)
    assert [run["learning_rate"] for run in found["runs"]] == rates
    assert [option(arguments, "--recipe") for arguments in commands] == ["cifar-relu"] * 3
    for run in found["runs"]:
        log = tmp_path / "out" / "runs" / f"cifar-relu-{run['learning_rate']:g}" / "log.jsonl"
        rows = [json.loads(line) for line in log.read_text().splitlines()]
        assert run["train_errors"] == [row["train_top1_error"] for row in rows]
        assert len(rows) == 2
        assert (
            load_checkpoint(log.with_name("last.safetensors")).recipe.learning_rate
            == run["learning_rate"]
        )
    assert found["ratio"] is None
    assert f"cifar-10 is {dataset}: 10 classes and 60" in " ".join(found["caveats"])
    with Image.open(found["figure"]) as image:
        assert (image.format, image.size) == ("PNG", (1040, 720))
    assert {path.name for path in (tmp_path / "out").iterdir()} >= {
        *("figure-1.png", "results.json", "results.md", "runs"),
    }
    assert json.loads((tmp_path / "out" / "results.json").read_text()) == found


def test_diverging_rate_does_not_end_the_race(figure_1, tmp_path, monkeypatch):
    monkeypatch.setattr(
        reproduce_verb, "FIGURE_1_NETWORKS", (Figure1Network("cifar-relu", (1000.0, 0.004)),)
    )
    found, commands = figure_1("--epochs", "2", "--set=weight_decay=10")  # 1000 * 10: off at once
    diverged, kept = found["runs"]
    assert diverged == {
        "recipe": "cifar-relu",
        "learning_rate": 1000.0,
        "train_errors": [],
        "epochs": None,
    }
    assert len(kept["train_errors"]) == 2
    assert len(commands) == 2
    text = (tmp_path / "out" / "results.md").read_text()
    assert "| cifar-relu | 1000 | 0 | not reached |" in text
    assert "| cifar-relu | 0.004 | 2 |" in text


def test_figure_1_run_again_trains_nothing_and_tells_the_same(figure_1, dataset, tmp_path, shown):
    options = ("--only", "cifar-tanh", "--epochs", "1")
    first, commands = figure_1(*options)
    num_commands = len(commands)
    again, commands = figure_1(*options)
    assert again == first
    assert len(commands) == num_commands == 3
    place = ("--data", f"cifar-10={dataset}", "--output", tmp_path / "out", "--device", "cpu")
    text = shown("reproduce", "figure-1", *place, *TINY_FIGURE_1, *options)
    assert "no ratio: fewer than two networks reached the goal (paper: about 6)" in text
    assert "not reached" in text


def test_shortened_figure_1_says_so(figure_1):
    found, _ = figure_1("--only", "cifar-relu", "--epochs", "1")
    caveats = " ".join(found["caveats"])
    assert "1-epoch runs" in caveats
    assert "width=0.25" in caveats


# --- refusals


@pytest.fixture
def refused(fails, caller, tmp_path):
    """Expect a refusal before anything is run or written."""

    def call(exit_code: int, *arguments) -> str:
        out = tmp_path / "out"
        failure = fails(exit_code, "reproduce", *arguments, "--device", "cpu", "--output", out)
        assert caller.commands == []
        assert not out.exists()
        return failure.message

    return call


@pytest.mark.parametrize("dry", [(), ("--dry-run",)])
def test_unknown_table_is_refused_with_the_known_ones(refused, dry):
    message = refused(2, "table-2", *dry)
    assert "no table 'table-2'" in message
    for name in TABLE_NAMES:
        assert name in message


@pytest.mark.parametrize("dry", [(), ("--dry-run",)])
@pytest.mark.parametrize(
    ("table", "known"), [("ablations", "no-lrn"), ("ilsvrc-2012", "7 CNNs*"), ("figure-1", "tanh")]
)
def test_unknown_row_is_refused_with_the_known_ones(refused, dataset, dry, table, known):
    data = ("--data", f"ilsvrc-2012={dataset}", "--data", f"cifar-10={dataset}")
    message = refused(2, table, *data, "--only", "vgg", *dry)
    assert "vgg: no such row" in message
    assert known in message


@pytest.mark.parametrize("dry", [(), ("--dry-run",)])
def test_unknown_data_are_refused_with_the_known_ones(refused, dataset, dry):
    message = refused(2, "ablations", "--data", f"imagenet={dataset}", *dry)
    assert "no data set 'imagenet'" in message
    assert "ilsvrc-2012" in message


@pytest.mark.parametrize("text", ["shards/a", "=shards/a", "ilsvrc-2012=", "="])
def test_malformed_data_are_refused(refused, text):
    message = refused(2, "ablations", "--data", text)
    assert f"{text}: write NAME=DATASET" in message


@pytest.mark.parametrize("url", ["ftp://host/a", "https://user:secret@host/a"])
def test_url_that_nothing_is_fetched_from_is_refused(refused, url):
    assert "nothing was fetched" in refused(2, "ablations", "--data", f"ilsvrc-2012={url}")


def test_folder_that_is_no_dataset_is_refused(refused, tmp_path):
    message = refused(3, "ablations", "--data", f"ilsvrc-2012={tmp_path}")
    assert "no index.json" in message


@pytest.fixture
def training_only(class_folders, tmp_path) -> Path:
    """A dataset without held-out images."""
    prep(PrepRequest(class_folders, tmp_path / "shards", PrepOptions(size=112), workers=1))
    return tmp_path / "shards"


def test_dataset_without_held_out_images_is_refused(refused, training_only):
    message = refused(3, "ablations", "--data", f"ilsvrc-2012={training_only}")
    assert "nothing to measure on" in message
    assert "--val-fraction" in message


def test_sets_to_pretrain_on_need_no_held_out_images(alexnet, dataset, training_only, tmp_path):
    names = {"ilsvrc-2012": dataset, "fall-2009": training_only, "fall-2011": training_only}
    data = [text for name, path in names.items() for text in ("--data", f"{name}={path}")]
    options = (*data, "--only", "1 CNN*", "--device", "cpu", *SMALL, "--output", tmp_path / "out")
    result = alexnet("reproduce", "ilsvrc-2012", "--dry-run", *options)
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize("table", TABLES)
def test_table_without_data_is_refused_with_what_to_give(refused, table):
    message = refused(2, table)
    assert "no row has its data" in message
    assert "--data " in message
    assert "--dry-run" in message


def test_rows_whose_data_are_not_given_are_refused(refused, dataset):
    message = refused(2, "ilsvrc-2012", "--only", "1 CNN*", "--data", f"ilsvrc-2012={dataset}")
    assert "missing are fall-2009, fall-2011" in message


def test_figure_1_without_its_images_is_refused(refused, dataset):
    message = refused(2, "figure-1", "--data", f"ilsvrc-2012={dataset}")
    assert "--data cifar-10=DATASET" in message


@pytest.mark.parametrize("setting", ["color=red", "width", "epochs=many"])
def test_unknown_setting_is_refused_before_anything_is_trained(refused, dataset, setting):
    data = ("--data", f"ilsvrc-2012={dataset}")
    assert setting in refused(2, "ablations", *data, "--set", setting)


def test_plan_and_reproduction_need_the_device_that_is_named(fails, tmp_path):
    arguments = ("ablations", "--dry-run", "--device", "cuda", "--gpus", "300")
    assert (
        "300 GPUs wanted" in fails(4, "reproduce", *arguments, "--output", tmp_path / "out").message
    )


@pytest.mark.parametrize("num_devices", [2, 3, 8])
def test_plan_on_many_devices_has_the_commands_that_are_run(
    dataset, tmp_path, alexnet, shown, monkeypatch, num_devices
):
    out, run = tmp_path / "out", []

    def note(arguments: list[str], purpose: str, **_) -> dict:
        run.append(arguments)
        raise JobError("not run", 3)

    monkeypatch.setattr(reproduce_command, "run_job", note)
    data = ("--data", f"ilsvrc-2010={dataset}", "--only", "one-gpu", "--gpus", str(num_devices))

    commands = dry_run(shown, "ablations", *data, "--output", str(out))
    small = (*SMALL, "--set=batch_size=2", "--device=cpu")
    result = alexnet("reproduce", "ablations", *small, *data, "--output", str(out))

    assert result.exit_code == 3
    assert run == trainings(commands)
    assert run[0][-4:] == ["--gpus", str(num_devices), "--columns", "1"]


def test_failing_command_ends_the_reproduction_with_its_exit_code(
    dataset, tmp_path, alexnet, caller
):
    # Patches of 224 pixels do not fit the images.
    options = ("--data", f"ilsvrc-2012={dataset}", "--only", "paper", "--device", "cpu")
    result = alexnet("reproduce", "ablations", *options, "--output", tmp_path / "out")
    assert result.exit_code == 3
    assert caller.verbs() == ["train"]
    assert not (tmp_path / "out").exists()
