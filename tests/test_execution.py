"""How a training is executed: the defaults, what ``auto`` stands for, and that it rests on what was measured."""

from __future__ import annotations

import json
import shutil
import statistics
from pathlib import Path
from typing import Any

import pytest

from pure import execution
from pure.execution import Execution, get_execution
from pure.recipes import get_recipe

ROOT = Path(__file__).parents[1]


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


def decided(images: int, device: str = "cpu", has_units: bool = True, **settings: Any) -> tuple[Any, Any]:
    found = get_execution(settings).resolved(device, images, has_units)
    return found.channels_last, found.compile


def test_what_is_given_stays() -> None:
    given = Execution(channels_last=False, compile=True)
    assert given.resolved("cpu", 10**6, has_units=True) == given
    assert decided(10, compile=True) == (True, True)


def test_on_a_gpu_auto_is_no_until_it_is_measured() -> None:
    assert decided(10**8, "cuda") == (False, False)


def test_on_a_cpu_long_trainings_of_product_units_are_compiled() -> None:
    assert decided(160 * 45_000) == (True, True)  # CIFAR-10
    assert decided(16 * 1078) == (True, False)  # digits
    assert decided(160 * 45_000, has_units=False) == (True, False)


def test_without_a_compiler_nothing_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execution.shutil, "which", lambda _: None)
    assert decided(160 * 45_000) == (True, False)


def test_the_rule_is_what_was_measured() -> None:
    rows = json.loads((ROOT / "results" / "execution" / "cpu.json").read_text())["rows"]
    ways = ("contiguous", "channels_last", "channels_last compiled")
    for row in rows:
        for family in ("pure", "resnet"):
            plain, last, compiled = (row["seconds"][f"{family}{row['depth']} {way}"] for way in ways)
            ratio = statistics.median(a / b for a, b in zip(last, plain, strict=True))
            assert ratio < 1, (row["workload"], family)
            gain = ratio - statistics.median(a / b for a, b in zip(compiled, plain, strict=True))
            if row["depth"] == 20 and family == "pure":
                saved = gain * statistics.median(plain) / row["batch"]  # seconds an image
                pays_after = 2 * row["start_s"][f"pure20 {ways[2]}"] / saved
                assert pytest.approx(pays_after, rel=0.1) == execution._COMPILED_IMAGES
            if family == "resnet" and row["workload"] == "cifar10":
                assert gain < 0
