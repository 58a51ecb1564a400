"""The epochs' figures for TensorBoard, which is an extra: ``pip install "pure-networks[tensorboard]"``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pure.extras import require_extra
from pure.records import Epoch

__all__ = ["scalar_writer", "scalars"]


def scalar_writer(folder: Path) -> Callable[[int, Epoch], None]:
    """A function that writes the figures of an epoch, given its number.

    The folder is made at the first call.  An epoch that is written again, by a run that was resumed, replaces the
    older one and those after it.

    Raises:
        ModuleNotFoundError: TensorBoard is not installed.
    """
    require_extra("tensorboard", "writing for TensorBoard", "tensorboard")
    from torch.utils.tensorboard import SummaryWriter

    def write(number: int, epoch: Epoch) -> None:
        with SummaryWriter(str(folder), purge_step=number) as writer:
            for name, value in scalars(epoch).items():
                writer.add_scalar(name, value, number)

    return write


def scalars(epoch: Epoch) -> dict[str, float]:
    """What is drawn of an epoch, by the name of its curve."""
    values = {"learning rate": epoch.lr, "gradient norm": epoch.gradient_norm}
    for part in ("train", "validation", "reestimated"):
        measured = getattr(epoch, part)
        if measured is not None:
            values |= {f"{quantity}/{part}": value for quantity, value in measured}
    for name, unit in epoch.units.items():
        if isinstance(unit.threshold, float):
            values[f"threshold/{name}"] = unit.threshold
        values[f"clamped/{name}"] = unit.clamped
        values[f"lowest exponent/{name}"], values[f"highest exponent/{name}"] = unit.exponent
    return {name: value for name, value in values.items() if value is not None}
