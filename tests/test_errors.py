import inspect
import pickle
import re
import signal
from pathlib import Path

import pytest

from alexnet_cli import errors
from alexnet_cli.cli.error_boundary import EXIT_CODES
from alexnet_cli.cli.hints import HINTS, message
from alexnet_cli.errors import AlexNetError, ImageError, Stopped, did_you_mean

CLASSES = {
    name: found
    for name, found in vars(errors).items()
    if inspect.isclass(found) and issubclass(found, AlexNetError)
}
ROW = re.compile(r"^( *)([A-Z]\w+) +(\d+)  ", re.MULTILINE)


def documented() -> list[tuple[str, str | None, int]]:
    """Return name, parent and exit code of each line of the tree in the module's docstring."""
    rows, parents = [], {}
    for indent, name, code in ROW.findall(errors.__doc__):
        depth = len(indent) // 2
        parents[depth] = name
        rows.append((name, parents.get(depth - 1), int(code)))
    return rows


def test_docstring_lists_every_error_once():
    assert sorted(name for name, _, _ in documented()) == sorted(CLASSES)


@pytest.mark.parametrize(("name", "parent", "exit_code"), documented())
def test_tree_and_exit_codes_are_as_documented(name, parent, exit_code):
    if parent:
        assert CLASSES[name].__bases__ == (CLASSES[parent],)
    found = Stopped("", signal.SIGINT) if name == "Stopped" else CLASSES[name]
    assert found.exit_code == exit_code


def test_help_explains_every_exit_code():
    explained = {int(code) for code in re.findall(r"(?<=[ /])(\d+) ", EXIT_CODES)}
    assert {code for _, _, code in documented()} <= explained


def test_image_error_keeps_reason_and_detail():
    error = ImageError("truncated", "at byte 7")
    assert (error.reason, error.detail, str(error)) == (
        "truncated",
        "at byte 7",
        "truncated: at byte 7",
    )


def test_stopped_exits_as_a_shell_reports_the_signal():
    assert Stopped("saved", signal.SIGTERM).exit_code == 143


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (MemoryError(), "out of memory.\nClose"),
        (OSError(28, "No space left on device"), "No space left on device"),
        (OSError(13, "Permission denied", "/a/b"), "/a/b: Permission denied"),
        (OSError(2, "No such file", "a\nb"), r"a\nb: No such file"),
        (OSError("the cable"), "the cable"),
    ],
)
def test_fault_of_the_machine_in_words(error, words):
    assert message(errors.machine_error(error)).startswith(words)


def test_message_is_problem_then_what_is_kept_then_hint():
    error = AlexNetError("a.tar is cut.", kept="Shards are kept.", hint="Download it again.")
    assert message(error) == "a.tar is cut.\nShards are kept.\nDownload it again."
    assert str(error) == "a.tar is cut.\nShards are kept."


def test_replaced_field_leaves_the_others_and_the_first_error_as_they_were():
    error = errors.JobError("stopped", 5, kept="all")
    other = error.replaced(problem="job 2: stopped")
    assert (other.problem, other.kept, other.exit_code) == ("job 2: stopped", "all", 5)
    assert (type(other), error.problem) == (errors.JobError, "stopped")


@pytest.mark.parametrize(
    "error",
    [
        ImageError("truncated", "at byte 7"),
        Stopped("saved", signal.SIGTERM, kept="epoch 3", hint=errors.hint("less_memory")),
        errors.JobError("eval failed", 3),
    ],
)
def test_errors_travel_between_processes_whole(error):
    copied = pickle.loads(pickle.dumps(error))
    assert (type(copied), str(copied), vars(copied)) == (type(error), str(error), vars(error))


def test_every_hint_has_a_sentence_and_every_sentence_is_used():
    package = Path(errors.__file__).parent
    text = "".join(path.read_text() for path in package.rglob("*.py") if path.name != "hints.py")
    assert set(re.findall(r"\bhint\(\s*\"(\w+)\"", text)) == set(HINTS)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("caf\u00e9 [1].jpg", "caf\u00e9 [1].jpg"),
        ("two\nlines\r\x85", r"two\nlines\r\x85"),
        ("\x1b[31mred", r"\x1b[31mred"),
        ("\u202egpj\u2028", r"\u202egpj\u2028"),
        ("\udce9", r"\udce9"),
    ],
)
def test_name_is_on_one_line_and_moves_no_terminal(name: str, shown: str):
    assert errors.on_one_line(name) == shown
    assert errors.on_one_line(shown) == shown


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("FC", "Did you mean fc6?"),
        ("convol", "Did you mean conv-b or conv-a?"),
        ("pool", "none is like it"),
        ("", "none is like it"),
    ],
)
def test_wrong_name_is_answered_with_those_like_it(word: str, expected: str):
    known = ["conv-a", "conv-b", "norm1", "fc6"]
    assert did_you_mean(word, known, "none is like it") == expected


def test_wrong_name_is_answered_with_at_most_three():
    found = did_you_mean("conv", [f"conv{number}" for number in range(9)])
    assert found.count("conv") == 3


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ((0, "image"), "0 images"),
        ((1, "image"), "1 image"),
        ((1, "class"), "1 class"),
        ((1000, "class"), "1,000 classes"),
        ((2, "batch"), "2 batches"),
        ((1, "tar is", "tars are"), "1 tar is"),
        ((2, "tar is", "tars are"), "2 tars are"),
    ],
)
def test_noun_agrees_with_its_count(words, text):
    assert errors.counted(*words) == text
