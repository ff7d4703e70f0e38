import pytest

from alexnet_cli.recipes.catalog import RECIPES


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
