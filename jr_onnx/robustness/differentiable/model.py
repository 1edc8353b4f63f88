"""An ONNX graph as a torch module, with a choice of what the gradient of its Relus and JumpReLUs is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import onnx
import torch
from torch import Tensor

from jr_onnx.errors import ModelError, OptionError
from jr_onnx.robustness.gradients.backward import TRUE, Backward, Jumps
from jr_onnx.robustness.gradients.head import without_softmax
from jr_onnx.robustness.differentiable.jump_relu import jump_relu
from jr_onnx.robustness.differentiable.program import Program, Step, compile_program, flatten, read_model
from jr_onnx.robustness.differentiable.table import OPERATORS


class Evaluator(torch.nn.Module):
    """A program as a module; its constants are buffers, so that it moves between devices as modules do."""

    def __init__(self, program: Program) -> None:
        super().__init__()
        self._buffer_of: dict[str, str] = {}
        for name, value in program.constants.items():
            self._add(name, value)
        self.program = replace(program, steps=self._fold(program.steps))

    @property
    def sites(self) -> tuple[str, ...]:
        """The path of every Relu and JumpReLU; that of one in a function stands there once for each call."""
        return tuple(step.path for step in self.program.steps if step.call is None)

    def forward(
        self,
        feeds: Mapping[str, Tensor],
        *,
        jumps: Jumps = None,
        backward: Backward = TRUE,
    ) -> list[Tensor]:
        """The outputs of the program; see `DifferentiableModel.forward`."""
        if isinstance(jumps, Mapping) and (unknown := set(jumps) - set(self.sites)):
            raise OptionError(f"no Relu or JumpReLU is called '{min(unknown)}'")
        values = {name: getattr(self, buffer) for name, buffer in self._buffer_of.items()}
        values.update(feeds)
        for step in self.program.steps:
            inputs = [values[name] if name else None for name in step.inputs]
            for name in step.last_use:
                del values[name]
            values.update(zip(step.outputs, self._run(step, inputs, jumps, backward), strict=False))
        return [values[name] for name in self.program.outputs]

    @staticmethod
    def _run(step: Step, inputs: list[Tensor | None], jumps: Jumps, backward: Backward) -> tuple[Tensor, ...]:
        if step.call is not None:
            try:
                given = OPERATORS[step.call.op_type](step.call, *inputs)
            except NotImplementedError as error:  # what torch says of a type that it does not compute in
                raise step.call.unsupported(str(error)) from error
            return given if isinstance(given, tuple) else (given,)
        x = inputs[0]
        assert x is not None
        override = jumps.get(step.path) if isinstance(jumps, Mapping) else jumps
        own = inputs[1] if len(inputs) > 1 else None
        if override is not None or own is None:
            own = torch.tensor(step.jump if override is None else override, dtype=x.dtype, device=x.device)
        return (jump_relu(x, own, backward),)

    def _add(self, name: str, value: Tensor) -> None:
        self._buffer_of[name] = f"value{len(self._buffer_of)}"
        self.register_buffer(self._buffer_of[name], value)

    def _fold(self, steps: tuple[Step, ...]) -> tuple[Step, ...]:
        """The steps that depend on an input; what the others give becomes constant."""
        left = []
        for step in steps:
            if step.call is None or any(name and name not in self._buffer_of for name in step.inputs):
                left.append(step)
                continue
            inputs = [getattr(self, self._buffer_of[name]) if name else None for name in step.inputs]
            for name, value in zip(step.outputs, self._run(step, inputs, None, TRUE), strict=False):
                if name:
                    self._add(name, value.contiguous())
        return tuple(left)


class DifferentiableModel(torch.nn.Module):
    """A classifier in ONNX as a torch module.

    Attributes:
        sites: the path of every Relu and JumpReLU, as `jr-onnx inspect` shows them.
        dtype: the floating type it computes in; every floating type in the file becomes this one.
        softmax: whether the file ends in Softmax, or in Softmax and nodes that only pass its values on. `forward`
            leaves it out, because the gradients of a loss behind a saturated Softmax are zero; `outputs` gives what
            the file gives.
        batch: the one batch size that the file takes, or None. Other batches are cut and filled up to it.
    """

    def __init__(self, evaluator: Evaluator, dtype: torch.dtype, *, softmax: bool, batch: int | None) -> None:
        super().__init__()
        self.evaluator = evaluator
        self.dtype = dtype
        self.softmax = softmax
        self.batch = batch

    @classmethod
    def from_onnx(
        cls, model: onnx.ModelProto | str | Path, *, dtype: torch.dtype = torch.float32
    ) -> DifferentiableModel:
        """Build the copy; the model given is left alone.

        Args:
            model: the model, or its file; one input without a default and one output, [N, classes].
            dtype: torch.float32 or torch.float64.

        Raises:
            ModelError: it cannot be read, or has several inputs or outputs, or its opset is too old.
            UnsupportedOperatorError: there is an operator that has no counterpart here.
        """
        flat = flatten(read_model(model))
        if len(flat.graph.output) != 1:
            raise ModelError(f"the model has {len(flat.graph.output)} outputs; a classifier has one, the class scores")
        output = flat.graph.output[0].name
        logits = without_softmax(flat.graph)
        program = compile_program(flat, dtype, [logits, output])
        if len(program.inputs) != 1:
            raise ModelError(f"the model has {len(program.inputs)} inputs; a classifier has one, the images")
        (given,) = (value for value in flat.graph.input if value.name == program.inputs[0])
        sizes = given.type.tensor_type.shape.dim
        batch = sizes[0].dim_value if sizes and sizes[0].dim_value > 0 else None
        return cls(Evaluator(program), dtype, softmax=logits != output, batch=batch)

    @property
    def sites(self) -> tuple[str, ...]:
        return self.evaluator.sites

    def forward(self, x: Tensor, *, jumps: Jumps = None, backward: Backward = TRUE) -> Tensor:
        """The class scores before any Softmax.

        Args:
            x: the model's input, in its shape; any floating dtype.
            jumps: None for the file's own (0 at a Relu); a number for all sites; or path -> jump, with the file's own
                elsewhere. Rounded to `dtype`.
            backward: what the gradient of JumpReLU is taken to be.

        Returns:
            [N, classes] of `dtype`.

        Raises:
            OptionError: `jumps` has a path that is not in `sites`.
        """
        return self._run(x, jumps, backward)[0]

    def outputs(self, x: Tensor, *, jumps: Jumps = None) -> Tensor:
        """What onnxruntime gives for the file: the class scores, behind the Softmax if the file has one."""
        return self._run(x, jumps, TRUE)[1]

    def _run(self, x: Tensor, jumps: Jumps, backward: Backward) -> list[Tensor]:
        """The class scores before any Softmax, and those of the file."""
        (name,) = self.evaluator.program.inputs
        parts = [x] if self.batch is None else torch.split(x, self.batch)
        given = [
            [
                scores[: len(part)]
                for scores in self.evaluator(
                    {name: _filled(part, self.batch).to(self.dtype)}, jumps=jumps, backward=backward
                )
            ]
            for part in parts
        ]
        return [torch.cat(scores) for scores in zip(*given, strict=True)]


def _filled(x: Tensor, batch: int | None) -> Tensor:
    """The batch filled up to a size with copies of its last row."""
    missing = 0 if batch is None else batch - len(x)
    return torch.cat([x, x[-1:].expand(missing, *x.shape[1:])]) if missing else x
