"""What a run would do, before it does it: recipe, data, learning rates, memory, time."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pure.data import DeviceLoader, Splits, Subset
from pure.data.protocols import Protocol
from pure.nn.inspection import kept_for_backward
from pure.recipes import Recipe, sources
from pure.records import Epoch, Score
from pure.train import speed
from pure.train.engine import Engine
from pure.train.evaluate import BATCH, read_at_once, shown_at_once
from pure.train.schedule import learning_rate

__all__ = ["evaluation_bytes", "kept_bytes", "overview"]

_STEPS = 6
"""Steps that are taken.  The first one, in which memory is taken and libraries choose algorithms, is not timed."""

_IMAGES = 256
"""Training images whose evaluation is timed."""

_KEPT_IMAGES = 2
"""Images of the small batch on which the memory for the backward pass is measured."""


def overview(engine: Engine, title: str, model: str, overrides: Sequence[str]) -> str:
    """A run in words and figures.

    A few steps are taken to time them, and the network is not good for a training afterwards.  The test set is not
    looked at.

    Args:
        engine: at its beginning.
        title: recipe, network and seed.
        model: the network's name.
        overrides: fields of the recipe that differ from the published ones.
    """
    recipe = engine.recipe
    kept = kept_bytes(engine)  # before the steps, which on CUDA fill the memory that is reported
    seconds = _seconds(engine)
    steps = engine.batches * recipe.epochs
    parts = {
        f"{title}: {recipe.epochs} epochs of {engine.batches} batches, {steps:,} steps": [],
        "Recipe": _recipe_lines(recipe, model, overrides),
        "Execution": [f"{field:16} {value!s}" for field, value in engine.execution],
        "Data": _data_lines(engine.splits, engine.loader.kind),
        "Learning rate": _schedule_lines(recipe),
        "Memory of each device": _memory_lines(engine, kept),
        "Time on this machine": _time_lines(engine, *seconds),
    }
    return "\n".join(line for heading, lines in parts.items() for line in (heading, *(f"  {each}" for each in lines)))


def kept_bytes(engine: Engine) -> int:
    """Bytes that a forward pass of one image keeps for its backward pass, every storage once, without the weights."""
    images, labels = next(iter(engine.some_batches(1)))
    images, labels = images[:_KEPT_IMAGES], labels[:_KEPT_IMAGES]
    network = engine.network.train()
    with torch.compiler.set_stance("force_eager"):
        _, kept = kept_for_backward(lambda: engine.loss(network, images, labels), network.parameters())
    return sum(storage.nbytes for storage in kept.values()) // len(images)


def evaluation_bytes(engine: Engine) -> tuple[int, int]:
    """Images of which an evaluation shows the views at once, and the bytes of images and widest maps that this takes.

    Worked out from the largest view of a training image by any protocol of the recipe.
    """
    image = engine.splits.train[0][0]
    found = []
    for name in engine.recipe.protocols:
        protocol = Protocol.parse(name)
        view = max(protocol.views(image[None]), key=lambda each: each.shape[-2:].numel())[:1]
        number = min(shown_at_once(view, protocol, BATCH), len(engine.splits.test))
        shown = view.to(engine.group.device, torch.float32)
        read = read_at_once(engine.splits.test, protocol, BATCH) * image.nbytes
        found.append((number, number * (2 * shown.nbytes + _widest(engine, shown)) + read))
    return max(found, key=lambda each: each[1])


def _widest(engine: Engine, image: Tensor) -> int:
    """Bytes of the inputs and outputs of the layer where they are most."""
    sizes = [0]

    def look(_: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        sizes.append(sum(each.nbytes for each in (*inputs, output) if isinstance(each, Tensor)))

    leaves = [module for module in engine.network.modules() if not list(module.children())]
    hooks = [module.register_forward_hook(look) for module in leaves]
    engine.network.eval()
    try:
        with torch.no_grad(), torch.compiler.set_stance("force_eager"):
            engine.network(image)
    finally:
        for hook in hooks:
            hook.remove()
    return max(sizes)


def _recipe_lines(recipe: Recipe, model: str, overrides: Sequence[str]) -> list[str]:
    known = sources(recipe.name, model)
    lines = []
    for field in Recipe.model_fields:
        if field in ("name", "family"):
            continue
        source = "overridden, not as published" if field in overrides else known.get(field, "the default")
        lines.append(f"{field:16} {getattr(recipe, field)!s:24} {source}")
    return lines


def _data_lines(splits: Splits, loader: str) -> list[str]:
    held_out = f"{len(splits.validation):,} to validate" if splits.validation is not None else "none to validate"
    shape = " x ".join(map(str, splits.train.shape)) if splits.train.shape is not None else "of several sizes"
    kept = {"device": "kept on the device", "workers": "read by worker processes"}[loader]
    return [
        f"{splits.name}{', simulated' if splits.synthetic else ''}: {len(splits.train):,} images to train, "
        f"{held_out}, {len(splits.test):,} to test",
        f"{len(splits.classes)} classes; images {shape}, {kept}",
    ]


def _schedule_lines(recipe: Recipe) -> list[str]:
    lines = []
    if recipe.warmup_lr is not None:
        error = f"{100 * recipe.warmup_error:g} %"
        lines.append(f"{recipe.warmup_lr:g} until the training error of an epoch is below {error}, then:")
    if recipe.schedule == "plateau":
        wait = f"{recipe.patience} epochs in a row without a lower validation loss"
        return [*lines, f"{recipe.lr:g}, times {recipe.gamma:g} after {wait}"]
    epoch = Epoch(lr=0.0, train=Score(loss=0.0, accuracy=1.0), train_s=0.0, validation_s=0.0)  # ends any warm-up
    plain = recipe.model_copy(update={"warmup_lr": None})
    rates = [learning_rate(plain, [epoch] * done) for done in range(recipe.epochs)]
    for rate, group in itertools.groupby(range(recipe.epochs), key=rates.__getitem__):
        numbers = list(group)
        lines.append(f"{rate:g} in epochs {numbers[0] + 1} to {numbers[-1] + 1}")
    return lines


def _memory_lines(engine: Engine, kept: int) -> list[str]:
    """What a step needs, worked out; on CUDA also what the steps took."""
    recipe, device = engine.recipe, engine.group.device
    weights = sum(tensor.nbytes for tensor in engine.network.state_dict().values())
    trained = sum(parameter.nbytes for parameter in engine.network.parameters())
    cut = engine.group.world_size * engine.execution.micro_batches
    at_once = -(-min(recipe.batch_size, len(engine.splits.train)) // cut)
    images = engine.loader.images.nbytes if isinstance(engine.loader, DeviceLoader) else 0
    selected = weights if recipe.selection != "last" else 0
    parts = {
        "weights and statistics": weights,
        "gradients": trained,
        "momentum": trained,
        f"kept for the backward pass of {at_once} images": kept * at_once,
        "training images": images,
    }
    lines = [f"{_size(size):>10}  {name}" for name, size in parts.items() if size]
    lines.append(f"{_size(sum(parts.values())):>10}  together, without temporary tensors and what the libraries take")
    views, evaluating = evaluation_bytes(engine)
    lines.append(f"{_size(evaluating):>10}  besides in an evaluation, about, for {views} images at once")
    if device.type == "cuda":
        lines.append(f"{_size(torch.cuda.max_memory_allocated(device)):>10}  taken at most in {_STEPS} steps")
    checkpoint = weights + trained + selected
    lines.append(f"{_size(2 * checkpoint):>10}  on the disk, for two checkpoints")
    return lines


def _seconds(engine: Engine) -> tuple[float, float]:
    """Seconds of a step, and of the evaluation of one image."""
    ticks = [time.perf_counter()]

    def tick() -> None:
        if engine.group.device.type == "cuda":
            torch.cuda.synchronize(engine.group.device)
        ticks.append(time.perf_counter())

    with speed.tf32(engine.recipe, engine.group.device):
        for batch in itertools.islice(engine.batches_left(), _STEPS):
            engine.step(batch)
            tick()
        engine.settle()
    steps = [end - start for start, end in itertools.pairwise(ticks)]
    number = min(_IMAGES, len(engine.splits.train))
    some = Subset(engine.splits.train, torch.linspace(0, len(engine.splits.train) - 1, number).long())
    clock = time.perf_counter()
    engine.measure(engine.network, some, engine.recipe.protocols[0])
    return statistics.median(steps[1:] or steps), (time.perf_counter() - clock) / number


def _time_lines(engine: Engine, step: float, image: float) -> list[str]:
    recipe, splits = engine.recipe, engine.splits
    training = step * engine.batches * recipe.epochs
    validation = image * len(splits.validation or ()) * recipe.epochs
    tests = len(recipe.protocols) + (recipe.noise_scale is not None) + len(recipe.noise_curve)
    test = image * len(splits.test) * tests
    return [
        f"{_duration(training):>10}  training: {1000 * step:.1f} ms a step, {recipe.batch_size / step:,.0f} images/s",
        f"{_duration(validation):>10}  validation",
        f"{_duration(test):>10}  {tests} {'test' if tests == 1 else 'tests'}, at the speed of the first protocol",
        f"{_duration(training + validation + test):>10}  together",
    ]


def _size(number: int) -> str:
    """Bytes as a reader wants them."""
    value, unit = float(number), "B"
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000 or unit == "GB":
            break
        value /= 1000
    return f"{value:.0f} B" if unit == "B" else f"{value:.1f} {unit}"


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02} min" if minutes >= 60 else f"{minutes} min"
