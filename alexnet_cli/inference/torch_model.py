"""A checkpoint on torch."""

from pathlib import Path

import numpy as np
import torch

from alexnet_cli.distributed.device_plan import Runtime, choose_devices
from alexnet_cli.distributed.oom_errors import friendly_oom_errors
from alexnet_cli.distributed.runtime_config import RuntimeConfig
from alexnet_cli.errors import hint
from alexnet_cli.inference.classifier import load_classifier
from alexnet_cli.inference.features import features_of
from alexnet_cli.inference.model import Model, ModelInfo, shown_classes
from alexnet_cli.model.architecture import Layer

ADVICE = hint("free_memory")


class TorchModel(Model):
    """The network of a checkpoint on one device."""

    def __init__(self, path: Path, views: int, device: str) -> None:
        with friendly_oom_errors(1, ADVICE):
            runtime = Runtime(choose_devices(RuntimeConfig(device)))
            self._classifier, checkpoint = load_classifier(path, runtime)
        self._views = self._classifier.views(views)
        classes = shown_classes(checkpoint.classes)
        super().__init__(
            ModelInfo(
                path,
                checkpoint.recipe,
                classes,
                self._classifier.augmenter.image_size,
                views,
                f"torch {runtime.device}",
                runtime.device.type != "cpu",
                checkpoint.rules,
            )
        )

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        with friendly_oom_errors(len(images), ADVICE):
            return self._classifier.probabilities(images, self._views).mean(axis=0)

    def outputs_of(self, layer: str, images: np.ndarray) -> np.ndarray:
        on_device = torch.from_numpy(images).to(self._classifier.augmenter.device)
        with friendly_oom_errors(len(images), ADVICE):
            return features_of(self._classifier, on_device, layer).contiguous().cpu().numpy()

    def parameters_of(self, layer: Layer) -> dict[str, np.ndarray]:
        module: torch.nn.Module = self._classifier.net.get_submodule(layer.name)
        return {
            name: parameter.detach().cpu().contiguous().numpy().copy()
            for name, parameter in module.named_parameters()
        }
