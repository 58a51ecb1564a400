"""The record of a run: one JSON file with everything that a table, a figure or a later question needs.

Records lie as ``<root>/<recipe>/<model>/seed<k>/record.json``, committed ones under ``results/``.  A record is written
last and atomically, so a finished run has one and an interrupted one has not.
"""

from __future__ import annotations

import base64
import json
import math
import platform
import statistics
import subprocess
import zlib
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, Self

import numpy
import torch
import torchvision
from pydantic import BaseModel, ConfigDict, model_validator
from torch import device as Device

from pure.data.noise import relative_drop
from pure.data.storage.files import write_atomically
from pure.execution import Execution
from pure.recipes import Recipe

__all__ = [
    "RECORD_NAME",
    "DataSummary",
    "Divergence",
    "Environment",
    "Epoch",
    "Evaluation",
    "ModelSummary",
    "Resources",
    "RunRecord",
    "Score",
    "Times",
    "Unit",
    "find_records",
    "pack_classes",
    "parse",
    "read_record",
    "read_records",
    "unpack_classes",
]

RECORD_NAME = "record.json"


class _Part(BaseModel):
    """Frozen and closed: an undeclared field is an error.  NaN and infinities are kept, as JSON strings."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings", protected_namespaces=())


class ModelSummary(_Part):
    """The network of a run.

    Attributes:
        name: as :func:`pure.create_model` knows it.
        options: those that were set.
        parameters: number of trainable parameters.
    """

    name: str
    options: dict[str, str | float | int | bool | tuple[int, ...] | None]
    parameters: int


class DataSummary(_Part):
    """The data of a run.

    Attributes:
        name: data set and variant.
        classes: names of the classes, in the order of the labels.
        train: number of training images.
        validation: number of validation images; 0 where none are held out.
        test: number of test images.
        fingerprint: SHA-256 over the three sets.
        mean: of each channel of the training set, grey levels; what the images are normalised with.
        std: standard deviation, likewise.
        synthetic: whether the images are simulated.
        test_labels: the class of each test image in order, as :func:`pack_classes` packs them: with an evaluation's
            predictions they tell which images were classified rightly.  Left out above 100 classes, and for masks.
    """

    name: str
    classes: tuple[str, ...]
    train: int
    validation: int
    test: int
    fingerprint: str
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    synthetic: bool = False
    test_labels: str | None = None


class Unit(_Part):
    """A product unit as it was at the end of an epoch, on a fixed sample of images, in evaluation mode.

    Attributes:
        threshold: one value, or one for each channel.
        clamped: share of its inputs that lie at the threshold or below, from 0 to 1.
        exponent: lowest and highest argument of its exponential.
    """

    threshold: float | tuple[float, ...]
    clamped: float
    exponent: tuple[float, float]


class Score(_Part):
    """Loss and accuracy on a set.

    Attributes:
        loss: mean of what was minimised: the cross-entropy (nats), of a segmentation with the Dice loss added.
        accuracy: share of images classified rightly, from 0 to 1; of a segmentation, of pixels.
        top5: share of images whose class is among the five likeliest; None where the test has no meaning.
        dice: of a segmentation, mean Dice coefficient of the images that hold an object, from 0 to 1.
        iou: of a segmentation, mean intersection over union of the same images, from 0 to 1.
        false_positives: of a segmentation, share of the images without an object in which one was found.
    """

    loss: float
    accuracy: float
    top5: float | None = None
    dice: float | None = None
    iou: float | None = None
    false_positives: float | None = None


class Epoch(_Part):
    """One pass over the training set, and the validation after it.

    Attributes:
        lr: learning rate during the epoch.
        train: the batches as they were trained on, in training mode.
        validation: in evaluation mode; None where no images are held out.
        reestimated: the validation again, with statistics of batch normalisation estimated again, where the loss was
            absurd; the training went on without them.
        gradient_norm: mean over the steps of the gradient's norm, before it is cut.
        units: the product units by name.
        train_s: seconds of training.
        validation_s: seconds of validation.
    """

    lr: float
    train: Score
    validation: Score | None = None
    reestimated: Score | None = None
    gradient_norm: float | None = None
    units: dict[str, Unit] = {}
    train_s: float
    validation_s: float


class Evaluation(Score):
    """A test, done once with the selected weights.

    Attributes:
        protocol: how the images were shown to the network, as :mod:`pure.data.protocols` names it.
        confusion: number of images by true class (rows) and predicted class (columns); left out above 100 classes.
        predictions: the predicted class of each image in the order of the test set, as :func:`pack_classes` packs them;
            what a test that pairs two networks by image needs.  Left out above 100 classes.
        noise_scale: of the Poisson noise on the images; None for the images as they are.
        reestimated: the same with statistics of batch normalisation estimated again, where the loss was absurd.
        image_dice: of a segmentation, the Dice coefficient of each image in the order of the test set; None where the
            mask holds no object.
    """

    protocol: str = "whole"
    confusion: tuple[tuple[int, ...], ...] | None = None
    predictions: str | None = None
    noise_scale: float | None = None
    reestimated: Score | None = None
    image_dice: tuple[float | None, ...] | None = None

    @property
    def score(self) -> Score:
        """Its figures alone."""
        return Score(**{field: getattr(self, field) for field in Score.model_fields})

    @property
    def class_accuracies(self) -> tuple[float, ...] | None:
        """Share of each class's images that are classified rightly; None without a confusion matrix."""
        if self.confusion is None:
            return None
        return tuple(row[label] / sum(row) if sum(row) else math.nan for label, row in enumerate(self.confusion))

    @property
    def macro_accuracy(self) -> float | None:
        """Mean of :attr:`class_accuracies`: what counts where classes are unequal in number."""
        accuracies = self.class_accuracies
        return None if accuracies is None else statistics.fmean(accuracies)


