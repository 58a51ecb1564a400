"""A run: a training with its folder, where it begins, what it saves meanwhile, and what it leaves.

A folder holds checkpoints while the run goes on, and weights and record when it is finished; the record is written
last, so it tells that the run is finished.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import json
import logging
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, get_args

import safetensors.torch
import torch
from torch import nn
from tqdm import tqdm

from pure.data import Splits
from pure.data.images import Images
from pure.data.noise import poisson
from pure.data.storage.files import write_atomically
from pure.execution import Execution
from pure.models import create_model
from pure.nn.units import ThresholdedUnit
from pure.recipes import Recipe
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
    read_record,
)
from pure.train import speed
from pure.train.checkpoint import CheckpointError, Checkpoints, ForeignCheckpointError
from pure.train.distributed import Group
from pure.train.engine import Diverged, Engine, require_validation
from pure.train.evaluate import pack
from pure.train.interruption import Stopped, StopRequest
from pure.train.monitor import is_absurd

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

__all__ = [
    "WEIGHTS_NAME",
    "Run",
    "Training",
    "create",
    "finished",
    "require_folder",
    "thresholds",
]

WEIGHTS_NAME = "weights.safetensors"
_OLD_WEIGHTS_NAME = "weights.pt"  # of earlier versions: what torch.save made of the same dict

IfExists = Literal["fail", "resume", "replace", "restart"]
"""What to do where a folder holds a run; :func:`pure.train.fit` says what each means."""

_log = logging.getLogger("pure.train")

Scalars = Callable[[int, Epoch], None]
"""Writes the figures of an epoch, given its number."""


@dataclass(frozen=True)
class Training:
    """What is trained: recipe, network and seed.  With the data, it decides what comes out."""

    recipe: Recipe
    overrides: tuple[str, ...]
    model: str
    model_options: dict[str, Any]
    seed: int
    deterministic: bool

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"a seed is a whole number from 0 to 2**63 - 1, got {self.seed}")

    @property
    def title(self) -> str:
        """Recipe, network and seed."""
        return f"{self.recipe.name} {self.model} seed {self.seed}"

    def identity(self, fingerprint: str) -> dict[str, str | int]:
        """What tells one run from another, field by field.  Neither the machine nor the number of devices does."""
        values = json.loads(self.recipe.model_dump_json())
        return {
            **{f"recipe.{field}": json.dumps(value, sort_keys=True) for field, value in values.items()},
            "model": self.model,
            "model_options": json.dumps(self.model_options, sort_keys=True, default=str),
            "seed": self.seed,
            "deterministic": self.deterministic,
            "data": fingerprint,
        }


def require_folder(folder: Path, if_exists: IfExists) -> None:
    """Refuse what is not a folder, and a folder with a run that is not to be touched."""
    if if_exists not in get_args(IfExists):
        raise ValueError(f"if_exists is one of {', '.join(get_args(IfExists))}, got {if_exists!r}")
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"{folder} is a file; --out (out=) takes a folder")
    if if_exists != "fail":
        return
    if (folder / RECORD_NAME).exists():
        raise FileExistsError(
            f"{folder} already holds a finished record; choose another folder, or give --if-exists resume "
            "(if_exists='resume') to get its record, or --if-exists replace to train again in its place"
        )
    if Checkpoints(folder, {}).exist():
        raise FileExistsError(
            f"{folder} holds an unfinished run; give --if-exists resume (if_exists='resume') to go on with it, or "
            "--if-exists restart to start from the beginning"
        )


def finished(folder: Path, training: Training) -> RunRecord | None:
    """The record of a finished run, if it is the requested one.

    Returns:
        None where there is none, or where a later run was stopped in the same folder: that one goes on.

    Raises:
        ValueError: the record is of another run, is damaged, or its weights are gone.
    """
    path = folder / RECORD_NAME
    if not path.exists():
        return None
    try:
        record = read_record(path)
    except ValueError as error:
        reason = str(error).partition("; ")[2]
        raise ValueError(
            f"{path} is damaged, or of a version that this package does not read; give --if-exists restart "
            f"(if_exists='restart') to train again, or choose another folder ({reason})"
        ) from None
    checkpoints = Checkpoints(folder, {})
    begun = checkpoints.begun()
    if any(each > record.times.started for each in begun):
        return None
    found = Training(
        record.recipe,
        record.overrides,
        record.model.name,
        record.model.options,
        record.seed,
        record.deterministic,
    ).identity("")
    # Through a summary, since a record holds lists as tuples.
    summary = ModelSummary(name=training.model, options=training.model_options, parameters=record.model.parameters)
    wanted = {**training.identity(""), "model_options": json.dumps(summary.options, sort_keys=True)}
    differing = sorted(field for field in wanted if wanted[field] != found.get(field))
    if differing:
        raise ValueError(
            f"{folder} holds the finished record of another run: {', '.join(differing)} differ; choose another folder, "
            "or give --if-exists replace (if_exists='replace') to train in its place"
        )
    if not weights_of(folder).exists():
        raise ValueError(
            f"{folder} holds a record, but its weights are gone; give --if-exists restart (if_exists='restart') to "
            "train again"
        )
    if begun and all(each == record.times.started for each in begun):
        checkpoints.clear()  # the run was killed before it did
    return record


def weights_of(folder: Path) -> Path:
    """Where a run's weights lie: under the name of an earlier version only where that alone is there."""
    old = folder / _OLD_WEIGHTS_NAME
    return old if old.exists() and not (folder / WEIGHTS_NAME).exists() else folder / WEIGHTS_NAME


