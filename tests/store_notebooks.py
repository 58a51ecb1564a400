"""Execute the light notebooks and store the outputs that the tests compare: ``make store``.

nbval reads ``.ipynb`` only, and compares with the outputs stored there.  The notebooks are kept as py:percent, which
stores none, so an executed copy of each lies in ``tests/stored``, with the outputs of the cells tagged
``nbval-check-output`` and no others.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

ROOT = Path(__file__).parents[1]
STORED = ROOT / "tests" / "stored"
TAG = "nbval-check-output"


def light_notebooks() -> list[Path]:
    """The notebooks that train nothing: those directly under ``notebooks``."""
    return sorted((ROOT / "notebooks").glob("*.py"))


def is_chosen(cell: NotebookNode) -> bool:
    """Whether the outputs of a cell are stored and compared."""
    return TAG in cell.metadata.get("tags", [])


def stored_path(notebook: Path) -> Path:
    """Where a notebook's executed copy lies."""
    return STORED / f"{notebook.stem}.ipynb"


def store(notebook: Path, target: Path) -> None:
    """Execute a py:percent notebook and write it as ``.ipynb`` with the chosen outputs, and nothing that varies."""
    executed = jupytext.read(notebook, fmt="py:percent")
    NotebookClient(executed, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(ROOT)}}).execute()
    for number, cell in enumerate(executed.cells):
        cell.id = f"cell-{number}"
        if cell.cell_type == "code":
            cell.outputs = cell.outputs if is_chosen(cell) else []
        cell.metadata = {"tags": [TAG]} if is_chosen(cell) else {}
    executed.metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    target.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(executed, target)


def differing(notebook: Path, stored: Path) -> list[int]:
    """Numbers of the cells whose chosen outputs are others than the stored ones, when the notebook is executed now.

    What nbval compares, without nbval: should that end, a test over :func:`light_notebooks` takes its place.
    """
    with tempfile.TemporaryDirectory() as folder:
        store(notebook, Path(folder) / "now.ipynb")
        now = nbformat.read(Path(folder) / "now.ipynb", as_version=4)
    before = nbformat.read(stored, as_version=4)
    pairs = zip(now.cells, before.cells, strict=True)
    return [number for number, (ours, theirs) in enumerate(pairs) if _shown(ours) != _shown(theirs)]


def _shown(cell: NotebookNode) -> list[tuple[str, str]]:
    """Kinds and texts of a cell's outputs."""
    outputs = cell.get("outputs", [])
    return [(each.output_type, each.get("text") or each.get("data", {}).get("text/plain", "")) for each in outputs]


def main() -> None:
    """Store all, and remove what no notebook stands for any more."""
    expected = {stored_path(notebook) for notebook in light_notebooks()}
    for left_over in set(STORED.glob("*.ipynb")) - expected:
        left_over.unlink()
    for notebook in light_notebooks():
        print(f"{notebook.relative_to(ROOT)}: executing ...", flush=True)
        store(notebook, stored_path(notebook))


if __name__ == "__main__":
    sys.exit(main())
