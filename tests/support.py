"""Helpers of the tests: build small models, run them, evaluate them independently, and compare bits.

Nothing in here uses the lowering that is under test; the one thing it takes from the package is the definition,
`jr_onnx.reference.jump_relu`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from jr_onnx import ConversionReport, convert
from jr_onnx.conversion.element_types import NUMPY_TYPES, type_name
from jr_onnx.reference import jump_relu

Array = npt.NDArray[Any]

FLOAT16, BFLOAT16, FLOAT, DOUBLE = TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.FLOAT, TensorProto.DOUBLE
INT64, BOOL = TensorProto.INT64, TensorProto.BOOL
ELEMENT_TYPES = (FLOAT16, BFLOAT16, FLOAT, DOUBLE)

#: Every way to write JumpReLU that the command line offers -> the arguments of `convert`.
TARGETS: Mapping[str, Mapping[str, Any]] = {
    "custom-op": {"target": "custom-op"},
    "inline": {"target": "custom-op", "inline": True},
    "subgraph": {"target": "subgraph"},
    "standard": {"target": "standard"},
    "hard-sigmoid": {"target": "hard-sigmoid"},
}
EACH_TARGET = pytest.mark.parametrize("target", TARGETS)

MODELS = Path(__file__).resolve().parent.parent / "models"
#: The models of the repository; a file that the README's commands wrote beside them is none.
SHIPPED = tuple(p for p in sorted(MODELS.glob("*.onnx")) if not {".jumprelu", ".optimized"} & set(p.suffixes))
BACKEND_DATA = Path(onnx.__file__).parent / "backend" / "test" / "data"

BASIC = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
NONE = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL


# --- building ---------------------------------------------------------------------------------------------------------


def value(name: str, element_type: int = FLOAT, shape: Sequence[Any] | None = None) -> onnx.ValueInfoProto:
    """A tensor's name, type and shape."""
    return helper.make_tensor_value_info(name, element_type, shape)


def node(op_type: str, inputs: str, outputs: str, name: str = "", **attributes: Any) -> onnx.NodeProto:
    """A node whose inputs and outputs are words of a text; "-" is an input that is left out."""
    names = ["" if word == "-" else word for word in inputs.split()]
    return helper.make_node(op_type, names, outputs.split(), name=name, **attributes)


def make_model(
    nodes: Iterable[onnx.NodeProto],
    inputs: Iterable[onnx.ValueInfoProto],
    outputs: Iterable[onnx.ValueInfoProto],
    *,
    opset: int = 18,
    ir_version: int = 8,
    initializers: Mapping[str, Array] | None = None,
    functions: Iterable[onnx.FunctionProto] = (),
    domains: Iterable[str] = (),
    value_info: Iterable[onnx.ValueInfoProto] = (),
) -> onnx.ModelProto:
    """A model. Below IR version 4 the initializers are listed as inputs, as that version wants it."""
    tensors = [onnx.numpy_helper.from_array(array, name) for name, array in (initializers or {}).items()]
    listed = list(inputs)
    if ir_version < 4:
        listed += [value(t.name, t.data_type, t.dims) for t in tensors]
    graph = helper.make_graph(list(nodes), "graph", listed, list(outputs), tensors, value_info=list(value_info))
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
    return helper.make_model(graph, opset_imports=imports, functions=list(functions), ir_version=ir_version)


def function(
    name: str,
    inputs: str,
    outputs: str,
    nodes: Iterable[onnx.NodeProto],
    *,
    opset: int = 18,
    attributes: Sequence[str] = (),
    calls: bool = False,
) -> onnx.FunctionProto:
    """A model-local function of the domain f; one that calls others has to import that domain itself."""
    imports = [helper.make_opsetid("", opset), *([helper.make_opsetid("f", 1)] if calls else [])]
    return helper.make_function("f", name, inputs.split(), outputs.split(), list(nodes), imports, list(attributes))


