import errno
import os
import threading
from pathlib import Path

import pytest

from alexnet_cli.errors import MachineError, UsageError
from alexnet_cli.io.atomic import (
    check_output,
    is_device,
    move_into_place,
    read_checksummed,
    remove_partial,
    write_atomically,
    write_bytes,
    write_checksummed,
    write_output,
)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_file_has_its_content_and_leaves_nothing_else(tmp_path):
    write_bytes(tmp_path / "a.txt", b"new")
    assert (tmp_path / "a.txt").read_bytes() == b"new"
    assert names(tmp_path) == ["a.txt"]


def test_existing_file_is_replaced(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"old and longer")
    write_bytes(tmp_path / "a.txt", b"new")
    assert (tmp_path / "a.txt").read_bytes() == b"new"


def test_name_shows_the_old_content_until_the_block_ends(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"old")
    with write_atomically(tmp_path / "a.txt") as file:
        file.write(b"new")
        file.flush()
        assert (tmp_path / "a.txt").read_bytes() == b"old"


def test_two_writers_of_one_file_do_not_conflict(tmp_path):
    with write_atomically(tmp_path / "a.txt") as first:
        with write_atomically(tmp_path / "a.txt") as second:
            second.write(b"second")
        assert (tmp_path / "a.txt").read_bytes() == b"second"
        first.write(b"first")
    assert (tmp_path / "a.txt").read_bytes() == b"first"
    assert names(tmp_path) == ["a.txt"]


def write_half_and_fail(path: Path, fault: BaseException) -> None:
    with write_atomically(path) as file:
        file.write(b"half")
        raise fault


@pytest.mark.parametrize(
    "fault", [ValueError("ours"), KeyboardInterrupt(), MemoryError()], ids=repr
)
def test_error_keeps_the_old_file_and_leaves_nothing(tmp_path, fault):
    (tmp_path / "a.txt").write_bytes(b"old")
    with pytest.raises(type(fault)):
        write_half_and_fail(tmp_path / "a.txt", fault)
    assert (tmp_path / "a.txt").read_bytes() == b"old"
    assert names(tmp_path) == ["a.txt"]


def test_error_leaves_no_file_where_there_was_none(tmp_path):
    with pytest.raises(ValueError, match="ours"):
        write_half_and_fail(tmp_path / "a.txt", ValueError("ours"))
    assert names(tmp_path) == []


def test_content_is_on_disk_before_the_name_and_the_name_before_we_return(tmp_path, monkeypatch):
    done = []
    fsync, replace = os.fsync, os.replace

    def record_fsync(descriptor):
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        done.append(("fsync", "folder" if path.is_dir() else path.read_bytes()))
        fsync(descriptor)

    def record_replace(source, target):
        done.append(("replace", Path(target).name))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", record_fsync)
    monkeypatch.setattr(os, "replace", record_replace)
    write_bytes(tmp_path / "a.txt", b"new")
    assert done == [("fsync", b"new"), ("replace", "a.txt"), ("fsync", "folder")]


def test_full_disk_at_the_last_moment_keeps_the_old_file(tmp_path, monkeypatch):
    def no_space(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    (tmp_path / "a.txt").write_bytes(b"old")
    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(OSError, match="No space left"):
        write_bytes(tmp_path / "a.txt", b"new")
    assert (tmp_path / "a.txt").read_bytes() == b"old"
    assert names(tmp_path) == ["a.txt"]


def test_disk_error_names_the_file(tmp_path):
    fault = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with pytest.raises(OSError, match="No space left") as error:
        write_half_and_fail(tmp_path / "a.txt", fault)
    assert error.value.filename == str(tmp_path / "a.txt")


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_rename_error_names_the_file(tmp_path, monkeypatch, call):
    def fail(where, *_):
        names_it = () if isinstance(where, int) else (str(where),)
        raise OSError(errno.EIO, os.strerror(errno.EIO), *names_it)

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(OSError, match="Input/output error") as error:
        write_bytes(tmp_path / "a.txt", b"new")
    assert error.value.filename == str(tmp_path / "a.txt")
    assert names(tmp_path) == []


def test_folder_error_names_the_file_which_is_whole(tmp_path, monkeypatch):
    fsync = os.fsync

    def fail(descriptor):
        if Path(f"/proc/self/fd/{descriptor}").readlink() == tmp_path:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="Input/output error") as error:
        write_bytes(tmp_path / "a.txt", b"new")
    assert error.value.filename == str(tmp_path / "a.txt")
    assert (tmp_path / "a.txt").read_bytes() == b"new"


