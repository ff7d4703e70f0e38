"""A loss, a score or a weight that is no finite number: what is known of it, kept beside the run.

The file is RUN/diverged.json. It goes when the run begins anew or goes on, and nothing else reads
it.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from alexnet_cli.data.batches.order import order_of
from alexnet_cli.data.remote.stream import StreamSplit
from alexnet_cli.data.shards.dataset import Split
from alexnet_cli.errors import DivergedError
from alexnet_cli.io.atomic import write_bytes
from alexnet_cli.model.checkpoint import Progressed
from alexnet_cli.training.run_directory import RunFolder
from alexnet_cli.training.train_step import Learner


@dataclass(frozen=True, slots=True)
class Sample:
    """A picture of a batch after which the loss was no number."""

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
    at: Progressed
    rate: float
    last_loss: float | None
    steps: Sequence[int] = ()

    def end(self, run: RunFolder, learner: Learner, split: Split | StreamSplit) -> DivergedError:
        """Return the fault; the first replica keeps the evidence.

        That it cannot be written is said, and changes nothing else.
        """
        kept = f"{run.last} is kept" if run.last.exists() else "No checkpoint was written"
        told = f"evidence: {run.evidence}"
        if learner.place.replicas.is_first:
            try:
                content = json.dumps(self.evidence(learner, split), indent=1) + "\n"
                write_bytes(run.evidence, content.encode())
            except OSError as error:
                told = f"the evidence could not be written ({error.strerror})"
        if self.steps:  # all replicas know of it; whoever ends first has the others ended
            learner.place.replicas.meet()
        return DivergedError(
            f"{self.what} at epoch {self.at.epoch + 1}, step {self.at.step} (rate {self.rate:.3g}, "
            f"mean loss before {self.at.train_loss:.4g}).\n{kept}; {told}.\n"
            f"Try --set learning_rate={learner.recipe.learning_rate / 3:.2g} in another --run."
        )

    def evidence(self, learner: Learner, split: Split | StreamSplit) -> dict:
        """Return all that is known, as JSON has it: its numbers are finite."""
        place, recipe = learner.place, learner.recipe
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
            "not_finite": learner.count_not_finite(),
            "samples": [asdict(sample) for sample in self._samples(learner, split)],
        }

    def _samples(self, learner: Learner, split: Split | StreamSplit) -> list[Sample]:
        """Return the pictures of all replicas since the last look; a stream does not know them."""
        if not self.steps or isinstance(split, StreamSplit):
            return []
        order = order_of(split, learner.order_of(self.at.epoch))
        size = learner.recipe.batch_size
        keys, labels = split.keys(), split.labels
        return [
            Sample(step, int(position), keys[position], int(labels[position]))
            for step in self.steps
            for position in order[step * size : (step + 1) * size]
        ]
