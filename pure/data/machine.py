"""What this machine has: processors and memory."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path

__all__ = ["memory", "processors", "require_memory"]


def processors() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory() -> int | None:
    """Bytes of main memory, or what a container is allowed of it; None where the system does not say (Windows)."""
    if not hasattr(os, "sysconf"):
        return None
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        return min(total, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    except (OSError, ValueError):  # no container, or no limit
        return total


def require_memory(number: int, shape: Sequence[int]) -> None:
    """Refuse to read into memory what it cannot hold.

    Args:
        number: of images.
        shape: of each, ``(C, H, W)``, uint8.

    Raises:
        MemoryError: the message gives both sizes.
    """
    needed, there = number * math.prod(shape), memory()
    if there is not None and needed > there:
        raise MemoryError(
            f"{number} images of {shape[-2]} x {shape[-1]} pixels take {needed / 2**30:.1f} GiB, the machine has "
            f"{there / 2**30:.1f} GiB; take a smaller size, or leave them on the disk (size=None)"
        )
