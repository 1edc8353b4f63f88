"""Train the digits classifier adversarially (Madry et al., arXiv 1706.06083) and export it.

    python models/train_digits_robust.py [--out DIR]

The same network, data and number of epochs as digits.onnx; only the training images are perturbed. The verdict of
`jr-onnx evaluate` is tested on it: a gain that is real.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from onnx_files import compare, save
from torch import Tensor, nn
from train_digits import HERE, SIZE_LIMIT, accuracy, export, load_split, train

EPS, STEPS = 0.15, 7
MIN_ACCURACY = 0.93


def perturbed(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Projected gradient ascent on the cross-entropy in the ball of radius EPS, from a random start."""
    start = x + (2 * torch.rand_like(x) - 1) * EPS
    current = start.clamp(0, 1)
    for _ in range(STEPS):
        current = current.detach().requires_grad_()
        loss = nn.functional.cross_entropy(model(current), y)
        (gradient,) = torch.autograd.grad(loss, current)
        stepped = current + 2.5 * EPS / STEPS * gradient.sign()
        current = (x + (stepped - x).clamp(-EPS, EPS)).clamp(0, 1)
    return current.detach()


def main(argv: Sequence[str] | None = None) -> int:
    """Train, measure, and write only a model that is good enough."""
    parser = argparse.ArgumentParser(description="Train the digits classifier adversarially, and export it.")
    parser.add_argument("--out", type=Path, default=HERE, help="folder to write to (default: this folder)")
    out: Path = parser.parse_args(argv).out
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    x_train, x_test, y_train, y_test = load_split()
    model = train(x_train, y_train, perturbed)
    clean = accuracy(model, x_test, y_test)
    robust = accuracy(model, perturbed(model, x_test, y_test), y_test)
    print(f"test accuracy: {clean:.4f}, at eps {EPS:g}: {robust:.4f}, on {len(y_test)} held-out images")
    if clean <= MIN_ACCURACY:
        print(f"error: the accuracy must be over {MIN_ACCURACY}; nothing written", file=sys.stderr)
        return 1
    proto = export(model, x_test)
    compare(proto, model, ["image"], [x_test], atol=1e-4)
    out.mkdir(parents=True, exist_ok=True)
    size = save(proto, out / "digits_robust.onnx", SIZE_LIMIT)
    print(f"digits_robust.onnx: {size} bytes")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
