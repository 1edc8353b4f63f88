"""Converting what was converted before: the jump is replaced, nothing piles up, nothing of the first time stays."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
import pytest
from support import (
    BOOL,
    DOUBLE,
    EACH_TARGET,
    FLOAT,
    FLOAT16,
    INT64,
    TARGETS,
    Array,
    assert_same_bits,
    branch,
    check,
    function,
    hardened,
    make_model,
    nested_model,
    newest_opset,
    node,
    relu_model,
    report_of,
    run,
    value,
)

EACH_BEFORE = pytest.mark.parametrize("before", TARGETS)

VALUES = np.array([[-1, 0.25, 0.5], [0.75, 2, 3]], np.float32)


def simple(opset: int = 18, ir_version: int = 8) -> onnx.ModelProto:
    """Two Relu, one of them without a name."""
    nodes = [node("Relu", "x", "h", "first"), node("Sub", "h one", "s"), node("Relu", "s", "y")]
    tensors = {"one": np.asarray(0.5, np.float32)}
    x, y = value("x", FLOAT, [2, 3]), value("y", FLOAT, [2, 3])
    return make_model(nodes, [x], [y], opset=opset, ir_version=ir_version, initializers=tensors)


def mixed_types(opset: int = 18) -> onnx.ModelProto:
    """A Relu in each of three types."""
    types = (FLOAT, FLOAT16, DOUBLE)
    nodes = [node("Cast", "x", f"c{t}", to=int(t)) for t in types]
    nodes += [node("Relu", f"c{t}", f"r{t}", f"relu{t}") for t in types]
    nodes += [node("Cast", f"r{t}", f"y{t}", to=int(FLOAT)) for t in types]
    return make_model(nodes, [value("x", FLOAT, [2, 3])], [value(f"y{t}", FLOAT, [2, 3]) for t in types], opset=opset)


def with_functions() -> onnx.ModelProto:
    """A Relu in a function, in a body in it, and in a function that it calls."""
    inner = function("Inner", "a", "b", [node("Neg", "a", "n"), node("Relu", "n", "b", "relu")])
    then, other = branch([node("Relu", "i", "t", "relu")], "t"), branch([node("Neg", "i", "e")], "e")
    body = [
        node("Inner", "a", "i", domain="f"),
        node("ReduceMax", "a", "m", keepdims=0),
        node("Constant", "", "one", value_float=1.0),
        node("Greater", "m one", "c"),
        node("If", "c", "b", "if", then_branch=then, else_branch=other),
    ]
    outer = function("Outer", "a", "b", body, calls=True)
    nodes = [node("Outer", "x", "h", domain="f"), node("Relu", "h", "r"), node("Inner", "r", "y", domain="f")]
    x, y = value("x", FLOAT, [2, 3]), value("y", FLOAT, [2, 3])
    return make_model(nodes, [x], [y], functions=[inner, outer], domains=["f"])


def nested() -> onnx.ModelProto:
    """Relu in If, Loop and Scan."""
    return nested_model()


def clipped() -> onnx.ModelProto:
    """A Relu, and a ReLU6."""
    nodes = [node("Relu", "x", "h", "relu"), node("Clip", "h low high", "y", "clip")]
    tensors = {"low": np.asarray(0, np.float32), "high": np.asarray(2.5, np.float32)}
    x, y = value("x", FLOAT, [2, 3]), value("y", FLOAT, [2, 3])
    return make_model(nodes, [x], [y], initializers=tensors)


def recurrent() -> onnx.ModelProto:
    """An RNN in both directions, and a Relu behind it."""
    tensors = {
        "w": np.random.default_rng(0).normal(size=(2, 4, 3)).astype(np.float32),
        "r": np.random.default_rng(1).normal(size=(2, 4, 4)).astype(np.float32),
    }
    rnn = node("RNN", "u w r", "h", "rnn", hidden_size=4, activations=["Relu", "Tanh"], direction="bidirectional")
    nodes = [node("Unsqueeze", "x axis", "u"), rnn, node("Relu", "h", "y", "relu")]
    tensors["axis"] = np.array([0], np.int64)
    x, y = value("x", FLOAT, [2, 3]), value("y", FLOAT, [1, 2, 2, 4])
    return make_model(nodes, [x], [y], initializers=tensors)


SAMPLES = {
    "simple": simple,
    "opset 7": lambda: simple(7),
    "opset 8": lambda: simple(8),
    "opset 9": lambda: simple(9),
    "opset 11": lambda: simple(11),
    "newest opset": lambda: simple(newest_opset()),
    "IR version 3": lambda: simple(8, 3),
    "mixed types": mixed_types,
    "mixed types at opset 8": lambda: mixed_types(8),
    "mixed types at opset 11": lambda: mixed_types(11),
    "functions": with_functions,
    "nested": nested,
    "clipped": clipped,
    "recurrent": recurrent,
}

EACH_SAMPLE = pytest.mark.parametrize("sample", SAMPLES)


def feeds_of(model: onnx.ModelProto) -> dict[str, Array]:
    """Values around the jumps, for the model's only input."""
    shape = [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim]
    return {"x": VALUES if shape == [2, 3] else VALUES.ravel()[: shape[0]]}


