"""A loss, a score or a weight that is no finite number: what is known of it, kept beside the run.

The file is RUN/diverged.json. It goes when the run begins anew or goes on, and nothing else reads
it.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from alexnet_cli.data.batches.loader import order_of
from alexnet_cli.data.remote.stream import StreamSplit
from alexnet_cli.data.shards.dataset import Split
from alexnet_cli.errors import DivergedError
from alexnet_cli.io.atomic import write_bytes
from alexnet_cli.model.checkpoint import TrainState
from alexnet_cli.training.run_directory import RunDirectory
from alexnet_cli.training.train_step import TrainStep


@dataclass(frozen=True, slots=True)
class Sample:
    """An image of a batch after which the loss was no number."""

    step: int
    position: int
    key: str
    label: int


@dataclass(frozen=True, slots=True)
class Divergence:
    """When it was noticed, and what came before.

    Attributes:
        what: in words.
        at: how far the run was.
        rate: of the weights, then.
        last_loss: mean loss between the two looks before, both finite; None without.
        steps: of the epoch since the last look, from 0; empty where no batch is to blame.
    """

    what: str
    at: TrainState
    rate: float
    last_loss: float | None
    steps: Sequence[int] = ()

    def end(
        self, run: RunDirectory, train_step: TrainStep, split: Split | StreamSplit
    ) -> DivergedError:
        """Return the fault; the first replica keeps the evidence.

        That it cannot be written is said, and changes nothing else.
        """
        kept = f"{run.last} is kept" if run.last.exists() else "No checkpoint was written"
        described = f"evidence: {run.evidence}"
        if train_step.place.replicas.is_main:
            try:
                content = json.dumps(self.evidence(train_step, split), indent=1) + "\n"
                write_bytes(run.evidence, content.encode())
            except OSError as error:
                described = f"the evidence could not be written ({error.strerror})"
        if self.steps:  # all replicas know of it; whoever ends first has the others ended
            train_step.place.replicas.barrier()
        return DivergedError(
            f"{self.what} at epoch {self.at.epoch + 1}, step {self.at.step} (rate {self.rate:.3g}, "
            f"mean loss before {self.at.train_loss:.4g}).\n{kept}; {described}.\n"
            f"Try --set learning_rate={train_step.recipe.learning_rate / 3:.2g} in another --run."
        )

    def evidence(self, train_step: TrainStep, split: Split | StreamSplit) -> dict:
        """Return all that is known, as JSON has it: its numbers are finite."""
        place, recipe = train_step.place, train_step.recipe
        return {
            "what": self.what,
            "epoch": self.at.epoch + 1,
            "step": self.at.step,
            "updates": self.at.total_steps,
            "learning_rate": self.rate,
            "last_finite_loss": self.last_loss,
            "mean_loss_of_epoch": self.at.train_loss if self.at.num_seen else None,
            "recipe": recipe.name,
            "seed": recipe.seed,
            "batch_size": recipe.batch_size,
            "precision": place.precision,
            "devices": [str(device) for device in place.devices],
            "replicas": place.replicas.count,
            "not_finite": train_step.count_not_finite(),
            "samples": [asdict(sample) for sample in self._samples(train_step, split)],
        }

    def _samples(self, train_step: TrainStep, split: Split | StreamSplit) -> list[Sample]:
        """Return the images of all replicas since the last look; a stream does not know them."""
        if not self.steps or isinstance(split, StreamSplit):
            return []
        order = order_of(split, train_step.order_of(self.at.epoch))
        size = train_step.recipe.batch_size
        keys, labels = split.keys(), split.labels
        return [
            Sample(step, int(position), keys[position], int(labels[position]))
            for step in self.steps
            for position in order[step * size : (step + 1) * size]
        ]
