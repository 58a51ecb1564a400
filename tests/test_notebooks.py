"""The notebooks define no networks and can be launched, and their stored copies are theirs.

That they compute what is stored, nbval tests: pytest's settings let it collect ``tests/stored`` itself.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import jupytext
import nbformat
import pytest
from jupytext.config import load_jupytext_config
from nbclient import NotebookClient
from nbformat import NotebookNode, v4
from store_notebooks import ROOT, STORED, TAG, differing, is_chosen, light_notebooks, store, stored_path

NOTEBOOKS = sorted([*(ROOT / "notebooks").rglob("*.py"), *(ROOT / "book").glob("*.py")])


def names(paths: list[Path]) -> list[str]:
    return [path.relative_to(ROOT).as_posix() for path in paths]


def nbval(*notebooks: Path) -> subprocess.CompletedProcess[str]:
    """Run nbval alone, without this project's settings: it compares the cells that carry the tag."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", str(ROOT)]
    options = ["--nbval-lax", "--nbval-current-env", *map(str, notebooks)]
    return subprocess.run([*command, *options], cwd=ROOT, capture_output=True, text=True, timeout=600)


def passed(run: subprocess.CompletedProcess[str]) -> int:
    found = re.search(r"(\d+) passed", run.stdout)
    return int(found[1]) if found else 0


@pytest.fixture(scope="module")
def small_notebook(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stored notebook of two cells; the output of the second is chosen."""
    folder = tmp_path_factory.mktemp("small")
    (folder / "small.py").write_text(f'# %%\nprint("not chosen")\n\n# %% tags=["{TAG}"]\nprint(6 * 7)\n')
    store(folder / "small.py", folder / "small.ipynb")
    return folder / "small.ipynb"


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=names(NOTEBOOKS))
def test_header_names_the_kernel_that_every_hub_has(notebook: Path) -> None:
    assert jupytext.read(notebook, fmt="py:percent").metadata["kernelspec"]["name"] == "python3"


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=names(NOTEBOOKS))
def test_notebooks_define_no_networks(notebook: Path) -> None:
    bases = [
        ast.unparse(base)
        for node in ast.walk(ast.parse(notebook.read_text()))
        if isinstance(node, ast.ClassDef)
        for base in node.bases
    ]
    assert not [base for base in bases if base.rpartition(".")[2] == "Module"], "networks belong into pure/"


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=names(NOTEBOOKS))
def test_no_cell_of_code_scrolls_on_a_page(notebook: Path) -> None:
    cells = [cell for cell in jupytext.read(notebook, fmt="py:percent").cells if cell.cell_type == "code"]
    assert [line for cell in cells for line in cell.source.splitlines() if len(line) > 79] == []


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=names(NOTEBOOKS))
def test_no_line_of_prose_is_longer_than_elsewhere(notebook: Path) -> None:
    """Ruff cannot say so: it does not know the markers of cells, which hold a figure's caption on one line."""
    lines = notebook.read_text().splitlines()
    assert [line for line in lines if len(line) > 120 and not line.startswith("# %%")] == []


PAGES = [path for path in NOTEBOOKS if "experiments" not in path.parts and path.parent.name != "book"]


@pytest.mark.parametrize("notebook", PAGES, ids=names(PAGES))
def test_a_page_begins_with_what_it_takes(notebook: Path) -> None:
    first, *_ = jupytext.read(notebook, fmt="py:percent").cells
    title, *points = [line for line in first.source.splitlines() if line][:4]
    assert re.match(r"# \w", title)
    expected = ["Before this page", "You need", "Running time"]
    assert [re.match(r"- \*\*(.*?):\*\* \w", point.replace("[", ""))[1] for point in points] == expected, (  # type: ignore[index]
        "see 'A notebook' in CONTRIBUTING.md"
    )


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=names(NOTEBOOKS))
def test_figures_and_tables_have_names_that_tell_them_apart(notebook: Path) -> None:
    """``fig-`` with an alternative text, or ``tab-`` with the caption above; each name once in the whole book."""
    for cell in jupytext.read(notebook, fmt="py:percent").cells:
        options = cell.metadata.get("mystnb", {})
        if figure := options.get("figure"):
            assert len(figure["caption"]) > 20, figure
            is_table = figure["name"].startswith("tab-")
            assert is_table or figure["name"].startswith("fig-"), figure
            assert figure.get("caption_before", False) == is_table, figure
            assert is_table or options["image"]["alt"], figure


def test_no_two_figures_have_one_name() -> None:
    named = re.findall(r'"name": "((?:fig|tab)-[^"]*)"', "\n".join(path.read_text() for path in NOTEBOOKS))
    assert sorted(named) == sorted(set(named))


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=names(NOTEBOOKS))
def test_saving_on_a_hub_changes_nothing(notebook: Path) -> None:
    """With what a session adds: the kernel's language, outputs and their numbers, what is scrolled or folded."""
    config = load_jupytext_config(str(notebook))  # as the server does
    document = jupytext.read(notebook, config=config)
    document.metadata["language_info"] = {"name": "python", "version": "3.11.9", "file_extension": ".py"}
    code = next(cell for cell in document.cells if cell.cell_type == "code")
    code.outputs = [v4.new_output("stream", text="shown\n")]
    code.execution_count = 7
    code.metadata |= {"scrolled": True, "collapsed": False, "execution": {"iopub.status.busy": "2026-01-01T00:00"}}
    assert jupytext.writes(document, fmt="py:percent", config=config) == notebook.read_text()


