"""Graphs that Hypothesis draws: Relus anywhere, converted several times, in parts, for any targets."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx
from hypothesis import given, settings
from hypothesis import strategies as st
from support import (
    BOOL,
    FLOAT,
    NONE,
    TARGETS,
    assert_same_but_for_the_sign_of_zero,
    branch,
    check,
    evaluate,
    function,
    hardened,
    make_model,
    node,
    run,
    value,
    with_oracle,
    without_the_way_back,
)

from jr_onnx import revert

OPERATORS = ("Relu", "Relu", "Neg", "Identity", "Add", "Sub", "Mul", "Max", "If", "Call")
FUNCTIONS = ("F", "G")


@dataclass
class Builder:
    """Draws lists of nodes; every node and every value of the model has a name of its own."""

    draw: st.DrawFn
    count: int = 0
    relus: list[str] = field(default_factory=list)

    def fresh(self) -> str:
        self.count += 1
        return f"v{self.count}"

    def nodes(self, known: list[str], depth: int, callable_functions: tuple[str, ...]) -> list[onnx.NodeProto]:
        """Some nodes on the values known so far; the last one's output is what they come to."""
        listed: list[onnx.NodeProto] = []
        visible = list(known)
        for _ in range(self.draw(st.integers(1, 5))):
            listed.append(self.node(visible, depth, callable_functions))
            visible.append(listed[-1].output[0])
        return listed

    def node(self, visible: list[str], depth: int, callable_functions: tuple[str, ...]) -> onnx.NodeProto:
        possible = [op for op in OPERATORS if (op != "If" or depth) and (op != "Call" or callable_functions)]
        op, output = self.draw(st.sampled_from(possible)), self.fresh()
        name = f"node_{output}"
        first, second = (self.draw(st.sampled_from(visible)) for _ in range(2))
        if op == "If":
            branches = []
            for _ in range(2):
                inside = self.nodes(visible, depth - 1, callable_functions)
                branches.append(branch(inside, inside[-1].output[0]))
            return node("If", "condition", output, name, then_branch=branches[0], else_branch=branches[1])
        if op == "Call":
            return node(self.draw(st.sampled_from(callable_functions)), f"{first} condition", output, name, domain="f")
        if op == "Relu":
            self.relus.append(output)
        return node(op, f"{first} {second}" if op in ("Add", "Sub", "Mul", "Max") else first, output, name)


@dataclass(frozen=True)
class Case:
    """A model, the outputs of its Relus, and steps: target, jump, and which of the Relus are converted."""

    model: onnx.ModelProto
    relus: list[str]
    steps: list[tuple[str, float, list[str]]]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    builder = Builder(draw)
    functions = []
    for index, name in enumerate(FUNCTIONS):
        inside = builder.nodes([f"a{index}"], 1, FUNCTIONS[:index])
        # The condition is the function's as well as the model's: a body in it takes it from outside.
        functions.append(function(name, f"a{index} condition", inside[-1].output[0], inside, opset=18, calls=True))
    nodes = builder.nodes(["x"], 2, FUNCTIONS)
    # Every function is called, so that all Relus have a type.
    nodes += [node(name, f"{nodes[-1].output[0]} condition", f"called_{name}", domain="f") for name in FUNCTIONS]
    nodes += [node("Relu", "called_G", "last", "node_last")]
    builder.relus.append("last")
    outputs = [value(item.output[0], FLOAT, [6]) for item in nodes]
    inputs = [value("x", FLOAT, [6]), value("condition", BOOL, [])]
    model = make_model(nodes, inputs, outputs, functions=functions, domains=["f"])
    part = st.lists(st.sampled_from(builder.relus), min_size=1, unique=True)
    step = st.tuples(st.sampled_from(sorted(TARGETS)), st.sampled_from([0.0, 0.25, 0.5, 1.0, 4.0]), part)
    return Case(model, builder.relus, draw(st.lists(step, min_size=1, max_size=3)))


@settings(max_examples=150)
@given(cases())
def test_any_relus_converted_in_any_steps_give_what_numpy_gives(case: Case) -> None:
    model = case.model
    jumps: dict[str, np.float32] = {}
    for target, jump, part in case.steps:
        model = hardened(model, jump, include=[f"node_{name}" for name in part], **TARGETS[target])
        jumps |= dict.fromkeys(part, np.float32(jump))
        check(model)
    for condition in (True, False):
        # Quarters, of which sums, differences and small products are exact.
        feeds = {"x": np.array([-1, 0, 0.25, 0.5, 0.75, 1], np.float32), "condition": np.asarray(condition)}
        want = evaluate(with_oracle(case.model, jumps.get), feeds)
        # Unoptimized: some of these graphs onnxruntime optimizes into a circle, hardened or not.
        for got, expected in zip(run(model, feeds, NONE), want, strict=True):
            assert_same_but_for_the_sign_of_zero(got, expected)


@settings(max_examples=100)
@given(cases())
def test_any_relus_converted_in_any_steps_are_reverted(case: Case) -> None:
    model = case.model
    for target, jump, part in case.steps:
        model = hardened(model, jump, include=[f"node_{name}" for name in part], **TARGETS[target])
    reverted = revert(model)
    assert reverted.exact
    assert reverted.model.SerializeToString() == case.model.SerializeToString()
    in_structure = revert(without_the_way_back(model)).model
    assert in_structure == case.model  # these have the IR version that JumpReLU needs
