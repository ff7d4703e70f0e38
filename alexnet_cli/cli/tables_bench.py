"""The figures of a bench as tables on stdout; it takes what --json prints."""

from rich.table import Table

from alexnet_cli.cli.console import print_line, print_rich, safe

NUM_KERNELS = 15
NAME_WIDTH = 100
UNITS = ((1e12, "T"), (1e9, "G"), (1e6, "M"))


def show_bench(result: dict) -> None:
    """A table for each way to train, then what limits it."""
    for found in result["benches"]:
        print_rich(_table(found))
        for name, ratio in found["ratios"].items():
            print_line(f"{safe(name)}: {ratio:.2f}")
        for line in found["limits"]:
            print_line(safe(line))
        _show_kernels(found["kernels"])
        for line in found["skipped"]:
            print_line(f"[dim]not measured: {safe(line)}[/]")
    for line in result["failures"]:
        print_line(f"[bold red]failed[/] {safe(line)}")
    for path in result["report"]:
        print_line(safe(path))


def _table(found: dict) -> Table:
    how = f"batches of {found['batch']:,}, {found['precision']}"
    if found["compile_seconds"] is not None:
        how += f", compiled in {found['compile_seconds']:.0f} s"
    table = Table(title=f"{found['recipe']}: {how}", caption=_machine(found))
    table.add_column("stage")
    for column in ("images/s", "torchvision's", "of the limit"):
        table.add_column(column, justify="right")
    limits = {"step": "step", "update": "update"}
    for stage, speed in found["stages"].items():
        used = found["used"].get(limits.get(stage, ""))
        baseline = found["baseline"].get(stage)
        table.add_row(
            stage,
            _speed(speed),
            _speed(baseline) if baseline else "",
            f"{used:.0%}" if used else "",
        )
    return table


def _show_kernels(kernels: list[dict]) -> None:
    """Print the kernels that take most of a step; kernels.txt has all."""
    if not kernels:
        return
    print_line("kernels of a step: share, ms, calls, name")
    for kernel in kernels[:NUM_KERNELS]:
        milliseconds, name = kernel["seconds"] * 1e3, safe(kernel["name"][:NAME_WIDTH])
        print_line(f"{kernel['share']:6.1%} {milliseconds:9.3f} {kernel['calls']:6g}  {name}")
    rest = sum(kernel["share"] for kernel in kernels[NUM_KERNELS:])
    if rest:
        print_line(f"{rest:6.1%} in {len(kernels) - NUM_KERNELS} more")


def _speed(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:,.1f}"


def _machine(found: dict) -> str:
    count = found["replicas"] * found["split_over"]
    device = f"{count} x {found['device']}" if count > 1 else found["device"]
    parts = [safe(device), f"{found['threads']} threads", f"torch {found['torch']}"]
    if found["roofline"]:
        parts.append(f"{_amount(found['roofline']['products'])}FLOP/s in products")
        parts.append(f"{_amount(found['roofline']['copy'])}B/s in copies")
        parts.append(f"{found['flops']['step'] / 1e9:.2f} GFLOP an image and step")
    return ", ".join(parts)


def _amount(value: float) -> str:
    for unit, letter in UNITS:
        if value >= unit:
            return f"{value / unit:.1f} {letter}"
    return f"{value:.0f} "
