"""`alexnet report`: one page that says what is known, loads nothing and runs nothing."""

import json
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from alexnet_cli.figures.style import INK, WRONG
from alexnet_cli.inference.predictions import load_predictions
from alexnet_cli.model.checkpoint import load_checkpoint, save_checkpoint
from alexnet_cli.training.run_directory import RunDirectory

HOSTILE = '<script>alert("1")</script> & <img src=x onerror=alert(2)>'


class Page(HTMLParser):
    """What is in a page: its tags, the addresses they name, and its text."""

    def __init__(self, path: Path):
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.handlers: list[str] = []
        self.ids: list[str] = []
        self.text = ""
        self.source = path.read_text()
        self.feed(self.source)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        for name, value in attrs:
            if name in ("src", "href", "xlink:href", "action"):
                self.addresses.append(value)
            if name.startswith("on"):
                self.handlers.append(name)
            if name == "id":
                self.ids.append(value)

    def handle_data(self, data):
        self.text += data


@pytest.fixture(scope="module")
def made(runs, dataset, tmp_path_factory) -> Path:
    """The page of a run with its dataset."""
    from alexnet_cli.data.dataset_ref import DatasetRef
    from alexnet_cli.figures.report import ReportRequest, write_report

    path = tmp_path_factory.mktemp("report") / "report.html"
    write_report(ReportRequest(runs.first, path, DatasetRef.parse(dataset), num_views=1))
    return path


def test_page_loads_and_runs_nothing(made):
    page = Page(made)
    assert "script" not in page.tags
    assert not page.handlers
    assert all(address.startswith(("#", "data:image/")) for address in page.addresses)
    assert "default-src 'none'" in page.source
    assert "url(http" not in page.source
    assert not re.search(r"@import|<link|<iframe|<object", page.source)


def test_page_has_every_section_and_its_links_lead_to_them(made):
    page = Page(made)
    for words in ("What was trained", "How it went", "Filters", "Right, at random", "Mistakes"):
        assert words in page.text
    links = {address[1:] for address in page.addresses if address.startswith("#")}
    assert links <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))
    assert page.tags.count("svg") == 3  # curves, filters, explanation


def test_errors_are_those_of_eval(made, answer, runs, dataset):
    expected = answer("eval", runs.first, dataset, "--views", 1, "--device", "cpu")
    text = Page(made).text
    low, high = expected["top1_interval"]
    for value in (expected["top1_error"], expected["top5_error"], low, high):
        assert f"{value:.2%}" in text


def test_only_mistakes_are_among_the_wrong_examples(made):
    source = Page(made).source
    wrong = source[source.index("Wrong, and most sure of it") : source.index('id="mistakes"')]
    first_bars = re.findall(r"</figcaption>\s*<div class=\"([^\"]+)\"", wrong)
    assert len(first_bars) == 6
    assert set(first_bars) == {"bar"}


def test_hostile_names_are_text(answer, checkpoint, dataset, tmp_path, copy):
    """A class may have any name; in a page it is text, in tables, captions and figures."""
    found = load_checkpoint(checkpoint)
    classes = [(wnid, f"{HOSTILE} {name}") for wnid, name in found.classes]
    model = tmp_path / "hostile.safetensors"
    save_checkpoint(model, replace(found, classes=classes))
    out = tmp_path / "report.html"
    answer("report", model, "--data", dataset, "--views", 1, "-o", out)
    page = Page(out)
    assert not {"script", "iframe"} & set(page.tags)
    assert not page.handlers
    assert '<script>alert("1")' in page.text
    assert all(address.startswith(("#", "data:image/")) for address in page.addresses)


def test_page_can_be_read_without_seeing_it(made):
    page = Page(made)
    images = re.findall(r"<(?:img|svg)[^>]*>", page.source)
    assert len(images) == 3 + page.tags.count("img")
    assert all(re.search(r'(alt|aria-label)="[^"]+"', image) for image in images)
    assert not re.search(r"<th[^>]*></th>", page.source)
    headers = re.findall(r"<th\b[^>]*>", page.source)
    assert all("scope=" in header for header in headers)
    scrolling = re.findall(r'<(?:div class="scroll"|pre)[^>]*>', page.source)
    assert len(scrolling) == 10
    assert all('tabindex="0"' in tag and "aria-label" in tag for tag in scrolling)


