"""What the machine has, and what is refused for want of it."""

from __future__ import annotations

import pytest

from pure.data import machine


def test_a_set_larger_than_the_memory_is_refused_with_both_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "memory", lambda: 2**30)
    machine.require_memory(256, (1, 2048, 2048))  # exactly a GiB
    with pytest.raises(MemoryError, match=r"257 images of 2048 x 2048 pixels take 1\.0 GiB, the machine has 1\.0 GiB"):
        machine.require_memory(257, (1, 2048, 2048))
    monkeypatch.setattr(machine, "memory", lambda: None)  # unknown: nothing to compare with
    machine.require_memory(257, (1, 2048, 2048))


def test_there_is_a_processor() -> None:
    assert machine.processors() >= 1
