"""The ONNX model zoo's bvlcalexnet and caffenet: Caffe's weights in the order of their nodes.

Only weights are taken from the file; its graph is compared and never run. Unlike the zoo, the
network reads crops of 227 pixels as Caffe's does: on its crops of 224 the maps of conv5 end at
another place of the image.
"""

from pathlib import Path

import numpy as np

from alexnet_cli.errors import brief
from alexnet_cli.pretrained.caffe import CaffeLayer, arrange
from alexnet_cli.pretrained.weights import Imported, UnknownNetworkError

SILENT = ("Constant", "ConstantOfShape", "Reshape", "Flatten", "Softmax")


def read_onnx(path: Path, mean: np.ndarray | None = None) -> Imported:
    """Return the network of an ONNX file of the zoo.

    Raises:
        UnknownNetworkError: if it holds another network, or its weights are not in the file.
    """
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load(str(path), load_external_data=False)
    except (DecodeError, ValueError) as error:
        raise UnknownNetworkError(f"its fields cannot be read ({brief(error)})") from error
    constants = {constant.name: constant for constant in model.graph.initializer}
    layers = []
    for node in model.graph.node:
        if node.op_type in SILENT:
            continue
        layer = CaffeLayer(node.op_type)
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        if node.op_type in ("Conv", "Gemm"):
            if node.op_type == "Gemm" and not attributes.get("transB"):
                raise UnknownNetworkError("a Gemm without transB")
            layer.blobs = [_values(constants.get(name), name) for name in node.input[1:]]
        if node.op_type == "LRN":
            layer.lrn = {
                "size": attributes.get("size", 0),
                "alpha": attributes.get("alpha", 1e-4),
                "beta": attributes.get("beta", 0.75),
                "k": attributes.get("bias", 1.0),
            }
        layers.append(layer)
    return arrange(layers, mean)


def _values(constant: object, name: str) -> np.ndarray:
    from onnx import TensorProto, numpy_helper

    if not isinstance(constant, TensorProto):
        raise UnknownNetworkError(f"{name} is not in the file")
    if constant.data_location == TensorProto.EXTERNAL or constant.data_type != TensorProto.FLOAT:
        raise UnknownNetworkError(f"{name} is not float32 inside the file")
    try:
        return numpy_helper.to_array(constant)
    except ValueError as error:
        raise UnknownNetworkError(f"{name} is damaged ({brief(error)})") from error
