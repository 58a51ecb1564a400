"""The experiments: reads ``experiments.yaml``, refuses what is misspelt, and says which runs belong to a target."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, ValidationError

from pure.wording import did_you_mean

if TYPE_CHECKING:  # elsewhere where it is used: Snakemake reads this file in every job, and needs no PyTorch
    from pure.records import RunRecord

EXPERIMENTS = Path(__file__).with_name("experiments.yaml")
NOTEBOOK = Path("notebooks/experiments/train.py")
"""What executes a run; like all paths here, relative to the repository's root."""

PAPER = ("table2", "table4", "table6", "figure5", "ablations", "speed")
"""The targets that together are ``all``: the paper's scale.  ``speed`` is the benchmark, not a group of runs."""

MADE_FROM = ".made-from"
"""File in a run's folder with the fingerprint of what its record, or its checkpoint, comes from."""

Device = Literal["cpu", "gpu"]


class Group(BaseModel):
    """Runs that differ in network and seed only; the fields are described in ``experiments.yaml``."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, protected_namespaces=())

    recipe: str
    networks: list[str] = Field(min_length=1)
    seeds: list[NonNegativeInt] = Field(min_length=1)
    variant: str = Field("", pattern=r"^[a-z0-9.-]*$")
    model_options: dict[str, Any] = {}
    data_options: dict[str, Any] = {}
    overrides: dict[str, Any] = {}
    execution: dict[str, Any] = {}
    device: Device | None = None


@dataclass(frozen=True)
class Run:
    """One network, trained once by one recipe from one seed."""

    recipe: str
    network: str
    seed: int
    variant: str = ""
    model_options: dict[str, Any] = field(default_factory=dict)
    data_options: dict[str, Any] = field(default_factory=dict)
    overrides: dict[str, Any] = field(default_factory=dict)
    execution: dict[str, Any] = field(default_factory=dict)
    device: Device | None = None

    @property
    def label(self) -> str:
        """Name of the run's folder below its recipe: the network, and the variant."""
        return f"{self.network}-{self.variant}" if self.variant else self.network

    @property
    def id(self) -> str:
        """What the one-run command takes, and the executed notebook is called."""
        return f"{self.recipe}-{self.label}-seed{self.seed}"

    @property
    def title(self) -> str:
        """Recipe, label and seed."""
        return f"{self.recipe} {self.label} seed {self.seed}"

    def folder(self, root: Path) -> Path:
        """Where the record lies."""
        return root / self.recipe / self.label / f"seed{self.seed}"

    def output(self, notebooks: Path) -> Path:
        """Where the executed notebook lies."""
        return notebooks / f"{self.id}.ipynb"

    @property
    def parameters(self) -> dict[str, Any]:
        """What decides the outcome, as parameters of the notebook."""
        return {
            "recipe": self.recipe,
            "model": self.network,
            "seed": self.seed,
            "overrides": self.overrides,
            "data_options": self.data_options,
            "model_options": self.model_options,
        }

    @cached_property
    def fingerprint(self) -> str:
        """Of all that the executed notebook depends on."""
        from fingerprint import fingerprint

        return fingerprint(NOTEBOOK, self.parameters)

    @cached_property
    def training_fingerprint(self) -> str:
        """Of all that the record depends on."""
        from fingerprint import training_fingerprint

        return training_fingerprint(self.parameters)

    def finished(self, root: Path, notebooks: Path) -> RunRecord | None:
        """The record, if the run is up to date: record and executed notebook come from what is there now."""
        from pure.records import RECORD_NAME, read_record

        folder = self.folder(root)
        try:
            record = read_record(folder / RECORD_NAME)
            made_from = (folder / MADE_FROM).read_text(), _fingerprint_of(self.output(notebooks))
        except (OSError, ValueError):
            return None
        return record if made_from == (self.training_fingerprint, self.fingerprint) else None


def _fingerprint_of(notebook: Path) -> str:
    import nbformat

    return str(nbformat.read(notebook, as_version=4).metadata.get("pure", {}).get("fingerprint"))


