"""Prep on a real cluster of three worker processes: about 12 s, half of it starting them."""

import os
import signal
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest
from helpers import Listener, files_of, refused

from alexnet_cli.cli.hints import message
from alexnet_cli.data.demo.images import CLASSES, draw_jpeg
from alexnet_cli.data.shards.writer import RECORDS
from alexnet_cli.errors import MachineError, Stopped, UsageError
from alexnet_cli.io.progress import SILENT
from alexnet_cli.io.signals import StopSignal
from alexnet_cli.prep import cluster as cluster_module
from alexnet_cli.prep.build import prep
from alexnet_cli.prep.cluster import collect_facts, connected
from alexnet_cli.prep.plan import PrepOptions, PrepRequest

distributed = pytest.importorskip("distributed", reason="Dask's distributed is not installed")
Client, LocalCluster = distributed.Client, distributed.LocalCluster
OPTIONS = PrepOptions(size=64, shard_size=20)


@contextmanager
def started(folder: Path, num_workers: int):
    with LocalCluster(
        n_workers=num_workers,
        threads_per_worker=1,
        processes=True,
        host="127.0.0.1",
        dashboard_address="127.0.0.1:0",  # without it 8787, and a warning if that is taken
        local_directory=str(folder),
    ) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory) -> str:
    """The address of three workers."""
    with started(tmp_path_factory.mktemp("cluster"), 3) as cluster:
        yield cluster.scheduler_address


@pytest.fixture(scope="module")
def deserted(tmp_path_factory) -> str:
    """The address of a scheduler without workers."""
    with started(tmp_path_factory.mktemp("deserted"), 0) as cluster:
        yield cluster.scheduler_address


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """Class folders of 400 images, four of them different."""
    import numpy as np

    folder = tmp_path_factory.mktemp("source")
    for label, name in enumerate(("cat", "dog")):
        (folder / name).mkdir()
        for number in range(2):
            first = folder / name / f"{number}-0.JPEG"
            first.write_bytes(
                draw_jpeg(CLASSES[label].draw, np.random.default_rng([label, number]))
            )
            for copy in range(1, 100):
                os.link(first, folder / name / f"{number}-{copy}.JPEG")
    return folder


@pytest.fixture(scope="module")
def expected(source, tmp_path_factory) -> dict[str, bytes]:
    """What a prep on this machine makes of the source."""
    folder = tmp_path_factory.mktemp("expected") / "dataset"
    prep(PrepRequest(source, folder, OPTIONS, workers=1))
    return files_of(folder)


class AtFirstShard(Listener):
    """Progress that does something once, when the first shard is done."""

    def __init__(self, do):
        super().__init__()
        self.do = do

    def advance(self, count: int = 1, note: str = "") -> None:
        if self.what == "prep" and self.do:
            do, self.do = self.do, None
            do()


def partial_files(folder: Path) -> list[Path]:
    return list(folder.rglob("*.partial"))


def kill_a_worker_over_its_shard(folder: Path) -> None:
    while True:
        for path in folder.glob("*.tar.*.partial"):
            worker = int(path.suffixes[-2][1:])
            os.kill(worker, signal.SIGSTOP)
            if path.exists():  # so it cannot finish it
                os.kill(worker, signal.SIGKILL)
                return
            os.kill(worker, signal.SIGCONT)


