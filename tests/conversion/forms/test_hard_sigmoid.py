"""Relu(x) * HardSigmoid(Relu(x)) is JumpReLU for every float, for the jumps that it is offered for."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import assert_same_but_for_the_sign_of_zero, hardened, relu_model, report_of, run

from jr_onnx.conversion.forms.table import HARD_SIGMOID
from jr_onnx.reference import jump_relu

LEAST, TOO_LARGE = HARD_SIGMOID.jumps or (0.0, 0.0)
JUMPS = [LEAST, 1e-20, 0.05, 0.5, 1.0, float(np.nextafter(np.float32(2), np.float32(0))), 1e5]
JUMPS += [float(np.nextafter(np.float32(TOO_LARGE), np.float32(0)))]
#: All exponents and signs, 2^23 values apart; each run of the next test lays a window of patterns on each.
HIGH_BITS = np.arange(512, dtype=np.uint32) << 23


def floats(low_bits: np.ndarray) -> np.ndarray:
    """Every exponent and sign with each of some mantissas."""
    return (HIGH_BITS[:, None] | low_bits[None, :].astype(np.uint32)).view(np.float32).reshape(1, -1)


@pytest.mark.parametrize("jump", JUMPS)
def test_it_is_exact_around_the_jump_and_for_every_exponent(jump: float) -> None:
    mantissas = np.concatenate([np.arange(64), np.arange(2**23 - 64, 2**23), np.arange(0, 2**23, 40009)])
    around = np.float32(jump).view(np.uint32) + np.arange(-4096, 4097, dtype=np.int64)
    x = np.concatenate([floats(mantissas)[0], around.astype(np.uint32).view(np.float32)])[None]
    (y,) = run(hardened(relu_model(shape=None), jump, target="hard-sigmoid"), {"x": x})
    assert_same_but_for_the_sign_of_zero(y, jump_relu(x, jump), f"jump {jump}")


@given(st.floats(LEAST, np.nextafter(np.float32(TOO_LARGE), np.float32(0)).item(), width=32), st.integers(-3, 3))
def test_it_is_exact_at_the_neighbours_of_any_jump(jump: float, steps: int) -> None:
    pattern = np.float32(jump).view(np.uint32).astype(np.int64)
    x = np.array([[pattern + steps, pattern - steps]], np.int64).clip(0).astype(np.uint32).view(np.float32)
    (y,) = run(hardened(relu_model(shape=None), jump, target="hard-sigmoid"), {"x": x})
    assert_same_but_for_the_sign_of_zero(y, jump_relu(x, jump), f"jump {jump}")


@pytest.mark.slow
def test_it_is_exact_for_all_floats() -> None:
    model = hardened(relu_model(shape=None), 0.05, target="hard-sigmoid")
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    for start in range(0, 2**32, 2**24):
        x = np.arange(start, start + 2**24, dtype=np.int64).astype(np.uint32).view(np.float32)[None]
        assert_same_but_for_the_sign_of_zero(session.run(None, {"x": x})[0], jump_relu(x, 0.05), f"from {start:#x}")


@pytest.mark.parametrize("jump", [0.0, LEAST / 2, TOO_LARGE, 1e30])
def test_for_other_jumps_another_form_is_written_and_the_report_says_why(jump: float) -> None:
    (site,) = report_of(relu_model(), jump, target="hard-sigmoid").sites
    assert site.lowering == "Relu*Greater"
    assert "is exact for jumps from 6.6e-24 to 2.7e+08" in site.reason


def test_one_jump_a_channel_and_a_jump_input_take_another_form() -> None:
    (site,) = report_of(relu_model(shape=["N", 2, 3]), (0.1, 0.2), target="hard-sigmoid").sites
    assert site.lowering == "Relu*Greater"
    (site,) = report_of(relu_model(), 0.5, target="hard-sigmoid", jump_input="jump").sites
    assert site.lowering == "Relu*Greater"
