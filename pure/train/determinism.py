"""Bitwise repeatability: what it takes besides a seed, what it costs, and where it ends.

One seed fixes initialisation, order, augmentation and noise.  What is left is the order in which numbers are added up.
On a CPU a training repeats bit for bit with the same versions, the same kind of processor and the same number of
threads; :func:`deterministic` then only refuses operations that would not.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

__all__ = ["deterministic"]

_CUBLAS = "CUBLAS_WORKSPACE_CONFIG"


@contextmanager
def deterministic(wanted: bool = True) -> Iterator[None]:
    """Restrict PyTorch to operations that repeat bit for bit; all settings are as found afterwards.

    On CUDA, sums by atomic additions and cuDNN's choice of algorithms by timing differ from run to run; both are
    forbidden here.  A training then repeats on the same GPU model with the same driver, CUDA, cuDNN and PyTorch.  It
    does not on another GPU model, with another number of GPUs, or with another batch per GPU, whose sums are taken in
    another order; and ``torch.compile`` may choose other kernels on another machine.

    cuBLAS reads ``CUBLAS_WORKSPACE_CONFIG`` when it is first used: where a process has used CUDA before, set the
    variable to ``:4096:8`` in the shell.  An operation without a deterministic version raises a RuntimeError that names
    it.  The networks of this package need none of those on PyTorch's list, but that was not tried on a GPU.

    Args:
        wanted: False changes nothing.
    """
    if not wanted:
        yield
        return
    utilities: Any = torch.utils.deterministic
    algorithms = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    cudnn = torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark
    fill = utilities.fill_uninitialized_memory
    workspace = os.environ.get(_CUBLAS)
    try:
        os.environ.setdefault(_CUBLAS, ":4096:8")
        torch.use_deterministic_algorithms(True)
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
        # Memory that nothing has been written to is read nowhere here; to fill it is lost time.
        utilities.fill_uninitialized_memory = False
        yield
    finally:
        torch.use_deterministic_algorithms(algorithms, warn_only=warn_only)
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = cudnn
        utilities.fill_uninitialized_memory = fill
        if workspace is None:
            os.environ.pop(_CUBLAS, None)
