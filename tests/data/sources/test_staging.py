import io
import shutil

import pytest
from helpers import Listener, refused

from alexnet_cli.data.sources.staging import StagedFile, fill_staging, read_row, write_rows
from alexnet_cli.errors import ImageError, MachineError
from alexnet_cli.io.progress import SILENT


def files(folder, names: str = "abc", *, num_bytes: int = 10) -> list[StagedFile]:
    return [
        StagedFile(folder / "staging" / n, num_bytes, lambda f, n=n: f.write(n.encode()) and None)
        for n in names
    ]


def test_every_file_is_made_and_its_disk_use_is_reported(tmp_path):
    listener = Listener()
    fill_staging(files(tmp_path, num_bytes=2_000_000), listener)
    assert {p.name: p.read_text() for p in (tmp_path / "staging").iterdir()} == {
        c: c for c in "abc"
    }
    assert "6.0 MB more of disk" in listener.lines[0]
    assert listener.notes == ["a", "b", "c"]


def test_files_that_are_there_are_not_made_again(tmp_path):
    fill_staging(files(tmp_path, "ab"), SILENT)
    (tmp_path / "staging" / "a").write_text("kept")
    listener = Listener()
    fill_staging(files(tmp_path), listener)
    assert (tmp_path / "staging" / "a").read_text() == "kept"
    assert listener.notes == ["c"]


def test_interrupted_file_is_not_there(tmp_path):
    def fail(file):
        file.write(b"half")
        raise KeyboardInterrupt

    broken = StagedFile(tmp_path / "staging" / "b", 1, fail)
    with pytest.raises(KeyboardInterrupt):
        fill_staging([*files(tmp_path, "a"), broken], SILENT)
    assert [p.name for p in (tmp_path / "staging").iterdir()] == ["a"]


def test_stop_request_is_checked_before_every_write(tmp_path):
    requests = iter([None, KeyboardInterrupt])

    def check():
        if request := next(requests):
            raise request

    with pytest.raises(KeyboardInterrupt):
        fill_staging(files(tmp_path), SILENT, check)
    assert [p.name for p in (tmp_path / "staging").iterdir()] == ["a"]


def test_nothing_to_do_makes_no_folder(tmp_path):
    fill_staging((), SILENT)
    assert list(tmp_path.iterdir()) == []


def test_disk_without_room_is_refused_before_any_work(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(100, 95, 5))
    with refused(MachineError, r"copies of the images.* 0\.0 MB more"):
        fill_staging(files(tmp_path), SILENT)
    assert list((tmp_path / "staging").iterdir()) == []
    fill_staging(files(tmp_path), SILENT, force=True)
    assert len(list((tmp_path / "staging").iterdir())) == 3


def test_rows_are_read_by_number():
    rows = [b"a", b"", b"ccc", bytes(1000)]
    file = io.BytesIO()
    write_rows(file, rows, len(rows))
    assert [read_row(file, number) for number in (3, 0, 2, 1)] == [rows[3], b"a", b"ccc", b""]


@pytest.mark.parametrize("length", [0, 10, 40, 45])
def test_rows_beyond_the_end_are_truncated(length):
    file = io.BytesIO()
    write_rows(file, [b"a", b"bb", b"ccc"], 3)
    file.truncate(min(length, 37))
    with pytest.raises(ImageError, match="truncated"):
        read_row(file, 2)
