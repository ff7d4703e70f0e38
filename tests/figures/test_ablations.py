"""The figure of a reproduced table: where its points are, and what it refuses."""

import json
from pathlib import Path

import pytest
from helpers import refused

from alexnet_cli.errors import InputError
from alexnet_cli.figures import ablations
from alexnet_cli.figures.ablations import AblationsRequest, draw_ablations

ROWS = [
    {"name": "1 CNN", "paper": [0.407, 0.182], "ours": [0.41, 0.19],
     "intervals": [[0.40, 0.43], [0.18, 0.205]]},
    {"name": "5 CNNs", "paper": [0.381, 0.164], "ours": None, "intervals": None},
    {"name": "own", "paper": None, "ours": [0.5, 0.3], "intervals": [[0.4, 0.6], [0.2, 0.4]]},
]  # fmt: skip


@pytest.fixture
def results(tmp_path) -> Path:
    path = tmp_path / "results.json"
    path.write_text(json.dumps({"title": "Table", "caveats": [], "rows": ROWS}))
    return path


def test_points_are_at_the_errors_with_their_intervals(results, tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr(ablations, "save", lambda figure, path: figures.append(figure))
    found = draw_ablations(AblationsRequest(results, tmp_path / "a.png"))

    assert found.numbers["rows"] == ROWS
    panels = figures[0].axes
    assert [axes.get_title(loc="left") for axes in panels] == ["top-1 error", "top-5 error"]
    assert [text.get_text() for text in panels[0].get_yticklabels()] == ["1 CNN", "5 CNNs", "own"]
    for place, axes in enumerate(panels):
        paper, ours = (line.get_xdata() for line in axes.lines[:2])
        assert paper[:2].tolist() == [row["paper"][place] for row in ROWS[:2]]
        assert ours[[0, 2]].tolist() == [ROWS[0]["ours"][place], ROWS[2]["ours"][place]]
        bars = axes.collections[0].get_segments()
        ends = [sorted(bar[:, 0]) for bar in bars if len(bar)]
        assert pytest.approx(ROWS[0]["intervals"][place]) == ends[0]


@pytest.mark.parametrize("columns", [[None, 0.2], [0.4, None]])
def test_error_that_no_row_has_gets_no_panel(tmp_path, monkeypatch, columns):
    figures = []
    monkeypatch.setattr(ablations, "save", lambda figure, path: figures.append(figure))
    row = {"name": "a", "paper": columns, "ours": None, "intervals": None}
    (tmp_path / "r.json").write_text(json.dumps({"title": "T", "caveats": [], "rows": [row]}))
    draw_ablations(AblationsRequest(tmp_path / "r.json", tmp_path / "a.png"))
    assert len(figures[0].axes) == 1


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"title": "", "caveats": [], "rows": []}', '{"title": "", "runs": []}',
     '{"title": "", "caveats": [], "rows": [{"name": "a", "paper": ["x", 0], "ours": null}]}'],
)  # fmt: skip
def test_other_files_are_refused(tmp_path, content):
    (tmp_path / "r.json").write_text(content)
    with refused(InputError, "not the results of a table"):
        draw_ablations(AblationsRequest(tmp_path / "r.json", tmp_path / "a.png"))
    with refused(InputError, "No such file"):
        draw_ablations(AblationsRequest(tmp_path / "none.json", tmp_path / "a.png"))
