"""Errors of a device, or of memory that is full, as errors that a user can act on."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from alexnet_cli.errors import Hint, MachineError, hint

NEEDED = re.compile(r"ried to allocate ([\d.]+ \w+)")
FREE = re.compile(r"([\d.]+ \w+) is free")
FULL = ("DefaultCPUAllocator", "MPS backend out of memory")
KEPT = "Everything saved before is kept."


@contextmanager
def friendly_oom_errors(
    batch_size: int, advice: str | Hint | None = None, kept: str | None = None
) -> Iterator[None]:
    """Translate torch's out-of-memory and device errors into a `MachineError` with advice.

    Args:
        batch_size: in images.
        advice: what to try if memory is full; None in a run, which can be resumed.
        kept: what is safe, if this is no run.

    Raises:
        MachineError: instead of torch's own errors.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise _too_large(str(error), batch_size, advice, kept) from error
    except torch.AcceleratorError as error:
        if "out of memory" in str(error):
            raise _too_large(str(error), batch_size, advice, kept) from error
        problem = f"the GPU failed ({str(error).splitlines()[0][:160]})."
        if advice:
            raise MachineError(problem, kept=kept, hint=hint("retry_on_cpu")) from error
        raise MachineError(problem, kept=KEPT, hint=hint("resume")) from error
    except RuntimeError as error:
        if not any(words in str(error) for words in FULL):
            raise
        raise _too_large(str(error), batch_size, advice, kept) from error


def _too_large(
    text: str, batch_size: int, advice: str | Hint | None, kept: str | None
) -> MachineError:
    """Report how much memory was needed and free; advise a run to halve its batch."""
    found = {"needed": NEEDED.search(text), "free": FREE.search(text)}
    facts = ", ".join(f"{match[1]} {what}" for what, match in found.items() if match)
    problem = f"out of memory with batches of {batch_size}{f' ({facts})' if facts else ''}."
    if advice:
        return MachineError(problem, kept=kept, hint=advice)
    smaller = hint("smaller_batch", batch=max(1, batch_size // 2))
    return MachineError(problem, kept=KEPT, hint=smaller)
