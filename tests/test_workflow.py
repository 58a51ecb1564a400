"""Papermill runs and batches of them: what appears under which name, what stops a run, which runs are up to date."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import jupytext
import nbformat
import psutil
import pytest
import yaml
from test_records import make_record

import pure
from pure.records import RECORD_NAME, read_record

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


MODULES = ("fingerprint", "experiments", "execute", "gpus", "run_one", "estimate", "reproduce")


@pytest.fixture(scope="module")
def workflow() -> Iterator[SimpleNamespace]:
    """``workflow/`` is a folder of scripts, no package: they are imported as Python imports them when it runs one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "workflow"))
        yield SimpleNamespace(**{name: importlib.import_module(name) for name in MODULES})
        for name in MODULES:
            del sys.modules[name]


@pytest.fixture
def execute(workflow: SimpleNamespace) -> ModuleType:
    return workflow.execute


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
    assert f"Partial output: {failed}" in error


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
    monkeypatch.setattr(execute, "execute", lambda _, __, parameters, stop: given.append(parameters))
    assert execute.main(["notebook.py", "out.ipynb", "-p", "x", text]) == 0
    assert given == [{"x": value}]
    assert type(given[0]["x"]) is type(value)


# The notebook that trains


def test_the_training_notebook_runs_and_leaves_its_record(execute: ModuleType, tmp_path: Path) -> None:
    parameters = {"model": "pure20", "seed": 4, "epochs": 1, "out": str(tmp_path / "run"), "progress": False}
    execute.execute(TRAIN, tmp_path / "run.ipynb", parameters)
    record = read_record(tmp_path / "run" / RECORD_NAME)
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


# Experiments


def experiments_file(folder: Path, content: Any) -> Path:
    path = folder / "experiments.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return path


GROUP = {"recipe": "digits", "networks": ["pure20", "resnet20"], "seeds": [0, 1]}


def test_a_group_is_every_network_from_every_seed(workflow: SimpleNamespace, tmp_path: Path) -> None:
    group = {**GROUP, "variant": "b", "model_options": {"shortcut": "B"}, "execution": {"channels_last": True}}
    runs = workflow.experiments.read(experiments_file(tmp_path, {"mine": [group]}))["mine"]
    assert [run.id for run in runs] == [
        "digits-pure20-b-seed0",
        "digits-pure20-b-seed1",
        "digits-resnet20-b-seed0",
        "digits-resnet20-b-seed1",
    ]
    assert runs[3].folder(Path("r")) == Path("r/digits/resnet20-b/seed1")
    assert runs[3].output(Path("n")) == Path("n/digits-resnet20-b-seed1.ipynb")
    assert runs[3].execution == {"channels_last": True}
    assert runs[3].parameters == {  # by which it is up to date: how it is executed does not count
        "recipe": "digits",
        "model": "resnet20",
        "seed": 1,
        "overrides": {},
        "data_options": {},
        "model_options": {"shortcut": "B"},
    }


def test_the_experiments_are_those_of_the_paper(workflow: SimpleNamespace) -> None:
    targets = workflow.experiments.read()
    paper = yaml.safe_load((ROOT / "results" / "paper.yaml").read_text())
    recipes = {"standard": "cifar10", "extended": "cifar10-extended", None: "cifar10"}
    rows = {(recipes[row.get("schedule")], row["model"]) for row in paper["table6"]["rows"]}
    assert len(targets["table6"]) == 75
    assert {(run.recipe, run.network) for run in targets["table6"]} == rows
    for table, recipe, seeds in [("table2", "galaxy10", 5), ("table4", "imagenet", 1)]:
        expected = {(recipe, model, seed) for model in paper[table]["rows"] for seed in range(seeds)}
        assert {(run.recipe, run.network, run.seed) for run in targets[table]} == expected
    assert targets["figure5"] == targets["table2"]
    quick = [("galaxy10-quick", model, 0) for model in ("pure18", "resnet18")]
    quick += [("digits", model, seed) for model in ("pure20", "resnet20") for seed in (0, 1, 2)]
    assert [(run.recipe, run.network, run.seed) for run in targets["quick"]] == quick
    assert {"ablations", "campaign", "all"} < targets.keys()


