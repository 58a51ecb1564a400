"""``torch.hub`` on a clone: in a fresh process, with what a plain installation has and nothing else."""

from __future__ import annotations

import ast
import inspect
import json
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest
import torch
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import pure

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
(DEPENDENCIES,) = (
    ast.literal_eval(node.value)
    for node in ast.parse((ROOT / "hubconf.py").read_text()).body
    if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "dependencies"
)
BELOW_TORCH = ["filelock", "numpy", "pillow", "setuptools"]  # come with torch and torchvision

# what a user types, on a clone; the modules named on the command line cannot be imported
SCRIPT = """
import json, sys
folder, *absent = sys.argv[1:]
sys.modules.update(dict.fromkeys(absent))
import torch
torch.hub.set_dir(folder.rpartition("/")[0])  # where the hub would put the clone; list and help look only there
github = {"github": "pure-networks/pure:main", "skip_validation": True, "trust_repo": True}
names = torch.hub.list(**github)
helps = {name: torch.hub.help(model=name, **github) for name in names}
torch.manual_seed(3)
network = torch.hub.load(folder, "pure20", source="local", num_classes=7, in_channels=2, shortcut="A").eval()
logits = network(torch.linspace(-1, 1, 2 * 2 * 8 * 8).view(2, 2, 8, 8))
try:
    torch.hub.load(folder, "pure21", source="local")
except RuntimeError as error:
    refusal = str(error)
import pure
print(json.dumps([names, helps, logits.tolist(), pure.__file__, refusal]))
"""


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the tracked files: what is not committed is not there, as in a clone."""
    folder = tmp_path_factory.mktemp("hub") / "pure-networks_pure_main"  # as torch.hub names it
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listing.returncode == 0:
        names = listing.stdout.rstrip("\0").split("\0")
    else:  # no checkout: what lies there
        names = ["hubconf.py", *(path.relative_to(ROOT).as_posix() for path in (ROOT / "pure").rglob("*.py"))]
    for name in names:
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def answers(clone: Path) -> list[Any]:
    """What the script prints where nothing that this project asks for is there but what the hub file names."""
    groups = [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()]
    wanted = {canonicalize_name(Requirement(text).name) for group in groups for text in group}
    absent = {
        module
        for module, distributions in packages_distributions().items()
        if {canonicalize_name(name) for name in distributions}
        <= wanted - {*DEPENDENCIES, *BELOW_TORCH, PROJECT["name"]}
    }
    assert {"pydantic", "sklearn"} <= absent
    command = [sys.executable, "-c", SCRIPT, clone.as_posix(), *absent]
    done = subprocess.run(command, cwd=clone.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    loaded: list[Any] = json.loads(done.stdout.splitlines()[-1])
    return loaded


def test_the_hub_lists_every_network_and_nothing_else(answers: list[Any]) -> None:
    assert sorted(answers[0]) == sorted(pure.list_models())


def test_help_is_the_docstring_of_the_entry_function(answers: list[Any]) -> None:
    for name, text in answers[1].items():
        assert text == getattr(pure.models, name).__doc__
        assert len(inspect.cleandoc(text)) > 20, name


def test_load_gives_the_network_that_create_model_gives(answers: list[Any], clone: Path) -> None:
    torch.manual_seed(3)
    network = pure.create_model("pure20", num_classes=7, in_channels=2, shortcut="A").eval()
    expected = network(torch.linspace(-1, 1, 2 * 2 * 8 * 8).view(2, 2, 8, 8))
    torch.testing.assert_close(torch.tensor(answers[2]), expected)
    assert Path(answers[3]) == clone / "pure" / "__init__.py", "the clone's own package was imported"


def test_an_unknown_name_is_refused(answers: list[Any]) -> None:
    assert "pure21" in answers[4]


def test_the_hub_file_asks_for_what_a_plain_installation_has() -> None:
    """torch.hub installs nothing: it looks whether these can be imported, so :data:`answers` shows they are enough."""
    assert set(DEPENDENCIES) <= {Requirement(text).name for text in PROJECT["dependencies"]}
