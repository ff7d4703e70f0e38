"""`alexnet bench`: the speed of each stage of training on this machine, and what limits it."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.table import Table

from alexnet_cli.cli import console
from alexnet_cli.cli.console import print_line, print_rich, safe
from alexnet_cli.cli.options import (
    AsJson,
    Columns,
    Device,
    RecipeName,
    Replicated,
    Settings,
    find_source,
    wanted_recipe,
)
from alexnet_cli.cli.tables import show

NUM_KERNELS = 15
NAME_WIDTH = 100
UNITS = ((1e12, "T"), (1e9, "G"), (1e6, "M"))


def bench(
    dataset: Annotated[
        str | None,
        typer.Argument(
            metavar="[DATASET]", help="Dataset that prep made; by default random images."
        ),
    ] = None,
    recipe: RecipeName = None,
    settings: Settings = None,
    batch: Annotated[
        int | None, typer.Option(min=1, help="Batch size; by default the recipe's, or 16 on a CPU.")
    ] = None,
    precision: Annotated[
        Literal["fp32", "tf32", "bf16"] | None,
        typer.Option(help="Arithmetic of the passes; by default fp32."),
    ] = None,
    compiled: Annotated[
        bool | None,
        typer.Option(
            "--compile/--no-compile", help="Whether to compile the network with torch.compile."
        ),
    ] = None,
    gpus: Replicated = None,
    columns: Columns = None,
    device: Device = "auto",
    seconds: Annotated[float, typer.Option(min=0.01, help="Seconds per measurement.")] = 2.0,
    only: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="Measure only this stage: reading, parts, step, shards, views, ..."
        ),
    ] = None,
    kernels: Annotated[
        bool, typer.Option("--kernels", help="Also profile the kernels of one train step.")
    ] = False,
    every: Annotated[
        bool, typer.Option("--all", help="Batches of 128 to 2048, all precisions, both kernels.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the report's files; with --all bench.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Measure the speed of each stage of training, and of torchvision's alexnet beside it."""
    wanted = wanted_recipe(recipe, settings or [], None)
    source = find_source(dataset, False, None, False) if dataset else None
    from alexnet_cli.bench import run as verb

    ways = verb.Ways(
        (batch,) if batch else None,
        (precision,) if precision else None,
        None if compiled is None else (compiled,),
    )
    how = {"every": every, "device": device, "num_devices": gpus, "columns": columns}
    extent = verb.Extent(seconds, tuple(only or verb.MEASUREMENTS), kernels)
    how |= {"extent": extent, "out": out or (Path("bench") if every else None)}
    result = verb.bench(source, wanted, ways, **how, progress=console.ConsoleProgress())
    if result:  # nothing from a replica that is not the first
        show(asdict(result), as_json, show_bench)


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
