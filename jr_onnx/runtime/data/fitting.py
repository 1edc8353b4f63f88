"""What a model takes, as far as data must fit it."""

from __future__ import annotations

from typing import Literal, Protocol

from jr_onnx.conversion.graph.value_types import Dimension
from jr_onnx.errors import OptionError

Layout = Literal["NCHW", "NHWC"]

#: The numbers of channels by which a layout is told.
_CHANNELS = (1, 3)


class ModelInput(Protocol):
    """The one input of a model that must be fed.

    Attributes:
        input: its name.
        shape: the batch first; a dimension may be a number, a name or None.
        classes: how many the model tells apart; None where that is not known.
        layout: where the channels are in an input of rank 4.
    """

    @property
    def input(self) -> str: ...
    @property
    def shape(self) -> tuple[Dimension, ...]: ...
    @property
    def classes(self) -> int | None: ...
    @property
    def layout(self) -> Layout: ...


def layout_of(shape: tuple[Dimension, ...]) -> Layout:
    """Where the channels are in an input of rank 4; else "NCHW"."""
    last = len(shape) == 4 and shape[3] in _CHANNELS and shape[1] not in _CHANNELS
    return "NHWC" if last else "NCHW"


def shape_text(shape: tuple[Dimension, ...]) -> str:
    """ "[N, 3, ?, ?]"."""
    return f"[{', '.join('?' if dim is None else str(dim) for dim in shape)}]"


def check_shape(shape: tuple[int, ...], wanted: tuple[Dimension, ...], what: str) -> None:
    """Whether samples fit an input; `shape` is [N, ...], the number of samples does not matter.

    Raises:
        OptionError: they do not; the message says so of `what`.
    """
    if _fits(shape, wanted):
        return
    hint = ""
    for name, order in (("x.transpose(0, 3, 1, 2)", (0, 3, 1, 2)), ("x.transpose(0, 2, 3, 1)", (0, 2, 3, 1))):
        if len(shape) == 4 and _fits(tuple(shape[axis] for axis in order), wanted):
            hint = f"; {name} would fit"
    raise OptionError(f"{what} have the shape {shape_text(shape)}, the model takes {shape_text(wanted)}{hint}")


def check_labels(highest: int, classes: int | None, what: str) -> None:
    """Whether a label is a class of the model.

    Raises:
        OptionError: it is not.
    """
    if classes is not None and highest >= classes:
        raise OptionError(f"{what}: the label {highest} is not one of the model's {classes} classes (from 0)")


def _fits(shape: tuple[int, ...], wanted: tuple[Dimension, ...]) -> bool:
    pairs = zip(shape[1:], wanted[1:], strict=False)
    return len(shape) == len(wanted) and all(size == dim for size, dim in pairs if isinstance(dim, int))
