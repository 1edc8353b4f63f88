"""Real models, damaged by the thousand: refused in one line or converted whole, without a traceback or a hang."""

from __future__ import annotations

import faulthandler
import random
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import strange_models
import wire_format
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto
from outcome import Outcome
from planned_edits import planned_edits
from quantized_models import one_layer
from support import BACKEND_DATA, SHIPPED, make_model, node, value

#: Seconds of the processor for one example; nothing that it does is slow.
LIMIT = 20
#: Seconds after which it hangs, however busy the machine is.
HANGS = 300


def seeds() -> list[bytes]:
    """Small real models, and such with something in them that real ones seldom have."""
    real = [path for path in SHIPPED if path.stat().st_size < 12_000]
    real += [BACKEND_DATA / "simple" / "test_single_relu_model" / "model.onnx"]
    real += [path for path in (BACKEND_DATA / "light").glob("*.onnx") if path.stat().st_size < 10_000]
    x, zero = [value("x", shape=[2, 3])], np.zeros((), np.float32)
    clips = [
        node("Constant", "", "k", value_float=0.0),
        node("Clip", "x low", "a"),
        node("Max", "a k", "b"),
        node("ThresholdedRelu", "b", "c", alpha=0.5),
        node("QuantizeLinear", "c low zero", "q"),
        node("DequantizeLinear", "q low zero", "d"),
        node("Clip", "d k", "y"),
    ]
    fused = [node("FusedGemm", "x w", "y", domain="com.microsoft", activation="Relu")]
    made = [
        make_model(clips, x, [value("y")], initializers={"low": zero, "zero": np.uint8(0)}),
        make_model(fused, x, [value("y")], initializers={"w": np.eye(3, dtype=np.float32)}, domains=["com.microsoft"]),
        make_model(strange_models.nested_relu(""), [value("x")], [value("y")]),
        make_model(
            [node("Nested", "x", "y", domain="d")],
            x,
            [value("y")],
            functions=[strange_models.nested_function("d")],
            domains=["d"],
        ),
    ]
    integers = [
        node("QLinearMatMul", "x s z w s z s m", "a"),
        node("QLinearAdd", "a s m x s z s z", "y", domain="com.microsoft"),
    ]
    made += [
        one_layer(0.1, np.uint8(0)),
        make_model(
            integers,
            [value("x", TensorProto.UINT8, [2, 2])],
            [value("y", TensorProto.UINT8)],
            initializers={"s": np.float32(0.1), "z": np.uint8(0), "m": np.uint8(128), "w": np.ones((2, 2), np.uint8)},
            domains=["com.microsoft"],
        ),
    ]
    external = strange_models.weighted_relu(np.ones(3, np.float32))
    external.graph.initializer[0].data_location = TensorProto.EXTERNAL
    external.graph.initializer[0].external_data.add(key="location", value="model.onnx")
    return [path.read_bytes() for path in sorted(real)] + [m.SerializeToString() for m in (*made, external)]


SEEDS = seeds()

#: What a text, or a message, becomes.
TEXTS = (b"", b"\xff", b"a\nb", b"x", b"y", b"Relu", b"Clip", b"Constant", b"Loop", b"LSTM", b"..", b"jr_onnx.version")
#: What a number becomes.
NUMBERS = (0, 1, 2, 3, 7, 11, 16, 127, 128, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1)


def damaged_bytes(content: bytes, chance: random.Random) -> bytes:
    """Bytes changed, removed, doubled, cut off, put in, or followed by those of another model."""
    place = chance.randrange(len(content) + 1)
    rest = place + chance.choice((1, 2, 8, 64))
    other = chance.choice(SEEDS)
    return chance.choice(
        (
            content[:place],
            content[:place] + content[rest:],
            content[:rest] + content[place:],
            content[:place] + other[chance.randrange(len(other)) :],
            content[:place] + chance.randbytes(3) + content[place:],
            content[:place] + chance.randbytes(1) + content[place + 1 :],
            content[:place] + bytes(byte ^ 1 << chance.randrange(8) for byte in content[place:rest]) + content[rest:],
        )
    )


