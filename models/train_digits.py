"""Train the digits classifier and export it, with the held-out images it was tested on.

    python models/train_digits.py [--out DIR]

The test images travel with the model so that its accuracy can be measured without
scikit-learn or torch.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
import torch
from networks import DigitsNet
from onnx_files import compare, save, strip_paths
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn

HERE = Path(__file__).resolve().parent
SEED = 7
EPOCHS = 40
BATCH = 64
OPSET = 20
SIZE_LIMIT = 300_000
MIN_ACCURACY = 0.97

Split = tuple[Tensor, Tensor, Tensor, Tensor]


def load_split() -> Split:
    """Training images, test images, training labels, test labels."""
    data = load_digits()
    images = (data.images / 16.0).astype(np.float32)[:, None]
    labels = data.target.astype(np.int64)
    parts = train_test_split(images, labels, test_size=0.2, stratify=labels, random_state=SEED)
    x_train, x_test, y_train, y_test = (torch.from_numpy(part) for part in parts)
    return x_train, x_test, y_train, y_test


def train(x: Tensor, y: Tensor, perturb: Callable[[nn.Module, Tensor, Tensor], Tensor] | None = None) -> DigitsNet:
    """Train from a fixed seed; one thread, so that sums come out in the same order.

    Args:
        perturb: called with the model, images and labels before each step; gives the images to train on.
    """
    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    model = DigitsNet()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS)
    for _ in range(EPOCHS):
        for index in torch.randperm(len(x)).split(BATCH):  # type: ignore[no-untyped-call]
            images = x[index] if perturb is None else perturb(model, x[index], y[index])
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(images), y[index]).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        schedule.step()
    return model.eval()


def accuracy(model: nn.Module, x: Tensor, y: Tensor) -> float:
    """Share of images classified as labelled."""
    with torch.no_grad():
        return float((model(x).argmax(1) == y).double().mean())


def export(model: nn.Module, example: Tensor) -> onnx.ModelProto:
    """Export with a free batch size called N."""
    program = torch.onnx.export(
        model,
        (example[:3],),
        dynamo=True,
        opset_version=OPSET,
        input_names=["image"],
        output_names=["logits"],
        dynamic_shapes=({0: torch.export.Dim("N")},),
        verbose=False,
    )
    if program is None:
        raise RuntimeError("the exporter gave no program")
    proto = program.model_proto
    strip_paths(proto)
    return proto


def main(argv: Sequence[str] | None = None) -> int:
    """Train, measure, and write only a model that is good enough."""
    parser = argparse.ArgumentParser(description="Train and export the digits classifier.")
    parser.add_argument("--out", type=Path, default=HERE, help="folder to write to (default: this folder)")
    out: Path = parser.parse_args(argv).out
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    x_train, x_test, y_train, y_test = load_split()
    model = train(x_train, y_train)
    score = accuracy(model, x_test, y_test)
    print(f"test accuracy: {score:.4f} on {len(y_test)} held-out images")
    if score <= MIN_ACCURACY:
        print(f"error: the accuracy must be over {MIN_ACCURACY}; nothing written", file=sys.stderr)
        return 1
    proto = export(model, x_test)
    compare(proto, model, ["image"], [x_test], atol=1e-4)
    out.mkdir(parents=True, exist_ok=True)
    size = save(proto, out / "digits.onnx", SIZE_LIMIT)
    np.savez_compressed(out / "digits_test.npz", x=x_test.numpy(), y=y_test.numpy())
    print(f"digits.onnx: {size} bytes")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
