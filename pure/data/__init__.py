"""Data sets by name, each divided into training, validation and test set.

:data:`pure.data.catalogue.CATALOGUE` says of each what it is; ``python -m pure.data`` lists, gets and checks them.
"""

from __future__ import annotations

from pure.extras import require_training

require_training()

import contextlib
import dataclasses
import inspect
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_type_hints

from pydantic import TypeAdapter, ValidationError

from pure.data import preparation
from pure.data.catalogue import CATALOGUE, Description, describe
from pure.data.images import Images, ImageSet, Joined, Subset
from pure.data.loaders import DeviceLoader
from pure.data.sets.digits import digits
from pure.data.splits import Splits, read_split, stratified_split
from pure.data.storage.root import data_root
from pure.wording import did_you_mean

__all__ = [
    "CATALOGUE",
    "Description",
    "DeviceLoader",
    "ImageSet",
    "Images",
    "Joined",
    "Splits",
    "Subset",
    "check_options",
    "data_root",
    "describe",
    "digits",
    "division_file",
    "list_datasets",
    "list_options",
    "load",
    "stratified_split",
]

_WITHOUT_EFFECT = ("cache", "download", "in_memory", "progress", "workers")
"""Options that change how a data set is got and read, not what it is."""


def list_datasets() -> list[str]:
    """The names that :func:`load` knows, those that are always there first."""
    return list(CATALOGUE)


def list_options(name: str) -> dict[str, Any]:
    """The options of a data set with their defaults, besides the root: its own, and those that every set has.

    Raises:
        ValueError: the name is unknown.
    """
    return {**_own_options(name), **{option: default for option, (_, default) in _shared_options(name).items()}}


def _own_options(name: str) -> dict[str, Any]:
    parameters = inspect.signature(describe(name).function).parameters.values()
    return {parameter.name: parameter.default for parameter in parameters if parameter.name != "root"}


def _shared_options(name: str) -> dict[str, tuple[Any, Any]]:
    """What :func:`pure.data.preparation.prepare` does for this set, which has no own option by this name."""
    own = _own_options(name)
    return {option: described for option, described in preparation.OPTIONS.items() if option not in own}


def check_options(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options, each as the type that the data set's own function declares: a list where that expects a tuple.

    Raises:
        ValueError: the name or an option is unknown (the nearest and the known ones are named), or of another type.
    """
    known, types = list_options(name), get_type_hints(describe(name).function)
    types |= {option: type_ for option, (type_, _) in _shared_options(name).items()}
    checked = {}
    for option, value in options.items():
        if option not in known:
            hint = did_you_mean(option, known)
            raise ValueError(f"data set {name!r} has no option {option!r}; {hint}it has {', '.join(known) or 'none'}")
        try:
            checked[option] = TypeAdapter(types[option]).validate_python(value)
        except ValidationError as error:
            reason = error.errors()[0]["msg"]
            raise ValueError(
                f"option {option!r} of data set {name!r} cannot be {value!r}: {reason[:1].lower()}{reason[1:]}; its "
                f"default is {known[option]!r}"
            ) from None
    return checked


def load(name: str, root: str | Path | None = None, **options: Any) -> Splits:
    """A data set by name.

    Where the root is a folder that can be written to, the division is written down in its folder ``splits``: the rows
    of each part, the statistics for normalization, a hash over the content.  The next load takes the statistics from
    there, and refuses another content; synthetic images that newer code has made are written down again.  The root
    of an ``image-folder`` is the tree itself, so its ``splits`` lie next to ``train``, and move with the images.

    Args:
        name: one of :func:`list_datasets`.
        root: folder of the data sets; by default the environment variable PURE_DATA, else ``data`` below the working
            directory.
        **options: what the data set's own function takes, such as ``split_seed``, and what
            :func:`pure.data.preparation.prepare` takes: ``crop``, ``size``, ``per_class``, ``static_augmentation`` and
            seeds; see :func:`list_options`.

    Raises:
        ValueError: the name or an option is unknown (the nearest and the known ones are named) or of a wrong type, or
            the files are not what they should be, or not those that were divided before.
        FileNotFoundError: the files are not there; the message says how to get them.
    """
    options = check_options(name, options)
    folder, function = data_root(root), describe(name).function
    where = {"root": folder} if "root" in inspect.signature(function).parameters else {}
    shared = {option: options[option] for option in _shared_options(name) if option in options}
    own = {option: value for option, value in options.items() if option not in shared}
    if shared and "static_augmentation" in _own_options(name):  # fewer or smaller images first, then each once more
        for option in ("static_augmentation", "augmentation_seed"):
            shared[option] = own.pop(option, _own_options(name)[option])
        own["static_augmentation"] = None
    splits = function(**where, **own)
    if shared:
        kept = {option: own[option] for option in ("in_memory", "progress") if option in own}
        splits = preparation.prepare(splits, **shared, **kept, cache=own.get("cache") or folder / "cache")
    return _written_down(splits, folder, division_file(splits, name, folder, options))


def division_file(splits: Splits, name: str, root: Path, options: Mapping[str, Any]) -> Path:
    """Where :func:`load` writes a division down: a file for each data set and each setting that changes it.

    Args:
        splits: the data set as it was loaded; what it calls itself begins the file's name.
        name: as :func:`load` knows it.
        root: the folder of the data sets.
        options: as they were given to :func:`load`.
    """
    defaults = list_options(name)
    changed = {option: value for option, value in options.items() if value != defaults[option]}
    settings = [f"{option}={changed[option]}" for option in sorted(changed) if option not in _WITHOUT_EFFECT]
    return root / "splits" / re.sub(r"[^\w.=-]+", "_", f"{'-'.join([splits.name, *settings])}.json")


def _written_down(splits: Splits, root: Path, path: Path) -> Splits:
    """The splits, with the statistics as they were written down, or written down now."""
    written = read_split(path) if path.is_file() else None
    remade = splits.synthetic and written is not None and written.fingerprint != splits.fingerprint  # by other code
    if written is not None and not remade:
        return dataclasses.replace(written.check(splits), normalization=(written.mean, written.std))
    if root.is_dir():  # else the set needs no folder, and gets none for this
        with contextlib.suppress(OSError):  # a read-only root: the fingerprint in each record is proof enough
            splits.write(path)
    return splits
