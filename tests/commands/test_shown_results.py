"""Results as they are shown on a terminal."""

import io
import sys

import pytest

from alexnet_cli.commands.bench import kernel_lines, show_bench
from alexnet_cli.commands.check import show_check
from alexnet_cli.commands.demo import show_demo
from alexnet_cli.commands.evaluate import show_eval
from alexnet_cli.commands.predict import show_predict
from alexnet_cli.commands.prep import show_prep
from alexnet_cli.commands.reproduce import show_plan, show_reproduce
from alexnet_cli.commands.train import show_train
from alexnet_cli.commands.verify import show_verify

ERRORS = {"top1_error": 0.12345, "top5_error": 0.05, "log_loss": 0.5}
CAT = {"label": 3, "wnid": "n0003", "name": "cat, house cat", "probability": 0.5}


def test_prep_shows_rejects_with_reasons(capsys):
    split = {"found": 1234, "written": 1233, "rejected": 1, "shards": 2}
    row = {"split": "train", "source": "a\n.JPEG", "reason": "empty", "detail": "0 bytes"}
    show_prep(
        {
            "dataset": "shards/new",
            "classes": 1000,
            "splits": {"train": split},
            "rejected": [row],
            "reasons": {"empty": 1},
            "ignored": {"hidden file": 3},
            "already_complete": False,
        }
    )
    text = capsys.readouterr().out
    for words in ("1,234", "1 empty", "3 hidden file", r"rejected a\n.JPEG: empty (0 bytes)"):
        assert words in text


USUAL = {"apply_orientation": False, "gray_bits": None}
EVAL = {
    "model": "a", "dataset": "b", "split": "val", "images": 50000, "views": 10, "center": None,
    "model_classes": 1000, "dataset_classes": 1000, "matched_by": "order", "precision": "fp32",
    "subset": None, "decode_rules": {"model": USUAL, "dataset": USUAL, "differ": False}, **ERRORS,
}  # fmt: skip


def test_errors_are_percent_on_the_screen(capsys):
    show_eval({**EVAL, "center": {**ERRORS, "top1_error": 0.2}})
    text = capsys.readouterr().out
    for words in ("50,000", "12.35%", "20.00%", "5.00%", "0.5000"):
        assert words in text
    assert "network" not in text
    assert "decoded" not in text


def test_intervals_and_both_figures_of_a_subset_are_shown(capsys):
    subset = {**ERRORS, "top1_error": 0.0321, "top5_interval": (0.04, 0.0612)}
    counts = {"model_classes": 1000, "dataset_classes": 200, "matched_by": "wnid"}
    subset |= {"classes": 200, "center": {**ERRORS, "top1_error": 0.04}}
    show_eval({**EVAL, **counts, "subset": subset, "top1_interval": (0.1206, 0.1264)})
    text = " ".join(capsys.readouterr().out.split())
    for words in ("12.35% (12.1-12.6)", "200 classes", "3.21%", "5.00% (4.0-6.1)", "4.00%"):
        assert words in text
    assert "200 of the network's 1,000 classes" in text
    assert "classes matched by wnid" in text


@pytest.mark.parametrize(
    ("model", "dataset", "words"),
    [
        ({"apply_orientation": True}, {}, "orientation: as EXIF says and not turned"),
        ({}, {"gray_bits": 12}, "wide gray images: 16 bits and 12 bits"),
    ],
)
def test_other_decoding_of_a_dataset_is_one_line(capsys, model, dataset, words):
    rules = {"model": USUAL | model, "dataset": USUAL | dataset, "differ": True}
    show_eval({**EVAL, "decode_rules": rules})
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "decoded" in line]
    assert line == f"images of network and dataset were decoded differently: {words}"


def test_run_without_validation_shows_no_errors(capsys):
    best = {"epoch": 2, "top1_error": None, "top5_error": None}
    about = {"run": "runs/a", "epochs": 2, "steps": 1000, "devices": ["cpu", "cpu"]}
    show_train({**about, "best": best, "images_per_second": 12.3})
    text = capsys.readouterr().out
    assert "1,000 steps" in text
    assert "12 images/s on cpu + cpu" in text
    assert "top-1" not in text


@pytest.mark.parametrize(("encoding", "block"), [("utf-8", "\u2588"), ("ascii", "#")])
def test_bars_are_as_long_as_the_probability(monkeypatch, encoding, block):
    out = io.TextIOWrapper(io.BytesIO(), encoding=encoding, newline="\n")
    monkeypatch.setattr(sys, "stdout", out)
    rows = [{"image": "a.jpg", "predictions": [CAT]}, {"image": "b.jpg", "error": "empty"}]
    show_predict({"images": rows, "ignored": {}})
    out.flush()
    lines = out.buffer.getvalue().decode(encoding).splitlines()
    assert lines[0] == "a.jpg"
    assert lines[1].split() == ["50.0%", block * 15, "cat", "(n0003)"]
    assert lines[2:] == ["b.jpg", "  empty"]


def test_demo_ends_with_the_table_and_the_commands(capsys):
    rows = [{"name": "first, ten views", **ERRORS}]
    about = {"folder": "demo", "report": "demo/report.html", "seconds": 100.4}
    about |= {"next": ["alexnet prep A B", "alexnet pca B"]}
    show_demo({"rows": rows, **about})
    text = capsys.readouterr().out
    assert "12.35%" in text
    assert "100 s" in text
    assert text.splitlines()[-2:] == ["  alexnet prep A B", "  alexnet pca B"]


