"""The forms that JumpReLU takes in a graph, as data: what each is made of, where it is allowed, and where it differs.

The definition (`jr_onnx.reference`): 0 where x <= jump, x elsewhere; NaN goes through. Measured on onnxruntime 1.17 to
1.32, on ONNX's ReferenceEvaluator, OpenVINO, OpenCV and tract:

    form                                  differs from the definition
    JumpReLU (kernel, or function body)   nowhere (but the body, below opset 9: as Relu*Greater)
    Where(LessOrEqual(x, k), 0, x)        nowhere; the same with x and k cast to float for the comparison
    Where(x > k or IsNaN(x), x, 0)        nowhere
    Relu(x) * Cast(Greater(Relu(x), k))   keeps -0.0 (onnxruntime); NaN -> 0 (OpenVINO, tract); -inf -> NaN (OpenCV)
    ThresholdedRelu(x, alpha=k)           NaN -> 0; -inf -> NaN (OpenVINO)
    Relu(x) * HardSigmoid(Relu(x))        keeps -0.0 (onnxruntime); tried on onnxruntime and ReferenceEvaluator only
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Literal, get_args

from jr_onnx.conversion.element_types import BFLOAT16, DOUBLE, FLOAT, FLOAT16, type_name
from jr_onnx.conversion.graph.names import DOMAIN, OP_TYPE

#: The lowest opset that is converted.
LOWEST_OPSET = 7

#: Model-local functions came with this IR version.
FUNCTIONS_IR_VERSION = 8

Target = Literal["custom-op", "subgraph", "standard", "hard-sigmoid"]
TARGETS: tuple[Target, ...] = get_args(Target)


class Fill(Enum):
    """What an attribute of a form's operator is given when the form is written."""

    JUMP = "jump"
    ELEMENT_TYPE = "element type"
    FLOAT = "float"
    STEEP = "2^100"
    STEEP_JUMP = "-2^100 * jump"
    CHANNELS_LAST = "NCHW to NHWC"
    CHANNELS_FIRST = "NHWC to NCHW"


#: The slope of a HardSigmoid that is a step in float: see HARD_SIGMOID.
STEEP = 2.0**100


@dataclass(frozen=True)
class Op:
    """One operator of a form.

    Inputs and output are symbols: x, jump, zero, scale, zero_point and y are the site's, others are inside.
    """

    op_type: str
    inputs: tuple[str, ...]
    output: str
    domain: str = ""
    attributes: Mapping[str, Fill] = field(default_factory=dict)


@dataclass(frozen=True)
class Form:
    """One way to write JumpReLU.

    Attributes:
        name: as reports show it.
        ops: in topological order; the last one gives y.
        types: element type -> the lowest opset at which all the operators take it, and onnxruntime has kernels.
        missing: element type -> why it is not in `types`.
        jump_is_input: the jump is a value, so it can be a tensor or a graph input; otherwise it is an attribute.
        constant_only: it is a value, but none that may be given when the model runs.
        differs: where it differs from the definition; empty if nowhere.
        jumps: the least jump that it is right for, and the first that is too large; None for no limits.
    """

    name: str
    ops: tuple[Op, ...]
    types: Mapping[int, int]
    missing: Mapping[int, str] = field(default_factory=dict)
    jump_is_input: bool = True
    constant_only: bool = False
    differs: str = ""
    jumps: tuple[float, float] | None = None

    @property
    def calls(self) -> str:
        """The function of the jr_onnx domain that it calls; empty for none."""
        return next((op.op_type for op in self.ops if op.domain == DOMAIN), "")

    def refusal(self, element_type: int, opset: int, *, scalar: bool, constant: bool, jump: float | None = None) -> str:
        """Why this form cannot be used; empty if it can. A jump that is not one number is None."""
        if element_type not in self.types:
            return self.missing.get(element_type, f"{self.name} does not take {type_name(element_type)}")
        lowest = self.types[element_type]
        if opset < lowest:
            return f"{self.name} takes {type_name(element_type)} from opset {lowest}, this is {opset}"
        if not self.jump_is_input and not (scalar and constant):
            return f"the jump of {self.name} is an attribute: one number, fixed"
        if self.constant_only and not constant:
            return f"the threshold of {self.name} is an integer that is computed from the jump beforehand"
        if self.jumps is not None and jump is not None and not self.jumps[0] <= jump < self.jumps[1]:
            return f"{self.name} is exact for jumps from {self.jumps[0]:.2g} to {self.jumps[1]:.2g}, this is {jump:g}"
        return ""