def read_weights(path: Path, content: bytes) -> dict[str, torch.Tensor]:
    """The tensors in a file of weights, by name."""
    if path.name == _OLD_WEIGHTS_NAME:
        return dict(torch.load(io.BytesIO(content), weights_only=True))
    return safetensors.torch.load(content)


def as_safetensors(path: Path, content: bytes) -> bytes:
    """A file of weights in today's format; one of an earlier version takes its digest, the record's, with it."""
    if path.name != _OLD_WEIGHTS_NAME:
        return content
    digest = hashlib.sha256(content).hexdigest()
    tensors = {name: tensor.contiguous() for name, tensor in read_weights(path, content).items()}  # not channels_last
    return safetensors.torch.save(tensors, metadata={"weights_sha256": digest})


def are_of_record(path: Path, content: bytes, digest: str | None) -> bool:
    """Whether a file of weights has this digest, or was made by :func:`as_safetensors` from the one that has."""
    if hashlib.sha256(content).hexdigest() == digest:
        return True
    if path.name == _OLD_WEIGHTS_NAME or digest is None:
        return False
    with contextlib.suppress(safetensors.SafetensorError), safetensors.safe_open(path, framework="pt") as file:
        return bool((file.metadata() or {}).get("weights_sha256") == digest)
    return False


@contextlib.contextmanager
def breakable(stop: StopRequest, group: Group, title: str) -> Iterator[None]:
    """What comes before the training, such as reading the data: a signal breaks it off, where no other rank waits."""
    try:
        with stop.interruptible() if group.world_size == 1 else contextlib.nullcontext():
            yield
    except Stopped:
        told = f"{title}: {stop.reason}; stopped before the first batch; give the same command again"
        raise Stopped(told, stop.exit_code) from None


