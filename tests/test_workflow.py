"""Papermill runs: what appears under which name, what stops a run, and which runs are up to date."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import jupytext
import nbformat
import pytest
import yaml
from test_records import make_record

from pure.records import RECORD_NAME, load

ROOT = Path(__file__).parents[1]
TRAIN = ROOT / "notebooks" / "experiments" / "train.py"

NOTEBOOK = """\
# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% tags=["parameters"]
a = 1
path = ""

# %%
print(f"a is {a}")

# %%
assert a != 13, "unlucky"
"""


@pytest.fixture(scope="module", autouse=True)
def quiet_kernels() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))
        patch.setenv("OMP_NUM_THREADS", "1")
        yield


@pytest.fixture(scope="module")
def workflow() -> Iterator[tuple[ModuleType, ModuleType]]:
    """``workflow/`` is a folder of scripts, no package: they are imported as Python imports them when it runs one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "workflow"))
        yield importlib.import_module("execute"), importlib.import_module("run")
        for name in ("execute", "run"):
            del sys.modules[name]


@pytest.fixture
def execute(workflow: tuple[ModuleType, ModuleType]) -> ModuleType:
    return workflow[0]


@pytest.fixture
def run(workflow: tuple[ModuleType, ModuleType]) -> ModuleType:
    return workflow[1]


@pytest.fixture
def notebook(tmp_path: Path) -> Path:
    path = tmp_path / "notebook.py"
    path.write_text(NOTEBOOK)
    return path


