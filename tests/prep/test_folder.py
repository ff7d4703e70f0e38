import errno
import os
from pathlib import Path

import pytest
from helpers import refused

from alexnet_cli.data.shards.writer import RECORDS, ShardTask
from alexnet_cli.errors import DatasetError, MachineError
from alexnet_cli.io.atomic import write_checksummed
from alexnet_cli.prep.folder import TARS, claim, differences, entered, finish, forget

PLAN = {"options": {"size": 32}}


def task(folder: Path) -> ShardTask:
    return ShardTask(folder, "train", 0, 0, (), (), 32, 90)


def test_new_folder_is_made_with_its_parents_and_goes_again_if_nothing_came_of_it(tmp_path):
    with entered(tmp_path / "a" / "b"):
        assert (tmp_path / "a" / "b").is_dir()
    assert not (tmp_path / "a").exists()


def test_folder_with_a_dataset_stays(tmp_path):
    with entered(tmp_path / "a"):
        (tmp_path / "a" / "index.json").touch()
    assert (tmp_path / "a" / "index.json").exists()


def test_empty_folder_of_others_stays(tmp_path):
    (tmp_path / "a").mkdir()
    with entered(tmp_path / "a"):
        pass
    assert (tmp_path / "a").is_dir()


def test_folder_cannot_be_entered_twice(tmp_path):
    with entered(tmp_path / "a"):
        with refused(MachineError, "in use by another process"):
            with entered(tmp_path / "a"):
                pass
        assert (tmp_path / "a").is_dir()


def test_folder_with_anything_else_is_refused(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "thesis.txt").write_text("years")
    with refused(DatasetError, "left as it is"), entered(tmp_path / "a"):
        pass
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize("below", ["", "b", "b/c"])
def test_file_in_the_way_is_refused(tmp_path, below):
    (tmp_path / "a").write_text("a file")
    with refused(MachineError, "is a file, not a folder"):
        with entered(tmp_path / "a" / below):
            pass


def test_folder_without_permission_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with refused(MachineError, "no permission"), entered(tmp_path):
        pass


def test_claim_goes_on_with_the_same_plan_and_refuses_another(tmp_path):
    for _ in range(2):
        claim(tmp_path, PLAN, [task(tmp_path)])
    with refused(DatasetError, "prep that is unfinished: size 32 there, 64 now"):
        claim(tmp_path, {"options": {"size": 64}}, [task(tmp_path)])


def test_claim_removes_incomplete_files(tmp_path):
    claim(tmp_path, PLAN, [task(tmp_path)])
    (tmp_path / "train-000000.tar.17.partial").touch()
    (tmp_path / RECORDS / "x.17.partial").touch()
    claim(tmp_path, PLAN, [task(tmp_path)])
    assert not list(tmp_path.rglob("*.partial"))


def test_claim_keeps_its_own_shards_and_removes_those_of_a_damaged_plan(tmp_path):
    (tmp_path / RECORDS).mkdir()
    (tmp_path / RECORDS / "plan.json").write_bytes(b"damaged")
    for name in ("train-000000.tar", "train-000009.tar", "backup-123456.tar"):
        (tmp_path / name).touch()
    claim(tmp_path, PLAN, [task(tmp_path)])
    kept = ["backup-123456.tar", "train-000000.tar"]
    assert sorted(path.name for path in tmp_path.glob("*.tar")) == kept
    (tmp_path / "train-000009.tar").touch()
    claim(tmp_path, PLAN, [task(tmp_path)])
    assert (tmp_path / "train-000009.tar").exists()  # the plan is whole now
    with pytest.raises(DatasetError):
        claim(tmp_path, {}, [])


def test_finish_removes_what_was_worked_with_and_can_be_repeated(tmp_path):
    (tmp_path / RECORDS).mkdir()
    write_checksummed(tmp_path / RECORDS / "plan.json", PLAN)
    for _ in range(2):
        finish(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_finish_removes_what_could_not_be_removed_before_and_nothing_of_others(tmp_path):
    for name in ("train-000000.tar", "train-000000.tar.17.partial", "film.mkv.partial"):
        (tmp_path / name).touch()
    finish(tmp_path)
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == ["film.mkv.partial", "train-000000.tar"]


def test_finish_says_what_it_cannot_remove(tmp_path, monkeypatch):
    (tmp_path / RECORDS).mkdir()
    (tmp_path / RECORDS / "plan.json").touch()
    monkeypatch.setattr(os, "unlink", failing(errno.EIO))
    with refused(MachineError, r"cannot be removed: Input/output error\.\nThe"):
        finish(tmp_path)


def failing(number: int):
    """Return a call that fails."""

    def fail(*_, **__):
        raise OSError(number, os.strerror(number))

    return fail


@pytest.mark.parametrize(
    ("number", "words"),
    [(errno.ENOSPC, "disk full"), (errno.EDQUOT, "quota"), (errno.EFBIG, "ulimit -f")],
)
def test_disk_error_names_the_folder_and_what_is_wrong(tmp_path, number, words):
    with refused(MachineError, f"{tmp_path}.*{words}.*\nFinished shards are kept"):
        with entered(tmp_path / "a"):
            failing(number)()


def test_fault_before_anything_was_done_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "mkdir", failing(errno.EROFS))
    with refused(MachineError, r"read-only disk\.\nNothing was changed\."):
        with entered(tmp_path / "a"):
            pass


def test_broken_pipe_is_not_reported_as_a_disk_error(tmp_path):
    with pytest.raises(BrokenPipeError), entered(tmp_path / "a"):
        raise BrokenPipeError


def test_plan_that_the_disk_does_not_give_is_not_a_damaged_one(tmp_path, monkeypatch):
    claim(tmp_path, PLAN, [task(tmp_path)])
    (tmp_path / "train-000009.tar").touch()
    with monkeypatch.context() as crop:
        crop.setattr(Path, "read_bytes", failing(errno.EIO))
        with pytest.raises(OSError, match="Input/output error"):
            claim(tmp_path, {}, [])
    assert (tmp_path / "train-000009.tar").exists()


def test_plans_differ_in_what_either_of_them_has():
    begun = {"options": {"size": 32, "quality": 90}, "source": {"fingerprint": "a", "links": True}}
    now = {"options": {"size": 64, "quality": 90}, "source": {"fingerprint": "a", "tars": "b"}}
    assert differences(begun, now) == (
        "size 32 there, 64 now; tars None there, b now; links True there, None now"
    )
    assert differences(now, now) == ""


def test_records_are_removed_but_fetched_tars_stay(tmp_path):
    for name in ("staging", TARS):
        (tmp_path / RECORDS / name).mkdir(parents=True)
        (tmp_path / RECORDS / name / "a").touch()
    (tmp_path / RECORDS / "plan.json").touch()
    forget(tmp_path)
    assert [path.name for path in (tmp_path / RECORDS).iterdir()] == [TARS]
    (tmp_path / RECORDS / TARS / "a").unlink()
    (tmp_path / RECORDS / TARS).rmdir()
    forget(tmp_path)
    assert list(tmp_path.iterdir()) == []
