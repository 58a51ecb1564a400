"""One training, from a recipe, a network and a seed to a run record.

From Python it is :func:`fit`, from a shell::

    python -m pure.train --recipe digits --model pure20 --seed 0 --out runs/digits/pure20/seed0
"""

from __future__ import annotations

import argparse
import ast
import copy
import hashlib
import io
import math
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from sklearn.metrics import confusion_matrix
from torch import Tensor, nn
from tqdm import tqdm

from pure import data
from pure.data import DeviceLoader, ImageSet, Splits
from pure.layers import ProductUnit, ProductUnit2d
from pure.models import create_model
from pure.recipes import Recipe, family_of, get_recipe, list_recipes
from pure.records import (
    RECORD_NAME,
    DataSummary,
    Environment,
    Epoch,
    Evaluation,
    ModelSummary,
    RunRecord,
    Times,
    load,
    write_atomically,
)

__all__ = ["WEIGHTS_NAME", "fit", "load_run", "main", "predict", "run_folder", "thresholds"]

WEIGHTS_NAME = "weights.pt"

_EVALUATION_BATCH = 500
"""Images in a batch of an evaluation; it does not change the result."""


def fit(
    recipe: str,
    model: str,
    *,
    seed: int = 0,
    out: Path | str | None = None,
    overrides: Mapping[str, Any] | None = None,
    model_options: Mapping[str, Any] | None = None,
    device: torch.device | str | None = None,
    overwrite: bool = False,
    progress: bool | None = None,
) -> RunRecord:
    """Train a network by a recipe, validate it after each epoch, test it once, and leave a record.

    SGD with momentum on the cross-entropy (section 4), with the recipe's schedule.  On a CPU with the same versions
    and number of threads, the same seed gives the same record but for the times.

    Args:
        recipe: one of :func:`pure.recipes.list_recipes`; PURe and ResNet have values of their own in it.
        model: one of :func:`pure.list_models`.
        seed: fixes initialisation, order and augmentation.
        out: folder for the record and the weights that were tested; None writes nothing.
        overrides: fields of :class:`pure.recipes.Recipe` to be set otherwise; the record names those that differ.
        model_options: options of :func:`pure.create_model` beside the numbers of classes and channels.
        device: where to train; by default a GPU if there is one.
        overwrite: replace a finished record in ``out``.
        progress: whether to show a bar; by default only on a terminal.

    Returns:
        The record, as written.

    Raises:
        ValueError: unknown recipe, network or field, a value out of its range, or a device that is not there.
        TypeError: the network has no such option.
        FileExistsError: ``out`` holds a finished record and ``overwrite`` is not set; nothing was touched.
        NotADirectoryError: ``out`` is a file.
    """
    folder = Path(out) if out is not None else None
    if folder is not None:
        _require_free(folder, overwrite)
    overrides, model_options = dict(overrides or {}), dict(model_options or {})
    plan, published = (get_recipe(recipe, family_of(model), **changes) for changes in (overrides, {}))
    device = _device(device)

    splits = data.load(plan.dataset, split_seed=plan.split_seed)
    channels = splits.train.images.shape[1]
    torch.manual_seed(seed)
    network = create_model(model, len(splits.classes), channels, **model_options).to(device)
    parameters = sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
    # What the record or the folder would refuse is refused before the training, not behind it.
    summary = ModelSummary(name=model, options=model_options, parameters=parameters)
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)

    environment = Environment.current(device)  # now: the checkout may be another when the training ends
    started, clock = datetime.now(UTC), time.perf_counter()
    epochs, selected = _train(network, splits, plan, seed, device, f"{recipe} {model} seed {seed}", progress)
    test = _test(network, splits, device, selected)
    total_s = time.perf_counter() - clock

    weights = _serialise(network)
    record = RunRecord(
        recipe=plan,
        overrides=tuple(sorted(name for name in overrides if getattr(plan, name) != getattr(published, name))),
        model=summary,
        seed=seed,
        data=_summarise(splits),
        epochs=tuple(epochs),
        test=test,
        thresholds=thresholds(network),
        times=Times(started=started, train_s=sum(epoch.train_s for epoch in epochs), total_s=total_s),
        environment=environment,
        weights_sha256=hashlib.sha256(weights).hexdigest(),
    )
    if folder is not None:
        (folder / RECORD_NAME).unlink(missing_ok=True)  # an old record never stands beside new weights
        write_atomically(folder / WEIGHTS_NAME, weights)
        record.write(folder / RECORD_NAME)  # last: its existence says that the run is finished
    return record


