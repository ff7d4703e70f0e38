"""tools/fingerprint: what changed is named; renamed keys are not mistaken for changed values."""

import json

import numpy as np
import pytest
import safetensors.numpy
from helpers import load_tool

ROW = {"train_loss": 1.5, "images_per_second": 200.0, "val": {"top1_error": 0.5}}
TENSORS = {"fc6.bias": np.ones(2, np.float32), "fc7.bias": np.zeros(3, np.float32)}


@pytest.fixture
def compare(monkeypatch, tmp_path, capsys):
    """Compare what two runs, which write the files given, leave: the exit code and the output."""
    tool = load_tool("fingerprint")

    def run(files: dict, *arguments: str) -> tuple[int, str]:
        def write(work) -> None:
            for name, content in files.items():
                (work / name).parent.mkdir(exist_ok=True)
                (work / name).write_bytes(content)

        monkeypatch.setattr(tool, "run_all", write)
        return tool.main(list(arguments)), capsys.readouterr().out

    def call(before: dict, after: dict) -> tuple[int, list[str]]:
        kept = tmp_path / "kept.txt"
        kept.write_text(run(before)[1])
        code, output = run(after, "--compare", str(kept))
        return code, output.splitlines()[:-1]

    return call


def test_same_results_end_with_zero(compare):
    files = {"data/a b.tar": b"x", "data/index.json": b"{}"}

    assert compare(files, files) == (0, [])


def test_results_that_changed_are_missing_or_are_new_are_named(compare):
    before, after = {"a.tar": b"x", "b.tar": b"x"}, {"a.tar": b"y", "c.tar": b"x"}

    code, lines = compare(before, after)

    assert code == 1
    assert [line.split() for line in lines] == [
        ["changed", "a.tar"],
        ["missing", "b.tar"],
        ["new", "c.tar"],
    ]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"images_per_second": 300.0}, []),
        ({"train_loss": 1.6}, ["changed  one/log.jsonl:epoch-1"]),
        ({"val": {"top1_error": 0.25}}, ["changed  one/log.jsonl:epoch-1"]),
    ],
)
def test_losses_and_errors_of_a_log_count_and_its_speed_does_not(compare, change, expected):
    before, after = ({"one/log.jsonl": json.dumps(row).encode()} for row in (ROW, ROW | change))

    assert compare(before, after)[1] == expected


def checkpoint(tensors: dict, **metadata) -> dict[str, bytes]:
    content = safetensors.numpy.save(tensors, metadata={"about": json.dumps(metadata)})
    return {"a.safetensors": content}


def test_new_names_in_a_checkpoint_change_its_header_alone(compare):
    before = checkpoint(TENSORS, rate=0.01)
    after = checkpoint({f"a.{name}": value for name, value in TENSORS.items()}, lr=0.01)

    assert compare(before, after)[1] == ["changed  a.safetensors:header"]


def test_changed_values_and_tensors_of_a_checkpoint_are_named(compare):
    before, after = checkpoint(TENSORS, rate=0.01), checkpoint(TENSORS, rate=0.02)
    assert "changed  a.safetensors:values" in compare(before, after)[1]

    other = checkpoint(TENSORS | {"fc6.bias": np.zeros(2, np.float32)}, rate=0.01)
    assert compare(before, other)[1] == ["changed  a.safetensors:tensors"]


def test_reworded_sentences_of_json_are_no_change(compare):
    before, after, other = (
        {"json/eval": json.dumps({"about": about, "split": split, "images": 24}).encode()}
        for about, split in (("two words", "val"), ("other words", "val"), ("two words", "test"))
    )

    assert compare(before, after) == (0, [])
    assert compare(before, other) == (1, ["changed  json/eval"])
