"""How a training is executed: memory format, compilation, loader, parts of a batch.  What it computes is the recipe's.

``auto`` stands for what was measured fastest (``results/execution/cpu.json``, by
``benchmarks/execution.py``).  It is decided by a rule and not by timing
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

_COMPILED_IMAGES = 500_000
"""Images that a training of product units shows, all epochs together, from which compiling pays for itself on a CPU.

On top of ``channels_last`` it saves PURe20 0.43 ms of each image of 32 x 32 and 0.11 ms of each of 8 x 8, and the four
graphs of a run take 227 s and 51 s to compile: as much as is saved in 527,000 and 465,000 images.  ResNet20 is slower
compiled than in ``channels_last`` alone.  (All of it on one busy core, see the record.)"""


class Execution(BaseModel):
    """How, not what: nothing here tells one run from another, as numbers differ by rounding alone.

    (Batch normalisation sees the images of one part: ``micro_batches``, ``sync_batchnorm`` and the number of devices
    change its statistics as any other cut of a batch does.)

    Attributes:
        channels_last: memory format of images and weights.
        compile: whether ``torch.compile`` translates the network.
        cuda_graphs: whether a training step is captured once and replayed; on CUDA only.
        loader: ``"device"`` keeps the set on the device, ``"workers"`` reads it by processes, ``"auto"`` goes by size.
        micro_batches: number of parts of a batch that a device computes in turn, adding up their gradients.
        sync_batchnorm: whether batch normalisation sees the images of all devices.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    channels_last: bool | Literal["auto"] = "auto"
    compile: bool | Literal["auto"] = "auto"
    cuda_graphs: bool = False
    loader: Literal["auto", "device", "workers"] = "auto"
    micro_batches: PositiveInt = 1
    sync_batchnorm: bool = False

    def resolved(self, device: str, images: int, has_units: bool) -> Execution:
        """With ``channels_last`` and ``compile`` decided.

        On a CPU, ``channels_last`` was the faster format for each network and size of images that was measured, 8 x 8
        to 64 x 64.  On a GPU, where neither was measured yet, ``auto`` is no.

        Args:
            device: type of the device, ``"cpu"`` or ``"cuda"``.
            images: that are trained on, over all epochs.
            has_units: whether the network has product units, whose many small operations a compiler joins.
        """
        on_cpu = device == "cpu"
        chosen = {
            "channels_last": on_cpu,
            "compile": on_cpu and has_units and images >= _COMPILED_IMAGES and _has_compiler(),
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
