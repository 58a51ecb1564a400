"""What :mod:`pure.train` offers: to train, to estimate, and to read a finished run back."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pure import data as datasets
from pure.data import Splits
from pure.execution import get_execution
from pure.models import create_model
from pure.nn.units import ProductUnitBase
from pure.recipes import Recipe, changed_recipe
from pure.records import RECORD_NAME, RunRecord, read_record
from pure.train.determinism import deterministic as restricted
from pure.train.distributed import ranks
from pure.train.dry_run import overview
from pure.train.interruption import stop_requests
from pure.train.lock import locked
from pure.train.run import (
    IfExists,
    Run,
    Training,
    are_of_record,
    breakable,
    finished,
    read_weights,
    require_folder,
    weights_of,
)
from pure.train.tensorboard import scalar_writer

__all__ = ["estimate", "fit", "load_network", "load_run", "outcome", "run_folder"]


def fit(
    recipe: str,
    model: str | nn.Module,
    *,
    seed: int = 0,
    data: Path | str | Splits | None = None,
    out: Path | str | None = None,
    overrides: Mapping[str, Any] | None = None,
    data_options: Mapping[str, Any] | None = None,
    model_options: Mapping[str, Any] | None = None,
    execution: Mapping[str, Any] | None = None,
    device: torch.device | str | None = None,
    deterministic: bool = False,
    if_exists: IfExists = "fail",
    max_seconds: float | None = None,
    progress: bool | None = None,
    tensorboard: bool = False,
) -> RunRecord:
    """Train a network by a recipe, validate it after each epoch, test it once, and leave a record.

    SGD with momentum on the cross-entropy (section 4), of a segmentation with the Dice loss added, with the recipe's
    schedule.  On a CPU with the same versions
    and number of threads, the same seed gives the same record but for the times.  A training whose loss,
    gradient or weights stop being finite ends there, and its record says when, where and why.

    With ``out``, each epoch ends with a checkpoint.  SIGTERM, SIGUSR1, SIGHUP, Ctrl-C and ``max_seconds`` write one
    after the current batch and stop; in one process, the signals also break off a validation or the test, which is then
    made again.  A checkpoint that cannot be written, on a full disk say, does not stop the training: the one before
    stays, and a message is logged.

    Args:
        recipe: one of :func:`pure.recipes.list_recipes`; PURe and ResNet have different values in it.
        model: one of :func:`pure.list_models`; or a network from images ``(N, C, H, W)`` to logits ``(N, classes)``, of
            a segmentation ``(N, classes, H, W)``, which is trained in
            place and ends with the weights that were tested.  It has PURe's hyper-parameters if it has product units,
            else those of ResNet, and the record names its class and a hash of its layers.
        seed: fixes order and augmentation, and the initialisation of a network that is given by its name.
        data: folder of the data sets, as :func:`pure.data.load` takes it; or the divided data set itself.
        out: folder for the record, the weights that were tested and, meanwhile, the checkpoints; None writes nothing.
        overrides: fields of :class:`pure.recipes.Recipe` to override; the record names those that differ.
        data_options: options of the data set to override: the same as the override of that name.
        model_options: options of :func:`pure.create_model` besides the numbers of classes and channels.
        execution: fields of :class:`pure.execution.Execution`: how to train, not what.
        device: where to train; by default a GPU if there is one.
        deterministic: restrict operations to those that repeat bit for bit, see :mod:`pure.train.determinism`.
        if_exists: what to do where ``out`` holds a run: ``"fail"`` refuses; ``"resume"`` goes on with an unfinished one
            and returns the record of a finished one; ``"replace"`` trains again in place of a finished one, and goes on
            with an unfinished one if it is the same on the same machine and versions; ``"restart"`` starts from the
            beginning whatever is there.  All but the first start where there is nothing.
        max_seconds: stop after this many seconds, at the end of a batch.
        progress: whether to show a bar; by default only on a terminal.
        tensorboard: write the epochs' figures for TensorBoard to ``tensorboard`` below ``out``.

    Returns:
        The record, as written.

    Raises:
        ValueError: unknown recipe, network or field, a value out of its range, a device that is not there, a schedule
            that needs a validation set where there is none, a last batch of one image that batch normalisation cannot
            take, or, with ``"resume"``, a folder of another run.
        TypeError: the network or the data set has no such option.
        FileNotFoundError: the data set is not there.
        FileExistsError: ``out`` holds a run, finished or not, and ``if_exists`` is ``"fail"``; nothing was touched.
        BlockingIOError: another process is training in ``out``.
        NotADirectoryError: ``out`` is a file.
        ModuleNotFoundError: TensorBoard is wanted and not installed.
        Stopped: by a signal or ``max_seconds``.
    """
    training = _training(recipe, model, data, overrides, data_options, model_options, seed, deterministic)
    how = get_execution(execution)
    folder = Path(out) if out is not None else None
    if folder is None:
        _refuse_without_folder(
            if_exists=if_exists != "fail", max_seconds=max_seconds is not None, tensorboard=tensorboard
        )
    else:
        require_folder(folder, if_exists)
        if if_exists == "resume" and (record := finished(folder, training)) is not None:
            return record
    write_scalars = scalar_writer(folder / "tensorboard") if tensorboard and folder is not None else None
    with ExitStack() as stack:
        stack.enter_context(restricted(deterministic))
        group = stack.enter_context(ranks(device))
        stop = stack.enter_context(stop_requests(max_seconds, signals=folder is not None))
        with breakable(stop, group, training.title):
            splits = _splits(data, training.recipe)
            network = model if isinstance(model, nn.Module) else None
            run = Run(training, how, splits, group, folder, progress, network)
        if folder is not None and group.is_main:
            stack.enter_context(locked(folder))
            require_folder(folder, if_exists)  # again, now that no other process can change it
        run.begin(if_exists)
        return group.share(run.train(stop, write_scalars))  # type: ignore[no-any-return]


def _training(
    recipe: str,
    model: str | nn.Module,
    data: Path | str | Splits | None,
    overrides: Mapping[str, Any] | None,
    data_options: Mapping[str, Any] | None,
    model_options: Mapping[str, Any] | None,
    seed: int,
    deterministic: bool,
) -> Training:
    """The part of the arguments that decides the result."""
    options = dict(model_options or {})
    name = model if isinstance(model, str) else type(model).__name__
    family = name
    if not isinstance(model, str):
        if options:
            raise ValueError("model_options are for networks that are given by their name")
        family = "pure" if any(isinstance(module, ProductUnitBase) for module in model.modules()) else "resnet"
        options = {"layers": hashlib.sha256(repr(model).encode()).hexdigest()[:12]}
    if isinstance(data, Splits):
        if data_options or (overrides or {}).get("data_options"):
            raise ValueError("data_options are for data sets that are loaded by their name")
        overrides = {**(overrides or {}), "dataset": data.name, "data_options": {}}
    changed, differing = changed_recipe(recipe, family, overrides, data_options)
    return Training(changed, differing, name, options, seed, deterministic)


def _splits(data: Path | str | Splits | None, recipe: Recipe) -> Splits:
    return data if isinstance(data, Splits) else datasets.load(recipe.dataset, data, **recipe.data_options)


def estimate(
    recipe: str,
    model: str | nn.Module,
    *,
    seed: int = 0,
    data: Path | str | Splits | None = None,
    overrides: Mapping[str, Any] | None = None,
    data_options: Mapping[str, Any] | None = None,
    model_options: Mapping[str, Any] | None = None,
    execution: Mapping[str, Any] | None = None,
    device: torch.device | str | None = None,
) -> str:
    """What :func:`fit` would do with these arguments, the memory that it needs and the time that it takes.

    A few steps are taken, on a copy of a network that is given.

    Raises:
        ValueError, TypeError, FileNotFoundError: as :func:`fit`.
    """
    training = _training(recipe, model, data, overrides, data_options, model_options, seed, deterministic=False)
    with ranks(device) as group:
        network = copy.deepcopy(model) if isinstance(model, nn.Module) else None
        splits = _splits(data, training.recipe)
        run = Run(training, get_execution(execution), splits, group, None, False, network)
        return overview(run.engine, training.title, model if isinstance(model, str) else "", training.overrides)


def load_run(
    folder: Path | str, data: Path | str | Splits | None = None, model: nn.Module | None = None
) -> tuple[RunRecord, nn.Module, Splits]:
    """A finished run: its record, the network with the weights that were tested, in evaluation mode, and its data.

    Args:
        folder: of the run.
        data: folder of the data sets, as :func:`pure.data.load` takes it, or the divided data set itself.
        model: the network that was given to :func:`fit`, if one was; takes the weights in place.

    Raises:
        FileNotFoundError: the folder holds no record or no weights, or the data set is not there.
        ValueError: the weights or the data are not those of the record.
    """
    record, network = load_network(folder, model)
    splits = _splits(data, record.recipe)
    if splits.fingerprint != record.data.fingerprint:
        raise ValueError(f"data set {splits.name!r} is divided differently here than when {folder} was written")
    return record, network, splits


def load_network(folder: Path | str, model: nn.Module | None = None) -> tuple[RunRecord, nn.Module]:
    """A finished run without its data: its record, and the network with the weights that were tested.

    Its images are normalised by ``record.data.mean`` and ``record.data.std``.

    Args:
        folder: of the run; some below ``results`` have their weights in the repository, as :mod:`pure.train.weights`
            stores them.
        model: the network that was given to :func:`fit`, if one was; takes the weights in place.

    Returns:
        The record, and the network in evaluation mode.

    Raises:
        FileNotFoundError: the folder holds no record or no weights.
        ValueError: the weights are not those of the record.
    """
    folder = Path(folder)
    record = read_record(folder / RECORD_NAME)
    path = weights_of(folder)
    content = path.read_bytes()
    if not are_of_record(path, content, record.weights_sha256):
        raise ValueError(f"{path} holds other weights than the record tested; repeat the run")
    classes, channels = len(record.data.classes), len(record.data.mean)
    network = create_model(record.model.name, classes, channels, **record.model.options) if model is None else model
    network.load_state_dict(read_weights(path, content))
    return record, network.eval()


def run_folder(root: Path | str, recipe: str, model: str, seed: int) -> Path:
    """Where a run's record belongs below a root: ``<root>/<recipe>/<model>/seed<k>``."""
    return Path(root) / recipe / model / f"seed{seed}"


def _refuse_without_folder(**given: bool) -> None:
    named = [name for name, is_given in given.items() if is_given]
    if named:
        raise ValueError(f"cannot use {' and '.join(named)} without a folder; give out=")


def outcome(record: RunRecord) -> str:
    """How a run ended, in a few words."""
    if record.test is not None:
        test, images = record.test, f"on {record.data.test} images"
        if test.dice is not None:
            return f"test Dice {100 * test.dice:.2f} % {images}"
        return f"test accuracy {100 * test.accuracy:.2f} % {images}"
    assert record.divergence is not None  # a record has either
    at = record.divergence
    where = f" in {at.layer}" if at.layer else ""
    return f"diverged in epoch {at.epoch}, step {at.step}: {at.quantity}{where} not finite ({at.reason})"
