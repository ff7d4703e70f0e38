import json
from dataclasses import replace

import pytest

from alexnet_cli.recipes.catalog import RECIPES, find_recipe, load_recipe


def test_json_lists_every_recipe_once(answer):
    found = answer("recipes")
    assert [row["name"] for row in found["recipes"]] == list(RECIPES)
    assert found["fields"] is None


def test_json_tells_the_papers_targets_as_fractions(answer):
    paper = answer("recipes")["recipes"][0]
    assert (paper["name"], paper["parent"], paper["changes"]) == ("paper", None, {})
    assert paper["targets"][0]["top1_error"] == 0.407
    assert paper["targets"][0]["source"] == "paper, table 2"


def test_only_the_differences_to_the_parent_are_listed(answer):
    rows = {row["name"]: row for row in answer("recipes")["recipes"]}
    assert rows["tanh"]["changes"] == {"activation": "tanh"}
    assert rows["no-augmentation"]["changes"] == {
        "random_crop": False,
        "mirror": False,
        "color_noise": 0.0,
    }


def test_table_shows_targets_in_percent(shown):
    text = shown("recipes")
    assert "no-overlap" in text
    assert "40.7%" in text


@pytest.mark.parametrize("name", RECIPES)
def test_one_recipe_is_shown_whole(answer, shown, name):
    found = answer("recipes", name)
    assert found["fields"]["name"] == name
    assert len(found["recipes"]) == 1
    assert f"--recipe {name}" in shown("recipes", name)


def test_unknown_recipe_is_exit_2(fails):
    assert "no recipe 'vgg'" in fails(2, "recipes", "vgg").message


def test_commands_say_what_the_recipe_begins_with_and_how_it_is_measured(answer):
    (tuned,) = answer("recipes", "finetune-2012")["recipes"]
    assert tuned["commands"][0].endswith("--init-from runs/pretrain-2011/last.safetensors")
    (cifar,) = answer("recipes", "cifar-13pct")["recipes"]
    assert cifar["commands"][1].endswith("DATASET --split test --views 9")


def test_printed_recipe_is_one_to_train_after_a_change(alexnet, answer, tmp_path):
    path = tmp_path / "mine.json"
    printed = json.loads(alexnet("recipes", "small", "--json").stdout)
    path.write_text(json.dumps(printed))
    assert load_recipe(path) == RECIPES["small"]
    printed["fields"]["conv1"]["filters"] = 32
    path.write_text(json.dumps(printed, indent=2))
    layers = answer("info", path)["layers"]
    assert layers[0]["name"] == "conv1"
    assert layers[0]["output"][0] == 32
    assert find_recipe(str(path)) == replace(
        RECIPES["small"], conv1=replace(RECIPES["small"].conv1, filters=32)
    )


def test_recipe_files_train_and_name_the_run(alexnet, dataset, tiny_recipe, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.json").write_text(replace(tiny_recipe, epochs=1).to_json())
    result = alexnet("train", dataset, "--recipe", "mine.json", "--device", "cpu")
    assert result.exit_code == 0, result.stderr
    kept = load_recipe(tmp_path / "runs" / "mine" / "recipe.json")
    assert kept == replace(tiny_recipe, epochs=1)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"recipes": [], "fields": null}', "\ufeff{"])
def test_file_that_is_no_recipe_is_refused(fails, tmp_path, content):
    path = tmp_path / "mine.json"
    path.write_text(content, encoding="utf-8")
    assert "not a recipe" in fails(2, "train", tmp_path, "--recipe", path).message


def test_wrong_recipe_is_answered_with_those_like_it(fails):
    for command in (["recipes"], ["train", "D", "--recipe"], ["check"], ["bench", "--recipe"]):
        assert "Did you mean small?" in fails(2, *command, "smal").message
