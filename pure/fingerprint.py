"""What a notebook or a run is made from: its code and that of the modules it uses, without docstrings and comments.

A page whose fingerprint is the stored one needs no execution, a run whose fingerprint is the stored one no training.
"""

from __future__ import annotations

import ast
import hashlib
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

__all__ = ["code_fingerprint", "modules_used"]

PACKAGE = "pure"


class _Module(NamedTuple):
    """What a file holds: its code, the dotted names that it uses, and those that it takes from where on first use."""

    code: str
    uses: frozenset[str]
    late: frozenset[tuple[str, str]]


_NAMED = re.compile(rf"{PACKAGE}(\.\w+)*(:\w+)?")
"""A module in a string, as the catalogue names the functions that read the data sets."""


def code_fingerprint(source: str, root: Path | str | None = None) -> str:
    """SHA-256 over Python code and over all modules of this package that it uses.

    Docstrings, comments and layout do not count: code is compared as the parser sees it.

    Args:
        source: the text of a module, or of a notebook in the percent format.
        root: the folder that holds the package; by default that of this installation.

    Raises:
        SyntaxError: it, or a module that it uses, is not Python.
    """
    digest = hashlib.sha256(_read(source).code.encode())
    for name, path in sorted(modules_used(source, root).items()):
        digest.update(f"\0{name}\0{_read(path.read_text(encoding='utf-8')).code}".encode())
    return digest.hexdigest()


def modules_used(source: str, root: Path | str | None = None) -> dict[str, Path]:
    """The modules of this package that some code imports, directly or through others: name and file.

    Imports inside functions count, and modules that a string names (``"pure.data.sets.digits:digits"``); those for type
    checkers alone do not.  Parents count as well: ``import pure.nn.units`` runs ``pure`` and ``pure.nn``.  What a
    module imports on first use, by its ``__getattr__``, counts for those who ask for it, such as ``pure.fit``.
    """
    root = Path(root) if root is not None else Path(__file__).parents[1]
    found: dict[str, Path] = {}
    waiting = list(_read(source).uses)
    while waiting:
        name = waiting.pop()
        path, (parent, _, attribute) = _find(name, root), name.rpartition(".")
        if path is not None and name not in found:
            found[name] = path
            waiting += [parent, *_read(path.read_text(encoding="utf-8")).uses]
        elif path is None and (module := _find(parent, root)) is not None:
            late = _read(module.read_text(encoding="utf-8")).late
            waiting += [origin for known, origin in late if known == attribute]
    return found


def _find(name: str, root: Path) -> Path | None:
    """The file of a module; None for what is not a module of this package, such as a function."""
    if name.partition(".")[0] != PACKAGE:
        return None
    path = root.joinpath(*name.split("."))
    return next((file for file in (path / "__init__.py", path.with_suffix(".py")) if file.is_file()), None)


@cache
def _read(source: str) -> _Module:
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(body := getattr(node, "body", None), list):
            node.body = [each for each in body if not _is_text(each)]  # type: ignore[attr-defined]
    code = ast.dump(tree)
    late = [origin for node in ast.walk(tree) if _is_for_type_checkers(node) for origin in _taken(node)]
    for node in ast.walk(tree):
        if _is_for_type_checkers(node):
            node.body = []  # type: ignore[attr-defined]
        elif isinstance(node, ast.Module):
            node.body = [each for each in node.body if getattr(each, "name", "") != "__getattr__"]
    return _Module(code, frozenset(_uses(tree)), frozenset(late))


def _is_text(node: ast.stmt) -> bool:
    """Whether a statement is a docstring, of an attribute too."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _is_for_type_checkers(node: ast.AST) -> bool:
    test = getattr(node, "test", None) if isinstance(node, ast.If) else None
    return "TYPE_CHECKING" in (getattr(test, "id", ""), getattr(test, "attr", ""))


def _taken(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """Names that are imported from a module, each with that module, and with what it is if it is a module itself."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                yield from (
                    (alias.asname or alias.name, name) for name in (str(node.module), f"{node.module}.{alias.name}")
                )


def _uses(tree: ast.AST) -> Iterator[str]:
    """Every dotted name that may be a module: what is imported, each name taken from it, and what strings name."""
    modules: dict[str, str] = {}  # by the name that the file knows them under
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules |= {alias.asname: alias.name for alias in node.names if alias.asname}
            modules |= {first: first for first in (alias.name.partition(".")[0] for alias in node.names)}
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and _NAMED.fullmatch(node.value):
            yield node.value.partition(":")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in modules:
            yield f"{modules[node.value.id]}.{node.attr}"
