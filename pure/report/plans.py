"""What runs that nobody has trained yet would take: from records of such runs, or worked out from the arithmetic."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import torch
from torch import nn

from pure.models import create_model
from pure.recipes import Recipe
from pure.records import RunRecord
from pure.report.networks import costs, multiply_adds

__all__ = ["Estimate", "estimate", "seconds_by_arithmetic"]

IMAGES = {
    "cifar10": (50_000, 32),
    "digits": (1_149, 8),
    "fashion-mnist": (60_000, 28),
    "galaxy10": (2 * 14_189, 256),
    "galaxy10-synthetic": (2 * 640, 64),
    "gz2": (2 * 5_000, 64),
    "image-folder": (9_469, 64),
    "imagenet": (1_281_167, 224),
}
"""Training images, static copies included, and their edge in pixels; the image folder is taken to be Imagenette."""

SPEED = {"gpu": 5e12, "cpu": 1.5e10}
"""Multiply-adds a second.  GPU: ResNet18's 30 epochs in 1149 s on the paper's two V100 (table 2); small networks are
slower.  CPU: the records of the digits, on one thread."""


@dataclass(frozen=True)
class Estimate:
    """Of one run: seconds, bytes on the device, and where the seconds come from."""

    seconds: float
    memory: int
    source: str


def estimate(
    recipe: Recipe,
    network: str,
    options: Mapping[str, Any],
    device: Literal["cpu", "gpu"],
    measured: Iterable[RunRecord] = (),
) -> Estimate:
    """What one run takes.

    Args:
        recipe: what is trained.
        network: one of :func:`pure.list_models`.
        options: of the network.
        device: where.
        measured: runs of the same recipe and network; those on such a device tell the seconds of an epoch.
    """
    key = network, tuple(sorted(options.items())), _size(recipe)[1]
    seconds = [
        run.times.total_s / len(run.epochs)
        for run in measured
        if run.environment.device == {"gpu": "cuda", "cpu": "cpu"}[device] and run.epochs
    ]
    if seconds:
        return Estimate(statistics.median(seconds) * recipe.epochs, _memory(recipe, *key), "measured")
    return Estimate(seconds_by_arithmetic(recipe, network, options, device), _memory(recipe, *key), "worked out")


def seconds_by_arithmetic(
    recipe: Recipe, network: str, options: Mapping[str, Any], device: Literal["cpu", "gpu"]
) -> float:
    """Seconds of one run, from the multiply-adds of an image; the arguments are those of :func:`estimate`."""
    images, pixels = _size(recipe)
    additions = _multiply_adds(network, tuple(sorted(options.items())), pixels)
    return 3 * additions * images * recipe.epochs / SPEED[device]  # forward, and twice as much backward


def _size(recipe: Recipe) -> tuple[int, int]:
    return IMAGES.get(recipe.dataset, (50_000, 32))


@cache
def _multiply_adds(network: str, options: tuple[tuple[str, Any], ...], pixels: int) -> int:
    try:
        return multiply_adds(_on_meta(network, options), pixels=pixels)
    except ValueError:  # images too small for its strides
        return 0


@cache
def _kept_and_parameters(network: str, options: tuple[tuple[str, Any], ...], pixels: int) -> tuple[int, int]:
    try:
        cost = costs(_on_meta(network, options), pixels=pixels)
    except ValueError:
        return 0, 0
    return cost.kept_bytes, cost.parameters


def _memory(recipe: Recipe, network: str, options: tuple[tuple[str, Any], ...], pixels: int) -> int:
    kept, parameters = _kept_and_parameters(network, options, pixels)
    return kept * recipe.batch_size + 3 * 4 * parameters  # weights, gradients and momentum, in single precision


def _on_meta(network: str, options: tuple[tuple[str, Any], ...]) -> nn.Module:
    with torch.device("meta"):
        return create_model(network, **dict(options))
