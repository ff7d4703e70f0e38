"""`alexnet predict` on many images: lists, rows of CSV, JSON lines and Parquet, flat memory."""

import csv
import io
import json
import os
import shutil
import subprocess
import sys

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from alexnet_cli.cli.app import app

ON_CPU = ("--device", "cpu")


@pytest.fixture
def rows(alexnet, onnx_model):
    """Predict as CSV on stdout; return its rows as dicts, and the exit code."""

    def call(*arguments):
        result = alexnet("predict", *arguments, "--model", onnx_model, *ON_CPU, "--format", "csv")
        return list(csv.DictReader(io.StringIO(result.stdout))), result.exit_code

    return call


def expected_of(answer, onnx_model, images, top):
    found = answer("predict", images, "--model", onnx_model, "--top", top, *ON_CPU)
    return found["images"]


def test_csv_has_one_row_per_image_in_order_with_all_classes(rows, answer, onnx_model, images):
    found, exit_code = rows(images, "--top", 3)
    assert exit_code == 0
    for row, entry in zip(found, expected_of(answer, onnx_model, images, 3), strict=True):
        assert row["image"] == entry["image"]
        assert row["error"] == ""
        for rank, prediction in zip(("", "_2", "_3"), entry["predictions"], strict=True):
            assert int(row[f"label{rank}"]) == prediction["label"]
            assert row[f"wnid{rank}"] == prediction["wnid"]
            assert row[f"name{rank}"] == prediction["name"]
            assert float(row[f"probability{rank}"]) == prediction["probability"]
    assert len(found[0]) == 2 + 3 * 4


def test_rows_have_no_more_columns_than_there_are_classes(rows, images):
    found, _ = rows(images, "--top", 5000)
    assert len(found[0]) == 2 + 10 * 4


def test_what_is_passed_over_in_folders_is_said_beside_the_rows(
    alexnet, onnx_model, images, tmp_path
):
    shutil.copy(images / "b.jpg", tmp_path / "b.jpg")
    (tmp_path / "notes.txt").write_text("no image")
    found = alexnet("predict", tmp_path, "--model", onnx_model, *ON_CPU, "--format", "jsonl")
    assert "passed over: 1 " in found.stderr
    assert len(found.stdout.splitlines()) == 1


def test_bad_images_are_rows_with_a_reason(rows, images, tmp_path):
    shutil.copy(images / "b.jpg", tmp_path / "b.jpg")
    (tmp_path / "a.jpg").write_text("no image")
    found, exit_code = rows(tmp_path / "a.jpg", tmp_path / "b.jpg", tmp_path / "c.jpg")
    assert exit_code == 5
    assert ["not-an-image" in row["error"] for row in found] == [True, False, False]
    assert [row["label"] != "" for row in found] == [False, True, False]


def test_json_lines_are_the_entries_of_json(alexnet, answer, onnx_model, images):
    arguments = ("predict", images, "--model", onnx_model, *ON_CPU, "--format", "jsonl")
    lines = alexnet(*arguments).stdout.splitlines()
    assert [json.loads(line) for line in lines] == expected_of(answer, onnx_model, images, 5)


def test_parquet_file_has_the_columns_of_csv_with_types(
    alexnet, rows, onnx_model, images, tmp_path
):
    path = tmp_path / "new" / "out.parquet"
    arguments = ("predict", images, images / "notes.txt", "--model", onnx_model, *ON_CPU)
    assert alexnet(*arguments, "-o", path).exit_code == 5
    table = pq.read_table(path)
    text, _ = rows(images, images / "notes.txt")
    assert table.column_names == list(text[0])
    for mine, theirs in zip(table.to_pylist(), text, strict=True):
        assert mine["image"] == theirs["image"]
        assert mine["label"] == (int(theirs["label"]) if theirs["label"] else None)
        assert (mine["error"] or "") == theirs["error"]


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_output_file_appears_only_when_it_is_complete(
    alexnet, onnx_model, images, tmp_path, monkeypatch, suffix
):
    path = tmp_path / f"out.{suffix}"
    path.write_text("old")
    monkeypatch.setattr(
        "alexnet_cli.inference.onnx_model.OnnxModel.probabilities", lambda *_: 1 / 0
    )
    result = alexnet("predict", images, "--model", onnx_model, *ON_CPU, "-o", path)
    assert result.exit_code == 1
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_list_adds_its_images_in_order(rows, images, tmp_path):
    listed = [images / "sub" / "c.png", images / "b.jpg"]
    (tmp_path / "list").write_text("".join(f"{path}\r\n\r\n" for path in listed))
    found, _ = rows(images / "a.JPEG", "--from-file", tmp_path / "list")
    assert [row["image"] for row in found] == [str(images / "a.JPEG"), *map(str, listed)]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-be"])
def test_list_may_be_written_by_windows(rows, images, tmp_path, encoding):
    shutil.copy(images / "b.jpg", tmp_path / "h\u00e4.jpg")
    listed = [images / "sub" / "c.png", tmp_path / "h\u00e4.jpg"]
    text = "\r\n  \r\n".join(map(str, listed))
    mark = "\ufeff" if encoding == "utf-16-be" else ""
    (tmp_path / "list").write_bytes(f"{mark}{text}".encode(encoding))
    found, _ = rows("--from-file", tmp_path / "list")
    assert [row["image"] for row in found] == [str(path) for path in listed]


