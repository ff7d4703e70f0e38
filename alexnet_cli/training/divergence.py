"""Evidence of a loss, score or weight that is not finite: RUN/diverged.json.

The file is deleted when the run begins again or is resumed. Nothing else reads it.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from alexnet_cli.data.batches.loader import order_of
from alexnet_cli.data.remote.stream import StreamSplit
from alexnet_cli.data.shards.dataset import Split
from alexnet_cli.errors import DivergedError, hint
from alexnet_cli.io.atomic import write_bytes
from alexnet_cli.model.checkpoint import TrainState
from alexnet_cli.training.run_directory import RunDirectory
from alexnet_cli.training.train_step import TrainStep


@dataclass(frozen=True, slots=True)
class Divergence:
    """What is known when a number that is not finite is found.

    Attributes:
        what: what is not finite, in words.
        lr: learning rate of the weights.
        last_loss: mean loss between the last two finite readings; None if there was none.
        steps: steps of the epoch since the last reading, from 0; empty if no batch is the cause.
    """

    what: str
    state: TrainState
    lr: float
    last_loss: float | None
    steps: Sequence[int] = ()

    def report(
        self, run: RunDirectory, train_step: TrainStep, split: Split | StreamSplit
    ) -> DivergedError:
        """Return the error to raise; the main replica writes the evidence."""
        kept = f"{run.last} is kept" if run.last.exists() else "No checkpoint was written"
        described = f"evidence: {run.evidence}"
        replicas = train_step.runtime.replicas
        if replicas.is_main:
            try:
                content = json.dumps(self.evidence(train_step, split), indent=1) + "\n"
                write_bytes(run.evidence, content.encode())
            except OSError as error:
                described = f"the evidence could not be written ({error.strerror})"
        if self.steps:  # all replicas are here; the first process that ends would end the others
            replicas.barrier()
        lower = f"{train_step.recipe.learning_rate / 3:.2g}"
        return DivergedError(
            f"{self.what} at epoch {self.state.epoch + 1}, step {self.state.step} (learning rate "
            f"{self.lr:.3g}, mean loss before {self.state.train_loss:.4g}).",
            kept=f"{kept}; {described}.",
            hint=hint("lower_learning_rate", value=lower),
        )

    def evidence(self, train_step: TrainStep, split: Split | StreamSplit) -> dict:
        """Return everything that is known, as JSON-compatible values."""
        runtime, recipe, state = train_step.runtime, train_step.recipe, self.state
        return {
            "what": self.what,
            "epoch": state.epoch + 1,
            "step": state.step,
            "updates": state.total_steps,
            "learning_rate": self.lr,
            "last_finite_loss": self.last_loss,
            "mean_loss_of_epoch": state.train_loss if state.num_seen else None,
            "recipe": recipe.name,
            "seed": recipe.seed,
            "batch_size": recipe.batch_size,
            "precision": runtime.precision,
            "devices": [str(device) for device in runtime.devices],
            "replicas": runtime.replicas.world_size,
            "not_finite": train_step.count_not_finite(),
            "samples": self._samples(train_step, split),
        }

    def _samples(self, train_step: TrainStep, split: Split | StreamSplit) -> list[dict]:
        """Return the images of all replicas since the last reading; unknown for a stream."""
        if not self.steps or isinstance(split, StreamSplit):
            return []
        order = order_of(split, train_step.order_of(self.state.epoch))
        size = train_step.recipe.batch_size
        keys, labels = split.keys(), split.labels
        return [
            {
                "step": step,
                "position": int(position),
                "key": keys[position],
                "label": int(labels[position]),
            }
            for step in self.steps
            for position in order[step * size : (step + 1) * size]
        ]