def load_run(folder: Path | str) -> tuple[RunRecord, nn.Module, Splits]:
    """A finished run: its record, the network with the weights that were tested, in evaluation mode, and its data.

    Raises:
        FileNotFoundError: the folder holds no record or no weights.
        ValueError: the weights or the data are not those of the record.
    """
    folder = Path(folder)
    record = load(folder / RECORD_NAME)
    weights = (folder / WEIGHTS_NAME).read_bytes()
    if hashlib.sha256(weights).hexdigest() != record.weights_sha256:
        raise ValueError(f"{folder / WEIGHTS_NAME} holds other weights than the record tested; repeat the run")
    splits = data.load(record.recipe.dataset, split_seed=record.recipe.split_seed)
    if splits.fingerprint != record.data.fingerprint:
        raise ValueError(f"data set {splits.name!r} is divided otherwise here than when {folder} was written")
    network = create_model(record.model.name, len(splits.classes), splits.train.images.shape[1], **record.model.options)
    network.load_state_dict(torch.load(io.BytesIO(weights), weights_only=True))
    return record, network.eval(), splits


def predict(network: nn.Module, splits: Splits, subset: ImageSet) -> Tensor:
    """Logits of a network in evaluation mode, on the network's device.

    Args:
        network: maps normalised images ``(N, C, H, W)`` to logits.
        splits: whose training set gives mean and deviation for the normalisation.
        subset: the images.

    Returns:
        Logits ``(N, classes)``, on the CPU.
    """
    device = next(network.parameters()).device
    loader = DeviceLoader(subset, *splits.statistics, _EVALUATION_BATCH, device)
    network.eval()
    with torch.inference_mode():
        return torch.cat([network(images).cpu() for images, _ in loader])


def thresholds(network: nn.Module) -> dict[str, float | tuple[float, ...]]:
    """The threshold of every product unit of a network by name: one value, or one for each channel."""
    values: dict[str, float | tuple[float, ...]] = {}
    for name, module in network.named_modules():
        if isinstance(module, (ProductUnit, ProductUnit2d)):  # the stabilised units are among them
            tau = module.threshold.detach().cpu().tolist()
            values[name] = tuple(tau) if isinstance(tau, list) else tau
    return values


def run_folder(root: Path | str, recipe: str, model: str, seed: int) -> Path:
    """Where a run's record belongs below a root: ``<root>/<recipe>/<model>/seed<k>``."""
    return Path(root) / recipe / model / f"seed{seed}"


def _train(
    network: nn.Module,
    splits: Splits,
    plan: Recipe,
    seed: int,
    device: torch.device,
    title: str,
    progress: bool | None,
) -> tuple[list[Epoch], int]:
    """Train in place, ending with the selected weights.  Returns the epochs, and the number of the selected one."""
    order = torch.Generator().manual_seed(seed)
    loader = DeviceLoader(splits.train, *splits.statistics, plan.batch_size, device, order, plan.max_shift)
    optimiser = torch.optim.SGD(_parameter_groups(network, plan), lr=plan.lr, momentum=plan.momentum)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimiser, list(plan.milestones), plan.gamma)
    epochs: list[Epoch] = []
    best: tuple[float, int, dict[str, Tensor]] | None = None
    bar = tqdm(range(plan.epochs), desc=title, unit="epoch", disable=None if progress is None else not progress)
    for _ in bar:
        clock = time.perf_counter()
        train_loss, train_accuracy = _train_epoch(network, loader, optimiser)
        train_s = time.perf_counter() - clock
        validation_loss, validation_accuracy = _score(predict(network, splits, splits.validation), splits.validation)
        epochs.append(
            Epoch(
                lr=float(schedule.get_last_lr()[0]),
                train_loss=train_loss,
                train_accuracy=train_accuracy,
                validation_loss=validation_loss,
                validation_accuracy=validation_accuracy,
                train_s=train_s,
                validation_s=time.perf_counter() - clock - train_s,
            )
        )
        schedule.step()
        bar.set_postfix(loss=f"{train_loss:.3f}", validation=f"{100 * validation_accuracy:.1f} %")
        # Running statistics can lag in the first epochs.  A NaN then counts as the worst: no loss is lower than a NaN.
        comparable = validation_loss if math.isfinite(validation_loss) else math.inf
        if plan.selection == "lowest-validation-loss" and (best is None or comparable < best[0]):
            best = comparable, len(epochs), copy.deepcopy(network.state_dict())
    if best is None:
        return epochs, len(epochs)
    network.load_state_dict(best[2])
    return epochs, best[1]


def _train_epoch(network: nn.Module, loader: DeviceLoader, optimiser: torch.optim.Optimizer) -> tuple[float, float]:
    """One pass over the training set: mean loss and accuracy of the batches as they were trained on."""
    network.train()
    loss_sum = torch.zeros((), dtype=torch.float64)
    correct, seen = 0, 0
    for images, labels in loader:
        optimiser.zero_grad()
        logits = network(images)
        loss = F.cross_entropy(logits, labels)
        loss.backward()
        optimiser.step()
        loss_sum += loss.detach().cpu().double() * len(labels)
        correct += int((logits.argmax(1) == labels).sum())
        seen += len(labels)
    return float(loss_sum) / seen, correct / seen


