"""What a notebook is given: its parameters, which are checked, and the folders of the repository that it lies in.

Papermill only warns of a parameter that the notebook does not have, and never looks at types, so a run with
``-p sed 3`` would go on with the default seed.
"""

from __future__ import annotations

import os
from collections.abc import MutableMapping
from pathlib import Path
from types import ModuleType
from typing import Any

from pure.data.storage.root import ROOT_VARIABLE, data_root
from pure.wording import did_you_mean

__all__ = ["check_parameters", "repository", "shared_root"]

_CHECKED = "_parameters_are_checked"  # a name in the notebook itself
_IPYTHON = {"In", "Out", "exit", "quit", "open", "get_ipython"}


def check_parameters(namespace: MutableMapping[str, Any], **expected: type) -> dict[str, Any]:
    """Check a notebook's parameters, right after its ``parameters`` cell and before anything else is defined.

    When a notebook is run again in the same kernel, what its later cells defined is there: then only the parameters'
    types are checked.

    Args:
        namespace: the notebook's ``globals()``.  What it holds besides modules, functions, classes and IPython's
            own names was set by the ``parameters`` cell or by papermill.  A mark is left there.
        **expected: name and type of each parameter.  An int is accepted for a float.

    Returns:
        The parameters by name, in the order of ``expected``.

    Raises:
        NameError: a name that is not a parameter, with the nearest one; or a parameter that is not set.
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
    for name in (name for name in found if name not in expected and _CHECKED not in namespace):
        hint = did_you_mean(name, expected)
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
    namespace[_CHECKED] = True
    return {name: found[name] for name in expected}


def repository(start: Path | None = None) -> Path:
    """The folder of the repository around a notebook, or the working directory where there is none.

    Args:
        start: the folder to look upwards from; by default the working directory.
    """
    here = (start or Path.cwd()).resolve()
    return next((folder for folder in (here, *here.parents) if (folder / "pure" / "data").is_dir()), here)


def shared_root(start: Path | None = None) -> Path:
    """The folder of the data sets for a notebook: PURE_DATA, else ``data`` of the repository, wherever in it it runs.

    A page of the book runs in its own folder, as does a notebook on a hub, and a training in the repository's: so all
    use the same files.

    Args:
        start: the folder to look upwards from; by default the working directory.
    """
    return data_root() if os.environ.get(ROOT_VARIABLE) else data_root(repository(start) / "data")
