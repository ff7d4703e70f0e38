"""Classes of datasets found among a network's, and refused where it would be a guess."""

from pathlib import Path

import numpy as np
import pytest
from helpers import refused

from alexnet_cli.data.shards.dataset import Dataset
from alexnet_cli.errors import CheckpointError, DatasetError
from alexnet_cli.inference.class_map import (
    ClassMap,
    first_difference,
    map_classes,
    with_class_names,
)
from alexnet_cli.types import ImageClass

# As ImageNet has them: one word for two classes, and names that differ by their case alone.
NETWORK = [
    ("n01440764", "tench, Tinca tinca"),
    ("n01443537", "goldfish, Carassius auratus"),
    ("n02012849", "crane"),
    ("n02113186", "Cardigan, Cardigan Welsh corgi"),
    ("n02963159", "cardigan"),
    ("n03126707", "crane"),
    ("n03394916", "French horn, horn"),
]


def dataset_of(*classes: str | tuple[str, str], streamed: bool = False) -> Dataset:
    """Return a dataset of these classes; a text is the name of a folder."""
    pairs = [(entry, entry) if isinstance(entry, str) else entry for entry in classes]
    found = tuple(ImageClass(*pair) for pair in pairs)
    return Dataset(Path("x"), found, {}, 256, "f", "shards/x", streamed)


def find(*classes: str | tuple[str, str], network=NETWORK) -> ClassMap:
    return map_classes("a.safetensors", network, dataset_of(*classes))


def test_same_list_is_the_same_order():
    found = find(*NETWORK)

    assert found.outputs == tuple(range(7))
    assert found.matched_by == "order"
    assert not found.is_subset


@pytest.mark.parametrize("seed", range(5))
def test_subset_in_any_order_is_found_by_wnid_whatever_the_names_are(seed):
    rng = np.random.default_rng(seed)
    chosen = rng.permutation(7)[: rng.integers(1, 7)].tolist()

    found = find(*((NETWORK[label][0], f"name {label}") for label in chosen))

    assert found.outputs == tuple(chosen)
    assert found.matched_by == "wnid"
    assert found.is_subset
    labels = rng.integers(0, len(chosen), 20)
    assert found.labels(labels).tolist() == [chosen[label] for label in labels]


@pytest.mark.parametrize(
    ("name", "output"),
    [
        ("tench", 0),
        ("Tinca tinca", 0),
        ("goldfish, Carassius auratus", 1),
        ("French_horn", 6),
        ("french-horn", 6),
        ("cardigan", 4),  # the whole name of one class
        ("Cardigan, Cardigan Welsh corgi", 3),
        ("cardigan welsh corgi", 3),
    ],
)
@pytest.mark.parametrize("wnid", [None, "003", "a folder"])
def test_name_of_a_folder_or_of_a_number_finds_its_class(name, output, wnid):
    found = find("goldfish" if output != 1 else "tench", (wnid or name, name))

    assert found.outputs[1] == output
    assert found.matched_by == "name"


def test_composed_and_decomposed_letters_are_the_same_name():
    assert find("cafe\u0301", network=[("tea", "tea"), ("caf\u00e9", "caf\u00e9")]).outputs == (1,)


def test_wnids_and_names_may_be_mixed():
    found = find("n03394916", "goldfish")

    assert found.outputs == (6, 1)
    assert found.matched_by == "wnid and name"


def test_network_of_words_finds_wnids_by_their_names():
    network = [("goldfish", "goldfish"), ("tench", "tench")]
    found = find(("n01440764", "tench, Tinca tinca"), network=network)

    assert found.outputs == (1,)


def test_wnids_without_words_have_those_of_imagenet():
    bare = [(wnid, wnid) for wnid, _ in NETWORK]

    assert find("tench", "Cardigan Welsh corgi", network=bare).outputs == (0, 3)
    assert find(
        "n03394916",
        network=[("horn", "horn")],
    ).outputs == (0,)


def test_wnid_that_the_network_has_not_is_not_replaced_by_a_name():
    with refused(CheckpointError, "unknown to a.safetensors: 1 of 2, first 1, n07777777"):
        find(NETWORK[0], ("n07777777", "goldfish"))


@pytest.mark.parametrize(
    "classes", [("cat", "tench", "dog"), (("n00000001", "cat"), NETWORK[0], "0")]
)
def test_unknown_classes_are_counted_and_the_first_is_named(classes):
    with refused(CheckpointError, "shards/x: classes unknown to .*: 2 of 3, first 0, .*cat"):
        find(*classes)


