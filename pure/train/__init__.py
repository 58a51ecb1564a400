"""One training, from a recipe, a network and a seed to a run record.

From Python it is :func:`fit`, from a shell::

    python -m pure.train --recipe digits --model pure20 --seed 0 --out runs/digits/pure20/seed0

on several GPUs::

    torchrun --nproc-per-node 8 -m pure.train --recipe imagenet --model pure34 --data /data --out runs/pure34

A run that was stopped or killed goes on with ``--resume``, and ends in the record that it would have left undisturbed.
Exit codes: 0, there is a record, of a training that reached its end or of one that diverged; 2, something given is
wrong or could not be written; 75, the run was stopped by SIGTERM, SIGUSR1 or ``--max-seconds``, and can go on.
``torchrun`` itself then ends with 1, and its report names the 75 of its processes.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pure import data as datasets
from pure.data import Splits
from pure.execution import get_execution
from pure.recipes import changed_recipe
from pure.records import RECORD_NAME, RunRecord, load
from pure.train.determinism import deterministic as restricted
from pure.train.distributed import ranks
from pure.train.dry_run import overview
from pure.train.evaluate import predict
from pure.train.interruption import Stopped, stop_requests
from pure.train.run import WEIGHTS_NAME, Run, Training, create, finished, require_folder, thresholds
from pure.train.tensorboard import scalar_writer

__all__ = [
    "WEIGHTS_NAME",
    "Stopped",
    "estimate",
    "fit",
    "load_run",
    "outcome",
    "predict",
    "run_folder",
    "thresholds",
]


def fit(
    recipe: str,
    model: str,
    *,
    seed: int = 0,
    data: Path | str | None = None,
    out: Path | str | None = None,
    overrides: Mapping[str, Any] | None = None,
    data_options: Mapping[str, Any] | None = None,
    model_options: Mapping[str, Any] | None = None,
    execution: Mapping[str, Any] | None = None,
    device: torch.device | str | None = None,
    deterministic: bool = False,
    resume: bool = False,
    max_seconds: float | None = None,
    overwrite: bool = False,
    progress: bool | None = None,
    tensorboard: bool = False,
) -> RunRecord:
    """Train a network by a recipe, validate it after each epoch, test it once, and leave a record.

    SGD with momentum on the cross-entropy (section 4), with the recipe's schedule.  On a CPU with the same versions
    and number of threads, the same seed gives the same record but for the times.  A training that leaves the finite
    numbers ends there, and its record says when, where and why.

    With ``out``, each epoch ends with a checkpoint.  SIGTERM, SIGUSR1, SIGHUP, Ctrl-C and ``max_seconds`` write one
    after the batch at hand and stop; in one process, the signals also break off a validation or the test, which is then
    made again.  A checkpoint that cannot be written, on a full disk say, does not stop the training: the one before
    stays, and a message is logged.

    Args:
        recipe: one of :func:`pure.recipes.list_recipes`; PURe and ResNet have values of their own in it.
        model: one of :func:`pure.list_models`.
        seed: fixes initialisation, order and augmentation.
        data: folder of the data sets, as :func:`pure.data.load` takes it.
        out: folder for the record, the weights that were tested and, meanwhile, the checkpoints; None writes nothing.
        overrides: fields of :class:`pure.recipes.Recipe` to be set otherwise; the record names those that differ.
        data_options: options of the data set to be set otherwise: the same as the override of that name.
        model_options: options of :func:`pure.create_model` beside the numbers of classes and channels.
        execution: fields of :class:`pure.execution.Execution`: how to train, not what.
        device: where to train; by default a GPU if there is one.
        deterministic: restrict operations to those that repeat bit for bit, see :mod:`pure.train.determinism`.
        resume: go on from the checkpoint in ``out``; start where there is none; return the record of a finished run.
        max_seconds: stop after so many seconds, after a batch.
        overwrite: replace what ``out`` holds.  With ``resume`` as well, a finished run is replaced, and an unfinished
            one goes on if it is the same on the same machine and versions.
        progress: whether to show a bar; by default only on a terminal.
        tensorboard: write the epochs' figures for TensorBoard to ``tensorboard`` below ``out``.

    Returns:
        The record, as written.

    Raises:
        ValueError: unknown recipe, network or field, a value out of its range, a device that is not there, a schedule
            that needs a validation set where there is none, or, with ``resume``, a folder of another run.
        TypeError: the network or the data set has no such option.
        FileNotFoundError: the data set is not there.
        FileExistsError: ``out`` holds a run, finished or not, and neither ``overwrite`` nor ``resume`` is set; nothing
            was touched.
        NotADirectoryError: ``out`` is a file.
        ModuleNotFoundError: TensorBoard is wanted and not installed.
        Stopped: by a signal or ``max_seconds``.
    """
    changed = changed_recipe(recipe, model, overrides, data_options)
    training = Training(*changed, model, dict(model_options or {}), seed, deterministic)
    how = get_execution(execution)
    folder = Path(out) if out is not None else None
    if folder is None:
        _refuse_without_folder(resume=resume, max_seconds=max_seconds is not None, tensorboard=tensorboard)
    else:
        require_folder(folder, resume, overwrite)
        if resume and not overwrite and (folder / RECORD_NAME).exists():
            return finished(folder, training)
    write_scalars = scalar_writer(folder / "tensorboard") if tensorboard and folder is not None else None
    with ExitStack() as stack:
        stack.enter_context(restricted(deterministic))
        group = stack.enter_context(ranks(device))
        stop = stack.enter_context(stop_requests(max_seconds, signals=folder is not None))
        splits = datasets.load(training.recipe.dataset, data, **training.recipe.data_options)
        run = Run(training, how, splits, group, folder, progress)
        run.begin(resume, overwrite)
        return group.share(run.train(stop, write_scalars))  # type: ignore[no-any-return]


def estimate(
    recipe: str,
    model: str,
    *,
    seed: int = 0,
    data: Path | str | None = None,
    overrides: Mapping[str, Any] | None = None,
    data_options: Mapping[str, Any] | None = None,
    model_options: Mapping[str, Any] | None = None,
    execution: Mapping[str, Any] | None = None,
    device: torch.device | str | None = None,
) -> str:
    """What :func:`fit` would do with these arguments, the memory that it needs and the time that it takes.

    A few steps are taken on a network that is then thrown away.

    Raises:
        ValueError, TypeError, FileNotFoundError: as :func:`fit`.
    """
    changed = changed_recipe(recipe, model, overrides, data_options)
    training = Training(*changed, model, dict(model_options or {}), seed, deterministic=False)
    with ranks(device) as group:
        splits = datasets.load(training.recipe.dataset, data, **training.recipe.data_options)
        run = Run(training, get_execution(execution), splits, group, folder=None, progress=False)
        return overview(run.engine, training.title, model, training.overrides)


def load_run(folder: Path | str, data: Path | str | None = None) -> tuple[RunRecord, nn.Module, Splits]:
    """A finished run: its record, the network with the weights that were tested, in evaluation mode, and its data.

    Args:
        folder: of the run.
        data: folder of the data sets, as :func:`pure.data.load` takes it.

    Raises:
        FileNotFoundError: the folder holds no record or no weights, or the data set is not there.
        ValueError: the weights or the data are not those of the record.
    """
    folder = Path(folder)
    record = load(folder / RECORD_NAME)
    weights = (folder / WEIGHTS_NAME).read_bytes()
    if hashlib.sha256(weights).hexdigest() != record.weights_sha256:
        raise ValueError(f"{folder / WEIGHTS_NAME} holds other weights than the record tested; repeat the run")
    splits = datasets.load(record.recipe.dataset, data, **record.recipe.data_options)
    if splits.fingerprint != record.data.fingerprint:
        raise ValueError(f"data set {splits.name!r} is divided otherwise here than when {folder} was written")
    network = create(record.model.name, splits, record.model.options)
    network.load_state_dict(torch.load(io.BytesIO(weights), weights_only=True))
    return record, network.eval(), splits


def run_folder(root: Path | str, recipe: str, model: str, seed: int) -> Path:
    """Where a run's record belongs below a root: ``<root>/<recipe>/<model>/seed<k>``."""
    return Path(root) / recipe / model / f"seed{seed}"


def _refuse_without_folder(**given: bool) -> None:
    named = [name for name, is_given in given.items() if is_given]
    if named:
        raise ValueError(f"{' and '.join(named)} can be had with a folder only; give out=")


def outcome(record: RunRecord) -> str:
    """How a run ended, in a few words."""
    if record.test is not None:
        return f"test accuracy {100 * record.test.accuracy:.2f} % on {record.data.test} images"
    assert record.divergence is not None  # a record has either
    at = record.divergence
    where = f" in {at.layer}" if at.layer else ""
    return f"diverged in epoch {at.epoch}, step {at.step}: {at.quantity}{where} not finite ({at.reason})"
