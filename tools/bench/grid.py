"""How fast is training with every batch size, in every precision, compiled and not?

    python tools/bench/grid.py [DATASET] [--out bench] [--batches 128,512,2048]
        [--precisions fp32,tf32,bf16] [--compile no,yes] [-- OPTIONS OF alexnet bench]

Runs `alexnet bench --json` once for each way; one that fails is noted, and the others follow.
Writes OUT/bench.json, OUT/bench.md and, with `-- --kernels`, OUT/kernels.txt.
"""

import argparse
import json
import subprocess
import sys
from itertools import product
from pathlib import Path

from alexnet_cli.commands.bench import kernel_lines

STAGES = {"step": "step", "step from shards": "from shards", "reader": "reader"}
STAGES |= {"ten views": "ten views"}
OTHERS = ("torchvision step", "torchvision from JPEGs", "of products", "GiB allocated", "reserved")


def measure(arguments: list[str]) -> tuple[dict | None, str]:
    """Return the result of a benchmark, or None and the reason why there is none."""
    command = [sys.executable, "-m", "alexnet_cli", "bench", *arguments, "--json"]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    if finished.returncode == 0:
        return json.loads(finished.stdout), ""
    problem = finished.stderr.rpartition("error: ")[2].strip().splitlines()
    return None, problem[0][:200] if problem else f"exit code {finished.returncode}"


def name_of(found: dict) -> str:
    """Return batch size, precision and kernels, as in "batch 512, bf16, compiled"."""
    compiled = ", compiled" if found["compiled"] else ""
    return f"batch {found['batch']}, {found['precision']}{compiled}"


def markdown(results: list[dict], failures: list[str]) -> str:
    """Return a report with a row for each way to train, in images/s, torchvision's beside it."""
    lines = ["# alexnet bench", ""]
    if results:
        first = results[0]
        lines += [
            f"{first['device']} x {first['replicas'] * first['split_over']}, torch "
            f"{first['torch']}, recipe {first['recipe']}, {first['classes']} classes, "
            f"{first['dataset'] or 'random images'}; images/s.",
            "",
        ]
    names = [*STAGES.values(), *OTHERS]
    lines += [_row(["batch", "precision", "compiled", *names])]
    lines += [_row(["---:", "---", "---", *["---:"] * len(names)])]
    lines += [_row(_cells(found)) for found in results]
    for found in results:
        skipped = (f"* not measured: {line}" for line in found["skipped"])
        lines += ["", f"{name_of(found)}:", *(f"* {line}" for line in found["limits"]), *skipped]
    lines += ["", *(f"* not measured: {failure}" for failure in failures)]
    return "\n".join(lines).rstrip() + "\n"


def _cells(found: dict) -> list[str]:
    seconds, used = found["compile_seconds"], found["used"].get("step")
    speeds = [found["stages"].get(name) for name in STAGES]
    speeds += [found["baseline"].get(name) for name in ("step", "step from shards")]
    peaks = [found["memory"].get(name) for name in ("allocated", "reserved")]
    return [
        str(found["batch"]),
        found["precision"],
        "no" if seconds is None else f"{seconds:.0f} s",
        *(f"{speed:,.0f}" if speed else "" for speed in speeds),
        f"{used:.0%}" if used is not None else "",
        *(f"{peak / 2**30:.2f}" if peak is not None else "" for peak in peaks),
    ]


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Measure every way and write the report after each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dataset", nargs="?")
    parser.add_argument("--out", type=Path, default=Path("bench"))
    parser.add_argument("--batches", default="128,512,2048")
    parser.add_argument("--precisions", default="fp32,tf32,bf16")
    parser.add_argument("--compile", default="no,yes")
    arguments = sys.argv[1:]
    end = arguments.index("--") if "--" in arguments else len(arguments)
    options, more = parser.parse_args(arguments[:end]), arguments[end + 1 :]
    options.out.mkdir(parents=True, exist_ok=True)
    lists = (options.batches, options.precisions, options.compile)
    results, failures, kernels = [], [], []
    for batch, precision, compiled in product(*(text.split(",") for text in lists)):
        way = ["--batch-size", batch, "--precision", precision]
        way += ["--compile"] if compiled == "yes" else []
        print(*way, flush=True)
        data = [options.dataset] if options.dataset else []
        found, reason = measure([*data, *way, *more])
        if found is None:
            failures.append(f"{' '.join(way)}: {reason}")
            print(failures[-1], flush=True)
        else:
            results.append(found)
            if found["kernels"]:
                kernels += [f"{name_of(found)}, {found['device']}"]
                kernels += kernel_lines(found["kernels"])
                (options.out / "kernels.txt").write_text("\n".join(kernels) + "\n")
        content = {"results": results, "failures": failures}
        (options.out / "bench.json").write_text(json.dumps(content, indent=1) + "\n")
        (options.out / "bench.md").write_text(markdown(results, failures))


if __name__ == "__main__":
    main()
