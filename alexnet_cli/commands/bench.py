"""`alexnet bench`: the speed of each stage of training on this machine, and what limits it."""

from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Table

from alexnet_cli.cli import console
from alexnet_cli.cli.console import print_line, print_rich, safe
from alexnet_cli.cli.options import (
    AsJson,
    Columns,
    Compiled,
    Device,
    Precision,
    RecipeName,
    Replicated,
    Settings,
    find_source,
    runtime_config,
    wanted_recipe,
)
from alexnet_cli.cli.tables import show

NUM_KERNELS = 15
NAME_WIDTH = 100
UNITS = ((1e12, "T"), (1e9, "G"), (1e6, "M"))


def bench(
    dataset: Annotated[
        str | None,
        typer.Argument(metavar="DATASET", help="Dataset that prep made; by default random images."),
    ] = None,
    recipe: RecipeName = None,
    settings: Settings = None,
    batch_size: Annotated[
        int | None,
        typer.Option(
            "--batch-size", min=1, help="Images per step; by default the recipe's, or 16 on a CPU."
        ),
    ] = None,
    precision: Precision = "fp32",
    compiled: Compiled = False,
    gpus: Replicated = None,
    columns: Columns = None,
    device: Device = "auto",
    seconds: Annotated[float, typer.Option(min=0.01, help="Seconds per measurement.")] = 2.0,
    only: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Measure only this: reading, parts, step, shards, views, roofline or baseline.",
        ),
    ] = None,
    kernels: Annotated[
        bool, typer.Option("--kernels", help="Also profile the kernels of one train step.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Measure the speed of each stage of training, and of torchvision's alexnet beside it."""
    wanted = wanted_recipe(recipe, settings or [], None)
    source = find_source(dataset, False, None, False) if dataset else None
    from alexnet_cli.bench.measure import MEASUREMENTS
    from alexnet_cli.bench.run import BenchRequest
    from alexnet_cli.bench.run import bench as measure

    request = BenchRequest(
        recipe=wanted,
        dataset=source,
        batch_size=batch_size,
        runtime=runtime_config(device, gpus, columns, precision, compiled),
        seconds=seconds,
        only=tuple(only or MEASUREMENTS),
        kernels=kernels,
    )
    result = measure(request, console.ConsoleProgress())
    if result:  # None from a replica that is not the main one
        show(asdict(result), as_json, show_bench)


def show_bench(found: dict) -> None:
    """Show a table of the stages, then what limits them."""
    print_rich(_table(found))
    for name, ratio in found["ratios"].items():
        print_line(f"{safe(name)}: {ratio:.2f}")
    for line in found["limits"]:
        print_line(safe(line))
    if kernels := found["kernels"]:
        for line in kernel_lines(kernels[:NUM_KERNELS], NAME_WIDTH):
            print_line(safe(line))
        if rest := kernels[NUM_KERNELS:]:
            print_line(f"{sum(kernel['share'] for kernel in rest):6.1%} in {len(rest)} more")
    for line in found["skipped"]:
        print_line(f"[dim]not measured: {safe(line)}[/]")


def kernel_lines(kernels: list[dict], width: int | None = None) -> list[str]:
    """Return a header and one line per kernel, with names of at most `width` characters."""
    lines = [f"{'share':>6} {'ms/step':>9} {'calls':>6}  kernel"]
    for kernel in kernels:
        milliseconds, name = kernel["seconds"] * 1e3, kernel["name"]
        if width and len(name) > width:
            name = f"{name[: width - 3]}..."
        lines.append(f"{kernel['share']:6.1%} {milliseconds:9.3f} {kernel['calls']:6g}  {name}")
    return lines


def _table(found: dict) -> Table:
    title = f"{found['recipe']}: batches of {found['batch']:,}, {found['precision']}"
    if found["compile_seconds"] is not None:
        title += f", compiled in {found['compile_seconds']:.0f} s"
    table = Table(title=title, caption=_machine(found))
    table.add_column("stage")
    for column in ("images/s", "torchvision's", "of the limit"):
        table.add_column(column, justify="right")
    for stage, speed in found["stages"].items():
        used = found["used"].get(stage)
        baseline = found["baseline"].get(stage)
        table.add_row(
            stage,
            _speed(speed),
            _speed(baseline) if baseline else "",
            f"{used:.0%}" if used else "",
        )
    return table


def _speed(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:,.1f}"


def _machine(found: dict) -> str:
    count = found["replicas"] * found["split_over"]
    device = f"{count} x {found['device']}" if count > 1 else found["device"]
    parts = [safe(device), f"{found['threads']} threads", f"torch {found['torch']}"]
    if found["roofline"]:
        parts.append(f"{_amount(found['roofline']['products'])}FLOP/s in products")
        parts.append(f"{_amount(found['roofline']['copy'])}B/s in copies")
        parts.append(f"{found['flops']['step'] / 1e9:.2f} GFLOP per image and step")
    return ", ".join(parts)


def _amount(value: float) -> str:
    for unit, letter in UNITS:
        if value >= unit:
            return f"{value / unit:.1f} {letter}"
    return f"{value:.0f} "
