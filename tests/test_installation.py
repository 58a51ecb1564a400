"""What each extra brings is enough for what it is meant for: tried among nothing but the packages that it names."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import Distribution, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def requirements(name: str, extra: str) -> list[str]:
    """What a distribution requires for an extra; this project as its file says now."""
    if name != PROJECT["name"]:
        return distribution(name).requires or []
    return PROJECT["dependencies"] if not extra else PROJECT["optional-dependencies"][extra]


def needed(name: str, extras: frozenset[str], found: dict[str, frozenset[str]]) -> dict[str, frozenset[str]]:
    """The distributions that an installation brings, by name, with their extras: what they require, and so on."""
    if name in found and extras <= found[name]:
        return found
    found[name] = found.get(name, frozenset()) | extras
    for extra in ("", *extras):
        for requirement in map(Requirement, requirements(name, extra)):
            if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
                needed(canonicalize_name(requirement.name), frozenset(requirement.extras), found)
    return found


def roots(installed: Distribution) -> list[Path]:
    """The files and folders of a distribution in the folder where it is installed; of a folder of several, all."""
    names = {file.parts[0] for file in installed.files or ()} - {"..", "__pycache__"}
    return [Path(str(installed.locate_file(name))) for name in sorted(names) if not name.endswith(".pth")]


@pytest.fixture
def install(tmp_path: Path):
    """Makes a folder with links to what an extra brings, and gives the environment to run Python with it alone."""

    def make(*extras: str) -> dict[str, str]:
        folder = tmp_path / "-".join(["site", *extras])
        folder.mkdir()
        for name in needed(PROJECT["name"], frozenset(extras), {}):
            for source in roots(distribution(name)) if name != PROJECT["name"] else ():
                if not (folder / source.name).exists():
                    (folder / source.name).symlink_to(source)
        (folder / "pure").symlink_to(ROOT / "pure")
        kept = {name: os.environ[name] for name in ("HOME", "PATH", "LANG", "OMP_NUM_THREADS") if name in os.environ}
        return {**kept, "PYTHONPATH": str(folder), "JUPYTER_PATH": str(folder / "none")}

    return make


def run(environment: dict[str, str], where: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Python without the packages of the environment that the tests run in."""
    python = os.path.realpath(sys.executable)
    return subprocess.run([python, "-P", *arguments], env=environment, cwd=where, capture_output=True, text=True)


def test_the_units_and_networks_need_torch_and_torchvision_alone(install, tmp_path: Path) -> None:
    environment = install()
    there = {entry.name for entry in (tmp_path / "site").iterdir()}
    assert {"torch", "torchvision", "numpy"} <= there
    assert not there & {"sklearn", "pydantic", "pandas", "matplotlib", "h5py", "scipy", "tqdm", "torchmetrics"}
    code = "import pure, torch; print(pure.create_model('pure20')(torch.rand(2, 3, 32, 32)).shape)"
    done = run(environment, tmp_path, "-c", code)
    assert done.stdout == "torch.Size([2, 10])\n", done.stderr
    for code in ("import pure; pure.fit", "import pure.data", "import pure.train"):
        done = run(environment, tmp_path, "-c", code)
        assert re.search(r"ModuleNotFoundError: reading data sets.*pip install 'pure-networks\[train\]'", done.stderr)


def test_train_trains(install, tmp_path: Path) -> None:
    arguments = ("--recipe", "digits", "--model", "pure20", "--epochs", "1", "--out", "run")
    done = run(install("train"), tmp_path, "-m", "pure.train", *arguments)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "record.json").is_file()


def test_batch_runs_the_experiment_notebook(install, tmp_path: Path) -> None:
    notebook = ROOT / "notebooks" / "experiments" / "train.py"
    parameters = ["-p", "model", "pure20", "-p", "epochs", "1", "-p", "out", "run", "-p", "progress", "no"]
    script = str(ROOT / "workflow" / "execute.py")
    done = run(install("batch"), tmp_path, script, str(notebook), "run.ipynb", *parameters)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "record.json").is_file()