_FROM_7 = {FLOAT: 7, FLOAT16: 7, DOUBLE: 7}

JUMP_RELU = Form(
    "JumpReLU",
    (Op(OP_TYPE, ("x", "jump"), "y", DOMAIN),),
    {**_FROM_7, BFLOAT16: 13},
)

WHERE = Form(
    "Where(LessOrEqual)",
    (Op("LessOrEqual", ("x", "jump"), "mask"), Op("Where", ("mask", "zero", "x"), "y")),
    {FLOAT: 12, FLOAT16: 12, DOUBLE: 12},
    {BFLOAT16: "onnxruntime has no LessOrEqual for bfloat16"},
)

# Compared in float, which has every bfloat16: onnxruntime's CUDA provider runs this.
WHERE_FLOAT = Form(
    "Where(LessOrEqual in float)",
    (
        Op("Cast", ("x",), "wide", attributes={"to": Fill.FLOAT}),
        Op("Cast", ("jump",), "limit", attributes={"to": Fill.FLOAT}),
        Op("LessOrEqual", ("wide", "limit"), "mask"),
        WHERE.ops[-1],
    ),
    {BFLOAT16: 16, FLOAT: 16, FLOAT16: 16},
)

# LessOrEqual came with opset 12; in this one a comparison that is false for NaN must not hide it.
WHERE_NAN = Form(
    "Where(Greater or IsNaN)",
    (
        Op("Greater", ("x", "jump"), "above"),
        Op("IsNaN", ("x",), "nan"),
        Op("Or", ("above", "nan"), "keep"),
        Op("Where", ("keep", "x", "zero"), "y"),
    ),
    {FLOAT: 9, FLOAT16: 9, DOUBLE: 9},
)

# Greater reads the Relu's output, not its input: so onnxruntime can still fuse the Relu into a Conv before it.
RELU_GREATER = Form(
    "Relu*Greater",
    (
        Op("Relu", ("x",), "rectified"),
        Op("Greater", ("rectified", "jump"), "above"),
        Op("Cast", ("above",), "gate", attributes={"to": Fill.ELEMENT_TYPE}),
        Op("Mul", ("rectified", "gate"), "y"),
    ),
    {**_FROM_7, BFLOAT16: 13},
    differs="keeps -0.0",
)

# The next two are only read, never written. Where onnxruntime has no kernel for an operator at a type, as for float16
# on a CPU, it puts the function body of the operator in its place, and a file that it saves has it so.
WHERE_EXPANDED = Form(
    "Where(Less or Equal)",
    (
        Op("Less", ("x", "jump"), "less"),
        Op("Equal", ("x", "jump"), "equal"),
        Op("Or", ("less", "equal"), "mask"),
        WHERE.ops[-1],
    ),
    WHERE.types,
)

RELU_GREATER_EXPANDED = Form(
    "Max*Greater",
    (Op("Max", ("x", "zero"), "rectified"), *RELU_GREATER.ops[1:]),
    RELU_GREATER.types,
    differs=RELU_GREATER.differs,
)