def test_list_and_image_come_from_standard_input(onnx_model, images, tmp_path):
    name = os.fsdecode(b"caf\xe9\n.jpg")
    shutil.copy(images / "b.jpg", tmp_path / name)
    command = ["predict", "--model", str(onnx_model), *ON_CPU, "--format", "csv"]
    listed = os.fsencode(tmp_path / name) + b"\0" + os.fsencode(images / "b.jpg") + b"\0"

    def call(content, *arguments):
        return CliRunner().invoke(app, [*command, *arguments], input=content)

    by_list = call(listed, "--from-file", "-", "-0")
    assert by_list.exit_code == 0
    assert b"caf\xe9\n.jpg" in by_list.stdout_bytes
    by_content = call((images / "b.jpg").read_bytes(), "-")
    _, listed_row = csv.reader(io.StringIO(by_content.stdout))
    assert listed_row[0] == "-"
    assert listed_row[1:] == by_list.stdout.splitlines()[-1].split(",", 1)[1].split(",")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("a.jpg", "--null"), "--null"),
        (("a.jpg", "--json", "--format", "csv"), "--json"),
        (("a.jpg", "-o", "out.txt"), "--format"),
        (("a.jpg", "-o", "out.csv", "--format", "table"), "--format"),
        (("a.jpg", "--format", "parquet"), "--format"),
        (("a.jpg", "--min-probability", "2"), "--min-probability"),
    ],
)
def test_options_that_do_not_fit_together_are_refused(wrong_command_line, arguments, words):
    assert words in wrong_command_line("predict", *arguments)


def test_nothing_to_classify_is_refused(fails, tmp_path):
    (tmp_path / "empty").write_text("\n\n")
    for arguments in ((), ("--from-file", tmp_path / "empty")):
        assert "no images are named" in fails(2, "predict", *arguments).message
    assert "none: No such file" in fails(3, "predict", "--from-file", tmp_path / "none").message
    assert "not both" in fails(2, "predict", "-", "--from-file", "-").message


def test_reader_that_is_gone_ends_the_command_quietly(onnx_model, images):
    program = "from alexnet_cli.cli.app import main; main()"
    arguments = ["predict", *[str(images / "b.jpg")] * 3000, "--format", "csv"]
    command = [sys.executable, "-c", program, *arguments, "--model", str(onnx_model), *ON_CPU]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.readline()
        process.stdout.close()
        message = process.stderr.read()
    assert process.returncode == 141
    assert b"rror" not in message


MEASURE = """
import gc, resource, sys
from alexnet_cli.inference.onnx_model import OnnxModel
from alexnet_cli.inference.predict import PredictRequest, predict
from pathlib import Path

def resident():
    pages = int(Path('/proc/self/statm').read_text().split()[1])
    return pages * resource.getpagesize()

found = predict(PredictRequest(images=(sys.argv[1],), image_list=sys.argv[2],
    model=Path(sys.argv[3]), device='cpu'))
sizes = []
write = open('/dev/null', 'wb')
for number, result in enumerate(found.results()):
    write.write(repr(result.to_dict()).encode())
    if number in (999, found.total - 1):
        gc.collect()
        sizes.append(resident())
print(*sizes)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_does_not_grow_with_the_number_of_images(onnx_model, images, tmp_path):
    listed = [images / "b.jpg"] + [images / "notes.txt"] * 9
    (tmp_path / "list").write_text("".join(f"{path}\n" for path in listed) * 400)
    arguments = [images / "b.jpg", tmp_path / "list", onnx_model]
    command = [sys.executable, "-c", MEASURE, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    early, late = map(int, done.stdout.split())
    assert late <= 1.05 * early


def test_list_with_the_other_separator_is_refused(fails, images, onnx_model, tmp_path):
    names = sorted(str(path) for path in images.iterdir())
    given = tmp_path / "list"
    given.write_text("\0".join(names) + "\0")
    model = ("--model", onnx_model, *ON_CPU)
    found = fails(3, "predict", "--from-file", given, *model)
    assert f"{given}: not a list of names" in found.message
    assert "--null" in found.message
    given.write_text("\n".join(names) + "\n")
    found = fails(3, "predict", "--from-file", given, "--null", *model)
    assert f"{given}: its names end with line breaks" in found.message
    assert "--null" in found.message


def test_name_of_the_output_without_a_known_suffix_is_named(fails, images, onnx_model, tmp_path):
    output = tmp_path / "out.xlsx"
    found = fails(2, "predict", images, "--model", onnx_model, "-o", output)
    assert f"{output} does not end in .csv, .jsonl or .parquet" in found.message
    assert "--output" in found.message


def test_standard_input_is_read_once(fails, onnx_model):
    found = fails(2, "predict", "-", "-", "--model", onnx_model)
    assert "standard input is one image" in found.message


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")  # noqa: PTH110
def test_full_disk_behind_standard_output_is_named(images, onnx_model):
    command = [sys.executable, "-m", "alexnet_cli", "predict", images, "--model", onnx_model]
    for form in ("csv", "table"):
        with open("/dev/full", "wb") as full:  # noqa: PTH123
            ended = subprocess.run(
                [*command, "--format", form, *ON_CPU], stdout=full, stderr=subprocess.PIPE
            )
        assert ended.returncode == 4
        assert b"error: standard output: No space left on device" in ended.stderr
        assert b"Exception ignored" not in ended.stderr
