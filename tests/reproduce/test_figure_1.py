"""Figure 1: when a curve reaches the goal, which learning rate is best, and which network wins."""

import json
import math
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from alexnet_cli.commands.reproduce import job_arguments
from alexnet_cli.errors import JobError
from alexnet_cli.model.checkpoint import Checkpoint, TrainState, save_checkpoint
from alexnet_cli.recipes.catalog import RECIPES, find_recipe
from alexnet_cli.recipes.overrides import with_settings
from alexnet_cli.recipes.paper_tables import FIGURE_1_GOAL, FIGURE_1_TRIAL_EPOCHS, Figure1Network
from alexnet_cli.reproduce.figure_1 import Figure1, LearningRateRun, epochs_to, fastest_run
from alexnet_cli.reproduce.jobs import Shortcuts, TableDataset, TrainJob

RELU, TANH = "cifar-relu", "cifar-tanh"
OWN = RECIPES[RELU].epochs
DIVERGES = math.nan
FINGERPRINT = "0123456789abcdef"

# --- when the goal is reached


@pytest.mark.parametrize(
    ("errors", "epochs"),
    [
        ((0.75, 0.25), 1.5),  # exactly the goal, in the middle of the second epoch
        ((0.5, 0.3, 0.2), 2.0),  # half way between the middles of the second and the third
        ((0.85, 0.45, 0.05), 2.0),
        ((0.65, 0.15), 1.3),  # four fifths of the way
        ((0.8, 0.7, 0.26, 0.24, 0.1), 3.0),
        ((0.3, 0.2, 0.4, 0.1), 1.0),  # the first time counts
    ],
)
def test_goal_is_read_off_straight_lines_between_the_middles_of_epochs(errors, epochs):
    assert epochs_to(errors, 0.25) == pytest.approx(epochs, abs=1e-12)


def test_goal_is_read_off_as_numpy_does():
    rng = np.random.default_rng(0)
    for _ in range(50):
        errors = np.sort(rng.uniform(size=rng.integers(2, 9)))[::-1]
        goal = rng.uniform(errors[-1], errors[0])
        middles = np.arange(len(errors)) + 0.5
        expected = np.interp(goal, errors[::-1], middles[::-1])
        assert epochs_to(tuple(errors), goal) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("errors", [(0.1,), (0.25,), (0.0, 0.5)])
def test_goal_reached_in_the_first_epoch_is_reached_in_its_middle(errors):
    assert epochs_to(errors, 0.25) == 0.5


@pytest.mark.parametrize("errors", [(), (0.9,), (0.9, 0.5, 0.2501)])
def test_goal_that_is_not_reached_has_no_epoch(errors):
    assert epochs_to(errors, 0.25) is None


# --- which learning_rate wins


def run(learning_rate: float, epochs: float | None) -> LearningRateRun:
    return LearningRateRun(RELU, learning_rate, (0.9,), epochs)


def test_fewest_epochs_win():
    runs = [run(0.1, 7.5), run(0.2, 3.25), run(0.3, None), run(0.4, 3.5)]
    assert fastest_run(runs) == runs[1]


@pytest.mark.parametrize("runs", [[], [run(0.1, None), run(0.2, None)]])
def test_nobody_wins_where_nobody_arrives(runs):
    assert fastest_run(runs) is None


# --- how a figure_1 is run


@dataclass
class TrainStep:
    """Stands for the command line: trains runs whose error curves are known.

    A run goes on from where its log ends, until the goal, the curve's end or --epochs.

    Attributes:
        curves: by recipe and learning rate; at an error of `DIVERGES` the command fails.
    """

    curves: dict[tuple[str, float], tuple[float, ...]]
    calls: list[list[str]] = field(default_factory=list)

    def __call__(self, job: TrainJob) -> dict:
        arguments = job_arguments(job)
        self.calls.append(arguments)
        curve = self.curves[option(arguments, "--recipe"), float(setting(arguments, "learning_"))]
        goal = float(setting(arguments, "until_train_error"))
        run = Path(option(arguments, "--run"))
        last, log = run / "last.safetensors", run / "log.jsonl"
        assert ("--resume" in arguments) == last.exists()
        run.mkdir(parents=True, exist_ok=True)
        errors = [row["train_top1_error"] for row in rows_of(log)]
        while len(errors) < min(int(option(arguments, "--epochs")), len(curve)):
            if min(errors, default=1) <= goal:
                break
            error = curve[len(errors)]
            if math.isnan(error):
                if errors:
                    save(last, arguments, errors)
                raise JobError("`alexnet train` ended with exit code 6", 6)
            errors.append(error)
            rows = [{"epoch": i, "train_top1_error": e} for i, e in enumerate(errors, 1)]
            log.write_text("".join(json.dumps(row) + "\n" for row in rows))
        if errors:
            save(last, arguments, errors)
        return {"epochs": len(errors)}

    def trained(self) -> list[tuple[float, int]]:
        """Return the learning_rate and the --epochs of every call."""
        return [
            (float(setting(call, "learning_rate")), int(option(call, "--epochs")))
            for call in self.calls
        ]


