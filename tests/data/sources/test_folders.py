"""Class folders of every shape: which images are listed, with which label, in which split."""

import errno
import os
from pathlib import Path

import pytest
from helpers import refused

from alexnet_cli.cli.hints import message
from alexnet_cli.data.sources.class_list import ClassList
from alexnet_cli.data.sources.detect import read_source
from alexnet_cli.data.sources.folders import read_folders
from alexnet_cli.data.sources.listing import list_image_files
from alexnet_cli.data.sources.source import Source, SourceOptions
from alexnet_cli.errors import ImageError, SourceError, UsageError


def touch(root: Path, *names: str) -> Path:
    """Make files whose content is their own name; listing must not care what is in them."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.fsencode(name))
    return root


def read(folder: Path, *, val_fraction: float = 0.0, seed: int = 0, **how) -> Source:
    source = read_folders(folder, val_fraction=val_fraction, seed=seed, **how)
    assert source is not None
    return source


def sources(source: Source, split: str = "train") -> list[str]:
    return [image.source for image in source.images[split]]


def wnids(source: Source) -> list[str]:
    return [entry.wnid for entry in source.classes]


@pytest.fixture
def classes(tmp_path) -> Path:
    """Three class folders alone, of 10, 20 and 5 images."""
    for wnid, count in (("cat", 10), ("ant", 20), ("dog", 5)):
        touch(tmp_path, *(f"{wnid}/{number:02d}.jpg" for number in range(count)))
    return tmp_path


def test_class_is_a_folder_and_its_label_the_sorted_position(classes):
    source = read(classes)
    assert wnids(source) == ["ant", "cat", "dog"]
    assert [p.label for p in source.images["train"]] == [0] * 20 + [1] * 10 + [2] * 5


def test_class_folders_alone_are_all_for_training(classes):
    source = read(classes)
    assert source.images["val"] == []
    assert sources(source)[:2] == ["ant/00.jpg", "ant/01.jpg"]


def test_every_listed_image_reads_as_its_file(classes):
    for image in read(classes).images["train"]:
        assert image.read() == image.source.encode()
        assert image.length == len(image.source)


def test_train_and_val_folders_become_the_splits(tmp_path):
    touch(tmp_path, "train/b/1.jpg", "train/a/2.jpg", "val/b/3.jpg", "val/a/4.jpg")
    source = read(tmp_path)
    assert sources(source) == ["train/a/2.jpg", "train/b/1.jpg"]
    assert sources(source, "val") == ["val/b/3.jpg", "val/a/4.jpg"]


def test_val_labels_are_those_of_train_even_if_val_lacks_classes(tmp_path):
    touch(tmp_path, "train/a/1.jpg", "train/b/2.jpg", "train/c/3.jpg", "val/c/4.jpg")
    assert [p.label for p in read(tmp_path).images["val"]] == [2]


@pytest.mark.parametrize("split", ["val", "test"])
def test_held_out_class_that_training_lacks_is_refused_by_name(tmp_path, split):
    touch(tmp_path, "train/a/1.jpg", f"{split}/a/2.jpg", f"{split}/zebra/3.jpg")
    with refused(SourceError, rf"{split}: class 'zebra' is not in .*train \(1 such\)"):
        read(tmp_path)


def test_flat_validation_folder_is_refused(tmp_path):
    touch(tmp_path, "train/a/1.jpg", "val/1.jpg")
    with refused(SourceError, "Sort its images into classes"):
        read(tmp_path)


def test_flat_test_folder_is_counted(tmp_path):
    source = read(touch(tmp_path, "train/a/1.jpg", "test/1.jpg", "test/2.jpg"))
    assert list(source.images) == ["train", "val"]
    assert source.ignored == {"test image without a label": 2}


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("Train", "train"),
        ("TRAINING", "train"),
        ("training-set", "train"),
        ("trainval", "train"),
        ("ILSVRC2012_img_val", "val"),
        ("Val", "val"),
        ("valid", "val"),
        ("validation", "val"),
        ("dev", "val"),
        ("testing", "test"),
        ("eval", "test"),
        ("Test set", "test"),
    ],
)
def test_split_folder_is_known_by_its_usual_names(tmp_path, name, split):
    if split != "train":
        touch(tmp_path, "train/a/1.jpg")
    source = read(touch(tmp_path, f"{name}/a/2.jpg"))
    assert wnids(source) == ["a"]
    assert sources(source, split) == [f"{name}/a/2.jpg"]


def test_of_two_folders_of_one_split_the_other_is_named(tmp_path):
    touch(tmp_path, "trainval/a/1.jpg", "train/a/2.jpg", "more/a/3.jpg")
    source = read(tmp_path)
    assert sources(source) == ["train/a/2.jpg"]
    not_read = [str(tmp_path / name) for name in ("more", "trainval")]
    assert [note.split()[1] for note in source.notes[:2]] == not_read


@pytest.mark.parametrize("split", ["val", "test"])
def test_held_out_images_alone_are_a_dataset_of_one_split(tmp_path, split):
    source = read(touch(tmp_path, f"{split}/b/1.jpg", f"{split}/a/2.jpg"))
    assert wnids(source) == ["a", "b"]
    assert source.images["train"] == []
    assert len(source.images[split]) == 2
    source.check_classes()


def test_classes_of_val_and_test_alone_are_those_of_both(tmp_path):
    source = read(touch(tmp_path, "val/a/1.jpg", "test/b/2.jpg"))
    assert wnids(source) == ["a", "b"]
    assert [image.label for image in source.images["test"]] == [1]


def test_vehicle_train_beside_other_classes_is_a_class(tmp_path):
    source = read(touch(tmp_path, "train/1.jpg", "sheep/2.jpg"))
    assert wnids(source) == ["sheep", "train"]
    assert "taken for a class" in source.notes[0]


@pytest.mark.parametrize("inner", ["", "cat/"])
def test_held_out_folder_beside_class_folders_is_refused(tmp_path, inner):
    touch(tmp_path, "cat/1.jpg", "dog/2.jpg", f"test/{inner}3.jpg")
    with refused(SourceError, "test/ is named like a split, but is beside cat, dog") as error:
        read(tmp_path)
    assert str(tmp_path / "train") in error.value.hint


@pytest.mark.parametrize("way", ["data", "data/data", "x/Train"])
def test_only_folder_of_folders_is_entered_and_named(tmp_path, way):
    touch(tmp_path, "README.txt", f"{way}/a/1.jpg", f"{way}/b/2.jpg")
    source = read(tmp_path)
    assert wnids(source) == ["a", "b"]
    assert str(tmp_path / way).removesuffix("/Train") in source.notes[0]


def test_class_folders_that_hold_the_splits_are_refused_with_the_way_to_go(tmp_path):
    touch(tmp_path, "images/train/1.jpg", "images/val/2.jpg", "labels/train/1.txt")
    with refused(SourceError, "images was taken for a class, but holds no images, only train/"):
        read(tmp_path)
    other = touch(tmp_path / "other", "cat/train/1.jpg", "dog/train/2.jpg", "dog/val/3.jpg")
    with refused(SourceError, "cat was taken for a class") as error:
        read(other)
    assert str(other / "train/cat") in error.value.hint


def test_folder_of_classes_beside_an_empty_one_is_refused_with_its_path(tmp_path):
    touch(tmp_path, "images/apple_pie/1.jpg", "images/ramen/2.jpg")
    (tmp_path / "meta").mkdir()
    with refused(SourceError, "only the folders apple_pie, ramen") as error:
        read(tmp_path)
    assert str(tmp_path / "images") in error.value.hint


def test_parts_that_hold_the_same_classes_are_refused(tmp_path):
    touch(tmp_path, "part1/cat/1.jpg", "part1/dog/2.jpg", "part2/cat/3.jpg", "part2/dog/4.jpg")
    with refused(SourceError, "part1 was taken for a class"):
        read(tmp_path)


def test_classes_of_folders_alone_are_taken_and_named(tmp_path):
    touch(tmp_path, "animal/cat/1.jpg", "animal/dog/2.jpg", "thing/car/3.jpg", "thing/cup/4.jpg")
    source = read(tmp_path)
    assert wnids(source) == ["animal", "thing"]
    assert "holds only folders (cat, dog)" in source.notes[0]


def test_one_folder_of_the_same_name_in_every_class_is_no_reason_to_warn(tmp_path):
    source = read(touch(tmp_path, "train/a/images/1.jpg", "train/b/images/2.jpg"))
    assert wnids(source) == ["a", "b"]
    assert source.notes == ()


def test_split_named_as_the_source_says_which_are_not_read(tmp_path):
    touch(tmp_path, "train/a/1.jpg", "train/b/2.jpg", "val/a/3.jpg")
    source = read(tmp_path / "train")
    assert str(tmp_path / "val") in source.notes[0]
    assert source.notes[0].endswith(f"name {tmp_path}")


def test_single_class_is_taken_and_named(tmp_path):
    assert "a single class" in read(touch(tmp_path, "only/1.jpg")).notes[0]


def test_flat_images_to_train_on_are_refused(tmp_path):
    with refused(SourceError, r"train: images, but no class folders"):
        read(touch(tmp_path, "train/1.jpg"))


def test_test_folders_become_a_split_of_their_own(tmp_path):
    touch(tmp_path, "train/b/1.jpg", "train/a/2.jpg", "test/b/3.jpg", "test/b/5.jpg")
    source = read(tmp_path)
    assert list(source.images) == ["train", "val", "test"]
    assert sources(source, "test") == ["test/b/3.jpg", "test/b/5.jpg"]
    assert [p.label for p in source.images["test"]] == [1, 1]
    assert [p.read() for p in source.images["test"]] == [b"test/b/3.jpg", b"test/b/5.jpg"]
    assert source.images["val"] == []
    assert sources(source) == ["train/a/2.jpg", "train/b/1.jpg"]


def test_without_test_folders_there_is_no_test_split(tmp_path, classes):
    assert "test" not in read(classes).images
    other = touch(tmp_path / "other", "train/a/1.jpg", "val/a/2.jpg")
    assert "test" not in read(other).images


@pytest.mark.parametrize(
    ("names", "layout"),
    [
        ("train", "train/CLASS folders"),
        ("train val", "train/CLASS and val/CLASS folders"),
        ("train test", "train/CLASS and test/CLASS folders"),
        ("train val test", "train/CLASS and val/CLASS and test/CLASS folders"),
    ],
)
def test_layout_names_the_folders_that_are_there(tmp_path, names, layout):
    touch(tmp_path, *(f"{split}/a/1.jpg" for split in names.split()))
    source = read(tmp_path)
    assert source.layout == layout
    assert len(source.images["val"]) == ("val" in names)


def test_layout_of_class_folders_alone_says_so(classes):
    assert read(classes).layout == "CLASS folders"


@pytest.mark.parametrize("names", [(), ("train/notes.txt",), ("1.jpg",)])
def test_folder_without_classes_is_not_recognized(tmp_path, names):
    assert read_folders(touch(tmp_path, *names), val_fraction=0.0, seed=0) is None


def test_images_name_is_the_path_inside_its_class(tmp_path):
    source = read(touch(tmp_path, "train/a/1.jpg", "train/a/deep/er/2.jpg", "val/a/3.jpg"))
    names = {split: [p.name for p in listed] for split, listed in source.images.items()}
    assert names == {"train": ["1.jpg", "deep/er/2.jpg"], "val": ["3.jpg"]}


def test_images_in_folders_below_a_class_belong_to_it(tmp_path):
    touch(tmp_path, "a/1.jpg", "a/deep/er/2.jpg", "b/3.jpg")
    assert sources(read(tmp_path)) == ["a/1.jpg", "a/deep/er/2.jpg", "b/3.jpg"]


@pytest.mark.parametrize("clutter", [".DS_Store", "._1.jpg", "Thumbs.db", "desktop.ini"])
def test_files_of_file_managers_are_ignored_and_counted(tmp_path, clutter):
    source = read(touch(tmp_path, "a/1.jpg", f"a/{clutter}"))
    assert sources(source) == ["a/1.jpg"]
    assert source.ignored == {"hidden file": 1}


@pytest.mark.parametrize("clutter", [".ipynb_checkpoints", "__MACOSX", ".git"])
def test_files_of_file_managers_never_become_a_class(tmp_path, clutter):
    assert wnids(read(touch(tmp_path, "a/1.jpg", f"{clutter}/2.jpg"))) == ["a"]


def test_hidden_folder_inside_a_class_is_not_entered(tmp_path):
    touch(tmp_path, "a/1.jpg", "a/.ipynb_checkpoints/1-checkpoint.jpg")
    source = read(tmp_path)
    assert sources(source) == ["a/1.jpg"]
    assert source.ignored == {"hidden folder": 1}


def test_entries_beside_the_classes_are_counted(tmp_path):
    touch(tmp_path, "a/1.jpg", "notes.txt", "1.jpg", "__MACOSX/a/1.jpg", "@eaDir/1.jpg")
    os.mkfifo(tmp_path / "pipe")
    expected = {"file beside the class folders": 2, "hidden folder": 2, "not a plain file": 1}
    assert read(tmp_path).ignored == expected


@pytest.mark.parametrize("name", [".hidden.jpg", "..JPEG", ".a.b.png"])
def test_image_whose_name_begins_with_a_dot_is_one(tmp_path, name):
    assert sources(read(touch(tmp_path, f"a/{name}"))) == [f"a/{name}"]


@pytest.mark.parametrize("place", ["x.JPEG", "a/x.jpg", "a/deep/.x.png"])
def test_folder_named_like_an_image_is_ignored_and_counted(tmp_path, place):
    source = read(touch(tmp_path, "a/1.jpg", f"{place}/2.jpg"))
    assert wnids(source) == ["a"]
    assert sources(source) == ["a/1.jpg"]
    assert source.ignored == {"folder named like an image": 1}


def test_linked_image_is_not_followed_but_counted(tmp_path):
    touch(tmp_path, "a/1.jpg")
    (tmp_path / "a" / "2.jpg").symlink_to("1.jpg")
    source = read(tmp_path)
    assert sources(source) == ["a/1.jpg"]
    assert source.ignored == {"symbolic link": 1}


def test_linked_class_folder_is_no_class_but_counted(tmp_path):
    touch(tmp_path, "a/1.jpg")
    (tmp_path / "b").symlink_to("a")
    source = read(tmp_path)
    assert wnids(source) == ["a"]
    assert source.ignored == {"symbolic link": 1}


def test_linked_class_folder_of_validation_is_followed_only_if_requested(tmp_path):
    touch(tmp_path, "train/a/1.jpg", "train/b/2.jpg", "val/a/3.jpg", "elsewhere/4.jpg")
    (tmp_path / "val" / "b").symlink_to("../elsewhere")
    with refused(SourceError, r"val: 1 links .* such as .*val/b -> \.\./elsewhere"):
        read(tmp_path)
    source = read(tmp_path, follow_links=True)
    assert sources(source, "val") == ["val/a/3.jpg", "val/b/4.jpg"]


def test_linked_split_folders_are_read(tmp_path):
    touch(tmp_path / "store", "x/a/1.jpg", "y/a/2.jpg")
    (tmp_path / "set").mkdir()
    for split, target in (("train", "x"), ("val", "y")):
        (tmp_path / "set" / split).symlink_to(tmp_path / "store" / target)
    source = read(tmp_path / "set")
    assert sources(source) == ["train/a/1.jpg"]
    assert sources(source, "val") == ["val/a/2.jpg"]


def test_classes_that_are_all_links_are_refused_with_their_number(tmp_path):
    touch(tmp_path / "store", "a/1.jpg", "b/2.jpg")
    (tmp_path / "set").mkdir()
    for name in ("a", "b"):
        (tmp_path / "set" / name).symlink_to(tmp_path / "store" / name)
    with refused(SourceError, "set: 2 links to images or folders lead out of it"):
        read(tmp_path / "set")
    assert sources(read(tmp_path / "set", follow_links=True)) == ["a/1.jpg", "b/2.jpg"]


def test_links_to_hidden_content_as_of_git_annex_are_not_passed_over(tmp_path):
    touch(tmp_path, ".git/annex/x.jpg", "a/1.jpg")
    (tmp_path / "a" / "2.jpg").symlink_to("../.git/annex/x.jpg")
    with refused(SourceError, "1 links to images or folders lead out"):
        read(tmp_path)
    source = read(tmp_path, follow_links=True)
    assert [image.read() for image in source.images["train"]] == [b"a/1.jpg", b".git/annex/x.jpg"]


def test_class_folder_that_is_a_broken_link_is_refused(tmp_path):
    touch(tmp_path, "a/1.jpg")
    (tmp_path / "b").symlink_to("/nowhere/b")
    with refused(SourceError, r"1 links lead nowhere, such as .*b -> /nowhere/b"):
        read(tmp_path, follow_links=True)


def test_linked_file_beside_the_class_folders_is_only_counted(tmp_path):
    touch(tmp_path, "set/a/1.jpg", "README")
    (tmp_path / "set" / "README").symlink_to("../README")
    assert read(tmp_path / "set").ignored == {"symbolic link": 1}


@pytest.mark.timeout(20)
@pytest.mark.parametrize("target", ["nowhere.jpg", "2.jpg", "/nowhere/at/all"])
def test_broken_link_is_left_to_prep_to_reject(tmp_path, target):
    touch(tmp_path, "a/1.jpg")
    (tmp_path / "a" / "2.jpg").symlink_to(target)
    source = read(tmp_path)
    assert sources(source) == ["a/1.jpg", "a/2.jpg"]
    with pytest.raises(ImageError, match="unreadable"):
        source.images["train"][1].read()


@pytest.fixture
def linked(tmp_path) -> Path:
    """A folder of classes with links that lead out of it, and some that do not."""
    source = touch(tmp_path / "source", "a/1.jpg", "b/2.jpg")
    touch(tmp_path / "outside", "3.jpg", "deep/4.jpg")
    (source / "a" / "5.jpg").symlink_to(tmp_path / "outside" / "3.jpg")
    (source / "a" / "6.jpg").symlink_to("1.jpg")
    (source / "b" / "more").symlink_to(tmp_path / "outside")
    (source / "c").symlink_to(tmp_path / "outside" / "deep")
    (source / "d").symlink_to("a")
    (tmp_path / "outside" / "back").symlink_to(tmp_path / "outside")
    (tmp_path / "outside" / "up").symlink_to(source)
    return source


def test_links_that_lead_out_are_followed_if_requested_each_file_once(linked):
    source = read(linked, follow_links=True)
    assert wnids(source) == ["a", "b", "c"]
    expected = ["a/1.jpg", "a/5.jpg", "b/2.jpg", "b/more/3.jpg", "b/more/deep/4.jpg", "c/4.jpg"]
    assert sources(source) == expected
    assert source.images["train"][1].read() == b"3.jpg"
    assert source.ignored == {"symbolic link": 4}


def test_links_that_lead_out_are_refused_by_default(linked):
    with refused(SourceError, "3 links to images or folders lead out of it") as error:
        read(linked)
    assert "--follow-links" in message(error.value)


def test_links_of_a_split_may_lead_to_the_folder_beside_it(tmp_path):
    touch(tmp_path, "train/a/1.jpg", "all/2.jpg")
    (tmp_path / "train" / "a" / "3.jpg").symlink_to(tmp_path / "all" / "2.jpg")
    assert sources(read(tmp_path, follow_links=True)) == ["train/a/1.jpg", "train/a/3.jpg"]


@pytest.mark.timeout(20)
def test_link_back_up_is_not_followed(tmp_path):
    touch(tmp_path, "a/1.jpg")
    (tmp_path / "a" / "up").symlink_to("..")
    assert sources(read(tmp_path)) == ["a/1.jpg"]


def test_pipe_among_the_images_is_ignored_and_counted(tmp_path):
    touch(tmp_path, "a/1.jpg")
    os.mkfifo(tmp_path / "a" / "2.jpg")
    assert read(tmp_path).ignored == {"not a plain file": 1}


@pytest.mark.parametrize(
    "name",
    [
        "a.b.c.jpg",
        "two words.jpg",
        "line\nbreak.jpg",
        "\u00e4\u4e2d.JPEG",
        os.fsdecode(b"\xff.jpg"),
    ],
)
def test_any_file_name_is_listed_and_read(tmp_path, name):
    source = read(touch(tmp_path, f"a/{name}"))
    assert sources(source) == [f"a/{name}"]
    assert source.images["train"][0].read() == os.fsencode(f"a/{name}")


def test_files_that_are_no_images_are_left_to_prep_to_reject(tmp_path):
    assert sources(read(touch(tmp_path, "a/1.jpg", "a/b.dat", "a/c"))) == [
        "a/1.jpg",
        "a/b.dat",
        "a/c",
    ]


@pytest.mark.parametrize("name", ["labels.txt", "1.json", "1.XML", "boxes.csv", "README.md"])
def test_notes_beside_images_are_ignored_and_counted(tmp_path, name):
    source = read(touch(tmp_path, "a/1.jpg", f"a/{name}"))
    assert sources(source) == ["a/1.jpg"]
    assert source.ignored == {"note beside the images": 1}


def test_val_fraction_takes_the_same_share_of_every_class(classes):
    source = read(classes, val_fraction=0.2)
    labels = [p.label for p in source.images["val"]]
    assert [labels.count(label) for label in range(3)] == [4, 2, 1]


def test_val_fraction_loses_and_repeats_no_image(classes):
    source = read(classes, val_fraction=0.3)
    assert sorted(sources(source) + sources(source, "val")) == sources(read(classes))


def test_val_fraction_draws_the_same_images_for_the_same_seed_only(classes):
    drawn = [sources(read(classes, val_fraction=0.3, seed=seed), "val") for seed in (5, 5, 6)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_val_fraction_leaves_every_class_a_training_image(tmp_path):
    source = read(touch(tmp_path, "a/1.jpg", "b/1.jpg", "b/2.jpg"), val_fraction=0.99)
    assert {p.label for p in source.images["train"]} == {0, 1}


@pytest.mark.parametrize("fraction", [-0.1, 1.0, 50.0, float("nan")])
def test_val_fraction_outside_its_range_is_refused(classes, fraction):
    with refused(UsageError, "--val-fraction"):
        read(classes, val_fraction=fraction)


@pytest.mark.parametrize("names", [("train/a/1.jpg",), ("train/a/1.jpg", "test/a/2.jpg")])
def test_val_fraction_is_refused_where_train_is_given(tmp_path, names):
    with refused(UsageError, "--val-fraction"):
        read(touch(tmp_path, *names), val_fraction=0.1)


def test_image_files_are_sorted_without_clutter_and_each_link_target_once(linked):
    touch(linked, "b/10.PNG", "b/notes.txt", "b/._2.jpg", "__MACOSX/2.jpg")
    ignored = {}
    names = [str(path.relative_to(linked)) for path in list_image_files(linked, ignored)]
    assert ignored["note beside the images"] == 1
    assert names == ["a/1.jpg", "b/10.PNG", "b/2.jpg", "b/more/3.jpg", "c/4.jpg"]


@pytest.mark.parametrize("folder", ["ant", "ant/deep"])
def test_folder_that_cannot_be_listed_raises_an_error(tmp_path, monkeypatch, folder):
    touch(tmp_path, "ant/1.jpg", "ant/deep/2.jpg", "bee/3.jpg")
    scandir = os.scandir

    def fail(path):
        if Path(path) == tmp_path / folder:
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", fail)
    with pytest.raises(OSError, match="Input/output error"):
        read(tmp_path)


def test_class_names_that_are_no_utf_8_are_escaped_and_their_images_found(tmp_path):
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    folder.mkdir()
    (folder / "a.jpg").write_bytes(b"x")
    source = read_source(tmp_path, SourceOptions(tmp_path / "staging"))
    assert [(entry.wnid, entry.name) for entry in source.classes] == [("caf\\udce9",) * 2]
    assert [image.read() for image in source.images["train"]] == [b"x"]


@pytest.mark.parametrize(
    "output",
    [
        "shards/mine/.index.json",
        "shards/mine/.lock",
        "shards/.prep/plan",
        "runs/a/last.safetensors",
    ],
)
def test_datasets_and_runs_in_the_source_are_passed_over(tmp_path, output):
    source = read(touch(tmp_path, "a/1.jpg", "b/1.jpg", output))
    assert [entry.wnid for entry in source.classes] == ["a", "b"]
    assert source.ignored == {"dataset or run of alexnet": 1}


def test_folder_with_images_beside_a_dataset_stays_a_class(tmp_path):
    touch(tmp_path, "a/1.jpg", "a/mine/.index.json", "a/mine/train-000000.tar")
    source = read(tmp_path)
    assert sources(source) == ["a/1.jpg"]
    assert source.ignored == {"dataset or run of alexnet": 1}


NFC, NFD = "caf\u00e9", "cafe\u0301"


@pytest.mark.parametrize(("train", "val"), [(NFC, NFD), (NFD, NFC)])
def test_class_in_two_unicode_forms_is_one_class(tmp_path, train, val):
    touch(tmp_path, f"train/{train}/a.jpg", f"val/{val}/b.jpg", "train/ant/c.jpg", "val/ant/d.jpg")
    source = read(tmp_path)
    assert wnids(source) == ["ant", train]
    assert [(i.name, i.label) for i in source.images["val"]] == [("b.jpg", 1), ("d.jpg", 0)]
    assert any(note.endswith("is the class of the same name in train/") for note in source.notes)
    assert all(image.read() for image in source.images["val"])


def test_two_unicode_forms_in_one_split_are_refused_with_their_code_points(tmp_path):
    touch(tmp_path, f"train/{NFC}/a.jpg", f"train/{NFD}/b.jpg")
    with refused(SourceError, r"\(U\+0301\) and .* \(U\+00E9\) are the same name"):
        read(touch(tmp_path, f"val/{NFC}/a.jpg"))


@pytest.mark.parametrize(
    ("train", "val", "pattern"),
    [
        ("Cat", "cat", "class 'cat' is not in .*train, which has 'Cat'"),
        ("cat", "\u0441at", r"class '\u0441at' \(U\+0441\) is not in .*train \("),
        ("cat", "cat\u200b", r"U\+200B.* which has 'cat'"),
    ],
    ids=["case", "Cyrillic", "blank of no width"],
)
def test_class_that_looks_like_another_is_shown_with_what_differs(tmp_path, train, val, pattern):
    touch(tmp_path, f"train/{train}/a.jpg", "train/ant/a.jpg", f"val/{val}/b.jpg")
    with refused(SourceError, pattern):
        read(tmp_path)


@pytest.mark.parametrize("form", ["{}", "{:04d}"])
@pytest.mark.parametrize("first", [0, 1])
def test_numbered_folders_are_numbered_by_number(tmp_path, form, first):
    names = [form.format(first + label) for label in range(12)]
    touch(tmp_path, *(f"{split}/{name}/{name}.jpg" for split in ("train", "val") for name in names))
    source = read(tmp_path)
    for split in ("train", "val"):
        assert all(int(i.name[:-4]) - first == i.label for i in source.images[split])
    assert wnids(source) == names
    said = [note for note in source.notes if "order of their numbers" in note]
    assert bool(said) is (names != sorted(names))


def test_list_names_numbered_folders_and_keeps_the_numbers_of_missing_ones(tmp_path):
    touch(tmp_path, "train/0/a.jpg", "val/10/b.jpg", "val/2/c.jpg")
    words = tuple(f"word {label}" for label in range(11))
    source = read(tmp_path, classes=ClassList(words, "list.txt"))
    assert [entry.name for entry in source.classes] == list(words)
    assert [(i.name, i.label) for i in source.images["val"]] == [("b.jpg", 10), ("c.jpg", 2)]


def test_list_orders_folders_of_names(tmp_path):
    touch(tmp_path, "cat/a.jpg", "ant/b.jpg")
    source = read(tmp_path, classes=ClassList(("n00000009 cat", "n00000001 ant"), "list.txt"))
    assert [(e.wnid, e.name) for e in source.classes] == [
        ("n00000009", "cat"),
        ("n00000001", "ant"),
    ]
    assert [(i.name, i.label) for i in source.images["train"]] == [("a.jpg", 0), ("b.jpg", 1)]


def test_list_names_the_classes_of_a_file_of_labels(tmp_path):
    touch(tmp_path, "images/a.jpg", "images/b.jpg")
    (tmp_path / "own.csv").write_text("a.jpg,1\nb.jpg,0\n")
    names = ClassList(("ant", "bee"), "list.txt")
    source = read(tmp_path / "images", labels=tmp_path / "own.csv", classes=names)
    assert [entry.name for entry in source.classes] == ["ant", "bee"]
    assert {i.name: i.label for i in source.images["train"]} == {"a.jpg": 1, "b.jpg": 0}


SPLIT_FOLDERS = {
    "Data Set": ("Train Set", "Valid Set"),
    "kaggle": ("train_images", "test_images"),
    "years": ("train2017", "val2017"),
    "camel case": ("trainingData", "testData"),
    "prefix": ("data_train", "data_test"),
    "Intel": ("seg_train/seg_train", "seg_test/seg_test"),
    "deeper": ("train/images", "val/images"),
}


@pytest.mark.parametrize(("train", "held_out"), SPLIT_FOLDERS.values(), ids=SPLIT_FOLDERS)
def test_folders_of_splits_are_known_by_other_words_around_them(tmp_path, train, held_out):
    names = [f"{top}/{wnid}/1.jpg" for top in (train, held_out) for wnid in ("ant", "bee")]
    source = read(touch(tmp_path, *names))
    assert wnids(source) == ["ant", "bee"]
    assert sources(source) == names[:2]
    assert sources(source, "test" if "test" in held_out.lower() else "val") == names[2:]


@pytest.mark.parametrize(
    "names", [("bullet_train", "train_station"), ("test_tube", "dev_board", "train_set_of_toys")]
)
def test_classes_with_the_word_of_a_split_in_their_names_stay_classes(tmp_path, names):
    source = read(touch(tmp_path, *(f"{name}/1.jpg" for name in names)))
    assert wnids(source) == sorted(names)


@pytest.mark.parametrize(
    ("names", "what"),
    [
        (["train/images/1.jpg", "train/labels/1.txt"], "train holds the folders images, labels"),
        (["JPEGImages/1.jpg", "Annotations/1.xml"], "folders Annotations, JPEGImages: images with"),
        (
            ["Images/a/1.jpg", "Images/b/2.jpg", "Annotation/a/1", "Annotation/b/2"],
            "Name the folder of the classes: .*Images",
        ),
        (
            ["set1/train/a/1.jpg", "set1/val/a/2.jpg", "set2/train/a/1.jpg", "set2/val/a/2.jpg"],
            "holds no images, only train/, val/.*\n.*\n?.*Name the folder of the splits: .*set1",
        ),
        (["train/a/1.jpg", "val/notes.txt"], r"val: no class folders; it holds 1 \*\.txt"),
        (["train/a/1.jpg", "val/1.jpg"], r"put a file of names and classes beside it: .*val\.csv"),
        (["test/1.jpg", "test/2.jpg"], "To classify them: alexnet predict .*test"),
    ],
)
def test_other_layouts_of_folders_are_refused_with_what_would_be_right(tmp_path, names, what):
    with refused(SourceError, what):
        read(touch(tmp_path, *names))


def test_own_output_beside_the_only_folder_does_not_hide_it(tmp_path):
    touch(tmp_path, "data/ant/1.jpg", "data/bee/1.jpg", "runs/r/last.safetensors")
    (tmp_path / "shards/x/.prep").mkdir(parents=True)
    assert wnids(read(tmp_path)) == ["ant", "bee"]


def test_image_whose_name_contradicts_the_list_is_named(tmp_path):
    a, b = "n00000001", "n00000002"
    touch(tmp_path, f"train/0/{a}_1.JPEG", f"train/1/{b}_1.JPEG", f"val/0/{b}_9.JPEG")
    listed = ClassList((f"{a} ant", f"{b} bee"), "list.txt")
    options = SourceOptions(tmp_path / "staging", classes=listed)
    with refused(SourceError, f"val/0/{b}_9.JPEG: its name says '{b}', but its label is 0"):
        read_source(tmp_path, options)
    (tmp_path / f"val/0/{b}_9.JPEG").rename(tmp_path / f"val/0/{a}_9.JPEG")
    assert [entry.wnid for entry in read_source(tmp_path, options).classes] == [a, b]
