"""The commands on datasets at URLs, and on tars that prep did not make."""

import io
import json
import re
import shutil
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import webdataset
from helpers import Listener, encoded, evaluate, resume, train
from PIL import Image

from alexnet_cli.data.dataset_ref import DatasetRef
from alexnet_cli.data.pca import pca
from alexnet_cli.data.pixel_stats import FILE_NAME
from alexnet_cli.data.remote.tar_set import TarSet
from alexnet_cli.data.shards.index import read_index
from alexnet_cli.errors import DatasetError
from alexnet_cli.inference.predictions import load_predictions
from alexnet_cli.model.checkpoint import load_checkpoint, save_checkpoint
from alexnet_cli.types import DecodeRules

pytestmark = pytest.mark.usefixtures("cache")


def weights_of(run: Path) -> str:
    return load_checkpoint(run / "last.safetensors").weights_hash()


# --- URLs


def test_eval_and_ensemble_of_a_url_are_those_of_the_folder(answer, web, dataset, checkpoint, runs):
    url = web(dataset).url
    local = answer("eval", checkpoint, dataset, "--views", 1, "--device", "cpu")
    remote = answer("eval", checkpoint, url, "--views", 1, "--device", "cpu")
    assert remote == local | {"dataset": url}
    members = [run / "best.safetensors" for run in (runs.first, runs.second)]
    how = ("--views", 1, "--device", "cpu")
    assert answer("ensemble", *members, "--data", url, *how) == answer(
        "ensemble", *members, "--data", dataset, *how
    )


def test_training_from_a_url_learns_what_the_folder_teaches(
    web, dataset, runs, tiny_recipe, tmp_path
):
    server = web(dataset)
    train(server.url, tmp_path / "run", replace(tiny_recipe, seed=1))
    assert weights_of(tmp_path / "run") == weights_of(runs.first)
    assert len(server.asked) == len(set(server.asked))


def test_pca_of_a_url_is_kept_where_train_finds_it(answer, web, dataset, cache, tmp_path):
    copy = shutil.copytree(dataset, tmp_path / "tiny")
    (copy / FILE_NAME).unlink()
    url = web(copy).url
    found = answer("pca", url)
    assert Path(found["file"]).is_relative_to(cache)
    assert np.allclose(found["mean_rgb"], pca(dataset).mean_rgb)
    about = answer("info", url)["about"]
    assert about["pixel_stats"] is True
    train_it = ("train", url, "--run", tmp_path / "run", "--set", "width=0.0625")
    small = ("--set", "crop_size=99", "--epochs", 1, "--device", "cpu")
    assert answer(*train_it, *small)["epochs"] == 1


def test_eval_and_pca_of_a_url_fetch_all_shards_of_their_split_first(web, dataset, checkpoint):
    def pca_of_url(progress):
        pca(web(dataset).url, progress=progress)

    def evaluate_url(progress):
        evaluate(checkpoint, web(dataset).url, num_views=1, progress=progress)

    for split, command in (("train", pca_of_url), ("val", evaluate_url)):
        listener = Listener()
        command(listener)
        names = {shard.name for shard in read_index(dataset).splits[split].shards}
        noted = [note for note in listener.notes if note]  # the bar also moves within a shard
        assert set(noted[: len(names)]) == names


def test_info_of_a_url_fetches_the_index_alone(answer, web, dataset):
    server = web(dataset)
    found = answer("info", server.url)
    assert found["about"]["dataset"] == read_index(dataset).fingerprint()
    assert found["name"] == server.url
    assert not [name for name in server.asked if name.endswith(".tar")]


def test_network_that_fails_is_a_fault_of_the_machine(fails, web, dataset, checkpoint):
    server = web(dataset)
    name = read_index(dataset).splits["val"].shards[0].name
    server.faults[name] = [503] * 99
    failure = fails(4, "eval", checkpoint, server.url, "--device", "cpu")
    assert f"{server.url}/{name}" in failure.message.replace("\n", "")
    server.close()
    fails(4, "eval", checkpoint, web(dataset).url + "0", "--device", "cpu")


def test_shard_of_other_bytes_is_input_that_cannot_be_used(fails, web, dataset, checkpoint, cache):
    server = web(dataset)
    name = read_index(dataset).splits["val"].shards[1].name
    server.faults[name] = ["other"] * 99
    assert name in fails(3, "eval", checkpoint, server.url, "--device", "cpu").message
    assert not list(cache.rglob(name))


def test_url_without_a_dataset_cannot_be_used(fails, web, tmp_path):
    assert "index.json" in fails(3, "pca", web(tmp_path).url).message


@pytest.mark.parametrize("url", ["ftp://host/a", "https://host/a?key=secret", "hdfs://host/a"])
def test_other_urls_are_a_wrong_command_line(fails, url, checkpoint):
    for arguments in (("pca", url), ("eval", checkpoint, url), ("info", url)):
        assert "secret" not in fails(2, *arguments).message


def test_verify_reads_folders_only(wrong_command_line):
    assert "is a URL" in wrong_command_line("verify", "https://host/a")


# --- tars