def save(path: Path, arguments: list[str], errors: list[float]) -> None:
    """Write the checkpoint of a run with these training errors, one weight in all."""
    settings = [text.removeprefix("--set=") for text in arguments if text.startswith("--set=")]
    checkpoint = Checkpoint(
        recipe=with_settings(find_recipe(option(arguments, "--recipe")), settings),
        weights={"conv1.bias": np.zeros(1, np.float32)},
        pixels={"mean_image": np.zeros((1, 1, 3), np.float32)},
        classes=[("n01", "one")],
        fingerprint=FINGERPRINT,
        train_state=TrainState(epoch=len(errors), train_errors=list(errors)),
    )
    save_checkpoint(path, checkpoint)


def rows_of(log: Path) -> list[dict]:
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


def option(arguments: list[str], name: str) -> str | None:
    return arguments[arguments.index(name) + 1] if name in arguments else None


def setting(arguments: list[str], name: str) -> str:
    """Return the value that the last such setting gives."""
    return [text for text in arguments if text.startswith(f"--set={name}")][-1].split("=")[2]


@pytest.fixture
def dataset() -> TableDataset:
    return TableDataset("cifar-10", "shards/c", 10, {"test": 5}, 1, FINGERPRINT)


@pytest.fixture
def figure_1(tmp_path, dataset):
    """Run one network with known curves; returns its runs and what was trained."""

    def run(curves: dict[float, tuple[float, ...]], shortcuts: Shortcuts | None = None):
        train_step = TrainStep(
            {(RELU, learning_rate): curve for learning_rate, curve in curves.items()}
        )
        networks = (Figure1Network(RELU, tuple(curves)),)
        (runs,) = Figure1(dataset, tmp_path / "out", shortcuts or Shortcuts()).run(
            networks, train_step
        )
        return runs, train_step.trained()

    return run


def falling(epochs: int) -> tuple[float, ...]:
    """Return a straight curve whose last epoch is the first to reach the goal."""
    return tuple(np.linspace(0.9, 0.25, epochs).tolist())


def test_every_rate_is_tried_and_the_best_goes_on_alone_to_the_goal(figure_1):
    runs, trained = figure_1({0.004: falling(14), 0.002: falling(20), 0.008: falling(11)})
    assert FIGURE_1_TRIAL_EPOCHS == 5
    assert trained == [(0.004, 5), (0.002, 5), (0.008, 5), (0.008, OWN)]
    assert [entry.learning_rate for entry in runs] == [0.004, 0.002, 0.008]
    assert [len(entry.train_errors) for entry in runs] == [5, 5, 11]
    assert [entry.epochs for entry in runs] == [None, None, pytest.approx(10.5)]
    assert fastest_run(runs).learning_rate == 0.008


def test_of_equal_rates_the_likeliest_goes_on(figure_1):
    _, trained = figure_1({0.004: falling(9), 0.002: falling(9)})
    assert trained[2:] == [(0.004, OWN)]


def test_rate_that_arrives_while_it_is_tried_can_win(figure_1):
    runs, _ = figure_1({0.004: (0.9, 0.65, 0.25), 0.008: (0.9, 0.45, 0.05), 0.002: falling(9)})
    assert [entry.epochs for entry in runs] == [pytest.approx(2.5), pytest.approx(2.0), None]
    assert [len(entry.train_errors) for entry in runs] == [3, 3, 5]
    assert fastest_run(runs).learning_rate == 0.008


def test_first_to_arrive_wins_even_if_another_has_less_error_after(figure_1):
    runs, _ = figure_1({0.004: (0.9, 0.24), 0.008: (0.9, 0.8, 0.1)})
    assert fastest_run(runs).learning_rate == 0.004


def test_best_rate_may_never_arrive(figure_1):
    runs, trained = figure_1({0.004: (0.8,) * OWN, 0.002: (0.7,) * OWN})
    assert trained[-1] == (0.002, OWN)
    assert [len(entry.train_errors) for entry in runs] == [5, OWN]
    assert fastest_run(runs) is None


