"""Runs each CUDA kernel a few times: what compute-sanitizer and ncu (--large) watch. It compares nothing.

The values come from the host: compute-sanitizer, told to watch our kernels alone, does not see what PyTorch's write.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import torch
from cuda_kernels import Kernels, build


def main(large: bool) -> None:
    kernels = Kernels(build(Path(tempfile.mkdtemp())))
    sizes = [1 << 27] if large else [1, 7, 255, 4099, 5_000_003]
    types = [torch.float32, torch.float16]
    for dtype in types if large else [*types, torch.float64, torch.bfloat16]:
        one, each = torch.full((1,), 0.5).to(dtype).cuda(), torch.rand(64).to(dtype).cuda()
        for count in sizes:
            for offset in (0,) if large else (0, 1, 3):
                x = torch.randn(count + offset).to(dtype).cuda()[offset:]
                y = torch.empty_like(x)
                kernels(x, one, y)
                kernels.add(x, x.clone(), one, y)
                if not large:
                    kernels(x, one, x)
        for inner in (1, 49, 3136):
            count = sizes[-1] // (64 * inner) * 64 * inner
            x = torch.randn(count).to(dtype).cuda()
            kernels(x, each, torch.empty_like(x), inner=inner)
    for dtype in (torch.uint8, torch.int8, torch.int16):
        for count in sizes:
            q = torch.randint(0, 100, (count,), dtype=dtype).cuda()
            kernels.quantized(q, *torch.tensor([[50], [7]], dtype=dtype).cuda(), torch.empty_like(q))
        each = torch.randint(0, 100, (64,), dtype=dtype).cuda()
        for inner in (1, 49, 3136):
            q = torch.randint(0, 100, (sizes[-1] // (64 * inner) * 64 * inner,), dtype=dtype).cuda()
            for zero_point in (each[:1], each):
                kernels.quantized(q, each, zero_point, torch.empty_like(q), inner=inner)
    torch.cuda.synchronize()


if __name__ == "__main__":
    main("--large" in sys.argv)