def options_of(sample: str, target: str) -> dict[str, Any]:
    return {**TARGETS[target], "clip": sample == "clipped"}


def nodes_of(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """Every node at any depth."""

    def inside(nodes: Any) -> Iterator[onnx.NodeProto]:
        for item in nodes:
            yield item
            for attribute in item.attribute:
                yield from inside(attribute.g.node)

    yield from inside(model.graph.node)
    for body in model.functions:
        yield from inside(body.node)


def assert_tidy(model: onnx.ModelProto) -> None:
    """Nothing that jr-onnx adds is there without a use, or twice."""
    check(model)
    nodes = list(nodes_of(model))
    used = {name for item in nodes for name in item.input} | {output.name for output in model.graph.output}
    ours = [t.name for t in model.graph.initializer if t.name.startswith("jr_onnx.")]
    ours += [name for item in nodes for name in item.output if name.startswith("jr_onnx.")]
    assert set(ours) <= used
    assert len(set(ours)) == len(ours)
    calls = [item for item in nodes if item.domain == "jr_onnx"]
    functions = [f for f in model.functions if f.domain == "jr_onnx"]
    assert len(functions) == bool(calls)
    assert [o.domain for o in model.opset_import].count("jr_onnx") == bool(calls)
    for body in model.functions:
        called = any(item.domain == "jr_onnx" for item in nodes_of(onnx.ModelProto(functions=[body])))
        assert [o.domain for o in body.opset_import].count("jr_onnx") == called
    keys = [entry.key for entry in model.metadata_props]
    assert len(set(keys)) == len(keys)


def normal(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model without jr-onnx's metadata, and with what is appended in the order of its names."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    kept = [entry for entry in result.metadata_props if not entry.key.startswith("jr_onnx.")]
    for repeated, wanted in (
        (result.metadata_props, kept),
        (result.graph.initializer, sorted(result.graph.initializer, key=lambda t: t.name)),
        (result.opset_import, sorted(result.opset_import, key=lambda o: o.domain)),
        (result.functions, sorted(result.functions, key=lambda f: (f.domain, f.name))),
        *((f.opset_import, sorted(f.opset_import, key=lambda o: o.domain)) for f in result.functions),
    ):
        copies = [type(item).FromString(item.SerializeToString()) for item in wanted]
        del repeated[:]
        repeated.extend(copies)
    return result


def operators(model: onnx.ModelProto, sample: str) -> list[str]:
    """The operators at any depth, in the order of their names, without those that the way to them may add."""
    if sample == "IR version 3":  # where the version is raised, constants are initializers from then on
        hidden = {"Constant"}
    elif sample == "clipped":  # that nothing behind a Clip is negative is seen by the first conversion only
        hidden = {"Relu"}
    else:
        hidden = set()
    return sorted(item.op_type for item in nodes_of(model) if item.op_type not in hidden)


@EACH_SAMPLE
@EACH_TARGET
def test_converting_twice_for_one_target_is_converting_once(sample: str, target: str) -> None:
    original, options = SAMPLES[sample](), options_of(sample, target)
    once = hardened(original, 0.75, **options)
    twice = hardened(hardened(original, 0.25, **options), 0.75, **options)
    assert normal(twice) == normal(once)


@EACH_SAMPLE
@EACH_TARGET
def test_converting_twice_with_the_same_jump_changes_nothing(sample: str, target: str) -> None:
    options = options_of(sample, target)
    once = hardened(SAMPLES[sample](), 0.25, **options)
    assert normal(hardened(once, 0.25, **options)) == normal(once)


@EACH_SAMPLE
@EACH_BEFORE
@EACH_TARGET
def test_from_any_target_to_any_target_gives_the_same_as_converting_once(sample: str, before: str, target: str) -> None:
    original = SAMPLES[sample]()
    once = hardened(original, 0.75, **options_of(sample, target))
    report = report_of(hardened(original, 0.25, **options_of(sample, before)), 0.75, **options_of(sample, target))
    assert report.model is not None
    assert_tidy(report.model)
    # No JumpReLU on a JumpReLU: the same operators, whatever their names.
    assert operators(report.model, sample) == operators(once, sample)
    assert "the model was hardened before: its jumps are replaced" in report.notes or sample == "recurrent"
    feeds = feeds_of(original)
    for got, want in zip(run(report.model, feeds), run(once, feeds), strict=True):
        assert_same_bits(got, want, f"{sample}: {before} -> {target}")


@EACH_TARGET
def test_a_round_of_all_targets_comes_back_to_where_it_began(target: str) -> None:
    first = model = hardened(simple(), 0.25, **TARGETS[target])
    for jump, other in enumerate(TARGETS):
        model = hardened(model, float(jump), **TARGETS[other])
        assert_tidy(model)
    model = hardened(model, 0.25, **TARGETS[target])
    assert_tidy(model)
    assert sorted(n.op_type for n in nodes_of(model)) == sorted(n.op_type for n in nodes_of(first))
    assert {n.name for n in model.graph.node} >= {"first"}
    feeds = {"x": VALUES}
    assert_same_bits(run(model, feeds)[0], run(first, feeds)[0])


@EACH_TARGET
def test_conversions_do_not_make_a_model_grow(target: str) -> None:
    sizes = []
    model = mixed_types()
    for jump in (0.25, 0.5, 0.75, 1.0):
        model = hardened(model, jump, **TARGETS[target])
        sizes.append(model.ByteSize())
    assert max(sizes) - min(sizes) <= 2  # "1.0" is shorter than "0.25"


@EACH_BEFORE
@EACH_TARGET
def test_a_part_can_be_converted_again(before: str, target: str) -> None:
    once = hardened(simple(), 0.25, **TARGETS[before])
    again = hardened(once, 0.75, include=["first"], **TARGETS[target])
    assert_tidy(again)
    (got,) = run(again, {"x": VALUES})
    h = np.where(VALUES <= 0.75, 0, VALUES) - np.float32(0.5)
    assert_same_bits(np.abs(got), np.where(h <= 0.25, 0, h).astype(np.float32))


@EACH_BEFORE
@EACH_TARGET
def test_the_jumps_of_channels_can_be_replaced_by_one_and_back(before: str, target: str) -> None:
    channels = (0.25, 0.5, 0.75)
    model = simple()
    want = hardened(model, channels, **TARGETS[target])
    there = hardened(hardened(model, 0.25, **TARGETS[before]), channels, **TARGETS[target])
    assert_tidy(there)
    back = hardened(there, 0.75, **TARGETS[before])
    assert_tidy(back)
    assert_same_bits(run(there, {"x": VALUES})[0], run(want, {"x": VALUES})[0])
    once = hardened(model, 0.75, **TARGETS[before])
    assert_same_bits(run(back, {"x": VALUES})[0], run(once, {"x": VALUES})[0])


def test_what_was_left_alone_the_first_time_is_converted_the_second() -> None:
    model = make_model(
        [node("Relu", "x", "h", "a"), node("Clip", "h low high", "y", "b")],
        [value("x", FLOAT, [4])],
        [value("y", FLOAT, [4])],
        initializers={"low": np.asarray(0, np.float32), "high": np.asarray(2, np.float32)},
    )
    once = hardened(model, 0.25)
    report = report_of(once, 0.5, clip=True)
    assert [(site.path, site.op_type) for site in report.sites] == [("a", "jr_onnx.JumpReLU"), ("b", "Clip")]
    # Once more without --clip: the jump behind the Clip is a JumpReLU like any other.
    assert len(report_of(report.model, 0.75).sites) == 2


@EACH_TARGET
def test_names_documentation_and_metadata_of_a_node_survive(target: str) -> None:
    model = relu_model(ir_version=10)
    relu = model.graph.node[0]
    relu.doc_string = "important"
    relu.metadata_props.append(onnx.StringStringEntryProto(key="origin", value="layer1"))
    for result in (hardened(model, 0.25, **TARGETS[target]), hardened(hardened(model, 0.25, **TARGETS[target]), 0.5)):
        (heir,) = (n for n in result.graph.node if n.doc_string)
        assert heir.name == "relu"
        theirs = [(e.key, e.value) for e in heir.metadata_props if not e.key.startswith("jr_onnx.")]
        assert theirs == [("origin", "layer1")]


@pytest.mark.parametrize("before", ["inline", "subgraph"])
@EACH_TARGET
def test_a_form_whose_mark_was_dropped_is_known_by_the_names_of_its_constants(before: str, target: str) -> None:
    model = relu_model(ir_version=10)
    once = hardened(model, 0.25, **TARGETS[before])
    for item in nodes_of(once):
        del item.metadata_props[:]
    again = hardened(once, 0.5, **TARGETS[target])
    direct = hardened(model, 0.5, **TARGETS[target])
    assert sorted(item.op_type for item in again.graph.node) == sorted(item.op_type for item in direct.graph.node)
    x = np.array([-1, 0.25, 0.5, 0.75] + [2.0] * 6, np.float32)
    assert_same_bits(run(again, {"x": x})[0], run(direct, {"x": x})[0])


def test_inputs_and_outputs_keep_their_names_in_every_scope() -> None:
    then, other = branch([node("Relu", "x", "t")], "t"), branch([node("Relu", "x", "e")], "e")
    model = make_model(
        [node("If", "c", "y", "if", then_branch=then, else_branch=other)],
        [value("x", FLOAT, [4]), value("c", BOOL, []), value("unused", INT64, [])],
        [value("y", FLOAT, [4])],
    )
    for before in TARGETS:
        for target in TARGETS:
            again = hardened(hardened(model, 0.25, **TARGETS[before]), 0.5, **TARGETS[target]).graph
            assert again.input == model.graph.input
            assert again.output == model.graph.output
            assert [a.g.output[0].name for a in again.node[0].attribute] == ["e", "t"]
