"""A model that `alexnet export` wrote, on onnxruntime: torch is not imported."""

from pathlib import Path
from typing import Any

import numpy as np

from alexnet_cli.inference.model import Model, ModelInfo, shown_classes
from alexnet_cli.model.architecture import Layer
from alexnet_cli.onnx.runtime import (
    CPU,
    load_onnx,
    open_layer_session,
    other_views_error,
    read_constants,
)


class OnnxModel(Model):
    """An exported network."""

    def __init__(self, path: Path, views: int | None, device: str) -> None:
        self._classifier = load_onnx(path, device)
        about, provider = self._classifier.info, self._classifier.provider
        if views not in (None, about.views):
            raise other_views_error(path, views, about.views)
        classes = shown_classes(about.classes)
        engine = f"onnxruntime {provider.removesuffix('ExecutionProvider')}"
        super().__init__(
            ModelInfo(
                path,
                about.recipe,
                classes,
                about.image_size,
                about.views,
                engine,
                provider != CPU,
                about.rules,
            )
        )
        self._device = device
        self._layer_session: tuple[str, Any] = ("", None)  # a copy of the weights; one is enough

    def __reduce__(self) -> tuple[type["OnnxModel"], tuple[Path, int, str]]:
        """Copies, also those in other processes, open the file again."""
        return OnnxModel, (self.info.path.absolute(), self.info.num_views, self._device)

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        return self._classifier.probabilities(images)

    def outputs_of(self, layer: str, images: np.ndarray) -> np.ndarray:
        found = self._find(layer)
        if found.kind == "dropout":  # no node of the graph, and the next weights are scaled by it
            before = self.layers[self.layers.index(layer) - 1]
            return self.outputs_of(before, images) * np.float32(1.0 - found.dropout)
        opened, session = self._layer_session  # once: other threads may replace it
        if opened != layer:
            session = open_layer_session(self.info.path, layer, self._device)
            self._layer_session = (layer, session)
        outputs = session.run([layer], {"images": images})[0]
        by_view = outputs.reshape(self.info.num_views, len(images), *outputs.shape[1:])
        center = {1: 0, 9: 4, 10: 2}[self.info.num_views]
        return by_view[center]

    def parameters_of(self, layer: Layer) -> dict[str, np.ndarray]:
        names = [f"{layer.name}.{name}" for name in layer.parameters]
        values = read_constants(self.info.path, names)
        found = {}
        for name, shape in layer.parameters.items():
            array = values[f"{layer.name}.{name}"]
            if layer.kind == "local-conv":  # (P, inputs, filters) and (P, 1, filters) in the graph
                array = array.transpose(2, 1, 0).reshape(shape)
            # In the graph weights are scaled by what dropout kept before them.
            found[name] = (
                array / np.float32(self._kept_before(layer)) if name == "weight" else array
            )
        return found

    def _kept_before(self, layer: Layer) -> float:
        """Return the share that dropout keeps of a layer's inputs."""
        kept = 1.0
        for other in self._layers():
            if other.name == layer.name:
                break
            kept = 1.0 - other.dropout if other.kind == "dropout" else kept
            kept = 1.0 if other.parameters else kept
        return kept