def test_first_error_is_reported_when_cleanup_fails_too(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(Path, "unlink", fail)
    with pytest.raises(ValueError, match="ours"):
        write_half_and_fail(tmp_path / "a.txt", ValueError("ours"))


def test_missing_folder_is_the_error_that_is_reported(tmp_path):
    with pytest.raises(FileNotFoundError):
        write_bytes(tmp_path / "none" / "a.txt", b"new")


def test_name_with_spaces_and_dots_is_kept(tmp_path):
    write_bytes(tmp_path / "a b.c.d", b"new")
    assert names(tmp_path) == ["a b.c.d"]


def test_checksummed_content_is_read_back(tmp_path):
    write_checksummed(tmp_path / "a.json", {"a": [1, "\u00e9"]})
    assert read_checksummed(tmp_path / "a.json") == {"a": [1, "\u00e9"]}


def test_checksummed_file_is_damaged_by_any_flipped_bit_and_any_cut(tmp_path):
    write_checksummed(tmp_path / "a.json", {"a": 1})
    whole = (tmp_path / "a.json").read_bytes()
    for place in range(len(whole)):
        for content in (
            whole[:place],
            whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :],
        ):
            (tmp_path / "a.json").write_bytes(content)
            assert read_checksummed(tmp_path / "a.json") is None


def test_checksummed_file_that_is_missing_or_a_folder_is_none(tmp_path):
    assert read_checksummed(tmp_path / "a.json") is None
    assert read_checksummed(tmp_path) is None


def test_moving_replaces_an_existing_file(tmp_path):
    (tmp_path / "a").write_bytes(b"new")
    (tmp_path / "b").write_bytes(b"old")
    move_into_place(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b").read_bytes() == b"new"
    assert names(tmp_path) == ["b"]


def test_incomplete_files_are_removed_at_any_depth(tmp_path):
    (tmp_path / "deep").mkdir()
    for name in ("a.tar.17.partial", "deep/b.17.partial", "c.tar"):
        (tmp_path / name).touch()
    remove_partial(tmp_path)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["c.tar"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
def test_pipe_is_written_to_and_not_replaced(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    received = []
    reader = threading.Thread(target=lambda: received.append(pipe.read_bytes()))
    reader.start()
    write_bytes(pipe, b"through the pipe")
    reader.join(timeout=10)
    assert received == [b"through the pipe"]
    assert pipe.is_fifo()
    assert names(tmp_path) == ["pipe"]


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="no /proc on this system")
def test_link_to_an_open_file_is_kept(tmp_path):
    with (tmp_path / "out.txt").open("wb") as file:
        link = tmp_path / "stdout"
        link.symlink_to(f"/proc/self/fd/{file.fileno()}")
        write_bytes(link, b"content")
        assert link.is_symlink()
    assert (tmp_path / "out.txt").read_bytes() == b"content"


def test_files_folders_and_missing_names_are_no_devices(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"")
    (tmp_path / "link").symlink_to("a.txt")
    assert not any(map(is_device, (tmp_path, *tmp_path.iterdir(), tmp_path / "missing")))
    assert is_device(Path(os.devnull)) or os.name == "nt"


def test_output_gets_its_folder_unless_it_is_one_or_a_file_is_in_the_way(tmp_path):
    check_output(tmp_path / "a/b/c.csv")
    assert not (tmp_path / "a").exists()
    with write_output(tmp_path / "a/b/c.csv") as file:
        file.write(b"row")
    assert (tmp_path / "a/b/c.csv").read_bytes() == b"row"
    with pytest.raises(UsageError, match=r"a/b: a folder\."):
        check_output(tmp_path / "a/b")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(MachineError, match=r"file/c\.csv: its folder cannot be created"):
        check_output(tmp_path / "file/c.csv")


def test_output_in_a_read_only_folder_is_refused_before_anything_is_computed(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path)
    with pytest.raises(MachineError, match="no permission to write to its folder"):
        check_output(tmp_path / "c.csv")
