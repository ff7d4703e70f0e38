"""From a table to jobs: shared runs once, what is needed first, nothing without data."""

from itertools import pairwise
from pathlib import Path

import pytest

from alexnet_cli.commands.reproduce import job_arguments, runtime_options
from alexnet_cli.distributed.device_plan import plan_devices
from alexnet_cli.distributed.runtime_config import RuntimeConfig
from alexnet_cli.errors import InputError, RecipeError
from alexnet_cli.recipes.catalog import RECIPES
from alexnet_cli.recipes.paper_tables import OFFICIAL_SETS, TABLES, Row
from alexnet_cli.reproduce.jobs import EnsembleJob, EvalJob, Job, Shortcuts, TableDataset, TrainJob
from alexnet_cli.reproduce.plan import plan_rows

OUT = Path("out")
FIVE = ("five-cnns-120", "five-cnns-131", "five-cnns-135", "five-cnns-137", "original-2012")


def datasets(*names: str) -> dict[str, TableDataset]:
    """Return data sets with held-out images for validation only."""
    return {name: TableDataset(name, f"shards/{name}", 1000, {"val": 100}, 10) for name in names}


ALL = datasets(*OFFICIAL_SETS)


def make_plan(table: str, *only: str, data: dict[str, TableDataset] = ALL, shortcuts=None):
    """Return the jobs by name, and the rows by name."""
    rows = TABLES[table].choose(list(only))
    jobs, planned = plan_rows(rows, data, OUT, shortcuts or Shortcuts())
    assert [entry.row for entry in planned] == list(rows)
    by_name = {job.name: job for job in jobs}
    assert len(by_name) == len(jobs), "a job is there twice"
    return by_name, {entry.row.name: entry for entry in planned}


def of_kind(jobs: dict[str, Job], kind: type[Job]) -> list[str]:
    return [name for name, job in jobs.items() if isinstance(job, kind)]


def option(job: Job, name: str) -> str:
    command = job_arguments(job)
    return command[command.index(name) + 1]


def needs(job: Job) -> tuple[Job, ...]:
    """Return the jobs whose output a job reads."""
    if isinstance(job, EnsembleJob):
        return job.evals
    if isinstance(job, EvalJob):
        return (job.train,)
    return (job.parent,) if job.parent else ()


# --- what is there, and in which order


def test_networks_of_several_rows_are_trained_and_measured_once():
    jobs, rows = make_plan("ilsvrc-2012")
    pretrained = ("finetune-2012", "finetune-2012-from-2009")
    measured = {*FIVE, "paper", *pretrained}
    assert set(of_kind(jobs, EvalJob)) == {f"eval-{name}" for name in measured}
    trained = {*measured, "pretrain-2009", "pretrain-2011"}
    assert set(of_kind(jobs, TrainJob)) == {f"train-{name}" for name in trained}
    assert len(of_kind(jobs, EnsembleJob)) == 2
    assert len(jobs) == 8 + 10 + 2
    for name in ("1 CNN", "5 CNNs", "7 CNNs*"):
        assert jobs["train-original-2012"] in rows[name].trains


def test_rows_of_the_center_and_of_ten_views_share_one_measurement():
    jobs, rows = make_plan("ilsvrc-2010")
    assert list(jobs) == ["train-original-2010", "eval-original-2010"]
    assert {entry.job.name for entry in rows.values()} == {"eval-original-2010"}


@pytest.mark.parametrize("table", TABLES)
def test_every_job_comes_after_those_it_needs(table):
    jobs, _ = make_plan(table)
    done = set()
    for name, job in jobs.items():
        assert {need.name for need in needs(job)} <= done
        assert all(need is jobs[need.name] for need in needs(job)), "a job is there twice"
        done.add(name)


@pytest.mark.parametrize("table", TABLES)
def test_figure_of_a_row_is_that_of_its_networks(table):
    jobs, rows = make_plan(table)
    for entry in rows.values():
        assert [train.recipe.name for train in entry.trains] == list(entry.row.members)
        assert entry.job is jobs[entry.job.name]
        if len(entry.row.members) == 1:
            assert isinstance(entry.job, EvalJob)
            assert needs(entry.job) == entry.trains
        else:
            assert isinstance(entry.job, EnsembleJob)
            assert tuple(measure.train for measure in entry.job.evals) == entry.trains


