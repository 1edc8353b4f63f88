"""Scores and gradients of a target's differentiable copy, in pixel units."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from jr_onnx.attacks.attack import Images, Target
from jr_onnx.attacks.search import normalisation
from jr_onnx.differentiable.backward import Backward

#: Logits [N, classes] and labels [N] -> a loss for each image, which the attack makes large.
Loss = Callable[[Tensor, Tensor], Tensor]


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """-log softmax of the right class."""
    return functional.cross_entropy(logits, labels, reduction="none")


def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """The best of the other classes less the right one."""
    own = logits.gather(1, labels[:, None]).squeeze(1)
    others = logits.scatter(1, labels[:, None], -torch.inf)
    return others.amax(1) - own


class View(torch.nn.Module):
    """A target's copy as a module that takes pixels.

    Attributes:
        device: where the copy is.
        std: the standard deviations, in a shape that broadcasts against the images.
    """

    def __init__(self, target: Target, backward: Backward, rank: int) -> None:
        super().__init__()
        assert target.differentiable is not None
        self.copy, self.jumps, self.backward_of_jump = target.differentiable, target.jumps, backward
        self.device = next(self.copy.buffers(), torch.empty(0)).device
        self.mean, self.std = map(self.tensor, normalisation(target, rank))

    def forward(self, x: Tensor) -> Tensor:
        """Pixels [N, C, ...] -> logits [N, classes]."""
        return self.copy((x - self.mean) / self.std, jumps=self.jumps, backward=self.backward_of_jump)  # type: ignore[no-any-return]

    def tensor(self, array: npt.NDArray[np.generic]) -> Tensor:
        """An array on the device of the copy."""
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.device)

    def gradient(self, x: Tensor, labels: Tensor, loss: Loss) -> tuple[Tensor, Tensor]:
        """The logits, and the gradient of the loss with respect to the pixels."""
        x = x.detach().requires_grad_()
        logits = self(x)
        (slope,) = torch.autograd.grad(loss(logits, labels).sum(), x)
        return logits.detach(), slope


def usable(gradient: Tensor) -> Tensor:
    """[N] bool: the gradients that are finite, and not all zero."""
    flat = gradient.flatten(1)
    return torch.isfinite(flat).all(1) & (flat != 0).any(1)


def to_images(x: Tensor) -> Images:
    """The pixels as onnxruntime takes them."""
    return np.ascontiguousarray(x.detach().cpu().numpy(), np.float32)
