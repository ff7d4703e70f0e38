"""One update of the network (section 5), on any devices.

All randomness is drawn from (seed, epoch, step) for the whole batch, and each replica takes its
share: the number of replicas changes nothing but rounding.
"""

import copy
import zlib
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from alexnet_cli.data.shards.dataset import Dataset
from alexnet_cli.data.transforms import Augmenter
from alexnet_cli.distributed.device_plan import Runtime
from alexnet_cli.distributed.precision import autocast
from alexnet_cli.distributed.prefetch import OnDevice
from alexnet_cli.errors import CheckpointError
from alexnet_cli.model.checkpoint import Checkpoint, TrainState
from alexnet_cli.model.ema import AveragedWeights
from alexnet_cli.model.init_from import copy_layers
from alexnet_cli.model.network import AlexNet, initialize
from alexnet_cli.model.optimizer import build_optimizer, freeze, set_learning_rates, state_tensors
from alexnet_cli.model.schedule import LearningRates
from alexnet_cli.model.split import (
    build_network,
    load_optimizer_state,
    load_whole_state,
    whole_state,
)
from alexnet_cli.recipes.recipe import Recipe
from alexnet_cli.training.dropout_masks import DropoutMasks
from alexnet_cli.types import PixelStats


class TrainStep:
    """A network in training, with its optimizer, averaged weights and augmentation."""

    def __init__(self, recipe: Recipe, num_classes: int, stats: PixelStats, runtime: Runtime):
        self.recipe, self.num_classes, self.stats = recipe, num_classes, stats
        self.runtime = runtime
        runtime.configure_torch()
        torch.backends.cudnn.benchmark = True  # every batch of an epoch but the last has one shape
        self.net = build_network(recipe, num_classes, runtime.devices)
        freeze(recipe, self.net)
        self.optimizer = build_optimizer(recipe, self.net)
        self.ema = AveragedWeights(self.net, recipe)
        self.augmenter = Augmenter(recipe, stats, runtime.device)
        self.masks = DropoutMasks(self.net)
        self.class_weights: Tensor | None = None
        if runtime.compiled:
            self.net.compile()
        self._forward = runtime.replicas.wrap(self.net, runtime.devices)

    def order_of(self, epoch: int) -> tuple[int, int] | None:
        """Return the seed of the order of an epoch's images; None for stored order."""
        return (self.recipe.seed, epoch) if self.recipe.reshuffle else None

    def balance_classes(self, labels: np.ndarray) -> None:
        """Weigh each image's loss so that every class counts alike; labels of all images."""
        counts = np.bincount(labels, minlength=self.num_classes)
        weights = len(labels) / (self.num_classes * np.maximum(counts, 1))
        on_cpu = torch.from_numpy(weights.astype(np.float32))
        self.class_weights = on_cpu.to(self.runtime.device)

    def begin(self, source: Checkpoint | None = None, *, same_classes: bool = False) -> list[str]:
        """Draw the first weights, the same on one device and on two.

        Args:
            source: a checkpoint; the layers that the recipe names are copied from it.
            same_classes: whether it has the classes of this network.

        Returns:
            The names of the imported layers.

        Raises:
            CheckpointError: if the source lacks a layer that the recipe names.
        """
        whole = AlexNet(self.recipe, self.num_classes)
        initialize(whole, self.recipe.seed)
        imported = []
        if source:
            imported = copy_layers(whole, source.weights, same_classes=same_classes)
        load_whole_state(self.net, whole_state(whole))
        self.ema.reset()
        return imported

    def restore(self, checkpoint: Checkpoint) -> None:
        """Load weights, optimizer state and averaged weights of a checkpoint.

        Raises:
            CheckpointError: if they do not fit the recipe's network.
        """
        for kind in ("weights", "ema", "optimizer"):
            arrays = getattr(checkpoint, kind)
            state = {name: torch.from_numpy(array) for name, array in arrays.items()}
            try:
                if kind == "weights":
                    load_whole_state(self.net, state)
                elif kind == "optimizer":
                    load_optimizer_state(self.net, self.optimizer, state)
                elif self.ema.tensors:
                    load_whole_state(self.net, state, self.ema.tensors)
            except (LookupError, ValueError) as error:
                raise CheckpointError(f"its {kind} does not fit its recipe ({error}).") from error

    def checkpoint(
        self, dataset: Dataset, state: TrainState, init_from: dict[str, str]
    ) -> Checkpoint:
        """Return a copy of everything that a resumed run needs."""
        copies = {name: self._copied(tensors) for name, tensors in self._states().items()}
        weights = copies.pop("weights")
        ema = copies.pop("ema", {})
        optimizer = {
            f"{name}.{kind}": array
            for kind, arrays in copies.items()
            for name, array in arrays.items()
        }
        stats = self.stats
        return Checkpoint(
            recipe=self.recipe,
            weights=weights,
            optimizer=optimizer,
            ema=ema,
            pixels={
                "mean_image": stats.mean_image,
                "eigenvalues": stats.eigenvalues,
                "eigenvectors": stats.eigenvectors,
            },
            classes=[(entry.wnid, entry.name) for entry in dataset.classes],
            fingerprint=dataset.fingerprint,
            train_state=copy.deepcopy(state),
            init_from=init_from,
            rules=dataset.rules,
        )

    def _copied(self, tensors: list[Tensor] | None) -> dict[str, np.ndarray]:
        """Return tensors of the whole network that share no memory with this one's."""
        on_cpu = [t for t in tensors or self.net.parameters() if t.device.type == "cpu"]
        ours = {t.untyped_storage().data_ptr() for t in on_cpu}
        state = whole_state(self.net, tensors)
        is_ours = {name: t.untyped_storage().data_ptr() in ours for name, t in state.items()}
        return {name: (t.clone() if is_ours[name] else t).numpy() for name, t in state.items()}

    def checksums(self) -> dict[str, int]:
        """Return a CRC-32 of the weights, of the momentum buffers, and of any averaged weights."""
        found = {}
        for kind, tensors in self._states().items():
            crc = 0
            for name, tensor in sorted(whole_state(self.net, tensors).items()):
                values: Any = tensor.numpy()
                crc = zlib.crc32(values, zlib.crc32(name.encode(), crc))
            found[kind] = crc
        return found

    def count_not_finite(self) -> dict[str, int]:
        """Return the number of values that are not finite, by tensor, without the zeros."""
        counts = {
            f"{kind} {name}": int(tensor.isfinite().logical_not().sum())
            for kind, tensors in self._states().items()
            for name, tensor in whole_state(self.net, tensors).items()
        }
        return {name: count for name, count in counts.items() if count}

    def _states(self) -> dict[str, list[Tensor] | None]:
        """Return what a checkpoint contains of the network: one tensor for each parameter."""
        states = {"weights": None} | state_tensors(self.optimizer, self.net)
        return states | ({"ema": self.ema.tensors} if self.ema.tensors else {})

    def loss(self, batch: OnDevice, state: TrainState, num: int, tally: Tensor) -> Tensor:
        """Compute the loss of this replica's share of a batch.

        Args:
            num: images in the whole batch.
            tally: (3,) on the first device, of `sums_dtype`: sum of losses, number of errors,
                number of images. Those of the share are added.

        Returns:
            The share's part of the mean loss, so that the replicas' mean gradient is the batch's.
        """
        images, labels = batch
        rows = self.runtime.replicas.share.rows(num)
        rng = np.random.default_rng([self.recipe.seed, state.epoch, state.step, 0xA06])
        self.masks.draw(rng, rows, num)
        self.net.train()
        crops = self.augmenter.random(
            images, rng, with_noise=self._has_noise(state.epoch), part=(rows, num)
        )
        with autocast(self.runtime.device, self.runtime.precision):
            scores = self._forward(crops)
        scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
        loss = F.cross_entropy(
            scores,
            labels,
            weight=None if self.class_weights is None else self.class_weights.to(scores.dtype),
            reduction="sum",
            label_smoothing=self.recipe.label_smoothing,
        )
        tally[0] += loss.detach()
        tally[1] += (scores.detach().argmax(dim=1) != labels).sum()
        tally[2] += len(labels)
        return loss * (self.runtime.replicas.world_size / num)

    def _has_noise(self, epoch: int) -> bool:
        last = self.recipe.color_noise_epochs
        return not last or epoch < last

    def update(self, loss: Tensor, rates: LearningRates, num_updates: int) -> None:
        """Update the weights by the gradient of a loss; this is update number `num_updates`."""
        self.optimizer.zero_grad()
        loss.backward()
        set_learning_rates(self.optimizer, rates)
        self.optimizer.step()
        self.ema.update(num_updates)
