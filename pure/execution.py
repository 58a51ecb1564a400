"""How a training is executed: memory format, compilation, loader, parts of a batch.  What it computes is the recipe's.

``auto`` stands for what was measured fastest (``benchmarks/execution.py``).  It is decided by a rule and not by timing
at the start, so that a run repeats; the record holds what was decided.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, PositiveInt, ValidationError

from pure.recipes import faults, nearest_field

__all__ = ["Execution", "get_execution"]

_CHANNELS_LAST_PIXELS = 1024
"""Pixels of an image from which ``channels_last`` is the faster format on a CPU: on 32 x 32, PURe20 trains 286 images/s
instead of 216 in it, and ResNet20 336 instead of 241 (two cores)."""

_COMPILED_PIXELS = 200_000_000
"""Pixels that a training shows, all epochs together, from which compiling pays for itself on a CPU.

Cost and gain both grow with the number of layers, so that pixels alone decide.  On top of ``channels_last``, PURe20
trains 337 images/s of 32 x 32 instead of 286: half a millisecond an image, 100 s in 200,000 images, which is about what
the four graphs of a run take to compile."""


class Execution(BaseModel):
    """How, not what: nothing here tells one run from another, as numbers differ by rounding alone.

    (Batch normalisation sees the images of one part: ``micro_batches``, ``sync_batchnorm`` and the number of devices
    change its statistics as any other cut of a batch does.)

    Attributes:
        channels_last: memory format of images and weights.
        compile: whether ``torch.compile`` translates the network.
        cuda_graphs: whether a training step is captured once and replayed; on CUDA only.
        loader: ``"device"`` keeps the set on the device, ``"workers"`` reads it by processes, ``"auto"`` goes by size.
        micro_batches: a batch is worked off in so many parts on each device, whose gradients are added up.
        sync_batchnorm: whether batch normalisation sees the images of all devices.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    channels_last: bool | Literal["auto"] = "auto"
    compile: bool | Literal["auto"] = "auto"
    cuda_graphs: bool = False
    loader: Literal["auto", "device", "workers"] = "auto"
    micro_batches: PositiveInt = 1
    sync_batchnorm: bool = False

    def resolved(self, device: str, pixels: int, images: int) -> Execution:
        """With ``channels_last`` and ``compile`` decided.  On a GPU, where neither is measured yet, ``auto`` is no.

        Args:
            device: type of the device, ``"cpu"`` or ``"cuda"``.
            pixels: of an image as the network sees it.
            images: that are trained on, over all epochs.
        """
        on_cpu = device == "cpu"
        chosen = {
            "channels_last": on_cpu and pixels >= _CHANNELS_LAST_PIXELS,
            "compile": on_cpu and pixels * images >= _COMPILED_PIXELS and _has_compiler(),
        }
        return self.model_copy(update={name: value for name, value in chosen.items() if getattr(self, name) == "auto"})


def get_execution(settings: Mapping[str, Any] | None = None) -> Execution:
    """An execution by its settings; those that are not named have their defaults.

    Raises:
        ValueError: a setting is unknown, of the wrong type or out of its range.
    """
    settings = dict(settings or {})
    for name in settings:
        if name not in Execution.model_fields:
            raise ValueError(f"execution has no field {name!r}; {nearest_field(name, Execution.model_fields)}")
    try:
        return Execution(**settings)
    except ValidationError as error:
        raise ValueError(f"execution: {'; '.join(faults(error))}") from None


def _has_compiler() -> bool:
    """Whether there is what ``torch.compile`` translates C++ with."""
    return shutil.which(os.environ.get("CXX", "g++")) is not None
