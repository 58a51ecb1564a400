"""The pointwise parts of a product unit against the time that moving their bytes takes, as a copy in the same run does.

What must move: every number read once and every number written once.  The logarithm reads its input and writes; its
gradient reads the gradient and the logarithm and writes a gradient; the exponential reads its input and writes, and its
gradient reads the gradient and the output and writes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from layer import AUTOCAST, Shape
from timing import paired
from torch import Tensor

from pure.nn.fused import operators


def measure(shape: Shape, device: str, precision: str, rounds: int) -> dict[str, Any]:
    """Bytes and seconds of each part for a feature map, and the bandwidth of a copy far larger than any cache."""
    torch.manual_seed(0)
    low = AUTOCAST[precision] or torch.float32
    x = torch.randn(shape.batch, shape.channels, shape.pixels, shape.pixels, device=device, dtype=low)
    tau = torch.tensor(0.01, device=device)
    log_x = operators.log(x, tau, low) if device == "cuda" else operators.log(x.float(), tau, torch.float32)
    grad = torch.randn_like(log_x)
    wide = torch.randn_like(x, dtype=torch.float32)
    y = wide.exp()
    parts: dict[str, tuple[Callable[[], Any], list[Tensor]]] = {
        "logarithm": (partial(operators.log, x, tau, low), [x, log_x]),
        "its gradient": (partial(operators.log_backward, grad, log_x, tau, low), [grad, log_x, x]),
    }
    if low == torch.float32:
        parts["exponential"] = partial(torch.exp, x), [x, y]
        parts["exponential's gradient"] = partial(torch.mul, wide, y), [wide, y, x]
    else:
        parts["exponential"] = partial(operators.exp, x, torch.float32), [x, y]
        parts["exponential's gradient"] = partial(operators.exp_backward, wide, y, low), [wide, y, x]
    large = torch.zeros((1 << 28) if device == "cuda" else (1 << 25), device=device)
    copied = torch.empty_like(large)
    functions = {name: function for name, (function, _) in parts.items()}
    with torch.no_grad():
        times = paired(functions | {"copy": lambda: copied.copy_(large)}, device, rounds)
    return {
        **shape._asdict(),
        "precision": precision,
        "bytes_per_second": 2 * large.nbytes / sorted(times["copy"])[rounds // 2],
        "parts": {
            name: {"bytes": sum(t.nbytes for t in tensors), "seconds": [float(f"{each:.4g}") for each in times[name]]}
            for name, (_, tensors) in parts.items()
        },
    }
