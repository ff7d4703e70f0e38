"""What a device says when it fails or its memory is full, as a fault that a user can act on."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from alexnet_cli.errors import MachineError
from alexnet_cli.recipe import Recipe

NEEDED = re.compile(r"ried to allocate ([\d.]+ \w+)")
FREE = re.compile(r"([\d.]+ \w+) is free")
KEPT = "What was saved before is kept"


@contextmanager
def told(recipe: Recipe, advice: str = "") -> Iterator[None]:
    """Say in the block what to try when a network in training does not fit, or a GPU is lost.

    Args:
        advice: what to try where nothing is saved, in place of what a run can do.

    Raises:
        MachineError: instead of torch's own.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise _too_large(str(error), recipe, advice) from error
    except torch.AcceleratorError as error:
        if "out of memory" in str(error):
            raise _too_large(str(error), recipe, advice) from error
        again = "" if advice else f"\n{KEPT}. To go on: the same command with --resume"
        raise MachineError(
            f"the GPU failed ({str(error).splitlines()[0][:160]}).{again}"
        ) from error
    except RuntimeError as error:
        if "DefaultCPUAllocator" not in str(error):
            raise
        raise _too_large(str(error), recipe, advice) from error


def _too_large(text: str, recipe: Recipe, advice: str) -> MachineError:
    """Tell how much memory was needed and was free, and a batch of half the size."""
    found = {"needed": NEEDED.search(text), "free": FREE.search(text)}
    facts = ", ".join(f"{match[1]} {what}" for what, match in found.items() if match)
    what = f"out of memory with batches of {recipe.batch_size}{f' ({facts})' if facts else ''}."
    if advice:
        return MachineError(f"{what}\n{advice}")
    half = max(1, recipe.batch_size // 2)
    return MachineError(
        f"{what} {KEPT}.\n"
        f"Try --set batch_size={half} in another --run. Or share each batch out over more GPUs,\n"
        "which --resume can do too: --gpus 2 --columns 1"
    )
