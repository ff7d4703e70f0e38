"""A trained network ready to classify images: a checkpoint on torch, or an ONNX model without it.

    from alexnet_cli import load_model

    model = load_model("model.onnx")
    for result in model.predict(["cat.jpg", "dog.jpg"]):
        print(result.name, result.probability)

N images, H rows, W columns, K classes.
"""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np

from alexnet_cli.data.imagenet_classes import shown_name
from alexnet_cli.errors import ImageError, UsageError, did_you_mean
from alexnet_cli.inference.images import ImageLike, Images, named_images, to_pixels
from alexnet_cli.inference.results import ImageResult, Prediction
from alexnet_cli.io.cores import num_cores
from alexnet_cli.model.architecture import Layer, last_hidden_layer, layers_of
from alexnet_cli.recipes.recipe import Recipe
from alexnet_cli.types import USUAL_RULES, DecodeRules, ImageClass

CROPS_PER_BATCH = {"cpu": 32, "gpu": 512}  # images times views
BATCHES_AHEAD = 2  # that are decoded while one is computed


@dataclass(frozen=True, slots=True)
class ModelLayer:
    """One layer of a trained network.

    Attributes:
        kind: such as "conv", "norm" or "dense".
        output: shape of its output for one image.
        parameters: float32 arrays by name, in torch's shapes; copies of the network's.
    """

    name: str
    kind: str
    output: tuple[int, ...]
    parameters: dict[str, np.ndarray]

    @property
    def weight(self) -> np.ndarray:
        """Kernels (filters, channels, rows, columns) or weights (outputs, inputs), float32.

        Raises:
            UsageError: if the layer has none.
        """
        return self._parameter("weight")

    @property
    def bias(self) -> np.ndarray:
        """float32 (filters,) or (outputs,).

        Raises:
            UsageError: if the layer has none.
        """
        return self._parameter("bias")

    def _parameter(self, name: str) -> np.ndarray:
        if name not in self.parameters:
            raise UsageError(f"layer {self.name} has no {name}.")
        return self.parameters[name]


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What a model is, besides its weights.

    Attributes:
        classes: in label order.
        image_size: side of the square that images are resized and cut to.
        num_views: how many views of an image are averaged.
        runtime: library and device that compute, for messages.
        is_gpu: whether they compute on a GPU.
        rules: how image files were decoded for its training.
    """

    path: Path
    recipe: Recipe
    classes: tuple[ImageClass, ...]
    image_size: int
    num_views: int
    runtime: str
    is_gpu: bool
    rules: DecodeRules = USUAL_RULES


def shown_classes(classes: list[tuple[str, str]]) -> tuple[ImageClass, ...]:
    """Return the (wnid, name) of a file as classes, with ImageNet's words for bare wnids."""
    return tuple(ImageClass(wnid, shown_name(wnid, name)) for wnid, name in classes)


