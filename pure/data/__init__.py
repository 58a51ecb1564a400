"""Data sets by name, each divided into training, validation and test set.

:data:`pure.data.catalogue.CATALOGUE` says of each what it is; ``python -m pure.data`` lists, gets and checks them.
"""

from __future__ import annotations

import difflib
import inspect
from pathlib import Path
from typing import Any

from pure.data.catalogue import CATALOGUE, Description, describe
from pure.data.digits import digits
from pure.data.loaders import DeviceLoader
from pure.data.root import data_root
from pure.data.splits import ImageSet, Splits, stratified_split

__all__ = [
    "CATALOGUE",
    "Description",
    "DeviceLoader",
    "ImageSet",
    "Splits",
    "data_root",
    "describe",
    "digits",
    "list_datasets",
    "list_options",
    "load",
    "stratified_split",
]


def list_datasets() -> list[str]:
    """The names that :func:`load` knows, those that are always there first."""
    return list(CATALOGUE)


def list_options(name: str) -> dict[str, Any]:
    """The options of a data set with their defaults, beside the root.

    Raises:
        ValueError: the name is unknown.
    """
    parameters = inspect.signature(describe(name).function).parameters.values()
    return {parameter.name: parameter.default for parameter in parameters if parameter.name != "root"}


def load(name: str, root: str | Path | None = None, **options: Any) -> Splits:
    """A data set by name.

    Args:
        name: one of :func:`list_datasets`.
        root: folder of the data sets; by default the environment variable PURE_DATA, else ``data`` below the working
            directory.
        **options: what the data set's own function takes, such as ``split_seed``; see :func:`list_options`.

    Raises:
        ValueError: the name or an option is unknown (the nearest and the known ones are named), or the files are not
            what they should be.
        FileNotFoundError: the files are not there; the message says how to get them.
    """
    known = list_options(name)
    for option in options:
        if option not in known:
            nearest = difflib.get_close_matches(option, known, n=1)
            hint = f"did you mean {nearest[0]!r}? " if nearest else ""
            raise ValueError(f"data set {name!r} has no option {option!r}; {hint}it has {', '.join(known) or 'none'}")
    function = describe(name).function
    if "root" in inspect.signature(function).parameters:
        options["root"] = data_root(root)
    return function(**options)
