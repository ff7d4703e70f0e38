"""Results as tables on stdout; each function takes what --json prints."""

import sys
from collections.abc import Callable

from rich.table import Table

from alexnet_cli.cli.console import print_json, print_line, print_rich, safe

BAR_WIDTH = 30
VIEWS = {1: "center view", 9: "nine views", 10: "ten views"}


def show(result: dict, as_json: bool, table: Callable[[dict], None]) -> None:
    """Print a result as one JSON object, or with its table."""
    print_json(result) if as_json else table(result)


def show_prep(result: dict) -> None:
    """Table of splits, then why images were rejected."""
    print_line(f"[bold]{safe(result['dataset'])}[/]: {result['classes']:,} classes")
    print_rich(_split_table(result))
    for kind, count in {**result["reasons"], **result["ignored"]}.items():
        print_line(f"  {count:,} {kind}")
    for row in result["rejected"][:5]:
        print_line(f"  rejected {safe(row['source'])}: {row['reason']} ({safe(row['detail'])})")
    if result["already_complete"]:
        print_line("already complete: nothing was done")


def show_pca(result: dict) -> None:
    """Mean color and components."""
    table = Table(title=f"{safe(result['file'])}: {result['images']:,} images")
    for column in ("", "red", "green", "blue", "std (gray levels)"):
        table.add_column(column, justify="right")
    table.add_row("mean", *(f"{value:.2f}" for value in result["mean_rgb"]), "")
    for i, variance in enumerate(result["eigenvalues"]):
        vector = (f"{row[i]:+.4f}" for row in result["eigenvectors"])
        table.add_row(f"component {i + 1}", *vector, f"{variance**0.5:.2f}")
    print_rich(table)


def show_train(result: dict) -> None:
    """Where the run is and what it reached."""
    best = result["best"]
    print_line(
        f"[bold]{safe(result['run'])}[/]: {result['epochs']} epochs, {result['steps']:,} steps"
    )
    if best.get("top1_error") is not None:
        errors = f"top-1 {best['top1_error']:.1%}, top-5 {best['top5_error']:.1%}"
        print_line(f"best: epoch {best['epoch']}, center-view validation error {errors}")
    if result["images_per_second"]:
        print_line(
            f"{result['images_per_second']:,.0f} images/s on {' + '.join(result['devices'])}"
        )


def show_eval(result: dict) -> None:
    """The protocol and the errors."""
    print_line(f"[bold]{safe(result['checkpoint'])}[/] on {safe(result['dataset'])}")
    precision = "" if result["precision"] == "fp32" else f", {result['precision']}"
    table = _error_table(f"{result['split']}: {result['images']:,} images{precision}")
    if result["center"]:
        table.add_row("center view", *_errors(result["center"]))
    table.add_row(VIEWS[result["views"]], *_errors(result))
    print_rich(table)


def show_ensemble(result: dict) -> None:
    """Each member and the average."""
    table = _error_table(f"ensemble of {len(result['members'])}: {result['images']:,} images")
    for member, weight in zip(result["members"], result["weights"], strict=True):
        table.add_row(f"{safe(member['file'])} x {weight:.3g}", *_errors(member))
    table.add_section()
    table.add_row("[bold]average of probabilities[/]", *_errors(result))
    print_rich(table)
    if result["searched_on"]:
        print_line(f"weights searched on {result['searched_on']:,} other images of the split")


def show_export(result: dict) -> None:
    """The file, and how far it is from torch."""
    views = VIEWS[result["views"]]
    about = f"{result['bytes'] / 1e6:.0f} MB, {result['classes']} classes, {views}"
    print_line(f"[bold]{safe(result['onnx'])}[/]: {about}, opset {result['opset']}")
    differing = result["top1_differing"]
    first = (
        f"another first class for {differing} by a near tie" if differing else "same first class"
    )
    print_line(
        f"{result['checked']:,} images: probabilities within {result['max_abs_difference']:.1e} "
        f"of torch's, {first}"
    )


