"""Execute one parameterised notebook by papermill: the one-run command that every batch system can call.

::

    python workflow/execute.py notebooks/experiments/train.py run.ipynb -p model resnet20 -p seed 1

Papermill does not read py:percent, so the notebook is converted first.  The executed notebook appears under its name
only when every cell has run; what a failed run got to lies beside it as ``NAME.failed.ipynb``.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jupytext
import nbformat
import papermill
import yaml
from nbclient.exceptions import DeadKernelError
from papermill.exceptions import PapermillExecutionError

ATTEMPTS = 3
"""Kernels that are started at the same time can choose the same port; a second start helps."""

FAILURES = (PapermillExecutionError, RuntimeError)
"""What :func:`execute` raises where a notebook fails: a cell raised, or the kernel did not start or died."""


def execute(
    notebook: Path, output: Path, parameters: Mapping[str, Any], metadata: Mapping[str, Any] | None = None
) -> None:
    """Execute a py:percent notebook from the current directory and put the result at ``output``, all or nothing.

    Args:
        notebook: the py:percent file.
        output: the executed ``.ipynb``.
        parameters: values for its ``parameters`` cell.
        metadata: stored in the executed notebook under ``pure``.

    Raises:
        FileNotFoundError: there is no such notebook.
        PapermillExecutionError: a cell failed.
        RuntimeError: the kernel did not start, or died.
    """
    if not notebook.is_file():
        raise FileNotFoundError(f"no notebook {notebook}; give the path of a py:percent file")
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=".executing-") as folder:
        source, partial = Path(folder, "source.ipynb"), Path(folder, "partial.ipynb")
        nbformat.write(jupytext.read(notebook, fmt="py:percent"), source)
        try:
            _execute_with_retries(source, partial, parameters)
        except FAILURES:
            if partial.exists():
                os.replace(partial, output.with_suffix(".failed.ipynb"))
            raise
        executed = nbformat.read(partial, as_version=4)
        # Papermill notes the paths of this machine; the notebook gets published.
        executed.metadata["papermill"] = {"parameters": dict(parameters)}
        executed.metadata["pure"] = dict(metadata or {})
        nbformat.write(executed, partial)
        os.replace(partial, output)
    output.with_suffix(".failed.ipynb").unlink(missing_ok=True)


def _execute_with_retries(source: Path, partial: Path, parameters: Mapping[str, Any]) -> None:
    for attempt in range(1, ATTEMPTS + 1):
        try:
            papermill.execute_notebook(
                str(source),
                str(partial),
                dict(parameters),
                kernel_name="python3",
                progress_bar=False,
                cwd=os.getcwd(),
                extra_arguments=["--IPKernelApp.log_level=40"],  # errors only: every start would warn of plain TCP
            )
            return
        except DeadKernelError:  # in the middle of the notebook, for want of memory perhaps: it would die again
            raise
        except RuntimeError as error:  # the kernel did not start; a failing cell is a PapermillExecutionError
            if attempt == ATTEMPTS or "ernel" not in str(error):
                raise
            time.sleep(attempt)


def explain(error: Exception) -> str:
    """What failed, in one line."""
    if not isinstance(error, PapermillExecutionError):
        return f"{type(error).__name__}: {error}"
    return f"cell {error.exec_count}: {error.ename}: {error.evalue}"


def main(arguments: Sequence[str] | None = None) -> int:
    """See ``--help``.  Returns the exit code."""
    parser = argparse.ArgumentParser(description="Execute one py:percent notebook by papermill.")
    parser.add_argument("notebook", type=Path, help="the py:percent file")
    parser.add_argument("output", type=Path, help="the executed .ipynb")
    parser.add_argument(
        "-p", "--parameter", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"), help="set a parameter"
    )
    options = parser.parse_args(arguments)
    logging.getLogger("papermill").setLevel(logging.WARNING)
    try:
        parameters = {name: yaml.safe_load(value) for name, value in options.parameter}
        execute(options.notebook, options.output, parameters)
    except FAILURES as error:
        partial = options.output.with_suffix(".failed.ipynb")
        print(f"workflow/execute.py: {explain(error)}\nWhat it got to: {partial}", file=sys.stderr)
        return 1
    except (OSError, yaml.YAMLError) as error:
        print(f"workflow/execute.py: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
