"""The result of a benchmark on the screen."""

from alexnet_cli.commands.bench import kernel_lines, show_bench

FOUND = {
    "device": "a GPU", "replicas": 2, "split_over": 1, "threads": 8, "torch": "2.15",
    "recipe": "paper", "batch": 2048, "precision": "bf16", "compile_seconds": 17.4,
    "stages": {"update": 123456.0, "step": 9.876}, "baseline": {"step": 4.0},
    "roofline": {"products": 4.2e14, "copy": 3.1e12}, "flops": {"forward": 1e9, "step": 4.1356e9},
    "used": {"step": 0.25, "update": 0.8}, "ratios": {"step / torchvision's": 2.469},
    "limits": ["the step: it uses 10 images/s"], "skipped": ["views: no"],
    "kernels": [],
}  # fmt: skip


def shown(capsys, **changes) -> str:
    show_bench(FOUND | changes)
    return " ".join(capsys.readouterr().out.split())


def test_table_shows_speeds_the_baseline_and_shares_of_the_limits(capsys):
    text = shown(capsys)
    for words in ("123,456", "9.9", "4.0", "25%", "80%", "compiled in 17 s", "batches of 2,048"):
        assert words in text


def test_machine_and_its_limits_are_named(capsys):
    text = shown(capsys)
    for words in ("2 x a GPU", "420.0 TFLOP/s", "3.1 TB/s", "4.14 GFLOP"):
        assert words in text


def test_ratios_limits_and_skipped_measurements_follow(capsys):
    text = shown(capsys)
    for words in (
        "torchvision's: 2.47",
        "it uses 10",
        "not measured: views",
    ):
        assert words in text


def test_kernels_with_the_most_time_are_listed_and_the_rest_counted(capsys):
    kernel = {"calls": 2.0, "seconds": 0.0012, "share": 0.05}
    text = shown(capsys, kernels=[{**kernel, "name": f"kernel{i}<[bold]>"} for i in range(20)])

    assert "5.0% 1.200 2 kernel14<[bold]>" in text
    assert "kernel15" not in text
    assert "25.0% in 5 more" in text


def test_what_was_not_measured_is_left_out(capsys):
    text = shown(capsys, roofline={}, used={}, baseline={}, compile_seconds=None, replicas=1)
    assert "FLOP" not in text
    assert "compiled" not in text
    assert "1 x" not in text


def test_long_names_of_kernels_are_cut_to_the_width():
    lines = kernel_lines([{"name": "x" * 50, "calls": 1.0, "seconds": 0.001, "share": 1.0}], 20)
    assert lines[1] == "100.0%     1.000      1  " + "x" * 17 + "..."
