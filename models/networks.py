"""The small torch networks behind the exported test models.

They live apart from the export script so that a test can build the same network
again, replace its nn.ReLU modules, and compare it with the hardened ONNX model.
Importing this module trains nothing, writes nothing and sets no seed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import torch
from control_flow import ControlFlow, HigherOrderControlFlow, HigherOrderScan, LoopedRnn, NestedControlFlow
from torch import Tensor, nn

WEIGHT_SEED = 20240
BOTH = ("dynamo", "torchscript")
FUNCTION_DOMAIN = "example.blocks"
"""Domain of the model-local function that SymbolicBlock calls."""


class DigitsNet(nn.Module):
    """Classifies 8x8 digits; the one network here that is trained."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, padding=1)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(16, 32, 3, padding=1)
        self.relu2 = nn.ReLU()
        self.pool = nn.MaxPool2d(2)
        self.conv3 = nn.Conv2d(32, 32, 3, padding=1)
        self.relu3 = nn.ReLU()
        self.fc1 = nn.Linear(32 * 4 * 4, 64)
        self.relu4 = nn.ReLU()
        self.dropout = nn.Dropout(0.4)  # Chosen by cross-validation on the training images alone.
        self.fc2 = nn.Linear(64, 10)

    def forward(self, image: Tensor) -> Tensor:
        x = self.relu1(self.conv1(image))
        x = self.pool(self.relu2(self.conv2(x)))
        x = self.relu3(self.conv3(x))
        x = self.relu4(self.fc1(torch.flatten(x, 1)))
        logits: Tensor = self.fc2(self.dropout(x))
        return logits


class BasicBlock(nn.Module):
    """The usual residual block: one Relu inside, one after the Add."""

    def __init__(self, channels_in: int, channels: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.relu2 = nn.ReLU()
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels_in != channels:
            self.shortcut = nn.Conv2d(channels_in, channels, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(x)))))
        out: Tensor = self.relu2(y + self.shortcut(x))
        return out


class ResidualNet(nn.Module):
    """A ResNet in small: stem, max pool, two blocks, global pool, classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(8)
        self.relu = nn.ReLU()
        self.pool = nn.MaxPool2d(2)
        self.block1 = BasicBlock(8, 8)
        self.block2 = BasicBlock(8, 12, stride=2)
        self.global_pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(12, 10)

    def forward(self, x: Tensor) -> Tensor:
        y = self.pool(self.relu(self.bn(self.conv(x))))
        y = self.global_pool(self.block2(self.block1(y)))
        logits: Tensor = self.fc(torch.flatten(y, 1))
        return logits


class ReluBlock(nn.Module):
    """A block that an exporter can keep as one model-local function."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.relu(self.linear(x)) + x
        return y


class SymbolicBlock(ReluBlock):
    """ReluBlock for the dynamo exporter: a call of a function whose body is added later."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.onnx.ops.symbolic(
            f"{FUNCTION_DOMAIN}::ReluBlock",
            (x, self.linear.weight, self.linear.bias),
            dtype=x.dtype,
            shape=x.shape,
            version=1,
        )


class FunctionNet(nn.Module):
    """Two blocks that share one function body, and one Relu outside of them."""

    def __init__(self, block: type[ReluBlock] = ReluBlock) -> None:
        super().__init__()
        self.stem = nn.Linear(8, 12)
        self.relu = nn.ReLU()
        self.block1 = block(12)
        self.block2 = block(12)
        self.head = nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(self.block2(self.block1(self.relu(self.stem(x)))))
        return y


class RnnNet(nn.Module):
    """nn.RNN with the relu nonlinearity, [time, batch, feature], and a Relu after it."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.RNN(6, 8, nonlinearity="relu")
        self.fc = nn.Linear(8, 8)
        self.relu = nn.ReLU()
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(self.relu(self.fc(self.rnn(x)[0])))
        return y


def mlp() -> nn.Module:
    """The simplest case: two Relu between three Gemm."""
    return nn.Sequential(nn.Linear(16, 24), nn.ReLU(), nn.Linear(24, 12), nn.ReLU(), nn.Linear(12, 4))