class Run:
    """A training with its folder: where it begins, what it saves, what it leaves."""

    def __init__(
        self,
        training: Training,
        execution: Execution,
        splits: Splits,
        group: Group,
        folder: Path | None,
        progress: bool | None,
        network: nn.Module | None = None,
    ) -> None:
        self.training, self.group, self.folder = training, group, folder
        self.progress = progress if group.is_main else False
        require_validation(splits, training.recipe)
        torch.manual_seed(training.seed)
        if network is None:
            network = create(training.model, splits, training.model_options)
        network.to(group.device)
        parameters = sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
        # What a record would refuse is refused before the training, not after it.
        self.summary = ModelSummary(name=training.model, options=training.model_options, parameters=parameters)
        self.data = _summarize(splits)
        self.engine = Engine(network, splits, training.recipe, execution, training.seed, group, progress)
        self.checkpoints = Checkpoints(folder, training.identity(splits.fingerprint)) if folder is not None else None
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

    def begin(self, if_exists: IfExists) -> None:
        """Start from the beginning, or go on from the checkpoint that the folder holds, if it does."""
        if self.folder is None or self.checkpoints is None:
            return
        state = None
        if self.group.is_main:
            if if_exists in ("resume", "replace"):
                state = self._found(self.folder, self.checkpoints, if_exists == "replace")
            if state is None:
                self.checkpoints.clear()
        state = self.group.share(state)
        if state is not None:
            try:
                self.engine.restore(state["engine"])
            except (KeyError, RuntimeError, ValueError) as error:
                raise CheckpointError(
                    f"the checkpoint in {self.folder} is of another version of this package, and the training cannot "
                    "go on from it; give --if-exists restart (if_exists='restart') to train from the beginning: "
                    f"{error}"
                ) from None
            self.started = datetime.fromisoformat(state["started"])
            self.interruptions = state["interruptions"] + 1
            self.peak_memory = state["peak_memory"]
            self._before_s = state["total_s"]

    def _found(self, folder: Path, checkpoints: Checkpoints, replace: bool) -> dict[str, Any] | None:
        """The state to go on from, if there is one."""
        try:
            state, refused = checkpoints.latest()
        except ForeignCheckpointError as error:
            if not replace:
                raise
            state, refused = None, [str(error)]
        for message in refused:
            _log.warning("%s: %s", self.training.title, message)
        if state is None:
            if refused:
                _log.warning("%s: starting from the beginning", self.training.title)
            return None
        if _is_finished(folder, state["started"]):
            return None
        before = Environment.model_validate_json(state["environment"])
        changed = ", ".join(field for field, value in before if value != getattr(self.environment, field))
        if changed and replace:
            _log.warning(
                "%s: starting from the beginning, since %s differ from those of the checkpoint",
                self.training.title,
                changed,
            )
            return None
        if changed:
            _log.warning(
                "%s: goes on, though %s differ from those of the checkpoint: the record may not be that of an "
                "undisturbed run",
                self.training.title,
                changed,
            )
        return state

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
                "%s: no checkpoint %s: %s; the one before stays", self.training.title, self.engine.position, error
            )
            return False
        return True

    # Training and test

    def train(self, stop: StopRequest, write_scalars: Scalars | None = None) -> RunRecord:
        """Train to the end, or to where the training diverges; test once; leave weights and record.

        Raises:
            Stopped: on request; the folder then holds a checkpoint.
        """
        engine, divergence = self.engine, None
        # A signal breaks off an evaluation where no other rank would wait for this one.
        interruptible = stop.interruptible if self.group.world_size == 1 else contextlib.nullcontext
        try:
            with self._bar() as bar, speed.tf32(engine.recipe, self.group.device):
                while len(engine.epochs) < engine.recipe.epochs:
                    begun, stopping = engine.batch, False
                    for batch in engine.batches_left():
                        stopping = engine.step(batch, stop())
                        bar.update()
                        if stopping:
                            break
                    engine.settle()
                    if engine.batch > begun and (stopping or self.group.any(stop())):
                        raise Stopped  # before the validation, which can be longer than the time that is left
                    with interruptible():
                        epoch = engine.end_epoch()
                    self._tell(epoch, bar)
                    if write_scalars is not None and self.group.is_main:
                        write_scalars(len(engine.epochs), epoch)
                    self.save()
                    if self.group.any(stop()):
                        raise Stopped
        except Diverged as diverged:
            divergence = diverged.divergence
        except Stopped:
            saved = self.save() or not self.group.is_main
            where = f"stopped {engine.position}" if saved else "stopped without a new checkpoint"
            raise self._stopped(stop, where) from None
        except RuntimeError as error:
            if stop.reason is None:
                raise
            # A signal to the group also ends a running compiler, and PyTorch then raises.
            raise self._stopped(stop, "stopped without a new checkpoint") from error
        selected = engine.select() if divergence is None else None
        try:
            with interruptible():
                tests = _test(engine) if divergence is None else {"test": None}
        except Stopped:  # the test is made again when the run goes on from the last checkpoint
            raise self._stopped(stop, "stopped in the test") from None
        return self._finish(divergence, selected, tests)

    def _bar(self) -> tqdm[Any]:
        engine = self.engine
        return tqdm(
            total=engine.batches * engine.recipe.epochs,
            initial=engine.done,
            desc=self.training.title,
            unit="batch",
            disable=None if self.progress is None else not self.progress,
        )

    def _tell(self, epoch: Epoch, bar: tqdm[Any]) -> None:
        """Say how an epoch went: next to the bar or, without a bar, in a line of the log."""
        number = len(self.engine.epochs)
        bar.set_postfix(_postfix(epoch, number))
        if bar.disable and self.group.is_main:
            told = ", ".join(f"{name} {value}" for name, value in _postfix(epoch, number).items() if name != "epoch")
            seconds = epoch.train_s + epoch.validation_s
            title, last = self.training.title, self.engine.recipe.epochs
            _log.info("%s: epoch %d of %d: %s, %.1f s", title, number, last, told, seconds)

    def _stopped(self, stop: StopRequest, where: str) -> Stopped:
        reason = stop.reason or "another process was asked to"
        told = f"{self.training.title}: {reason}; {where}; give --if-exists resume (if_exists='resume') to go on"
        return Stopped(told, stop.exit_code)

    def _finish(self, divergence: Divergence | None, selected: int | None, tests: dict[str, Any]) -> RunRecord:
        """Leave weights and record."""
        training, engine = self.training, self.engine
        weights = _serialize(engine.network)
        record = RunRecord(
            recipe=training.recipe,
            execution=engine.execution,
            overrides=training.overrides,
            model=self.summary,
            seed=training.seed,
            deterministic=training.deterministic,
            data=self.data,
            epochs=tuple(engine.epochs),
            selected=selected,
            divergence=divergence,
            **tests,
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
            (self.folder / RECORD_NAME).unlink(missing_ok=True)  # an old record never lies next to new weights
            (self.folder / _OLD_WEIGHTS_NAME).unlink(missing_ok=True)
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


def _is_finished(folder: Path, started: str) -> bool:
    """Whether the folder holds the record of the run that began then: it was killed before it removed checkpoints."""
    try:
        return read_record(folder / RECORD_NAME).times.started.isoformat() == started
    except (FileNotFoundError, ValueError):
        return False


def create(model: str, splits: Splits, options: Mapping[str, Any]) -> nn.Module:
    """A network by name for the classes and channels of a data set."""
    given = [name for name in ("name", "num_classes", "in_channels") if name in options]
    if given:
        raise ValueError(f"{' and '.join(given)}: no option of a network here; classes and channels are the data's")
    return create_model(model, len(splits.classes), splits.train[0][0].shape[0], **options)


def _test(engine: Engine) -> dict[str, Any]:
    """The one look at the test set, as fields of a record.

    By the first protocol on the images as they are and, if the recipe has noise, under each scale of it; then by the
    other protocols.
    """
    recipe, splits = engine.recipe, engine.splits
    reestimated = functools.cache(engine.reestimated)

    def evaluation(images: Images, protocol: str, noise_scale: float | None = None) -> Evaluation:
        found = engine.measure(engine.network, images, protocol)
        twin = reestimated() if is_absurd(found.loss, len(splits.classes)) else None
        again = engine.measure(twin, images, protocol).score if twin is not None else None
        return found.model_copy(update={"noise_scale": noise_scale, "reestimated": again})

    def under_noise(scale: float) -> Evaluation:
        return evaluation(poisson(splits.test, scale, recipe.noise_seed, splits.white), first, scale)

    first, *others = recipe.protocols
    return {
        "test": evaluation(splits.test, first),
        "noisy": None if recipe.noise_scale is None else under_noise(recipe.noise_scale),
        "noise_curve": tuple(map(under_noise, recipe.noise_curve)),
        "protocols": tuple(evaluation(splits.test, protocol) for protocol in others),
    }


def _summarize(splits: Splits) -> DataSummary:
    """As a record holds it.

    Raises:
        ValueError: a class has a name that no record can hold, or there is one class alone.
    """
    if len(splits.classes) < 2:
        raise ValueError(f"{splits.name!r} has {len(splits.classes)} class; there is nothing to tell apart")
    for name in splits.classes:
        try:
            name.encode()
        except UnicodeEncodeError:
            raise ValueError(f"the class {name!r} of {splits.name!r} has a name that is not UTF-8; rename it") from None
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
        test_labels=pack(splits.test.labels, len(splits.classes)) if splits.test.labels.ndim == 1 else None,
    )