def output_text(notebook: nbformat.NotebookNode) -> str:
    return "".join(output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", []))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# One notebook


def test_success_appears_under_its_name_without_a_path_of_this_machine(
    execute: ModuleType, notebook: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out" / "done.ipynb"
    output.parent.mkdir()
    (tmp_path / "out" / "done.failed.ipynb").write_text("of an earlier attempt")
    execute.execute(notebook, output, {"a": 5}, {"fingerprint": "abc"})
    assert names(output.parent) == ["done.ipynb"]
    executed = nbformat.read(output, as_version=4)
    assert output_text(executed) == "a is 5\n"
    assert executed.metadata["papermill"] == {"parameters": {"a": 5}}
    assert executed.metadata["pure"] == {"fingerprint": "abc"}
    assert str(tmp_path) not in output.read_text()
    assert str(ROOT) not in output.read_text()


def test_a_failing_cell_leaves_the_notebook_under_another_name(
    execute: ModuleType, notebook: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out" / "done.ipynb"
    assert execute.main([str(notebook), str(output), "-p", "a", "13"]) == 1
    failed = output.with_suffix(".failed.ipynb")
    assert names(output.parent) == [failed.name]
    assert "a is 13\n" in output_text(nbformat.read(failed, as_version=4))
    error = capsys.readouterr().err
    assert "AssertionError: unlucky" in error
    assert f"What it got to: {failed}" in error


def test_a_kernel_that_dies_is_a_failure_and_is_not_tried_again(
    execute: ModuleType, notebook: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    notebook.write_text(
        NOTEBOOK.replace('assert a != 13, "unlucky"', "import os\nprint(open(path, 'a').write('x'))\nos._exit(9)")
    )
    attempts, output = tmp_path / "attempts", tmp_path / "out" / "done.ipynb"
    assert execute.main([str(notebook), str(output), "-p", "path", str(attempts)]) == 1
    assert "DeadKernelError" in capsys.readouterr().err
    assert attempts.read_text() == "x"
    assert not output.exists()


def test_a_kernel_that_does_not_start_is_tried_again(
    execute: ModuleType, notebook: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []

    def start(*_: Any, **__: Any) -> None:
        calls.append(1)
        raise RuntimeError("Kernel died before replying to kernel_info")

    monkeypatch.setattr(execute.papermill, "execute_notebook", start)
    monkeypatch.setattr(execute.time, "sleep", lambda _: None)
    with pytest.raises(RuntimeError, match="kernel_info"):
        execute.execute(notebook, tmp_path / "out" / "done.ipynb", {})
    assert len(calls) == execute.ATTEMPTS == 3
    assert names(tmp_path / "out") == []


def test_no_such_notebook(execute: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert execute.main([str(tmp_path / "none.py"), str(tmp_path / "out.ipynb")]) == 2
    assert "no notebook" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "value"),
    [("3", 3), ("0.5", 0.5), ("true", True), ("resnet20", "resnet20"), ("[1, 2]", [1, 2]), ("1e-3", "1e-3")],
)
def test_types_of_parameters_on_the_command_line(
    text: str, value: Any, execute: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Mapping[str, Any]] = []
    monkeypatch.setattr(execute, "execute", lambda _, __, parameters: given.append(parameters))
    assert execute.main(["notebook.py", "out.ipynb", "-p", "x", text]) == 0
    assert given == [{"x": value}]
    assert type(given[0]["x"]) is type(value)


# The notebook that trains


def test_the_training_notebook_runs_and_leaves_its_record(execute: ModuleType, tmp_path: Path) -> None:
    parameters = {"model": "pure20", "seed": 4, "epochs": 1, "out": str(tmp_path / "run"), "progress": False}
    execute.execute(TRAIN, tmp_path / "run.ipynb", parameters)
    record = load(tmp_path / "run" / RECORD_NAME)
    assert (record.model.name, record.seed, record.recipe.epochs) == ("pure20", 4, 1)
    executed = nbformat.read(tmp_path / "run.ipynb", as_version=4)
    outputs = [output for cell in executed.cells for output in cell.get("outputs", [])]
    assert (
        sum("image/png" in output.get("data", {}) for output in outputs) == 4
    )  # curves, confusion, errors, thresholds
    assert not [output for output in outputs if output.get("name") == "stderr"]  # no warning on the page
    assert f"{100 * record.test.accuracy:.2f}" in str(outputs)


BAD_PARAMETERS = [
    ("sed", "3", "NameError: unknown parameter 'sed'; did you mean 'seed'?"),
    ("seed", "1.5", "TypeError: parameter 'seed' must be of type int, got 1.5 of type float"),
]


@pytest.mark.parametrize(("name", "value", "message"), BAD_PARAMETERS)
def test_bad_parameters_stop_the_training_notebook(
    name: str, value: str, message: str, execute: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["-p", "out", str(tmp_path / "run"), "-p", name, value]
    assert execute.main([str(TRAIN), str(tmp_path / "done.ipynb"), *arguments]) == 1
    assert message in capsys.readouterr().err
    assert names(tmp_path) == ["done.failed.ipynb"]


@pytest.mark.parametrize(("name", "value", "message"), BAD_PARAMETERS)
def test_bad_parameters_stop_it_under_plain_papermill_too(name: str, value: str, message: str, tmp_path: Path) -> None:
    source = tmp_path / "train.ipynb"
    nbformat.write(jupytext.read(TRAIN, fmt="py:percent"), source)
    command = [sys.executable, "-m", "papermill", str(source), str(tmp_path / "done.ipynb"), "-p", name, value]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert message in done.stderr
    assert not (tmp_path / "runs").exists()


# A profile


def profile(folder: Path, content: Any) -> Path:
    path = folder / "profile.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return path


GRID = {"recipe": ["digits"], "model": ["pure20", "resnet20"], "seed": [0, 1]}


def test_a_profile_is_every_combination_of_its_grid(run: ModuleType, notebook: Path, tmp_path: Path) -> None:
    runs = run.read_profile(profile(tmp_path, {"notebook": str(notebook), "grid": GRID}), Path("r"), Path("n"))
    assert [each.title for each in runs] == [
        "digits pure20 seed 0",
        "digits pure20 seed 1",
        "digits resnet20 seed 0",
        "digits resnet20 seed 1",
    ]
    assert runs[3].parameters == {
        "recipe": "digits",
        "model": "resnet20",
        "seed": 1,
        "out": "r/digits/resnet20/seed1",
        "overwrite": True,
        "resume": True,
        "progress": False,
    }
    assert runs[3].folder == Path("r/digits/resnet20/seed1")
    assert runs[3].output == Path("n/digits-resnet20-seed1.ipynb")


def test_the_quick_profile_is_what_the_default_build_promises(run: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    runs = run.read_profile(Path("workflow/quick.yaml"), Path("r"), Path("n"))
    promised = [("galaxy10-quick", model, 0) for model in ("pure18", "resnet18")]
    promised += [("digits", model, seed) for model in ("pure20", "resnet20") for seed in (0, 1, 2)]
    assert [tuple(each.parameters[name] for name in ("recipe", "model", "seed")) for each in runs] == promised
    assert {each.notebook for each in runs} == {Path("notebooks/experiments/train.py")}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "expected the fields notebook and grid"),
        ("[1, 2]", "expected the fields notebook and grid"),
        ({"notebook": "x"}, "expected the fields notebook and grid"),
        ({"notebook": "x", "grid": GRID, "more": 1}, "expected the fields notebook and grid"),
        ({"notebook": "x", "grid": [1]}, "with recipe, model and seed in the grid"),
        ({"notebook": "x", "grid": {"recipe": ["digits"]}}, "with recipe, model and seed in the grid"),
        (
            {"notebook": "x", "grid": {**GRID, "model": "pure20"}},
            "model must be a list, for example [pure20], got 'pure20'",
        ),
        ({"notebook": "x", "grid": {**GRID, "seed": 3}}, "seed must be a list, for example [3], got 3"),
        ({"notebook": "x", "grid": {**GRID, "seed": []}}, "seed must be a list"),
        ({"notebook": "x", "grid": GRID}, "no notebook x"),
        ("{", "while parsing"),
    ],
)
def test_what_is_no_profile_is_refused(
    content: Any, message: str, run: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = profile(tmp_path, content)
    assert run.main([str(path), "--out", str(tmp_path / "r"), "--notebooks", str(tmp_path / "n")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("workflow/run.py: ")
    assert message in error
    assert names(tmp_path) == ["profile.yaml"]


def test_no_such_profile(run: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run.main([str(tmp_path / "none.yaml"), "--out", "r", "--notebooks", "n"]) == 2
    assert "none.yaml" in capsys.readouterr().err


# What is up to date


class Batch:
    """A profile whose notebook is not executed: what would be executed is written down."""

    def __init__(self, run: ModuleType, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.run, self.folder = run, folder
        self.notebook = folder / "notebook.py"
        self.notebook.write_text(NOTEBOOK)
        self.package = folder / "package"
        (self.package / "data").mkdir(parents=True)
        (self.package / "__init__.py").write_text("")
        (self.package / "data" / "deep.py").write_text("x = 1\n")
        self.profile = profile(folder, {"notebook": str(self.notebook), "grid": {**GRID, "model": ["pure20"]}})
        self.executed: list[str] = []
        self.failing: Exception | None = None
        self.diverged = False
        monkeypatch.setattr(run.pure, "__file__", str(self.package / "__init__.py"))
        monkeypatch.setattr(run, "execute", self.execute)

    def execute(self, _: Path, output: Path, parameters: dict[str, Any], metadata: dict[str, Any]) -> None:
        self.executed.append(output.name)
        if self.failing and parameters["seed"] == 0:
            raise self.failing
        record = make_record(seed=parameters["seed"], accuracy=0.75, diverged=self.diverged)
        record.write(Path(parameters["out"]) / RECORD_NAME)
        output.parent.mkdir(exist_ok=True)
        nbformat.write(nbformat.v4.new_notebook(metadata={"pure": metadata}), output)

    def go(self, *arguments: str) -> list[str]:
        """Names of the notebooks that were executed."""
        self.executed.clear()
        places = ["--out", str(self.folder / "records"), "--notebooks", str(self.folder / "notebooks")]
        self.code = self.run.main([str(self.profile), *places, *arguments])
        return list(self.executed)


BOTH = ["digits-pure20-seed0.ipynb", "digits-pure20-seed1.ipynb"]


@pytest.fixture
def batch(run: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Batch:
    batch = Batch(run, tmp_path, monkeypatch)
    assert batch.go() == BOTH
    assert batch.code == 0
    return batch


def test_what_is_up_to_date_is_left_out_unless_forced(batch: Batch, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert batch.go() == []
    assert batch.code == 0
    assert capsys.readouterr().out == "[1/2] digits pure20 seed 0: up to date\n[2/2] digits pure20 seed 1: up to date\n"
    assert batch.go("--force") == BOTH
    assert "[1/2] digits pure20 seed 0: 0 s, test accuracy 75.00 %\n" in capsys.readouterr().out


def test_a_run_that_diverged_is_told_and_is_no_failure(batch: Batch, capsys: pytest.CaptureFixture[str]) -> None:
    batch.diverged = True
    assert batch.go("--force") == BOTH
    assert batch.code == 0
    assert "[1/2] digits pure20 seed 0: 0 s, diverged in epoch " in capsys.readouterr().out


@pytest.mark.parametrize("changed", ["notebook.py", "package/__init__.py", "package/data/deep.py", "package/new.py"])
def test_a_changed_notebook_or_package_runs_everything_again(changed: str, batch: Batch) -> None:
    with (batch.folder / changed).open("a") as file:
        file.write("# changed\n")
    assert batch.go() == BOTH
    assert batch.go() == []


def test_another_root_is_another_parameter(batch: Batch) -> None:
    (batch.folder / "records").rename(batch.folder / "elsewhere")
    places = ["--out", str(batch.folder / "elsewhere"), "--notebooks", str(batch.folder / "notebooks")]
    batch.executed.clear()
    assert batch.run.main([str(batch.profile), *places]) == 0
    assert batch.executed == BOTH  # the records are there, but the notebooks name another folder


def remove_record(folder: Path) -> None:
    (folder / "records" / "digits" / "pure20" / "seed1" / RECORD_NAME).unlink()


def break_record(folder: Path) -> None:
    (folder / "records" / "digits" / "pure20" / "seed1" / RECORD_NAME).write_text("{")


def remove_notebook(folder: Path) -> None:
    (folder / "notebooks" / BOTH[1]).unlink()


def break_notebook(folder: Path) -> None:
    (folder / "notebooks" / BOTH[1]).write_text("{")


def other_notebook(folder: Path) -> None:
    content = json.loads((folder / "notebooks" / BOTH[1]).read_text())
    del content["metadata"]["pure"]
    (folder / "notebooks" / BOTH[1]).write_text(json.dumps(content))


@pytest.mark.parametrize("change", [remove_record, break_record, remove_notebook, break_notebook, other_notebook])
def test_a_run_that_lost_its_record_or_notebook_runs_again_alone(change: Any, batch: Batch) -> None:
    change(batch.folder)
    assert batch.go() == BOTH[1:]
    assert batch.go() == []


def test_a_run_that_fails_does_not_stop_the_others(batch: Batch, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    for error, text in [
        (RuntimeError("Kernel died"), "RuntimeError: Kernel died"),
        (
            batch.run.FAILURES[0](3, 2, "x", "ValueError", "unknown model", []),
            "cell 2: ValueError: unknown model",
        ),
    ]:
        batch.failing = error
        assert batch.go("--force") == BOTH
        assert batch.code == 1
        output = capsys.readouterr()
        assert f"failed\n  {text}\n  what it got to: " in output.out
        assert "[2/2] digits pure20 seed 1: 0 s, test accuracy" in output.out
        assert "1 of 2 runs failed" in output.err
