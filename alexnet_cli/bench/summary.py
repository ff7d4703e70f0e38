"""What limits training, in sentences, and how it compares with the baseline.

Speeds are images per second, by stage.
"""

from alexnet_cli.errors import counted

PARTS = ("augment", "forward", "backward", "update")
NEAR = 0.95  # of the slower one; a step from shards cannot be faster


def limits(
    stages: dict[str, float], used: dict[str, float], memory: dict[str, int], precision: str
) -> list[str]:
    """Return what keeps training from being faster, in sentences without a full stop.

    Args:
        used: shares of the roofline: "step" of the matrix products, "update" of the copy.
        memory: peaks of GPU memory in bytes, "allocated" and "reserved".
    """
    lines = []
    if {"reader", "step", "step from shards"} <= stages.keys():
        lines.append(_slower(stages))
    if set(PARTS) <= stages.keys():
        lines.append(_shares(stages))
    if {"step", "update"} <= used.keys():
        lines.append(
            f"steps reach {used['step']:.0%} of the matrix products this device can do in "
            f"{precision}, updates {used['update']:.0%} of the bytes it can copy"
        )
    if memory:
        peaks = {name: value / 2**30 for name, value in memory.items()}
        lines.append(
            f"GPU memory of a step at its peak: {peaks['allocated']:.2f} GiB allocated, "
            f"{peaks['reserved']:.2f} GiB reserved"
        )
    return lines


def describe_loader(loader: dict[str, float]) -> str:
    """Return how torchvision's loader was measured."""
    times = loader["batches"] / loader["ready"]
    return (
        f"torchvision's loader: {counted(int(loader['workers']), 'worker')}, "
        f"{counted(int(loader['batches']), 'batch')} timed "
        f"in {loader['seconds']:.1f} s, {times:.0f} times the {loader['ready']} it keeps ready"
    )


def _slower(stages: dict[str, float]) -> str:
    reader, step, both = (stages[name] for name in ("reader", "step", "step from shards"))
    if reader < step:
        what = f"decoding: {reader:,.0f} images/s are read, the step could use {step:,.0f}"
    else:
        what = f"the step: it uses {step:,.0f} images/s, {reader:,.0f} could be read"
    least = min(reader, step)
    return what + ("" if both >= NEAR * least else f"; together they reach {both / least:.0%}")


def _shares(stages: dict[str, float]) -> str:
    seconds = {part: 1 / stages[part] for part in PARTS}
    shares = {part: value / sum(seconds.values()) for part, value in seconds.items()}
    return "of a step: " + ", ".join(f"{part} {share:.0%}" for part, share in shares.items())


def ratios(stages: dict[str, float], baseline: dict[str, float]) -> dict[str, float]:
    """Return the comparisons that can be made, as ratios of images per second."""
    pairs = {
        "step / torchvision's": ("step", baseline, "step"),
        "step from shards / torchvision's": ("step from shards", baseline, "step from shards"),
        "step from shards / step": ("step from shards", stages, "step"),
        "ten views / passes alone": ("ten views", stages, "ten views, passes alone"),
    }
    return {
        name: stages[mine] / others[other]
        for name, (mine, others, other) in pairs.items()
        if mine in stages and other in others
    }
