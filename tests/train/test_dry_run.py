"""What is told of a run before it: recipe with sources, data, learning rates, memory, time."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from training import SMALL

from pure import data
from pure.data import ImageSet
from pure.execution import Execution
from pure.models import create_model, registry
from pure.recipes import get_recipe
from pure.report.networks import costs
from pure.train import dry_run as plans
from pure.train import estimate
from pure.train.__main__ import main
from pure.train.distributed import Group
from pure.train.engine import Engine


@pytest.fixture(autouse=True, scope="module")
def small_networks() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name, entry in SMALL.items():
            patch.setitem(registry.REGISTRY, name, entry)
        yield


@pytest.fixture(scope="module")
def text(small_networks: None) -> str:
    return estimate("digits", "pure20", seed=3, overrides={"momentum": 0.5, "selection": "lowest-validation-loss"})


def line(text: str, pattern: str) -> str:
    (found,) = [line for line in text.splitlines() if re.search(pattern, line)]
    return found


def bytes_of(text: str, what: str) -> float:
    value, unit = line(text, rf"B  {what}").split()[:2]
    return float(value) * {"B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9}[unit]


def test_steps_and_sizes(text: str) -> None:
    assert text.splitlines()[0] == "digits pure20 seed 3: 16 epochs of 34 batches, 544 steps"
    assert line(text, "to train") == "  digits: 1,078 images to train, 359 to validate, 360 to test"
    assert line(text, "classes") == "  10 classes; images 1 x 8 x 8, kept on the device"


def test_every_field_of_the_recipe_with_its_source(text: str) -> None:
    assert line(text, "^  lr ") == f"  {'lr':16} {'0.01':24} section 4.3.2"
    assert line(text, "^  momentum ") == f"  {'momentum':16} {'0.5':24} overridden, not as published"
    assert line(text, "^  clip_norm ").endswith("the default")
    fields = set(type(get_recipe("digits", "pure")).model_fields) - {"name", "family"}
    assert {found for found in fields if re.search(rf"^  {found} ", text, re.MULTILINE)} == fields


@pytest.mark.parametrize(
    ("recipe", "model", "expected"),
    [
        ("digits", "pure20", ["0.01 in epochs 1 to 8", "0.001 in epochs 9 to 12", "0.0001 in epochs 13 to 16"]),
        ("galaxy10", "resnet18", ["0.1, times 0.1 after 3 epochs in a row without a lower validation loss"]),
        (
            "cifar10",
            "resnet110",
            [
                "0.01 until the training error of an epoch is below 80 %, then:",
                "0.1 in epochs 1 to 80",
                "0.01 in epochs 81 to 120",
                "0.001 in epochs 121 to 160",
            ],
        ),
    ],
)
def test_learning_rates_in_words(recipe: str, model: str, expected: list[str]) -> None:
    assert plans._schedule_lines(get_recipe(recipe, model)) == expected


def test_memory_is_that_of_the_network(text: str) -> None:
    network = create_model("pure20", 10, 1)
    state = sum(tensor.nbytes for tensor in network.state_dict().values())
    trained = 4 * sum(parameter.numel() for parameter in network.parameters())
    assert bytes_of(text, "weights and statistics") == pytest.approx(state, rel=0.05)
    assert bytes_of(text, "gradients") == bytes_of(text, "momentum") == pytest.approx(trained, rel=0.05)
    assert bytes_of(text, "training images") == pytest.approx(1078 * 64, rel=0.01)
    # two checkpoints: weights, momentum, and the weights of the best epoch
    assert bytes_of(text, "on the disk") == pytest.approx(2 * (2 * state + trained), rel=0.05)


def test_memory_for_the_backward_pass_is_what_the_summary_counts() -> None:
    torch.manual_seed(0)
    network = create_model("pure20", 10, 1)
    expected = costs(network, channels=1, pixels=8).kept_bytes
    engine = Engine(
        network, data.load("digits"), get_recipe("digits", "pure20"), Execution(), 0, Group(0, 1, torch.device("cpu"))
    )
    assert plans.kept_bytes(engine) == pytest.approx(expected, rel=0.05)


def test_memory_of_an_evaluation_is_that_of_its_widest_layer() -> None:
    group = Group(0, 1, torch.device("cpu"))
    network = create_model("pure20", 10, 1)
    engine = Engine(network, data.load("digits"), get_recipe("digits", "pure20"), Execution(), 0, group)
    maps = 2 * 16 * 8 * 8 * 4  # what goes into and out of a layer of the first stage
    assert plans.evaluation_bytes(engine) == (256, 256 * (2 * 8 * 8 * 4 + maps) + 256 * 8 * 8)


def test_times_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of steps and images that take a known time: on a busy machine, those measured take minutes."""
    monkeypatch.setattr(plans, "_seconds", lambda engine: (0.02, 0.001))
    text = estimate("digits", "pure20")
    training, validation, test, together = (
        float(line(text, f"  {what}").split()[0]) for what in ("training:", "validation$", "1 test,", "together$")
    )
    assert together == pytest.approx(training + validation + test, abs=0.2)
    step = float(re.search(r"([\d.]+) ms a step", text)[1])  # type: ignore[index]
    assert step == 20
    assert training == pytest.approx(step * 544 / 1000, rel=0.05)
    assert validation == pytest.approx(0.001 * 359 * 16, abs=0.05)
    assert test == pytest.approx(0.001 * 360, abs=0.05)


def test_times_are_measured(text: str) -> None:
    assert float(re.search(r"([\d.]+) ms a step", text)[1]) > 0  # type: ignore[index]
    assert re.search(r"\d (s|min)  together$", text, re.MULTILINE)


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (0.04, "0.0 s"),
        (99.9, "99.9 s"),
        (100, "2 min"),
        (3599, "1 h 00 min"),
        (7300, "2 h 02 min"),
        (1e6, "277 h 47 min"),
    ],
)
def test_durations(seconds: float, told: str) -> None:
    assert plans._duration(seconds) == told


@pytest.mark.parametrize(
    ("size", "told"), [(999, "999 B"), (1000, "1.0 kB"), (2_540_000_000, "2.5 GB"), (3_200_000_000_000, "3200.0 GB")]
)
def test_sizes(size: int, told: str) -> None:
    assert plans._size(size) == told


def test_the_test_set_is_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    class Refusing(ImageSet):
        def __getitem__(self, index: int) -> Any:
            pytest.fail("the test set was read")

        read = __getitem__

    splits = data.load("digits")
    refusing = dataclasses.replace(splits, test=Refusing(splits.test.images, splits.test.labels))
    monkeypatch.setattr(data, "load", lambda *_, **__: refusing)
    evaluated: list[int] = []
    measure = Engine.measure
    monkeypatch.setattr(Engine, "measure", lambda self, *rest: evaluated.append(len(rest[1])) or measure(self, *rest))
    assert "together" in estimate("digits", "pure4")
    assert evaluated == [256]  # of the training set


def test_command_line_prints_the_plan_and_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--recipe", "digits", "--model", "pure4", "--epochs", "3", "--device", "cpu", "--dry-run"]
    assert main(given) == 0
    assert capsys.readouterr().out.startswith("digits pure4 seed 0: 3 epochs of 34 batches, 102 steps\nRecipe\n")
    assert main([*given, "--out", str(tmp_path / "run")]) == 0
    assert list(tmp_path.iterdir()) == []
    assert main([*given, "--set", "schedule=plateaux"]) == 2
    assert "schedule" in capsys.readouterr().err
