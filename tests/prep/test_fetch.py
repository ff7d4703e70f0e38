"""Tars at URLs are brought into the folder of a prep, unless it was made or begun of others."""

import json
import shutil
from dataclasses import asdict
from pathlib import Path

import pytest

from alexnet_cli.data.remote.tar_set import TarSet
from alexnet_cli.errors import DatasetError, SourceError, UsageError
from alexnet_cli.io.atomic import write_checksummed
from alexnet_cli.io.progress import SILENT
from alexnet_cli.prep.fetch import bring, check_options
from alexnet_cli.prep.plan import PrepOptions

OPTIONS = PrepOptions(size=112, shard_size=25)  # those of the dataset in tests/conftest.py
PLAIN = {"layout": None, "md5": False, "follow_links": False}


@pytest.fixture
def tars(dataset, tmp_path) -> TarSet:
    folder = tmp_path / "tars"
    folder.mkdir()
    for name in ("train-000000.tar", "val-000000.tar"):
        shutil.copy(dataset / name, folder)
    return TarSet(f"file://{folder}/{{train,val}}-000000.tar")


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "new").mkdir()
    return tmp_path / "new"


def begin(folder: Path, origin: dict, **changed) -> None:
    (folder / ".prep").mkdir(exist_ok=True)
    options = {**asdict(OPTIONS), **changed}
    source = {"layout": "WebDataset", "fingerprint": "abc", **origin}
    write_checksummed(folder / ".prep" / "plan.json", {"options": options, "source": source})


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"layout": "kaggle"}, "--layout kaggle"),
        ({"md5": True}, "--check-md5"),
        ({"follow_links": True}, "--follow-links"),
    ],
)
def test_options_of_other_sources_are_refused(tars, given, said):
    with pytest.raises(UsageError, match=f"(?s){said}: .*Nothing was fetched"):
        check_options(tars, {**PLAIN, **given}, OPTIONS)
    check_options(tars, {**PLAIN, "layout": "webdataset"}, OPTIONS)


def test_share_for_validation_is_refused(tars):
    with pytest.raises(UsageError, match="--val-fraction"):
        check_options(tars, PLAIN, PrepOptions(val_fraction=0.1))


def test_tars_come_to_where_prep_works(tars, folder):
    place, origin = bring(tars, folder, OPTIONS, SILENT, force=False)
    assert place.parent == folder / ".prep" / "tars"
    assert sorted(path.name for path in place.glob("*.tar")) == [
        "train-000000.tar",
        "val-000000.tar",
    ]
    assert origin["fetched"] == tars.pattern
    begin(folder, origin)
    assert bring(tars, folder, OPTIONS, SILENT, force=False) == (place, origin)


def test_command_which_may_hold_a_key_is_not_told(tmp_path, tars, folder):
    command = f"pipe:KEY=secret cat {tmp_path}/tars/train-000000.tar"
    _, origin = bring(TarSet(command, allow_pipe=True), folder, OPTIONS, SILENT, force=False)
    assert "secret" not in json.dumps(origin)


@pytest.mark.parametrize(
    ("given", "options", "word"),
    [
        ({"tars": "0123"}, {}, r"changed since .* was begun"),
        ({"tars": "0123", "fetched": "s3://other"}, {}, "another dataset: fetched s3://other"),
        ({}, {"quality": 80}, "another dataset: quality 80 there, 90 now"),
    ],
)
def test_folder_that_was_begun_with_others_is_left_as_it_is(tars, folder, given, options, word):
    place, origin = bring(tars, folder, OPTIONS, SILENT, force=False)
    begin(folder, {**origin, **given}, **options)
    shutil.rmtree(place.parent)
    before = sorted(folder.rglob("*"))
    with pytest.raises(DatasetError, match=word):
        bring(tars, folder, OPTIONS, SILENT, force=False)
    assert sorted(folder.rglob("*")) == before


def test_folder_that_was_begun_with_local_images_is_another(tars, folder):
    begin(folder, {})
    with pytest.raises(DatasetError, match="another dataset: fetched None there"):
        bring(tars, folder, OPTIONS, SILENT, force=False)


def test_nothing_is_left_of_what_could_not_be_fetched(tars, folder, tmp_path):
    (tmp_path / "tars" / "train-000000.tar").write_bytes(b"no tar")
    (tmp_path / "tars" / "val-000000.tar").write_bytes(b"no tar")
    with pytest.raises(SourceError, match="truncated header"):
        bring(tars, folder, OPTIONS, SILENT, force=True)
    assert list(folder.iterdir()) == []
