"""Whole training epochs, loader, augmentation and monitoring included, of a PURe and the ResNet of its depth in turns.

The images have CIFAR-10's shape, type and number and are made up: what is timed does not depend on what they show.
"""

from __future__ import annotations

import random
from typing import Any

import torch

import pure
from pure.data import Splits
from pure.data.images import ImageSet
from pure.execution import Execution, get_execution
from pure.recipes import get_recipe
from pure.train import speed
from pure.train.distributed import Group
from pure.train.engine import Engine


def made_up(images: int) -> Splits:
    """Noise around a grey level that tells the class, so that a training on it stays finite."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 10, (images,), generator=generator)
    noise = torch.randint(0, 65, (images, 3, 32, 32), generator=generator)
    pixels = (noise + 20 * labels[:, None, None, None]).to(torch.uint8)
    train = ImageSet(pixels, labels)
    return Splits("made up", tuple("0123456789"), train, None, ImageSet(pixels[:10], labels[:10]))


def measure(model: str, device: str, images: int, rounds: int, **settings: Any) -> dict[str, Any]:
    """Seconds of each epoch as a run's record has them; the first one, which captures and compiles, is not counted.

    Args:
        model: a PURe.
        device: where it trains.
        images: of an epoch.
        rounds: epochs of each network.
        **settings: of the recipe or the execution.
    """
    splits = made_up(images)
    executed = {name: settings.pop(name) for name in tuple(settings) if name in Execution.model_fields}
    execution = get_execution({"channels_last": False, "compile": False, **executed})
    engines = {}
    for name, network in (("pure", model), ("resnet", model.replace("pure", "resnet"))):
        recipe = get_recipe("cifar10", network, epochs=rounds + 1, lr=1e-3, warmup_lr=None, **settings)
        torch.manual_seed(0)
        group = Group(0, 1, torch.device(device, 0))
        engines[name] = Engine(
            pure.create_model(network, 10, shortcut="B").to(device), splits, recipe, execution, 0, group, progress=False
        )
    order = random.Random(0)
    for _ in range(rounds + 1):
        for name in order.sample(list(engines), len(engines)):
            _epoch(engines[name])
    seconds = {name: [epoch.train_s for epoch in engine.epochs[1:]] for name, engine in engines.items()}
    found = engines["pure"].recipe
    kept = {"precision": found.precision, "batch": found.batch_size, "cuda_graphs": execution.cuda_graphs}
    return {
        "model": model,
        "images": images,
        "shortcuts": "B",
        **kept,
        "settings": settings | executed,
        "seconds": seconds,
    }


def _epoch(engine: Engine) -> None:
    with speed.tf32(engine.recipe, engine.group.device):
        for batch in engine.batches_left():
            engine.step(batch)
        engine.settle()
        engine.end_epoch()