@pytest.mark.parametrize("epochs", [1, 4, 5])
def test_figure_1_shortened_to_a_trial_is_over_after_it(figure_1, epochs):
    runs, trained = figure_1({0.004: falling(12), 0.002: falling(9)}, Shortcuts(epochs))
    assert trained == [(0.004, epochs), (0.002, epochs)]
    assert [len(entry.train_errors) for entry in runs] == [epochs] * 2


def test_shortened_figure_1_ends_the_best_rate_early(figure_1):
    runs, trained = figure_1({0.004: falling(12), 0.002: falling(9)}, Shortcuts(7))
    assert trained == [(0.004, 5), (0.002, 5), (0.002, 7)]
    assert [len(entry.train_errors) for entry in runs] == [5, 7]


def test_figure_1_shortened_by_a_setting_is_no_longer_than_it_says(figure_1):
    runs, _ = figure_1({0.004: falling(12), 0.002: falling(9)}, Shortcuts(settings=("epochs=3",)))
    assert [len(entry.train_errors) for entry in runs] == [3, 3]


def test_lap_is_the_curve_of_its_log(figure_1):
    ((found,), _) = figure_1({0.004: (0.9, 0.5, 0.3, 0.2, 0.1)})
    assert found == LearningRateRun(RELU, 0.004, (0.9, 0.5, 0.3, 0.2), epochs=pytest.approx(3.0))


def test_networks_figure_1_one_after_the_other(tmp_path, dataset):
    curves = {(RELU, 0.1): falling(6), (RELU, 0.2): falling(7)}
    curves |= {(TANH, 0.1): falling(40), (TANH, 0.2): falling(30)}
    train_step = TrainStep(curves)
    networks = (Figure1Network(RELU, (0.1, 0.2)), Figure1Network(TANH, (0.1, 0.2)))
    runs = Figure1(dataset, tmp_path / "out", Shortcuts()).run(networks, train_step)
    recipes = [option(call, "--recipe") for call in train_step.calls]
    assert recipes == [RELU] * 3 + [TANH] * 3
    assert train_step.trained()[2::3] == [(0.1, OWN), (0.2, OWN)]
    found = [[(entry.recipe, entry.learning_rate) for entry in tried] for tried in runs]
    assert found == [[(RELU, 0.1), (RELU, 0.2)], [(TANH, 0.1), (TANH, 0.2)]]
    assert [fastest_run(tried).epochs for tried in runs] == pytest.approx([5.5, 29.5])


# --- a figure_1 run again, stopped, or failing


def test_figure_1_run_again_trains_nothing(tmp_path, dataset):
    train_step = TrainStep({(RELU, 0.1): falling(8), (RELU, 0.2): falling(7)})
    networks = (Figure1Network(RELU, (0.1, 0.2)),)
    figure_1 = Figure1(dataset, tmp_path / "out", Shortcuts())
    first, again = (figure_1.run(networks, train_step) for _ in range(2))
    assert again == first
    assert len(train_step.calls) == 3


def test_shortened_figure_1_is_completed_by_one_that_is_not(tmp_path, dataset):
    train_step = TrainStep({(RELU, 0.1): falling(8), (RELU, 0.2): falling(7)})
    networks = (Figure1Network(RELU, (0.1, 0.2)),)
    Figure1(dataset, tmp_path / "out", Shortcuts(2)).run(networks, train_step)
    (runs,) = Figure1(dataset, tmp_path / "out", Shortcuts()).run(networks, train_step)
    assert train_step.trained() == [(0.1, 2), (0.2, 2), (0.1, 5), (0.2, 5), (0.2, OWN)]
    assert ["--resume" in call for call in train_step.calls] == [False] * 2 + [True] * 3
    assert [len(entry.train_errors) for entry in runs] == [5, 7]


def test_figure_1_stopped_between_two_rates_goes_on_with_the_second(tmp_path, dataset):
    train_step = TrainStep({(RELU, 0.1): falling(8)})
    networks = (Figure1Network(RELU, (0.1, 0.2)),)
    figure_1 = Figure1(dataset, tmp_path / "out", Shortcuts())
    with pytest.raises(KeyError):  # nothing is known of the second learning_rate yet
        figure_1.run(networks, train_step)
    train_step.curves[RELU, 0.2] = falling(7)
    (runs,) = figure_1.run(networks, train_step)
    assert train_step.trained() == [(0.1, 5), (0.2, 5), (0.2, 5), (0.2, OWN)]
    assert [entry.epochs is not None for entry in runs] == [False, True]


