"""Names of tars without an index: how they are expanded, and that none of them runs or fetches."""

from pathlib import Path

import pytest

from alexnet_cli.data.remote.tar_set import TarSet, open_tar, split_of, tar_name, tar_size_and_tag
from alexnet_cli.errors import DatasetError, MachineError, Stopped, UsageError


def all_of(name: str, *, allow_pipe: bool = False) -> bytes:
    with open_tar(name, allow_pipe=allow_pipe) as source:
        return b"".join(iter(lambda: source.read(1000), b""))


def test_tars_of_a_folder_are_sorted(tmp_path):
    for name in ("b.tar", "a.tar", "c.txt"):
        (tmp_path / name).touch()
    assert TarSet(str(tmp_path)).names() == [str(tmp_path / "a.tar"), str(tmp_path / "b.tar")]


def test_braces_are_expanded_and_a_file_is_itself(tmp_path):
    assert TarSet("s3://b/{train,val}-{08..10}.tar").names() == [
        f"s3://b/{split}-{number}.tar"
        for split in ("train", "val")
        for number in ("08", "09", "10")
    ]
    odd = tmp_path / "{0..3}.tar"
    odd.touch()
    assert TarSet(str(odd)).names() == [str(odd)]


@pytest.mark.parametrize(
    ("pattern", "error"),
    [
        ("pipe:touch ran", UsageError),
        ("{a,pipe:touch ran}", UsageError),
        ("{0..99}.tar", UsageError),
        ("{a,a}.tar", UsageError),
        ("https://host/a.tar?token=1", UsageError),
        ("ftp://host/{0..3}.tar", UsageError),
        ("https://h/a.tar::pipe:touch ran", UsageError),
    ],
)
def test_invalid_pattern_is_refused(pattern, error, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("alexnet_cli.data.remote.tar_set.MAX_TARS", 99)
    with pytest.raises(error):
        TarSet(pattern).names()
    assert list(tmp_path.iterdir()) == []


def test_folder_without_tars_is_refused(tmp_path):
    with pytest.raises(DatasetError, match=r"no \*\.tar"):
        TarSet(str(tmp_path)).names()


def test_environment_variables_are_not_expanded(monkeypatch):
    monkeypatch.setenv("WDS_SECRET", "pipe:touch ran")
    assert TarSet("${SECRET}.tar").names() != ["pipe:touch ran.tar"]


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("/a/imagenet1k-train-0000.tar", "train"),
        ("s3://b/imagenet-validation-07.tar", "val"),
        ("pipe:curl -s https://h/val-0.tar", "val"),
        ("pipe:aws s3 cp s3://b/val-0.tar -", "val"),
        ("pipe:curl -s 'https://h/test-0.tar.gz' | gunzip", "test"),
        ("pipe:cat /a/train/set.tar/val-0.tar>&1", "val"),
        ("pipe:cat val-0.target", "train"),
        ("0001.tar", "train"),
        ("test_1.tar", "test"),
    ],
)
def test_split_is_read_from_the_name(name, split):
    assert split_of(name) == split


def test_own_name_of_a_tar():
    assert tar_name("s3://b/a/train-0.tar") == "train-0.tar"
    assert tar_name("pipe:gsutil cat gs://b/train-0.tar | tee /tmp/copy.tar") == "train-0.tar"
    assert tar_name("pipe:cat /a/images.tar") == "images.tar"
    assert tar_name("pipe:tar xOf all-train.tar inside/val-0.tar") == "val-0.tar"


def test_long_command_is_not_taken_for_a_file():
    command = "pipe:echo " + 300 * "x"
    assert TarSet(command, allow_pipe=True).names() == [command]


def test_size_and_tag_of_a_changed_tar_differ(tmp_path):
    path = tmp_path / "a.tar"
    path.write_bytes(b"a")
    before = tar_size_and_tag(str(path))
    assert tar_size_and_tag(str(path)) == before
    path.write_bytes(b"bb")
    assert tar_size_and_tag(str(path)) != before
    with pytest.raises(DatasetError, match="No such file"):
        tar_size_and_tag(str(tmp_path / "b.tar"))


def test_bytes_of_file_url_and_command_are_read(tmp_path, web):
    (tmp_path / "a.tar").write_bytes(b"content" * 999)
    server = web(tmp_path)
    for name in (str(tmp_path / "a.tar"), f"{server.url}/a.tar", f"file://{tmp_path}/a.tar"):
        assert all_of(name) == b"content" * 999
    assert all_of(f"pipe:cat {tmp_path}/a.tar", allow_pipe=True) == b"content" * 999
    assert tar_size_and_tag("pipe:cat a") == (None, "")


def test_command_runs_only_if_allowed(tmp_path):
    with pytest.raises(UsageError, match="nothing was run"):
        all_of(f"pipe:touch {tmp_path}/ran")
    assert not Path(tmp_path / "ran").exists()


@pytest.mark.parametrize("command", ["exit 3", "echo half; exit 3", "no-such-command-here"])
def test_command_that_fails_raises_a_machine_error(command, capfd):
    with pytest.raises(MachineError, match="exit code"):
        all_of(f"pipe:{command}", allow_pipe=True)


def test_command_is_ended_with_its_reader():
    with open_tar("pipe:yes", allow_pipe=True) as source:
        assert source.read(2) == b"y\n"


def test_error_after_a_failed_command_names_the_command():
    with pytest.raises(MachineError, match="exit code 3"):
        with open_tar("pipe:exit 3", allow_pipe=True):
            raise DatasetError("it ends early")
    with pytest.raises(DatasetError):
        with open_tar("pipe:sleep 60", allow_pipe=True):
            raise DatasetError("a label is wrong")


def test_stop_signal_is_not_taken_for_a_failed_command():
    with pytest.raises(Stopped):
        with open_tar("pipe:exit 3", allow_pipe=True):
            raise Stopped("stopped.", 15)
