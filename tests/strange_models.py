"""Models with everything that ONNX allows and exporters seldom write, for the tests of what must not change."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from support import make_model, node, value
from wire_format import BYTES, joined, only, parse, varint

FLOAT, INT64, BOOL, STRING = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL, TensorProto.STRING

#: Over the 4 KiB up to which a payload is part of the skeleton.
LARGE = 3000


def entry(key: str, text: str) -> onnx.StringStringEntryProto:
    """One entry of metadata_props."""
    return onnx.StringStringEntryProto(key=key, value=text)


def large(seed: int) -> np.ndarray:
    """12 kB of numbers."""
    return np.random.default_rng(seed).standard_normal(LARGE).astype(np.float32)


def nested_relu(name: str) -> list[onnx.NodeProto]:
    """x -> y: a Relu in a branch of an If in the body of a Loop; the names in it begin with `name`."""
    inner = [node("Relu", f"{name}state", f"{name}relu", f"{name}deep", doc_string="deep down")]
    then = helper.make_graph(inner, "then", [], [value(f"{name}relu")], doc_string="the branch")
    other = helper.make_graph([node("Neg", f"{name}state", f"{name}neg")], "else", [], [value(f"{name}neg")])
    body = helper.make_graph(
        [
            node("If", f"{name}go", f"{name}next", f"{name}choice", then_branch=then, else_branch=other),
            node("Identity", f"{name}go", f"{name}on"),
        ],
        "body",
        [value(f"{name}count", INT64, []), value(f"{name}go", BOOL, []), value(f"{name}state")],
        [value(f"{name}on", BOOL, []), value(f"{name}next")],
        doc_string="the body",
    )
    count = numpy_helper.from_array(np.asarray(2, np.int64))
    true = numpy_helper.from_array(np.asarray(True))
    return [
        node("Constant", "", f"{name}times", value=count),
        node("Constant", "", f"{name}first", value=true),
        node("Loop", f"{name}times {name}first x", "y", f"{name}loop", body=body),
    ]


def nested_function(domain: str = "their.domain") -> onnx.FunctionProto:
    """A function with a Relu in If in Loop, and with everything else that a function can carry."""
    imports = [helper.make_opsetid("", 18)]
    function = helper.make_function(domain, "Nested", ["x"], ["y"], nested_relu("f_"), imports, ["slope"])
    function.doc_string = "their function"
    function.metadata_props.append(entry("function", "metadata"))
    function.attribute_proto.append(helper.make_attribute("weights", numpy_helper.from_array(large(1))))
    return function


def everything() -> onnx.ModelProto:
    """A valid model, in which each Relu has something unusual around it."""
    x, y = value("x", FLOAT, ["N", LARGE]), value("out", FLOAT, ["N", LARGE])
    constants = [
        node("Constant", "", "strings", value_strings=["a" * 5000, "b"]),
        node("Constant", "", "floats", value_floats=[0.5] * 2000),
        node("Constant", "", "tensor", "constant", value=numpy_helper.from_array(large(2))),
    ]
    nodes = [
        # Unsorted: what it takes is produced further down.
        node("Relu", "sum", "out", "last", doc_string="the last Relu"),
        node("Relu", "x", "first", "first"),
        *constants,
        node("Add", "first weights", "weighted"),
        node("Nested", "weighted", "called", "call", domain="their.domain"),
        node("Theirs", "called", "theirs", "custom", domain="their.domain", note="n" * 6000),
        node("Add", "sum1 sparse", "sum"),
        node("Add", "called relu2", "sum1"),
        node("Relu", "weighted", "relu2"),
        *(renamed(item, {"x": "weighted", "y": "looped"}) for item in nested_relu("main_")),
    ]
    for item in nodes:
        item.metadata_props.append(entry("namespace", item.op_type))
    model = make_model(
        nodes,
        [x],
        [y, value("looped")],
        initializers={"weights": large(3), "unused": large(4)},
        functions=[nested_function()],
        domains=["their.domain"],
        ir_version=10,
        value_info=[value("sum", FLOAT, ["N", LARGE]), value("weighted", FLOAT, ["N", LARGE])],
    )
    graph = model.graph
    sparse = onnx.SparseTensorProto(dims=[LARGE])
    sparse.values.CopyFrom(numpy_helper.from_array(large(5)[:2000], "sparse"))
    sparse.indices.CopyFrom(numpy_helper.from_array(np.arange(2000, dtype=np.int64), "sparse_indices"))
    graph.sparse_initializer.append(sparse)
    graph.initializer.append(TensorProto(name="texts", data_type=STRING, dims=[2], string_data=[b"t" * 9000, b"\xff"]))
    graph.initializer[0].doc_string = "the weights"
    graph.initializer[0].metadata_props.append(entry("tensor", "metadata"))
    graph.doc_string = "the graph"
    graph.metadata_props.append(entry("graph", "metadata"))
    graph.value_info[0].doc_string = "a value"
    graph.value_info[0].metadata_props.append(entry("value", "metadata"))
    annotation = graph.quantization_annotation.add(tensor_name="weighted")
    annotation.quant_parameter_tensor_names.append(entry("SCALE_TENSOR", "weights"))
    training = model.training_info.add()
    training.initialization.CopyFrom(helper.make_graph([], "start", [], [], [numpy_helper.from_array(large(6), "w")]))
    training.algorithm.CopyFrom(helper.make_graph([node("Relu", "weights", "trained")], "step", [], [value("trained")]))
    training.update_binding.append(entry("weights", "trained"))
    model.producer_name, model.producer_version, model.model_version = "their exporter", "1.2.3", 2**40
    model.doc_string, model.domain = "the model", "their.domain"
    model.metadata_props.append(entry("model", "metadata"))
    return model


def renamed(item: onnx.NodeProto, names: dict[str, str]) -> onnx.NodeProto:
    """The node, with some of its own inputs and outputs (not those in its bodies) named otherwise."""
    item.input[:] = [names.get(name, name) for name in item.input]
    item.output[:] = [names.get(name, name) for name in item.output]
    return item


def weighted_relu(weights: np.ndarray | None = None, *, ir_version: int = 8) -> onnx.ModelProto:
    """x -> Add weights -> Relu -> y."""
    weights = large(7) if weights is None else weights
    x, y = value("x", FLOAT, [weights.size]), value("y", FLOAT, [weights.size])
    nodes = [node("Add", "x w", "sum"), node("Relu", "sum", "y", "relu")]
    return make_model(nodes, [x], [y], initializers={"w": weights}, ir_version=ir_version)


def write_sparse_model(path: Path, payload: int) -> None:
    """A model as `weighted_relu`, with so many bytes of zeros as weights, in a file that takes no room on the disk."""
    model = weighted_relu(np.zeros(1, np.float32)).SerializeToString()
    graph = only(model, onnx.ModelProto.GRAPH_FIELD_NUMBER)
    tensor = TensorProto(name="w", data_type=FLOAT, dims=[payload // 4]).SerializeToString()
    # The payload is the last field of the tensor, the tensor that of the graph, and the graph that of the model.
    raw_data = _header(TensorProto.RAW_DATA_FIELD_NUMBER, payload)
    kept = [item for item in parse(graph) if item.number != onnx.GraphProto.INITIALIZER_FIELD_NUMBER]
    inside = len(tensor) + len(raw_data) + payload
    head = joined(kept) + _header(onnx.GraphProto.INITIALIZER_FIELD_NUMBER, inside) + tensor + raw_data
    kept = [item for item in parse(model) if item.number != onnx.ModelProto.GRAPH_FIELD_NUMBER]
    head = joined(kept) + _header(onnx.ModelProto.GRAPH_FIELD_NUMBER, len(head) + payload) + head
    with path.open("wb") as file:
        file.write(head)
        file.truncate(len(head) + payload)


def _header(number: int, length: int) -> bytes:
    return varint(number << 3 | BYTES) + varint(length)


def save_external(
    path: Path, data: dict[str, bytes | int], *, locations: dict[str, str] | None = None, **entries: str
) -> onnx.ModelProto:
    """A model with one external tensor a data file; `data` maps each tensor to its file's content, or its length.

    Args:
        locations: tensor -> the location of its data, where that is not `<tensor>.bin`.
        entries: further entries of external_data, or others for `offset` and `length`.
    """
    model = weighted_relu(np.zeros(4, np.float32))
    del model.graph.initializer[:]
    for name, content in data.items():
        location = (locations or {}).get(name, f"{name}.bin")
        size = content if isinstance(content, int) else len(content)
        tensor = model.graph.initializer.add(name=name, data_type=FLOAT, dims=[size // 4])
        tensor.data_location = TensorProto.EXTERNAL
        for key, text in {"location": location, "offset": "0", "length": str(size), **entries}.items():
            tensor.external_data.add(key=key, value=text)
        file = path.parent / location
        if not Path(location).is_absolute() and ".." not in Path(location).parts:
            file.parent.mkdir(parents=True, exist_ok=True)
            with file.open("wb") as target:
                target.write(b"" if isinstance(content, int) else content)
                target.truncate(size)
    path.write_bytes(model.SerializeToString())
    return model
