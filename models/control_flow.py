"""Networks with Relu inside If, Loop and Scan bodies.

All but the nested one exist twice with the same weights: once in plain PyTorch, which is
the reference and which torch.jit.script understands, and once with torch's higher-order
operators, which are what the dynamo exporter turns into If, Loop and Scan.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch._higher_order_ops.scan import scan
from torch._higher_order_ops.while_loop import while_loop


class ControlFlow(nn.Module):
    """One Relu at the top, one in a loop body, then one in each branch of an if."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(6, 8)
        self.relu_top = nn.ReLU()
        self.body = nn.Linear(8, 8)
        self.relu_body = nn.ReLU()
        self.high = nn.Linear(8, 8)
        self.relu_high = nn.ReLU()
        self.low = nn.Linear(8, 8)
        self.relu_low = nn.ReLU()
        self.head = nn.Linear(8, 4)
        # Near the middle of what the example inputs reach, so that they take both branches.
        self.threshold = 0.64

    def forward(self, x: Tensor, steps: Tensor) -> Tensor:
        h: Tensor = self.relu_top(self.stem(x))
        for _ in range(int(steps)):
            h = self.relu_body(self.body(h)) + h
        if bool(h.mean() > self.threshold):
            h = self.relu_high(self.high(h)) * 0.5
        else:
            h = self.relu_low(self.low(h)) + h
        y: Tensor = self.head(h)
        return y


class HigherOrderControlFlow(ControlFlow):
    """ControlFlow for the dynamo exporter, which cannot trace a Python branch on data."""

    def step(self, left: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        return left - 1, self.relu_body(self.body(h)) + h

    def branch_high(self, h: Tensor) -> Tensor:
        y: Tensor = self.relu_high(self.high(h)) * 0.5
        return y

    def branch_low(self, h: Tensor) -> Tensor:
        y: Tensor = self.relu_low(self.low(h)) + h
        return y

    def forward(self, x: Tensor, steps: Tensor) -> Tensor:
        h: Tensor = self.relu_top(self.stem(x))
        _, h = while_loop(lambda left, _h: left > 0, self.step, (steps, h))  # type: ignore[no-untyped-call]
        h = torch.cond(h.mean() > self.threshold, self.branch_high, self.branch_low, (h,))
        y: Tensor = self.head(h)
        return y


class NestedControlFlow(ControlFlow):
    """The layers of ControlFlow with the if inside the loop body."""

    def forward(self, x: Tensor, steps: Tensor) -> Tensor:
        h: Tensor = self.relu_top(self.stem(x))
        for _ in range(int(steps)):
            h = self.relu_body(self.body(h)) + h
            if bool(h.mean() > self.threshold):
                h = self.relu_high(self.high(h)) * 0.5
            else:
                h = self.relu_low(self.low(h)) + h
        y: Tensor = self.head(h)
        return y


class LoopedRnn(nn.Module):
    """A recurrent network written by hand, [time, batch, feature]."""

    def __init__(self) -> None:
        super().__init__()
        self.enter = nn.Linear(6, 8)
        self.again = nn.Linear(8, 8)
        self.relu = nn.ReLU()
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        entered = self.enter(x)
        h = torch.zeros_like(entered[0])
        for t in range(entered.shape[0]):
            h = self.relu(entered[t] + self.again(h))
        y: Tensor = self.head(h)
        return y


class HigherOrderScan(LoopedRnn):
    """LoopedRnn for the dynamo exporter: the time loop becomes one Scan node."""

    def step(self, h: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        h = self.relu(x + self.again(h))
        return h, h.clone()

    def forward(self, x: Tensor) -> Tensor:
        entered = self.enter(x)
        h, _ = scan(self.step, torch.zeros_like(entered[0]), entered)
        y: Tensor = self.head(h)
        return y