def show_predict(result: dict) -> None:
    """Names and probabilities as bars, one block an image."""
    block = "#" if "utf" not in (sys.stdout.encoding or "").lower() else "\u2588"
    for entry in result["images"]:
        print_line(f"[bold]{safe(entry['image'])}[/]")
        if "error" in entry:
            print_line(f"  [red]{safe(entry['error'])}[/]")
        for row in entry.get("predictions", ()):
            bar = block * round(BAR_WIDTH * row["probability"])
            name = f"{safe(row['name'].split(',')[0])} ({safe(row['wnid'])})"
            print_line(f"  {row['probability']:6.1%} [green]{bar:<{BAR_WIDTH}}[/] {name}")


def show_info(result: dict) -> None:
    """The network, a line a layer, or a dataset's splits; then everything known about it."""
    print_line(f"[bold]{safe(result['name'])}[/]: {result['kind']}, {result['classes']:,} classes")
    print_rich(_layer_table(result) if "layers" in result else _split_table(result))
    for name, value in result["about"].items():
        print_line(f"  {name}: {safe(str(value))}")


def _layer_table(result: dict) -> Table:
    size = " x ".join(map(str, result["input"]))
    table = Table(title=f"recipe {safe(result['recipe'])}, input {size}")
    for column in ("layer", "output", "parameters"):
        table.add_column(column, justify="left" if column == "layer" else "right")
    for layer in result["layers"]:
        shape = " x ".join(map(str, layer["output"]))
        count = f"{layer['parameters']:,}" if layer["parameters"] else ""
        table.add_row(layer["name"], shape, count)
    table.add_section()
    table.add_row("[bold]all[/]", "", f"[bold]{result['parameters']:,}[/]")
    return table


def _split_table(result: dict) -> Table:
    table = Table()
    counts = ("found", "written", "rejected", "shards")
    for column in ("split", *counts):
        table.add_column(column, justify="left" if column == "split" else "right")
    for name, split in result["splits"].items():
        table.add_row(name, *(f"{split[count]:,}" for count in counts))
    return table


def show_recipes(result: dict) -> None:
    """One line a recipe and target; for a single one all of it."""
    table = Table(caption="published error rates; alexnet recipes NAME shows their source")
    for column in ("recipe", "shows", "data", "top-1 / top-5"):
        table.add_column(column, no_wrap=column != "shows")
    for row in result["recipes"]:
        cells = [(t["data"], _target_errors(t)) for t in row["targets"]] or [(row["data"], "")]
        table.add_row(row["name"], row["about"], *cells[0])
        for cell in cells[1:]:
            table.add_row("", "", *cell)
    print_rich(table)
    if result["fields"] is not None:
        _show_recipe(result["recipes"][0], result["fields"])


def _target_errors(target: dict) -> str:
    errors = (target["top1_error"], target["top5_error"])
    return " / ".join("-" if error is None else f"{error:.1%}" for error in errors)


def _show_recipe(row: dict, fields: dict) -> None:
    for target in row["targets"]:
        print_line(f"{_target_errors(target)}: {target['protocol']} ({target['source']})")
    if row["changes"]:
        print_line(f"changes against {row['parent']}:")
    for field, value in row["changes"].items():
        print_line(f"  {field} = {safe(str(value))}")
    print_line("every field:")
    for field, value in fields.items():
        inner = value.items() if isinstance(value, dict) else None
        shown = " ".join(f"{name}={part}" for name, part in inner) if inner else value
        print_line(f"  {field}: {safe(str(shown))}")
    for command in row["commands"]:
        print_line(f"$ {command}")


def show_demo(result: dict) -> None:
    """The demo's results table, and what to type for ImageNet."""
    table = _error_table("what the demo reached, on generated validation images")
    for row in result["rows"]:
        table.add_row(safe(row["name"]), *_errors(row))
    print_rich(table)
    print_line(f"{result['seconds']:.0f} s in all; everything is in {safe(result['folder'])}/")
    print_line("\nThe same on ImageNet, with the three official archives in one folder:")
    for line in result["next"]:
        print_line(f"  {safe(line)}")


def _error_table(title: str) -> Table:
    table = Table(title=title)
    table.add_column("")
    for column in ("top-1 error", "top-5 error", "log loss"):
        table.add_column(column, justify="right")
    return table


def _errors(row: dict) -> tuple[str, str, str]:
    return f"{row['top1_error']:.2%}", f"{row['top5_error']:.2%}", f"{row['log_loss']:.4f}"