def test_killed_worker_does_not_change_a_byte(scheduler, source, expected, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # paths are relative to our own folder, not to a worker's
    folder = Path("dataset")
    progress = AtFirstShard(lambda: kill_a_worker_over_its_shard(folder))
    prep(PrepRequest(Path(os.path.relpath(source)), folder, OPTIONS, scheduler=scheduler), progress)
    assert progress.do is None
    assert f"{scheduler}: 3 workers" in progress.lines
    assert files_of(folder) == expected


def test_signal_ends_prep_and_the_same_command_continues(
    scheduler, source, expected, tmp_path, monkeypatch
):
    folder = tmp_path / "dataset"
    tokens = watch_tokens_when_workers_are_waited_for(folder, monkeypatch)
    progress = AtFirstShard(lambda: signal.raise_signal(signal.SIGINT))
    with refused(Stopped, r"stopped: \d+ of 20 shards are done") as stopped:
        prep(PrepRequest(source, folder, OPTIONS, scheduler=scheduler), progress)
    assert stopped.value.exit_code == 130
    assert tokens == [[]]
    assert partial_files(folder) == []
    done = {path.name for path in folder.glob("*.tar")}
    assert 1 <= len(done) < 20
    assert {p.name for p in (folder / RECORDS).iterdir()} == {
        "plan.json",
        *(f"{name}.json" for name in done),
    }
    assert tasks_on(scheduler) == 0
    progress = AtFirstShard(None)
    prep(PrepRequest(source, folder, OPTIONS, scheduler=scheduler), progress)
    assert any(line.startswith(f"resuming: {len(done)} of 20") for line in progress.lines)
    assert files_of(folder) == expected


def watch_tokens_when_workers_are_waited_for(folder: Path, monkeypatch) -> list[list[Path]]:
    seen, wait = [], cluster_module.wait

    def look_and_wait(pending, seconds):
        seen.append(list((folder / RECORDS).glob("cluster-*")))
        return wait(pending, seconds)

    monkeypatch.setattr(cluster_module, "wait", look_and_wait)
    return seen


def tasks_on(scheduler: str) -> int:
    with Client(scheduler, set_as_default=False) as client:
        return client.run_on_scheduler(lambda dask_scheduler: len(dask_scheduler.tasks))


def fault_of(address: str, source: Path, folder: Path) -> str:
    """Return the message of a prep that must end with exit code 4 and leave no new folder."""
    with pytest.raises(MachineError) as caught:
        prep(PrepRequest(source, folder, OPTIONS, scheduler=address))
    assert message(caught.value).count("\n") <= 2
    assert not folder.exists()
    return message(caught.value)


def test_worker_that_does_not_see_the_dataset_is_refused_before_any_work(
    scheduler, source, tmp_path, monkeypatch
):
    monkeypatch.setattr(cluster_module, "write_bytes", lambda path, content: None)
    message = fault_of(scheduler, source, tmp_path / "dataset")
    assert f"{tmp_path / 'dataset'}: No such file or directory" in message


def test_worker_that_joins_later_is_checked_by_its_first_task(
    scheduler, source, tmp_path, monkeypatch
):
    def other_facts(source: Path) -> dict[str, str]:
        return {**collect_facts(source), "alexnet": "9.9"}

    monkeypatch.setattr(cluster_module, "collect_facts", other_facts)
    monkeypatch.setattr(cluster_module, "_check_workers", lambda client, job: 0)
    with refused(MachineError, r"alexnet 0\.\S+ there, 9\.9 here"):
        prep(PrepRequest(source, tmp_path / "dataset", OPTIONS, scheduler=scheduler))
    assert not list(tmp_path.rglob("*.tar"))


def test_worker_that_cannot_load_the_check_is_refused_with_what_it_has(
    scheduler, source, tmp_path, monkeypatch
):
    (tmp_path / "of_tomorrow.py").write_text("def check_worker(job):\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    import of_tomorrow

    monkeypatch.setattr(cluster_module, "check_worker", of_tomorrow.check_worker)
    message = fault_of(scheduler, source, tmp_path / "dataset")
    version = cluster_module.alexnet_cli.__version__
    assert f"cannot do the work of alexnet {version}; its own version is 0." in message
    assert "No module named 'of_tomorrow'" in message


def test_prep_that_takes_over_the_folder_ends_the_first(scheduler, source, tmp_path):
    folder = tmp_path / "dataset"

    def take_over() -> None:
        (token,) = (folder / RECORDS).glob("cluster-*")
        token.unlink()

    with refused(MachineError, "Another prep works in this folder"):
        prep(PrepRequest(source, folder, OPTIONS, scheduler=scheduler), AtFirstShard(take_over))
    assert partial_files(folder) == []
    assert list(folder.glob("*.tar"))


def test_shard_that_kills_its_workers_is_named(scheduler, source, tmp_path, monkeypatch):
    monkeypatch.setattr(cluster_module, "make_shard_there", lambda job, task: os._exit(1))
    allow_failures(scheduler, 0)
    try:
        with refused(MachineError, r"died one after another over train-0000\d\d\.tar,"):
            prep(PrepRequest(source, tmp_path / "dataset", OPTIONS, scheduler=scheduler))
    finally:
        allow_failures(scheduler, 3)
    assert tasks_on(scheduler) == 0


def allow_failures(scheduler: str, number: int) -> None:
    with Client(scheduler, set_as_default=False) as client:
        client.run_on_scheduler(
            lambda dask_scheduler: setattr(dask_scheduler, "allowed_failures", number)
        )


def test_prep_without_workers_ends_after_a_wait(deserted, source, tmp_path, monkeypatch):
    monkeypatch.setattr(cluster_module, "WAIT_SECONDS", 1.0)
    monkeypatch.setattr(cluster_module, "LOOK_SECONDS", 0.1)
    with refused(MachineError, "no worker is left, and none came within 1 s"):
        prep(PrepRequest(source, tmp_path / "dataset", OPTIONS, scheduler=deserted))
    assert tasks_on(deserted) == 0
    assert list((tmp_path / "dataset" / RECORDS).glob("cluster-*")) == []


def test_lost_scheduler_ends_prep(source, tmp_path):
    with started(tmp_path / "lost", 0) as cluster:
        timer = threading.Timer(1.0, cluster.close)
        timer.start()
        with refused(MachineError, "the scheduler was lost"):
            prep(
                PrepRequest(
                    source, tmp_path / "dataset", OPTIONS, scheduler=cluster.scheduler_address
                )
            )
        timer.join()


def test_token_of_an_earlier_prep_ends_what_is_left_of_it(deserted, tmp_path):
    (tmp_path / RECORDS).mkdir()
    (tmp_path / RECORDS / "cluster-old").touch()
    with connected(deserted, tmp_path, tmp_path, SILENT):
        assert len(list((tmp_path / RECORDS).glob("cluster-*"))) == 1
        assert not (tmp_path / RECORDS / "cluster-old").exists()
    assert not (tmp_path / RECORDS).exists()


def test_no_tasks_need_no_workers(deserted, tmp_path):
    with connected(deserted, tmp_path, tmp_path, SILENT) as cluster:
        assert list(cluster.run_tasks([], StopSignal())) == []


@pytest.mark.parametrize(
    "address", ["", "host", "tcp:/host:8786", "http://host:8787", "host:99999", "host:8786/a", ":1"]
)
def test_invalid_address_is_exit_2(source, tmp_path, address):
    with refused(UsageError, "expected HOST:PORT"):
        with connected(address, source, tmp_path, SILENT):
            pass


def test_address_without_scheduler_is_exit_4(source, tmp_path, monkeypatch):
    monkeypatch.setattr(cluster_module, "CONNECT_SECONDS", 0.3)
    message = fault_of("127.0.0.1:9", source, tmp_path / "dataset")
    assert "127.0.0.1:9: no Dask scheduler answers there" in message


def test_missing_dask_error_says_what_to_install(source, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    assert "alexnet-cli[cluster]" in fault_of("host:8786", source, tmp_path / "dataset")