class Model(ABC):
    """A trained network; `load_model` opens one."""

    def __init__(self, info: ModelInfo) -> None:
        self.info = info

    def __repr__(self) -> str:
        info = self.info
        return f"<{info.recipe.name} of {len(info.classes)} classes, {info.path}, {info.runtime}>"

    @property
    def classes(self) -> tuple[ImageClass, ...]:
        """The classes in label order, each with its `wnid` and `name`."""
        return self.info.classes

    @property
    def layers(self) -> tuple[str, ...]:
        """The names of all layers, from the image to the class scores."""
        return tuple(layer.name for layer in self._layers())

    @abstractmethod
    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """Map uint8 RGB (N, H, W, 3) of `info.image_size` pixels to float32 (N, K).

        Raises:
            CheckpointError: if the model fails.
            MachineError: if memory is full, or the GPU failed.
        """

    @abstractmethod
    def outputs_of(self, layer: str, images: np.ndarray) -> np.ndarray:
        """Return a layer's output for the center view of uint8 RGB (N, H, W, 3), float32 (N, ...).

        Errors are those of `probabilities`.
        """

    @abstractmethod
    def parameters_of(self, layer: Layer) -> dict[str, np.ndarray]:
        """Return the parameters of one layer by name, in torch's shapes."""

    def predict(
        self,
        images: Images,
        *,
        top: int = 5,
        min_probability: float = 0.0,
    ) -> list[ImageResult]:
        """Classify images: paths, folders, open files, arrays, PIL images or samples.

        Arrays are uint8, RGB (H, W, 3) or gray (H, W).

        Args:
            top: maximum number of classes for each image.
            min_probability: less probable classes are left out.

        Returns:
            One result per image in the order given; one that could not be read has an `error`.

        Raises:
            UsageError: if a folder has no images, something is no image, or a limit is no limit.
            MachineError: if memory is full, or the GPU failed.
        """
        named = named_images(images)
        return list(self.predict_each(named, top=top, min_probability=min_probability))

    def predict_each(
        self,
        images: Iterable[tuple[str, ImageLike]],
        *,
        top: int = 5,
        min_probability: float = 0.0,
    ) -> Iterator[ImageResult]:
        """Yield the result of each of many images, in memory that does not grow with their number.

        Images are decoded by threads while the batch before them is computed.

        Args:
            images: (name, image).
            top, min_probability: as `predict` takes them.

        Raises:
            UsageError, MachineError: as `predict` does.
        """
        if top < 1:
            raise UsageError(f"top {top}: at least 1 class.")
        if not 0 <= min_probability <= 1:
            raise UsageError(f"min_probability {min_probability}: a probability is 0 to 1.")
        for name, found in self._computed(images, self.probabilities):
            if isinstance(found, ImageError):
                yield ImageResult(name, (), found.problem)
            else:
                yield ImageResult(name, self._top(found, top, min_probability))

    def features(self, images: Images, layer: str | None = None) -> np.ndarray:
        """Return a layer's output for the center view of images, float32 (N, ...).

        Args:
            images: as `predict` takes them.
            layer: one of `layers`; by default the last hidden layer after its activation, for the
                paper's network relu7, 4,096 values (section 6.1).

        Raises:
            ImageError: if an image cannot be read.
            UsageError: if there is no such layer, or a folder has no images.
        """
        default = last_hidden_layer(self.info.recipe, len(self.classes))
        name = self._find(layer or default).name
        rows = []
        for image, found in self.features_each(named_images(images), name):
            if isinstance(found, ImageError):
                raise found.replaced(problem=f"{image}: {found.problem}") from found
            rows.append(found)
        return np.stack(rows) if rows else np.empty((0, *self._find(name).output), np.float32)

    def features_each(
        self, images: Iterable[tuple[str, ImageLike]], layer: str
    ) -> Iterator[tuple[str, np.ndarray | ImageError]]:
        """Return the name and features of each of many images, or why it could not be read.

        Images are decoded by threads while the batch before them is computed.

        Args:
            images: (name, image).
            layer: one of `layers`.
        """
        return self._computed(images, partial(self.outputs_of, layer))

    def layer(self, name: str) -> ModelLayer:
        """Return a layer with its parameters, such as `model.layer("conv1").weight`.

        Raises:
            UsageError: if there is no such layer.
        """
        found = self._find(name)
        return ModelLayer(name, found.kind, tuple(found.output), self.parameters_of(found))

    def _layers(self) -> list[Layer]:
        return layers_of(self.info.recipe, len(self.classes))

    def _find(self, name: str) -> Layer:
        for layer in self._layers():
            if layer.name == name:
                return layer
        layers = f"Layers: {', '.join(self.layers)}."
        near = did_you_mean(name, self.layers, layers)
        raise UsageError(f"no layer {name!r}.", hint=near)

    def _top(self, probs: np.ndarray, num: int, least: float) -> tuple[Prediction, ...]:
        order = np.argsort(-probs, kind="stable")[:num].tolist()
        named = ((label, self.classes[label], float(probs[label])) for label in order)
        return tuple(
            Prediction(label, entry.wnid, entry.name, prob)
            for label, entry, prob in named
            if prob >= least
        )

    def _computed(
        self, images: Iterable[tuple[str, ImageLike]], compute: Callable[[np.ndarray], np.ndarray]
    ) -> Iterator[tuple[str, np.ndarray | ImageError]]:
        """Yield the name of each image, and its row of what is computed of a batch (N, H, W, 3)."""
        for batch in self._decoded_batches(images):
            good = [pixels for _, pixels in batch if isinstance(pixels, np.ndarray)]
            rows = iter(compute(np.stack(good)) if good else ())
            for name, pixels in batch:
                yield name, next(rows) if isinstance(pixels, np.ndarray) else pixels

    def _decoded_batches(
        self, images: Iterable[tuple[str, ImageLike]]
    ) -> Iterator[list[tuple[str, np.ndarray | ImageError]]]:
        crops = CROPS_PER_BATCH["gpu" if self.info.is_gpu else "cpu"]
        size, queue = max(1, crops // self.info.num_views), iter(images)
        waiting: deque[tuple[str, Future]] = deque()
        with ThreadPoolExecutor(num_cores(), "decode") as pool:

            def decode_ahead() -> None:
                for name, image in islice(queue, (1 + BATCHES_AHEAD) * size - len(waiting)):
                    waiting.append((name, pool.submit(self._decode, image)))

            try:
                decode_ahead()
                while waiting:
                    names = [waiting.popleft() for _ in range(min(size, len(waiting)))]
                    batch = [(name, future.result()) for name, future in names]
                    decode_ahead()
                    yield batch
            finally:
                for _, future in waiting:
                    future.cancel()

    def _decode(self, image: ImageLike) -> np.ndarray | ImageError:
        try:
            return to_pixels(image, self.info.image_size, self.info.rules)
        except ImageError as error:
            return error
