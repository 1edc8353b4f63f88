"""What a conversion may change in a file, and nothing else: the two files compared by their wire format.

`planned_edits` walks both files side by side with the tests' own reading of the wire format. Whatever is not one of
the edits that a conversion may make has to be there again, byte for byte and in its place.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import onnx
import wire_format
from onnx import AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto
from wire_format import WireField, parse

#: The first IR version in which an initializer need not be an input of the graph.
FREE_INITIALIZERS = 4

JUMP_FORMS = (
    ("JumpReLU",),
    ("ThresholdedRelu",),
    ("Relu", "Greater", "Cast", "Mul"),
    ("Relu", "HardSigmoid", "Mul"),
    ("LessOrEqual", "Where"),
    ("Greater", "IsNaN", "Or", "Where"),
)
#: The forms behind what gives integers, each behind the node itself, which stays.
INTEGER_FORMS = (
    ("QuantizedJumpReLU",),
    ("Transpose", "QuantizedJumpReLU", "Transpose"),
    ("DequantizeLinear", "ThresholdedRelu", "QuantizeLinear"),
    ("DequantizeLinear", "Relu", "Greater", "Cast", "Mul", "QuantizeLinear"),
)
INTEGERS = ("QuantizeLinear", "QLinearConv", "QLinearMatMul", "QGemm", "QLinearAdd", "QLinearMul", "QLinearConcat")

#: What may stand in place of a node: the forms of JumpReLU, behind a node that stays without their Relu.
FORMS = {
    **dict.fromkeys(("Relu", "LeakyRelu", "PRelu", "Max"), JUMP_FORMS),
    **{
        stays: tuple((stays, *(op for op in form if op != "Relu")) for form in JUMP_FORMS)
        for stays in ("Clip", "FusedConv", "FusedGemm")
    },
    **{stays: tuple((stays, *form) for form in INTEGER_FORMS) for stays in INTEGERS},
    **dict.fromkeys(("RNN", "GRU", "LSTM", "DynamicQuantizeLSTM"), ()),
}


def planned_edits(before: bytes, after: bytes) -> int:
    """Compare a model with its conversion; the number of nodes that were replaced.

    Raises:
        AssertionError: something differs that is not part of an edit.
    """
    old, new = ModelProto.FromString(before), ModelProto.FromString(after)
    raised = new.ir_version != old.ir_version
    dropped: set[str] = set()
    if raised and old.ir_version < FREE_INITIALIZERS:
        dropped = {tensor.name for tensor in old.graph.initializer}
        dropped |= {sparse.values.name for sparse in old.graph.sparse_initializer}
    edits = 0
    written = deque(parse(after))
    for field in parse(before):
        while written and written[0].number != field.number:
            _added_to_model(written.popleft())
        assert written, f"field {field.number} of the model is gone"
        item = written.popleft()
        if field.raw == item.raw:
            continue
        if field.number == ModelProto.GRAPH_FIELD_NUMBER:
            edits += _graph(field.value, item.value, dropped)
        elif field.number == ModelProto.FUNCTIONS_FIELD_NUMBER:
            edits += _scope(FunctionProto, field.value, item.value, _added_to_function)
        else:
            assert field.number == ModelProto.IR_VERSION_FIELD_NUMBER, f"field {field.number} of the model changed"
            assert new.ir_version > old.ir_version
    for item in written:
        _added_to_model(item)
    return edits


def _added_to_model(item: WireField) -> None:
    if item.number == ModelProto.OPSET_IMPORT_FIELD_NUMBER:
        _added_import(item)
    elif item.number == ModelProto.FUNCTIONS_FIELD_NUMBER:
        function = FunctionProto.FromString(item.value)
        assert (function.domain, function.name) in (("jr_onnx", "JumpReLU"), ("jr_onnx", "QuantizedJumpReLU"))
    else:
        assert item.number == ModelProto.METADATA_PROPS_FIELD_NUMBER, f"field {item.number} of the model is new"
        assert onnx.StringStringEntryProto.FromString(item.value).key.startswith("jr_onnx.")


def _added_import(item: WireField) -> None:
    opset = onnx.OperatorSetIdProto.FromString(item.value)
    assert (opset.domain, opset.version) == ("jr_onnx", 1)


def _added_to_graph(item: WireField) -> None:
    if item.number == GraphProto.INPUT_FIELD_NUMBER:
        assert onnx.ValueInfoProto.FromString(item.value).name == "jump"
    else:
        assert item.number == GraphProto.INITIALIZER_FIELD_NUMBER, f"field {item.number} of the graph is new"
        name = onnx.TensorProto.FromString(item.value).name
        assert name.startswith("jr_onnx.") or name == "jump"


def _added_to_function(item: WireField) -> None:
    assert item.number == FunctionProto.OPSET_IMPORT_FIELD_NUMBER, f"field {item.number} of a function is new"
    _added_import(item)


def _added_to_body(item: WireField) -> None:
    raise AssertionError(f"field {item.number} of a body is new")


def _graph(before: bytes, after: bytes, dropped: set[str]) -> int:
    kept = []
    for field in parse(before):
        is_input = field.number == GraphProto.INPUT_FIELD_NUMBER
        if not is_input or onnx.ValueInfoProto.FromString(field.value).name not in dropped:
            kept.append(field)
    return _scope(GraphProto, wire_format.joined(kept), after, _added_to_graph)


def _scope(kind: Any, before: bytes, after: bytes, added: Callable[[WireField], None]) -> int:
    """Compare two graphs or functions; `added` judges what stands behind those of its number that were there before."""
    number = kind.NODE_FIELD_NUMBER
    written = deque(parse(after))
    edits = 0
    for index, field in enumerate(old := parse(before)):
        if field.number == number and not any(earlier.number == number for earlier in old[:index]):
            while _is_new_constant(written[0]):
                written.popleft()
        while written and written[0].number != field.number:
            added(written.popleft())
        assert written, f"field {field.number} of a {kind.__name__} is gone"
        if field.raw == written[0].raw:
            written.popleft()
        else:
            assert field.number == written[0].number == number, f"field {field.number} of a {kind.__name__} changed"
            edits += _node(field.value, written, number)
    for item in written:
        added(item)
    return edits


def _is_new_constant(item: WireField) -> bool:
    """A constant in front of the first node, where it cannot be an initializer; or the Cast of a jump input."""
    new = NodeProto.FromString(item.value) if item.value else NodeProto()
    return new.op_type in ("Constant", "Cast") and new.output[0].startswith("jr_onnx.")


def _node(before: bytes, written: deque[WireField], number: int) -> int:
    old = NodeProto.FromString(before)
    if old.op_type not in FORMS:
        return _bodies(before, written.popleft().value)
    new: list[NodeProto] = []
    while not new or not set(old.output) & set(new[-1].output):
        assert written, f"{old.output[0]} is produced no more"
        assert written[0].number == number, f"{old.output[0]} is produced no more"
        new.append(NodeProto.FromString(written.popleft().value))
    if old.op_type not in INTEGERS:  # those are in both
        assert old.domain == ("com.microsoft" if old.op_type.startswith(("Fused", "Dynamic")) else "")
    if FORMS[old.op_type]:
        assert tuple(item.op_type for item in new) in FORMS[old.op_type]
        assert list(new[-1].output) == list(old.output)
        inside = {name for item in new[:-1] for name in item.output}
        taken = {name for item in new for name in item.input} - inside
        kept = {name for name in taken if not name.startswith("jr_onnx.") and name != "jump"}
        if old.op_type in ("PRelu", "Max"):  # the slope, or the other input of the maximum, is a 0 that goes
            assert kept < set(old.input) and len(kept) == 1
        else:
            assert kept == set(old.input)
        without: tuple[str, ...] = ("input", "output", "op_type", "domain")
    else:
        assert [item.op_type for item in new] == [old.op_type]
        without = ("activations", "activation_alpha")
    # One of the new nodes carries on what the old one carried: name, doc string, metadata, unknown fields.
    assert _carried(old, without) in [_carried(item, without) for item in new]
    return 1


def _carried(item: NodeProto, without: tuple[str, ...]) -> bytes:
    rest = NodeProto.FromString(item.SerializeToString())
    for name in without:
        if name in NodeProto.DESCRIPTOR.fields_by_name:
            rest.ClearField(name)
    # What a conversion may add to a node that it writes: marks, by which it knows the node again.
    theirs = [entry for entry in rest.metadata_props if not str(entry.key).startswith("jr_onnx.")]
    del rest.metadata_props[:]
    rest.metadata_props.extend(theirs)
    kept = [attribute for attribute in rest.attribute if attribute.name not in without]
    del rest.attribute[:]
    # A Relu has no attributes, but one may stand there all the same; they go with the operator, as a slope does.
    rest.attribute.extend([] if "op_type" in without else kept)
    return rest.SerializeToString(deterministic=True)


def _bodies(before: bytes, after: bytes) -> int:
    """Compare a node that is not replaced itself: only the graphs in its attributes may differ."""
    edits = 0
    assert len(parse(before)) == len(parse(after)), "a node changed"
    for field, item in zip(parse(before), parse(after), strict=True):
        if field.raw != item.raw:
            assert field.number == item.number == NodeProto.ATTRIBUTE_FIELD_NUMBER, "a node changed"
            for inner, other in zip(parse(field.value), parse(item.value), strict=True):
                if inner.raw != other.raw:
                    assert inner.number == other.number
                    assert inner.number in (AttributeProto.G_FIELD_NUMBER, AttributeProto.GRAPHS_FIELD_NUMBER)
                    edits += _scope(GraphProto, inner.value, other.value, _added_to_body)
    return edits
