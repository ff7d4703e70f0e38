"""Commands as processes of their own."""

import os
import signal
import threading
import time

import pytest
import typer

from alexnet_cli.children import run_child


def test_child_command_is_shown_with_its_purpose_and_result(dataset, capfd):
    found = run_child(["pca", str(dataset)], "The mean.", quiet=False)
    assert found["images"] == 60
    text = capfd.readouterr().out
    assert "The mean." in text
    assert f"$ alexnet pca {dataset}" in text
    assert "component 1" in text


def test_failing_child_ends_the_demo_with_its_exit_code(tmp_path, capfd):
    with pytest.raises(typer.Exit) as ended:
        run_child(["pca", str(tmp_path)], "The mean.", quiet=True)
    assert ended.value.exit_code == 3
    assert "no index.json" in capfd.readouterr().err


def test_signal_to_the_parent_lets_the_child_save_and_ends_with_its_code(dataset, tmp_path, capfd):
    def stop_when_training() -> None:
        deadline = time.monotonic() + 60
        while not (tmp_path / "run" / "log.jsonl").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=stop_when_training, daemon=True).start()
    settings = [f"--set={text}" for text in ("width=0.0625", "crop_size=99", "batch_size=16")]
    run = ["train", str(dataset), "--run", str(tmp_path / "run"), "--device", "cpu", *settings]
    with pytest.raises(typer.Exit) as ended:
        run_child(run, "A run to be stopped.", quiet=True)
    assert ended.value.exit_code == 143
    assert (tmp_path / "run" / "last.safetensors").is_file()
    assert "stopped and saved" in capfd.readouterr().err
