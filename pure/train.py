"""One training, from a recipe, a network and a seed to a run record.

From Python it is :func:`fit`, from a shell::

    python -m pure.train --recipe digits --model pure20 --seed 0 --out runs/digits/pure20/seed0

on several GPUs::

    torchrun --nproc-per-node 8 -m pure.train --recipe imagenet --model pure34 --data /data --out runs/pure34

A run that was stopped or killed goes on with ``--resume``, and ends in the record that it would have left undisturbed.
Exit codes: 0, there is a record, of a training that reached its end or of one that diverged; 2, something given is
wrong, and nothing was done; 75, the run was stopped by SIGTERM, SIGUSR1 or ``--max-seconds``, and can go on.  Under
``torchrun`` the exit code is torchrun's own.
"""

from __future__ import annotations

import argparse
import ast
import functools
import hashlib
import io
import json
import logging
import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from pure import data as datasets
from pure.checkpoint import Checkpoints
from pure.data import Splits
from pure.data.noise import poisson
from pure.data.splits import Images
from pure.determinism import deterministic as restricted
from pure.distributed import Group, ranks
from pure.engine import Diverged, Engine, Stopped, require_validation, score
from pure.evaluate import evaluate
from pure.interruption import EXIT_STOPPED, StopRequest, stop_requests
from pure.layers import ProductUnit, ProductUnit2d
from pure.models import create_model
from pure.monitor import is_absurd
from pure.plan import describe
from pure.recipes import Recipe, get_recipe, list_recipes
from pure.records import (
    RECORD_NAME,
    DataSummary,
    Divergence,
    Environment,
    Epoch,
    Evaluation,
    ModelSummary,
    Resources,
    RunRecord,
    Times,
    load,
    write_atomically,
)
from pure.tensorboard import scalar_writer

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

__all__ = ["WEIGHTS_NAME", "RunStopped", "fit", "load_run", "main", "plan", "predict", "run_folder", "thresholds"]

WEIGHTS_NAME = "weights.pt"

_LARGEST_CONFUSION = 100
"""Classes up to which a record holds the confusion matrix."""

_log = logging.getLogger(__name__)


