import errno
import os
import shutil

import pytest

from alexnet_cli.cli.hints import message
from alexnet_cli.errors import MachineError
from alexnet_cli.io.disk import (
    WORDS,
    advice_on,
    check_room,
    fault_in_words,
    free_bytes,
    is_ours,
    size_in_words,
)


def fault(number: int, *names: str) -> OSError:
    return OSError(number, os.strerror(number), *names)


@pytest.mark.parametrize(
    ("num_bytes", "words"),
    [(0, "0.0 MB"), (340_000, "0.3 MB"), (99_900_000, "99.9 MB"), (100_000_000, "0.1 GB"),
     (31_900_000_000, "31.9 GB"), (1_200_000_000_000, "1,200.0 GB")],
)  # fmt: skip
def test_size_for_people(num_bytes, words):
    assert size_in_words(num_bytes) == words


def test_room_of_a_disk(tmp_path):
    assert free_bytes(tmp_path) == pytest.approx(shutil.disk_usage(tmp_path).free, rel=0.1)


def test_what_does_not_fit_is_refused_with_what_is_missing(tmp_path, monkeypatch):
    usage = shutil.disk_usage("/")._replace(free=2_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    check_room(tmp_path, 2_000_000, "it needs", "Make room.")
    with pytest.raises(MachineError) as refusal:
        check_room(tmp_path, 5_000_000, "it needs", "Make room.")
    assert message(refusal.value) == (
        f"{tmp_path}: it needs 5.0 MB, 2.0 MB are free: 3.0 MB more are needed.\nMake room."
    )


@pytest.mark.parametrize(
    ("number", "words", "advice"),
    [
        (errno.ENOSPC, "disk full", "Make room"),
        (errno.EDQUOT, "quota is used up", "within the quota"),
        (errno.EFBIG, "ulimit -f", "Raise the limit"),
        (errno.EROFS, "read-only disk", "Make it writable"),
        (errno.EACCES, "no permission", "run the same command"),
        (errno.EMFILE, "ulimit -n", "fewer --workers"),
        (errno.EAGAIN, "ulimit -u", "fewer --workers"),
        (errno.EIO, "Input/output error", "run the same command"),
    ],
)
def test_disk_error_has_words_and_advice(tmp_path, number, words, advice):
    assert fault_in_words(fault(number), tmp_path).startswith(f"{tmp_path}: ")
    assert words in fault_in_words(fault(number), tmp_path)
    assert advice in message(MachineError("", hint=advice_on(fault(number))))


def test_fault_names_its_file_before_the_folder(tmp_path):
    assert fault_in_words(fault(errno.EIO, "/a/b"), tmp_path) == "/a/b: Input/output error"


def test_fault_without_a_number_is_shown_as_it_is(tmp_path):
    assert fault_in_words(OSError("odd"), tmp_path) == f"{tmp_path}: odd"


def test_errors_of_this_machine_are_recognized(tmp_path):
    assert is_ours(fault(errno.EMFILE))
    assert not any(is_ours(fault(number)) for number in (errno.EIO, errno.EACCES, errno.ENOENT))
    assert set(WORDS) > {errno.ENFILE, errno.EPERM}
