"""Ways to damage a hardened model."""

from __future__ import annotations

import struct
from collections.abc import Callable

import numpy as np
import onnx
from checking import initializer, large, node

Change = Callable[[onnx.ModelProto], object]


def edit_weight(model: onnx.ModelProto) -> None:
    tensor = initializer(model, "w")
    values = onnx.numpy_helper.to_array(tensor).copy()
    values[0, 0] = np.nextafter(values[0, 0], np.float32(2))
    tensor.CopyFrom(onnx.numpy_helper.from_array(values, "w"))


def edit_large_weight(model: onnx.ModelProto) -> None:
    values = np.arange(4000, dtype=np.float32)
    values[3999] = 0
    initializer(model, "large").CopyFrom(large(values))


def shorten_the_large_weight(model: onnx.ModelProto) -> None:
    tensor = initializer(model, "large")
    tensor.raw_data = tensor.raw_data[:-4]


def lengthen_the_large_weight(model: onnx.ModelProto) -> None:
    initializer(model, "large").raw_data += bytes(4)


def put_the_large_weight_in_another_field(model: onnx.ModelProto) -> None:
    tensor = initializer(model, "large")
    tensor.string_data.append(tensor.raw_data)
    tensor.ClearField("raw_data")


def forge_a_policy(model: onnx.ModelProto) -> None:
    model.metadata_props.add(key="jr_onnx.policy_sha256", value="0" * 64)


def record_no_version(model: onnx.ModelProto) -> None:
    next(entry for entry in model.metadata_props if entry.key == "jr_onnx.version").value = "latest"


def damage_the_way_back(model: onnx.ModelProto) -> None:
    entry = next(entry for entry in model.metadata_props if entry.key == "jr_onnx.revert")
    entry.value = entry.value[:8] + "A" + entry.value[9:]


def leave_a_relu(model: onnx.ModelProto) -> None:
    one = node(model, "two")
    one.op_type, one.domain = "Relu", ""
    del one.input[1:]


def leave_a_relu_in_a_branch(model: onnx.ModelProto) -> None:
    one = node(model, "branch").attribute[0].g.node[0]
    one.op_type, one.domain = "Relu", ""
    del one.input[1:]


def leave_a_relu_in_a_function(model: onnx.ModelProto) -> None:
    one = next(n for n in model.functions[0].node if n.name == "four")
    one.op_type, one.domain = "Relu", ""
    del one.input[1:]


def jump_off_by_one_ulp(model: onnx.ModelProto) -> None:
    above = np.nextafter(np.float32(0.5), np.float32(1))
    initializer(model, "jr_onnx.jump").CopyFrom(onnx.numpy_helper.from_array(np.asarray(above), "jr_onnx.jump"))


def jump_of_a_function_off_by_one_ulp(model: onnx.ModelProto) -> None:
    constant = next(n for n in model.functions[0].node if n.op_type == "Constant")
    constant.attribute[0].t.raw_data = struct.pack("<f", np.nextafter(np.float32(0.5), np.float32(1)))


def alpha_off_by_one_ulp(model: onnx.ModelProto) -> None:
    node(model, "two").attribute[0].f = float(np.nextafter(np.float32(0.5), np.float32(1)))


def record_another_jump(model: onnx.ModelProto) -> None:
    entry = next(e for e in model.metadata_props if e.key == "jr_onnx.jump")
    entry.value = "0.6"


def tamper_with_the_body(model: onnx.ModelProto) -> None:
    body = model.functions[-1]
    assert body.domain == "jr_onnx"
    mask = next(n for n in body.node if n.op_type == "LessOrEqual")
    mask.op_type = "Less"


def drop_the_body(model: onnx.ModelProto) -> None:
    del model.functions[-1]


def swap_inputs(model: onnx.ModelProto) -> None:
    one = node(model, "swap")
    one.input[:] = list(reversed(one.input))