def branch(nodes: Iterable[onnx.NodeProto], output: str, element_type: int = FLOAT) -> onnx.GraphProto:
    """A branch of an If: no inputs, one output."""
    return helper.make_graph(list(nodes), "branch", [], [value(output, element_type)])


def without_the_way_back(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy without the record by which `revert` gives the original back byte for byte."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.metadata_props[:]
    copy.metadata_props.extend(entry for entry in model.metadata_props if entry.key != "jr_onnx.revert")
    return copy


def relu_model(
    element_type: int = FLOAT,
    shape: Sequence[Any] = (10,),
    *,
    opset: int = 18,
    ir_version: int = 8,
    name: str = "relu",
) -> onnx.ModelProto:
    """x -> Relu -> y."""
    x, y = value("x", element_type, shape), value("y", element_type, shape)
    return make_model([node("Relu", "x", "y", name)], [x], [y], opset=opset, ir_version=ir_version)


def nested_model(opset: int = 18) -> onnx.ModelProto:
    """A Relu in the main graph, in a Loop's body, in both branches of an If in there, and in a Scan's body behind."""
    then = branch([node("Sub", "carried two", "d"), node("Relu", "d", "t", "relu")], "t")
    other = branch([node("Relu", "shifted", "e", "relu")], "e")  # takes a value of two scopes outside
    body = helper.make_graph(
        [
            node("Relu", "carried", "r", "relu"),
            node("If", "keep", "chosen", "choose", then_branch=then, else_branch=other),
            node("Add", "r chosen", "next"),
            node("Identity", "keep", "keep_next"),
            node("Relu", "chosen", "scanned"),
        ],
        "body",
        [
            value("i", INT64, []),
            value("keep", BOOL, []),
            value("carried", FLOAT, [4]),
        ],
        [value("keep_next", BOOL, []), value("next", FLOAT, [4]), value("scanned", FLOAT, [4])],
    )
    step = helper.make_graph(
        [node("Add", "state item", "sum"), node("Relu", "sum", "state_next", "relu"), node("Relu", "item", "out")],
        "step",
        [value("state", FLOAT, [4]), value("item", FLOAT, [4])],
        [value("state_next", FLOAT, [4]), value("out", FLOAT, [4])],
    )
    return make_model(
        [
            node("Add", "x one", "shifted"),
            node("Relu", "shifted", "start", "relu"),
            node("Loop", "three true start", "looped all", "loop", body=body),
            node("Scan", "looped all", "y ys", "scan", body=step, num_scan_inputs=1),
        ],
        [value("x", FLOAT, [4])],
        [value("y", FLOAT, [4]), value("ys", FLOAT, [3, 4])],
        opset=opset,
        initializers={
            "one": np.float32(1),
            "two": np.float32(2),
            "three": np.int64(3),
            "true": np.bool_(True),
        },
    )


def reference_vector(element_type: int) -> Array:
    """The values every implementation is tested on, for the jump 0.5."""
    dtype = NUMPY_TYPES[element_type]
    above = np.nextafter(dtype.type(0.5), dtype.type(1))
    values = [-np.inf, -1, -0.0, 0, 0.25, 0.5, above, 1, np.inf, np.nan]
    return np.array([dtype.type(v) for v in values], dtype)


# --- running ----------------------------------------------------------------------------------------------------------


def session(model: onnx.ModelProto | Path, level: Any = None) -> onnxruntime.InferenceSession:
    """A session of onnxruntime on the CPU; every optimization, unless a level is given."""
    options = onnxruntime.SessionOptions()
    if level is not None:
        options.graph_optimization_level = level
    content = str(model) if isinstance(model, Path) else model.SerializeToString()
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def run(model: onnx.ModelProto | Path, feeds: Mapping[str, Array], level: Any = None) -> list[Array]:
    """The outputs in onnxruntime."""
    outputs: list[Array] = session(model, level).run(None, dict(feeds))
    return outputs


def evaluate(model: onnx.ModelProto, feeds: Mapping[str, Array]) -> list[Array]:
    """The outputs in ONNX's ReferenceEvaluator, which knows nothing of onnxruntime; it runs bfloat16 as well."""
    outputs: list[Array] = _Evaluator(model).run(None, dict(feeds))
    return outputs


def check(model: onnx.ModelProto) -> None:
    """What ONNX itself checks, types and shapes included."""
    onnx.checker.check_model(model, full_check=True)
    onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)