def test_machine_of_the_run_is_named(made, runs):
    session = RunDirectory(runs.first).sessions()[-1]
    text = Page(made).text
    assert session["devices"] == ["cpu"]
    assert f"cpu, {session['cores']} CPU cores, {session['platform']}" in text


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{}",
        '{"sessions": [5]}',
        '{"sessions": {"a": 1}}',
        '{"sessions": [{"devices": 1, "packages": "torch"}]}',
        '{"sessions": [{"devices": ["<b>"], "platform": "</td>"}]}',
    ],
)
def test_environment_that_is_damaged_or_hostile_is_text_or_left_out(
    answer, runs, tmp_path, content
):
    run = shutil.copytree(runs.first, tmp_path / "run")
    (run / "environment.json").write_text(content)
    answer("report", run, "-o", tmp_path / "r.html")
    page = Page(tmp_path / "r.html")
    assert ("trained on" in page.text) == ("devices" in content)
    assert "b" not in page.tags


def test_explained_mistake_says_what_it_is_and_what_it_is_taken_for(
    made, answer, runs, dataset, tmp_path
):
    mistakes = answer("errors", runs.first, dataset, "--views", 1, "--device", "cpu")["mistakes"]
    first = mistakes[0]
    expected = f"an image of {first['name']}, taken for {first['predicted_name']}."
    assert expected in Page(made).text


def test_class_that_several_views_find_is_explained_though_the_center_view_finds_another(
    answer, runs, checkpoint, dataset, tmp_path
):
    npz = tmp_path / "p.npz"
    answer("eval", checkpoint, dataset, "--output", npz, "--device", "cpu", "--views", 1)
    found = load_predictions(npz)
    probs = np.eye(10, dtype=np.float32)[(found.labels + 1) % 10]  # no network's
    replace(found, probs=probs, views=10).save(npz)
    out = tmp_path / "r.html"
    answer("report", runs.first, "--data", dataset, "--predictions", npz, "-o", out)
    right, other = (found.names[(found.labels[0] + i) % 10] for i in (0, 1))
    assert f"an image of {right}, taken for {other}." in Page(out).text


def test_texts_of_a_figure_are_kept_when_its_colors_become_the_page_s(answer, runs, tmp_path):
    run = tmp_path / f"{INK['light'][0]} {WRONG.lower()}"
    run.symlink_to(runs.first)
    answer("report", run, "-o", tmp_path / "r.html")
    page = Page(tmp_path / "r.html")
    colors = re.findall(r"(?:fill|stroke): ([^;\"]+)", page.source)
    assert {"var(--ink)", "var(--wrong)"} <= set(colors)
    assert not {INK["light"][0], WRONG.lower()} & set(colors)


def test_long_names_do_not_fill_the_page(answer, predictions, dataset, tmp_path):
    found = load_predictions(predictions[0])
    npz = tmp_path / "long.npz"
    replace(found, names=tuple(f"x{i} " + 5000 * "long" for i in range(10))).save(npz)
    answer("report", npz, "--data", dataset, "-o", tmp_path / "r.html")
    page = Page(tmp_path / "r.html")
    assert "x3 long" in page.text
    assert max(map(len, page.text.split())) < 500


def test_run_without_a_dataset_has_curves_and_filters(answer, runs, tmp_path):
    out = tmp_path / "r.html"
    assert answer("report", runs.first, "-o", out)["sections"] == ["run", "curves", "filters"]
    assert "alexnet train DATASET" in Page(out).text


