"""The field numbers of onnx.proto that splicing needs, and which fields carry a tensor's payload.

Source: onnx/onnx.proto (https://github.com/onnx/onnx), IR version 14. Field numbers never change there.
"""

from __future__ import annotations

from collections.abc import Mapping

MODEL_IR_VERSION, MODEL_GRAPH, MODEL_OPSET_IMPORT, MODEL_METADATA, MODEL_FUNCTIONS = 1, 7, 8, 14, 25
GRAPH_NODE, GRAPH_INITIALIZER, GRAPH_INPUT, GRAPH_OUTPUT = 1, 5, 11, 12
NODE_ATTRIBUTE = 5
ATTRIBUTE_G, ATTRIBUTE_GRAPHS = 6, 11
FUNCTION_NODE, FUNCTION_OPSET_IMPORT = 7, 9
TENSOR_EXTERNAL_DATA = 13

#: Message -> field number -> the message in that field, as far as a payload can lie below it.
CHILDREN: Mapping[str, Mapping[int, str]] = {
    "Model": {7: "Graph", 20: "TrainingInfo", 25: "Function"},
    "TrainingInfo": {1: "Graph", 2: "Graph"},
    "Graph": {1: "Node", 5: "Tensor", 15: "SparseTensor"},
    "Function": {7: "Node", 11: "Attribute"},
    "Node": {5: "Attribute"},
    "Attribute": {5: "Tensor", 6: "Graph", 10: "Tensor", 11: "Graph", 22: "SparseTensor", 23: "SparseTensor"},
    "SparseTensor": {1: "Tensor", 2: "Tensor"},
    "Tensor": {},
}

#: Message -> the fields that carry a payload: TensorProto's *_data, and the s, floats, ints and strings of attributes.
PAYLOADS: Mapping[str, frozenset[int]] = {
    "Tensor": frozenset({4, 5, 6, 7, 9, 10, 11}),
    "Attribute": frozenset({4, 7, 8, 9}),
}
