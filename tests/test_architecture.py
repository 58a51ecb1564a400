"""The wings of the package: what each one may import."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
FLOORS = [
    "version",
    "extras",
    "fingerprint",
    "wording",
    "signals",
    "nn",
    "models",
    "data",
    "recipes",
    "execution",
    "records",
    "train",
    "report",
]
"""From below: a wing imports from those before it, and the report may load the runs of a training, not the reverse."""


def imports() -> Iterator[tuple[Path, str, str]]:
    """Every import of the package by itself, within functions too: the file, the module, the name."""
    for path in sorted((ROOT / "pure").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and f"{node.module}.".startswith("pure."):
                yield from ((path.relative_to(ROOT / "pure"), str(node.module), alias.name) for alias in node.names)
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names if alias.name.startswith("pure")]
                yield from ((path.relative_to(ROOT / "pure"), name, "") for name in names)


def test_a_wing_imports_from_those_below_it() -> None:
    for path, module, name in imports():
        if path.name != "__init__.py" or len(path.parts) > 1:  # the face shows what all wings have
            floor, below = path.parts[0].removesuffix(".py"), f"{module}.{name}".split(".")[1]
            assert FLOORS.index(below) <= FLOORS.index(floor), f"{path} imports {name} from {module}"


def test_what_a_module_imports_is_public() -> None:
    for path, module, name in imports():
        assert not name.startswith("_") or name.startswith("__"), f"{path} imports {name} from {module}"


def test_what_the_api_page_lists_is_there() -> None:
    page = (ROOT / "book" / "api.md").read_text()
    listed = re.findall(r"automodule:: (\S+)\n   :members: ([^\n]+(?:\n     +[^\n]+)*)", page)
    assert len(listed) > 20
    for module, members in listed:
        there = dir(importlib.import_module(module))
        assert [name for name in re.split(r",\s*", members) if name not in there] == [], module


def test_the_map_names_every_module_and_no_other() -> None:
    named = re.findall(r"^\| `(pure/[\w/]+\.py)` \|", (ROOT / "ARCHITECTURE.md").read_text(), re.MULTILINE)
    there = [path.relative_to(ROOT).as_posix() for path in (ROOT / "pure").rglob("*.py")]
    assert sorted(named) == sorted(there)
