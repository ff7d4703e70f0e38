"""An ONNX graph as it grows: nodes and constants in the order they are added."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

# onnx 1.12, of 2022: everything here exists in it, and opset 18 is where the reductions change, so
# runtimes and converters old and new read the file.
OPSET, IR_VERSION = 17, 8


class Graph:
    """Nodes and constants in the order they are added; a node and its output share one name."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[TensorProto] = []

    def constant(self, name: str, values: np.ndarray) -> str:
        self.constants.append(numpy_helper.from_array(values, name))
        return name

    def integers(self, name: str, values: Sequence[int]) -> str:
        return self.constant(name, np.array(values, np.int64))

    def add(self, operator: str, name: str, *inputs: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(operator, inputs, [name], name, **attributes))
        return name

    def split(self, name: str, source: str, axis: int, num_parts: int) -> list[str]:
        names = [f"{name}{part}" for part in range(num_parts)]
        self.nodes.append(helper.make_node("Split", [source], names, name, axis=axis))
        return names

    def model(self, source: onnx.ValueInfoProto, result: onnx.ValueInfoProto) -> onnx.ModelProto:
        graph = helper.make_graph(self.nodes, "alexnet", [source], [result], self.constants)
        opset = helper.make_opsetid("", OPSET)
        return helper.make_model(
            graph, producer_name="alexnet", opset_imports=[opset], ir_version=IR_VERSION
        )
