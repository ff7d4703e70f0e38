"""Curves over epochs: what is drawn where, read from the objects of the figure."""

import json
from pathlib import Path

import pytest
from PIL import Image

from alexnet_cli.errors import InputError, UsageError
from alexnet_cli.figures import curves
from alexnet_cli.figures.curves import Curve, CurvesRequest, draw_curves, draw_figure_1
from alexnet_cli.figures.style import COLORS


@pytest.fixture
def drawn(monkeypatch) -> list:
    """The figures that were saved, instead of files."""
    figures = []
    monkeypatch.setattr(curves, "save", lambda figure, path: figures.append(figure))
    return figures


def figure_1(drawn, *lines: Curve, goal: float = 0.25):
    draw_figure_1(list(lines), goal=goal, title="Figure 1", out=Path("figure.png"))
    return drawn[-1].axes[0]


def write_run(folder: Path, rows: list[dict]) -> Path:
    folder.mkdir()
    (folder / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def epoch(number: int, *, error: float = 0.5, val: bool = True) -> dict:
    scores = {"top1_error": error, "top5_error": error / 2, "log_loss": 2 * error}
    return {
        "epoch": number,
        "learning_rate": 0.01 / number,
        "train_loss": 3 * error,
        "train_top1_error": error + 0.1,
        "val": scores if val else None,
    }


def test_epoch_s_mean_stands_in_its_middle(drawn):
    axes = figure_1(drawn, Curve("relu", (0.6, 0.4, 0.2), "relu"))
    assert list(axes.lines[0].get_xdata()) == [0.5, 1.5, 2.5]
    assert list(axes.lines[0].get_ydata()) == [0.6, 0.4, 0.2]


def test_goal_is_a_line_across(drawn):
    axes = figure_1(drawn, Curve("relu", (0.6, 0.2), "relu"), goal=0.3)
    assert list(axes.lines[-1].get_ydata()) == [0.3, 0.3]
    assert list(axes.lines[-1].get_xdata()) == [0, 1]  # of the axes' width


def test_curves_of_a_group_share_a_color_and_groups_differ_in_color_and_dashes(drawn):
    lines = [Curve("a", (0.5,), "a"), Curve("b", (0.4,), "b"), Curve("c", (0.3,), "a", faint=True)]
    first, second, third, _ = figure_1(drawn, *lines).lines
    assert first.get_color() == third.get_color() == COLORS[0]
    assert second.get_color() == COLORS[1]
    assert first.get_linestyle() != second.get_linestyle()


def test_only_curves_that_are_not_faint_have_a_name(drawn):
    axes = figure_1(drawn, Curve("best", (0.5,), "a"), Curve("other", (0.6,), "a", faint=True))
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["best"]
    assert figure_1(drawn, Curve("other", (0.6,), "a", faint=True)).get_legend() is None


def test_more_groups_than_colors_can_be_drawn(drawn):
    lines = [Curve(f"{i}", (0.1,), f"{i}") for i in range(2 * len(COLORS))]
    assert len(figure_1(drawn, *lines).lines) == len(lines) + 1


def test_runs_have_training_in_the_middle_and_validation_at_the_end_of_epochs(drawn, tmp_path):
    run = write_run(tmp_path / "run", [epoch(1, error=0.6), epoch(2, error=0.4)])
    found = draw_curves(CurvesRequest((run,), tmp_path / "curves.png"))
    loss, error, rate = drawn[0].axes
    assert [list(line.get_xdata()) for line in loss.lines] == [[0.5, 1.5], [1, 2]]
    assert list(loss.lines[0].get_ydata()) == pytest.approx([1.8, 1.2])
    assert list(loss.lines[1].get_ydata()) == pytest.approx([1.2, 0.8])
    assert list(error.lines[1].get_ydata()) == [0.6, 0.4]
    assert list(rate.lines[0].get_xdata()) == [0, 1, 2]
    assert list(rate.lines[0].get_ydata()) == [0.01, 0.01, 0.005]
    assert found.numbers["runs"][str(run)] == {"epochs": 2, "best_top1_error": 0.4}


def test_run_without_validation_has_training_only(drawn, tmp_path):
    run = write_run(tmp_path / "run", [epoch(1, val=False)])
    found = draw_curves(CurvesRequest((run,), tmp_path / "curves.png"))
    assert [len(axes.lines) for axes in drawn[0].axes] == [1, 1, 1]
    assert found.numbers["runs"][str(run)]["best_top1_error"] is None


def test_runs_are_named_by_their_folders(drawn, tmp_path):
    runs = tuple(write_run(tmp_path / name, [epoch(1)]) for name in ("first", "sec$ond$"))
    draw_curves(CurvesRequest(runs, tmp_path / "curves.png"))
    names = [text.get_text() for text in drawn[0].axes[2].get_legend().get_texts()]
    assert names == ["first", "sec$ond$"]


def points_of(line) -> list[float]:
    """Return where a line is seen as points: at values without one beside them."""
    return [x for x, shown in zip(line.get_xdata(), line.get_markevery(), strict=True) if shown]


def test_one_epoch_is_seen_as_points_and_a_rate_from_its_beginning_to_its_end(drawn, tmp_path):
    run = write_run(tmp_path / "run", [epoch(1)])
    draw_curves(CurvesRequest((run,), tmp_path / "curves.png"))
    loss, error, rate = drawn[0].axes
    for axes in (loss, error):
        assert [points_of(line) for line in axes.lines] == [[0.5], [1]]
    assert list(rate.lines[0].get_xdata()) == [0, 1]


def test_missing_and_infinite_losses_are_gaps_between_points(drawn, tmp_path):
    values = [1.0, 2.0, float("nan"), 3.0, float("inf"), None, 4.0]
    rows = [{**epoch(i), "train_loss": value} for i, value in enumerate(values, start=1)]
    run = write_run(tmp_path / "run", rows)
    draw_curves(CurvesRequest((run,), tmp_path / "curves.png"))
    line = drawn[0].axes[0].lines[0]
    assert points_of(line) == [3.5, 6.5]
    shown = [value for value in line.get_ydata() if value == value]
    assert shown == [1, 2, 3, 4]


def test_epochs_without_validation_are_left_out(drawn, tmp_path):
    run = write_run(tmp_path / "run", [epoch(i, val=i > 1) for i in (1, 2, 3)])
    draw_curves(CurvesRequest((run,), tmp_path / "curves.png"))
    full = drawn[0].axes[1].lines[1]
    assert [x for x, y in zip(*full.get_data(), strict=True) if y == y] == [2, 3]


def test_runs_whose_folders_are_called_alike_are_named_by_their_paths(drawn, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in "abc":
        Path(name).mkdir()
    runs = [write_run(Path(name), [epoch(1)]) for name in ("a/_run", "b/_run", "c/other")]
    draw_curves(CurvesRequest(tuple(runs), tmp_path / "curves.png"))
    names = [text.get_text() for text in drawn[0].axes[2].get_legend().get_texts()]
    assert names == ["a/_run", "b/_run", "other"]


def test_legend_of_many_runs_stands_below_the_panels(drawn, tmp_path):
    runs = [write_run(tmp_path / f"run{i}", [epoch(1)]) for i in range(9)]
    draw_curves(CurvesRequest(tuple(runs), tmp_path / "curves.png"))
    assert drawn[0].axes[2].get_legend() is None
    assert len(drawn[0].legends[0].get_texts()) == 9


def test_long_names_stand_below_the_panels_in_full(drawn, tmp_path):
    names = [f"a run with a name of some length, number {i}" for i in range(3)]
    runs = [write_run(tmp_path / name, [epoch(1)]) for name in names]
    draw_curves(CurvesRequest(tuple(runs), tmp_path / "curves.png"))
    assert [text.get_text() for text in drawn[0].legends[0].get_texts()] == names


def test_learning_rate_of_zero_can_be_drawn(tmp_path):
    run = write_run(tmp_path / "run", [{**epoch(1), "learning_rate": 0.0}])
    draw_curves(CurvesRequest((run,), tmp_path / "curves.png"))


def test_name_in_any_script_can_be_drawn(tmp_path):
    run = write_run(tmp_path / "\u732b \u0645", [epoch(1)])
    draw_curves(CurvesRequest((run,), tmp_path / "curves.png"))


def test_folder_without_a_finished_epoch_is_refused(tmp_path):
    with pytest.raises(InputError, match="no run with a finished epoch"):
        draw_curves(CurvesRequest((tmp_path,), tmp_path / "curves.png"))


@pytest.mark.parametrize("name", ["curves.jpg", "curves"])
def test_name_that_is_no_figure_s_is_refused_before_anything_is_read(tmp_path, name):
    with pytest.raises(UsageError):
        draw_curves(CurvesRequest((tmp_path / "no run",), tmp_path / name))


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_same_figure_is_the_same_bytes(tmp_path, suffix):
    run = write_run(tmp_path / "run", [epoch(1), epoch(2)])
    paths = [tmp_path / f"{name}{suffix}" for name in "ab"]
    for path in paths:
        draw_curves(CurvesRequest((run,), path))
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_dark_figure_has_a_dark_background(tmp_path):
    run = write_run(tmp_path / "run", [epoch(1)])
    for theme in ("light", "dark"):
        draw_curves(CurvesRequest((run,), tmp_path / f"{theme}.png", theme))
    with Image.open(tmp_path / "light.png") as light, Image.open(tmp_path / "dark.png") as dark:
        assert light.convert("L").getpixel((0, 0)) == 255
        assert dark.convert("L").getpixel((0, 0)) < 40
