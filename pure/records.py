"""What a run leaves behind: one JSON file with everything that a table, a figure or a doubt may ask of it.

Records lie as ``<root>/<recipe>/<model>/seed<k>/record.json``, committed ones under ``results/``.  A record is written
last and atomically, so its existence is what tells a finished run from an interrupted one.
"""

from __future__ import annotations

import os
import platform
import subprocess
import tempfile
from datetime import datetime
from pathlib import Path
from typing import Literal

import numpy
import torch
import torchvision
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import device as Device

from pure.recipes import Recipe

__all__ = [
    "RECORD_NAME",
    "DataSummary",
    "Environment",
    "Epoch",
    "Evaluation",
    "ModelSummary",
    "RunRecord",
    "Times",
    "load",
    "load_all",
    "write_atomically",
]

RECORD_NAME = "record.json"


class _Part(BaseModel):
    """Frozen and closed: a field that nobody declared is an error.  NaN and infinities are kept, as JSON strings."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings", protected_namespaces=())


class ModelSummary(_Part):
    """The network of a run.

    Attributes:
        name: as :func:`pure.create_model` knows it.
        options: what was set beside the name.
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
        validation: number of validation images.
        test: number of test images.
        fingerprint: SHA-256 over the three sets.
    """

    name: str
    classes: tuple[str, ...]
    train: int
    validation: int
    test: int
    fingerprint: str


class Epoch(_Part):
    """One pass over the training set, and the validation behind it.

    Attributes:
        lr: learning rate during the epoch.
        train_loss: mean cross-entropy (nats) over the batches as they were trained on, in training mode.
        train_accuracy: share of the same images that were classified rightly, from 0 to 1.
        validation_loss: mean cross-entropy (nats) on the validation set, in evaluation mode.
        validation_accuracy: share, from 0 to 1.
        train_s: seconds of training.
        validation_s: seconds of validation.
    """

    lr: float
    train_loss: float
    train_accuracy: float
    validation_loss: float
    validation_accuracy: float
    train_s: float
    validation_s: float


class Evaluation(_Part):
    """The test, done once with the selected weights.

    Attributes:
        epoch: number of the epoch, from 1, whose weights were tested.
        loss: mean cross-entropy (nats).
        accuracy: share of images classified rightly, from 0 to 1.
        confusion: number of images by true class (rows) and predicted class (columns).
    """

    epoch: int
    loss: float
    accuracy: float
    confusion: tuple[tuple[int, ...], ...]


class Times(_Part):
    """When and how long.

    Attributes:
        started: date and time in UTC.
        train_s: seconds of training alone, all epochs.
        total_s: seconds from the first step to the last test image.
    """

    started: datetime
    train_s: float
    total_s: float


class Environment(_Part):
    """What the run ran on.

    Attributes:
        pure: version of this package.
        commit: of the checkout, with ``-dirty`` behind it if files differed; None outside a checkout.
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
        from pure import __version__

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
        overrides: names of the fields of the recipe that were set otherwise than published.
        model: the network.
        seed: fixes initialisation, order and augmentation.
        data: the data set, with its fingerprint.
        epochs: what was measured in each epoch.
        test: the test.
        thresholds: at the end, by the name of the product unit: one value, or one for each channel.
        times: when and how long.
        environment: what it ran on.
        weights_sha256: hash of the weights that were tested and saved beside the record.
    """

    schema_version: Literal[1] = 1
    recipe: Recipe
    overrides: tuple[str, ...]
    model: ModelSummary
    seed: int
    data: DataSummary
    epochs: tuple[Epoch, ...]
    test: Evaluation
    thresholds: dict[str, float | tuple[float, ...]]
    times: Times
    environment: Environment
    weights_sha256: str

    def write(self, path: Path) -> None:
        """Write the record as indented JSON, atomically: a reader sees the old file, none, or all of the new one."""
        write_atomically(path, (self.model_dump_json(indent=1) + "\n").encode())


def load(path: Path) -> RunRecord:
    """Read and validate one record.

    Raises:
        FileNotFoundError: there is none.
        ValueError: the file is no record, or of a version that this package does not read; the fields are named.
    """
    try:
        return RunRecord.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise ValueError(f"{path} is no run record of schema version 1; repeat the run or remove it: {error}") from None


def load_all(*roots: Path | str) -> list[RunRecord]:
    """Read every ``record.json`` below the folders, ordered by recipe, model and seed.

    A folder that does not exist holds none.  A run is its recipe with every value, its network with every option, and
    its seed: repeated, on another machine too, it is no further sample, and a table would count it twice.

    Raises:
        ValueError: a file is no valid record, or two of them are the same run; both are named.
    """
    paths = {path.resolve(): path for root in roots for path in sorted(Path(root).rglob(RECORD_NAME))}
    records: list[RunRecord] = []
    seen: dict[tuple[str, str, int], Path] = {}
    for path in paths.values():
        record = load(path)
        run = record.recipe.model_dump_json(), record.model.model_dump_json(), record.seed
        if run in seen:
            raise ValueError(f"{seen[run]} and {path} are the same run; remove one of them, or name only one folder")
        seen[run] = path
        records.append(record)
    return sorted(records, key=_order)


def _order(record: RunRecord) -> tuple[str, str, int]:
    return record.recipe.name, record.model.name, record.seed


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file by way of a temporary one beside it, so that it is never seen half-written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


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