@pytest.mark.parametrize("before", [(), (0.9,), (0.9, 0.88, 0.87)])
def test_diverging_rate_does_not_end_the_race(figure_1, before):
    runs, trained = figure_1({0.004: (*before, DIVERGES), 0.002: falling(10), 0.001: falling(8)})
    assert trained == [(0.004, 5), (0.002, 5), (0.001, 5), (0.001, OWN)]
    assert runs[0] == LearningRateRun(RELU, 0.004, before, None)
    assert fastest_run(runs).learning_rate == 0.001


def test_figure_1_whose_rates_all_diverge_has_no_winner(figure_1):
    runs, _ = figure_1({0.004: (DIVERGES,), 0.002: (DIVERGES,)})
    assert runs == [
        LearningRateRun(RELU, learning_rate, (), None) for learning_rate in (0.004, 0.002)
    ]


def test_best_rate_that_diverges_after_its_trial_keeps_its_epochs(figure_1):
    runs, _ = figure_1({0.004: (*falling(12)[:8], DIVERGES), 0.002: falling(30)})
    assert [len(entry.train_errors) for entry in runs] == [8, 5]
    assert fastest_run(runs) is None


@pytest.mark.parametrize("exit_code", [1, 3, 4, 130, 143])
def test_command_that_fails_otherwise_ends_the_race(tmp_path, dataset, exit_code):
    def fail(_job: TrainJob) -> dict:
        raise JobError("see above", exit_code)

    with pytest.raises(JobError) as ended:
        Figure1(dataset, tmp_path, Shortcuts()).run((Figure1Network(RELU, (0.1,)),), fail)
    assert ended.value.exit_code == exit_code


# --- one run's job


def figure_1_job(
    recipe: str, learning_rate: float, epochs: int | None, dataset, out, shortcuts
) -> TrainJob:
    return Figure1(dataset, out, shortcuts).job(recipe, learning_rate, epochs)


def test_lap_is_trained_at_its_rate_to_the_goal(dataset, tmp_path):
    job = figure_1_job(RELU, 0.004, None, dataset, tmp_path, Shortcuts())
    assert job_arguments(job) == [
        *("train", dataset.path, "--run", f"{tmp_path}/runs/cifar-relu-0.004", "--recipe", RELU),
        *("--epochs", str(OWN), "--set=learning_rate=0.004", "--set=until_train_error=0.25"),
    ]
    assert job.name == f"train-cifar-relu-0.004-for-{OWN}"
    assert job.folder == tmp_path / "runs" / "cifar-relu-0.004"
    assert job.last == job.folder / "last.safetensors"
    assert (job.parent, job.dataset) == (None, dataset)
    assert job.recipe.learning_rate == 0.004
    assert job.recipe.until_train_error == FIGURE_1_GOAL == 0.25
    assert job.recipe.epochs == OWN
    assert job.purpose.endswith(".")


def test_rate_that_goes_on_does_so_in_its_folder_as_a_job_of_its_own(dataset, tmp_path):
    trial, rest = (
        figure_1_job(RELU, 0.004, limit, dataset, tmp_path, Shortcuts()) for limit in (5, None)
    )
    assert trial.folder == rest.folder
    assert trial.name == "train-cifar-relu-0.004-for-5" != rest.name
    assert trial.recipe.epochs == 5


def test_shortcuts_are_passed_on_and_leave_rate_and_goal_alone(dataset, tmp_path):
    settings = ("learning_rate=9.0", "until_train_error=0.9", "crop_size=24")
    job = figure_1_job(RELU, 0.004, 7, dataset, tmp_path, Shortcuts(2, settings, "cpu", 1))
    arguments = job_arguments(job)
    assert setting(arguments, "learning_rate") == "0.004"
    assert setting(arguments, "until_train_error") == "0.25"
    assert setting(arguments, "crop_size") == "24"
    assert option(arguments, "--epochs") == "7"
    assert (option(arguments, "--device"), option(arguments, "--gpus")) == ("cpu", "1")
    recipe = job.recipe
    assert (recipe.learning_rate, recipe.until_train_error, recipe.crop_size) == (0.004, 0.25, 24)
    assert recipe.epochs == 7


def test_laps_have_a_folder_each(dataset, tmp_path):
    jobs = [
        figure_1_job(recipe, learning_rate, None, dataset, tmp_path, Shortcuts())
        for recipe in (RELU, TANH)
        for learning_rate in (0.004, 0.002, 0.0005, 0.016)
    ]
    assert len({job.name for job in jobs}) == len({job.folder for job in jobs}) == 8
