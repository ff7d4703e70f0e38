"""From a table to command lines: shared runs once, what is needed first, nothing without data."""

from itertools import pairwise
from pathlib import Path

import pytest

from alexnet_cli.engine.devices.layout import choose_layout
from alexnet_cli.engine.tables.plan import Shortcuts, Source, Step, plan_rows, waves
from alexnet_cli.errors import InputError, RecipeError
from alexnet_cli.recipes import RECIPES
from alexnet_cli.recipes.tables import OFFICIAL_SETS, TABLES, Row

OUT = Path("out")
FIVE = ("five-cnns-120", "five-cnns-131", "five-cnns-135", "five-cnns-137", "original-2012")


def sources(*names: str) -> dict[str, Source]:
    """Return data sets with held-out pictures for validation only."""
    return {name: Source(name, f"shards/{name}", 1000, {"val": 100}, 10) for name in names}


ALL = sources(*OFFICIAL_SETS)


def make_plan(table: str, *only: str, data: dict[str, Source] = ALL, shortcuts=None):
    """Return the steps by name, and the rows by name."""
    rows = TABLES[table].choose(list(only))
    steps, planned = plan_rows(rows, data, OUT, shortcuts or Shortcuts())
    assert [entry.row for entry in planned] == list(rows)
    by_name = {step.name: step for step in steps}
    assert len(by_name) == len(steps), "a step is there twice"
    return by_name, {entry.row.name: entry for entry in planned}


def of_kind(steps: dict[str, Step], kind: str) -> list[str]:
    return [name for name, step in steps.items() if step.kind == kind]


def option(step: Step, name: str) -> str:
    return step.arguments[step.arguments.index(name) + 1]


# --- what is there, and in which order


def test_networks_of_several_rows_are_trained_and_measured_once():
    steps, rows = make_plan("ilsvrc-2012")
    pretrained = ("finetune-2012", "finetune-2012-from-2009")
    measured = {*FIVE, "paper", *pretrained}
    assert set(of_kind(steps, "eval")) == {f"eval-{name}" for name in measured}
    trained = {*measured, "pretrain-2009", "pretrain-2011"}
    assert set(of_kind(steps, "train")) == {f"train-{name}" for name in trained}
    assert len(of_kind(steps, "ensemble")) == 2
    assert len(steps) == 8 + 10 + 2
    for name in ("1 CNN", "5 CNNs", "7 CNNs*"):
        assert "train-original-2012" in rows[name].trains


def test_rows_of_the_centre_and_of_ten_views_share_one_measurement():
    steps, rows = make_plan("ilsvrc-2010")
    assert list(steps) == ["train-original-2010", "eval-original-2010"]
    assert {entry.step for entry in rows.values()} == {"eval-original-2010"}


@pytest.mark.parametrize("table", TABLES)
def test_every_step_comes_after_those_it_needs(table):
    steps, _ = make_plan(table)
    done = set()
    for name, step in steps.items():
        assert set(step.needs) <= done
        done.add(name)


@pytest.mark.parametrize("table", TABLES)
def test_figure_of_a_row_is_that_of_its_networks(table):
    steps, rows = make_plan(table)
    for entry in rows.values():
        assert [steps[name].recipe.name for name in entry.trains] == list(entry.row.members)
        step = steps[entry.step]
        if len(entry.row.members) == 1:
            assert (step.kind, step.needs) == ("eval", entry.trains)
        else:
            assert step.kind == "ensemble"
            assert tuple(steps[name].needs[0] for name in step.needs) == entry.trains


@pytest.mark.parametrize("table", TABLES)
def test_runs_have_a_folder_each(table):
    steps, _ = make_plan(table)
    folders = [steps[name].folder for name in of_kind(steps, "train")]
    assert len(set(folders)) == len(folders)
    predictions = [option(steps[name], "--predictions") for name in of_kind(steps, "eval")]
    assert len(set(predictions)) == len(predictions)


def test_network_is_trained_on_its_data_and_its_last_epoch_is_measured():
    steps, _ = make_plan("ablations", "no-lrn")
    train, measure = steps.values()
    assert train.arguments == (
        *("train", "shards/ilsvrc-2012", "--run", "out/runs/no-lrn", "--recipe", "no-lrn"),
        *("--epochs", "97"),
    )
    assert train.folder == Path("out/runs/no-lrn")
    assert measure.arguments == (
        *("eval", "out/runs/no-lrn/last.safetensors", "shards/ilsvrc-2012", "--split", "val"),
        *("--predictions", "out/predictions/no-lrn.npz"),
    )
    for step in (train, measure):
        assert step.recipe == RECIPES["no-lrn"]
        assert step.source == ALL["ilsvrc-2012"]
        assert step.purpose.endswith(".")