@pytest.mark.parametrize("table", TABLES)
def test_runs_have_a_folder_each(table):
    jobs, _ = make_plan(table)
    folders = [jobs[name].folder for name in of_kind(jobs, TrainJob)]
    assert len(set(folders)) == len(folders)
    predictions = [option(jobs[name], "--output") for name in of_kind(jobs, EvalJob)]
    assert len(set(predictions)) == len(predictions)


def test_network_is_trained_on_its_data_and_its_last_epoch_is_measured():
    jobs, _ = make_plan("ablations", "no-lrn")
    train, measure = jobs.values()
    assert job_arguments(train) == [
        *("train", "shards/ilsvrc-2012", "--run", "out/runs/no-lrn", "--recipe", "no-lrn"),
        *("--epochs", "97"),
    ]
    assert train.folder == Path("out/runs/no-lrn")
    assert job_arguments(measure) == [
        *("eval", "out/runs/no-lrn/last.safetensors", "shards/ilsvrc-2012", "--split", "val"),
        *("--output", "out/predictions/no-lrn.npz"),
    ]
    assert measure.train is train
    assert train.recipe == RECIPES["no-lrn"]
    assert train.dataset == ALL["ilsvrc-2012"]
    assert all(job.purpose.endswith(".") for job in (train, measure))


def test_average_reads_the_predictions_of_its_networks():
    jobs, rows = make_plan("ilsvrc-2012", "5 CNNs")
    average = rows["5 CNNs"].job
    files = [option(jobs[f"eval-{name}"], "--output") for name in FIVE]
    assert job_arguments(average) == ["ensemble", *files]
    assert average.purpose.endswith(".")


@pytest.mark.parametrize("table", TABLES)
def test_jobs_read_what_those_before_them_write(table):
    jobs, _ = make_plan(table)
    for job in jobs.values():
        if isinstance(job, TrainJob):
            assert option(job, "--run") == str(job.folder)
            assert job.last == job.folder / "last.safetensors"
            if job.parent:
                assert option(job, "--init-from") == str(job.parent.last)
        elif isinstance(job, EvalJob):
            assert job_arguments(job)[1] == str(job.train.last)
            assert option(job, "--output") == str(job.predictions)
        else:
            assert job_arguments(job)[1:] == [str(measure.predictions) for measure in job.evals]


# --- networks that begin from others


def test_pretrained_network_begins_from_a_chain_of_runs():
    jobs, _ = make_plan("ilsvrc-2012", "1 CNN*")
    chain = ("original-2012", "pretrain-2009", "pretrain-2011", "finetune-2012")
    assert list(jobs) == [*(f"train-{name}" for name in chain), "eval-finetune-2012"]
    assert jobs["train-original-2012"].parent is None
    for parent, child in pairwise(chain):
        assert jobs[f"train-{child}"].parent is jobs[f"train-{parent}"]


def test_links_of_the_chain_are_trained_on_sets_of_their_own():
    jobs, _ = make_plan("ilsvrc-2012", "1 CNN*")
    found = [job_arguments(jobs[name])[1] for name in of_kind(jobs, TrainJob)]
    names = ("ilsvrc-2012", "fall-2009", "fall-2011", "ilsvrc-2012")
    assert found == [f"shards/{name}" for name in names]


def test_second_pretrained_network_leaves_fall_2011_out_and_shares_the_rest():
    jobs, _ = make_plan("ilsvrc-2012", "7 CNNs*")
    pretrained = jobs["train-pretrain-2009"]
    assert pretrained.parent is jobs["train-original-2012"]
    assert jobs["train-finetune-2012-from-2009"].parent is pretrained
    assert of_kind(jobs, TrainJob).count("train-pretrain-2009") == 1


# --- data that are not there


def test_row_without_its_pretraining_data_is_reported_and_adds_nothing():
    jobs, rows = make_plan("ilsvrc-2012", data=datasets("ilsvrc-2012", "fall-2009"))
    for name in ("1 CNN*", "7 CNNs*"):
        assert rows[name].missing == ("fall-2011",)
        assert (rows[name].job, rows[name].trains) == (None, ())
    for name in ("1 CNN", "1 CNN, text", "5 CNNs"):
        assert rows[name].missing == ()
        assert rows[name].job is jobs[rows[name].job.name]
    assert set(of_kind(jobs, TrainJob)) == {f"train-{name}" for name in (*FIVE, "paper")}


