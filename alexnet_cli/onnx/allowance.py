"""What an ONNX model may ask for, looked at before onnxruntime sees it.

Models come from anywhere. One of a few hundred bytes can ask for gigabytes and hours, also while
onnxruntime only opens it: it computes what depends on constants alone.
"""

import math
from collections import Counter

import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto, numpy_helper

# What graph.py and norms.py write, in this version and those before.
OPERATORS = {"Cast", "Concat", "Flatten", "Reshape", "Slice", "Split", "Transpose"}
OPERATORS |= {"AveragePool", "Conv", "Gemm", "MatMul", "MaxPool", "ReduceMean", "Softmax"}
OPERATORS |= {"Add", "Div", "Mul", "Pow", "Relu", "Sigmoid", "Sqrt", "Sub", "Tanh"}
DOMAINS = ("", "ai.onnx")
PLAIN = {"name", "type", "doc_string", "i", "ints", "f", "s"}  # fields of an attribute
LARGEST_INT = 1 << 16  # of an attribute: kernels, pads, permutations
PARTS = 2000  # nodes and constants; ten views of the paper's network have 90
MEMORY_BYTES = 1 << 30  # of values at one time, besides the file; the paper's take 0.15e9
WORK = 5 * 10**11  # multiplications; the paper's network takes 0.4e11
PASSING = 30  # multiplications that take as long as a value that is read or written


def read_skeleton(skeleton: bytes) -> onnx.ModelProto:
    """Return a model without long values (`skeleton_of`).

    Raises:
        ValueError: it is none.
    """
    try:
        model = onnx.ModelProto.FromString(skeleton)
    except DecodeError as error:
        raise ValueError("it is no ONNX model") from error
    if not model.graph.node:
        raise ValueError("it holds no graph")
    return model


def check_allowed(model: onnx.ModelProto, file_bytes: int, num_images: int) -> None:
    """Refuse a model that is none of ours, or takes more memory or time than one of ours could.

    Args:
        model: as `read_skeleton` returns it; its batch is fixed here.
        file_bytes: size of the whole file.
        num_images: how many it will be given at once, at most.

    Raises:
        ValueError: it is; the message says why.
    """
    _check_parts(model)
    for node in model.graph.node:
        _check_node(node)
    _check_constants(model.graph, file_bytes)
    sizes = _sizes(model, num_images)
    _check_memory(model.graph, sizes, file_bytes)
    _check_work(model.graph, sizes)


def _check_parts(model: onnx.ModelProto) -> None:
    """See that there is one graph of one input, few parts, and no name twice."""
    graph = model.graph
    if model.functions or model.training_info:
        raise ValueError("it has functions of its own")
    if graph.sparse_initializer:
        raise ValueError("it has sparse constants")
    if len(graph.input) != 1 or len(graph.output) != 1:
        raise ValueError(f"it has {len(graph.input)} inputs and {len(graph.output)} outputs")
    if len(graph.node) + len(graph.initializer) > PARTS:
        raise ValueError(f"it has {len(graph.node)} nodes and {len(graph.initializer)} constants")
    names = [graph.input[0].name, *(constant.name for constant in graph.initializer)]
    names += [name for node in graph.node for name in node.output]
    name, count = Counter(names).most_common(1)[0]
    if count > 1:
        raise ValueError(f"it has {name} twice")


def _check_node(node: onnx.NodeProto) -> None:
    """See that an operator is one of ours, and that its attributes are small."""
    if node.op_type not in OPERATORS or node.domain not in DOMAINS:
        name = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
        raise ValueError(f"its operator {name} is none that export writes")
    if node.op_type != "Split" and len(node.output) != 1:
        raise ValueError(f"its {node.op_type} has {len(node.output)} outputs")
    for attribute in node.attribute:
        what = f"{attribute.name} of its {node.op_type}"
        if not {field.name for field, _ in attribute.ListFields()} <= PLAIN:
            raise ValueError(f"{what} is none that export writes")
        if any(abs(number) > LARGEST_INT for number in (attribute.i, *attribute.ints)):
            raise ValueError(f"{what} is too large")
        if node.op_type == "Cast" and attribute.name == "to" and attribute.i != TensorProto.FLOAT:
            raise ValueError("it casts to something other than float32")


