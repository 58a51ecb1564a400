"""Make a JupyterHub's JupyterLab know the environment that this runs in: as a kernel, and .py files as notebooks.

In a terminal of the hub, with the Python of an environment that has this project's packages::

    .venv/bin/python hub/register.py

It installs jupytext where JupyterLab runs, which in most hubs is another environment, registers the kernel ``pure`` for
this user, and has .py files open as notebooks.
"""

from __future__ import annotations

import argparse
import contextlib
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path

import psutil

KERNEL, TITLE = "pure", "Python 3 (pure)"

SERVERS = {"jupyterhub-singleuser", "jupyterhub.singleuser", "jupyter-labhub", "jupyter-lab", "jupyterlab"}
"""Names of the programs and modules that serve JupyterLab; a terminal in it is a child of one."""


def server_python(commands: Iterable[Sequence[str]]) -> str | None:
    """The interpreter of the JupyterLab among these command lines, or None."""
    for command in commands:
        if any(Path(argument).name in SERVERS for argument in command[1:3]):  # after the interpreter, and -m perhaps
            return command[0]
    return None


def parents() -> Iterator[list[str]]:
    """The command lines of the processes that this one is a child of, the nearest first."""
    for process in psutil.Process().parents():
        with contextlib.suppress(psutil.Error):  # of another user, or gone
            yield process.cmdline()


def missing(python: str, module: str) -> bool:
    """Whether another interpreter does not find a module."""
    code = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({module!r}) is None)"
    return subprocess.run([python, "-c", code], check=False).returncode != 0


def install(python: str, requirement: str) -> None:
    """Install a package for another interpreter, in the user's home where it looks there: an image does not last."""
    code = "import site; print('--user' if site.ENABLE_USER_SITE else '')"
    where = subprocess.run([python, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    subprocess.run([python, "-m", "pip", "install", *where, requirement], check=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """See ``--help``.  Returns the exit code."""
    parser = argparse.ArgumentParser(description="Register this environment with the JupyterLab of a hub.")
    parser.add_argument("--server", metavar="PYTHON", help="what JupyterLab runs in; found by itself in its terminals")
    options = parser.parse_args(arguments)
    server = options.server or server_python(parents())
    if server is None:
        print(
            "hub/register.py: this does not run in a terminal of JupyterLab, so it does not know which one to set up; "
            "open one there (File, New, Terminal), or name JupyterLab's interpreter: --server /path/to/python",
            file=sys.stderr,
        )
        return 2
    try:
        if missing(server, "jupytext"):
            print("==> Installing jupytext where JupyterLab runs", flush=True)
            install(server, f"jupytext=={version('jupytext')}")
        here = [sys.executable, "-m"]
        kernel = ["ipykernel", "install", "--user", "--name", KERNEL, "--display-name", TITLE]
        subprocess.run([*here, *kernel], check=True)
        subprocess.run([*here, "jupytext_config", "set-default-viewer", "python"], check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"hub/register.py: {error}; nothing of it needs root: see what was printed above", file=sys.stderr)
        return 1
    print(
        f"==> Done.  Close the notebooks that are open in the text editor, restart your server (File, Hub Control "
        f"Panel, Stop My Server), open one again, and choose the kernel '{TITLE}' at its upper right"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
