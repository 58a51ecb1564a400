"""What the extras of the installation bring, and what is said where one is missing."""

from __future__ import annotations

from importlib.util import find_spec

__all__ = ["require_extra", "require_training"]


def require_extra(extra: str, purpose: str, *modules: str) -> None:
    """Refuse to go on without an optional package, and say which extra brings it.

    Nothing is imported.

    Args:
        extra: as ``pyproject.toml`` names it.
        purpose: what cannot be done without, such as ``"training"``.
        modules: the top-level modules that are needed.

    Raises:
        ModuleNotFoundError: one of them is not installed.
    """
    lacking = [module for module in modules if find_spec(module) is None]
    if lacking:
        raise ModuleNotFoundError(
            f"{purpose} needs {', '.join(lacking)}, not installed here: pip install 'pure-networks[{extra}]' (in a "
            f"clone: pip install -e '.[{extra}]')",
            name=lacking[0],
        )


def require_training() -> None:
    """Refuse to read data or to train without the extra for it, before any of it is imported.

    Raises:
        ModuleNotFoundError: a package is not installed.
    """
    require_extra("train", "reading data sets, and training on them,", "pydantic", "sklearn", "tqdm")
