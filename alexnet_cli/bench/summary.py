"""What the figures of a bench say: in words, and as a table in Markdown."""

from collections.abc import Iterable

from alexnet_cli.bench.kernels import kernel_table
from alexnet_cli.bench.measure import Bench

PARTS = ("augment", "forward", "backward", "update")
NEAR = 0.95  # of the slower one, a step from shards is as fast as it can be


def limits(found: Bench) -> list[str]:
    """Return what keeps training from going faster, in sentences without a full stop."""
    stages, lines = found.stages, []
    if {"reader", "step", "step from shards"} <= stages.keys():
        lines.append(_slower(stages))
    if set(PARTS) <= stages.keys():
        lines.append(_shares(stages))
    if {"step", "update"} <= found.used.keys():
        lines.append(
            f"steps reach {found.used['step']:.0%} of the matrix products this device can do in "
            f"{found.precision}, updates {found.used['update']:.0%} of the bytes it can copy"
        )
    if found.memory:
        peaks = {name: value / 2**30 for name, value in found.memory.items()}
        lines.append(
            f"GPU memory of a step at its peak: {peaks['allocated']:.2f} GiB allocated, "
            f"{peaks['reserved']:.2f} GiB reserved"
        )
    if loader := found.baseline_loader:
        times = loader["batches"] / loader["ready"]
        lines.append(
            f"torchvision's loader: {loader['workers']} workers, {loader['batches']} batches timed "
            f"in {loader['seconds']:.1f} s, {times:.0f} times the {loader['ready']} it keeps ready"
        )
    return lines


def _slower(stages: dict[str, float]) -> str:
    reader, step, both = (stages[name] for name in ("reader", "step", "step from shards"))
    if reader < step:
        what = f"decode: the reader gives {reader:,.0f} images/s, the step could take {step:,.0f}"
    else:
        what = f"the step: it takes {step:,.0f} images/s, the reader gives {reader:,.0f}"
    least = min(reader, step)
    return what + ("" if both >= NEAR * least else f"; together they reach {both / least:.0%}")


def _shares(stages: dict[str, float]) -> str:
    seconds = {part: 1 / stages[part] for part in PARTS}
    shares = {part: value / sum(seconds.values()) for part, value in seconds.items()}
    return "of a step: " + ", ".join(f"{part} {share:.0%}" for part, share in shares.items())


def ratios(found: Bench) -> dict[str, float]:
    """Return the comparisons that can be made, as quotients of images a second."""
    stages, baseline = found.stages, found.baseline
    quotients = {
        "step / torchvision's": ("step", baseline, "step"),
        "step from shards / torchvision's": ("step from shards", baseline, "step from shards"),
        "step from shards / step": ("step from shards", stages, "step"),
        "ten views / passes alone": ("ten views", stages, "ten views, passes alone"),
    }
    return {
        name: stages[mine] / others[other]
        for name, (mine, others, other) in quotients.items()
        if mine in stages and other in others
    }


HEADINGS = {
    "step": "step",
    "step from shards": "from shards",
    "reader": "reader",
    "ten views": "ten views",
}
OTHERS = ("torchvision step", "torchvision from JPEGs", "of products", "GiB allocated", "reserved")


def name_of_way(found: Bench) -> str:
    """Return batch size, precision and kernels, as in "batch 512, bf16, compiled"."""
    compiled = ", compiled" if found.compiled else ""
    return f"batch {found.batch}, {found.precision}{compiled}"


def markdown(benches: Iterable[Bench], failures: Iterable[str]) -> str:
    """Return a report: a row for each way to train, in images/s, with torchvision's beside it."""
    benches = list(benches)
    lines = ["# alexnet bench", ""]
    if benches:
        first = benches[0]
        lines += [
            f"{first.device} x {first.replicas * first.split_over}, torch {first.torch}, recipe "
            f"{first.recipe}, {first.classes} classes, "
            f"{first.dataset or 'drawn images'}; images/s.",
            "",
        ]
    names = [*HEADINGS.values(), *OTHERS]
    head = ["batch", "precision", "compiled", *names]
    lines += [_row(head), _row(["---:", "---", "---", *["---:"] * len(names)])]
    lines += [_row(_cells(found)) for found in benches]
    for found in benches:
        skipped = (f"* not measured: {line}" for line in found.skipped)
        lines += ["", f"{name_of_way(found)}:", *(f"* {line}" for line in limits(found)), *skipped]
    lines += ["", *(f"* not measured: {failure}" for failure in failures)]
    return "\n".join(lines).rstrip() + "\n"


def kernels_text(benches: Iterable[Bench]) -> str:
    """Return a table of kernels for each way to train that was profiled."""
    tables = [
        [f"{name_of_way(found)}, {found.device}", *kernel_table(found.kernels), ""]
        for found in benches
        if found.kernels
    ]
    return "\n".join(line for table in tables for line in table)


def _cells(found: Bench) -> list[str]:
    compiled = "no" if found.compile_seconds is None else f"{found.compile_seconds:.0f} s"
    speeds = [found.stages.get(name) for name in HEADINGS]
    speeds += [found.baseline.get("step"), found.baseline.get("step from shards")]
    used = f"{found.used['step']:.0%}" if "step" in found.used else ""
    shown = [f"{speed:,.0f}" if speed else "" for speed in speeds]
    peaks = [found.memory.get(name) for name in ("allocated", "reserved")]
    memory = [f"{peak / 2**30:.2f}" if peak is not None else "" for peak in peaks]
    return [str(found.batch), found.precision, compiled, *shown, used, *memory]


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