def lose_metadata(key: str) -> Change:
    def change(model: onnx.ModelProto) -> None:
        kept = [e for e in model.metadata_props if e.key != key]
        assert len(kept) < len(model.metadata_props)
        del model.metadata_props[:]
        model.metadata_props.extend(kept)

    return change


def stale_shape(model: onnx.ModelProto) -> None:
    model.graph.value_info[0].type.tensor_type.shape.dim[0].dim_value = 7


def second_node_of_the_same_name(model: onnx.ModelProto) -> None:
    node(model, "second").name = "first"


def forget_the_import(model: onnx.ModelProto) -> None:
    kept = [o for o in model.opset_import if o.domain != "jr_onnx"]
    del model.opset_import[:]
    model.opset_import.extend(kept)


def forget_the_import_of_a_function(model: onnx.ModelProto) -> None:
    kept = [o for o in model.functions[0].opset_import if o.domain != "jr_onnx"]
    del model.functions[0].opset_import[:]
    model.functions[0].opset_import.extend(kept)


def raise_the_opset(model: onnx.ModelProto) -> None:
    next(o for o in model.opset_import if not o.domain).version = 18


def raise_the_ir_version(model: onnx.ModelProto) -> None:
    model.ir_version = 9


def add_a_node(model: onnx.ModelProto) -> None:
    model.graph.node.append(onnx.helper.make_node("Neg", ["x"], ["extra"], name="extra"))


def drop_a_node(model: onnx.ModelProto) -> None:
    last = node(model, "last")
    model.graph.node.remove(last)
    sum_ = onnx.numpy_helper.from_array(np.float32(7998000), "sum")
    model.graph.node.append(onnx.helper.make_node("Constant", [], ["sum"], name="last", value=sum_))


def reorder_nodes(model: onnx.ModelProto) -> None:
    nodes = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([nodes[-1], *nodes[:-1]])


def change_an_attribute(model: onnx.ModelProto) -> None:
    node(model, "last").attribute.append(onnx.helper.make_attribute("noop_with_empty_axes", 0))


def change_an_operator(model: onnx.ModelProto) -> None:
    node(model, "branch").attribute[1].g.node[0].op_type = "Abs"


def change_an_operator_in_a_function(model: onnx.ModelProto) -> None:
    model.functions[0].node[-2].op_type = "Neg"


def rename_a_node(model: onnx.ModelProto) -> None:
    node(model, "two").name = "other"


def add_an_initializer(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.zeros(2, np.float32), "unused"))


def reshape_an_initializer(model: onnx.ModelProto) -> None:
    initializer(model, "b").dims[:] = [1, 3]


def drop_an_output(model: onnx.ModelProto) -> None:
    del model.graph.output[1]


def rename_an_output(model: onnx.ModelProto) -> None:
    model.graph.output[1].name = node(model, "last").output[0] = "total"


def add_an_input(model: onnx.ModelProto) -> None:
    model.graph.input.append(onnx.helper.make_tensor_value_info("more", onnx.TensorProto.FLOAT, [1]))


def add_a_function(model: onnx.ModelProto) -> None:
    model.functions.insert(
        1, onnx.helper.make_function("local", "G", ["a"], ["a"], [], model.functions[0].opset_import)
    )


def change_the_doc_string(model: onnx.ModelProto) -> None:
    model.graph.doc_string = ""


def add_an_unknown_field(model: onnx.ModelProto) -> None:
    model.MergeFromString(b"\xf8\x7f\x01")


def jump_that_is_computed(model: onnx.ModelProto) -> None:
    jump = node(model, "two").input[1]
    model.graph.node.insert(0, onnx.helper.make_node("Add", [jump, jump], ["twice"], name="adds"))
    node(model, "two").input[1] = "twice"


def one_site_too_many(model: onnx.ModelProto) -> None:
    next(entry for entry in model.metadata_props if entry.key == "jr_onnx.sites").value = "3"


def lose_the_bytes_of_the_large_weight(model: onnx.ModelProto) -> None:
    initializer(model, "large").ClearField("raw_data")
