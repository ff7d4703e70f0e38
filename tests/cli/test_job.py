"""Commands as processes of their own."""

import os
import signal
import threading
import time

import pytest

from alexnet_cli.cli.job import run_job
from alexnet_cli.errors import JobError


def test_child_command_is_shown_with_its_purpose_and_result(dataset, capfd):
    found = run_job(["pca", str(dataset)], "The mean.", quiet=False)
    assert found["images"] == 60
    text = capfd.readouterr().out
    assert "The mean." in text
    assert f"$ alexnet pca {dataset}" in text
    assert "component 1" in text


def test_command_is_shown_as_it_can_be_pasted(tmp_path, capfd):
    with pytest.raises(JobError):
        run_job(["pca", str(tmp_path / "my shards")], "The mean.", quiet=False)
    assert f"$ alexnet pca '{tmp_path}/my shards'" in capfd.readouterr().out


def test_failing_child_ends_with_its_exit_code_and_says_why_itself(tmp_path, capfd):
    with pytest.raises(JobError) as ended:
        run_job(["pca", str(tmp_path)], "The mean.", quiet=True)
    assert ended.value.exit_code == 3
    assert str(ended.value).splitlines() == [
        "`alexnet pca` ended with exit code 3, see above.",
        "Finished work is kept.",
    ]
    out, err = capfd.readouterr()
    assert "no index.json" in err
    assert out == ""


@pytest.mark.parametrize(
    ("program", "exit_code"),
    [("import sys; sys.exit(6)", 6), ("import os; os.kill(os.getpid(), 9)", 137)],
)
def test_child_that_is_killed_ends_as_a_shell_says_it(monkeypatch, tmp_path, program, exit_code):
    # Stands for `python -m alexnet_cli`, so that nothing has to be loaded.
    package = tmp_path / "alexnet_cli"
    package.mkdir()
    (package / "__main__.py").write_text(program)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(JobError, match=f"`alexnet train` ended with exit code {exit_code},") as e:
        run_job(["train", "shards/a"], "A run.", quiet=True)
    assert e.value.exit_code == exit_code


def test_signal_to_the_parent_lets_the_child_save_and_ends_with_its_code(dataset, tmp_path, capfd):
    def stop_when_training() -> None:
        deadline = time.monotonic() + 60
        while not (tmp_path / "run" / "log.jsonl").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=stop_when_training, daemon=True).start()
    settings = [f"--set={text}" for text in ("width=0.0625", "crop_size=99", "batch_size=16")]
    run = ["train", str(dataset), "--run", str(tmp_path / "run"), "--device", "cpu", *settings]
    with pytest.raises(JobError) as ended:
        run_job(run, "A run to be stopped.", quiet=True)
    assert ended.value.exit_code == 143
    assert (tmp_path / "run" / "last.safetensors").is_file()
    assert "stopped and saved" in capfd.readouterr().err
