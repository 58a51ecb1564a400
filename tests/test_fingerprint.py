"""What makes a run or a page stale: code that it uses, and no docstring, comment or other module."""

from __future__ import annotations

import ast
import importlib.util
from pathlib import Path

import pytest

from pure.fingerprint import code_fingerprint, modules_used

ROOT = Path(__file__).parents[1]

FILES = {
    "__init__.py": """
        from typing import TYPE_CHECKING
        from pure.nn import units
        if TYPE_CHECKING:
            from pure.train import fit
        def __getattr__(name):
            from pure.train import fit
            return fit
        """,
    "nn/__init__.py": '"""The units."""',
    "nn/units.py": '''
        """A unit."""
        def unit(x):
            """Multiply."""
            return x * 2  # twice
        SIZE = 3
        """How large."""
        ''',
    "train.py": """
        import pure.recipes
        def fit():
            from pure.data import catalogue as known
        """,
    "recipes.py": "",
    "data/__init__.py": "",
    "data/catalogue.py": 'LOADER = "pure.data.digits:load"',
    "data/digits.py": "def load(): return 1",
    "report.py": "from pure import nn",
}


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A package with a module that only a string names, one imported in a function, one taken on first use."""
    for name, text in FILES.items():
        file = tmp_path / "pure" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("\n".join(line.removeprefix(" " * 8) for line in text.splitlines()))
    return tmp_path


UNITS = {"pure", "pure.nn", "pure.nn.units"}
TRAIN = UNITS | {"pure.train", "pure.recipes", "pure.data", "pure.data.catalogue", "pure.data.digits"}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import torch", set()),
        ("import pure", UNITS),
        ("from pure.nn.units import unit", UNITS),
        ("def later():\n    import pure.report as r", UNITS | {"pure.report"}),
        ("import pure\npure.fit()", TRAIN),
        ("import pure as p\np.fit()", TRAIN),
        ("from pure import fit", TRAIN),
        ("from pure import data", UNITS | {"pure.data"}),
        ("from pure.data import catalogue", UNITS | {"pure.data", "pure.data.catalogue", "pure.data.digits"}),
        ("run('python', '-m', 'pure.recipes')", UNITS | {"pure.recipes"}),
        ("'''pure.report'''\nimport pure.nn", UNITS),
    ],
)
def test_modules_are_found_however_they_are_imported(package: Path, source: str, expected: set[str]) -> None:
    assert modules_used(source, package).keys() == expected


@pytest.mark.parametrize(
    ("old", "new", "stale"),
    [
        ("A unit.", "A product unit.", False),
        ("Multiply.", "Multiply by two.", False),
        ("# twice", "# two times", False),
        ("How large.", "Its size.", False),
        ("def unit(x):\n", "def unit(x):\n\n", False),
        ("x * 2", "x * 3", True),
        ("SIZE = 3", "SIZE = 4", True),
        ("SIZE = 3", "SIZE: int = 3", True),
    ],
)
def test_code_counts_and_what_is_said_about_it_does_not(package: Path, old: str, new: str, stale: bool) -> None:
    file = package / "pure" / "nn" / "units.py"
    before = code_fingerprint("import pure", package)
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new))
    assert (code_fingerprint("import pure", package) != before) is stale


def test_only_what_is_used_counts(package: Path) -> None:
    sources = ["import pure", "from pure import fit", "from pure.report import x"]
    before = [code_fingerprint(source, package) for source in sources]
    (package / "pure" / "recipes.py").write_text("LR = 0.1\n")
    after = [code_fingerprint(source, package) for source in sources]
    assert [old != new for old, new in zip(before, after, strict=True)] == [False, True, False]
    assert code_fingerprint("import pure  # the units", package) == after[0]
    assert code_fingerprint("import pure\nprint()", package) != after[0]


def test_a_training_uses_no_report_and_its_notebook_does() -> None:
    training = modules_used("from pure.train import fit")
    assert {"pure.nn.functional", "pure.recipes", "pure.data.sets.digits", "pure.records"} <= training.keys()
    assert not [name for name in training if name.startswith("pure.report")]
    notebook = modules_used((ROOT / "notebooks" / "experiments" / "train.py").read_text())
    assert {"pure.train", "pure.report"} <= notebook.keys()
    first = modules_used((ROOT / "notebooks" / "01-product-unit.py").read_text())
    assert "pure.train" not in first


def test_a_docstring_of_the_report_leaves_every_notebook_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "pure").symlink_to(ROOT / "pure")
    copy = tmp_path / "edited" / "pure"
    for file in (ROOT / "pure").rglob("*.py"):
        target = copy / file.relative_to(ROOT / "pure")
        target.parent.mkdir(parents=True, exist_ok=True)
        text = file.read_text()
        target.write_text(text.replace('"""', '"""Edited. ', 1) if "report" in file.parts else text)
    notebooks = [*(ROOT / "notebooks").rglob("*.py"), *(ROOT / "book").glob("*.py")]
    assert len(notebooks) > 10
    for notebook in notebooks:
        source = notebook.read_text()
        assert code_fingerprint(source, copy.parent) == code_fingerprint(source, tmp_path), notebook.name


def test_a_run_of_the_batch_is_made_of_its_notebook_its_parameters_and_the_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = importlib.util.spec_from_file_location("run_fingerprint", ROOT / "workflow" / "fingerprint.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    notebook = tmp_path / "train.py"
    notebook.write_text("# %% [markdown]\n# Prose.\n\n# %%\nimport pure\n")
    seen = [module.fingerprint(notebook, {"seed": 0}), module.fingerprint(notebook, {"seed": 1})]
    notebook.write_text(notebook.read_text().replace("Prose.", "Better prose."))
    seen.append(module.fingerprint(notebook, {"seed": 0}))
    monkeypatch.setattr(module, "code_fingerprint", lambda source: "another")
    seen.append(module.fingerprint(notebook, {"seed": 0}))
    assert len(set(seen)) == 4


def test_no_import_of_the_package_is_relative() -> None:
    """Those would not be followed."""
    for file in (ROOT / "pure").rglob("*.py"):
        levels = [node.level for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.ImportFrom)]
        assert not any(levels), file
