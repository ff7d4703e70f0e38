"""What the tests of the commands share: calls that must end in the documented way, and inputs."""

import io
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from helpers import evaluate
from PIL import Image

from alexnet_cli.data.demo.images import CLASSES, draw_jpeg
from alexnet_cli.data.pca import pca
from alexnet_cli.inference.export import ExportResult, export
from alexnet_cli.prep.build import prep
from alexnet_cli.prep.plan import PrepOptions, PrepRequest


@dataclass(frozen=True)
class Failure:
    """What a failed command left on its two streams."""

    message: str
    stdout: str


@pytest.fixture
def answer(alexnet) -> Callable[..., dict]:
    """Call with --json; the one line on stdout must be an object. Returns it."""

    def call(*arguments) -> dict:
        result = alexnet(*arguments, "--json")
        assert result.exit_code == 0, result.output
        assert result.stdout.count("\n") == 1
        found = json.loads(result.stdout)
        assert isinstance(found, dict)
        return found

    return call


@pytest.fixture
def shown(alexnet) -> Callable[..., str]:
    """Call for people; it must succeed. Returns stdout."""

    def call(*arguments) -> str:
        result = alexnet(*arguments)
        assert result.exit_code == 0, result.output
        return result.stdout

    return call


@pytest.fixture
def fails(alexnet) -> Callable[..., Failure]:
    """Call and expect an exit code, with one error of at most three lines on stderr."""

    def call(exit_code: int, *arguments) -> Failure:
        result = alexnet(*arguments)
        assert result.exit_code == exit_code, result.output
        assert isinstance(result.exception, SystemExit), repr(result.exception)
        assert "Traceback" not in result.output
        _, error, message = result.stderr.partition("error: ")
        assert error
        assert message.count("\n") <= 3
        return Failure(message, result.stdout)

    return call


@pytest.fixture
def wrong_command_line(alexnet) -> Callable[..., str]:
    """Call and expect the parser's refusal, exit code 2. Returns stderr without line breaks."""

    def call(*arguments) -> str:
        result = alexnet(*arguments)
        assert result.exit_code == 2, result.output
        assert result.stdout == ""
        return " ".join(result.stderr.replace("\u2502", " ").split())

    return call


def bytes_of(folder: Path) -> dict[str, bytes]:
    """Return every file below a folder."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.fixture
def unharmed() -> Callable[..., Callable[[], None]]:
    """Remember every byte of a folder; the returned check says whether one has changed."""

    def remember(folder: Path) -> Callable[[], None]:
        before = bytes_of(folder)

        def check() -> None:
            assert bytes_of(folder) == before

        return check

    return remember


def draw(label: int, number: int = 0) -> bytes:
    """Return the JPEG of one generated image."""
    return draw_jpeg(CLASSES[label].draw, np.random.default_rng([label, number]))


@pytest.fixture
def class_folders(tmp_path) -> Path:
    """Three images in each of two class folders."""
    folder = tmp_path / "folders"
    for label, name in enumerate(("cat", "dog")):
        (folder / name).mkdir(parents=True)
        for number in range(3):
            (folder / name / f"{number}.JPEG").write_bytes(draw(label, number))
    return folder


@pytest.fixture(scope="session")
def two_class_dataset(tmp_path_factory) -> Path:
    """A dataset whose classes are none of the release's. Read only."""
    folder = tmp_path_factory.mktemp("two-classes")
    for label, name in enumerate(("cat", "dog")):
        for split in ("train", "val"):
            (folder / "source" / split / name).mkdir(parents=True)
            (folder / "source" / split / name / "0.JPEG").write_bytes(draw(label))
    prep(PrepRequest(folder / "source", folder / "dataset", PrepOptions(size=112), workers=1))
    pca(folder / "dataset")
    return folder / "dataset"


@pytest.fixture(scope="session")
def images(tmp_path_factory) -> Path:
    """A folder of images: b.jpg, a.JPEG, sub/c.png, and notes.txt, which is none. Read only."""
    folder = tmp_path_factory.mktemp("images")
    (folder / "sub").mkdir()
    (folder / "b.jpg").write_bytes(draw(0))
    (folder / "a.JPEG").write_bytes(draw(4))
    with Image.open(io.BytesIO(draw(7))) as image:
        image.save(folder / "sub" / "c.png")
    (folder / "notes.txt").write_text("about the images")
    return folder


@pytest.fixture(scope="session")
def exported(checkpoint, tmp_path_factory) -> ExportResult:
    """What exporting the checkpoint with ten views gave."""
    return export(checkpoint, tmp_path_factory.mktemp("onnx") / "ten.onnx", num_views=10)


@pytest.fixture(scope="session")
def onnx_model(exported) -> Path:
    """The checkpoint exported with ten views. Read only."""
    return Path(exported.onnx)


@pytest.fixture(scope="session")
def predictions(runs, dataset, tmp_path_factory) -> list[Path]:
    """Predictions files of the two runs, center view. Read only."""
    paths = []
    for run in (runs.first, runs.second):
        paths.append(tmp_path_factory.mktemp("predictions") / f"{run.name}.npz")
        checkpoint = run / "best.safetensors"
        evaluate(checkpoint, dataset, num_views=1, predictions=paths[-1])
    return paths


@pytest.fixture
def needs_no_torch() -> Callable[..., None]:
    """Run a command line in a process of its own, which must not load torch."""
    program = (
        "import sys; from alexnet_cli.cli.app import app\n"
        "app(sys.argv[1:], standalone_mode=False)\n"
        "sys.exit('torch' in sys.modules)"
    )

    def call(*arguments) -> None:
        command = [sys.executable, "-c", program, *map(str, arguments)]
        finished = subprocess.run(command, capture_output=True, text=True, check=False)
        assert finished.returncode == 0, finished.stderr

    return call