BENCH = {
    "device": "a GPU", "replicas": 2, "split_over": 1, "threads": 8, "torch": "2.15",
    "recipe": "paper", "batch": 2048, "precision": "bf16", "compile_seconds": 17.4,
    "stages": {"update": 123456.0, "step": 9.876}, "baseline": {"step": 4.0},
    "roofline": {"products": 4.2e14, "copy": 3.1e12}, "flops": {"forward": 1e9, "step": 4.1356e9},
    "used": {"step": 0.25, "update": 0.8}, "ratios": {"step / torchvision's": 2.469},
    "limits": ["the step: it takes 10 images/s"], "skipped": ["views: no"],
    "kernels": [],
}  # fmt: skip


def shown_bench(capsys, **changes) -> str:
    show_bench(BENCH | changes)
    return " ".join(capsys.readouterr().out.split())


def test_table_shows_speeds_the_baseline_and_shares_of_the_limits(capsys):
    text = shown_bench(capsys)
    for words in ("123,456", "9.9", "4.0", "25%", "80%", "compiled in 17 s", "batches of 2,048"):
        assert words in text


def test_machine_and_its_limits_are_named(capsys):
    text = shown_bench(capsys)
    for words in ("2 x a GPU", "420.0 TFLOP/s", "3.1 TB/s", "4.14 GFLOP"):
        assert words in text


def test_ratios_limits_and_skipped_measurements_follow(capsys):
    text = shown_bench(capsys)
    for words in (
        "torchvision's: 2.47",
        "it takes 10",
        "not measured: views",
    ):
        assert words in text


def test_kernels_with_the_most_time_are_listed_and_the_rest_counted(capsys):
    kernel = {"calls": 2.0, "seconds": 0.0012, "share": 0.05}
    text = shown_bench(
        capsys, kernels=[{**kernel, "name": f"kernel{i}<[bold]>"} for i in range(20)]
    )

    assert "5.0% 1.200 2 kernel14<[bold]>" in text
    assert "kernel15" not in text
    assert "25.0% in 5 more" in text


def test_long_names_of_kernels_are_cut_to_the_width():
    lines = kernel_lines([{"name": "x" * 50, "calls": 1.0, "seconds": 0.001, "share": 1.0}], 20)
    assert lines[1] == "100.0%     1.000      1  " + "x" * 17 + "..."


def test_what_was_not_measured_is_left_out(capsys):
    text = shown_bench(capsys, roofline={}, used={}, baseline={}, compile_seconds=None, replicas=1)
    assert "FLOP" not in text
    assert "compiled" not in text
    assert "1 x" not in text


ROW = {
    "name": "no-lrn",
    "paper": None,
    "log": [0.42034, 0.19362],
    "ours": [0.5, 0.25],
    "intervals": [(0.4691, 0.5309), (0.2242, 0.2777)],
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
    rows = [
        ROW,
        {**ROW, "name": "one-gpu", "ours": None, "intervals": None, "missing": ["ilsvrc-2010"]},
    ]
    result = {"title": "a table", "caveats": ["2-epoch runs"], "rows": rows, "results": "out/r.md"}
    show_reproduce(result)
    text = " ".join(capsys.readouterr().out.split())
    for words in ("not the published experiment: 2-epoch runs", "no-lrn", "one-gpu", "out/r.md"):
        assert words in text
    for figures in (
        "50.0 /",
        "no-lrn: 95 % intervals 46.9-53.1 / 22.4-27.8",
        "+12.5 /",
        "not run:",
    ):
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
    show_plan(result)
    text = capsys.readouterr().out
    for words in ("$ alexnet train 'my data'", "1,200 images, 30 min, 3 MB", "2.0 GB", "--size 32"):
        assert words in text


def test_check_shows_the_statistics_and_the_batch(capsys):
    result = {
        "recipe": "paper",
        "data": "drawn images",
        "classes": 10,
        "chance_loss": 2.303,
        "first_loss": 2.4,
        "layers": [{"name": "conv1", "rms": 12.9, "std": 12.8, "dead_fraction": 0.25}],
        "overfit": {"images": 10, "learning_rate": 0.003, "losses": [2.4, None], "learned": False},
        "faults": [],
    }
    show_check(result)
    text = " ".join(capsys.readouterr().out.split())
    for words in ("conv1", "12.9", "25%", "not overfitted", "2.400 to inf"):
        assert words in text


FINDING = {
    "file": "train-000003.tar", "key": "train-00000017", "what": "the label in KEY.cls",
    "expected": "3", "found": "'7'",
}  # fmt: skip
VERIFIED = {
    "dataset": "shards/a", "deep": True, "shards": 8, "samples": 8000, "bytes": 200_000_000,
    "seconds": 0.5, "findings": [], "repaired": [], "replaced": [],
}  # fmt: skip


def shown_verify(capsys, **changes) -> str:
    show_verify({**VERIFIED, **changes})
    return capsys.readouterr().out


def test_whole_dataset_is_said_to_be(capsys):
    text = shown_verify(capsys)
    assert "8 shards, 8,000 samples, decoded, 200 MB at 400 MB/s" in text
    assert "every byte is as prep wrote it" in text


def test_finding_names_shard_sample_expected_and_found(capsys):
    line = "train-000003.tar: sample train-00000017: the label in KEY.cls: expected 3, found '7'"
    text = shown_verify(capsys, findings=[FINDING])
    assert line in text
    assert "every byte" not in text


def test_finding_about_a_whole_file_names_no_sample(capsys):
    assert "sample" not in shown_verify(capsys, findings=[{**FINDING, "key": ""}]).split("\n")[1]


def test_repaired_files_are_listed(capsys):
    text = shown_verify(capsys, repaired=[FINDING], replaced=["train-000003.tar"])
    assert "repaired train-000003.tar: sample" in text
    assert "replaced: train-000003.tar" in text


def test_nothing_read_in_no_time_is_no_fault(capsys):
    assert "0 MB at 0 MB/s" in shown_verify(capsys, bytes=0, seconds=0.0)