@pytest.mark.parametrize("name", ["crane", "Crane", "Cardigan"])
def test_name_of_several_classes_is_refused_with_both(name):
    with refused(CheckpointError, r"may mean several of .*: 1 of 2, first 1, .*: \d \(n.* or \d"):
        find("tench", name)


@pytest.mark.parametrize("other", ["Tinca_tinca", "n01440764"])
def test_two_classes_of_one_output_are_refused(other):
    with refused(CheckpointError, "mean the same as another: 1 of 3, first 2, .*, as 0, tench"):
        find("tench", "goldfish", other)


@pytest.mark.parametrize("network", [NETWORK, [(str(n), str(n)) for n in range(9)]])
def test_numbers_are_never_taken_for_classes(network):
    """Not even those of a network of numbers: its folders may have been other classes."""
    with refused(CheckpointError, "numbers, which do not say what class 2 is.*\n.*--class-names"):
        find("2", "5", network=network)


def test_same_numbers_are_the_same_classes_unless_their_names_contradict():
    numbers = [("0", "cat"), ("1", "dog")]

    assert find("0", "1", network=numbers).matched_by == "order"
    assert find(("0", "cat, kitty"), ("1", "Dog"), network=numbers).matched_by == "order"
    found = find(("0", "dog"), ("1", "cat"), network=numbers)
    assert (found.outputs, found.matched_by) == ((1, 0), "name")
    with refused(CheckpointError, "unknown to .*: 1 of 2, first 1, 1 .horse."):
        find(("0", "dog"), ("1", "horse"), network=numbers)


def test_streamed_numbers_are_named_by_their_own_option():
    with refused(CheckpointError, "--classes FILE"):
        map_classes("a", NETWORK, dataset_of("0", streamed=True))


def test_odd_names_stay_on_their_line():
    with refused(CheckpointError, r"first 0, cat\\nerror"):
        find("cat\nerror", "tench")


def test_first_difference_of_two_lists():
    assert first_difference(["a", "b"], ["a", "b"]) is None
    assert first_difference(["a", "b", "c"], ["a", "c", "b"]) == (1, "b", "c")
    assert first_difference(["a"], ["a", "b"]) == (1, "none", "b")


# --- names from a file


def named(tmp_path: Path, lines: list[str], *classes) -> list[tuple[str, str]]:
    (tmp_path / "names.txt").write_text("\n".join(lines), encoding="utf-8")
    found = with_class_names(dataset_of(*classes), tmp_path / "names.txt").classes
    return [(entry.wnid, entry.name) for entry in found]


def test_line_of_a_number_names_its_folder_and_not_its_label(tmp_path):
    lines = [f"class {n}" for n in range(11)]

    assert named(tmp_path, lines, "0", "10", "002") == [
        (name, name) for name in ("class 0", "class 10", "class 2")
    ]


def test_line_may_have_a_wnid(tmp_path):
    lines = [" ".join(entry) for entry in NETWORK]

    assert named(tmp_path, lines, "6", "1") == [NETWORK[6], NETWORK[1]]


def test_folders_that_are_no_numbers_are_named_in_their_order(tmp_path):
    assert named(tmp_path, ["tench", "goldfish"], "c0", "c1")[1] == ("goldfish", "goldfish")


def test_numbers_count_from_1_if_the_last_is_the_number_of_lines(tmp_path):
    lines = ["ant", "bee", "cat"]

    assert named(tmp_path, lines, "1", "3") == [("ant", "ant"), ("cat", "cat")]
    assert named(tmp_path, lines, "1", "2") == [("bee", "bee"), ("cat", "cat")]


def test_file_for_other_classes_is_refused(tmp_path):
    with refused(DatasetError, "no name for class 2 of shards/x; .* 0 to 1"):
        named(tmp_path, ["tench", "goldfish"], "0", "2")
    with refused(DatasetError, "names.txt: 2 names for the 1 of shards/x"):
        named(tmp_path, ["tench", "goldfish"], "c0")


@pytest.mark.parametrize(
    ("lines", "classes"),
    [
        (["goldfish", "tench"], ["tench", "goldfish"]),
        (["n01443537 x", "n01440764 x"], ["n01440764", "n01443537"]),
        (["cat", "dog"], [("0", "cat"), ("1", "horse")]),
    ],
)
def test_file_that_contradicts_the_dataset_is_refused(tmp_path, lines, classes):
    with refused(DatasetError, "names.txt: class [01] is .*, in shards/x it is "):
        named(tmp_path, lines, *classes)