def half() -> nn.Module:
    """Convolution and linear layers in float16."""
    layers = (nn.Conv2d(2, 6, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten())
    return nn.Sequential(*layers, nn.Linear(6 * 4 * 4, 16), nn.ReLU(), nn.Linear(16, 4)).half()


def relu6() -> nn.Module:
    """ReLU6 exports as Clip(0, 6), next to one plain Relu."""
    layers = (nn.Conv2d(2, 6, 3, padding=1), nn.ReLU6(), nn.Conv2d(6, 6, 3), nn.ReLU6(), nn.Flatten())
    return nn.Sequential(*layers, nn.Linear(6 * 6 * 6, 8), nn.ReLU(), nn.Linear(8, 4))


def seeded(factory: Callable[[], nn.Module]) -> nn.Module:
    """Build a network with fixed weights, leaving the caller's random state as it was.

    BatchNorm statistics are drawn as well: fresh ones are 0 and 1, which would hide a
    mistake in how an exporter folds them.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(WEIGHT_SEED)
        model = factory()
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.uniform_(module.bias, -0.3, 0.3)
                module.running_mean = torch.empty(module.num_features).uniform_(-0.3, 0.3)
                module.running_var = torch.empty(module.num_features).uniform_(0.5, 1.5)
    return model.eval()


@dataclass(frozen=True)
class Network:
    """One test network: how to build it, what to feed it, how it can be exported."""

    factory: Callable[[], nn.Module]
    """The network in plain PyTorch, the reference for every comparison."""
    shape: tuple[int, ...]
    """Shape of the first input; the batch axis is a placeholder."""
    batch_axis: int = 0
    dtype: torch.dtype = torch.float32
    scale: float = 1.0
    """Standard deviation of the example input."""
    steps: int | None = None
    """Number of loop iterations, for networks with a second input `steps`."""
    exporters: tuple[str, ...] = BOTH
    variants: Mapping[str, Callable[[], nn.Module]] = field(default_factory=lambda: MappingProxyType({}))
    """Per exporter, a network with the same weights that this exporter can trace."""
    scripted: bool = False
    """Whether the TorchScript exporter needs torch.jit.script to keep the control flow."""
    atol: float = 1e-5

    @property
    def input_names(self) -> list[str]:
        """Names of the graph inputs."""
        return ["x"] if self.steps is None else ["x", "steps"]

    def build(self) -> nn.Module:
        """The reference network, always with the same weights."""
        return seeded(self.factory)

    def build_for(self, exporter: str) -> nn.Module:
        """The network to hand to an exporter: the same weights, in a form it can trace."""
        reference = self.build()
        if exporter not in self.variants:
            return reference
        variant = self.variants[exporter]().eval()
        variant.load_state_dict(reference.state_dict())
        return variant

    def inputs(self, batch: int = 3, seed: int = 0) -> tuple[Tensor, ...]:
        """Example inputs, the same for the same arguments."""
        shape = list(self.shape)
        shape[self.batch_axis] = batch
        generator = torch.Generator().manual_seed(seed)
        x = (torch.randn(shape, generator=generator) * self.scale).to(self.dtype)
        return (x,) if self.steps is None else (x, torch.tensor(self.steps))


NETWORKS: Mapping[str, Network] = MappingProxyType(
    {
        "mlp": Network(mlp, (1, 16)),
        "residual": Network(ResidualNet, (1, 3, 16, 16)),
        "controlflow": Network(
            ControlFlow, (1, 6), steps=4, variants={"dynamo": HigherOrderControlFlow}, scripted=True
        ),
        "nested": Network(NestedControlFlow, (1, 6), steps=4, exporters=("torchscript",), scripted=True),
        "scan": Network(
            LoopedRnn, (5, 1, 6), batch_axis=1, exporters=("dynamo",), variants={"dynamo": HigherOrderScan}
        ),
        "functions": Network(FunctionNet, (1, 8), variants={"dynamo": lambda: FunctionNet(SymbolicBlock)}),
        "half": Network(half, (1, 2, 8, 8), dtype=torch.float16, atol=5e-3),
        "rnn": Network(RnnNet, (5, 1, 6), batch_axis=1),
        "relu6": Network(relu6, (1, 2, 8, 8), scale=6.0, atol=1e-4),
    }
)
