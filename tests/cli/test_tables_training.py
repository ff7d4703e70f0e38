"""Plans, reproduced tables and checks on the screen."""

from alexnet_cli.cli import tables_training as report_training

ROW = {
    "name": "no-lrn",
    "paper": None,
    "log": [0.42034, 0.19362],
    "ours": [0.5, 0.25],
    "gain": [0.125, -0.01],
    "paper_gain": [0.014, 0.012],
    "baseline": "original-2012",
    "epochs": [2],
    "recipe_epochs": [97],
    "images_trained_on": [120],
    "data": "ilsvrc-2012",
    "protocol": "ten views, val",
    "images": 1000,
    "missing": [],
}


def test_table_shows_percent_and_its_caveats(capsys):
    rows = [ROW, {**ROW, "name": "one-gpu", "ours": None, "missing": ["ilsvrc-2010"]}]
    result = {"title": "a table", "caveats": ["2-epoch runs"], "rows": rows, "results": "out/r.md"}
    report_training.show_reproduce(result)
    text = " ".join(capsys.readouterr().out.split())
    for words in ("not the published experiment: 2-epoch runs", "no-lrn", "one-gpu", "out/r.md"):
        assert words in text
    for figures in ("50.0 /", "+12.5 /", "no --data"):
        assert figures in text


def test_plan_shows_commands_that_can_be_pasted_with_their_cost(capsys):
    step = {"name": "a", "images": 1200, "hours": 0.5, "disk_bytes": 3_000_000}
    result = {
        "steps": [{**step, "command": ["train", "my data"]}],
        "to_prepare": {"cifar-10": "alexnet prep SOURCE shards/cifar-10 --size 32"},
        "rates": {"paper, 1000 classes": 36.0},
        "devices": ["cpu"],
        "images": 1200,
        "hours": 0.5,
        "disk_bytes": 3_000_000,
        "data_bytes": 2_000_000_000,
    }
    report_training.show_plan(result)
    text = capsys.readouterr().out
    for words in ("$ alexnet train 'my data'", "1,200 images, 30 min, 3 MB", "2.0 GB", "--size 32"):
        assert words in text


def test_check_shows_the_signals_and_the_batch(capsys):
    result = {
        "recipe": "paper",
        "data": "drawn images",
        "classes": 10,
        "chance_loss": 2.303,
        "first_loss": 2.4,
        "signals": [{"name": "conv1", "scale": 12.9, "spread": 12.8, "silent": 0.25}],
        "overfit": {"images": 10, "rate": 0.003, "losses": [2.4, None], "learned": False},
        "faults": [],
    }
    report_training.show_check(result)
    text = " ".join(capsys.readouterr().out.split())
    for words in ("conv1", "12.9", "25%", "not learned", "2.400 to inf"):
        assert words in text
