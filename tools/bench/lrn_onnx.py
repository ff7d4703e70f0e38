"""Which ONNX form of local response normalization does onnxruntime run fastest?

Runs the paper's whole network, images to probabilities, once per form of its two LRN layers, one
form after the other in each round, and prints times and ratios to `stock`: torch.onnx.export of the
same network with torch.nn.LocalResponseNorm. Takes two minutes on two cores:

    python tools/bench/lrn_onnx.py [--rounds 15] [--batches 1 32] [--threads 2]
"""

import argparse
import io
import time
import warnings
from collections.abc import Callable

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from alexnet_cli.model.network import AlexNet, initialize
from alexnet_cli.onnx.graph import BATCH, INPUT, OPSET, OUTPUT, build_graph
from alexnet_cli.recipes.recipe import PAPER

CLASSES, IMAGE_SIZE, CROP = 1000, 256, PAPER.crop_size
CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"
MEAN = np.full((IMAGE_SIZE, IMAGE_SIZE, 3), 110.0, np.float32)
# The paper's constants for LRN as ONNX and torch define it: they divide alpha by size.
LRN = {
    "size": PAPER.lrn_size,
    "alpha": PAPER.lrn_alpha * PAPER.lrn_size,
    "beta": PAPER.lrn_beta,
    "bias": PAPER.lrn_k,
}