def test_a_training_in_its_own_folder_uses_the_repositorys_and_is_shown_again(tmp_path: Path) -> None:
    """As on a hub: the kernel works where the notebook lies, and somebody runs all cells, twice."""
    (tmp_path / "pure" / "data").mkdir(parents=True)  # what tells a repository
    folder = tmp_path / "notebooks" / "experiments"
    folder.mkdir(parents=True)
    document = jupytext.read(ROOT / "notebooks" / "experiments" / "train.py", fmt="py:percent")
    cells = [cell for cell in document.cells if cell.cell_type == "code"]
    (given,) = (cell for cell in cells if "parameters" in cell.metadata.get("tags", []))
    given.source += "\nepochs = 1\nprogress = False"
    document.cells = [*cells, *(v4.new_code_cell(cell.source) for cell in cells)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))
        patch.delenv("PURE_DATA", raising=False)
        NotebookClient(document, timeout=600, kernel_name="python3", resources={"metadata": {"path": folder}}).execute()
    left = [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()]
    assert "runs/digits/pure20/seed0/record.json" in left
    assert {path.partition("/")[0] for path in left} <= {"runs", "data"}
    shown = [[output.get("text") for output in cell.outputs if "text" in output] for cell in document.cells]
    assert shown[: len(cells)] == shown[len(cells) :]
    assert any("test accuracy" in text for texts in shown for text in texts)


def test_every_light_notebook_is_stored_and_no_other() -> None:
    assert sorted(STORED.glob("*.ipynb")) == [stored_path(notebook) for notebook in light_notebooks()], (
        "run: make store"
    )


@pytest.mark.parametrize("notebook", light_notebooks(), ids=names(light_notebooks()))
def test_stored_copy_has_the_cells_of_the_notebook(notebook: Path) -> None:
    def cells(document: NotebookNode) -> list[tuple[str, str, bool]]:
        return [(cell.cell_type, cell.source, is_chosen(cell)) for cell in document.cells]

    now = cells(jupytext.read(notebook, fmt="py:percent"))
    assert cells(nbformat.read(stored_path(notebook), as_version=4)) == now, "the notebook has changed; run: make store"


@pytest.mark.parametrize("notebook", light_notebooks(), ids=names(light_notebooks()))
def test_stored_copy_holds_the_chosen_outputs_and_no_others(notebook: Path) -> None:
    stored = nbformat.read(stored_path(notebook), as_version=4)
    code = [cell for cell in stored.cells if cell.cell_type == "code"]
    assert any(map(is_chosen, code)), "without a chosen cell nbval compares nothing"
    assert [bool(cell.outputs) for cell in code] == [is_chosen(cell) for cell in code]
    assert stored_path(notebook).stat().st_size < 200_000


def test_this_run_of_pytest_collects_the_stored_notebooks(pytestconfig: pytest.Config) -> None:
    """Without the option pytest would pass over ``tests/stored`` and say nothing."""
    assert pytestconfig.option.nbval_lax, "the settings of pytest in pyproject.toml must hold --nbval-lax"
    assert pytestconfig.option.nbval_current_env, (
        "the settings of pytest in pyproject.toml must hold --nbval-current-env"
    )


def test_nbval_compares_the_chosen_output(small_notebook: Path, tmp_path: Path) -> None:
    run = nbval(small_notebook)
    assert run.returncode == 0, run.stdout
    assert passed(run) == 2

    tampered = nbformat.read(small_notebook, as_version=4)
    assert tampered.cells[1].outputs[0].text == "42\n"
    tampered.cells[1].outputs[0].text = "41\n"
    nbformat.write(tampered, tmp_path / "tampered.ipynb")
    run = nbval(tmp_path / "tampered.ipynb")
    assert run.returncode == 1
    assert "1 failed" in run.stdout


def test_the_comparison_works_without_nbval(small_notebook: Path, tmp_path: Path) -> None:
    """nbval's last release is of 2024: should a new pytest end it, this is what replaces it."""
    source = small_notebook.with_suffix(".py")
    assert differing(source, small_notebook) == []
    tampered = nbformat.read(small_notebook, as_version=4)
    tampered.cells[1].outputs[0].text = "41\n"
    nbformat.write(tampered, tmp_path / "tampered.ipynb")
    assert differing(source, tmp_path / "tampered.ipynb") == [1]


def test_a_failing_cell_fails_even_if_it_is_not_chosen(tmp_path: Path) -> None:
    notebook = v4.new_notebook(cells=[v4.new_code_cell("assert 1 + 1 == 3")])
    nbformat.write(notebook, tmp_path / "failing.ipynb")
    assert nbval(tmp_path / "failing.ipynb").returncode == 1