def test_every_set_that_a_row_lacks_is_named():
    jobs, rows = make_plan("ilsvrc-2012", "1 CNN", "1 CNN*", data=datasets("ilsvrc-2010"))
    assert jobs == {}
    assert rows["1 CNN"].missing == ("ilsvrc-2012",)
    assert rows["1 CNN*"].missing == ("fall-2009", "fall-2011", "ilsvrc-2012")
    assert rows["1 CNN*"].dataset is None


def test_without_data_nothing_is_planned():
    for table in TABLES:
        jobs, rows = make_plan(table, data={})
        assert jobs == {}
        assert all(entry.missing for entry in rows.values())


def test_row_falls_back_to_its_second_set_in_a_run_of_its_own_name():
    own, _ = make_plan("ablations", "one-gpu", data=datasets("ilsvrc-2010", "ilsvrc-2012"))
    other, rows = make_plan("ablations", "one-gpu", data=datasets("ilsvrc-2012"))
    assert job_arguments(own["train-one-gpu"])[1] == "shards/ilsvrc-2010"
    assert own["train-one-gpu"].folder == Path("out/runs/one-gpu")
    assert list(other) == ["train-one-gpu-on-ilsvrc-2012", "eval-one-gpu-on-ilsvrc-2012"]
    train, measure = other.values()
    assert job_arguments(train)[1:6] == [
        *("shards/ilsvrc-2012", "--run", "out/runs/one-gpu-on-ilsvrc-2012", "--recipe", "one-gpu"),
    ]
    assert train.folder == Path("out/runs/one-gpu-on-ilsvrc-2012")
    assert job_arguments(measure)[1] == "out/runs/one-gpu-on-ilsvrc-2012/last.safetensors"
    assert option(measure, "--output") == "out/predictions/one-gpu-on-ilsvrc-2012.npz"
    assert rows["one-gpu"].dataset.name == "ilsvrc-2012"


def test_row_and_its_baseline_fall_back_together():
    _, rows = make_plan("ablations", data=datasets("ilsvrc-2012"))
    for entry in rows.values():
        assert entry.dataset.name == "ilsvrc-2012"


def test_network_that_is_begun_from_is_trained_on_its_own_data():
    row = Row("tuned on 2010", ("finetune-2012",), ("ilsvrc-2010",))
    (*chain, tune, _), _ = plan_rows([row], ALL, OUT, Shortcuts())
    assert tune.name == "train-finetune-2012-on-ilsvrc-2010"
    assert job_arguments(chain[0])[1:4] == ["shards/ilsvrc-2012", "--run", "out/runs/original-2012"]


def without_held_out(name: str) -> dict[str, TableDataset]:
    return {name: TableDataset(name, f"shards/{name}", 1000, {"val": 0}, 10)}


def test_sets_to_pretrain_on_need_no_held_out_images():
    data = ALL | without_held_out("fall-2009") | without_held_out("fall-2011")
    _, rows = make_plan("ilsvrc-2012", data=data)
    assert all(entry.job and not entry.missing for entry in rows.values())


@pytest.mark.parametrize("held_out", [{}, {"val": 0}, {"val": 0, "test": 0}])
def test_row_measured_on_a_set_without_held_out_images_is_refused(held_out):
    data = {"ilsvrc-2012": TableDataset("ilsvrc-2012", "shards/mine", 1000, held_out, 10)}
    with pytest.raises(InputError, match=r"shards/mine has training images only"):
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
    dataset = TableDataset("ilsvrc-2010", "shards/a", 1000, held_out, 10)
    assert dataset.split == split
    jobs, _ = make_plan("ilsvrc-2010", data={"ilsvrc-2010": dataset})
    assert option(jobs["eval-original-2010"], "--split") == split


# --- shortcuts


