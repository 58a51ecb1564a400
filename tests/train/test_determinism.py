"""Bitwise repeatability: settings are restored, and a training repeats."""

from __future__ import annotations

import os
from typing import Any

import pytest
import torch

from pure.train.determinism import deterministic


def settings() -> tuple[Any, ...]:
    return (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        torch.backends.cudnn.deterministic,
        torch.backends.cudnn.benchmark,
        torch.utils.deterministic.fill_uninitialized_memory,
        os.environ.get("CUBLAS_WORKSPACE_CONFIG"),
    )


@pytest.mark.parametrize("crashes", [False, True])
def test_settings_hold_inside_and_are_restored(crashes: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    before = settings()
    assert before == (False, False, False, True, True, None)
    try:
        with deterministic():
            assert settings() == (True, False, True, False, False, ":4096:8")
            if crashes:
                raise KeyboardInterrupt
    except KeyboardInterrupt:
        pass
    assert settings() == before


def test_settings_of_the_user_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    with deterministic():
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":16:8"
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":16:8"


def test_not_wanted_nothing_changes() -> None:
    before = settings()
    with deterministic(False):
        assert settings() == before