def damaged_fields(content: bytes, chance: random.Random, depth: int = 0) -> bytes:
    """A message with a field removed, doubled, moved or changed, at any depth; the lengths around it stay right."""
    try:
        fields = wire_format.parse(content)
    except ValueError:
        fields = []
    if not fields:
        return damaged_bytes(content, chance)
    index, other = chance.randrange(len(fields)), chance.randrange(len(fields))
    number, wire_type, inside, raw = fields[index]
    if wire_type == wire_format.BYTES and depth < 12 and chance.random() < 0.75:
        fields[index] = wire_format.field(number, wire_type, damaged_fields(inside, chance, depth + 1))
        return wire_format.joined(fields)
    how = chance.randrange(6)
    if how == 0:
        del fields[index]
    elif how == 1:
        fields.insert(other, fields[index])
    elif how == 2:
        fields[index], fields[other] = fields[other], fields[index]
    elif how == 3:
        raw = wire_format.varint(chance.randrange(1, 27) << 3 | wire_type) + raw[1 + (number > 15) :]
        fields[index] = fields[index]._replace(raw=raw)
    elif wire_type == wire_format.BYTES:
        fields[index] = wire_format.field(number, wire_type, chance.choice((*TEXTS, fields[other].value)))
    elif wire_type == wire_format.VARINT:
        fields[index] = wire_format.field(number, wire_type, chance.choice(NUMBERS))
    return wire_format.joined(fields)


def damaged(seed: int) -> bytes:
    """One of the models, damaged in one place or in a few."""
    chance = random.Random(seed)
    content = chance.choice(SEEDS)
    for _ in range(chance.choice((1, 1, 1, 2, 4))):
        content = chance.choice((damaged_bytes, damaged_fields, damaged_fields, damaged_fields))(content, chance)
    return content


COMMANDS = [
    ("inspect", []),
    ("inspect", ["--json"]),
    ("convert", ["--jump", "0.5", "--clip", "--json"]),
    ("convert", ["--jump", "0.5", "--clip", "--inline", "--allow-empty"]),
    ("convert", ["--jump", "0.5", "--clip", "--target", "subgraph", "--jump-input"]),
    ("convert", ["--jump", "0.5", "--clip", "--target", "standard"]),
    ("convert", ["--jump", "0.5"]),
]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder for all examples."""
    yield tmp_path_factory.mktemp("damaged")
    faulthandler.cancel_dump_traceback_later()


@pytest.mark.parametrize("examples", [300, pytest.param(3000, marks=pytest.mark.slow)])
def test_a_damaged_model_is_refused_in_one_line_or_converted_whole(examples: int, workplace: Path) -> None:
    @settings(max_examples=examples, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.integers(0, 2**64 - 1), st.sampled_from(COMMANDS))
    def each(seed: int, command: tuple[str, list[str]]) -> None:
        refused_or_whole(workplace, seed, command)

    each()


def refused_or_whole(workplace: Path, seed: int, command: tuple[str, list[str]]) -> None:
    path, output = workplace / "model.onnx", workplace / "model.jumprelu.onnx"
    path.write_bytes(damaged(seed))
    output.unlink(missing_ok=True)
    # What hangs in code that Python cannot interrupt ends the tests.
    faulthandler.dump_traceback_later(HANGS, exit=True)
    started = time.process_time()
    outcome = Outcome(workplace, (command[0], path, *command[1]))
    assert time.process_time() - started < LIMIT
    if outcome.code == 2:
        assert outcome.is_refusal(), vars(outcome)
    else:
        assert (outcome.code, outcome.err) == (0, "")
        assert outcome.out
        assert outcome.new == ([output.name] if command[0] == "convert" else [])
        if outcome.new:
            planned_edits(path.read_bytes(), output.read_bytes())
