"""Phrases that messages share."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["did_you_mean", "duration", "some"]

_NAMED = 5  # a message lists this many names


def did_you_mean(name: str, known: Iterable[str], n: int = 1) -> str:
    """``"did you mean 'flip'? "`` for the known name nearest to a wrong one, whatever its case; ``""`` if none is near.

    Args:
        name: as it was given.
        known: the names that there are.
        n: at most this many are offered, ``"did you mean 'pure18' or 'pure20'? "``.
    """
    known = list(known)
    cutoff = 0.6 if n == 1 else 0.5  # where several are offered, they may be further off
    nearest = [close for form in (name, name.lower()) for close in difflib.get_close_matches(form, known, n, cutoff)]
    return f"did you mean {' or '.join(map(repr, dict.fromkeys(nearest[:n])))}? " if nearest else ""


def some(names: Iterable[str]) -> str:
    """The first five of many names, and how many more there are: ``"a, b, c, d, e and 7 more"``."""
    names = list(names)
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def duration(seconds: float) -> str:
    """Seconds as a reader wants them: ``"90 s"``, ``"12 min"``, ``"5 h"``."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes / 60:.0f} h"
