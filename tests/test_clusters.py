"""The scripts of docs/clusters.md run: programs of the cluster are local processes here."""

import os
import re
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

PAGE = Path(__file__).parent.parent / "docs" / "clusters.md"
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
SCRIPTS = {
    found[1]: text
    for kind, text in BLOCKS
    if kind == "bash" and (found := re.search(r"^# ([\w.-]+)$", text, re.MULTILINE))
}
CALLS = [text for kind, text in BLOCKS if kind == "bash" and text not in SCRIPTS.values()]
PODS = [pod for kind, text in BLOCKS if kind == "yaml" for pod in yaml.safe_load_all(text)]

# The commands as the page has them, made small and sent to the CPU.
ALEXNET = """#!{python}
import sys
from alexnet_cli.cli.app import main
small = ["--set=width=0.0625", "--set=crop_size=56", "--set=batch_size=16"]
more = {{
    "prep": ["--size", "64"],
    "train": ["--device=cpu", "--save-steps=1"] + ([] if "--resume" in sys.argv else small),
    "eval": ["--device=cpu"],
}}
sys.argv += more.get((sys.argv + [""])[1], [])
sys.argv = ["{source}" if word == "/data/imagenet" else word for word in sys.argv]
if __name__ == "__main__":
    main()
"""
SRUN = """#!/bin/bash
while [[ $1 == --* ]]; do shift; done
for rank in $(seq 0 $((${SLURM_NTASKS:-1} - 1))); do
    SLURM_PROCID=$rank SLURM_LOCALID=$rank "$@" & echo $! >> pids
done
code=0
for pid in $(jobs -p); do wait $pid; found=$?; [ $found -gt $code ] && code=$found; done
exit $code
"""
SCONTROL = """#!/bin/bash
if [ "$1" = show ]; then echo 127.0.0.1; echo 127.0.0.1; else echo "$@" >> requeued; fi
"""
SSH = """#!/bin/bash
[ "$1" = -tt ] && shift
exec bash -c "$(sed 's/MASTER_ADDR=node0/MASTER_ADDR=127.0.0.1/' <<< "$2")"
"""


@pytest.fixture(scope="module")
def cluster(release, tmp_path_factory):
    """A folder where the scripts of the page run, after its prep on Slurm."""
    folder = tmp_path_factory.mktemp("cluster")
    programs = {"srun": SRUN, "scontrol": SCONTROL, "ssh": SSH}
    programs["alexnet"] = ALEXNET.format(python=sys.executable, source=release)
    (folder / "bin").mkdir()
    for name, text in programs.items():
        (folder / "bin" / name).write_text(text)
        (folder / "bin" / name).chmod(stat.S_IRWXU)
    for name, text in SCRIPTS.items():
        (folder / name).write_text(text)
    ended = bash(folder, "prep.sbatch", SLURM_CPUS_PER_TASK=2).communicate()
    assert (folder / "shards" / "ilsvrc2012" / "pixel_stats.npz").is_file(), ended
    return folder


def bash(folder: Path, *arguments: str, **variables) -> subprocess.Popen:
    path = {"PATH": f"{folder / 'bin'}:{os.environ['PATH']}", "GLOO_SOCKET_IFNAME": "lo"}
    path["PYTHONPATH"] = str(PAGE.parent.parent)
    return subprocess.Popen(
        ["bash", *arguments],
        cwd=folder,
        env=os.environ | path | {name: str(value) for name, value in variables.items()},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def arguments_of(call: str) -> list[str]:
    """Return the words of a call of the page, after its program."""
    lines = (line for block in CALLS for line in block.splitlines())
    return next(line.split()[1:] for line in lines if line.startswith(call))


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def on_slurm(folder: Path, *arguments: str, **variables) -> subprocess.Popen:
    """Start the script of the replicas as a job of two tasks on this machine."""
    slurm = {"JOB_NODELIST": "node[0-1]", "JOB_ID": os.getpid(), "NTASKS": 2}
    slurm |= {"NTASKS_PER_NODE": 2, "CPUS_PER_TASK": 1}
    slurm = {f"SLURM_{name}": value for name, value in slurm.items()}
    return bash(folder, "replicas.sbatch", *arguments, **slurm | variables)


@pytest.fixture(scope="module")
def jobs(cluster) -> list[tuple[int, str]]:
    """Two jobs on Slurm of one run, runs/paper: the first is stopped; exit codes and logs."""
    train = arguments_of("sbatch replicas.sbatch train")[1:]
    (cluster / "pids").unlink()
    job = on_slurm(cluster, *train, "--epochs", "200")
    log, deadline = cluster / "runs/paper/log.jsonl", time.monotonic() + 120
    while not log.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    for pid in (cluster / "pids").read_text().split():
        os.kill(int(pid), signal.SIGUSR1)
    stopped = job.communicate()[0]
    epochs = str(len(log.read_text().splitlines()) + 1)
    again = on_slurm(cluster, *train, "--epochs", epochs, SLURM_RESTART_COUNT=1)
    finished = again.communicate()[0]
    return [(job.returncode, stopped), (again.returncode, finished)]


def test_slurm_job_saves_before_its_time_is_over_is_requeued_and_resumes(cluster, jobs):
    (code, stopped), (code_again, finished) = jobs
    assert code == 138, stopped
    assert "stopped and saved" in stopped
    assert (cluster / "requeued").read_text() == f"requeue {os.getpid()}\n"
    assert code_again == 0, finished
    assert re.search(r"epochs of runs/paper: \d+, until now 200\n", finished)
    assert "resuming runs/paper after epoch" in finished


def test_commands_run_over_ssh(cluster, jobs):
    script = SCRIPTS["run-on-nodes"].replace("29500", str(free_port()))
    (cluster / "run-on-nodes").write_text(script)
    said, _ = bash(cluster, *arguments_of("bash run-on-nodes eval")).communicate()
    assert said.count("val: 30 images") == 1, said


def test_pods_of_kubernetes_train_together_and_resume(cluster, jobs):
    (job,) = (pod for pod in PODS if pod["kind"] == "Job" and pod["metadata"]["name"] == "train")
    (service,) = (pod for pod in PODS if pod["kind"] == "Service")
    spec = job["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    variables = {entry["name"]: entry["value"] for entry in container["env"]}
    assert variables["MASTER_ADDR"] == f"{job['metadata']['name']}-0.{spec['subdomain']}"
    assert spec["subdomain"] == service["metadata"]["name"]
    assert int(variables["WORLD_SIZE"]) == job["spec"]["completions"] == job["spec"]["parallelism"]
    volumes = {volume["name"] for volume in spec["volumes"]}
    assert {mount["name"] for mount in container["volumeMounts"]} == volumes
    variables |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    program, *arguments = container["command"]
    pods = [bash(cluster, *arguments, JOB_COMPLETION_INDEX=rank, **variables) for rank in range(2)]
    said = [pod.communicate()[0] for pod in pods]
    assert program == "bash"
    assert [pod.returncode for pod in pods] == [0, 0], said
    assert "resuming runs/paper after epoch" in said[0]


def test_prep_of_kubernetes_is_a_command_line(alexnet, tmp_path):
    (job,) = (pod for pod in PODS if pod["kind"] == "Job" and pod["metadata"]["name"] == "prep")
    (container,) = job["spec"]["template"]["spec"]["containers"]
    program, *arguments = container["command"]
    assert program == "alexnet"
    assert alexnet(*arguments).exit_code == 3  # the folder of the archives is not here
