"""What a device says when it fails or its memory is full, as a fault that a user can act on."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from alexnet_cli.errors import MachineError

NEEDED = re.compile(r"ried to allocate ([\d.]+ \w+)")
FREE = re.compile(r"([\d.]+ \w+) is free")
KEPT = "What was saved before is kept"
ANY_DEVICE = "Close other programs that use this memory. On a GPU also try: --device cpu"


@contextmanager
def friendly_oom_errors(batch_size: int, advice: str = "") -> Iterator[None]:
    """Translate torch's out-of-memory and device errors into a `MachineError` with advice.

    Args:
        batch_size: in images.
        advice: what to try when the memory is full, where there is no run to resume.

    Raises:
        MachineError: instead of torch's own.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise _too_large(str(error), batch_size, advice) from error
    except torch.AcceleratorError as error:
        if "out of memory" in str(error):
            raise _too_large(str(error), batch_size, advice) from error
        again = "Run the same command again. If the GPU fails again: --device cpu"
        if not advice:
            again = f"{KEPT}. To go on: the same command with --resume"
        raise MachineError(
            f"the GPU failed ({str(error).splitlines()[0][:160]}).\n{again}"
        ) from error
    except RuntimeError as error:
        if "DefaultCPUAllocator" not in str(error):
            raise
        raise _too_large(str(error), batch_size, advice) from error


def _too_large(text: str, batch_size: int, advice: str) -> MachineError:
    """Tell how much memory was needed and was free, and a batch of half the size."""
    found = {"needed": NEEDED.search(text), "free": FREE.search(text)}
    facts = ", ".join(f"{match[1]} {what}" for what, match in found.items() if match)
    what = f"out of memory with batches of {batch_size}{f' ({facts})' if facts else ''}."
    if advice:
        return MachineError(f"{what}\n{advice}")
    half = max(1, batch_size // 2)
    return MachineError(
        f"{what} {KEPT}.\n"
        f"Try --set batch_size={half} in another --run. Or share each batch out over more GPUs,\n"
        "which --resume can do too: --gpus 2 --columns 1"
    )