def test_average_reads_the_predictions_of_its_networks():
    steps, rows = make_plan("ilsvrc-2012", "5 CNNs")
    average = steps[rows["5 CNNs"].step]
    files = [option(steps[f"eval-{name}"], "--predictions") for name in FIVE]
    assert average.arguments == ("ensemble", *files)
    assert average.purpose.endswith(".")


@pytest.mark.parametrize("table", TABLES)
def test_steps_are_done_only_with_what_the_next_ones_read(table):
    steps, _ = make_plan(table)
    for step in steps.values():
        if step.kind == "train":
            assert step.output == step.folder / "last.safetensors"
        elif step.kind == "eval":
            assert step.output == Path(option(step, "--predictions"))
            assert steps[step.needs[0]].output == Path(step.arguments[1])
        else:
            assert step.output is None
            outputs = [str(steps[name].output) for name in step.needs]
            assert list(step.arguments[1:]) == outputs


# --- networks that begin from others


def test_pretrained_network_begins_from_a_chain_of_runs():
    steps, _ = make_plan("ilsvrc-2012", "1 CNN*")
    chain = ("original-2012", "pretrain-2009", "pretrain-2011", "finetune-2012")
    assert list(steps) == [*(f"train-{name}" for name in chain), "eval-finetune-2012"]
    assert steps["train-original-2012"].begins_from is None
    assert steps["train-original-2012"].needs == ()
    for parent, child in pairwise(chain):
        assert steps[f"train-{child}"].needs == (f"train-{parent}",)
        assert steps[f"train-{child}"].begins_from == steps[f"train-{parent}"].folder


def test_links_of_the_chain_are_trained_on_sets_of_their_own():
    steps, _ = make_plan("ilsvrc-2012", "1 CNN*")
    found = [step.arguments[1] for step in steps.values() if step.kind == "train"]
    names = ("ilsvrc-2012", "fall-2009", "fall-2011", "ilsvrc-2012")
    assert found == [f"shards/{name}" for name in names]


def test_second_pretrained_network_leaves_fall_2011_out_and_shares_the_rest():
    steps, _ = make_plan("ilsvrc-2012", "7 CNNs*")
    pretrained = steps["train-pretrain-2009"]
    assert pretrained.needs == ("train-original-2012",)
    assert steps["train-finetune-2012-from-2009"].begins_from == pretrained.folder
    assert of_kind(steps, "train").count("train-pretrain-2009") == 1


# --- data that are not there


def test_row_without_its_pretraining_data_is_reported_and_adds_nothing():
    steps, rows = make_plan("ilsvrc-2012", data=sources("ilsvrc-2012", "fall-2009"))
    for name in ("1 CNN*", "7 CNNs*"):
        assert rows[name].missing == ("fall-2011",)
        assert (rows[name].step, rows[name].trains) == (None, ())
    for name in ("1 CNN", "1 CNN, text", "5 CNNs"):
        assert rows[name].missing == ()
        assert rows[name].step in steps
    assert set(of_kind(steps, "train")) == {f"train-{name}" for name in (*FIVE, "paper")}


def test_every_set_that_a_row_lacks_is_named():
    steps, rows = make_plan("ilsvrc-2012", "1 CNN", "1 CNN*", data=sources("ilsvrc-2010"))
    assert steps == {}
    assert rows["1 CNN"].missing == ("ilsvrc-2012",)
    assert rows["1 CNN*"].missing == ("fall-2009", "fall-2011", "ilsvrc-2012")
    assert rows["1 CNN*"].source is None


def test_without_data_nothing_is_planned():
    for table in TABLES:
        steps, rows = make_plan(table, data={})
        assert steps == {}
        assert all(entry.missing for entry in rows.values())


def test_row_falls_back_to_its_second_set_in_a_run_of_its_own_name():
    own, _ = make_plan("ablations", "one-gpu", data=sources("ilsvrc-2010", "ilsvrc-2012"))
    other, rows = make_plan("ablations", "one-gpu", data=sources("ilsvrc-2012"))
    assert own["train-one-gpu"].arguments[1] == "shards/ilsvrc-2010"
    assert own["train-one-gpu"].folder == Path("out/runs/one-gpu")
    assert list(other) == ["train-one-gpu-on-ilsvrc-2012", "eval-one-gpu-on-ilsvrc-2012"]
    train, measure = other.values()
    assert train.arguments[1:6] == (
        *("shards/ilsvrc-2012", "--run", "out/runs/one-gpu-on-ilsvrc-2012", "--recipe", "one-gpu"),
    )
    assert train.folder == Path("out/runs/one-gpu-on-ilsvrc-2012")
    assert measure.arguments[1] == "out/runs/one-gpu-on-ilsvrc-2012/last.safetensors"
    assert option(measure, "--predictions") == "out/predictions/one-gpu-on-ilsvrc-2012.npz"
    assert rows["one-gpu"].source.name == "ilsvrc-2012"