class RunStopped(Exception):
    """A run was stopped by a signal or by the clock; its folder holds a checkpoint, and the message says what to do."""


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

    With ``out``, each epoch ends with a checkpoint.  SIGTERM, SIGUSR1 and ``max_seconds`` write one behind the batch at
    hand and stop.  A checkpoint that cannot be written, on a full disk say, does not stop the training: the one before
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
        device: where to train; by default a GPU if there is one.
        deterministic: restrict operations to those that repeat bit for bit, see :mod:`pure.determinism`.
        resume: go on from the checkpoint in ``out``; start where there is none; return the record of a finished run.
        max_seconds: stop after so many seconds, behind a batch.
        overwrite: replace what ``out`` holds.  With ``resume`` as well, a finished run is replaced, an unfinished one
            goes on.
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
        RunStopped: by a signal or ``max_seconds``.
    """
    changed = _changed_recipe(recipe, model, overrides, data_options)
    asked = _Asked(*changed, model, dict(model_options or {}), seed, deterministic)
    folder = Path(out) if out is not None else None
    if folder is None:
        _refuse_without_folder(resume=resume, max_seconds=max_seconds, tensorboard=tensorboard)
    else:
        _require_folder(folder, resume, overwrite)
        if resume and not overwrite and (folder / RECORD_NAME).exists():
            return _finished(folder, asked)
    write_scalars = scalar_writer(folder / "tensorboard") if tensorboard and folder is not None else None
    with ExitStack() as stack:
        stack.enter_context(restricted(deterministic))
        group = stack.enter_context(ranks(device))
        stop = stack.enter_context(stop_requests(max_seconds, signals=folder is not None))
        splits = datasets.load(asked.recipe.dataset, data, **asked.recipe.data_options)
        run = _Run(asked, splits, group, folder)
        run.begin(resume)
        divergence = run.train(stop, progress, write_scalars)
        return group.share(run.finish(divergence))  # type: ignore[no-any-return]


def plan(
    recipe: str,
    model: str,
    *,
    seed: int = 0,
    data: Path | str | None = None,
    overrides: Mapping[str, Any] | None = None,
    data_options: Mapping[str, Any] | None = None,
    model_options: Mapping[str, Any] | None = None,
    device: torch.device | str | None = None,
) -> str:
    """What :func:`fit` would do with these arguments, the memory that it needs and the time that it takes.

    A few steps are taken on a network that is then thrown away.

    Raises:
        ValueError, TypeError, FileNotFoundError: as :func:`fit`.
    """
    changed = _changed_recipe(recipe, model, overrides, data_options)
    asked = _Asked(*changed, model, dict(model_options or {}), seed, deterministic=False)
    with ranks(device) as group:
        run = _Run(asked, datasets.load(asked.recipe.dataset, data, **asked.recipe.data_options), group, None)
        return describe(run.engine, asked.title, model, asked.overrides)


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
    network = _create(record.model.name, splits, record.model.options)
    network.load_state_dict(torch.load(io.BytesIO(weights), weights_only=True))
    return record, network.eval(), splits


def predict(network: nn.Module, splits: Splits, subset: Images, protocol: str = "whole") -> Tensor:
    """What a network in evaluation mode says of images, on the network's device.

    Args:
        network: maps normalised images ``(N, C, H, W)`` to logits.
        splits: whose training set gives mean and deviation for the normalisation.
        subset: the images.
        protocol: how they are shown, as :mod:`pure.evaluate` names it.

    Returns:
        Scores ``(N, classes)``, on the CPU: logits, or logarithms of mean softmax outputs.
    """
    return evaluate(network, subset, splits.statistics, protocol, progress=False).scores


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


# What is asked for


@dataclass(frozen=True)
class _Asked:
    """What :func:`fit` is asked for, as far as it decides what comes out."""

    recipe: Recipe
    overrides: tuple[str, ...]
    model: str
    model_options: dict[str, Any]
    seed: int
    deterministic: bool

    @property
    def title(self) -> str:
        return f"{self.recipe.name} {self.model} seed {self.seed}"

    def identity(self, fingerprint: str) -> dict[str, str | int]:
        """What tells one run from another, field by field.  Neither the machine nor the number of devices does."""
        values = json.loads(self.recipe.model_dump_json())
        return {
            **{f"recipe.{field}": json.dumps(value, sort_keys=True) for field, value in values.items()},
            "model": self.model,
            "model_options": json.dumps(self.model_options, sort_keys=True),
            "seed": self.seed,
            "deterministic": self.deterministic,
            "data": fingerprint,
        }


def _changed_recipe(
    name: str, model: str, overrides: Mapping[str, Any] | None, data_options: Mapping[str, Any] | None
) -> tuple[Recipe, tuple[str, ...]]:
    """The recipe with its overrides, and the names of those that differ from what is published."""
    changes = dict(overrides or {})
    if data_options:
        changes["data_options"] = {**changes.get("data_options", {}), **data_options}
    published, plan = get_recipe(name, model), get_recipe(name, model, **changes)
    return plan, tuple(sorted(field for field in changes if getattr(plan, field) != getattr(published, field)))


def _refuse_without_folder(**given: Any) -> None:
    named = [name for name, value in given.items() if value]
    if named:
        raise ValueError(f"{' and '.join(named)} can be had with a folder only; give out=")


def _require_folder(folder: Path, resume: bool, overwrite: bool) -> None:
    """Refuse a folder that is none, or that holds what nobody gave leave to touch."""
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"{folder} is a file; --out (out=) takes a folder")
    if resume or overwrite:
        return
    if (folder / RECORD_NAME).exists():
        raise FileExistsError(
            f"{folder} already holds a finished record; choose another folder, or give --overwrite (overwrite=True) "
            "to replace it"
        )
    if Checkpoints(folder, {}).exist():
        raise FileExistsError(
            f"{folder} holds an unfinished run; give --resume (resume=True) to go on with it, or --overwrite "
            "(overwrite=True) to start anew"
        )


def _finished(folder: Path, asked: _Asked) -> RunRecord:
    """The record of a finished run, if it is the one that is asked for."""
    record = load(folder / RECORD_NAME)
    found = _Asked(
        record.recipe,
        record.overrides,
        record.model.name,
        record.model.options,
        record.seed,
        record.deterministic,
    ).identity("")
    # Through a summary, since a record holds lists as tuples.
    summary = ModelSummary(name=asked.model, options=asked.model_options, parameters=record.model.parameters)
    wanted = {**asked.identity(""), "model_options": json.dumps(summary.options, sort_keys=True)}
    differing = sorted(field for field in wanted if wanted[field] != found.get(field))
    if differing:
        raise ValueError(
            f"{folder} holds the finished record of another run: {', '.join(differing)} differ; choose another folder, "
            "or give --overwrite (overwrite=True) to replace it"
        )
    return record


# The run


class _Run:
    """A training with its folder: where it begins, what it saves, what it leaves."""

    def __init__(self, asked: _Asked, splits: Splits, group: Group, folder: Path | None) -> None:
        self.asked, self.group, self.folder = asked, group, folder
        require_validation(splits, asked.recipe)
        torch.manual_seed(asked.seed)
        network = _create(asked.model, splits, asked.model_options).to(group.device)
        parameters = sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
        # What a record would refuse is refused before the training, not behind it.
        self.summary = ModelSummary(name=asked.model, options=asked.model_options, parameters=parameters)
        self.engine = Engine(network, splits, asked.recipe, asked.seed, group)
        self.checkpoints = Checkpoints(folder, asked.identity(splits.fingerprint)) if folder is not None else None
        self.environment = Environment.current(group.device)  # now: the checkout may be another when the training ends
        self.started = datetime.now(UTC)
        self.interruptions = 0
        self.peak_memory = 0
        self._before_s, self._clock = 0.0, time.perf_counter()
        if group.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(group.device)

    @property
    def total_s(self) -> float:
        """Seconds that the run has taken until now, interruptions left out."""
        return self._before_s + time.perf_counter() - self._clock

    # Checkpoints

    def begin(self, resume: bool) -> None:
        """Start anew, or go on from the checkpoint that the folder holds, if it does."""
        if self.folder is None or self.checkpoints is None:
            return
        state = self.group.share(self._found() if resume and self.group.is_main else None)
        if state is not None:
            self._restore(state)
        elif self.group.is_main:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.checkpoints.clear()

    def _found(self) -> dict[str, Any] | None:
        assert self.folder is not None
        assert self.checkpoints is not None
        state, refused = self.checkpoints.load()
        for message in refused:
            _log.warning("%s; it is left out", message)
        if state is None and refused:
            _log.warning("%s: no checkpoint can be read; starting anew", self.asked.title)
        record = self.folder / RECORD_NAME
        if state is not None and record.exists() and load(record).times.started.isoformat() == state["started"]:
            return None  # killed between the record and the removal of its checkpoints: that run is finished
        return state

    def _restore(self, state: dict[str, Any]) -> None:
        self.engine.restore(state["engine"])
        self.started = datetime.fromisoformat(state["started"])
        self.interruptions = state["interruptions"] + 1
        self.peak_memory = state["peak_memory"]
        self._before_s = state["total_s"]
        before = Environment.model_validate_json(state["environment"])
        changed = [field for field, value in before if value != getattr(self.environment, field)]
        if changed and self.group.is_main:
            _log.warning(
                "%s: %s differ from what the run began with; its record may differ from that of an undisturbed run",
                self.asked.title,
                ", ".join(changed),
            )

    def save(self) -> bool:
        """Write a checkpoint.  Returns whether that was possible; every rank must call it."""
        if self.checkpoints is None:
            return False
        state = {
            "engine": self.engine.state(),
            "started": self.started.isoformat(),
            "interruptions": self.interruptions,
            "peak_memory": self._peak_memory(),
            "total_s": self.total_s,
            "environment": self.environment.model_dump_json(),
        }
        try:
            if self.group.is_main:
                self.checkpoints.save(state)
        except OSError as error:
            _log.warning(
                "%s: no checkpoint %s: %s; the one before stays", self.asked.title, self.engine.position, error
            )
            return False
        return True

    # Training and test

    def train(
        self, stop: StopRequest, progress: bool | None, write_scalars: Callable[[int, Epoch], None] | None
    ) -> Divergence | None:
        """Train to the end, or to where the training diverges.

        Raises:
            RunStopped: on request.
        """
        engine = self.engine
        shown = None if progress is None else not progress
        bar = tqdm(
            total=engine.batches * engine.recipe.epochs,
            initial=engine.done,
            desc=self.asked.title,
            unit="batch",
            disable=shown if self.group.is_main else True,
        )

        def on_epoch() -> None:
            epoch = engine.epochs[-1]
            bar.set_postfix(_postfix(epoch, len(engine.epochs)))
            if write_scalars is not None and self.group.is_main:
                write_scalars(len(engine.epochs), epoch)
            self.save()

        try:
            with bar:
                engine.run(stop, bar.update, on_epoch)
        except Diverged as diverged:
            return diverged.divergence
        except Stopped:
            saved = self.save() or not self.group.is_main
            reason = stop.reason or "another process was asked to"
            where = f"stopped {engine.position}" if saved else "stopped without a new checkpoint"
            raise RunStopped(f"{self.asked.title}: {reason}; {where}; give --resume (resume=True) to go on") from None
        return None

    def finish(self, divergence: Divergence | None) -> RunRecord:
        """Test, and leave weights and record."""
        asked, engine = self.asked, self.engine
        selected = engine.select() if divergence is None else None
        test, noisy, protocols = _test(engine) if divergence is None else (None, None, ())
        weights = _serialise(engine.network)
        record = RunRecord(
            recipe=asked.recipe,
            overrides=asked.overrides,
            model=self.summary,
            seed=asked.seed,
            deterministic=asked.deterministic,
            data=_summarise(engine.splits),
            epochs=tuple(engine.epochs),
            selected=selected,
            divergence=divergence,
            test=test,
            noisy=noisy,
            protocols=protocols,
            thresholds=thresholds(engine.network),
            times=Times(
                started=self.started,
                train_s=engine.trained_s,
                total_s=self.total_s,
                interruptions=self.interruptions,
            ),
            resources=self._resources(),
            environment=self.environment,
            weights_sha256=hashlib.sha256(weights).hexdigest(),
        )
        if self.folder is not None and self.checkpoints is not None and self.group.is_main:
            (self.folder / RECORD_NAME).unlink(missing_ok=True)  # an old record never stands beside new weights
            write_atomically(self.folder / WEIGHTS_NAME, weights)
            record.write(self.folder / RECORD_NAME)  # its existence says that the run is finished
            self.checkpoints.clear()
        return record

    def _resources(self) -> Resources:
        engine = self.engine
        images = len(engine.splits.train)
        rates = [images / epoch.train_s for epoch in engine.epochs]
        if not rates and engine.batch:  # diverged in the first epoch
            rates = [engine.batch * engine.recipe.batch_size / engine.train_s]
        return Resources(
            throughput=statistics.median(rates or [0.0]),
            peak_memory=self._peak_memory(),
            loader=engine.loader.kind,
            devices=self.group.world_size,
        )

    def _peak_memory(self) -> int:
        """Most bytes that were taken on one device since the start; every rank must call it."""
        gathered = self.group.gather(torch.tensor([_peak_memory(self.group.device)]))
        return max(self.peak_memory, int(gathered.max()) if gathered is not None else 0)


def _create(model: str, splits: Splits, options: Mapping[str, Any]) -> nn.Module:
    channels = splits.train[0][0].shape[0]
    return create_model(model, len(splits.classes), channels, **options)


def _test(engine: Engine) -> tuple[Evaluation, Evaluation | None, tuple[Evaluation, ...]]:
    """The one look at the test set: by the first protocol, if the recipe has noise also under it, by the others."""
    recipe, splits = engine.recipe, engine.splits
    reestimated = functools.cache(engine.reestimated)

    def evaluation(images: Images, protocol: str) -> Evaluation:
        found = engine.measure(engine.network, images, protocol)
        twin = reestimated() if is_absurd(found.loss, len(splits.classes)) else None
        small = len(splits.classes) <= _LARGEST_CONFUSION
        return Evaluation(
            **score(found).model_dump(),
            protocol=protocol,
            confusion=tuple(map(tuple, found.confusion.tolist())) if small else None,
            reestimated=score(engine.measure(twin, images, protocol)) if twin is not None else None,
        )

    first, *others = recipe.protocols
    test, noisy = evaluation(splits.test, first), None
    if recipe.noise_scale is not None:
        noisy = evaluation(poisson(splits.test, recipe.noise_scale, recipe.noise_seed, splits.white), first)
    return test, noisy, tuple(evaluation(splits.test, protocol) for protocol in others)


def _summarise(splits: Splits) -> DataSummary:
    mean, std = (tuple(values.tolist()) for values in splits.statistics)
    return DataSummary(
        name=splits.name,
        classes=splits.classes,
        train=len(splits.train),
        validation=len(splits.validation) if splits.validation is not None else 0,
        test=len(splits.test),
        fingerprint=splits.fingerprint,
        mean=mean,
        std=std,
        synthetic=splits.synthetic,
    )


def _serialise(network: nn.Module) -> bytes:
    buffer = io.BytesIO()
    torch.save({name: tensor.cpu() for name, tensor in network.state_dict().items()}, buffer)
    return buffer.getvalue()


def _postfix(epoch: Epoch, number: int) -> dict[str, str]:
    shown = {"epoch": str(number), "loss": f"{epoch.train.loss:.3f}"}
    if epoch.validation is not None:
        shown["validation"] = f"{100 * epoch.validation.accuracy:.1f} %"
    return shown


def _peak_memory(device: torch.device) -> int:
    """Bytes: of tensors on CUDA, of the process elsewhere; 0 where the system does not tell."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if resource is None:
        return 0
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


