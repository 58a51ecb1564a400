"""Asking a training to stop: by a signal, as Slurm warns with, by Ctrl-C, or by the clock.

Slurm sends SIGTERM before it kills, and with ``--signal=USR1@300`` SIGUSR1 five minutes before; ``scancel`` and
Kubernetes send SIGTERM too, and a terminal that is closed SIGHUP.  None interrupts a step: the training looks for them
after each one.  An evaluation, which changes nothing and can take longer than the time that is left, is broken off.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from pure.signals import SIGNALS

__all__ = ["EXIT_INTERRUPTED", "EXIT_STOPPED", "StopRequest", "Stopped", "stop_requests"]

EXIT_STOPPED = os.EX_TEMPFAIL if hasattr(os, "EX_TEMPFAIL") else 75
"""Exit code of a training that was stopped and can go on: 75, by convention a failure for the time being."""

EXIT_INTERRUPTED = 130
"""Exit code after Ctrl-C, as of any command that it ends: a loop in a shell then ends too."""


class Stopped(Exception):
    """A training was stopped by a signal or by the clock, where it can go on; the message says what to do.

    Attributes:
        exit_code: of the command.
    """

    def __init__(self, message: str = "stopped", exit_code: int = EXIT_STOPPED) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class StopRequest:
    """Whether the training is to stop; ask by calling it.

    Args:
        max_seconds: from now; None is forever.

    Raises:
        ValueError: they are negative, or no number.
    """

    def __init__(self, max_seconds: float | None = None) -> None:
        if max_seconds is not None and not max_seconds >= 0:  # written so that a NaN is refused
            raise ValueError(f"max_seconds must be 0 or more, got {max_seconds}; leave it out to train to the end")
        self._max_seconds = max_seconds
        self._until = None if max_seconds is None else time.monotonic() + max_seconds
        self.reason: str | None = None
        self.exit_code = EXIT_STOPPED
        self._interruptible = False

    def __call__(self) -> bool:
        """Whether it is."""
        if self.reason is None and self._until is not None and time.monotonic() >= self._until:
            self.reason = f"{self._max_seconds:g} seconds are over"
        return self.reason is not None

    def receive(self, number: int, frame: FrameType | None = None) -> None:
        """Handle a signal.  A second Ctrl-C ends the program at once, as ever."""
        if number == signal.SIGINT:
            if self.exit_code == EXIT_INTERRUPTED:
                raise KeyboardInterrupt
            self.exit_code = EXIT_INTERRUPTED
        self.reason = f"{signal.Signals(number).name} was received"
        if self._interruptible:
            self._interruptible = False  # once: a second signal is not to disturb what is saved then
            raise Stopped

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Within it, a signal breaks off what goes on; so does one that came just before.

        Raises:
            Stopped: then.
        """
        self._interruptible = True
        try:
            if self.reason is not None:
                raise Stopped
            yield
        finally:
            self._interruptible = False


@contextmanager
def stop_requests(max_seconds: float | None = None, signals: bool = True) -> Iterator[StopRequest]:
    """A request that signals and the clock can make; the handlers are as found afterwards.

    What a process ignores from its start, as SIGHUP under ``nohup``, stays ignored.

    Args:
        max_seconds: from now; None is forever.
        signals: whether to listen.  Python hears signals in the main thread only; elsewhere they are not listened to.
    """
    request = StopRequest(max_seconds)
    listen = signals and threading.current_thread() is threading.main_thread()
    found = {number: signal.getsignal(number) for number in SIGNALS} if listen else {}
    found = {number: handler for number, handler in found.items() if handler is not signal.SIG_IGN}
    for number in found:
        signal.signal(number, request.receive)
    if listen and hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)  # those that came while Python was importing come now
    try:
        yield request
    finally:
        for number, handler in found.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
