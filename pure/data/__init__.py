"""Data sets by name, each divided into training, validation and test set."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import Any

from pure.data.digits import digits
from pure.data.loaders import DeviceLoader
from pure.data.splits import ImageSet, Splits, stratified_split

__all__ = ["DeviceLoader", "ImageSet", "Splits", "digits", "list_datasets", "load", "stratified_split"]

_REGISTRY: dict[str, Callable[..., Splits]] = {"digits": digits}


def list_datasets() -> list[str]:
    """The names that :func:`load` knows."""
    return sorted(_REGISTRY)


def load(name: str, **options: Any) -> Splits:
    """A data set by name.

    Args:
        name: one of :func:`list_datasets`.
        **options: what the data set's own function takes, such as ``split_seed``.

    Raises:
        ValueError: the name is unknown; the known ones are named.
    """
    if name not in _REGISTRY:
        nearest = difflib.get_close_matches(name.lower(), _REGISTRY, n=1)
        hint = f"did you mean {nearest[0]!r}? " if nearest else ""
        raise ValueError(f"unknown data set {name!r}; {hint}known are {', '.join(list_datasets())}")
    return _REGISTRY[name](**options)
