"""The files around the code: what is locked, what is stated more than once, what must not be committed."""

from __future__ import annotations

import ast
import importlib
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions, version
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import pure

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
LARGEST = 2 * 2**20  # bytes; anything larger is data and belongs elsewhere
# platforms and interpreters that a lock must serve, as the environment markers see them
LINUX = {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix", "platform_machine": "x86_64"}
MACOS = {"sys_platform": "darwin", "platform_system": "Darwin", "os_name": "posix", "platform_machine": "arm64"}
PYTHONS = ["3.11.0", "3.11.14", "3.12.9", "3.13.2"]
# a home folder, this checkout, the address of a package index or the option that names one; put together from parts, so
# that this file holds none of them itself
ROOTS_HOME = "/" + "root"
INDEXES = [".".join(parts) for parts in (("pypi", "org"), ("pypi", "python", "org"), ("files", "pythonhosted", "org"))]
LEAKS = re.compile(
    rf"(?<![\w.~-])({ROOTS_HOME}|/home/(?!jovyan\b)\w+|/Users/\w+"
    + (rf"|{re.escape(str(ROOT))}" if len(ROOT.parts) > 2 else "")
    + rf")\b|\b({'|'.join(map(re.escape, INDEXES))})\b|--(extra-)?index-url\b|--find-links\b"
)


def locked(environment: dict[str, str] | None = None) -> Iterator[Requirement]:
    """The lines of the lock that are requirements; those that apply in an environment, if one is given."""
    for line in (ROOT / "requirements.lock").read_text().splitlines():
        if text := line.partition("#")[0].strip():
            requirement = Requirement(text)
            if environment is None or requirement.marker is None or requirement.marker.evaluate(environment):
                yield requirement


def pinned_version(requirement: Requirement) -> Version:
    """The one version that a line of the lock allows."""
    (specifier,) = requirement.specifier
    assert specifier.operator == "==", requirement
    assert "*" not in specifier.version, requirement
    return Version(specifier.version)


def tracked_files() -> list[Path]:
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listing.returncode != 0:
        pytest.skip("not a git checkout: nothing says which files are tracked")
    files = [ROOT / name for name in listing.stdout.split("\0") if name]
    return [path for path in files if path.is_file()]


def required(extra: str) -> Iterator[Requirement]:
    """What an extra requires, that of the extras of this project which it names included."""
    for requirement in map(Requirement, EXTRAS[extra]):
        if canonicalize_name(requirement.name) == PROJECT["name"]:
            for other in requirement.extras:
                yield from required(other)
        else:
            yield requirement


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("platform", [LINUX, MACOS], ids=["linux", "macos"])
def test_the_lock_pins_every_dependency_once_within_its_bounds(platform: dict[str, str], python: str) -> None:
    minor = python.rpartition(".")[0]
    environment = {**platform, "python_version": minor, "python_full_version": python, "implementation_name": "cpython"}
    names = [canonicalize_name(requirement.name) for requirement in locked(environment)]
    assert len(names) == len(set(names)), "two versions of one package in the same environment"
    versions = dict(zip(names, map(pinned_version, locked(environment)), strict=True))
    for wanted in [*map(Requirement, PROJECT["dependencies"]), *(each for extra in EXTRAS for each in required(extra))]:
        text = str(wanted)
        version = versions.get(canonicalize_name(wanted.name))
        assert version is not None, f"{text} is not in requirements.lock: run `make lock`"
        assert wanted.specifier.contains(version, prereleases=True), f"{text}, locked is {version}: run `make lock`"


def test_the_lock_names_nothing_but_packages_and_versions() -> None:
    for requirement in locked():
        pinned_version(requirement)
        assert requirement.url is None, requirement
    header = (ROOT / "requirements.lock").read_text().splitlines()[:2]
    assert any("make lock" in line for line in header), "the header says how to renew the lock"


def test_what_runs_is_what_is_locked() -> None:
    import torch
    import torchvision

    versions = {requirement.name: pinned_version(requirement) for requirement in locked()}
    assert Version(Version(torch.__version__).public) == versions["torch"]
    assert Version(Version(torchvision.__version__).public) == versions["torchvision"]


def test_the_lock_for_cpus_leaves_out_what_only_cuda_needs() -> None:
    def lines(name: str) -> dict[str, str]:
        requirements = map(str.strip, (ROOT / name).read_text().splitlines())
        return {canonicalize_name(Requirement(line).name): line for line in requirements if line and line[0] != "#"}

    everything, kept = lines("requirements.lock"), lines("requirements-cpu.lock")
    assert kept.items() <= everything.items()
    left_out = everything.keys() - kept.keys()
    assert left_out == {name for name in everything if re.match(r"(nvidia|cuda)-|triton$", name)}, "run: make lock"
    assert not left_out & {canonicalize_name(each.name) for extra in EXTRAS for each in required(extra)}
    assert "torch" in kept


def imported_packages(path: Path) -> set[str]:
    """The first parts of all names that a file imports, wherever it does."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names.add(node.module.partition(".")[0])
    return names


def test_the_package_declares_what_it_imports() -> None:
    """A plain installation has what units and networks need; extras bring the rest."""
    distributions = packages_distributions()
    base = {canonicalize_name(Requirement(text).name) for text in PROJECT["dependencies"]}
    plain = {"nn", "models", "version", "extras", "fingerprint", "__init__"}
    extra_of = {
        "timm": "timm",
        "peers": "timm",
        "conversions": "timm",
        "sharing": "sharing",
        "interactive": "book",
        **dict.fromkeys(["deblending", "synthetic_galaxies", "sky", "shapes"], "galaxies"),
    }
    files = sorted((ROOT / "pure").rglob("*.py"))
    assert files
    for path in files:
        wing = path.relative_to(ROOT / "pure").parts[0].removesuffix(".py")
        extras = [extra_of[path.stem]] if path.stem in extra_of else []
        extras += [] if wing in plain else ["report" if wing == "report" else "train"]
        declared = base | {canonicalize_name(each.name) for extra in extras for each in required(extra)}
        for name in imported_packages(path) - sys.stdlib_module_names - {"pure", "triton"}:  # PyTorch brings Triton
            assert {canonicalize_name(each) for each in distributions[name]} & declared, f"{path.name} imports {name}"


def test_the_version_is_stated_alike_everywhere() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    changelog = (ROOT / "CHANGELOG.md").read_text()
    assert PROJECT["version"] == pure.__version__
    assert str(citation["version"]) == pure.__version__
    assert pure.__version__ in changelog


def test_the_citation_names_the_software_and_the_paper() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["cff-version"] == "1.2.0"
    assert {"title", "message", "authors", "license"} <= citation.keys()
    assert citation["license"] == PROJECT["license"]
    (paper,) = citation["references"]
    assert [author["family-names"] for author in paper["authors"]] == ["Li", "Jaekel", "Dellen"]
    assert paper["url"] == PROJECT["urls"]["Paper"]
    assert "independent reimplementation" in citation["message"]


def test_the_address_of_the_repository_stands_in_one_place() -> None:
    """It is an assumption until somebody publishes there: what readers type works from the clone."""
    address = PROJECT["urls"]["Repository"].encode()
    holding = [path.relative_to(ROOT).as_posix() for path in tracked_files() if address in path.read_bytes()]
    assert holding == ["pyproject.toml"]
    texts = [path for path in tracked_files() if path.suffix in (".md", ".py", ".yml", ".yaml", ".cff")]
    fetching = re.compile(rb"(git clone|git\+)\s*https?://" + rb"|torch\.hub\.load\(\"[\w-]+/[\w-]+\"")
    assert [
        path.name for path in texts if path != Path(__file__).resolve() and fetching.search(path.read_bytes())
    ] == []


def test_the_environment_refers_to_files_that_exist() -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    dependencies = environment["dependencies"]
    (python,) = (text for text in dependencies if isinstance(text, str) and text.startswith("python="))
    assert Version(python.partition("=")[2]) in Requirement(f"python{PROJECT['requires-python']}").specifier
    (pip,) = (entry["pip"] for entry in dependencies if isinstance(entry, dict))
    options = dict(line.split(maxsplit=1) for line in pip)
    assert options.keys() == {"-r", "-e"}
    assert (ROOT / options["-r"]).is_file()
    assert (ROOT / options["-e"] / "pyproject.toml").is_file()


def test_the_package_in_an_image_does_not_depend_on_the_home() -> None:
    """A hub mounts over it: what environment.yml links there, postBuild copies; tests/test_jupyterhub.py tries it."""
    (command,) = re.findall(r"pip install (.*)", (ROOT / "postBuild").read_text())
    assert "-e" not in command.split()
    assert "--editable" not in command
    assert command.split()[-1] == "."


@pytest.fixture
def register(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "hub"))
    module = importlib.import_module("register")
    monkeypatch.delitem(sys.modules, "register")
    return module


@pytest.mark.parametrize(
    ("command", "found"),
    [
        (["/opt/hub/bin/python3.11", "/opt/hub/bin/jupyterhub-singleuser", "--port=1"], "/opt/hub/bin/python3.11"),
        (["/opt/conda/bin/python", "-m", "jupyterhub.singleuser"], "/opt/conda/bin/python"),
        (["python", "/usr/bin/jupyter-lab"], "python"),
        (["jupyter-lab"], None),  # no interpreter is named
        (["/usr/bin/python3", "-m", "http.server"], None),
        (["bash"], None),
        ([], None),
    ],
)
def test_the_interpreter_of_a_hubs_jupyterlab_is_found(
    command: list[str], found: str | None, register: ModuleType
) -> None:
    assert register.server_python([["bash", "-l"], command]) == found


def test_an_environment_is_registered_with_the_jupyterlab_around_it(
    register: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    called: list[list[str]] = []

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        called.append(command)
        answer = 1 if "find_spec" in command[-1] else 0
        return subprocess.CompletedProcess(command, answer, stdout="--user\n")

    monkeypatch.setattr(register.subprocess, "run", run)
    monkeypatch.setattr(register, "parents", lambda: iter([["bash"], ["/opt/python", "/opt/jupyterhub-singleuser"]]))
    assert register.main([]) == 0
    installs = [command for command in called if "pip" in command]
    assert installs == [["/opt/python", "-m", "pip", "install", "--user", f"jupytext=={version('jupytext')}"]]
    assert called[-2][:5] == [sys.executable, "-m", "ipykernel", "install", "--user"]
    assert called[-2][-4:] == ["--name", "pure", "--display-name", "Python 3 (pure)"]
    assert called[-1] == [sys.executable, "-m", "jupytext_config", "set-default-viewer", "python"]
    assert "restart your server" in capsys.readouterr().out

    monkeypatch.setattr(register, "parents", lambda: iter([["bash"]]))
    called.clear()
    assert register.main([]) == 2
    assert called == []
    assert "name JupyterLab's interpreter: --server /path/to/python" in capsys.readouterr().err


@pytest.mark.parametrize("name", [".ci/run", "postBuild"])
def test_scripts_are_executable_and_parse(name: str) -> None:
    assert (ROOT / name).stat().st_mode & 0o111
    subprocess.run(["bash", "-n", ROOT / name], check=True)


def test_no_tracked_file_is_large() -> None:
    sizes = {path.relative_to(ROOT).as_posix(): path.stat().st_size for path in tracked_files()}
    assert {name: size for name, size in sizes.items() if size > LARGEST} == {}


def test_no_tracked_text_names_a_machine_or_a_package_index() -> None:
    found = []
    for path in tracked_files():
        name = path.relative_to(ROOT).as_posix()
        content = path.read_bytes()
        if path == Path(__file__).resolve() or b"\0" in content:  # below, they are the subject
            continue
        for number, line in enumerate(content.decode().splitlines(), 1):
            if match := LEAKS.search(line):
                found.append(f"{name}:{number}: {match.group()}")
    assert found == []


@pytest.mark.parametrize(
    ("line", "leaks"),
    [
        ("see /home/somebody/run", True),
        (f"'{ROOTS_HOME}/.cache/x'", True),
        ("file:///Users/me/x", True),
        (f"https://{INDEXES[0]}/simple", True),
        ("pip install --extra-index-url https://x", True),
        ("https://arxiv.org/abs/2505.04397", False),
        (f"notebooks{ROOTS_HOME}/x", False),
        ("pip install -r requirements.lock", False),
    ],
)
def test_the_pattern_for_machines_finds_them(line: str, leaks: bool) -> None:
    assert bool(LEAKS.search(line)) is leaks


def make_targets_named_in(path: Path) -> set[str]:
    """What follows `make`, past its variables, in a script or in the code spans and blocks of a page."""
    text = path.read_text()
    if path.suffix == ".md":
        text = "\n".join(re.findall(r"```.*?```|`[^`\n]+`", text, re.DOTALL))
    return set(re.findall(r"(?:^|[`\s])make (?:\w+=\S+ )*([a-z]+)", text))


def test_every_make_target_that_is_mentioned_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {"help", "book", "check", "test", "lint", "lock", "clean"} <= targets
    texts = [ROOT / ".ci/run", ROOT / "CONTRIBUTING.md", ROOT / "README.md", *sorted((ROOT / "book").glob("*.md"))]
    named = {path.name: make_targets_named_in(path) for path in texts if path.is_file()}
    assert named["run"] == {"lint", "book", "test"}
    assert {name: unknown for name, used in named.items() if (unknown := used - targets)} == {}


def test_make_lists_its_targets_and_refuses_an_old_python(tmp_path: Path) -> None:
    """In an empty copy, so that nothing is installed: the refusal comes before anything else happens."""
    # not the options of the make that may be running these tests
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    for name in ("Makefile", "pyproject.toml", "requirements.lock"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    listed = subprocess.run(["make"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True).stdout
    assert re.search(r"^ *make book +\S", listed, re.MULTILINE)
    old = tmp_path / "python"
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo Python 3.10.1\nexit 1\n')
    old.chmod(0o755)
    refused = subprocess.run(
        ["make", f"PYTHON={old}", "lint"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert refused.returncode != 0
    assert "needs Python 3.11 or newer" in refused.stderr
    assert "Python 3.10.1" in refused.stderr
    assert "make PYTHON=" in refused.stderr
    assert not (tmp_path / ".venv").exists()
