"""tools/gpu_check: steps that hang, die or fail are recorded, and the others go on."""

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from helpers import load_tool

ROOT = Path(__file__).parent.parent.parent

# Speaks as tools/gpu_steps.py does; its steps are named for what they do.
PROGRAM = """
import json, os, sys, time
def send(message): print(json.dumps(message), flush=True)
for line in sys.stdin:
    name = line.strip()
    send({"figure": {"before": 1}})
    if name == "data":
        time.sleep(60)
    if name == "update":
        print("a driver error", file=sys.stderr, flush=True)
        os._exit(7)
    passed = name != "split"
    send({"check": {"what": "it is right", "passed": passed, "found": "0.5"}})
    send({"status": "passed" if passed else "failed", "note": ""})
"""


@pytest.fixture
def gpu_check(monkeypatch, tmp_path):
    module = load_tool("gpu_check")
    program = tmp_path / "steps.py"
    program.write_text(textwrap.dedent(PROGRAM))
    monkeypatch.setattr(module, "PROGRAM", program)
    limits = {name: 1 if name == "data" else 60 for name in module.STEPS}
    monkeypatch.setattr(module, "STEPS", limits)
    yield module
    del sys.modules["gpu_check"]


def run(module, out: Path, *names: str, minutes: float = 8) -> tuple[int, dict[str, dict]]:
    """Return the exit code and the steps by name, after a run of some steps."""
    only = [argument for name in names for argument in ("--only", name)]
    code = module.main(["--out", str(out), "--minutes", str(minutes), *only])
    steps = json.loads((out / "gpu_check.json").read_text())["steps"]
    return code, {step["name"]: step for step in steps}


def test_step_that_passes_ends_with_zero(gpu_check, tmp_path):
    code, steps = run(gpu_check, tmp_path, "masks")

    assert code == 0
    assert steps["masks"]["status"] == "passed"
    assert steps["masks"]["checks"] == [{"what": "it is right", "passed": True, "found": "0.5"}]


def test_step_that_hangs_is_ended_and_keeps_its_figures(gpu_check, tmp_path):
    code, steps = run(gpu_check, tmp_path, "data", "masks")

    assert code == 1
    assert (steps["data"]["status"], steps["data"]["note"]) == ("failed", "it did not end in time")
    assert steps["data"]["figures"] == {"before": 1}
    assert steps["masks"]["status"] == "passed"


def test_process_that_dies_is_replaced_and_its_last_words_are_kept(gpu_check, tmp_path):
    code, steps = run(gpu_check, tmp_path, "update", "masks")

    assert code == 1
    assert steps["update"]["note"] == "its process ended with code 7: a driver error"
    assert steps["masks"]["status"] == "passed"


def test_failed_check_is_named_in_the_report(gpu_check, tmp_path):
    code, _ = run(gpu_check, tmp_path, "split", "masks")

    assert code == 1
    text = (tmp_path / "gpu_check.md").read_text()
    assert "* FAILED: it is right: 0.5" in text
    assert "| split | failed |" in text
    assert "| masks | passed |" in text


def test_steps_that_no_time_is_left_for_are_not_run_and_not_right(gpu_check, tmp_path):
    code, steps = run(gpu_check, tmp_path, "masks", minutes=0.01)

    assert code == 1
    assert steps["masks"]["status"] == "not run"
    assert "0.01 minutes were over" in steps["masks"]["note"]


@pytest.fixture(scope="module")
def gpu_steps():
    yield load_tool("gpu_steps.py")
    del sys.modules["gpu_steps.py"]


def test_every_step_has_a_limit(gpu_steps):
    module = load_tool("gpu_check")

    assert list(module.STEPS) == list(gpu_steps.STEPS)


def outcome(module, name: str, work: Path) -> tuple[str, list[dict]]:
    """Return the status of a rehearsed step and its checks."""
    options = module.argparse.Namespace(rehearse=True, work=work, out=work, images=None)
    messages = []
    module.run(name, options, messages.append)
    return messages[-1]["status"], [m["check"] for m in messages if "check" in m]


def test_feed_is_right_and_a_wrong_byte_is_seen(gpu_steps, dataset, tmp_path, monkeypatch):
    (tmp_path / "drawn").symlink_to(dataset)
    assert outcome(gpu_steps, "feed", tmp_path)[0] == "passed"

    def spoil(batches, device):
        for number, (images, labels) in enumerate(feed(batches, device)):
            images = images.clone()
            images[0, 5, 5, 1] += number == 40
            yield images, labels

    feed = gpu_steps.to_device
    monkeypatch.setattr(gpu_steps, "to_device", spoil)
    status, checks = outcome(gpu_steps, "feed", tmp_path)

    assert status == "failed"
    assert checks[0]["found"] == "1"


def test_rounding_of_training_in_another_precision_is_seen(gpu_steps, tmp_path, monkeypatch):
    build = gpu_steps.build
    monkeypatch.setattr(gpu_steps, "build", lambda *a, **_: build(*a, precision="bf16"))

    status, checks = outcome(gpu_steps, "precisions", tmp_path)

    assert status == "failed"
    assert [check["passed"] for check in checks] == [False, False, True]


def test_update_that_differs_is_seen(gpu_steps, tmp_path, monkeypatch):
    assert outcome(gpu_steps, "update", tmp_path)[0] == "passed"
    draws = iter([4, 5])
    draw = gpu_steps.draw
    monkeypatch.setattr(
        gpu_steps, "draw", lambda check, _, device: draw(check, next(draws), device)
    )

    status, checks = outcome(gpu_steps, "update", tmp_path)

    assert status == "failed"
    assert not any(check["passed"] for check in checks)


BLOCKED = """
import sys
sys.modules["distributed"] = None
import pytest
sys.exit(pytest.main(["--collect-only", "-q", "-p", "no:cacheprovider", sys.argv[1]]))
"""


def test_tests_are_collected_where_dask_is_missing():
    """The cluster's are skipped; before, they ended the collection of all."""
    path = ROOT / "tests" / "prep" / "test_cluster.py"

    found = subprocess.run(
        [sys.executable, "-c", BLOCKED, str(path)], cwd=ROOT, capture_output=True, text=True
    )

    assert found.returncode == pytest.ExitCode.NO_TESTS_COLLECTED, found.stdout
    assert "SKIPPED [1]" in found.stdout