def pack_classes(classes: torch.Tensor) -> str:
    """Class numbers ``(N,)`` from 0 to 255 as text: a byte each, compressed by zlib, in base64."""
    return base64.b64encode(zlib.compress(classes.to(torch.uint8).numpy().tobytes(), 9)).decode()


def unpack_classes(text: str) -> torch.Tensor:
    """What :func:`pack_classes` packed, shape ``(N,)``, int64."""
    return torch.frombuffer(bytearray(zlib.decompress(base64.b64decode(text))), dtype=torch.uint8).long()


class Divergence(_Part):
    """Where a training stopped being finite.

    Attributes:
        epoch: from 1.
        step: in the epoch, from 1.
        quantity: what was not finite: ``loss``, ``gradient`` or ``weights``.
        layer: the first layer, in the order of the computation, whose output (``loss``), or the last whose gradient was
            not finite (``gradient``); None if none was found when the step was repeated.
        reason: in words, with the values that show it.
    """

    epoch: int
    step: int
    quantity: Literal["loss", "gradient", "weights"]
    layer: str | None
    reason: str


class Times(_Part):
    """When and how long.

    Attributes:
        started: date and time in UTC.
        train_s: seconds of training alone, all epochs.
        total_s: seconds from the first step to the last test image, evaluation included; interruptions are left out.
        interruptions: how often the run was stopped and resumed.
    """

    started: datetime
    train_s: float
    total_s: float
    interruptions: int = 0


class Resources(_Part):
    """What the run took.

    Attributes:
        throughput: training images per second, median over the epochs, loader included.
        peak_memory: bytes; on CUDA the most that tensors took on one device, on a CPU the process's largest resident
            size.
        loader: ``device`` or ``workers``.
        devices: number of processes that trained together, each on its device.
    """

    throughput: float
    peak_memory: int
    loader: Literal["device", "workers"]
    devices: int = 1


class Environment(_Part):
    """What the run ran on.

    Attributes:
        pure: version of this package.
        commit: of the checkout, with ``-dirty`` after it if files differed; None outside a checkout.
        python: version.
        torch: version.
        torchvision: version.
        numpy: version.
        platform: operating system and architecture.
        device: ``cpu`` or ``cuda``.
        device_name: name of the processor or the GPU.
        threads: threads that PyTorch computed with on the CPU.
    """

    pure: str
    commit: str | None
    python: str
    torch: str
    torchvision: str
    numpy: str
    platform: str
    device: str
    device_name: str
    threads: int

    @classmethod
    def current(cls, device: Device) -> Environment:
        """What this process runs on."""
        from pure.version import __version__

        return cls(
            pure=__version__,
            commit=_commit(),
            python=platform.python_version(),
            torch=torch.__version__,
            torchvision=torchvision.__version__,
            numpy=numpy.__version__,
            platform=f"{platform.system()} {platform.machine()}",
            device=device.type,
            device_name=torch.cuda.get_device_name(device) if device.type == "cuda" else _processor(),
            threads=torch.get_num_threads(),
        )


