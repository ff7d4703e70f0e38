"""`alexnet runs`, and what a run records beside its checkpoints."""

import csv
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from alexnet_cli.io.folder_lock import LOCK_NAME
from alexnet_cli.training.environment import describe_session
from alexnet_cli.training.run_directory import RunDirectory


@pytest.fixture
def folder(runs, tmp_path) -> Path:
    """A finished run, one that was stopped after an epoch, one that diverged, and other folders."""
    for name, source in (("a", runs.first), ("b", runs.second), ("c", runs.first)):
        shutil.copytree(source, tmp_path / name)
    RunDirectory(tmp_path / "b").go_back(1)
    RunDirectory(tmp_path / "c").go_back(0)
    (tmp_path / "c" / "diverged.json").write_text("{}")
    (tmp_path / "other").mkdir()
    return tmp_path


def test_runs_are_listed_with_their_state_and_best_errors(answer, folder):
    found = answer("runs", folder)
    assert [Path(run["run"]).name for run in found["runs"]] == ["a", "b", "c"]
    assert [run["state"] for run in found["runs"]] == ["finished", "stopped", "diverged"]
    assert [(run["epochs"], run["num_epochs"]) for run in found["runs"]] == [(2, 2), (1, 2), (0, 2)]
    rows = [json.loads(line) for line in (folder / "a" / "log.jsonl").read_text().splitlines()]
    lowest = min(row["val"]["top1_error"] for row in rows)
    assert found["runs"][0]["best"]["top1_error"] == lowest
    assert found["runs"][2]["best"] is None
    assert found["runs"][0]["changes"]["crop_size"] == 99


def test_damaged_run_is_listed_and_hides_no_other(answer, shown, folder):
    (folder / "b" / "recipe.json").write_text("{")
    (folder / "b" / "log.jsonl").write_bytes(b'\xff\n[1]\n{"epoch": 1}\n{"epoch": 2, "val"')
    found = answer("runs", folder)
    assert [run["state"] for run in found["runs"]] == ["finished", "damaged", "diverged"]
    assert found["runs"][1]["epochs"] == 1
    assert found["differences"] == {}
    shutil.rmtree(folder / "a")
    shutil.rmtree(folder / "c")
    assert "damaged" in shown("runs", folder)


def test_long_names_of_runs_are_shown_whole(shown, folder, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.chdir(folder)
    name = "a-run-of-which-the-end-of-the-name-tells-3"
    (folder / "a").rename(name)
    cells = [line.split("\u2502")[1].strip() for line in shown("runs", name).splitlines()[3:-1]]
    assert name in "".join(cells)


def test_fields_in_which_runs_differ_are_listed(answer, shown, runs):
    assert answer("runs", runs.first, runs.second)["differences"] == {"seed": [1, 2]}
    assert "seed: 1, 2" in shown("runs", runs.first, runs.second)


def test_csv_has_one_row_per_run(shown, answer, folder):
    rows = list(csv.DictReader(io.StringIO(shown("runs", folder, "--csv"))))
    for row, run in zip(rows, answer("runs", folder)["runs"], strict=True):
        assert (row["run"], row["state"]) == (run["run"], run["state"])
        best = run["best"]
        assert row["top1_error"] == (str(best["top1_error"]) if best else "")


def test_run_of_another_process_is_in_training(answer, folder):
    program = (
        "import sys; from pathlib import Path\n"
        "from alexnet_cli.training.run_directory import RunDirectory\n"
        "with RunDirectory(Path(sys.argv[1])).locked(): print(flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", program, str(folder / "b")]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe) as process:
        process.stdout.readline()
        (found,) = answer("runs", folder / "b")["runs"]
        process.stdin.close()
    assert found["state"] == "training"
    assert answer("runs", folder / "b")["runs"][0]["state"] == "stopped"
    assert not (folder / "b" / LOCK_NAME).exists()


def test_folder_without_runs_is_refused(fails, folder):
    for path in (folder / "other", folder / "none"):
        assert "no run" in fails(3, "runs", path).message


def test_table_of_the_log_has_its_numbers(runs):
    rows = [json.loads(line) for line in (runs.first / "log.jsonl").read_text().splitlines()]
    table = list(csv.DictReader(io.StringIO((runs.first / "log.csv").read_text())))
    assert [float(row["train_loss"]) for row in table] == [row["train_loss"] for row in rows]
    for mine, theirs in zip(table, rows, strict=True):
        assert float(mine["val_top1_error"]) == theirs["val"]["top1_error"]


def test_environment_has_one_entry_per_process_and_no_secrets(runs, tmp_path, monkeypatch):
    first = json.loads((runs.first / "environment.json").read_text())["sessions"]
    assert len(first) == 1
    assert first[0]["devices"] == ["cpu"]
    assert first[0]["packages"]["torch"]
    url = "https://user:hunter2@host/data?X-Signature=hunter2"
    monkeypatch.setattr(sys, "argv", ["alexnet", "train", url, "really?"])
    monkeypatch.setitem(os.environ, "AWS_SECRET_ACCESS_KEY", "hunter2")
    monkeypatch.setitem(os.environ, "ALEXNET_TRAIN_INIT_FROM", url)
    monkeypatch.setitem(os.environ, "ALEXNET_TRAIN_SEED", "7")
    monkeypatch.setitem(os.environ, "ALEXNET_EVAL_VIEWS", "hunter2")
    run = RunDirectory(tmp_path)
    for _ in range(2):
        run.add_session(describe_session((), 1))
    text = run.environment.read_text()
    assert "hunter2" not in text
    sessions = json.loads(text)["sessions"]
    assert len(sessions) == 2
    options = {"ALEXNET_TRAIN_INIT_FROM": "https://host/data", "ALEXNET_TRAIN_SEED": "7"}
    assert options.items() <= sessions[0]["variables"].items()
    assert sessions[1]["command"] == ["alexnet", "train", "https://host/data", "really?"]