THRESHOLDED_RELU = Form(
    "ThresholdedRelu",
    (Op("ThresholdedRelu", ("x",), "y", attributes={"alpha": Fill.JUMP}),),
    {FLOAT: 10, FLOAT16: 10},
    {
        DOUBLE: "onnxruntime has no ThresholdedRelu for double on CPU",
        BFLOAT16: "onnxruntime has no ThresholdedRelu for bfloat16",
    },
    jump_is_input=False,
    differs="NaN becomes 0",
)

# Both products are exact: a power of two only moves the exponent. So 2^100 x - 2^100 jump is rounded once, and is 0 at
# x = jump, below 0 under it, and at the next float above at least 2^100 ulp(jump), which is 1 or more for jumps from
# 2^-77 on; beyond float it is infinite, which the upper bound makes 1. From 2^28 on the bias itself would be infinite.
# HardSigmoid and Mul stay in onnxruntime's blocked layout, which makes this the fastest form that needs no library.
HARD_SIGMOID = Form(
    "Relu*HardSigmoid",
    (
        Op("Relu", ("x",), "rectified"),
        Op("HardSigmoid", ("rectified",), "gate", attributes={"alpha": Fill.STEEP, "beta": Fill.STEEP_JUMP}),
        Op("Mul", ("rectified", "gate"), "y"),
    ),
    {FLOAT: 7},
    {
        FLOAT16: "float16 has no 2^100",
        BFLOAT16: "onnxruntime has no HardSigmoid for bfloat16 on CPU",
        DOUBLE: "onnxruntime has no HardSigmoid for double on CPU",
    },
    jump_is_input=False,
    differs="keeps -0.0",
    jumps=(2.0**-77, 2.0**28),
)

# In the activations of RNN, GRU and LSTM, whatever the target. The ONNX text says x >= alpha, onnxruntime compares
# x > alpha (tried), so alpha is the jump. Attributes are float, so the jump is rounded to float.
RECURRENT = Form(
    "ThresholdedRelu activation",
    (),
    {**_FROM_7, BFLOAT16: 13},
    jump_is_input=False,
    differs="NaN becomes 0",
)

# What a form is reverted to; no target.
RELU = Form("Relu", (Op("Relu", ("x",), "y"),), {**_FROM_7, BFLOAT16: 13}, jump_is_input=False)

#: Target -> the forms it may take, the preferred one first; every opset and element type is served by one of them.
PREFERENCES: Mapping[Target, tuple[Form, ...]] = {
    "custom-op": (JUMP_RELU, WHERE, WHERE_FLOAT, WHERE_NAN, RELU_GREATER),
    "subgraph": (RELU_GREATER,),
    "standard": (THRESHOLDED_RELU, WHERE, WHERE_FLOAT, WHERE_NAN, RELU_GREATER),
    "hard-sigmoid": (HARD_SIGMOID, RELU_GREATER),
}

#: The forms that can be the body of the function jr_onnx::JumpReLU, the preferred one first.
BODIES: tuple[Form, ...] = (WHERE, WHERE_FLOAT, WHERE_NAN, RELU_GREATER)

#: Every form, for recognising them in a model that was hardened before.
ALL_FORMS: tuple[Form, ...] = (
    JUMP_RELU,
    WHERE,
    WHERE_FLOAT,
    WHERE_EXPANDED,
    WHERE_NAN,
    RELU_GREATER_EXPANDED,  # before the next one, which it ends with where there is no Relu
    RELU_GREATER,
    THRESHOLDED_RELU,
    HARD_SIGMOID,
)


def choose_form(
    forms: tuple[Form, ...],
    element_type: int,
    opset: int,
    *,
    scalar: bool,
    constant: bool,
    jump: float | None = None,
) -> tuple[Form | None, str]:
    """The first form that can be used, and why those before it cannot; no form, and why, where none can."""
    reasons: list[str] = []
    for form in forms:
        refusal = form.refusal(element_type, opset, scalar=scalar, constant=constant, jump=jump)
        if not refusal:
            return form, "; ".join(reasons)
        reasons.append(refusal)
    return None, "; ".join(reasons)
