"""Small networks and what else tests of trainings share."""

from __future__ import annotations

import os
import signal
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pure.models import ResidualNetwork, registry
from pure.nn import units
from pure.nn.blocks import BasicBlock, ProductUnitBlock
from pure.train.engine import Engine

PLAIN: dict[str, Any] = {"channels_last": False, "compile": False}
"""Execution as recipes were executed before it was chosen by what is fastest."""

QUICK: dict[str, Any] = {"epochs": 1, "batch_size": 128}
"""Not to learn anything: to run through every line."""


def pure8(num_classes: int, in_channels: int, **unit: Any) -> nn.Module:
    """One block in each stage: the smallest network of the family, in a third of PURe20's time."""
    block = partial(ProductUnitBlock, unit=partial(units.ProductUnit2d, **unit))
    return ResidualNetwork(block, [1, 1, 1], num_classes=num_classes, in_channels=in_channels)


def resnet8(num_classes: int, in_channels: int) -> nn.Module:
    sizes: dict[str, Any] = {"num_classes": num_classes, "in_channels": in_channels}
    return ResidualNetwork(BasicBlock, [1, 1, 1], shortcut="A", activation=nn.ReLU, **sizes)


def pure4(num_classes: int, in_channels: int) -> nn.Module:
    """One narrow block, for tests that train dozens of times."""
    block = partial(ProductUnitBlock, unit=units.ProductUnit2d)
    return ResidualNetwork(block, [1], widths=(4,), num_classes=num_classes, in_channels=in_channels)


SMALL: dict[str, Callable[..., nn.Module]] = {"pure4": pure4, "pure8": pure8, "resnet8": resnet8}


def register_small_networks() -> None:
    """For processes of their own; tests patch the registry instead."""
    registry.REGISTRY.update(SMALL)


def train_epochs(engine: Engine, stop: Callable[[], bool] = lambda: False) -> None:
    """The loop of a run without its files: to the last epoch, or until it is told to stop."""
    while len(engine.epochs) < engine.recipe.epochs:
        for batch in engine.batches_left():
            if engine.step(batch, stop()):
                engine.settle()
                return
        engine.settle()
        engine.end_epoch()


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def in_child(work: Callable[[], object]) -> int:
    """Run in a forked process, which has everything imported already.  Returns its process id."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        # On the first call after a fork PyTorch makes a new thread pool, which fails where two threads call at once.
        torch.set_num_threads(torch.get_num_threads())
        work()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def wait(child: int) -> int:
    """The exit status of a child; the negative number of the signal that ended it."""
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


KILLED = -signal.SIGKILL
