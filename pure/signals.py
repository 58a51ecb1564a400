"""The signals that ask a program to stop; imports nothing, since a command holds them back before it starts."""

from __future__ import annotations

import signal

__all__ = ["SIGNALS", "ignore_signals"]

SIGNALS = [signal.Signals[name] for name in ("SIGTERM", "SIGUSR1", "SIGHUP", "SIGINT") if hasattr(signal, name)]


def ignore_signals(*_: object) -> None:
    """Leave stopping to the main process: what a worker process does first.

    Slurm and a terminal signal all processes of a group, and a worker that died would take the training with it.
    """
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