@cache
def newest_opset() -> int:
    """The newest opset that both onnx and onnxruntime know."""
    return next(opset for opset in range(onnx.defs.onnx_opset_version(), 0, -1) if _loads(opset, 8))


@cache
def newest_ir_version() -> int:
    """The newest IR version that both onnx and onnxruntime know."""
    return next(version for version in range(onnx.IR_VERSION, 0, -1) if _loads(13, version))


def _loads(opset: int, ir_version: int) -> bool:
    try:
        session(relu_model(opset=opset, ir_version=ir_version))
    except Exception:  # noqa: BLE001 - onnxruntime has no common exception type
        return False
    return True


# --- the independent evaluation ---------------------------------------------------------------------------------------

ORACLE_DOMAIN = "oracle"


class OracleJumpRelu(OpRun):
    """JumpReLU by the NumPy definition; one jump, as a tensor attribute of any shape that broadcasts.

    It remembers in `margin` how near to the jump the values came that it saw, for who wants to know.
    """

    op_domain = ORACLE_DOMAIN
    margin: float = np.inf

    def _run(self, x: Array, jump: Array | None = None) -> tuple[Array]:
        distances = np.abs(np.asarray(x, np.float64) - np.asarray(jump, np.float64))
        OracleJumpRelu.margin = min(OracleJumpRelu.margin, float(distances.min(initial=np.inf)))
        return (jump_relu(x, np.asarray(jump)),)


class _Evaluator(ReferenceEvaluator):
    """Knows the oracle's operator in functions too, to which ONNX's own evaluator does not pass new operators on."""

    def __init__(self, proto: Any, *arguments: Any, new_ops: Any = None, **options: Any) -> None:
        super().__init__(proto, *arguments, new_ops=[*(new_ops or ()), OracleJumpRelu], **options)


def with_oracle(model: onnx.ModelProto, jump_of: Callable[[str], Array | float | None]) -> onnx.ModelProto:
    """The model with the oracle's operator for each Relu, at any depth; `jump_of` maps a Relu's output to its jump.

    For `evaluate` alone. A Relu whose jump is None stays.
    """
    return _each_relu(model, jump_of, _oracle_nodes, ORACLE_DOMAIN)


def with_where(model: onnx.ModelProto, jump_of: Callable[[str], Array | float | None]) -> onnx.ModelProto:
    """The model with Where(x > jump, x, 0) for each Relu: onnxruntime as the oracle, for models without NaN.

    It is right from opset 9 on, and needs Constant nodes only.
    """
    return _each_relu(model, jump_of, _where_nodes, "")


def _each_relu(
    model: onnx.ModelProto,
    jump_of: Callable[[str], Array | float | None],
    replacement: Callable[[onnx.NodeProto, Array], list[onnx.NodeProto]],
    domain: str,
) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)

    def rewrite(nodes: Any) -> None:
        written: list[onnx.NodeProto] = []
        for item in nodes:
            for attribute in item.attribute:
                if attribute.HasField("g"):
                    rewrite(attribute.g.node)
            jump = jump_of(item.output[0]) if item.op_type == "Relu" and not item.domain else None
            written += [item] if jump is None else replacement(item, np.asarray(jump))
        kept = [onnx.NodeProto.FromString(n.SerializeToString()) for n in written]
        del nodes[:]
        nodes.extend(kept)

    rewrite(copy.graph.node)
    for function in copy.functions:
        rewrite(function.node)
        if domain:
            function.opset_import.append(helper.make_opsetid(domain, 1))
    if domain:
        copy.opset_import.append(helper.make_opsetid(domain, 1))
    return copy