class RunRecord(_Part):
    """One training, from its recipe to its test accuracy.

    Attributes:
        schema_version: of this layout.
        recipe: all hyper-parameters, as used.
        execution: how it was executed, as decided; two records that differ in it alone are of the same run.
        overrides: names of the fields of the recipe that differ from the published ones.
        model: the network.
        seed: fixes initialisation, order and augmentation.
        deterministic: whether operations were restricted to those that repeat bit for bit.
        data: the data set, with its fingerprint.
        epochs: what was measured in each epoch.
        selected: number of the epoch, from 1, whose weights were tested; None after a divergence.
        divergence: where the training stopped being finite; None for a training that reached its end.
        test: the test by the recipe's first protocol; None after a divergence.
        noisy: the same on the noisy test set (section 4.1.2), if the recipe has noise.
        noise_curve: the same under noise of the recipe's further scales.
        protocols: the test by the recipe's other protocols.
        thresholds: at the end, by the name of the product unit: one value, or one for each channel.
        times: when and how long.
        resources: what it took; None in records of version 1.
        environment: what it ran on.
        weights_sha256: hash of the weights that were tested and saved beside the record; after a divergence, of the
            last ones.
    """

    schema_version: Literal[3] = 3
    recipe: Recipe
    execution: Execution
    overrides: tuple[str, ...]
    model: ModelSummary
    seed: int
    deterministic: bool = False
    data: DataSummary
    epochs: tuple[Epoch, ...]
    selected: int | None
    divergence: Divergence | None = None
    test: Evaluation | None
    noisy: Evaluation | None = None
    noise_curve: tuple[Evaluation, ...] = ()
    protocols: tuple[Evaluation, ...] = ()
    thresholds: dict[str, float | tuple[float, ...]]
    times: Times
    resources: Resources | None = None
    environment: Environment
    weights_sha256: str

    @model_validator(mode="after")
    def _has_one_outcome(self) -> Self:
        if not (self.test is None) == (self.selected is None) == (self.divergence is not None):
            raise ValueError("expected either a test and the epoch selected for it, or a divergence")
        if self.selected is not None and not 1 <= self.selected <= len(self.epochs):
            raise ValueError(f"epoch {self.selected} was selected, but {len(self.epochs)} are recorded")
        return self

    @property
    def experiment(self) -> tuple[str, str, str]:
        """The recipe, the network and the data, each as text; runs that differ by their seeds alone share them.

        Execution is not part of it: a mean may go over runs of which some were compiled.
        """
        return self.recipe.model_dump_json(), self.model.model_dump_json(), self.data.fingerprint

    @property
    def relative_drop(self) -> float | None:
        """Loss of accuracy under noise, percent of the clean accuracy (eq. 6); None without a noisy test."""
        if self.test is None or self.noisy is None:
            return None
        return relative_drop(self.test.accuracy, self.noisy.accuracy)

    def time_to_accuracy(self, accuracy: float = 0.8, evaluation: bool = False) -> float | None:
        """Seconds until the validation accuracy was first reached, of training alone or with the evaluations.

        Returns:
            None where it was never reached, or nothing was held out.
        """
        return self._time_to(
            next((n for n, epoch in enumerate(self.epochs, 1) if _accuracy(epoch) >= accuracy), None), evaluation
        )

    def time_to_best(self, evaluation: bool = False) -> float | None:
        """Seconds until the highest validation accuracy was first reached; None where nothing was held out."""
        accuracies = [_accuracy(epoch) for epoch in self.epochs]
        best = max(accuracies, default=-1.0)
        return self._time_to(accuracies.index(best) + 1 if best >= 0 else None, evaluation)

    def _time_to(self, epoch: int | None, evaluation: bool) -> float | None:
        if epoch is None:
            return None
        return sum(each.train_s + evaluation * each.validation_s for each in self.epochs[:epoch])

    def outcome(self) -> dict[str, Any]:
        """The record without times, resources and environment: what the same run must give again, bit for bit.

        That is so on the same kind of machine and with the same :attr:`execution`.
        """
        unrepeatable = {"times": True, "resources": True, "environment": True}
        epochs = {"__all__": {"train_s", "validation_s"}}
        return self.model_dump(exclude={**unrepeatable, "epochs": epochs})

    def write(self, path: Path) -> None:
        """Write the record as JSON, atomically: a reader sees the old file, none, or all of the new one.

        What is written is read back before it gets its name, so that no record is ever there that cannot be read.
        """
        content = self.to_json().encode()
        parse(content)
        write_atomically(path, content)

    def to_json(self) -> str:
        """Indented JSON, with a line for each epoch: a deep network's hundreds would fill tens of thousands."""
        values = json.loads(self.model_dump_json())
        epochs = ",\n".join("  " + json.dumps(epoch) for epoch in values["epochs"])
        text = json.dumps({**values, "epochs": "epochs go here"}, indent=1)
        return text.replace('"epochs go here"', f"[\n{epochs}\n ]", 1) + "\n"


def _accuracy(epoch: Epoch) -> float:
    return epoch.validation.accuracy if epoch.validation is not None else -1.0


