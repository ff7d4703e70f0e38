"""Shared fixtures: a small generated release and what each command makes of it, built once."""

import http.server
import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator

os.environ.setdefault("OMP_NUM_THREADS", "1")

from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from helpers import train
from typer.testing import CliRunner

from alexnet_cli.cli.app import app
from alexnet_cli.data.demo.archives import write_demo_archives
from alexnet_cli.data.pca import pca
from alexnet_cli.io.cores import num_cores
from alexnet_cli.prep.build import prep
from alexnet_cli.prep.plan import PrepOptions, PrepRequest
from alexnet_cli.recipes.overrides import widen
from alexnet_cli.recipes.recipe import PAPER, Recipe

torch.set_num_threads(1)
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in a shell's background job
    signal.signal(signal.SIGINT, signal.default_int_handler)
if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:  # under nohup
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

# A sixteenth of the paper's kernels on 99-pixel patches: a step takes milliseconds.
TINY = replace(
    widen(PAPER, 1 / 16),
    name="paper",
    crop_size=99,
    batch_size=16,
    epochs=2,
    schedule="linear",
    learning_rate=0.005,
)
IMAGE_SIZE = 112


@pytest.hookimpl(optionalhook=True)  # xdist may not be there
def pytest_xdist_auto_num_workers() -> int:
    """One more than there are cores: many tests wait for processes, signals or time limits."""
    return num_cores() + 1


@pytest.fixture(autouse=True)
def forget_verbosity() -> Iterator[None]:
    """Undo what `--quiet` and `--verbose` leave in the environment for jobs and replicas."""
    before = os.environ.get("ALEXNET_VERBOSITY")
    yield
    if before is None:
        os.environ.pop("ALEXNET_VERBOSITY", None)
    else:
        os.environ["ALEXNET_VERBOSITY"] = before


@pytest.fixture(scope="session")
def tiny_recipe() -> Recipe:
    """A network small enough to train in a test."""
    return TINY


@pytest.fixture(scope="session")
def release(tmp_path_factory) -> Path:
    """Generated images in the layout of the official archives: 10 classes, 60 train, 30 val."""
    folder = tmp_path_factory.mktemp("release")
    write_demo_archives(folder, images_per_class=6, val_per_class=3, seed=7)
    return folder


@pytest.fixture(scope="session")
def dataset(release, tmp_path_factory) -> Path:
    """Shards of 25 images of the release at 112 pixels, with pixel statistics. Read only."""
    folder = tmp_path_factory.mktemp("datasets") / "tiny"
    prep(PrepRequest(release, folder, PrepOptions(size=IMAGE_SIZE, shard_size=25), workers=1))
    pca(folder)
    return folder


@pytest.fixture
def copy(dataset, tmp_path) -> Path:
    """`dataset`, to be damaged: three training shards, two of validation."""
    return Path(shutil.copytree(dataset, tmp_path / "copy"))


@pytest.fixture
def tars(dataset, tmp_path) -> Path:
    """The tars of a dataset, without what prep wrote beside them."""
    folder = tmp_path / "tars"
    folder.mkdir()
    for path in dataset.glob("*.tar"):
        shutil.copy(path, folder)
    return folder


@dataclass(frozen=True)
class Runs:
    """Two runs that differ only in their seed."""

    first: Path
    second: Path


@pytest.fixture(scope="session")
def runs(dataset, tmp_path_factory) -> Runs:
    """Two finished runs of two epochs. Read only."""
    folder = tmp_path_factory.mktemp("runs")
    for name, seed in (("first", 1), ("second", 2)):
        train(dataset, folder / name, replace(TINY, seed=seed))
    return Runs(folder / "first", folder / "second")


@pytest.fixture(scope="session")
def checkpoint(runs) -> Path:
    """A checkpoint of the first run. Read only."""
    return runs.first / "best.safetensors"


@pytest.fixture
def alexnet():
    """Call the command line in this process: `alexnet("prep", source, dataset)`."""
    runner = CliRunner()

    def call(*arguments):
        return runner.invoke(app, [str(argument) for argument in arguments])

    return call


class Web:
    """A folder behind HTTP on this machine, with faults to order.

    Attributes:
        url: its address.
        asked: the paths that were asked for, in order.
        faults: by file name, what to do about the next requests, one after the other: a status, or
            "cut" for half the body, "refuse" for no answer, "other" for other bytes of that length.
    """

    def __init__(self, folder: Path):
        self.folder, self.asked, self.faults = folder, [], {}
        web = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                web.answer(self)

            def do_HEAD(self):
                web.answer(self)

            def log_message(self, *_):
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.02,), daemon=True
        )
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def answer(self, request: http.server.BaseHTTPRequestHandler) -> None:
        name = request.path.lstrip("/")
        path, orders = self.folder / name, self.faults.get(name, [])
        if request.command == "GET":
            self.asked.append(name)
        fault = orders.pop(0) if orders else None
        status = fault if isinstance(fault, int) else 200 if path.is_file() else 404
        content = path.read_bytes() if status == 200 else b""
        if fault == "refuse":
            request.close_connection = True
            return
        request.send_response(status)
        request.send_header("Content-Length", str(len(content)))
        request.end_headers()
        if fault == "cut":
            content, request.close_connection = content[: len(content) // 2], True
        if fault == "other":
            content = bytes(len(content))
        if request.command == "GET":
            request.wfile.write(content)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def web(monkeypatch, cache) -> Iterator[Callable[[Path], Web]]:
    """Put a folder behind HTTP: `web(folder).url`; waits between tries are left out."""
    monkeypatch.setattr("alexnet_cli.data.remote.files.PAUSES", (0.0, 0.0, 0.0))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    opened = []

    def open_web(folder: Path) -> Web:
        opened.append(Web(folder))
        return opened[-1]

    yield open_web
    for entry in opened:
        entry.close()


@pytest.fixture
def cache(tmp_path_factory, monkeypatch) -> Path:
    """The folder of what is fetched and measured: each test's own."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("ALEXNET_CACHE", str(folder))
    return folder
