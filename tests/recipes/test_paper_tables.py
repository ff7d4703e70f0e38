"""The paper's tables: their rows are recipes, their figures those that were printed."""

import pytest

from alexnet_cli.errors import UsageError
from alexnet_cli.recipes.catalog import NAMED_RECIPES, RECIPES
from alexnet_cli.recipes.paper_tables import (
    FIGURE_1,
    FIGURE_1_GOAL,
    FIGURE_1_NETWORKS,
    FIGURE_1_RATIO,
    OFFICIAL_SETS,
    TABLE_NAMES,
    TABLES,
)

ROWS = [(table, row) for table, content in TABLES.items() for row in content.rows]
IDS = [f"{table}: {row.name}" for table, row in ROWS]
every_row = pytest.mark.parametrize(("table", "row"), ROWS, ids=IDS)

# Percent, as printed in the paper.
PRINTED = {
    "ilsvrc-2010": {"CNN": (37.5, 17.0), "CNN, center": (39.0, 18.3)},
    "ilsvrc-2012": {
        "1 CNN": (40.7, 18.2),
        "1 CNN, text": (40.7, 18.2),
        "5 CNNs": (38.1, 16.4),
        "1 CNN*": (39.0, 16.6),
        "7 CNNs*": (36.7, 15.4),
    },
    "ablations": {
        "original-2012": (40.7, 18.2),
        "original-2010": (37.5, 17.0),
        "paper": (40.7, 18.2),
    },
}
# Sections 3.2, 3.3, 3.4, 4.1 and 7.
PRINTED_GAINS = {
    "one-gpu": ("original-2010", (1.7, 1.2)),
    "no-lrn": ("original-2012", (1.4, 1.2)),
    "no-overlap": ("original-2012", (0.4, 0.3)),
    "no-color-noise": ("paper", (1.0, None)),
    "without-conv3": ("paper", (2.0, None)),
    "without-conv4": ("paper", (2.0, None)),
    "without-conv5": ("paper", (2.0, None)),
}


@every_row
def test_members_of_a_row_are_recipes_for_its_data(table, row):
    assert row.members
    assert len(set(row.members)) == len(row.members)
    for member in row.members:
        assert member in RECIPES
        assert NAMED_RECIPES[member].data == row.data[0]


@every_row
def test_data_of_a_row_are_known_sets(table, row):
    assert row.data
    assert set(row.data) <= set(OFFICIAL_SETS)


@every_row
def test_row_is_measured_in_the_center_or_in_ten_views(table, row):
    assert row.views in (1, 10)
    assert (row.views == 1) == ("center" in row.name)


@every_row
def test_baseline_is_a_row_of_the_same_table_on_the_same_data(table, row):
    rows = {other.name: other for other in TABLES[table].rows}
    if row.baseline is not None:
        assert row.baseline != row.name
        assert rows[row.baseline].data == row.data
        assert rows[row.baseline].views == row.views
        assert rows[row.baseline].baseline is None


@pytest.mark.parametrize("table", TABLES)
def test_no_two_rows_of_a_table_share_a_name(table):
    names = [row.name for row in TABLES[table].rows]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("table", TABLES)
def test_figures_are_those_of_the_paper(table):
    found = {row.name: row.paper for row in TABLES[table].rows if row.paper}
    assert found == PRINTED[table]


def test_gains_are_those_of_the_paper():
    found = {row.name: (row.baseline, row.paper_gain) for _, row in ROWS if row.paper_gain}
    assert found == PRINTED_GAINS


@pytest.mark.parametrize("name", ["one-gpu", "no-lrn", "no-overlap"])
def test_gain_is_the_difference_of_the_notes_of_2012(name):
    baseline, gain = PRINTED_GAINS[name]
    own, base = (
        next(
            target for target in NAMED_RECIPES[recipe].published if target.source.startswith("log")
        )
        for recipe in (name, baseline)
    )
    assert round(own.top1_error - base.top1_error, 1) == gain[0]
    assert round(own.top5_error - base.top5_error, 1) == gain[1]


def test_five_networks_and_the_two_that_were_pretrained_make_the_seven():
    rows = {row.name: row.members for row in TABLES["ilsvrc-2012"].rows}
    five, seven = rows["5 CNNs"], rows["7 CNNs*"]
    assert (len(five), len(seven)) == (5, 7)
    assert set(five) < set(seven)
    assert [member for member in five if NAMED_RECIPES[member].init_from] == []
    assert all(NAMED_RECIPES[member].init_from for member in set(seven) - set(five))
    assert rows["1 CNN"][0] in five
    assert rows["1 CNN*"][0] in seven


@pytest.mark.parametrize("name", NAMED_RECIPES)
def test_recipes_are_for_known_sets_and_start_from_recipes(name):
    entry = NAMED_RECIPES[name]
    # `finetune` takes the layers of whichever network it is given.
    assert bool(entry.init_from) == (bool(entry.recipe.init_layers) or name == "finetune")
    assert entry.init_from is None or entry.init_from in RECIPES


def test_counts_are_those_of_the_published_sets():
    found = {n: (s.train, s.val, s.test, s.classes) for n, s in OFFICIAL_SETS.items()}
    assert found == {
        "ilsvrc-2012": (1_281_167, 50_000, 0, 1000),
        "ilsvrc-2010": (1_261_406, 50_000, 150_000, 1000),
        "fall-2009": (8_900_000, 0, 0, 10_184),
        "fall-2011": (14_197_122, 0, 0, 21_843),
        "cifar-10": (50_000, 0, 10_000, 10),
    }


def test_figure_1_is_a_race_of_relu_and_tanh_to_a_quarter_of_errors():
    assert (FIGURE_1_GOAL, FIGURE_1_RATIO) == (0.25, 6.0)
    assert [network.recipe for network in FIGURE_1_NETWORKS] == ["cifar-relu", "cifar-tanh"]
    assert [NAMED_RECIPES[network.recipe].data for network in FIGURE_1_NETWORKS] == [
        "cifar-10",
        "cifar-10",
    ]


@pytest.mark.parametrize("network", FIGURE_1_NETWORKS, ids=lambda network: network.recipe)
def test_racer_tries_a_lower_and_a_higher_rate_than_its_likeliest(network):
    first, *others = network.learning_rates
    assert min(network.learning_rates) > 0
    assert min(others) < first < max(others)


def test_tables_and_the_figure_are_named_once():
    assert TABLE_NAMES == ("ilsvrc-2010", "ilsvrc-2012", "ablations", "figure-1")
    assert FIGURE_1 not in TABLES


def test_without_names_all_rows_are_chosen():
    table = TABLES["ilsvrc-2012"]
    assert table.choose([]) == table.rows


def test_named_rows_are_chosen_in_the_order_of_the_table():
    chosen = TABLES["ilsvrc-2012"].choose(["7 CNNs*", "1 CNN", "7 CNNs*"])
    assert [row.name for row in chosen] == ["1 CNN", "7 CNNs*"]


def test_unknown_row_is_refused_with_the_known_ones():
    known = r"9 CNNs: no such row\. Rows: 1 CNN, 1 CNN, text, 5 CNNs, 1 CNN\*, 7 CNNs\*\."
    with pytest.raises(UsageError, match=known) as refusal:
        TABLES["ilsvrc-2012"].choose(["1 CNN", "9 CNNs"])
    assert refusal.value.exit_code == 2