def test_row_and_its_baseline_fall_back_together():
    _, rows = make_plan("ablations", data=sources("ilsvrc-2012"))
    for entry in rows.values():
        assert entry.source.name == "ilsvrc-2012"


def test_network_that_is_begun_from_is_trained_on_its_own_data():
    row = Row("tuned on 2010", ("finetune-2012",), ("ilsvrc-2010",))
    (*chain, tune, _), _ = plan_rows([row], ALL, OUT, Shortcuts())
    assert tune.name == "train-finetune-2012-on-ilsvrc-2010"
    assert chain[0].arguments[1:4] == ("shards/ilsvrc-2012", "--run", "out/runs/original-2012")


def without_held_out(name: str) -> dict[str, Source]:
    return {name: Source(name, f"shards/{name}", 1000, {"val": 0}, 10)}


def test_sets_to_pretrain_on_need_no_held_out_pictures():
    data = ALL | without_held_out("fall-2009") | without_held_out("fall-2011")
    _, rows = make_plan("ilsvrc-2012", data=data)
    assert all(entry.step and not entry.missing for entry in rows.values())


@pytest.mark.parametrize("held_out", [{}, {"val": 0}, {"val": 0, "test": 0}])
def test_row_measured_on_a_set_without_held_out_pictures_is_refused(held_out):
    data = {"ilsvrc-2012": Source("ilsvrc-2012", "shards/mine", 1000, held_out, 10)}
    with pytest.raises(InputError, match=r"shards/mine has training pictures only"):
        make_plan("ablations", "paper", data=data)


# --- the split that is measured


@pytest.mark.parametrize(
    ("held_out", "split"),
    [
        ({"val": 50, "test": 150}, "test"),
        ({"test": 150}, "test"),
        ({"val": 50, "test": 0}, "val"),
        ({"val": 50}, "val"),
    ],
)
def test_test_set_is_measured_where_there_is_one(held_out, split):
    source = Source("ilsvrc-2010", "shards/a", 1000, held_out, 10)
    assert source.split == split
    steps, _ = make_plan("ilsvrc-2010", data={"ilsvrc-2010": source})
    assert option(steps["eval-original-2010"], "--split") == split


# --- shortcuts


def test_shortcuts_are_passed_on_to_every_training():
    settings = ("width=0.0625", "crop_size=99")
    steps, _ = make_plan("ilsvrc-2012", shortcuts=Shortcuts(3, settings, "cpu", 2))
    for name in of_kind(steps, "train"):
        *_, recipe = steps[name].arguments[:6]
        assert steps[name].arguments[6:] == (
            *("--epochs", "3", "--set=width=0.0625", "--set=crop_size=99"),
            *("--device", "cpu", "--gpus", "2"),
        )
        assert (steps[name].recipe.name, steps[name].recipe.epochs) == (recipe, 3)


def test_measurements_run_in_the_same_place_and_are_told_no_settings():
    steps, _ = make_plan("ilsvrc-2012", shortcuts=Shortcuts(3, ("width=0.5",), "cpu", 2))
    for name in of_kind(steps, "eval"):
        arguments = steps[name].arguments
        assert arguments[-4:] == ("--device", "cpu", "--gpus", "2")
        assert not [text for text in arguments if text.startswith(("--set", "--epochs"))]


def test_averages_of_predictions_need_no_place():
    steps, rows = make_plan("ilsvrc-2012", "5 CNNs", shortcuts=Shortcuts(3, (), "cuda", 2))
    arguments = steps[rows["5 CNNs"].step].arguments
    assert all(text.endswith(".npz") for text in arguments[1:])


@pytest.mark.parametrize("table", TABLES)
def test_without_shortcuts_only_the_recipes_own_epochs_are_passed(table):
    steps, _ = make_plan(table)
    for step in steps.values():
        shortcuts = ("--epochs", "--set", "--device", "--gpus")
        given = [text for text in step.arguments if text.startswith(shortcuts)]
        assert given == (["--epochs"] if step.kind == "train" else [])
        if step.kind == "train":
            assert option(step, "--epochs") == str(RECIPES[step.recipe.name].epochs)


