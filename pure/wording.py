"""Phrases that error messages share."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["did_you_mean", "some"]

_NAMED = 5  # a message lists this many names


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """``"did you mean 'flip'? "`` for the known name nearest to a wrong one, whatever its case; ``""`` if none is near.

    Args:
        name: as it was given.
        known: the names that there are.
    """
    known = list(known)
    nearest = difflib.get_close_matches(name, known, n=1) or difflib.get_close_matches(name.lower(), known, n=1)
    return f"did you mean {nearest[0]!r}? " if nearest else ""


def some(names: Iterable[str]) -> str:
    """The first five of many names, and how many more there are: ``"a, b, c, d, e and 7 more"``."""
    names = list(names)
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
