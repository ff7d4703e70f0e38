"""A trained network with its pixel statistics: uint8 images in, class probabilities out.

N images, V views, H rows, W columns, K classes.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from alexnet_cli.data.transforms import Augmenter
from alexnet_cli.data.views import View, views_of
from alexnet_cli.distributed.device_plan import Runtime
from alexnet_cli.distributed.precision import autocast
from alexnet_cli.errors import CheckpointError
from alexnet_cli.inference.network import load_network
from alexnet_cli.model.architecture import parameter_shapes
from alexnet_cli.model.checkpoint import Checkpoint
from alexnet_cli.model.split import Network, build_network, load_whole_state
from alexnet_cli.types import PixelStats


@dataclass(slots=True)
class Classifier:
    """A network, and how images are prepared for it.

    Attributes:
        precision: arithmetic of the forward pass; probabilities are always float32.
    """

    net: Network
    augmenter: Augmenter
    precision: str = "fp32"

    def probabilities(self, images: np.ndarray, views: list[View]) -> np.ndarray:
        """Return the softmax of every view of uint8 RGB (N, H, W, 3), as float32 (V, N, K)."""
        on_device = torch.from_numpy(images).to(self.augmenter.device)
        return self.on_device(on_device, views).cpu().numpy()

    @torch.inference_mode()
    def on_device(self, images: Tensor, views: list[View]) -> Tensor:
        """Return the same as a tensor on the device, without waiting for a GPU."""
        self.net.eval()
        with autocast(self.augmenter.device, self.precision):
            scores = [self.net(self.augmenter.view(images, view)).float() for view in views]
        return torch.stack(scores).softmax(dim=2)

    def views(self, num_views: int) -> list[View]:
        """Return 1, 9 or 10 views of each image."""
        return views_of(num_views, self.augmenter.image_size, self.augmenter.crop_size)


def load_classifier(path: Path, runtime: Runtime) -> tuple[Classifier, Checkpoint]:
    """Load a checkpoint or an exported model, and build its network.

    Raises:
        CheckpointError: if it is damaged, or its tensors do not fit its recipe.
    """
    checkpoint = load_network(path)
    return build_classifier(checkpoint, runtime, path), checkpoint


def build_classifier(checkpoint: Checkpoint, runtime: Runtime, path: Path) -> Classifier:
    """Build the network of a checkpoint; `path` is for messages.

    The precision is set for the whole process: "fp32" switches TensorFloat-32 off in cuDNN.

    Raises:
        CheckpointError: if its tensors do not fit its recipe.
    """
    runtime.configure_torch()
    check_tensors(checkpoint, path)
    net = build_network(checkpoint.recipe, len(checkpoint.classes), runtime.devices)
    weights = {name: torch.from_numpy(tensor) for name, tensor in checkpoint.weights.items()}
    load_whole_state(net, weights)
    try:
        stats = stats_of(checkpoint)
    except KeyError as error:
        raise CheckpointError(f"{path}: its tensors do not fit its recipe ({error}).") from error
    return Classifier(net, Augmenter(checkpoint.recipe, stats, runtime.device), runtime.precision)


def check_tensors(checkpoint: Checkpoint, path: Path) -> None:
    """Check that the weights of a checkpoint fit its recipe; `path` is for messages.

    Raises:
        CheckpointError: naming the first three differences.
    """
    if differences := _differences(checkpoint):
        text = "; ".join(differences[:3]) + ("; ..." if differences[3:] else "")
        raise CheckpointError(f"{path}: its tensors do not fit its recipe ({text}).")


def _differences(checkpoint: Checkpoint) -> list[str]:
    """Describe how the tensors differ from those of the recipe, without building its network."""
    expected = parameter_shapes(checkpoint.recipe, len(checkpoint.classes))
    found = {name: tensor.shape for name, tensor in checkpoint.weights.items()}
    missing = [f"there is no {name}" for name in expected if name not in found]
    others = [
        f"{name} is {found[name]}, not {shape}"
        for name, shape in expected.items()
        if found.get(name, shape) != shape
    ]
    return (
        missing + others + [f"{name} is not part of it" for name in found if name not in expected]
    )


def stats_of(checkpoint: Checkpoint) -> PixelStats:
    """Return the pixel statistics of a checkpoint."""
    pixels = checkpoint.pixels
    return PixelStats(
        pixels["mean_image"],
        pixels["eigenvalues"],
        pixels["eigenvectors"],
        0,
        checkpoint.fingerprint,
    )