def _test(network: nn.Module, splits: Splits, device: torch.device, epoch: int) -> Evaluation:
    """The one look at the test set."""
    logits = predict(network, splits, splits.test)
    loss, accuracy = _score(logits, splits.test)
    confusion = confusion_matrix(splits.test.labels, logits.argmax(1), labels=range(len(splits.classes)))
    return Evaluation(epoch=epoch, loss=loss, accuracy=accuracy, confusion=tuple(map(tuple, confusion.tolist())))


def _score(logits: Tensor, subset: ImageSet) -> tuple[float, float]:
    """Mean cross-entropy in nats, and the share that is classified rightly."""
    loss = F.cross_entropy(logits.double(), subset.labels)
    return float(loss), float((logits.argmax(1) == subset.labels).double().mean())


def _parameter_groups(network: nn.Module, plan: Recipe) -> list[dict[str, Any]]:
    """The parameters with their weight decay; ``theta`` apart where the recipe exempts it."""
    if plan.decay_theta:
        return [{"params": list(network.parameters()), "weight_decay": plan.weight_decay}]
    is_theta = {name: name.rpartition(".")[2] == "theta" for name, _ in network.named_parameters()}
    return [
        {"params": [p for name, p in network.named_parameters() if is_theta[name] == apart], "weight_decay": decay}
        for apart, decay in ((False, plan.weight_decay), (True, 0.0))
    ]


def _summarise(splits: Splits) -> DataSummary:
    return DataSummary(
        name=splits.name,
        classes=splits.classes,
        train=len(splits.train.labels),
        validation=len(splits.validation.labels),
        test=len(splits.test.labels),
        fingerprint=splits.fingerprint,
    )


def _serialise(network: nn.Module) -> bytes:
    buffer = io.BytesIO()
    torch.save({name: tensor.cpu() for name, tensor in network.state_dict().items()}, buffer)
    return buffer.getvalue()


def _device(device: torch.device | str | None) -> torch.device:
    """The device by name, or a GPU if there is one.  Raises ValueError where nothing can be put on it."""
    try:
        chosen = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.empty(1, device=chosen).cpu()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"cannot use device {str(device)!r}; give cpu, or cuda on a GPU ({reason})") from None
    return chosen


def _require_free(folder: Path, overwrite: bool) -> None:
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"{folder} is a file; --out (out=) takes a folder")
    if (folder / RECORD_NAME).exists() and not overwrite:
        raise FileExistsError(
            f"{folder} already holds a finished record; choose another folder, or give --overwrite (overwrite=True) "
            "to replace it"
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """``python -m pure.train``: see ``--help``.  Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m pure.train", description="Train one network and leave a record.")
    parser.add_argument("--recipe", required=True, help=f"hyper-parameters: {', '.join(list_recipes())}")
    parser.add_argument("--model", required=True, help="network, for example pure20 or resnet20")
    parser.add_argument("--seed", type=int, default=0, help="fixes initialisation, order and augmentation")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for record and weights")
    parser.add_argument("--epochs", type=int, help="train shorter or longer; the milestones move along")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="override a recipe's field")
    parser.add_argument(
        "--option", action="append", default=[], metavar="NAME=VALUE", help="an option of the network, as shortcut=A"
    )
    parser.add_argument("--device", help="cpu, cuda, cuda:1, ...; by default a GPU if there is one")
    parser.add_argument("--overwrite", action="store_true", help="replace a finished record in DIR")
    options = parser.parse_args(arguments)
    try:
        overrides = dict(_parse_setting("--set", text) for text in options.set)
        if options.epochs is not None:
            overrides["epochs"] = options.epochs
        record = fit(
            options.recipe,
            options.model,
            seed=options.seed,
            out=options.out,
            overrides=overrides,
            model_options=dict(_parse_setting("--option", text) for text in options.option),
            device=options.device,
            overwrite=options.overwrite,
        )
    except (ValueError, TypeError, OSError) as error:
        print(f"python -m pure.train: {error}", file=sys.stderr)
        return 2
    print(
        f"{record.recipe.name} {record.model.name} seed {record.seed}: "
        f"test accuracy {100 * record.test.accuracy:.2f} % on {record.data.test} images, "
        f"{record.times.total_s:.1f} s; record in {options.out / RECORD_NAME}"
    )
    return 0


def _parse_setting(flag: str, text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"{flag} expects NAME=VALUE, got {text!r}; for example --set lr=0.05 or --option shortcut=A")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value  # a word


if __name__ == "__main__":
    sys.exit(main())
