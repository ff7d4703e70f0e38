import errno
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from helpers import unpack_tar

from alexnet_cli.data.shards.index import FileRecord, read_index, write_index
from alexnet_cli.io.folder_lock import LOCK_NAME, locked


@pytest.fixture
def damaged(dataset, tmp_path) -> Path:
    """A dataset with one flipped bit in an image."""
    folder = Path(shutil.copytree(dataset, tmp_path / "damaged"))
    content = bytearray((folder / "val-000001.tar").read_bytes())
    content[1500] ^= 4
    (folder / "val-000001.tar").write_bytes(content)
    return folder


def prepared(dataset: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in dataset.iterdir()}


@pytest.mark.parametrize("options", [(), ("--deep",), ("--workers", 1)])
def test_whole_dataset_is_exit_0(answer, dataset, options):
    found = answer("verify", dataset, *options)
    assert found["findings"] == found["repaired"] == found["replaced"] == []
    assert (found["shards"], found["samples"]) == (5, 90)
    assert found["deep"] is ("--deep" in options)


def test_whole_dataset_is_reported_as_whole(shown, dataset):
    assert "every byte is as prep wrote it" in shown("verify", dataset)


def test_it_needs_no_torch(needs_no_torch, dataset):
    needs_no_torch("verify", dataset)


def test_it_writes_nothing(answer, dataset, unharmed):
    check = unharmed(dataset)
    answer("verify", dataset, "--deep")
    check()


def test_flipped_bit_is_exit_3_with_shard_sample_expected_and_found(fails, damaged):
    failure = fails(3, "verify", damaged)
    assert "1 finding in 1 file" in failure.message
    assert "--repair SOURCE" in failure.message
    assert "val-000001.tar: SHA-256: expected" in failure.stdout
    deep = fails(3, "verify", damaged, "--deep")
    assert "sample val-00000025: CRC-32 of the JPEG: expected" in deep.stdout


def test_json_lists_findings_before_exit_3(fails, damaged):
    found = json.loads(fails(3, "verify", damaged, "--json").stdout)
    assert {finding["file"] for finding in found["findings"]} == {"val-000001.tar"}
    assert set(found["findings"][0]) == {"file", "key", "what", "expected", "found"}


def test_folder_that_is_no_dataset_is_exit_3(fails, tmp_path):
    assert "no index.json" in fails(3, "verify", tmp_path).message
    assert "is not a folder" in fails(3, "verify", tmp_path / "none").message


@pytest.fixture
def without_index(dataset, tmp_path) -> Path:
    """A whole dataset whose index.json is cut."""
    folder = Path(shutil.copytree(dataset, tmp_path / "cut"))
    (folder / "index.json").write_bytes((dataset / "index.json").read_bytes()[:400])
    return folder


def test_damaged_index_is_exit_3(fails, without_index):
    message = fails(3, "verify", without_index).message
    assert "index.json" in message
    assert f"alexnet verify {without_index} --rebuild" in message


def test_damaged_index_and_copy_are_exit_3_and_left_as_they_are(fails, without_index, unharmed):
    (without_index / ".index.json").unlink()
    check = unharmed(without_index)
    for options in (["--rebuild"], ["--repair", "anything"]):
        assert "Nothing was changed" in fails(3, "verify", without_index, *options).message
    check()


@pytest.mark.parametrize("options", [["--rebuild"], ["--repair", "of-no-use"]])
def test_index_comes_back_from_its_copy(answer, dataset, without_index, options):
    found = answer("verify", without_index, *options)
    assert (found["findings"], found["replaced"]) == ([], ["index.json"])
    assert prepared(without_index) == prepared(dataset)


def test_lost_sample_index_is_exit_3_until_it_is_rebuilt(fails, answer, dataset, without_index):
    (without_index / "val.samples.npy").unlink()
    answer("verify", without_index, "--rebuild")
    (without_index / "val.samples.npy").write_bytes(b"")
    message = fails(3, "verify", without_index).message
    assert message.endswith(f"Rebuild the indexes: alexnet verify {without_index} --rebuild\n")
    found = answer("verify", without_index, "--rebuild")
    assert found["replaced"] == ["val.samples.npy"]
    assert {finding["file"] for finding in found["repaired"]} == {"val.samples.npy"}
    assert prepared(without_index) == prepared(dataset)


def test_rebuild_leaves_shards_to_the_repair(fails, damaged):
    failure = fails(3, "verify", damaged, "--rebuild")
    assert "--repair SOURCE" in failure.message


def test_what_rebuild_cannot_make_is_referred_to_the_repair(fails, dataset, tmp_path):
    folder = Path(shutil.copytree(dataset, tmp_path / "odd"))
    index = read_index(folder)
    files = {**index.files, "val.samples.npy": FileRecord.of(b"others")}
    write_index(folder, replace(index, files=files))
    assert fails(3, "verify", folder).message.endswith("--rebuild\n")
    assert fails(3, "verify", folder, "--rebuild").message.endswith("--repair SOURCE\n")


def test_rebuild_and_repair_in_one(answer, dataset, release, damaged):
    (damaged / ".index.json").unlink()
    (damaged / "train.samples.npy").unlink()
    found = answer("verify", damaged, "--rebuild", "--repair", release, "--workers", 1)
    assert found["replaced"] == [".index.json", "train.samples.npy", "val-000001.tar"]
    assert prepared(damaged) == prepared(dataset)