def test_tars_are_streamed_as_the_dataset_they_came_from(
    answer, dataset, tars, tmp_path, tiny_recipe
):
    computed = answer("pca", tars, "--stream")
    assert np.allclose(computed["mean_rgb"], pca(dataset).mean_rgb)
    source = DatasetRef(TarSet(str(tars)))
    train(source, tmp_path / "run", tiny_recipe)
    checkpoint = tmp_path / "run" / "best.safetensors"
    how = {"num_views": 1, "device": "cpu"}
    for location, name in ((source, "streamed"), (dataset, "indexed")):
        evaluate(checkpoint, location, predictions=tmp_path / f"{name}.npz", **how)
    streamed, indexed = (load_predictions(tmp_path / f"{n}.npz") for n in ("streamed", "indexed"))
    assert (streamed.probs == indexed.probs).all()
    assert (streamed.labels == indexed.labels).all()


def test_streamed_run_that_was_stopped_goes_on_as_if_it_was_not(tars, tmp_path, tiny_recipe):
    source, recipe = DatasetRef(TarSet(str(tars))), replace(tiny_recipe, schedule="plateau")
    pca(source)
    train(source, tmp_path / "whole", recipe)
    train(source, tmp_path / "parts", replace(recipe, epochs=1))
    resume(source, tmp_path / "parts", None, 2)
    assert weights_of(tmp_path / "parts") == weights_of(tmp_path / "whole")


def test_tars_of_other_classes_are_refused_with_the_remedy(fails, tars, checkpoint, tmp_path):
    names = tmp_path / "names.txt"
    names.write_text("".join(f"n0000000{label} word\n" for label in range(10)))
    how = ("--stream", "--classes", names, "--device", "cpu")
    assert "--classes FILE" in fails(3, "eval", checkpoint, tars, *how).message


def test_streamed_images_are_decoded_by_the_rules_of_the_model(checkpoint, tmp_path):
    model = load_checkpoint(checkpoint)
    turning = tmp_path / "turning.safetensors"
    save_checkpoint(turning, replace(model, rules=DecodeRules(apply_orientation=True)))
    names = tmp_path / "names.txt"
    names.write_text("".join(f"{wnid} {words}\n" for wnid, words in model.classes))
    pixels = np.random.default_rng(1).integers(0, 256, (60, 40, 3), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    files = {"turned": encoded(pixels, "PNG", exif=exif), "upright": encoded(np.rot90(pixels, 3))}
    probs = {}
    for name, content in files.items():
        with webdataset.TarWriter(str(tmp_path / f"{name}-val-0.tar")) as writer:
            writer.write({"__key__": "a", "png": content, "cls": 0})
        source = DatasetRef(TarSet(str(tmp_path / f"{name}-val-0.tar"), names))
        for path in (checkpoint, turning):
            out = tmp_path / "p.npz"
            evaluate(path, source, predictions=out, num_views=1, device="cpu")
            probs[name, path] = load_predictions(out).probs
    assert (probs["turned", turning] == probs["upright", turning]).all()
    assert (probs["turned", checkpoint] != probs["upright", checkpoint]).any()


def test_tar_that_changes_between_two_commands_is_another_dataset(tars, tmp_path, tiny_recipe):
    source = DatasetRef(TarSet(str(tars)))
    pca(source)
    train(source, tmp_path / "run", replace(tiny_recipe, epochs=1))
    path = next(iter(sorted(tars.glob("train-*.tar"))))
    content = bytearray(path.read_bytes())
    content[900] ^= 1
    path.write_bytes(content)
    pca(source)
    with pytest.raises(DatasetError, match="began with dataset"):
        resume(source, tmp_path / "run", None, 2)


def test_tars_that_are_used_in_part_end_with_code_5(fails, tars, checkpoint):
    path = next(iter(sorted(tars.glob("val-*.tar"))))
    with tarfile.open(path, "a") as tar:
        for name, content in (("x.jpg", b"no image"), ("x.cls", b"0"), ("y.cls", b"0"), ("z", b"")):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    how = (tars, "--stream", "--device", "cpu")
    failure = fails(5, "eval", checkpoint, *how, "--views", 1, "--json")
    assert json.loads(failure.stdout)["images"] == 30
    assert "1 image that cannot be read, 1 sample without an image" in failure.message
    assert "--max-bad 2" in failure.message
    fails(5, "pca", tars, "--stream")


def test_cut_tar_is_named(fails, tars, checkpoint):
    path = next(iter(sorted(tars.glob("val-*.tar"))))
    path.write_bytes(path.read_bytes()[:20_000])
    message = fails(3, "eval", checkpoint, tars, "--stream", "--device", "cpu").message
    assert path.name in re.sub(r"\s", "", message)


def test_commands_in_names_run_only_with_the_flag(fails, wrong_command_line, tmp_path):
    command = f"pipe:touch {tmp_path}/ran"
    fails(2, "pca", command, "--stream")
    fails(3, "pca", command)
    assert "--stream" in wrong_command_line("pca", command, "--allow-pipe")
    assert "--stream" in wrong_command_line("pca", "a", "--classes", "names.txt")
    assert not (tmp_path / "ran").exists()
    fails(3, "pca", command, "--stream", "--allow-pipe")
    assert (tmp_path / "ran").exists()
