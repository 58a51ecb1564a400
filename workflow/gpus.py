"""One GPU for each run: whoever holds a GPU's lock file has it, so two runs, or two batches, never share one."""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from filelock import FileLock, Timeout

VARIABLE = "CUDA_VISIBLE_DEVICES"


def visible() -> list[str]:
    """The GPUs of this machine that this process may use, as ``CUDA_VISIBLE_DEVICES`` names them."""
    named = os.environ.get(VARIABLE)
    if named is not None:
        return [name.strip() for name in named.split(",") if name.strip()]
    import torch  # takes seconds

    return [str(index) for index in range(torch.cuda.device_count())]


@contextlib.contextmanager
def one_gpu(is_stopped: Callable[[], bool], wait_s: float = 1.0) -> Iterator[str | None]:
    """Wait for a free GPU and make it the only visible one; None if stopped while it waited.

    Raises:
        RuntimeError: there is no GPU.
    """
    names = visible()
    if not names:
        raise RuntimeError(f"no GPU is visible here; set {VARIABLE}, or choose a profile or --device for a CPU")
    while not is_stopped():
        for name in names:
            with contextlib.ExitStack() as stack:
                try:
                    stack.enter_context(FileLock(_lock_file(name), timeout=0))
                except Timeout:
                    continue
                found = os.environ.get(VARIABLE)
                os.environ[VARIABLE] = name  # for the kernel, which inherits it
                try:
                    yield name
                finally:
                    os.environ.pop(VARIABLE) if found is None else os.environ.update({VARIABLE: found})
                return
        time.sleep(wait_s)
    yield None


def _lock_file(name: str) -> Path:
    # Not in a run's folder: a GPU belongs to the machine, whatever the folder of the records.
    return Path(tempfile.gettempdir(), f"pure-gpu-{name}.lock")
