"""A network on onnxruntime: torch is not imported."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from alexnet_cli.inference.model import Model, ModelInfo, shown_classes
from alexnet_cli.inference.network import open_for_onnxruntime
from alexnet_cli.model.architecture import Layer
from alexnet_cli.onnx.model_file import OnnxFile
from alexnet_cli.onnx.parameters import layer_parameters
from alexnet_cli.onnx.runtime import CPU, open_classifier, open_layer_session, run_session


class OnnxModel(Model):
    """An exported network, or a checkpoint's."""

    def __init__(self, file: OnnxFile, views: int | None, device: str) -> None:
        self._classifier = open_classifier(file, device, views or file.info.views)
        about, provider = self._classifier.info, self._classifier.provider
        classes = shown_classes(about.classes)
        engine = f"onnxruntime {provider.removesuffix('ExecutionProvider')}"
        super().__init__(
            ModelInfo(
                file.path,
                about.recipe,
                classes,
                about.image_size,
                self._classifier.views,
                engine,
                provider != CPU,
                about.rules,
            )
        )
        self._device = device
        self._layer_session: tuple[str, Any] = ("", None)  # has copies of weights; one is enough

    def __reduce__(self) -> tuple[Callable[..., "OnnxModel"], tuple[Path, int, str]]:
        """Copies, also those in other processes, open the file again."""
        return _open, (self.info.path.absolute(), self.info.num_views, self._device)

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        return self._classifier.probabilities(images)

    def outputs_of(self, layer: str, images: np.ndarray) -> np.ndarray:
        found = self._find(layer)
        if found.kind == "dropout":  # no node of the graph, and the next weights are scaled by it
            before = self.layers[self.layers.index(layer) - 1]
            return self.outputs_of(before, images) * np.float32(1.0 - found.dropout)
        opened, session = self._layer_session  # once: other threads may replace it
        if opened != layer:
            session = open_layer_session(self._classifier.file, layer, self._device)
            self._layer_session = (layer, session)
        return run_session(session, None, images, self.info.path)[0]

    def parameters_of(self, layer: Layer) -> dict[str, np.ndarray]:
        return layer_parameters(self._classifier.file, layer)


def _open(path: Path, views: int, device: str) -> OnnxModel:
    return OnnxModel(open_for_onnxruntime(path), views, device)