def read(path: Path = EXPERIMENTS) -> dict[str, list[Run]]:
    """The runs of every target by its name.

    Raises:
        ValueError: a field is unknown, missing or of another type, or two different runs want the same folder.
        FileNotFoundError: there is no such file.
    """
    content = yaml.safe_load(path.read_text())
    if not isinstance(content, dict) or not content:
        raise ValueError(f"{path}: expected targets with a list of groups each, got {content!r}")
    targets = {str(name): _runs(f"{path}: {name}", groups) for name, groups in content.items()}
    _refuse_shared_folders(path, targets)
    paper = [run for name in PAPER for run in targets.get(name, [])]
    return {**targets, "all": list({run.id: run for run in paper}.values())}


def _runs(where: str, groups: Any) -> list[Run]:
    if not isinstance(groups, list) or not groups:
        raise ValueError(f"{where}: expected a list of groups, got {groups!r}")
    runs = []
    for number, values in enumerate(groups, 1):
        try:
            group = Group.model_validate(values)
        except ValidationError as error:
            raise ValueError(f"{where}, group {number}: {explain(error, Group)}") from None
        shared = {name: getattr(group, name) for name in Group.model_fields if name not in ("networks", "seeds")}
        runs += [Run(network=network, seed=seed, **shared) for network in group.networks for seed in group.seeds]
    return runs


def explain(error: ValidationError, model: type[BaseModel]) -> str:
    """What is wrong with the fields of a model, each named, with the nearest known one where it is unknown."""
    faults = []
    for each in error.errors():
        name = ".".join(map(str, each["loc"]))
        if each["type"] == "extra_forbidden":
            faults.append(f"unknown field {name!r}; {nearest(name, model.model_fields)}")
        elif each["type"] == "missing":
            faults.append(f"the field {name!r} is missing")
        else:
            faults.append(f"{name}: {each['msg'][0].lower()}{each['msg'][1:]}, got {each['input']!r}")
    return "; ".join(faults)


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint at what may have been meant."""
    known = list(known)
    return did_you_mean(name, known).strip() or f"known are {', '.join(known)}"


def _refuse_shared_folders(path: Path, targets: Mapping[str, list[Run]]) -> None:
    seen: dict[str, tuple[str, Run]] = {}
    for target, runs in targets.items():
        for run in runs:
            other, found = seen.setdefault(run.id, (target, run))
            if found != run:
                raise ValueError(
                    f"{path}: {other} and {target} both have a run {run.id}, with other options; give one a variant"
                )


def check(runs: Iterable[Run]) -> None:
    """Refuse runs whose recipe, network, option or field does not exist, before anything starts.

    Raises:
        ValueError: then; the message names the run, what is unknown and what is known.
    """
    import torch

    import pure
    from pure.data import check_options
    from pure.execution import get_execution
    from pure.recipes import get_recipe

    checked: set[str] = set()
    for run in runs:
        key = repr((run.recipe, run.network, run.model_options, run.data_options, run.overrides, run.execution))
        if key in checked:
            continue
        checked.add(key)
        try:
            recipe = get_recipe(run.recipe, run.network, **tuples(run.overrides))
            get_execution(run.execution)
            check_options(recipe.dataset, run.data_options)
            with torch.device("meta"):  # allocates nothing and computes nothing
                pure.create_model(run.network, **tuples(run.model_options))
        except (ValueError, TypeError) as error:
            raise ValueError(f"{run.title}: {error}") from None


def tuples(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options with tuples for lists: YAML has lists only, recipes and networks have tuples."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in options.items()}


def find(identifier: str, targets: Mapping[str, list[Run]]) -> Run:
    """The run with this id.

    Raises:
        ValueError: there is none; the message names the nearest.
    """
    runs = {run.id: run for each in targets.values() for run in each}
    if identifier not in runs:
        raise ValueError(f"no run {identifier!r} among the experiments; {nearest(identifier, runs)}")
    return runs[identifier]
