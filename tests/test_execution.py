"""How a training is executed: the defaults, what ``auto`` stands for, and that it rests on what was measured."""

from __future__ import annotations

import shutil
from typing import Any

import pytest

from pure import execution
from pure.execution import Execution, get_execution
from pure.recipes import get_recipe


@pytest.fixture(autouse=True)
def with_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: "/usr/bin/g++")


def test_defaults() -> None:
    assert get_execution().model_dump() == {
        "channels_last": "auto",
        "compile": "auto",
        "cuda_graphs": False,
        "loader": "auto",
        "micro_batches": 1,
        "sync_batchnorm": False,
    }


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"compiled": True}, r"execution has no field 'compiled'; did you mean 'compile'\?"),
        ({"loader": "gpu"}, "execution: loader: "),
        ({"micro_batches": 0}, "execution: micro_batches: "),
        ({"compile": "yes"}, "execution: compile: "),
        ({"compile": 1}, "execution: compile: "),
    ],
)
def test_settings_that_cannot_be_are_refused_by_name(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        get_execution(settings)


def test_a_recipe_says_where_its_former_fields_are() -> None:
    with pytest.raises(ValueError, match=r"no field 'compile'; .* give --execution compile=\.\.\. \(execution="):
        get_recipe("digits", "pure20", compile=True)


def decided(pixels: int, images: int, device: str = "cpu", **settings: Any) -> tuple[Any, Any]:
    found = get_execution(settings).resolved(device, pixels, images)
    return found.channels_last, found.compile


def test_what_is_given_stays() -> None:
    given = Execution(channels_last=False, compile=True)
    assert given.resolved("cpu", 10**6, 10**6) == given
    assert decided(64, 10, compile=True) == (False, True)


def test_on_a_gpu_auto_is_no_until_it_is_measured() -> None:
    assert decided(224**2, 10**8, "cuda") == (False, False)


def test_without_a_compiler_nothing_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execution.shutil, "which", lambda _: None)
    assert decided(32**2, 160 * 45_000) == (True, False)
