"""The way back from an edited message gives the original, through any number of edits, and survives as text."""

from __future__ import annotations

import base64
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jr_onnx.files.splice import Piece, Span, join
from jr_onnx.files.undo import chained, packed, unpacked, way_back


@st.composite
def edits(draw: st.DrawFn, size: int) -> list[Piece]:
    """What may become of a message of so many bytes: spans of it in order, and new bytes."""
    places = sorted(draw(st.lists(st.integers(0, size), max_size=8)))
    kept = [Span(start, end) for start, end in zip(places[::2], places[1::2], strict=False)]
    pieces: list[Piece] = [draw(st.binary(max_size=30))]
    for span in kept:
        pieces += [span, draw(st.binary(max_size=30))]
    return [piece for piece in pieces if len(piece)]


@given(st.data())
def test_the_way_back_gives_the_original_after_each_of_two_edits(data: st.DataObject) -> None:
    original = data.draw(st.binary(max_size=200))
    pieces = data.draw(edits(len(original)))
    edited = join(original, pieces)
    back = way_back(original, pieces)
    assert join(edited, back) == original
    again = data.draw(edits(len(edited)))
    twice = join(edited, again)
    both = chained(back, way_back(edited, again))
    assert join(twice, both) == original
    text = packed(both)
    assert text is not None
    assert unpacked(text, len(twice)) == both


def test_an_end_that_the_new_bytes_have_too_is_not_kept() -> None:
    trace = bytes(range(200))
    assert way_back(b"Relu" + trace, [b"JumpReLU" + trace]) == [b"Relu", Span(8, 208)]
    assert way_back(b"Relu" + trace, [b"JumpReLU" + trace + b"mark"]) == [b"Relu", Span(8, 208)]


def text_of(encoded: bytes) -> str:
    return base64.b64encode(zlib.compress(encoded)).decode()


@pytest.mark.parametrize(
    "text",
    [
        "no base64",
        base64.b64encode(b"not compressed").decode(),
        text_of(b"\x80"),  # a number that does not end
        text_of(b"\x0aabc"),  # five bytes are announced, three are there
        text_of(b"\x01\x65"),  # a span behind the end of the message
        base64.b64encode(zlib.compress(b"\x06abc")[:-3]).decode(),  # cut off
        text_of(bytes(65 << 20)),  # a bomb
        text_of(bytes(1 << 20)),  # so many pieces of nothing
        "é",
    ],
    ids=range(9),
)
def test_a_damaged_text_says_nothing(text: str) -> None:
    assert unpacked(text, 100) is None


@given(st.binary(max_size=60))
def test_any_text_gives_pieces_of_the_message_or_nothing(encoded: bytes) -> None:
    for piece in unpacked(text_of(encoded), 100) or ():
        assert not isinstance(piece, Span) or 0 <= piece.start <= piece.end <= 100
