"""Our figures beside the published ones, and what is said above them when they are less."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from scipy.stats import binomtest

from alexnet_cli.recipes.catalog import RECIPES
from alexnet_cli.recipes.paper_tables import OFFICIAL_SETS, TABLES, PaperTable, Row
from alexnet_cli.reproduce.figure_1 import LearningRateRun
from alexnet_cli.reproduce.jobs import EnsembleJob, Shortcuts, TableDataset, TrainJob
from alexnet_cli.reproduce.plan import plan_rows
from alexnet_cli.reproduce.results import (
    figure_1_result,
    percent,
    table_result,
    to_markdown,
    write_results,
)

# As published.
REAL = {
    "ilsvrc-2012": TableDataset("ilsvrc-2012", "shards/a", 1_281_167, {"val": 50_000}, 1000),
    "ilsvrc-2010": TableDataset("ilsvrc-2010", "shards/b", 1_261_406, {"test": 150_000}, 1000),
    "cifar-10": TableDataset("cifar-10", "shards/c", 50_000, {"test": 10_000}, 10),
    "fall-2009": TableDataset("fall-2009", "shards/d", 8_900_000, {}, 10_184),
    "fall-2011": TableDataset("fall-2011", "shards/e", 14_197_122, {}, 21_843),
}
NOT_THE_REAL_THING = "Not the published experiment"


def reproduce(
    table: str | PaperTable,
    *only: str,
    errors: dict[str, tuple[float, float]] | None = None,
    data: dict[str, TableDataset] = REAL,
    shortcuts: Shortcuts | None = None,
    epochs: int | None = None,
) -> dict:
    """Return a table's result if each network's ten views, or an average, gave these errors.

    The center view is a tenth worse.
    """
    shortcuts = shortcuts or Shortcuts()
    content = TABLES[table] if isinstance(table, str) else table
    content = replace(content, rows=content.choose(list(only)))
    jobs, rows = plan_rows(content.rows, data, Path("out"), shortcuts)
    found = {}
    for job in jobs:
        if isinstance(job, TrainJob):
            found[job.name] = {"epochs": epochs or job.recipe.epochs}
            continue
        dataset = (job.evals[0] if isinstance(job, EnsembleJob) else job).train.dataset
        top1, top5 = (errors or {}).get(job.name, (0.5, 0.25))
        found[job.name] = {
            "images": dataset.held_out[dataset.split],
            "top1_error": top1,
            "top5_error": top5,
            "center": {"top1_error": top1 + 0.1, "top5_error": top5 + 0.1},
        }
    return table_result(content, rows, found, jobs, shortcuts)


def rows_of(result: dict) -> dict[str, dict]:
    return {row["name"]: row for row in result["rows"]}


def cells(line: str) -> list[str]:
    assert line.startswith("| ")
    assert line.endswith(" |")
    return [cell.strip() for cell in line[1:-1].split("|")]


def table_lines(markdown: str) -> list[str]:
    return [line for line in markdown.splitlines() if line.startswith("|")]


# --- figures


def test_row_has_our_errors_beside_the_papers_and_the_notes():
    found = reproduce("ilsvrc-2012", "1 CNN", errors={"eval-original-2012": (0.41, 0.19)})
    (row,) = found["rows"]
    assert found["title"] == "Table 2: ILSVRC-2012 validation set"
    assert row["ours"] == [0.41, 0.19]
    assert row["paper"] == [0.407, 0.182]
    assert row["log"] == [0.40664, 0.1821]
    assert (row["data"], row["dataset"]) == ("ilsvrc-2012", "shards/a")
    assert (row["images"], row["classes"]) == (50_000, 1000)
    assert row["protocol"] == "ten views, val"


def test_average_of_several_networks_has_the_errors_of_the_ensemble():
    found = reproduce("ilsvrc-2012", "5 CNNs", errors={"ensemble-5-CNNs": (0.38, 0.16)})
    (row,) = found["rows"]
    assert row["ours"] == [0.38, 0.16]
    assert row["log"] is None
    assert row["members"] == [*(f"five-cnns-{n}" for n in (120, 131, 135, 137)), "original-2012"]
    own = [RECIPES[name].epochs for name in row["members"]]
    assert row["epochs"] == row["recipe_epochs"] == own == [95, 95, 95, 95, 91]
    assert row["images_trained_on"] == [epochs * 1_281_167 for epochs in own]


def test_row_of_the_center_has_the_center_s_errors():
    found = reproduce("ilsvrc-2010", errors={"eval-original-2010": (0.3, 0.1)})
    rows = rows_of(found)
    assert rows["CNN"]["ours"] == [0.3, 0.1]
    assert rows["CNN, center"]["ours"] == pytest.approx([0.4, 0.2])
    for interval, wrong in zip(rows["CNN, center"]["intervals"], (60_000, 30_000), strict=True):
        expected = binomtest(wrong, 150_000).proportion_ci(method="wilson")
        assert interval == pytest.approx([expected.low, expected.high])
    assert rows["CNN"]["protocol"] == "ten views, test"
    assert rows["CNN, center"]["protocol"] == "center view, test"
    assert rows["CNN"]["log"] == [0.374727, 0.169987]
    assert rows["CNN, center"]["log"] == [0.390247, 0.182953]


def test_recipe_without_notes_has_no_such_figure():
    rows = rows_of(reproduce("ablations", "tanh", "lrn-conv5"))
    assert rows["tanh"]["log"] is None
    assert rows["tanh"]["paper"] is None
    assert rows["lrn-conv5"]["log"] is None


def test_notes_of_other_data_are_not_held_against_a_row():
    data = {"ilsvrc-2012": REAL["ilsvrc-2012"]}
    rows = rows_of(reproduce("ablations", "original-2010", "one-gpu", data=data))
    assert [rows[name]["log"] for name in ("original-2010", "one-gpu")] == [None, None]
    assert rows["one-gpu"]["data"] == "ilsvrc-2012"


def test_gain_is_the_difference_to_the_baseline():
    errors = {
        "eval-original-2012": (0.40, 0.18),
        "eval-no-lrn": (0.45, 0.17),
        "eval-original-2010": (0.30, 0.10),
        "eval-one-gpu": (0.31, 0.10),
    }
    only = ("original-2012", "no-lrn", "original-2010", "one-gpu")
    rows = rows_of(reproduce("ablations", *only, errors=errors))
    assert rows["no-lrn"]["gain"] == pytest.approx([0.05, -0.01])
    assert rows["one-gpu"]["gain"] == pytest.approx([0.01, 0.0])
    assert rows["no-lrn"]["paper_gain"] == [0.014, 0.012]
    assert rows["no-lrn"]["baseline"] == "original-2012"
    assert rows["original-2012"]["gain"] is None
    assert rows["original-2010"]["gain"] is None


def test_gain_needs_the_baseline_to_have_been_run():
    (row,) = reproduce("ablations", "no-lrn")["rows"]
    assert row["ours"]
    assert row["gain"] is None


def test_row_without_its_data_is_there_without_figures():
    data = {"ilsvrc-2012": REAL["ilsvrc-2012"]}
    found = reproduce("ilsvrc-2012", data=data)
    row = rows_of(found)["1 CNN*"]
    assert row["missing"] == ["fall-2009", "fall-2011"]
    assert (row["ours"], row["gain"]) == (None, None)
    assert row["paper"] == [0.39, 0.166]
    assert rows_of(found)["1 CNN"]["missing"] == []
    (line,) = [line for line in table_lines(to_markdown(found)) if "1 CNN*" in line]
    assert cells(line)[-1] == "not run: no fall-2009, fall-2011"
    assert cells(line)[3] == ""


def test_baseline_without_its_data_leaves_the_gain_open():
    data = {"ilsvrc-2012": REAL["ilsvrc-2012"]}
    found = reproduce("ablations", data=data)
    assert all(row["ours"] for row in found["rows"])
    found = reproduce("ablations", data={"ilsvrc-2010": REAL["ilsvrc-2010"]})
    rows = rows_of(found)
    assert rows["no-lrn"]["ours"] is rows["no-lrn"]["gain"] is None
    assert rows["one-gpu"]["gain"] == [0.0, 0.0]


def test_row_without_its_data_has_no_gain_on_a_baseline_that_has_them():
    base, row = Row("a", ("paper",)), Row("b", ("one-gpu",), ("ilsvrc-2010",), baseline="a")
    found = reproduce(PaperTable("t", (base, row)), data={"ilsvrc-2012": REAL["ilsvrc-2012"]})
    assert rows_of(found)["a"]["ours"] == [0.5, 0.25]
    assert rows_of(found)["b"]["gain"] is None


# --- what makes the figures less than the real ones


@pytest.mark.parametrize("table", TABLES)
def test_real_thing_has_no_caveats(table):
    found = reproduce(table)
    assert found["caveats"] == []
    assert NOT_THE_REAL_THING not in to_markdown(found)


def test_shortened_runs_are_named():
    found = reproduce("ablations", "paper", shortcuts=Shortcuts(epochs=3), epochs=3)
    (caveat,) = found["caveats"]
    assert caveat.startswith("3-epoch runs")
    assert found["rows"][0]["epochs"] == [3]
    assert found["rows"][0]["recipe_epochs"] == [90]
    assert found["rows"][0]["images_trained_on"] == [3 * 1_281_167]


def test_changed_settings_are_named():
    shortcuts = Shortcuts(settings=("width=0.5", "seed=3"))
    (caveat,) = reproduce("ablations", "paper", shortcuts=shortcuts)["caveats"]
    assert caveat == "changed settings: width=0.5, seed=3"


@pytest.mark.parametrize(
    ("changes", "counts"),
    [({"classes": 100}, ("100 ", "1,000 ")), ({"train": 1_268_355}, ("1,268,355", "1,281,167"))],
)
def test_other_images_are_named(changes, counts):
    dataset = replace(REAL["ilsvrc-2012"], path="shards/mine", **changes)
    (caveat,) = reproduce("ablations", "paper", data={"ilsvrc-2012": dataset})["caveats"]
    for text in ("ilsvrc-2012 is shards/mine", *counts):
        assert text in caveat


@pytest.mark.parametrize("count", [1_281_167, 1_281_166, 1_268_356, 1_293_978])
def test_some_images_more_or_less_to_train_on_are_no_caveat(count):
    data = {"ilsvrc-2012": replace(REAL["ilsvrc-2012"], train=count)}
    assert reproduce("ablations", "paper", data=data)["caveats"] == []


def test_each_set_of_a_chain_is_held_against_its_own_counts():
    data = REAL | {"fall-2009": replace(REAL["fall-2009"], train=1000)}
    (caveat,) = reproduce("ilsvrc-2012", "1 CNN*", data=data)["caveats"]
    assert caveat.startswith("fall-2009 is shards/d: 10,184 classes and 1,000 training images")


def test_sets_that_no_row_uses_have_no_caveats():
    data = REAL | {"cifar-10": replace(REAL["cifar-10"], train=1000)}
    assert reproduce("ablations", data=data)["caveats"] == []


def test_places_are_no_caveat():
    assert reproduce("ablations", "paper", shortcuts=Shortcuts(None, (), "cpu", 2))["caveats"] == []


def test_all_caveats_stand_above_the_table():
    data = {"ilsvrc-2012": replace(REAL["ilsvrc-2012"], classes=10)}
    shortcuts = Shortcuts(3, ("width=0.5",))
    found = reproduce("ablations", "paper", data=data, shortcuts=shortcuts)
    assert len(found["caveats"]) == 3
    text = to_markdown(found)
    above, _, _ = text.partition("| row |")
    assert NOT_THE_REAL_THING in above
    for caveat in found["caveats"]:
        assert f"\n* {caveat}\n" in above


def test_figures_on_other_data_than_the_papers_are_named():
    data = {"ilsvrc-2012": REAL["ilsvrc-2012"]}
    found = reproduce("ablations", "original-2010", "one-gpu", "paper", data=data)
    assert found["caveats"] == [
        "original-2010: the paper's figure is of ilsvrc-2010, ours of ilsvrc-2012",
        "one-gpu: the paper's figure is of ilsvrc-2010, ours of ilsvrc-2012",
    ]
    assert reproduce("ablations", "original-2010", "one-gpu", "paper")["caveats"] == []


@pytest.mark.parametrize(
    ("name", "table", "held_out", "words"),
    [
        ("ilsvrc-2012", "ilsvrc-2012", {"val": 500}, "500 images of val, not 50,000"),
        ("ilsvrc-2012", "ilsvrc-2012", {"val": 49_999}, "49,999 images of val, not 50,000"),
        ("ilsvrc-2010", "ilsvrc-2010", {"test": 15, "val": 50_000}, "15 images of test, not 150"),
    ],
)
def test_other_held_out_images_are_named(name, table, held_out, words):
    data = {name: replace(REAL[name], held_out=held_out)}
    caveats = reproduce(table, data=data)["caveats"]
    assert len(caveats) == 1
    assert f"{name} is {REAL[name].path}: measured on {words}" in caveats[0]


@pytest.mark.parametrize(
    ("name", "table", "held_out"),
    [
        ("ilsvrc-2012", "ilsvrc-2012", {"val": 50_000, "test": 30}),
        ("ilsvrc-2010", "ilsvrc-2010", {"val": 50_000}),
    ],
)
def test_figures_on_another_split_than_the_papers_are_named(name, table, held_out):
    data = {name: replace(REAL[name], held_out=held_out)}
    assert reproduce(table, data=data)["caveats"]


# --- results.md


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("names", [tuple(OFFICIAL_SETS), ("ilsvrc-2012",), ("ilsvrc-2010",)])
def test_every_line_of_the_table_has_as_many_cells(table, names):
    found = reproduce(table, data={name: REAL[name] for name in names})
    lines = table_lines(to_markdown(found))
    assert len(lines) == 2 + len(found["rows"])
    assert set(lines[1]) == {"|", "-"}
    assert {line.count("|") for line in lines} == {lines[0].count("|")}
    assert [cells(line)[0] for line in lines[2:]] == [row["name"] for row in found["rows"]]


def test_line_of_the_table_says_it_all():
    errors = {"eval-original-2012": (0.40, 0.18), "eval-no-lrn": (0.4512, 0.17)}
    found = reproduce("ablations", "original-2012", "no-lrn", errors=errors)
    lines = table_lines(to_markdown(found))
    header, line = cells(lines[0]), cells(lines[-1])
    assert header[:5] == ["row", "paper", "2012 log", "ours", "95 % intervals"]
    assert line == [
        *("no-lrn", "", "42.0 / 19.4", "45.1 / 17.0", "44.7-45.6 / 16.7-17.3"),
        *("+1.4 / +1.2", "+5.1 / -1.0 (original-2012)"),
        *("97 of 97", "124,273,199", "ten views, val of ilsvrc-2012, 50,000 images"),
    ]


def test_epochs_done_stand_beside_the_recipes_own():
    found = reproduce("ilsvrc-2012", "5 CNNs", shortcuts=Shortcuts(epochs=2), epochs=2)
    line = table_lines(to_markdown(found))[-1]
    assert cells(line)[7] == ", ".join(["2 of 95"] * 4 + ["2 of 91"])
    assert cells(line)[8] == f"{5 * 2 * 1_281_167:,}"


@pytest.mark.parametrize(
    ("errors", "sign", "text"),
    [
        (None, False, ""),
        (None, True, ""),
        ([0.407, 0.182], False, "40.7 / 18.2"),
        ([0.02, None], True, "+2.0 / -"),
        ([None, 0.5], False, "- / 50.0"),
        ([-0.0123, 0.0], True, "-1.2 / +0.0"),
        ([1.0, 0.0], False, "100.0 / 0.0"),
    ],
)
def test_fractions_are_shown_as_percent(errors, sign, text):
    assert percent(errors, sign=sign) == text


# --- figure 1

RELU = [
    LearningRateRun("cifar-relu", 0.004, (0.6, 0.4, 0.2), 2.25),
    LearningRateRun("cifar-relu", 0.002, (0.7, 0.5, 0.3), None),
    LearningRateRun("cifar-relu", 0.008, (0.5, 0.2), 1.25),
]
TANH = [
    LearningRateRun("cifar-tanh", 0.016, (0.8, 0.6, 0.4, 0.2), 3.25),
    LearningRateRun("cifar-tanh", 0.008, (0.9, 0.8, 0.7, 0.6), None),
]


def figure_1(
    runs: list[list[LearningRateRun]], dataset: TableDataset = REAL["cifar-10"], shortcuts=None
) -> dict:
    return figure_1_result(runs, dataset, shortcuts or Shortcuts())


def test_ratio_is_that_of_the_fastest_of_each_network():
    found = figure_1([RELU, TANH])
    assert found["ratio"] == pytest.approx(3.25 / 1.25)
    assert found["paper_ratio"] == 6.0
    assert found["goal"] == 0.25
    assert found["best"] == [
        {"recipe": "cifar-relu", "learning_rate": 0.008, "epochs": 1.25},
        {"recipe": "cifar-tanh", "learning_rate": 0.016, "epochs": 3.25},
    ]
    assert [run["learning_rate"] for run in found["runs"]] == [0.004, 0.002, 0.008, 0.016, 0.008]
    assert found["caveats"] == []
    assert (found["images"], found["dataset"]) == (50_000, "shards/c")


def test_network_that_never_arrives_leaves_no_ratio():
    found = figure_1([RELU, TANH[1:]])
    assert found["ratio"] is None
    assert [best["recipe"] for best in found["best"]] == ["cifar-relu"]
    assert "no ratio: fewer than two networks reached the goal (paper: about 6)" in to_markdown(
        found
    )


def test_one_network_alone_has_no_ratio():
    assert figure_1([RELU])["ratio"] is None


def test_figure_1_on_other_images_says_so():
    dataset = replace(REAL["cifar-10"], train=60)
    (caveat,) = figure_1([RELU, TANH], dataset)["caveats"]
    assert "60 training images instead of 10 and 50,000" in caveat


def test_shortened_or_changed_figure_1_says_so():
    found = figure_1([RELU, TANH], shortcuts=Shortcuts(3, ("width=0.5",)))
    assert [text.split(";")[0] for text in found["caveats"]] == [
        "3-epoch runs",
        "changed settings: width=0.5",
    ]
    text = to_markdown(found)
    assert NOT_THE_REAL_THING in text
    for caveat in found["caveats"]:
        assert f"\n* {caveat}\n" in text


def test_table_of_the_figure_1_has_a_line_for_every_rate():
    text = to_markdown(figure_1([RELU, TANH]))
    lines = table_lines(text)
    assert {line.count("|") for line in lines} == {6}
    assert cells(lines[2]) == ["cifar-relu", "0.004", "3", "2.2", "20.0%"]
    assert cells(lines[3]) == ["cifar-relu", "0.002", "3", "not reached", "30.0%"]
    assert len(lines) == 2 + 5
    assert "ratio 2.6 (paper: about 6). See figure-1.png." in text
    assert text.startswith("# Figure 1: epochs to 25% training error\n")
    assert NOT_THE_REAL_THING not in text


def test_lap_without_an_epoch_has_a_line_too():
    run = LearningRateRun("cifar-relu", 0.004, (), None)
    line = table_lines(to_markdown(figure_1([[run]])))[-1]
    assert cells(line) == ["cifar-relu", "0.004", "0", "not reached", ""]


# --- files


def test_results_of_a_table_are_read_back_as_they_were(tmp_path):
    shortcuts = Shortcuts(3, ("width=0.5",))
    found = reproduce("ablations", data={"ilsvrc-2012": REAL["ilsvrc-2012"]}, shortcuts=shortcuts)
    written = write_results(tmp_path, found)
    assert json.loads((tmp_path / "results.json").read_text()) == written
    assert (tmp_path / "results.md").read_text() == to_markdown(found)
    assert written["results"] == str(tmp_path / "results.md")
    assert {path.name for path in tmp_path.iterdir()} == {"results.json", "results.md"}


def test_results_of_the_figure_1_come_with_a_image(tmp_path):
    found = write_results(tmp_path, figure_1([RELU, TANH]))
    read = json.loads((tmp_path / "results.json").read_text())
    assert read == json.loads(json.dumps(found))
    assert read["runs"][0]["train_errors"] == [0.6, 0.4, 0.2]
    assert read["figure"] == str(tmp_path / "figure-1.png")
    with Image.open(tmp_path / "figure-1.png") as image:
        assert image.format == "PNG"
        assert min(image.size) > 500


@pytest.mark.parametrize("others", [[], RELU])
def test_rate_that_diverged_at_once_is_in_the_results_of_the_race(tmp_path, others):
    found = write_results(
        tmp_path, figure_1([[LearningRateRun("cifar-relu", 0.016, (), None), *others]])
    )
    assert json.loads((tmp_path / "results.json").read_text())["runs"][0]["train_errors"] == []
    assert "| cifar-relu | 0.016 | 0 | not reached |" in (tmp_path / "results.md").read_text()
    assert len(found["best"]) == bool(others)
    assert (tmp_path / "figure-1.png").is_file()


def test_winners_are_drawn_thick_and_the_others_faint(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(
        "alexnet_cli.figures.curves.save", lambda figure, path: drawn.append(figure)
    )
    write_results(tmp_path, figure_1([RELU[:2]]))
    lines = drawn[0].axes[0].lines
    by_errors = {line.get_ydata()[1]: line.get_linewidth() for line in lines[:2]}
    assert by_errors[0.4] > by_errors[0.5]
