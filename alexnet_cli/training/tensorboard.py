"""Curves for TensorBoard, beside the run's log: RUN/tensorboard."""

from pathlib import Path

from alexnet_cli.errors import UsageError


class TensorBoardLogger:
    """Writes numbers by the count of updates; nothing where the user wants none."""

    def __init__(self, folder: Path | None, first_step: int = 0):
        """Begin or go on.

        Args:
            folder: None for no curves.
            first_step: what was drawn from here on, before a resume, is drawn anew.

        Raises:
            UsageError: the package is missing.
        """
        self._writer = None
        if folder is None:
            return
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise UsageError("--tensorboard needs it: pip install tensorboard") from error
        self._writer = SummaryWriter(folder, purge_step=first_step or None)

    def add(self, step: int, values: dict) -> None:
        """Draw numbers; one inside an object, as of `val`, under `val/`."""
        if self._writer is None:
            return
        for name, value in values.items():
            if isinstance(value, dict):
                self.add(step, {f"{name}/{inner}": number for inner, number in value.items()})
            else:
                self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Write what is left."""
        if self._writer is not None:
            self._writer.close()
