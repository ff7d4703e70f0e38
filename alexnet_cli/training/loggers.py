"""Programs that draw the metrics of runs: TensorBoard, Weights & Biases, MLflow.

Each opens the run that it began before when a run is resumed. They are told numbers only.
"""

import json
import os
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from alexnet_cli.errors import UsageError, did_you_mean, require_package
from alexnet_cli.io.atomic import write_bytes
from alexnet_cli.training.run_directory import RunDirectory

PROJECT = "alexnet"
MAX_PARAMS = 100  # of one request to MLflow


class Logger(Protocol):
    """An open run in one of the programs. Any of these calls may raise anything."""

    def log(self, step: int, values: dict[str, float]) -> None:
        """Draw numbers at a number of updates."""

    def close(self) -> None:
        """End the run, and send what is left."""


class _TensorBoard:
    def __init__(self, run: RunDirectory, config: dict, num_updates: int):
        from torch.utils.tensorboard import SummaryWriter

        # What an earlier process drew after this update is dropped.
        self._writer = SummaryWriter(run.curves, purge_step=num_updates or None)

    def log(self, step: int, values: dict[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        self._writer.close()


class _Wandb:
    def __init__(self, run: RunDirectory, config: dict, num_updates: int):
        import wandb

        self._run = wandb.init(
            project=None if "WANDB_PROJECT" in os.environ else PROJECT,
            name=run.path.name,
            dir=str(run.path),
            id=_known_id(run, "wandb") if num_updates else None,
            resume="allow",
            config={name: _plain(value) for name, value in config.items()},
        )
        _keep_id(run, "wandb", self._run.id)

    def log(self, step: int, values: dict[str, float]) -> None:
        self._run.log(values, step=step)

    def close(self) -> None:
        self._run.finish()


class _MLflow:
    def __init__(self, run: RunDirectory, config: dict, num_updates: int):
        import mlflow

        self._mlflow = mlflow
        if not {"MLFLOW_EXPERIMENT_NAME", "MLFLOW_EXPERIMENT_ID"} & set(os.environ):
            mlflow.set_experiment(PROJECT)
        known = _known_id(run, "mlflow") if num_updates else None
        begun = mlflow.start_run(run_id=known, run_name=None if known else run.path.name)
        _keep_id(run, "mlflow", begun.info.run_id)
        if not known:
            texts = [(name, str(value)) for name, value in config.items()]
            for start in range(0, len(texts), MAX_PARAMS):
                mlflow.log_params(dict(texts[start : start + MAX_PARAMS]))

    def log(self, step: int, values: dict[str, float]) -> None:
        # In the background: a server that does not answer must not hold up training.
        self._mlflow.log_metrics(values, step=step, synchronous=False)

    def close(self) -> None:
        self._mlflow.flush_async_logging()
        self._mlflow.end_run()


LOGGERS: dict[str, Callable[[RunDirectory, dict, int], Logger]] = {
    "tensorboard": _TensorBoard,
    "wandb": _Wandb,
    "mlflow": _MLflow,
}


def check_loggers(names: tuple[str, ...]) -> None:
    """Check that the programs are known and installed.

    Raises:
        UsageError: if there is no such program.
        MachineError: if its package is not installed.
    """
    for name in names:
        if name not in LOGGERS:
            known = f"There is {', '.join(LOGGERS)}."
            raise UsageError(f"no logger {name!r}.", hint=did_you_mean(name, LOGGERS, known))
        require_package(name)


def _plain(value: object) -> object:
    return value if isinstance(value, (str, int, float)) else str(value)


def _known_id(run: RunDirectory, name: str) -> str | None:
    """Return the id of the run that the program began for this folder, if there is one."""
    with suppress(OSError, ValueError, AttributeError):
        found = json.loads(run.logger_ids.read_text(encoding="utf-8")).get(name)
        return found if isinstance(found, str) else None
    return None


def _keep_id(run: RunDirectory, name: str, value: str) -> None:
    kept = {other: _known_id(run, other) for other in LOGGERS} | {name: value}
    content = {other: found for other, found in kept.items() if found}
    write_bytes(run.logger_ids, f"{json.dumps(content)}\n".encode())
