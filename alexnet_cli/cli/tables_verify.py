"""The result of `alexnet verify` in lines; a module of its own because report.py is full."""

from alexnet_cli.cli.console import print_line, safe


def show_verify(result: dict) -> None:
    """Counts, then every finding, then what was put right."""
    speed = result["bytes"] / 1e6 / result["seconds"] if result["seconds"] else 0.0
    decoded = ", decoded" if result["deep"] else ""
    print_line(
        f"[bold]{safe(result['dataset'])}[/]: {result['shards']:,} shards, "
        f"{result['samples']:,} samples{decoded}, {result['bytes'] / 1e6:,.0f} MB "
        f"at {speed:,.0f} MB/s"
    )
    for finding in result["findings"]:
        print_line(f"  [red]{_words(finding)}[/]")
    for finding in result["repaired"]:
        print_line(f"  [green]repaired[/] {_words(finding)}")
    if result["replaced"]:
        print_line(f"replaced: {safe(', '.join(result['replaced']))}")
    elif not result["findings"]:
        print_line("every byte is as prep wrote it")


def _words(finding: dict) -> str:
    sample = f": sample {finding['key']}" if finding["key"] else ""
    expected, found = finding["expected"], finding["found"]
    return safe(f"{finding['file']}{sample}: {finding['what']}: expected {expected}, found {found}")