def parse(content: bytes) -> RunRecord:
    """A record from its JSON, of this version or of an older one.

    Raises:
        ValueError: it is not a record, or of a version that is not known here.
    """
    values = json.loads(content)
    version = values.get("schema_version") if isinstance(values, dict) else None
    if version not in (1, 2, 3):
        raise ValueError(f"schema version {version!r}; this package reads 1 to 3, a newer one may have written it")
    if version == 3:
        return RunRecord.model_validate_json(content)
    try:
        values = _from_version_2(_from_version_1(values) if version == 1 else values)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"schema version {version}, but not its fields: {error!r}") from None
    return RunRecord.model_validate_json(json.dumps(values))


def _from_version_2(old: dict[str, Any]) -> dict[str, Any]:
    """Version 2 had the execution among the recipe's fields; what it left out was not so."""
    recipe = dict(old["recipe"])
    execution = {"channels_last": False, "compile": False}
    execution |= {field: recipe.pop(field) for field in Execution.model_fields if field in recipe}
    if old.get("resources"):
        execution["loader"] = old["resources"]["loader"]
    overrides = [field for field in old["overrides"] if field not in Execution.model_fields]
    return {**old, "schema_version": 3, "recipe": recipe, "execution": execution, "overrides": overrides}


def _from_version_1(old: dict[str, Any]) -> dict[str, Any]:
    """Version 1 knew one data set, one loader and one test."""
    recipe = {field: value for field, value in old["recipe"].items() if field not in ("source", "max_shift")}
    recipe["data_options"] = {"split_seed": recipe.pop("split_seed")}
    recipe["augmentation"] = f"shift({old['recipe']['max_shift']})" if old["recipe"]["max_shift"] else "none"
    overrides = {"max_shift": "augmentation", "split_seed": "data_options"}
    epochs = [
        {
            **{field: epoch[field] for field in ("lr", "train_s", "validation_s")},
            **{
                part: {"loss": epoch[f"{part}_loss"], "accuracy": epoch[f"{part}_accuracy"]}
                for part in ("train", "validation")
            },
        }
        for epoch in old["epochs"]
    ]
    test = {field: old["test"][field] for field in ("loss", "accuracy", "confusion")}
    return {
        **old,
        "schema_version": 2,
        "recipe": recipe,
        "overrides": sorted(overrides.get(field, field) for field in old["overrides"]),
        "epochs": epochs,
        "selected": old["test"]["epoch"],
        "test": test,
    }


def read_record(path: Path) -> RunRecord:
    """Read and validate one record.

    Raises:
        FileNotFoundError: there is none.
        ValueError: the file is not a record, or of a version that this package does not read; the fields are named.
    """
    try:
        return parse(path.read_bytes())
    except ValueError as error:  # pydantic's and JSON's errors are ValueErrors
        raise ValueError(
            f"{path} is not a run record that this package reads; update the package, or repeat the run: {error}"
        ) from None


def read_records(*roots: Path | str) -> list[RunRecord]:
    """The records of :func:`find_records` without their files."""
    return list(find_records(*roots).values())


def find_records(*roots: Path | str) -> dict[Path, RunRecord]:
    """Read every ``record.json`` below the folders, by file, ordered by recipe, model and seed.

    A folder that does not exist holds none.  A run is its recipe with every value, its network with every option,
    its seed and its data: repeated, on another machine or executed in another way, it is not a new sample, and a table
    would count it twice.

    Raises:
        ValueError: a file is not a valid record, or two of them are the same run; both are named.
    """
    paths = {path.resolve(): path for root in roots for path in sorted(Path(root).rglob(RECORD_NAME))}
    found: dict[Path, RunRecord] = {}
    seen: dict[tuple[str, str, str, int], Path] = {}
    for path in paths.values():
        record = read_record(path)
        run = *record.experiment, record.seed
        if run in seen:
            raise ValueError(f"{seen[run]} and {path} are the same run; remove one of them, or name only one folder")
        seen[run] = path
        found[path] = record
    return dict(sorted(found.items(), key=lambda item: _order(item[1])))


def _order(record: RunRecord) -> tuple[str, str, int]:
    return record.recipe.name, record.model.name, record.seed


def _commit() -> str | None:
    """Commit of the checkout that this package was imported from, or None."""
    package = Path(__file__).parent

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=package, capture_output=True, text=True, check=True).stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")) != package.parent.resolve():
            return None  # installed inside somebody else's checkout
        dirty = "-dirty" if git("status", "--porcelain", "--untracked-files=no") else ""
        return git("rev-parse", "HEAD") + dirty
    except (OSError, subprocess.CalledProcessError):
        return None


def _processor() -> str:
    """Name of the CPU, as the system tells it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