def test_epochs_of_a_setting_are_passed_on_as_epochs():
    steps, _ = make_plan("ablations", "paper", shortcuts=Shortcuts(settings=("epochs=4",)))
    assert option(steps["train-paper"], "--epochs") == "4"
    assert steps["train-paper"].recipe.epochs == 4


@pytest.mark.parametrize("table", TABLES)
def test_recipes_of_a_plan_have_the_settings(table):
    steps, _ = make_plan(table, shortcuts=Shortcuts(settings=("crop_size=99", "seed=5")))
    for name in (*of_kind(steps, "train"), *of_kind(steps, "eval")):
        assert (steps[name].recipe.crop_size, steps[name].recipe.seed) == (99, 5)


def test_unknown_setting_is_refused_before_anything_is_done():
    with pytest.raises(RecipeError, match="no field colour"):
        make_plan("ablations", "paper", shortcuts=Shortcuts(settings=("colour=red",)))


def test_network_of_one_column_has_replicas_where_others_are_split():
    steps, _ = make_plan("ablations", "one-gpu", "paper", shortcuts=Shortcuts(num_devices=2))
    for kind in ("train", "eval"):
        assert option(steps[f"{kind}-paper"], "--gpus") == "2"
        assert "--columns" not in steps[f"{kind}-paper"].arguments
        assert option(steps[f"{kind}-one-gpu"], "--gpus") == "2"
        assert option(steps[f"{kind}-one-gpu"], "--columns") == "1"


@pytest.mark.parametrize(
    ("recipe", "num_devices", "places"),
    [
        ("paper", None, []),
        ("paper", 1, ["--gpus", "1"]),
        ("paper", 2, ["--gpus", "2"]),
        ("one-gpu", 1, ["--gpus", "1"]),
        ("one-gpu", 2, ["--gpus", "2", "--columns", "1"]),
        ("paper", 3, ["--gpus", "3", "--columns", "1"]),
        ("paper", 8, ["--gpus", "8", "--columns", "1"]),
    ],
)
def test_network_has_a_replica_on_each_of_more_devices_than_columns(recipe, num_devices, places):
    shortcuts = Shortcuts(num_devices=num_devices)
    assert shortcuts.places(RECIPES[recipe]) == places
    on_cpu = Shortcuts(device="cpu", num_devices=num_devices)
    assert on_cpu.places(RECIPES[recipe]) == ["--device", "cpu", *places]


@pytest.mark.parametrize("recipe", ["paper", "one-gpu"])
@pytest.mark.parametrize("num_devices", range(1, 10))
def test_device_layout_accepts_what_a_plan_passes_on(recipe, num_devices):
    places = Shortcuts(device="cpu", num_devices=num_devices).places(RECIPES[recipe])
    columns = 1 if "--columns" in places else None

    layout = choose_layout("cpu", num_devices, columns, net_columns=RECIPES[recipe].columns)

    assert layout.replicas * layout.per_replica == num_devices


# --- what can run at once


@pytest.mark.parametrize("table", TABLES)
def test_no_step_needs_one_of_its_own_wave_or_a_later_one(table):
    steps, _ = make_plan(table)
    groups = waves(list(steps.values()))
    done = set()
    for group in groups:
        assert group
        for step in group:
            assert set(step.needs) <= done
        done |= {step.name for step in group}
    assert sorted(step.name for group in groups for step in group) == sorted(steps)


@pytest.mark.parametrize("table", TABLES)
def test_every_step_is_in_the_first_wave_it_can_be_in(table):
    steps, _ = make_plan(table)
    groups = waves(list(steps.values()))
    assert all(not step.needs for step in groups[0])
    for before, group in pairwise(groups):
        names = {step.name for step in before}
        assert all(names & set(step.needs) for step in group)


def test_chain_of_four_networks_and_their_average_takes_six_waves():
    steps, _ = make_plan("ilsvrc-2012", "7 CNNs*")
    groups = [[step.name for step in group] for group in waves(list(steps.values()))]
    assert groups[0] == [f"train-{name}" for name in FIVE]
    assert "train-pretrain-2009" in groups[1]
    assert {"train-pretrain-2011", "train-finetune-2012-from-2009"} == set(groups[2])
    assert {"train-finetune-2012", "eval-finetune-2012-from-2009"} == set(groups[3])
    assert groups[4] == ["eval-finetune-2012"]
    assert groups[5] == ["ensemble-7-CNNs-pretrained"]


def test_nothing_to_do_takes_no_wave():
    assert waves([]) == []
