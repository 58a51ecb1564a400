"""A guard for parameterised notebooks: a misspelled or ill-typed parameter stops the run.

Papermill only warns of a parameter that the notebook does not have, and never looks at types, so a run with
``-p sed 3`` would go on with the default seed.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from types import ModuleType
from typing import Any

__all__ = ["check_parameters"]

_IPYTHON = {"In", "Out", "exit", "quit", "open", "get_ipython"}


def check_parameters(namespace: Mapping[str, Any], **expected: type) -> dict[str, Any]:
    """Check a notebook's parameters, right behind its ``parameters`` cell and before anything else is defined.

    Args:
        namespace: the notebook's ``globals()``.  Whatever stands there beside modules, functions, classes and IPython's
            own names was set by the ``parameters`` cell or by papermill.
        **expected: name and type of each parameter.  An int is accepted for a float.

    Returns:
        The parameters by name, in the order of ``expected``.

    Raises:
        NameError: a name that is no parameter, with the nearest one; or a parameter that is not set.
        TypeError: a value of another type, with what was expected.
    """
    found = {
        name: value
        for name, value in namespace.items()
        if not name.startswith("_")
        and name not in _IPYTHON
        and not isinstance(value, ModuleType)
        and not callable(value)
    }
    for name in (name for name in found if name not in expected):
        nearest = difflib.get_close_matches(name, expected, n=1)
        hint = f"did you mean {nearest[0]!r}? " if nearest else ""
        raise NameError(f"unknown parameter {name!r}; {hint}this notebook has {', '.join(expected)}")
    for name, kind in expected.items():
        if name not in found:
            raise NameError(f"parameter {name!r} ({kind.__name__}) is not set; keep it in the parameters cell")
        value = found[name]
        if kind is float and type(value) is int:
            value = float(value)
        if type(value) is not kind:
            raise TypeError(
                f"parameter {name!r} must be of type {kind.__name__}, got {value!r} of type {type(value).__name__}"
            )
        found[name] = value
    return {name: found[name] for name in expected}