def test_every_recipe_network_and_option_of_the_experiments_exists(workflow: SimpleNamespace) -> None:
    targets = workflow.experiments.read()
    workflow.experiments.check([run for name in targets for run in targets[name] if run.network != "preact_resnet1001"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"recipie": "digits"}, "mine, group 1: unknown field 'recipie'; did you mean 'recipe'?"),
        ({"seeds": 3}, "seeds: input should be a valid list, got 3"),
        ({"seeds": [-1]}, "seeds.0: input should be greater than or equal to 0, got -1"),
        ({"networks": []}, "networks: "),
        ({"device": "gpuu"}, "device: input should be 'cpu' or 'gpu', got 'gpuu'"),
        ({"variant": "A/B"}, "variant: "),
        ({"recipe": "digit"}, "digit pure20 seed 0: unknown recipe 'digit'; did you mean 'digits'?"),
        ({"networks": ["pure21"]}, "unknown model 'pure21'; did you mean"),
        ({"model_options": {"shortcutt": "B"}}, "shortcutt"),
        ({"model_options": {"shortcut": "C"}}, "'C'"),
        ({"data_options": {"split_sed": 1}}, "no option 'split_sed'; did you mean 'split_seed'?"),
        ({"overrides": {"lrr": 1.0}}, "no field 'lrr'; did you mean 'lr'?"),
        ({"overrides": {"lr": -1.0}}, "lr: input should be greater than 0, got -1.0"),
        ({"execution": {"compil": True}}, "no field 'compil'; did you mean 'compile'?"),
    ],
)
def test_what_is_misspelt_is_refused_by_name(
    change: dict[str, Any], message: str, workflow: SimpleNamespace, tmp_path: Path
) -> None:
    path = experiments_file(tmp_path, {"mine": [{**GROUP, **change}]})
    with pytest.raises(ValueError, match=re.escape(message)):
        workflow.experiments.check(workflow.experiments.read(path)["mine"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "expected targets with a list of groups each, got None"),
        ({"mine": {}}, "mine: expected a list of groups, got {}"),
        ({"mine": [1]}, "mine, group 1: "),
        ({"mine": [{"recipe": "digits", "seeds": [0]}]}, "the field 'networks' is missing"),
        (
            {"mine": [GROUP], "other": [{**GROUP, "model_options": {"shortcut": "B"}}]},
            "mine and other both have a run digits-pure20-seed0, with other options; give one a variant",
        ),
    ],
)
def test_what_is_no_experiment_is_refused(
    content: Any, message: str, workflow: SimpleNamespace, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        workflow.experiments.read(experiments_file(tmp_path, content))


def test_an_unknown_run_target_profile_or_setting_is_refused(
    workflow: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert workflow.run_one.main(["digits-pure20-sed0", "--root", "r", "--notebooks", "n"]) == 2
    assert (
        "no run 'digits-pure20-sed0' among the experiments; did you mean 'digits-pure20-seed0'?"
        in capsys.readouterr().err
    )
    assert workflow.reproduce.main(["tabel6"]) == 2
    assert "no target 'tabel6'; did you mean 'table6'?" in capsys.readouterr().err
    assert workflow.reproduce.main(["table6", "--profile", "gpuu"]) == 2
    assert "no profile 'gpuu'; did you mean 'gpu'?" in capsys.readouterr().err
    (tmp_path / "profiles" / "mine").mkdir(parents=True)
    (tmp_path / "profiles" / "mine" / "config.yaml").write_text("config: {device: cpu, rot: r, notebooks: n}")
    monkeypatch.setattr(workflow.reproduce, "HERE", tmp_path)
    assert workflow.reproduce.main(["table6", "--profile", "mine"]) == 2
    assert "unknown field 'rot'; did you mean 'root'?" in capsys.readouterr().err


# One run


class Batch:
    """Two runs whose notebook is not executed: what would be executed is written down."""

    def __init__(self, workflow: SimpleNamespace, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.workflow, self.folder = workflow, folder
        self.root, self.notebooks = folder / "records", folder / "notebooks"
        self.executed: list[str] = []
        self.failing: Exception | None = None
        self.diverged = False
        self.on_execution: Callable[[Any], None] = lambda stop: None
        self.now, self.page = "fingerprint of now", "fingerprint of the page"
        monkeypatch.setattr(workflow.run_one, "execute", self.execute)
        monkeypatch.setattr(workflow.fingerprint, "fingerprint", lambda *_: self.page)
        monkeypatch.setattr(workflow.fingerprint, "training_fingerprint", lambda *_: self.now)

    def execute(
        self, _: Path, output: Path, parameters: dict[str, Any], metadata: dict[str, Any], stop: Any = None
    ) -> None:
        self.executed.append(output.name)
        assert parameters["if_exists"] == "resume"
        self.on_execution(stop)
        if self.failing:
            raise self.failing
        if not (Path(parameters["out"]) / RECORD_NAME).exists():
            record = make_record(seed=parameters["seed"], accuracy=0.75, diverged=self.diverged)
            record.write(Path(parameters["out"]) / RECORD_NAME)
        output.parent.mkdir(exist_ok=True)
        nbformat.write(nbformat.v4.new_notebook(metadata={"pure": metadata}), output)

    def go(self, *arguments: str, seed: int = 0) -> list[str]:
        """Names of the notebooks that were executed."""
        self.executed.clear()
        places = ["--root", str(self.root), "--notebooks", str(self.notebooks)]
        self.code = self.workflow.run_one.main([f"digits-pure20-seed{seed}", *places, *arguments])
        return list(self.executed)

    @property
    def run(self) -> Path:
        return self.root / "digits" / "pure20" / "seed0"


MADE = ["digits-pure20-seed0.ipynb"]


@pytest.fixture
def batch(workflow: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Batch:
    batch = Batch(workflow, tmp_path, monkeypatch)
    assert batch.go() == MADE
    assert batch.code == 0
    return batch


def test_what_is_up_to_date_is_left_alone_and_nothing_stale_stays(batch: Batch) -> None:
    assert batch.go() == []
    assert batch.code == 0
    assert batch.go(seed=1) == ["digits-pure20-seed1.ipynb"]
    assert names(batch.run) == [batch.workflow.experiments.MADE_FROM, RECORD_NAME]
    assert names(batch.run.parent) == ["seed0", "seed1"]


def test_another_fingerprint_trains_again_and_keeps_the_old_record_until_it_has(batch: Batch) -> None:
    batch.now, old = "of another package", (batch.run / RECORD_NAME).read_bytes()
    batch.failing = RuntimeError("Kernel died")
    assert batch.go() == MADE
    assert batch.code == 1
    replaced = batch.run.with_name("seed0.replaced")
    assert (replaced / (RECORD_NAME + ".replaced")).read_bytes() == old
    assert not (batch.run / RECORD_NAME).exists()
    batch.failing = None
    assert batch.go() == MADE
    assert batch.code == 0
    assert names(batch.run.parent) == ["seed0"]
    assert batch.go() == []


def test_another_way_to_show_a_run_executes_its_notebook_again_and_trains_nothing(batch: Batch) -> None:
    batch.page, old = "of another report", (batch.run / RECORD_NAME).stat().st_mtime_ns
    assert batch.go() == MADE
    assert (batch.run / RECORD_NAME).stat().st_mtime_ns == old
    assert batch.go() == []


def test_a_record_that_was_made_otherwise_can_be_kept(batch: Batch) -> None:
    (batch.run / batch.workflow.experiments.MADE_FROM).unlink()
    old = (batch.run / RECORD_NAME).read_bytes()
    assert batch.go("--keep-records") == MADE
    assert (batch.run / RECORD_NAME).read_bytes() == old
    assert batch.go() == []


def remove_record(batch: Batch) -> None:
    (batch.run / RECORD_NAME).unlink()


def break_record(batch: Batch) -> None:
    (batch.run / RECORD_NAME).write_text("{")


def remove_notebook(batch: Batch) -> None:
    (batch.notebooks / MADE[0]).unlink()


def break_notebook(batch: Batch) -> None:
    (batch.notebooks / MADE[0]).write_text("{")


def other_notebook(batch: Batch) -> None:
    content = json.loads((batch.notebooks / MADE[0]).read_text())
    del content["metadata"]["pure"]
    (batch.notebooks / MADE[0]).write_text(json.dumps(content))


@pytest.mark.parametrize("change", [remove_record, remove_notebook, break_notebook, other_notebook])
def test_a_run_that_lost_its_record_or_notebook_runs_again(change: Any, batch: Batch) -> None:
    kept = batch.run / batch.workflow.experiments.MADE_FROM
    before = kept.stat().st_mtime_ns
    change(batch)
    assert batch.go() == MADE
    assert batch.code == 0
    assert kept.stat().st_mtime_ns == before  # it goes on in its folder: a finished training is not repeated
    assert batch.go() == []


def test_only_a_valid_record_is_success(batch: Batch, capsys: pytest.CaptureFixture[str]) -> None:
    break_record(batch)
    assert batch.go() == MADE
    assert batch.code == 1
    assert "holds no valid record of it" in capsys.readouterr().out


def test_how_a_run_ended_is_told_and_reported(batch: Batch, capsys: pytest.CaptureFixture[str]) -> None:
    report = batch.folder / "report.json"
    stopped = batch.workflow.run_one.Stopped
    failed = batch.workflow.execute.PapermillExecutionError(3, 2, "x", "ValueError", "unknown model", [])
    for error, diverged, code, state, text in [
        (None, False, 0, "done", "test accuracy 75.00 %"),
        (None, True, 0, "diverged", "in epoch "),
        (stopped("SIGTERM was received"), False, 75, "stopped", "SIGTERM was received"),
        (failed, False, 1, "failed", "cell 2: ValueError: unknown model"),
        (RuntimeError("Kernel died"), False, 1, "failed", "RuntimeError: Kernel died"),
        (PermissionError(13, "Permission denied", "records"), False, 2, "failed", "may it be written to?"),
    ]:
        (batch.run / RECORD_NAME).unlink(missing_ok=True)
        batch.failing, batch.diverged = error, diverged
        batch.go("--report", str(report))
        told = json.loads(report.read_text())
        assert (batch.code, told["state"]) == (code, state)
        assert text in told["text"]
        assert f"{state}: " in capsys.readouterr().out


def test_a_folder_that_cannot_be_made_is_a_clear_error_of_one_run(
    batch: Batch, capsys: pytest.CaptureFixture[str]
) -> None:
    batch.root = batch.folder / "file"
    batch.root.write_text("")
    assert batch.go() == []
    assert batch.code == 2
    assert str(batch.root) in capsys.readouterr().out


def test_a_run_that_another_process_is_at_is_waited_for(batch: Batch, capsys: pytest.CaptureFixture[str]) -> None:
    run_one = batch.workflow.run_one
    lock = run_one.FileLock(batch.run.with_name(".seed0.lock"), thread_local=False)
    lock.acquire()
    threading.Timer(1.5, lock.release).start()
    assert batch.go() == []
    assert batch.code == 0
    assert "waiting: another process executes this run" in capsys.readouterr().out


def test_only_slurms_warning_queues_a_job_again(batch: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[list[str]] = []

    def scontrol(command: list[str], check: bool) -> subprocess.CompletedProcess[bytes]:
        called.append(command)
        return subprocess.CompletedProcess(command, 1)

    monkeypatch.setattr(batch.workflow.run_one.subprocess, "run", scontrol)
    remove_record(batch)
    for job, arguments, number, calls in [
        (None, ["--requeue"], signal.SIGUSR1, []),
        ("17", [], signal.SIGUSR1, []),
        ("17", ["--requeue"], signal.SIGTERM, []),  # by scancel: somebody wants it gone
        ("17", ["--requeue"], signal.SIGUSR1, [["scontrol", "requeue", "17"]]),
    ]:
        batch.on_execution = lambda stop, number=number: stop.receive(number)
        batch.failing = batch.workflow.run_one.Stopped("asked to")
        monkeypatch.setenv("SLURM_JOB_ID", job) if job else monkeypatch.delenv("SLURM_JOB_ID", raising=False)
        batch.go(*arguments)
        assert (batch.code, called) == (75, calls)


def test_the_fingerprint_follows_parameters_and_notebook(
    workflow: SimpleNamespace, notebook: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workflow.fingerprint, "code_fingerprint", lambda source: "of the package")
    before = workflow.fingerprint.fingerprint(notebook, {"a": 1})
    assert workflow.fingerprint.fingerprint(notebook, {"a": 1}) == before
    assert workflow.fingerprint.fingerprint(notebook, {"a": 2}) != before
    with notebook.open("a") as file:
        file.write("# changed\n")
    changed = workflow.fingerprint.fingerprint(notebook, {"a": 1})
    assert changed != before
    training = workflow.fingerprint.training_fingerprint({"a": 1})
    assert training != workflow.fingerprint.training_fingerprint({"a": 2})
    monkeypatch.setattr(workflow.fingerprint, "code_fingerprint", lambda source: "of another package")
    assert workflow.fingerprint.fingerprint(notebook, {"a": 1}) not in (before, changed)
    assert workflow.fingerprint.training_fingerprint({"a": 1}) != training


# GPUs


def test_each_run_has_a_gpu_of_its_own(
    workflow: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workflow.gpus.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2, 5")
    with workflow.gpus.one_gpu(lambda: False) as first:
        assert first == os.environ["CUDA_VISIBLE_DEVICES"] == "2"
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2, 5")  # as another process has it
        with workflow.gpus.one_gpu(lambda: False) as second:
            assert second == os.environ["CUDA_VISIBLE_DEVICES"] == "5"
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2, 5")
            answers = iter([False, True])
            with workflow.gpus.one_gpu(lambda: next(answers), wait_s=0) as third:
                assert third is None
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(RuntimeError, match="no GPU is visible"), workflow.gpus.one_gpu(lambda: False):
        pass


# A batch, planned


def test_the_plan_lists_every_run_with_time_memory_and_cost(
    workflow: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    assert workflow.reproduce.main(["table6", "--profile", "gpu", "-n"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("[") for line in lines) == 75
    assert re.match(r"\[75/75\] cifar10-preact_resnet1001-seed4 +.* h +19\.8 GB  worked out", lines[74])
    assert lines[75] == "table6: 75 runs, 0 of them up to date"
    assert re.fullmatch(
        r"\d+ h of GPU time, \d+ h with 1 at a time; up to 19.8 GB each; cost .* at 2.5 an hour", lines[76]
    )


def test_a_folder_of_records_that_cannot_be_written_to_is_told_before_anything_starts(
    workflow: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(workflow.reproduce, "STATES", tmp_path / "states")
    root = tmp_path / "file"
    root.write_text("")
    assert workflow.reproduce.main(["quick", "--root", str(root), "--notebooks", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert str(root) in error
    assert "is the folder there, and may it be written to?" in error


def test_after_each_run_it_is_told_how_many_are_left_and_how_long_they_take(
    workflow: SimpleNamespace, tmp_path: Path
) -> None:
    runs = workflow.experiments.read(experiments_file(tmp_path, {"mine": [GROUP]}))["mine"]
    seconds = dict(zip((run.id for run in runs), (50.0, 10.0, 20.0, 60.0), strict=True))
    estimates = {name: workflow.estimate.plans.Estimate(each, 0, "measured") for name, each in seconds.items()}
    batch = workflow.reproduce.Batch("mine", runs, None, estimates, tmp_path, tmp_path, runs)
    told = {runs[0].id: "done"}
    for state, jobs, text in [
        ("training", 1, ""),
        ("done", 1, "; 3 left, 90 s by the plan"),
        ("failed", 2, "; 3 left, 60 s by the plan"),  # as long as the longest
    ]:
        assert workflow.reproduce._left(batch, told, {"state": state}, jobs) == text
    assert workflow.reproduce._left(batch, dict.fromkeys(seconds, "done"), {"state": "done"}, 2) == "; 0 left"


# A batch, disturbed


def start(folder: Path, *options: str) -> subprocess.Popen[str]:
    path = experiments_file(folder, {"tiny": [{**GROUP, "networks": ["pure20"], "overrides": {"epochs": 3}}]})
    command = [sys.executable, "workflow/reproduce.py", "tiny", "--experiments", str(path), *options]
    command += ["--root", str(folder / "records"), "--notebooks", str(folder / "notebooks")]
    with (folder / "log").open("a") as log:
        return subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, text=True)


def test_an_option_that_snakemake_does_not_know_is_refused_by_name(tmp_path: Path) -> None:
    assert start(tmp_path, "--keep-goign-on").wait(600) == 2
    log = (tmp_path / "log").read_text()
    assert "Snakemake started nothing" in log
    assert "unrecognized arguments: --keep-goign-on" in log


def records_in(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob(RECORD_NAME)}


def kill_with_all_it_started(batch: subprocess.Popen[str]) -> None:
    """As a power cut would."""
    processes = [psutil.Process(batch.pid), *psutil.Process(batch.pid).children(recursive=True)]
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    batch.wait()


MOMENTS = int(os.environ.get("PURE_TEST_MOMENTS", "2"))
"""How often a batch is disturbed: ten take minutes."""


def wait_for_moment(number: int, batch: subprocess.Popen[str], folder: Path) -> None:
    """A moment in the training, at a checkpoint, at a record, whose notebook is not there yet, or at the start."""
    begun = time.time()
    told, records = (folder / "log").read_text().count(": training"), len(records_in(folder))
    reached: Callable[[], bool] = [
        lambda: (folder / "log").read_text().count(": training") > told,
        lambda: any(path.stat().st_mtime > begun for path in folder.rglob("checkpoint.pt")),
        lambda: len(records_in(folder)) > records,
        lambda: time.time() > begun + 5,
    ][number % 4]
    while batch.poll() is None:
        with contextlib.suppress(FileNotFoundError):  # a checkpoint goes when the record is there
            if reached():
                break
        time.sleep(0.02)
    time.sleep(random.Random(number).uniform(0, 1) if number > 3 else 0)


def test_a_batch_that_is_stopped_or_killed_loses_no_finished_run_and_repeats_none(tmp_path: Path) -> None:
    finished: dict[Path, bytes] = {}
    for number in range(MOMENTS):
        batch = start(tmp_path)
        wait_for_moment(number, batch, tmp_path)
        if batch.poll() is not None:
            pass  # it had ended, and is to do nothing more
        elif number % 3 == 1:
            kill_with_all_it_started(batch)
        else:
            batch.send_signal(signal.SIGINT)
            assert batch.wait(90) in (
                0,
                75,
                -signal.SIGINT,
            )  # seconds, unless others need the machine; -2: in an import
        found = records_in(tmp_path / "records")
        assert found.items() >= finished.items()
        finished = found
    assert start(tmp_path).wait(600) == 0
    found = records_in(tmp_path / "records")
    assert found.items() >= finished.items()
    assert len(found) == 2
    assert start(tmp_path).wait(600) == 0
    assert records_in(tmp_path / "records") == found
    for path in found:
        seed = int(path.parent.name.removeprefix("seed"))
        undisturbed = pure.fit("digits", "pure20", seed=seed, overrides={"epochs": 3}, device="cpu")
        assert read_record(path).outcome() == undisturbed.outcome()
    left = [path.name for path in tmp_path.rglob(".*")]
    assert sorted(left) == [".made-from", ".made-from"]


def test_two_batches_at_once_share_the_work(tmp_path: Path) -> None:
    batches = [start(tmp_path, "--jobs", "1") for _ in range(2)]
    assert [batch.wait(600) for batch in batches] == [0, 0]
    log = (tmp_path / "log").read_text()
    assert len(records_in(tmp_path / "records")) == 2
    assert log.count(": training") == 2  # each run once