def _oracle_nodes(relu: onnx.NodeProto, jump: Array) -> list[onnx.NodeProto]:
    tensor = onnx.numpy_helper.from_array(np.asarray(jump, np.float64))
    return [helper.make_node("OracleJumpRelu", relu.input, relu.output, domain=ORACLE_DOMAIN, jump=tensor)]


def _where_nodes(relu: onnx.NodeProto, jump: Array) -> list[onnx.NodeProto]:
    y, tensor = relu.output[0], onnx.numpy_helper.from_array
    k, zero, above = f"{y}/oracle_jump", f"{y}/oracle_zero", f"{y}/oracle_above"
    return [
        helper.make_node("Constant", [], [k], value=tensor(np.asarray(jump, np.float32))),
        helper.make_node("Constant", [], [zero], value=tensor(np.asarray(0, np.float32))),
        helper.make_node("Greater", [relu.input[0], k], [above]),
        helper.make_node("Where", [above, relu.input[0], zero], [y]),
    ]


# --- comparing --------------------------------------------------------------------------------------------------------


def assert_same_bits(got: Array, want: Array, where: str = "") -> None:
    """Equal type, shape and bits. The sign of a zero counts; of a NaN it counts only that it is one."""
    got, want = np.asarray(got), np.asarray(want)
    assert got.dtype == want.dtype, f"{where}: {got.dtype} instead of {want.dtype}"
    assert got.shape == want.shape, f"{where}: shape {got.shape} instead of {want.shape}"
    nan = np.isnan(want)
    np.testing.assert_array_equal(np.isnan(got), nan, err_msg=f"{where}: NaN")
    integer = np.dtype(f"u{want.dtype.itemsize}")
    same = (got.view(integer) == want.view(integer)) | nan
    if not same.all():
        first = tuple(np.argwhere(~same)[0])
        number = f"{int((~same).sum())} of {same.size} differ"
        raise AssertionError(f"{where}: {number}, first at {first}: {got[first]!r} instead of {want[first]!r}")


def assert_same_but_for_the_sign_of_zero(got: Array, want: Array, where: str = "") -> None:
    """As `assert_same_bits`, but -0.0 is 0.0: what jump 0 gives instead of a Relu."""
    assert_same_bits(np.where(got == 0, np.zeros_like(got), got), np.where(want == 0, np.zeros_like(want), want), where)


def differing(reference: Array, x: Array, differs: str) -> Array:
    """What a form gives for `x`, from what the definition gives, and from where the form says that it differs."""
    if not differs:
        return reference
    if differs == "keeps -0.0":
        return np.where((x == 0) & np.signbit(x), x, reference)
    if differs == "NaN becomes 0":
        return np.where(np.isnan(x), np.zeros_like(x), reference)
    raise AssertionError(f"no test knows what '{differs}' means")


# --- converting -------------------------------------------------------------------------------------------------------


def hardened(model: onnx.ModelProto, jump: Any = 0.5, **options: Any) -> onnx.ModelProto:
    """The hardened model, in memory."""
    result = report_of(model, jump, **options).model
    assert result is not None
    return result


def report_of(model: onnx.ModelProto, jump: Any = 0.5, **options: Any) -> ConversionReport:
    """The report of a conversion in memory."""
    return convert(model, **({} if jump is None else {"jump": jump}), **options)


def operators(model: onnx.ModelProto) -> list[str]:
    """The operators of the main graph, in order."""
    return [item.op_type for item in model.graph.node]


def type_id(element_type: int) -> str:
    """The name of an element type, for the ids of parametrized tests."""
    return type_name(element_type)
