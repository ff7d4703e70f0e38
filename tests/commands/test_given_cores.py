"""On one core of several, each command has one worker, and each library one thread."""

import os
import subprocess
import sys

import pytest

from alexnet_cli.cli.openmp import limit_threads
from alexnet_cli.io import cores

# Prints after each command how many threads or processes were started at once.
PROGRAM = """
import os, sys
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
import concurrent.futures as futures
from alexnet_cli.cli.openmp import limit_threads
from alexnet_cli.io import thread_map as thread_map_module
limit_threads()
counts = []

def counting(real):
    class Counting(real):
        def __init__(self, *given, **more):
            counts.extend(given[:1])  # torch's own pools say no number
            super().__init__(*given, **more)
    return Counting

futures.ThreadPoolExecutor = counting(futures.ThreadPoolExecutor)
futures.ProcessPoolExecutor = counting(futures.ProcessPoolExecutor)
real_map = thread_map_module.thread_map

def thread_map(function, items, num_threads, **more):
    counts.append(num_threads)
    return real_map(function, items, num_threads, **more)

thread_map_module.thread_map = thread_map
from alexnet_cli.data.shards import dataset as dataset_module
dataset_module.NUM_THREADS = 1  # they wait for a disk; none of them computes
import onnxruntime
real_session = onnxruntime.InferenceSession

def open_session(path, options, **more):
    counts.append(options.intra_op_num_threads)
    return real_session(path, options, **more)

from alexnet_cli.cli.app import app
from typer.testing import CliRunner

source, dataset, folder, checkpoint, images = sys.argv[1:]
model, made = folder + "/model.onnx", folder + "/made"
small = ["--set=width=0.0625", "--set=crop_size=99", "--set=batch_size=16", "--epochs=1"]
cpu = ["--device", "cpu"]
for line in (
    ["prep", source, made, "--size", "112"],
    ["verify", made],
    ["pca", made],
    ["train", dataset, "--run", folder + "/run", *small, *cpu],
    ["eval", checkpoint, dataset, *cpu],
    ["export", checkpoint, "-o", model],
    ["predict", images, "--model", model, *cpu],
    ["predict", images, "--model", checkpoint, *cpu],
):
    onnxruntime.InferenceSession = open_session
    counts.clear()
    result = CliRunner().invoke(app, line)
    if "torch" in sys.modules:
        counts.append(sys.modules["torch"].get_num_threads())
    print(line[0], result.exit_code, max(counts), len(counts), result.output[-300:].encode())
"""


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system pins no process")
@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="the machine has one core")
def test_each_command_has_one_worker_and_one_thread_on_one_core(
    release, dataset, checkpoint, images, tmp_path
):
    environment = {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"}
    arguments = map(str, (release, dataset, tmp_path, checkpoint, images))
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        check=True,
        capture_output=True,
        text=True,
        env=environment,
    )
    rows = [line.split(maxsplit=4) for line in ended.stdout.splitlines()]
    assert len(rows) == 8
    for command, code, most, _, output in rows:
        assert (code, most) == ("0", "1"), (command, output)


def test_threads_of_libraries_follow_a_quota(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3}, raising=False)
    monkeypatch.setattr(cores, "_cpu_quotas", lambda: [2.0])
    for given, expected in (({}, "2"), ({"OMP_NUM_THREADS": "3"}, "3")):
        limit_threads(given)
        assert given["OMP_NUM_THREADS"] == expected
    monkeypatch.setattr(cores, "_cpu_quotas", lambda: [])
    limit_threads(given := {})
    assert given == {}
