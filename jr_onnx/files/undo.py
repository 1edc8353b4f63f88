"""The way back from an edited message: the original in pieces of the edited one, in a few hundred bytes of text.

The bytes that an edit took out are all that is lost by it. Most of a node that was replaced stands in the new one too,
so little more than the names at its front is kept, compressed.
"""

from __future__ import annotations

import base64
import binascii
import zlib
from bisect import bisect_right
from itertools import accumulate

from jr_onnx.files.splice import Piece, Span
from jr_onnx.files.wire import Buffer, WireError, encode_varint, read_varint

#: A record says so little in no model; one that claims to say more is damaged, or made to fill the memory.
_LARGEST = 64 << 20

#: Bytes that new and old have in common are worth a span from so many on.
_WORTH_A_SPAN = 8


def way_back(buffer: Buffer, pieces: list[Piece]) -> list[Piece]:
    """The message in `buffer` as pieces of the edited one, which consists of `pieces`."""
    back: list[Piece] = []
    position = place = 0  # in the original, in the edited message
    new = b""
    for piece in (*pieces, Span(len(buffer), len(buffer))):
        if isinstance(piece, Span):
            back += _removed(buffer[position : piece.start], new, place)
            back.append(Span(place, place + len(piece)))
            position, new = piece.end, b""
        else:
            new += piece
        place += len(piece)
    return [piece for piece in back if len(piece)]


def _removed(old: bytes, new: bytes, place: int) -> list[Piece]:
    """Bytes that were replaced by `new`, which ends at `place`; of an end of them that `new` has too, its place."""
    least, most = 0, len(old)
    while least < most:  # what holds for an end holds for each shorter one
        middle = (least + most + 1) // 2
        least, most = (middle, most) if old[len(old) - middle :] in new else (least, middle - 1)
    if least < _WORTH_A_SPAN:
        return [old]
    start = place - len(new) + new.index(old[len(old) - least :])
    return [old[: len(old) - least], Span(start, start + least)]


def chained(first: list[Piece], second: list[Piece]) -> list[Piece]:
    """Pieces of a message that itself consists of the pieces `second`, as pieces of what those are pieces of."""
    starts = list(accumulate(map(len, second), initial=0))
    chain: list[Piece] = []
    for piece in first:
        if not isinstance(piece, Span):
            chain.append(piece)
            continue
        position, index = piece.start, bisect_right(starts, piece.start) - 1
        while position < piece.end:
            under, inside = second[index], position - starts[index]
            step = min(piece.end - position, len(under) - inside)
            start = under.start + inside if isinstance(under, Span) else inside
            chain.append(Span(start, start + step) if isinstance(under, Span) else under[start : start + step])
            position, index = position + step, index + 1
    return chain


def packed(pieces: list[Piece]) -> str | None:
    """Pieces as text; None where they are so large that `unpacked` would refuse them."""
    encoded = bytearray()
    position = 0
    for piece in pieces:
        if isinstance(piece, Span):
            encoded += encode_varint((piece.start - position) << 1 | 1) + encode_varint(len(piece))
            position = piece.end
        else:
            encoded += encode_varint(len(piece) << 1) + piece
    return None if len(encoded) > _LARGEST else base64.b64encode(zlib.compress(encoded, 9)).decode()


def unpacked(text: str, size: int) -> list[Piece] | None:
    """The pieces, of a message of so many bytes; None where the text is damaged, or does not fit the message.

    zlib's checksum notices damage. Some kilobytes of zlib could say millions of pieces: there are no more of them than
    bytes in the message and the text.
    """
    try:
        decompressor, compressed = zlib.decompressobj(), base64.b64decode(text, validate=True)
        encoded = decompressor.decompress(compressed, _LARGEST)
        whole = decompressor.eof and base64.b64encode(compressed).decode() == text  # no bit is without a meaning
        return _decoded(encoded, size, size + len(text)) if whole and not decompressor.unused_data else None
    except (binascii.Error, ValueError, zlib.error, WireError):
        return None


def _decoded(encoded: bytes, size: int, most: int) -> list[Piece] | None:
    pieces: list[Piece] = []
    place = position = 0
    while place < len(encoded):
        if len(pieces) > most:
            return None
        head, place = read_varint(encoded, place, len(encoded))
        if head & 1:
            length, place = read_varint(encoded, place, len(encoded))
            start = position + (head >> 1)
            position = start + length
            pieces.append(Span(start, position))
        else:
            pieces.append(encoded[place : place + (head >> 1)])
            place += head >> 1
    return pieces if position <= size and place == len(encoded) else None
