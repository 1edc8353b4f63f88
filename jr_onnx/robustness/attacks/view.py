"""Scores and gradients of a target's differentiable copy, in pixel units."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from jr_onnx.robustness.attacks.search import normalisation
from jr_onnx.robustness.attacks.target import Images, Target
from jr_onnx.robustness.gradients.backward import Backward

#: Logits [N, classes] and labels [N] -> a loss for each image, which the attack makes large.
Loss = Callable[[Tensor, Tensor], Tensor]


#: Stands for infinity, which has no gradient that could be used.
_MOST = 1e30

#: How far apart the logits of an image may lie in the cross-entropy; farther than those of networks usually do.
_SPREAD = 64.0


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """How far the classes but the right one are ahead of it, all together: log(exp(cross-entropy) - 1).

    It rises with the cross-entropy, so its gradient has the same direction and the same signs. But it keeps its size
    where the right class has a probability of 1 in floating point, and the cross-entropy's gradient is 0. Logits that
    lie very far apart are brought nearer, each image's by a factor of its own: otherwise only one rival would count,
    and this would be the margin. A class that is masked, at minus infinity, does not count in that.
    """
    counts = logits.detach().abs() < _MOST
    spread = logits.detach().masked_fill(~counts, -_MOST).amax(1) - logits.detach().masked_fill(~counts, _MOST).amin(1)
    own, others = _own_and_others(logits / (spread / _SPREAD).clamp(min=1)[:, None], labels)
    return others.logsumexp(1) - own


def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """The best of the other classes less the right one."""
    own, others = _own_and_others(logits, labels)
    return others.amax(1) - own


def _own_and_others(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """[N], the scores of the right classes, and [N, classes], the scores with those minus infinity."""
    return logits.gather(1, labels[:, None]).squeeze(1), logits.scatter(1, labels[:, None], -torch.inf)


def maybe_wrong(logits: Tensor, labels: Tensor) -> Tensor:
    """[N] bool: where another class is ahead or level, so that onnxruntime may have the image in a wrong class."""
    return margin(logits, labels) >= 0


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
        """Pixels [N, C, ...] -> logits [N, classes], all finite or NaN."""
        scores = self.copy((x - self.mean) / self.std, jumps=self.jumps, backward=self.backward_of_jump)
        return _unsaturated(scores).clamp(-_MOST, _MOST)

    def tensor(self, array: npt.NDArray[np.generic]) -> Tensor:
        """An array on the device of the copy."""
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.device)

    def gradient(self, x: Tensor, labels: Tensor, loss: Loss) -> tuple[Tensor, Tensor]:
        """The logits, and the gradient of each image's loss with respect to its pixels."""
        x = x.detach().requires_grad_()
        logits = self(x)
        (slope,) = torch.autograd.grad(loss(logits, labels).sum(), x)
        return logits.detach(), slope


def _unsaturated(scores: Tensor) -> Tensor:
    """The logarithms of the rows that are probabilities, as `margin_of` compares them.

    The copy leaves out a Softmax at the end of the file; this is for what stands in its place, such as LogSoftmax and
    Exp. ART refuses probabilities, and their differences have no gradient where one of them is 1.
    """
    likely = ((scores >= 0) & (scores <= 1)).all(1) & ((scores.sum(1) - 1).abs() <= 1e-3)
    tiny = torch.finfo(scores.dtype).tiny
    return torch.where(likely[:, None], scores.clamp(min=tiny).log(), scores)


def usable(gradient: Tensor) -> Tensor:
    """[N] bool: the gradients that are finite, and not all zero."""
    flat = gradient.flatten(1)
    return torch.isfinite(flat).all(1) & (flat != 0).any(1)


def to_images(x: Tensor) -> Images:
    """The pixels as onnxruntime takes them."""
    return np.ascontiguousarray(x.detach().cpu().numpy(), np.float32)