def _serialize(network: nn.Module) -> bytes:
    """The weights as safetensors: each tensor by its name, on its own, contiguous."""
    state = network.state_dict().items()
    return safetensors.torch.save(
        {name: tensor.cpu().clone(memory_format=torch.contiguous_format) for name, tensor in state}
    )


def _postfix(epoch: Epoch, number: int) -> dict[str, str]:
    shown = {"epoch": str(number), "loss": f"{epoch.train.loss:.3f}"}
    if epoch.validation is not None:
        dice = epoch.validation.dice
        shown["validation"] = f"{100 * epoch.validation.accuracy:.1f} %" if dice is None else f"Dice {100 * dice:.1f} %"
    return shown


def _peak_memory(device: torch.device) -> int:
    """Bytes: of tensors on CUDA, of the process elsewhere; 0 where the system does not tell."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if resource is None:
        return 0
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def thresholds(network: nn.Module) -> dict[str, float | tuple[float, ...]]:
    """The threshold of every product unit of a network by name: one value, or one for each channel."""
    values: dict[str, float | tuple[float, ...]] = {}
    for name, module in network.named_modules():
        if isinstance(module, ThresholdedUnit):
            tau = module.threshold.detach().cpu().tolist()
            values[name] = tuple(tau) if isinstance(tau, list) else tau
    return values
