"""Error curves as an image: where the colors are."""

import numpy as np
import pytest

from alexnet_cli.figures.curves import COLORS, Curve, draw_curves

WIDTH, HEIGHT = 900, 560
LEFT, RIGHT, TOP, BOTTOM = 70, 830, 70, 490  # the axes, 70 pixels from each side


def draw(*curves: Curve, goal: float = 0.25) -> np.ndarray:
    """Return the pixels, (rows, columns, 3)."""
    return np.asarray(draw_curves(list(curves), goal=goal, title="Curves")).astype(int)


def places(pixels: np.ndarray, color: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Return rows and columns of a color inside the axes, without the key in their upper half."""
    found = (pixels == color).all(axis=2)
    found[: TOP + 40] = False
    return np.nonzero(found)


def flat(error: float, group: str = "a", *, epochs: int = 4, faint: bool = False) -> Curve:
    return Curve(group, (error,) * epochs, group, faint)


def goal_row(goal: float = 0.25) -> int:
    """Return the row of the dashed line: most of what differs from an image with another goal."""
    differs = (draw(goal=goal) != draw(goal=0.001)).any(axis=2).sum(axis=1)
    differs[BOTTOM - 5 :] = 0
    return int(differs.argmax())


def test_image_has_its_size_and_a_white_ground():
    image = draw_curves([flat(0.5)], goal=0.25, title="Curves")
    assert image.size == (WIDTH, HEIGHT)
    assert image.mode == "RGB"
    for corner in ((0, 0), (WIDTH - 1, 0), (0, HEIGHT - 1), (WIDTH - 1, HEIGHT - 1)):
        assert image.getpixel(corner) == (255, 255, 255)


def test_flat_curve_at_the_goal_lies_on_the_goal_s_row():
    rows, _ = places(draw(flat(0.25)), COLORS[0])
    assert rows.size
    assert np.bincount(rows).argmax() == pytest.approx(goal_row(), abs=1)
    assert np.abs(rows - goal_row()).max() <= 4  # a dot's radius


@pytest.mark.parametrize(("error", "share"), [(0.0, 0.0), (0.15, 0.2), (0.375, 0.5), (0.6, 0.8)])
def test_errors_from_0_to_75_percent_fill_the_height(error, share):
    rows, _ = places(draw(flat(error)), COLORS[0])
    assert np.median(rows) == pytest.approx(BOTTOM - share * (BOTTOM - TOP), abs=1)


def test_epoch_stands_for_its_middle():
    _, columns = places(draw(flat(0.25, epochs=4)), COLORS[0])
    one = (RIGHT - LEFT) / 4
    assert columns.min() + 4 == pytest.approx(LEFT + 0.5 * one, abs=1)
    assert columns.max() - 4 == pytest.approx(RIGHT - 0.5 * one, abs=1)


def test_longest_curve_decides_the_width_of_an_epoch():
    pixels = draw(flat(0.25, "a", epochs=10), flat(0.4, "b", epochs=5))
    _, long = places(pixels, COLORS[0])
    _, short = places(pixels, COLORS[1])
    one = (RIGHT - LEFT) / 10
    assert long.max() - 4 == pytest.approx(LEFT + 9.5 * one, abs=1)
    assert short.max() - 4 == pytest.approx(LEFT + 4.5 * one, abs=1)


def test_falling_curve_runs_down_to_the_right():
    rows, columns = places(draw(Curve("a", (0.6, 0.4, 0.2), "a")), COLORS[0])
    means = [rows[columns == column].mean() for column in (240, 400, 560, 700)]
    assert means == sorted(means)
    assert means[-1] - means[0] > 100


def test_error_above_75_percent_stays_inside_the_frame():
    pixels = draw(Curve("a", (0.95, 0.9, 0.2), "a"))
    rows, _ = np.nonzero((pixels == COLORS[0]).all(axis=2))
    assert rows.min() == pytest.approx(TOP, abs=4)


def test_curves_of_a_group_share_a_color_and_groups_differ():
    pixels = draw(flat(0.15, "a"), flat(0.3, "b"), Curve("another", (0.45,) * 4, "a"))
    row_of = {error: round(BOTTOM - error / 0.75 * (BOTTOM - TOP)) for error in (0.15, 0.3, 0.45)}
    first, second, third = (tuple(pixels[row_of[error], 450]) for error in (0.15, 0.3, 0.45))
    assert first == third == COLORS[0]
    assert second == COLORS[1]
    assert len(set(COLORS)) == len(COLORS) >= 2


def test_more_groups_than_colors_can_be_drawn():
    curves = [flat(0.05 * number, f"group {number}") for number in range(1, 7)]
    rows, _ = places(draw(*curves), COLORS[0])
    assert np.ptp(rows) > 50  # the first and the fifth


def test_faint_curve_is_lighter_and_thinner():
    dark, light = draw(flat(0.25)), draw(flat(0.25, faint=True))
    assert places(light, COLORS[0])[0].size == 0
    column = 450  # between two dots
    rows = slice(goal_row() - 5, goal_row() + 6)
    strokes = [(pixels[rows, column] < 250).any(axis=1).sum() for pixels in (dark, light)]
    assert strokes[1] < strokes[0]
    faintest = light[rows, column].sum(axis=1).argmin()
    assert (light[rows, column][faintest] > np.array(COLORS[0])).all()
    assert (light[rows, column][faintest] < 255).any()


def test_faint_curve_has_no_dots():
    changed = draw(flat(0.5, faint=True)) != draw(flat(0.5, epochs=0), flat(0.0, "b", epochs=4))
    rows, columns = np.nonzero(changed.any(axis=2)[TOP + 40 : BOTTOM - 10])
    assert np.ptp(rows) <= 1
    assert np.ptp(columns) > 500


def test_only_curves_that_are_not_faint_have_a_key():
    def keys(*curves: Curve) -> int:
        pixels = draw(*curves)[TOP - 5 : TOP + 60, WIDTH - 310 : WIDTH - 280]
        colored = [(pixels == color).all(axis=2).any(axis=1) for color in COLORS[:2]]
        return sum(bool(rows.any()) for rows in colored)

    assert keys(flat(0.1), flat(0.2, "b")) == 2
    assert keys(flat(0.1), flat(0.2, "b", faint=True)) == 1
    assert keys(flat(0.1, faint=True), flat(0.2, "b", faint=True)) == 0


def test_one_epoch_is_a_dot():
    rows, columns = places(draw(flat(0.25, epochs=1)), COLORS[0])
    assert 40 < rows.size < 100
    assert np.ptp(rows) == np.ptp(columns) == 8


def test_nothing_to_draw_leaves_the_axes():
    dark = (draw() < 100).all(axis=2)
    assert dark[TOP:BOTTOM, LEFT].mean() > 0.99  # the goal's line crosses it
    assert dark[BOTTOM, LEFT:RIGHT].all()


@pytest.mark.parametrize("goal", [0.25, 0.5])
def test_goal_is_a_dashed_line_across(goal):
    row = round(BOTTOM - goal / 0.75 * (BOTTOM - TOP))
    assert goal_row(goal) == row
    marked = (draw(goal=goal)[row, LEFT + 5 : RIGHT] < 250).any(axis=1)
    assert 0.3 < marked.mean() < 0.8