class Layer:
    """Replacement nodes for one LRN layer, which reads `x`, (N, channels, side, side)."""

    def __init__(self, name: str, x: str, channels: int, side: int):
        self.name, self.x, self.channels, self.side = name, x, channels, side
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[TensorProto] = []

    def constant(self, name: str, values: object, dtype: type = np.float32) -> str:
        array = np.asarray(values, dtype)
        self.constants.append(numpy_helper.from_array(array, f"{self.name}/{name}"))
        return f"{self.name}/{name}"

    def add(self, operator: str, name: str, *inputs: str, outputs: int = 1, **attributes) -> str:
        """Add a node; the one named "" gives the layer's output."""
        full = f"{self.name}/{name}" if name else self.name
        names = [full] if outputs == 1 else [f"{full}{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(operator, inputs, names, full, **attributes))
        return full


def lrn_nodes(layer: Layer) -> None:
    """ONNX's own node on each column: Split, LRN twice, Concat."""
    columns = layer.add("Split", "column", layer.x, outputs=2, axis=1)
    halves = [layer.add("LRN", f"norm{i}", f"{columns}{i}", **LRN) for i in range(2)]
    layer.add("Concat", "", *halves, axis=1)


def lrn_reshaped(layer: Layer) -> None:
    """ONNX's own node once, with the columns moved into the batch."""
    channels, side = layer.channels, layer.side
    inner = layer.constant("inner", [-1, channels // 2, side, side], np.int64)
    outer = layer.constant("outer", [-1, channels, side, side], np.int64)
    columns = layer.add("Reshape", "columns", layer.x, inner)
    layer.add("Reshape", "", layer.add("LRN", "norm", columns, **LRN), outer)


def pool_roots(layer: Layer) -> None:
    """Window sums by average pooling along the channels."""
    inner = layer.constant("inner", [0, 2, layer.channels // 2, layer.side**2], np.int64)
    outer = layer.constant("outer", [0, layer.channels, layer.side, layer.side], np.int64)
    square = layer.add("Reshape", "flat", layer.add("Mul", "square", layer.x, layer.x), inner)
    window = {"kernel_shape": [5, 1], "pads": [2, 0, 2, 0], "count_include_pad": 1}
    mean = layer.add("Reshape", "mean", layer.add("AveragePool", "pool", square, **window), outer)
    alpha = layer.add("Mul", "alpha", mean, layer.constant("size_alpha", LRN["alpha"]))
    two_roots(layer, layer.add("Add", "scale", alpha, layer.constant("k", LRN["bias"])))


def band_conv(layer: Layer, groups: int) -> str:
    """k + alpha * sum as a 1x1 convolution; one group is a matrix with a block for each column."""
    own = np.arange(layer.channels // 2)
    band = (np.abs(own[None] - own[:, None]) <= PAPER.lrn_size // 2) * PAPER.lrn_alpha
    matrix = np.tile(band, (2, 1)) if groups == 2 else np.kron(np.eye(2), band)
    window = layer.constant("window", matrix[:, :, None, None])
    k = layer.constant("k", [PAPER.lrn_k] * layer.channels)
    square = layer.add("Mul", "square", layer.x, layer.x)
    return layer.add("Conv", "scale", square, window, k, group=groups)


def power(layer: Layer, scale: str) -> None:
    exponent = layer.constant("exponent", -PAPER.lrn_beta)
    layer.add("Mul", "", layer.x, layer.add("Pow", "power", scale, exponent))


def logarithm(layer: Layer, scale: str) -> None:
    product = layer.add("Mul", "m", layer.add("Log", "log", scale), layer.constant("beta", -0.75))
    layer.add("Mul", "", layer.x, layer.add("Exp", "power", product))


def root_product(layer: Layer, scale: str) -> None:
    root = layer.add("Sqrt", "root", scale)
    product = layer.add("Mul", "product", root, layer.add("Sqrt", "fourth_root", root))
    layer.add("Div", "", layer.x, product)


def two_roots(layer: Layer, scale: str) -> None:
    root = layer.add("Sqrt", "root", scale)
    fourth_root = layer.add("Sqrt", "fourth_root", root)
    layer.add("Div", "", layer.add("Div", "over_root", layer.x, root), fourth_root)


FORMS: dict[str, Callable[[Layer], None]] = {
    "LRN node per column": lrn_nodes,
    "LRN node, reshaped": lrn_reshaped,
    "AveragePool, Sqrt Sqrt Div Div": pool_roots,
    "band Conv 1 group, Pow Mul": lambda layer: power(layer, band_conv(layer, 1)),
    "band Conv 2 groups, Pow Mul": lambda layer: power(layer, band_conv(layer, 2)),
    "band Conv 2 groups, Log Mul Exp Mul": lambda layer: logarithm(layer, band_conv(layer, 2)),
    "band Conv 1 group, Sqrt Sqrt Div Div": lambda layer: two_roots(layer, band_conv(layer, 1)),
    "band Conv 2 groups, Sqrt Sqrt Mul Div": lambda layer: root_product(layer, band_conv(layer, 2)),
    "no norm at all (the bound)": lambda layer: layer.add("Identity", "", layer.x),
}


def with_form(model: onnx.ModelProto, form: Callable[[Layer], None]) -> onnx.ModelProto:
    """Return the model with the nodes of its LRN layers replaced."""
    result, nodes = onnx.ModelProto(), []
    result.CopyFrom(model)
    layers = [
        Layer("norm1", "relu1", PAPER.conv1.filters, 55),
        Layer("norm2", "relu2", PAPER.conv2.filters, 27),
    ]
    for node in model.graph.node:
        owner = next((layer for layer in layers if node.name.startswith(layer.name)), None)
        if owner is None:
            nodes.append(node)
        elif not owner.nodes:
            form(owner)
            nodes += owner.nodes
    kept = [c for c in model.graph.initializer if not c.name.startswith(("norm1", "norm2"))]
    del result.graph.node[:], result.graph.initializer[:]
    result.graph.node.extend(nodes)
    result.graph.initializer.extend([*kept, *(c for layer in layers for c in layer.constants)])
    onnx.checker.check_model(result)
    return result


class StockNetwork(nn.Module):
    """The network as torch users export it; its LRN crosses the columns, which is less work."""

    def __init__(self, net: AlexNet):
        super().__init__()
        self.net = net
        for name in ("norm1", "norm2"):
            setattr(
                net, name, nn.LocalResponseNorm(LRN["size"], LRN["alpha"], LRN["beta"], LRN["bias"])
            )
        self.register_buffer("mean", torch.full((1, 3, CROP, CROP), 110.0))

    def forward(self, images: Tensor) -> Tensor:
        start = (IMAGE_SIZE - CROP) // 2
        crops = images[:, start : start + CROP, start : start + CROP]
        return self.net(crops.permute(0, 3, 1, 2).float() - self.mean).softmax(1)


def export_stock(net: AlexNet) -> bytes:
    images, file = torch.zeros(2, IMAGE_SIZE, IMAGE_SIZE, 3, dtype=torch.uint8), io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # this exporter is on its way out; the other needs onnxscript
        torch.onnx.export(
            StockNetwork(net).eval(),
            (images,),
            file,
            dynamo=False,
            opset_version=OPSET,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_axes={INPUT: {0: BATCH}, OUTPUT: {0: BATCH}},
        )
    return file.getvalue()


def build_models() -> dict[str, bytes]:
    """Return every variant, the same weights in all."""
    net = AlexNet(PAPER, CLASSES)
    initialize(net, seed=0)
    weights = {name: value.numpy().copy() for name, value in net.state_dict().items()}
    ours = build_graph(PAPER, weights, MEAN, views=1, metadata={})
    variants = {name: with_form(ours, form).SerializeToString() for name, form in FORMS.items()}
    return {"stock": export_stock(net), "graph.py": ours.SerializeToString(), **variants}


def open_sessions(
    models: dict[str, bytes], provider: str, threads: int
) -> dict[str, onnxruntime.InferenceSession]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    # Threads that spin on after one variant's run would slow the next one's.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    providers = [provider] if provider == CPU else [provider, CPU]
    return {
        name: onnxruntime.InferenceSession(model, options, providers=providers)
        for name, model in models.items()
    }


def has_cuda() -> bool:
    """Tell whether onnxruntime can really run on a GPU here: a session says what it got."""
    if not torch.cuda.is_available():
        return False
    onnxruntime.preload_dlls()
    relu = helper.make_node("Relu", ["x"], ["y"])
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    graph = helper.make_graph([relu], "probe", ends[:1], ends[1:])
    opsets = [helper.make_opsetid("", OPSET)]
    probe = helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()
    session = onnxruntime.InferenceSession(probe, providers=[CUDA, CPU])
    return session.get_providers()[0] == CUDA


def measure(
    sessions: dict[str, onnxruntime.InferenceSession], batch: int, rounds: int
) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """Return each variant's seconds by round, and its difference from graph.py's result."""
    shape = (batch, IMAGE_SIZE, IMAGE_SIZE, 3)
    inputs = {INPUT: np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)}
    outputs = {name: session.run(None, inputs)[0] for name, session in sessions.items()}
    reference = outputs["graph.py"]
    differences = {name: float(np.abs(y - reference).max()) for name, y in outputs.items()}
    seconds = {name: np.empty(rounds) for name in sessions}
    for i in range(rounds):
        for name, session in sessions.items():
            start = time.perf_counter()
            session.run(None, inputs)
            seconds[name][i] = time.perf_counter() - start
    return seconds, differences


def report(seconds: dict[str, np.ndarray], differences: dict[str, float], batch: int) -> None:
    stock = seconds["stock"]
    print(f"{'form':40} {'ms':>8} {'best ms':>8} {'images/s':>9} {'x stock':>8} {'max diff':>9}")
    for name, times in seconds.items():
        typical, ratio = np.median(times), np.median(stock / times)
        print(
            f"{name:40} {typical * 1e3:8.1f} {times.min() * 1e3:8.1f} {batch / typical:9.1f} "
            f"{ratio:8.2f} {differences[name]:9.1e}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 32])
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    models = build_models()
    for provider in [CPU, CUDA] if has_cuda() else [CPU]:
        sessions = open_sessions(models, provider, arguments.threads)
        for batch in arguments.batches:
            print(f"\n{provider}, batch {batch}, {arguments.threads} threads", flush=True)
            report(*measure(sessions, batch, arguments.rounds), batch)


if __name__ == "__main__":
    main()