def _check_constants(graph: onnx.GraphProto, file_bytes: int) -> None:
    """See that constants lie in the file, whole integers among them in the skeleton too."""
    total = 0
    for constant in graph.initializer:
        if constant.data_location == TensorProto.EXTERNAL or constant.external_data:
            raise ValueError(f"its {constant.name} lies in another file")
        if constant.data_type not in (TensorProto.FLOAT, TensorProto.INT64):
            raise ValueError(f"its {constant.name} is neither float32 nor int64")
        if min(constant.dims, default=1) < 0:
            raise ValueError(f"its {constant.name} has a negative size")
        itemsize = 4 if constant.data_type == TensorProto.FLOAT else 8
        total += itemsize * math.prod(constant.dims)
        if constant.data_type == TensorProto.INT64:
            _check_integers(constant)
    if total > file_bytes:
        raise ValueError("its constants are larger than the file")


def _check_integers(constant: TensorProto) -> None:
    """See that shapes and bounds are short and as many as they say."""
    try:
        numpy_helper.to_array(constant)
    except ValueError as error:
        raise ValueError(f"its {constant.name} holds too few or too many numbers") from error


def _sizes(model: onnx.ModelProto, num_images: int) -> dict[str, tuple[int, ...]]:
    """Return the shape of every value, as ONNX's own rules have it, for a full batch."""
    graph = model.graph
    del graph.value_info[:]
    for value in graph.output:
        value.type.tensor_type.ClearField("shape")
    for dim in graph.input[0].type.tensor_type.shape.dim[:1]:
        dim.dim_value = num_images
    try:
        inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    except onnx.shape_inference.InferenceError as error:
        raise ValueError(f"its sizes do not fit: {' '.join(str(error).split())[:120]}") from error
    sizes = {constant.name: tuple(constant.dims) for constant in graph.initializer}
    for value in (*inferred.input, *inferred.value_info, *inferred.output):
        dims = value.type.tensor_type.shape.dim
        sizes[value.name] = tuple(dim.dim_value for dim in dims)
        if not all(dim.HasField("dim_value") and dim.dim_value > 0 for dim in dims):
            raise ValueError(f"the size of its {value.name} cannot be told")
    names = {name for node in graph.node for name in (*node.input, *node.output)}
    if missing := names - sizes.keys():
        raise ValueError(f"the size of its {min(missing, key=str)} cannot be told")
    return sizes


def _check_memory(
    graph: onnx.GraphProto, sizes: dict[str, tuple[int, ...]], file_bytes: int
) -> None:
    """See that the values that are needed at one time fit; of float32, as all but the images."""
    last_use = {name: place for place, node in enumerate(graph.node) for name in node.input}
    constants = {constant.name for constant in graph.initializer}
    live = 0
    for place, node in enumerate(graph.node):
        live += sum(4 * math.prod(sizes[name]) for name in node.output)
        if live > MEMORY_BYTES + file_bytes:
            raise ValueError(f"its {node.output[0]} needs more memory than is allowed")
        if constants.issuperset(node.input):  # computed when it is opened, and kept
            constants.update(node.output)
            continue
        dead = {name for name in node.input if last_use[name] == place} - constants
        live -= sum(4 * math.prod(sizes[name]) for name in dead - {graph.input[0].name})


def _check_work(graph: onnx.GraphProto, sizes: dict[str, tuple[int, ...]]) -> None:
    """See that it takes seconds."""
    work = 0
    for node in graph.node:
        touched = sum(math.prod(sizes[name]) for name in (*node.input, *node.output))
        products = _terms(node, sizes) * sum(math.prod(sizes[name]) for name in node.output)
        work += PASSING * touched + products
        if work > WORK:
            raise ValueError(f"its {node.output[0]} takes more time than is allowed")


def _terms(node: onnx.NodeProto, sizes: dict[str, tuple[int, ...]]) -> int:
    """Return how many products or values each output of a node sums up or looks at."""
    if node.op_type == "Conv":
        return math.prod(sizes[node.input[1]][1:])
    if node.op_type in ("Gemm", "MatMul"):
        return max(sizes[node.input[0]])  # the inner length, or more
    kernels = (entry.ints for entry in node.attribute if entry.name == "kernel_shape")
    return math.prod(next(kernels, ()))
