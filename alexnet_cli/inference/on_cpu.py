"""A trained network on the CPU and single image files, for figures of them."""

from pathlib import Path

import numpy as np

from alexnet_cli.distributed.device_plan import Runtime, choose_devices
from alexnet_cli.distributed.runtime_config import RuntimeConfig
from alexnet_cli.errors import ImageError, InputError
from alexnet_cli.inference.classifier import Classifier, load_classifier
from alexnet_cli.inference.images import to_pixels
from alexnet_cli.model.checkpoint import Checkpoint


def load_on_cpu(path: Path) -> tuple[Classifier, Checkpoint]:
    """Load a checkpoint or an exported model as one network in fp32.

    Raises:
        CheckpointError: if it cannot be read.
    """
    return load_classifier(path, Runtime(choose_devices(RuntimeConfig("cpu"))))


def read_image(path: Path, classifier: Classifier, checkpoint: Checkpoint) -> np.ndarray:
    """Return an image file as the network was trained on them: uint8 RGB (1, H, W, 3).

    Raises:
        InputError: if it cannot be read.
    """
    size = classifier.augmenter.image_size
    try:
        return to_pixels(path, size, checkpoint.rules)[None].copy()
    except ImageError as error:
        raise InputError(f"{path}: {error.reason}: {error.detail}.") from error
