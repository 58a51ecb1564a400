"""Execute one parameterised notebook by papermill.

::

    python workflow/execute.py notebooks/experiments/train.py run.ipynb -p model resnet20 -p seed 1

Papermill does not read py:percent, so the notebook is converted first.  The executed notebook appears under its name
only when every cell has run; a failed one is left next to it as ``NAME.failed.ipynb``.  Exit codes: 0, it is
there; 1, it failed; 2, something given is wrong or could not be written; 75, it was stopped and can go on.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import FrameType
from typing import Any

import jupytext
import nbformat
import papermill
import yaml
from jupyter_client.manager import AsyncKernelManager
from jupyter_core.utils import ensure_event_loop
from nbclient.exceptions import DeadKernelError
from papermill.exceptions import PapermillExecutionError

EXIT_FAILED, EXIT_WRONG = 1, 2
EXIT_STOPPED = 75
"""By convention a failure for the time being: ``python -m pure.train`` ends with it too."""

ATTEMPTS = 3
"""Kernels that are started at the same time can choose the same port; a second start helps."""

GRACE = 60.0
"""Seconds that a kernel has to write its checkpoint once it is asked to stop; then it is killed."""

FAILURES = (PapermillExecutionError, RuntimeError)
"""What :func:`execute` raises where a notebook fails: a cell raised, or the kernel did not start or died."""

SIGNALS = [signal.Signals[name] for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1") if hasattr(signal, name)]
"""Ctrl-C, ``kill`` and ``scancel``, a closed terminal, and Slurm's warning."""


class Stopped(Exception):
    """The notebook was asked to stop, and can go on where it was."""


class StopSignals:
    """Passes the first signal on to the kernel, as SIGTERM, and kills the kernel at the second or after ``GRACE``."""

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._kernel: int | None = None
        self._timer: threading.Timer | None = None

    @property
    def reason(self) -> str | None:
        """Why the kernel is to stop, if it is."""
        return f"{self.received.name} was received" if self.received is not None else None

    def receive(self, number: int, frame: FrameType | None = None) -> None:
        """Handle a signal."""
        first = self.received is None
        self.received = self.received or signal.Signals(number)
        self._signal(signal.SIGTERM if first else signal.SIGKILL)

    def watch(self, kernel: int | None) -> None:
        """Take the process that signals go to; one that was received before goes to it now."""
        self._kernel = kernel
        if self._timer is not None:
            self._timer.cancel()
        if self.reason is not None:
            self._signal(signal.SIGTERM)

    def _signal(self, number: signal.Signals) -> None:
        if self._kernel is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._kernel, number)
        if number == signal.SIGTERM:
            self._timer = threading.Timer(GRACE, self._signal, [signal.SIGKILL])
            self._timer.daemon = True
            self._timer.start()


@contextlib.contextmanager
def stop_signals() -> Iterator[StopSignals]:
    """Listen to signals, in the main thread, where Python hears them; the handlers are as found afterwards."""
    stop = StopSignals()
    listen = threading.current_thread() is threading.main_thread()
    found = {number: signal.signal(number, stop.receive) for number in SIGNALS} if listen else {}
    try:
        yield stop
    finally:
        for number, handler in found.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)


def execute(
    notebook: Path,
    output: Path,
    parameters: Mapping[str, Any],
    metadata: Mapping[str, Any] | None = None,
    stop: StopSignals | None = None,
) -> None:
    """Execute a py:percent notebook from the current directory and put the result at ``output``, all or nothing.

    Args:
        notebook: the py:percent file.
        output: the executed ``.ipynb``.
        parameters: values for its ``parameters`` cell.
        metadata: stored in the executed notebook under ``pure``.
        stop: passes signals on to the kernel.

    Raises:
        FileNotFoundError: there is no such notebook.
        PapermillExecutionError: a cell failed.
        RuntimeError: the kernel did not start, or died.
        Stopped: by a signal, or by a training that says so.
    """
    from pure.data.storage.files import write_atomically  # with PyTorch, for which only who executes is to wait

    if not notebook.is_file():
        raise FileNotFoundError(f"no notebook {notebook}; give the path of a py:percent file")
    output.parent.mkdir(parents=True, exist_ok=True)
    stop = stop or StopSignals()
    failed = output.with_suffix(".failed.ipynb")
    with tempfile.TemporaryDirectory(prefix="pure-") as folder:
        source, partial = Path(folder, "source.ipynb"), Path(folder, "partial.ipynb")
        nbformat.write(jupytext.read(notebook, fmt="py:percent"), source)
        try:
            # In a thread: in the main one, nbclient would take the signals and kill the kernel without a checkpoint.
            with ThreadPoolExecutor(1) as thread:
                thread.submit(_in_thread, source, partial, parameters, stop).result()
        except FAILURES as error:
            if stop.reason is not None or getattr(error, "ename", "") == "Stopped":
                raise Stopped("; ".join(filter(None, [stop.reason, getattr(error, "evalue", "")]))) from None
            if partial.exists():
                write_atomically(failed, partial.read_bytes())
            raise
        executed = nbformat.read(partial, as_version=4)
    # Papermill notes the paths of this machine; the notebook gets published.
    executed.metadata["papermill"] = {"parameters": dict(parameters)}
    executed.metadata["pure"] = dict(metadata or {})
    write_atomically(output, nbformat.writes(executed).encode())
    failed.unlink(missing_ok=True)


def _in_thread(source: Path, partial: Path, parameters: Mapping[str, Any], stop: StopSignals) -> None:
    try:
        _execute_with_retries(source, partial, parameters, stop)
    finally:
        ensure_event_loop().close()  # nbclient made one for this thread


def _execute_with_retries(source: Path, partial: Path, parameters: Mapping[str, Any], stop: StopSignals) -> None:
    for attempt in range(1, ATTEMPTS + 1):
        try:
            papermill.execute_notebook(
                str(source),
                str(partial),
                dict(parameters),
                kernel_name="python3",
                progress_bar=False,
                cwd=os.getcwd(),
                kernel_manager_class=_watched_by(stop.watch),
                extra_arguments=["--IPKernelApp.log_level=40"],  # errors only: every start would warn of plain TCP
            )
            return
        except DeadKernelError:  # in the middle of the notebook, for want of memory perhaps: it would die again
            raise
        except RuntimeError as error:  # the kernel did not start; a failing cell is a PapermillExecutionError
            if attempt == ATTEMPTS or stop.reason is not None or "ernel" not in str(error):
                raise
            time.sleep(attempt)
        finally:
            stop.watch(None)


def _watched_by(watch: Callable[[int | None], None]) -> type[AsyncKernelManager]:
    """A manager that tells which process the kernel is: nbclient does not."""

    class Manager(AsyncKernelManager):
        async def start_kernel(self, **options: Any) -> None:
            await super().start_kernel(**options)
            watch(getattr(self.provisioner, "pid", None))

    return Manager


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
        with stop_signals() as stop:
            execute(options.notebook, options.output, parameters, stop=stop)
    except Stopped as stopped:
        print(f"workflow/execute.py: stopped: {stopped}", file=sys.stderr)
        return EXIT_STOPPED
    except FAILURES as error:
        partial = options.output.with_suffix(".failed.ipynb")
        print(f"workflow/execute.py: {explain(error)}\nPartial output: {partial}", file=sys.stderr)
        return EXIT_FAILED
    except (OSError, yaml.YAMLError) as error:
        print(f"workflow/execute.py: {error}", file=sys.stderr)
        return EXIT_WRONG
    return 0


if __name__ == "__main__":
    sys.exit(main())