def test_shortcuts_are_passed_on_to_every_training():
    settings = ("width=0.0625", "crop_size=99")
    jobs, _ = make_plan("ilsvrc-2012", shortcuts=Shortcuts(3, settings, "cpu", 2))
    for name in of_kind(jobs, TrainJob):
        *_, recipe = job_arguments(jobs[name])[:6]
        assert job_arguments(jobs[name])[6:14] == [
            *("--epochs", "3", "--set=width=0.0625", "--set=crop_size=99"),
            *("--device", "cpu", "--gpus", "2"),
        ]
        assert (jobs[name].recipe.name, jobs[name].recipe.epochs) == (recipe, 3)


def test_measurements_run_in_the_same_place_and_are_told_no_settings():
    jobs, _ = make_plan("ilsvrc-2012", shortcuts=Shortcuts(3, ("width=0.5",), "cpu", 2))
    for name in of_kind(jobs, EvalJob):
        arguments = job_arguments(jobs[name])
        assert arguments[-4:] == ["--device", "cpu", "--gpus", "2"]
        assert not [text for text in arguments if text.startswith(("--set", "--epochs"))]


def test_averages_of_predictions_need_no_place():
    _, rows = make_plan("ilsvrc-2012", "5 CNNs", shortcuts=Shortcuts(3, (), "cuda", 2))
    arguments = job_arguments(rows["5 CNNs"].job)
    assert all(text.endswith(".npz") for text in arguments[1:])


@pytest.mark.parametrize("table", TABLES)
def test_without_shortcuts_only_the_recipes_own_epochs_are_passed(table):
    jobs, _ = make_plan(table)
    for job in jobs.values():
        shortcuts = ("--epochs", "--set", "--device", "--gpus")
        given = [text for text in job_arguments(job) if text.startswith(shortcuts)]
        assert given == (["--epochs"] if isinstance(job, TrainJob) else [])
        if isinstance(job, TrainJob):
            assert option(job, "--epochs") == str(RECIPES[job.recipe.name].epochs)


def test_epochs_of_a_setting_are_passed_on_as_epochs():
    jobs, _ = make_plan("ablations", "paper", shortcuts=Shortcuts(settings=("epochs=4",)))
    assert option(jobs["train-paper"], "--epochs") == "4"
    assert jobs["train-paper"].recipe.epochs == 4


@pytest.mark.parametrize("table", TABLES)
def test_recipes_of_a_plan_have_the_settings(table):
    jobs, _ = make_plan(table, shortcuts=Shortcuts(settings=("crop_size=99", "seed=5")))
    for name in of_kind(jobs, TrainJob):
        assert (jobs[name].recipe.crop_size, jobs[name].recipe.seed) == (99, 5)


def test_unknown_setting_is_refused_before_anything_is_done():
    with pytest.raises(RecipeError, match="no field color"):
        make_plan("ablations", "paper", shortcuts=Shortcuts(settings=("color=red",)))


def test_network_of_one_column_has_replicas_where_others_are_split():
    jobs, _ = make_plan("ablations", "one-gpu", "paper", shortcuts=Shortcuts(num_devices=2))
    for kind in ("train", "eval"):
        assert option(jobs[f"{kind}-paper"], "--gpus") == "2"
        assert "--columns" not in job_arguments(jobs[f"{kind}-paper"])
        assert option(jobs[f"{kind}-one-gpu"], "--gpus") == "2"
        assert option(jobs[f"{kind}-one-gpu"], "--columns") == "1"


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
    assert runtime_options(shortcuts, RECIPES[recipe]) == places
    on_cpu = Shortcuts(device="cpu", num_devices=num_devices)
    assert runtime_options(on_cpu, RECIPES[recipe]) == ["--device", "cpu", *places]


@pytest.mark.parametrize("recipe", ["paper", "one-gpu"])
@pytest.mark.parametrize("num_devices", range(1, 10))
def test_device_layout_accepts_what_a_plan_passes_on(recipe, num_devices):
    places = runtime_options(Shortcuts(device="cpu", num_devices=num_devices), RECIPES[recipe])
    columns = 1 if "--columns" in places else None

    config = RuntimeConfig("cpu", num_devices, columns)
    plan = plan_devices(config, RECIPES[recipe].columns)

    assert plan.num_replicas * plan.per_replica == num_devices