@pytest.mark.parametrize("name", ["index.json", "train.samples.npy", "train-000001.tar"])
def test_remedy_that_a_reader_names_for_a_missing_file_works(fails, answer, release, damaged, name):
    answer("verify", damaged, "--repair", release, "--workers", 1)
    (damaged / name).unlink()
    message = fails(3, "pca", damaged).message
    remedy = message.splitlines()[-1].partition("alexnet ")[2].replace("SOURCE", str(release))
    assert answer(*remedy.split())["findings"] == []


def test_repair_brings_back_every_byte_and_verify_is_clean(answer, dataset, release, damaged):
    found = answer("verify", damaged, "--repair", release, "--workers", 1)
    assert found["findings"] == []
    assert found["replaced"] == ["val-000001.tar"]
    assert {finding["file"] for finding in found["repaired"]} == {"val-000001.tar"}
    assert prepared(damaged) == prepared(dataset)
    assert answer("verify", damaged)["findings"] == []


def test_dataset_made_with_a_file_of_labels_is_repaired_with_it(answer, fails, release, tmp_path):
    source, labels = tmp_path / "flat", tmp_path / "any.csv"
    source.mkdir()
    unpack_tar(release / "ILSVRC2012_img_val.tar", source)
    names = sorted(path.name for path in source.iterdir())
    labels.write_text("".join(f"{name},{'ab'[n % 2]}\n" for n, name in enumerate(names)))
    dataset = tmp_path / "dataset"
    answer("prep", source, dataset, "--labels", labels, "--size", 32, "--workers", 1)
    shard = next(iter(dataset.glob("*.tar")))
    content = shard.read_bytes()
    shard.write_bytes(content[:-1] + b"x")
    failure = fails(2, "verify", dataset, "--repair", source)
    assert "made with a file of labels, any.csv" in failure.message
    assert "--labels FILE" in failure.message
    answer("verify", dataset, "--repair", source, "--labels", labels)
    assert shard.read_bytes() == content


def test_repair_of_a_whole_dataset_reads_no_source(answer, dataset, tmp_path):
    assert answer("verify", dataset, "--repair", tmp_path / "none")["replaced"] == []


def test_repair_from_another_source_is_exit_3_and_changes_nothing(
    fails, class_folders, damaged, unharmed
):
    check = unharmed(damaged)
    failure = fails(3, "verify", damaged, "--repair", class_folders)
    assert "is not what the dataset was made of" in failure.message
    check()


def test_what_repair_cannot_make_again_is_still_exit_3(fails, release, damaged):
    (damaged / "test-000000.tar").write_bytes(b"of somebody")
    failure = fails(3, "verify", damaged, "--repair", release, "--workers", 1)
    assert "test-000000.tar: a file that index.json lacks" in failure.message
    assert "A repair does not touch what is left" in failure.message
    assert (damaged / "test-000000.tar").read_bytes() == b"of somebody"


def test_repair_of_a_folder_in_use_is_exit_4(fails, release, damaged):
    with locked(damaged, AssertionError):
        message = fails(4, "verify", damaged, "--repair", release).message
        assert f"{damaged}: in use by another process ({os.getpid()} on " in message


def test_dataset_that_cannot_be_written_is_verified_and_needs_no_repair(
    answer, dataset, release, monkeypatch
):
    def open_file(path, *arguments, **options):
        if str(path).endswith(LOCK_NAME):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real(path, *arguments, **options)

    real = os.open
    monkeypatch.setattr(os, "open", open_file)
    assert answer("verify", dataset)["findings"] == []
    assert answer("verify", dataset, "--repair", release)["replaced"] == []


def test_lock_of_a_killed_process_is_ignored(answer, damaged, release):
    (damaged / LOCK_NAME).write_text('{"host": "gone", "pid": 1}')
    answer("verify", damaged, "--repair", release, "--workers", 1)
    assert not (damaged / LOCK_NAME).exists()


@pytest.mark.parametrize(("option", "value"), [("--workers", 0), ("--layout", "shelf")])
def test_values_outside_their_range_are_refused(wrong_command_line, option, value):
    assert option in wrong_command_line("verify", "anywhere", option, value)


# --- assertions left out


UNCHECKED = """
import json, sys
from typer.testing import CliRunner
from alexnet_cli.cli.app import app
assert False, "assertions are left out"
done = [CliRunner().invoke(app, [*line, "--json"]) for line in json.loads(sys.argv[1])]
print(json.dumps([(ended.exit_code, ended.stdout) for ended in done]))
"""


def test_commands_give_the_same_answers_under_python_minus_o(
    answer, dataset, damaged, onnx_model, images, tmp_path
):
    no_index = Path(shutil.copytree(damaged, tmp_path / "no_index"))
    (no_index / "index.json").write_bytes(b"no index")
    good = [("verify", dataset), ("info", dataset), ("predict", images, "--model", onnx_model)]
    lines = [*good, ("verify", damaged), ("info", no_index)]
    arguments = json.dumps([[str(word) for word in line] for line in lines])

    command = [sys.executable, "-O", "-c", UNCHECKED, arguments]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)

    results = json.loads(ended.stdout)
    assert [code for code, _ in results] == [0, 0, 0, 3, 3]
    for (_, said), line in zip(results, good, strict=False):
        found, expected = json.loads(said), answer(*line)
        assert found == expected | ({"seconds": found["seconds"]} if "seconds" in found else {})
