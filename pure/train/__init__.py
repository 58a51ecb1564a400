"""One training, from a recipe, a network and a seed to a run record.

From Python it is :func:`fit`, from a shell::

    python -m pure.train --recipe digits --model pure20 --seed 0 --out runs/digits/pure20/seed0

on several GPUs::

    torchrun --nproc-per-node 8 -m pure.train --recipe imagenet --model pure34 --data /data --out runs/pure34

A run that was stopped or killed goes on with ``--if-exists resume``, and ends in the record that it would have left
undisturbed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pure.extras import require_training

require_training()

if TYPE_CHECKING:
    from pure.train.evaluate import predict
    from pure.train.fitting import estimate, fit, load_network, load_run, outcome, run_folder
    from pure.train.interruption import Stopped
    from pure.train.run import WEIGHTS_NAME, thresholds

__all__ = [
    "WEIGHTS_NAME",
    "Stopped",
    "estimate",
    "fit",
    "load_network",
    "load_run",
    "outcome",
    "predict",
    "run_folder",
    "thresholds",
]


def __dir__() -> list[str]:
    return [*globals(), *__all__]


def __getattr__(name: str) -> Any:
    """Import on first use: ``python -m pure.train --help`` does not wait for PyTorch."""
    if name not in __all__:
        raise AttributeError(f"module 'pure.train' has no attribute {name!r}")
    from pure.train import evaluate, fitting, interruption, run

    return next(getattr(module, name) for module in (fitting, run, evaluate, interruption) if name in module.__all__)