# The command line


def main(arguments: Sequence[str] | None = None) -> int:
    """``python -m pure.train``: see ``--help``.  Returns the exit code."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(format="python -m pure.train: %(message)s")
    try:
        overrides = dict(_parse_setting("--set", text) for text in options.set)
        if options.epochs is not None:
            overrides["epochs"] = options.epochs
        given: dict[str, Any] = {
            "seed": options.seed,
            "data": options.data,
            "overrides": overrides,
            "data_options": dict(_parse_setting("--data-option", text) for text in options.data_option),
            "model_options": dict(_parse_setting("--option", text) for text in options.option),
            "device": options.device,
        }
        if options.dry_run:
            print(plan(options.recipe, options.model, **given))
            return 0
        if options.out is None:
            raise ValueError("--out DIR is required, but for --dry-run")
        record = fit(
            options.recipe,
            options.model,
            **given,
            out=options.out,
            deterministic=options.deterministic,
            resume=options.resume,
            max_seconds=options.max_seconds,
            overwrite=options.overwrite,
            tensorboard=options.tensorboard,
        )
    except RunStopped as stopped:
        print(stopped, file=sys.stderr)
        return EXIT_STOPPED
    except (ValueError, TypeError, OSError, ModuleNotFoundError) as error:
        print(f"python -m pure.train: {error}", file=sys.stderr)
        return 2
    if int(os.environ.get("RANK", "0")) == 0:
        print(f"{_told(record)}; record in {options.out / RECORD_NAME}")
    return 0


def _told(record: RunRecord) -> str:
    """How a run ended, in a line."""
    title = f"{record.recipe.name} {record.model.name} seed {record.seed}"
    if record.divergence is not None:
        at = record.divergence
        where = f", in {at.layer}" if at.layer else ""
        return f"{title}: diverged in epoch {at.epoch}, step {at.step}: {at.quantity}{where}: {at.reason}"
    assert record.test is not None
    return (
        f"{title}: test accuracy {100 * record.test.accuracy:.2f} % on {record.data.test} images, "
        f"{record.times.total_s:.1f} s"
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pure.train",
        description="Train one network and leave a record.",
        epilog=f"exit codes: 0 a record is there; 2 something given is wrong; {EXIT_STOPPED} stopped, and can go on",
    )
    parser.add_argument("--recipe", required=True, help=f"hyper-parameters: {', '.join(list_recipes())}")
    parser.add_argument("--model", required=True, help="network, for example pure20 or resnet20")
    parser.add_argument("--seed", type=int, default=0, help="fixes initialisation, order and augmentation")
    parser.add_argument("--data", type=Path, metavar="DIR", help="folder of the data sets")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder for record and weights")
    parser.add_argument("--epochs", type=int, help="train shorter or longer; the milestones move along")
    several: dict[str, Any] = {"action": "append", "default": [], "metavar": "NAME=VALUE"}
    parser.add_argument("--set", **several, help="override a recipe's field")
    parser.add_argument("--data-option", **several, help="an option of the data set, as split_seed=1")
    parser.add_argument("--option", **several, help="an option of the network, as shortcut=A")
    parser.add_argument("--device", help="cpu, cuda, cuda:1, ...; by default a GPU if there is one")
    parser.add_argument("--deterministic", action="store_true", help="repeat bit for bit, at some cost")
    parser.add_argument("--resume", action="store_true", help="go on with what DIR holds")
    parser.add_argument("--max-seconds", type=float, metavar="T", help="save and stop after so many seconds")
    parser.add_argument("--overwrite", action="store_true", help="replace what DIR holds")
    parser.add_argument("--tensorboard", action="store_true", help="write figures for TensorBoard to DIR/tensorboard")
    parser.add_argument("--dry-run", action="store_true", help="print plan, memory and time, and train nothing")
    return parser


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