def test_predictions_file_has_errors_and_mistakes(answer, checkpoint, dataset, tmp_path):
    npz, out = tmp_path / "p.npz", tmp_path / "r.html"
    answer("eval", checkpoint, dataset, "--output", npz, "--device", "cpu")
    assert answer("report", npz, "-o", out)["sections"] == ["errors"]
    assert "Pairs confused most often" in Page(out).text
    assert answer("report", npz, "--data", dataset, "-o", out)["sections"] == [
        "errors",
        "examples",
    ]
    assert Page(out).tags.count("img") > 6


def test_dataset_of_other_images_is_refused(fails, answer, checkpoint, dataset, tmp_path):
    npz = tmp_path / "p.npz"
    answer("eval", checkpoint, dataset, "--output", npz, "--device", "cpu", "--views", 1)
    found = load_predictions(npz)
    replace(found, keys=(*found.keys[:-1], "val-99999999")).save(npz)
    failure = fails(3, "report", npz, "--data", dataset, "-o", tmp_path / "r.html")
    assert "different images in val" in failure.message
    assert not (tmp_path / "r.html").exists()


def test_predictions_of_the_run_need_not_be_made_again(
    fails, answer, runs, checkpoint, dataset, tmp_path, monkeypatch
):
    npz, out = tmp_path / "p.npz", tmp_path / "r.html"
    errors = answer("eval", checkpoint, dataset, "--output", npz, "--device", "cpu")
    monkeypatch.setattr("alexnet_cli.figures.report.predict_dataset", None)
    answer("report", runs.first, "--data", dataset, "--predictions", npz, "-o", out)
    assert f"{errors['top1_error']:.2%}" in Page(out).text
    failure = fails(3, "report", runs.second, "--predictions", npz, "-o", out)
    assert "predictions of another network" in failure.message


def test_changed_fields_and_commands_are_named(answer, runs, dataset, tmp_path):
    out = tmp_path / "a page.html"
    answer("report", runs.first, "--data", dataset, "--views", 1, "-o", out)
    text = Page(out).text
    assert "crop_size" in text
    assert f"alexnet eval {runs.first} {dataset} --split val" in text
    assert "--set crop_size=99" in text
    assert f"--split val -o '{out}'" in text


def test_network_that_makes_no_mistakes_has_no_section_of_them(
    answer, checkpoint, dataset, tmp_path
):
    npz, out = tmp_path / "p.npz", tmp_path / "r.html"
    answer("eval", checkpoint, dataset, "--output", npz, "--device", "cpu", "--views", 1)
    found = load_predictions(npz)
    probs = np.eye(len(found.classes), dtype=np.float32)[found.labels]
    replace(found, probs=probs, center_probs=probs).save(npz)
    answer("report", npz, "--data", dataset, "-o", out)
    text = Page(out).text
    assert "0.00%" in text
    assert "Pairs confused" not in text
    assert "Wrong, and most sure of it" not in text


def test_commits_that_trained_the_run_are_named_once_each(answer, runs, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(runs.first, run)
    file = run / "environment.json"
    (session,) = json.loads(file.read_text())["sessions"]
    commits = [("1a2b", False), ("1a2b", False), ("3c4d", True), (None, None)]
    sessions = [session | {"commit": name, "modified": edited} for name, edited in commits]
    file.write_text(json.dumps({"sessions": sessions}))
    answer("report", run, "-o", tmp_path / "r.html")
    page = (tmp_path / "r.html").read_text()
    assert "<td>commit 1a2b, commit 3c4d, modified</td>" in page
    file.write_text("[]")
    answer("report", run, "-o", tmp_path / "s.html")
    assert "<td>commit" not in (tmp_path / "s.html").read_text()


def test_page_is_named_html(fails, runs, tmp_path):
    assert "-o report.html" in fails(2, "report", runs.first, "-o", tmp_path / "r.pdf").message


def test_same_page_is_the_same_bytes(answer, runs, tmp_path):
    paths = [tmp_path / "a.html", tmp_path / "b.html"]
    for path in paths:
        answer("report", runs.first, "-o", path)
    first, second = (path.read_text().replace(path.name, "") for path in paths)
    assert first == second
