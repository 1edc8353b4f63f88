"""What only looks like something that jr-onnx wrote is the model's own, and stays."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest

import jr_onnx

X = np.array([-1, 0.25, 0.75, 2], np.float32)
HARD = np.array([0, 0, 0.75, 2], np.float32)


def run(model: onnx.ModelProto, **feeds: np.ndarray) -> list[np.ndarray]:
    onnx.checker.check_model(model, full_check=True)
    return onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": X, **feeds})


def hardened(model: onnx.ModelProto, jump: float = 0.5, **options: object) -> onnx.ModelProto:
    result = jr_onnx.convert(model, jump=jump, **options).model
    assert result is not None
    return result


def parse(text: str) -> onnx.ModelProto:
    return onnx.parser.parse_model(text)


def test_an_output_of_the_graph_that_has_our_prefix_stays() -> None:
    model = parse("""<ir_version: 8, opset_import: ["": 17]>
        g (float[4] x) => (float[4] y, float[4] neg) { y = Relu(x)  neg = Neg(x) }""")
    model.graph.node[1].output[0] = model.graph.output[1].name = "jr_onnx.neg"
    y, negated = run(hardened(model))
    np.testing.assert_array_equal(y, HARD)
    np.testing.assert_array_equal(negated, -X)


def test_a_jump_that_the_graph_gives_out_stays_when_it_is_replaced() -> None:
    model = hardened(
        parse("""<ir_version: 8, opset_import: ["": 17]> g (float[4] x) => (float[4] y) { y = Relu(x) }""")
    )
    model.graph.output.append(onnx.helper.make_tensor_value_info("jr_onnx.jump", onnx.TensorProto.FLOAT, []))
    _, jump = run(hardened(model, 0.1, target="standard"))
    assert jump == np.float32(0.5)


@pytest.mark.parametrize("target", ["custom-op", "standard"])
def test_another_function_of_our_domain_is_a_function_like_any_other(target: str) -> None:
    model = parse("""<ir_version: 8, opset_import: ["": 17, "jr_onnx": 1]>
        g (float[4] x) => (float[4] y) { h = jr_onnx.Block(x)  y = Relu(h) }
        <domain: "jr_onnx", opset_import: ["": 17]> Block (a) => (b) { b = Relu(a) }""")
    result = jr_onnx.convert(model, jump=0.5, target=target)
    assert [site.path for site in result.sites] == ["Relu#1", "jr_onnx::Block/Relu#0"]
    assert result.model is not None
    np.testing.assert_array_equal(run(result.model)[0], HARD)
    again = hardened(result.model, 0.1, target="standard")
    np.testing.assert_array_equal(run(again)[0], np.array([0, 0.25, 0.75, 2], np.float32))


def test_a_policy_takes_arrays_and_lists_as_they_are() -> None:
    jump = jr_onnx.JumpReluPolicy(default=np.full(4, 0.25), rules=(jr_onnx.PolicyRule("a", [0.5, 1]),))  # type: ignore[arg-type]
    assert jump.default == (0.25,) * 4
    assert jump.rules[0].jump == (0.5, 1.0)


def test_one_glob_in_place_of_a_list_is_refused() -> None:
    model = parse("""<ir_version: 8, opset_import: ["": 17]> g (float[4] x) => (float[4] y) { y = Relu(x) }""")
    with pytest.raises(jr_onnx.OptionError, match="a list of them is needed"):
        jr_onnx.convert(model, jump=0.5, include="r*")
