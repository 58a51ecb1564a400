"""The precision study's error measure, its choice of precisions, and seeds stacked under vmap."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
import torch

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def study(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("precision")


@pytest.fixture
def seeds(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("seeds")


def test_errors_are_relative_to_an_images_largest_logit_and_leave_out_what_is_not_finite(study: Any) -> None:
    exact = torch.tensor([[4.0, 0.0], [0.0, 2.0], [1.0, 0.0], [1.0, 0.0]], dtype=torch.float64)
    logits = torch.tensor([[4.0, 1.0], [3.0, 2.0], [1.0, 0.0], [float("inf"), 0.0]])
    assert study.compare(exact, logits) == {"largest": 1.5, "median": 0.25, "changed": 0.25, "nonfinite": 0.25}


def test_the_units_precision_is_asked_only_of_networks_with_units_and_float16_only_of_gpus(study: Any) -> None:
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    assert study.pairs("resnet20", cpu) == [("float32", "float32"), ("bfloat16", "float32")]
    assert study.pairs("pure20", cpu) == [study.REFERENCE, *study.LOWERED]
    assert study.pairs("resnet20", cuda)[2:] == [("tf32", "tf32"), ("float16", "float32")]
    assert ("float16", "float16") in study.pairs("pure20", cuda)


def test_stacked_seeds_have_the_gradients_of_each_alone(seeds: Any) -> None:
    made = seeds.networks("pure20", 2, "cpu")
    images, labels = seeds.batches(2, 4, 8, "cpu")
    step, parameters = seeds.stacked(made, images, labels)
    step()
    seeds.one_after_another(made, images, labels)()
    assert seeds.largest_difference(made, parameters) < 1e-4
    parameters["fc.weight"].grad[1] += 1.0
    assert seeds.largest_difference(made, parameters) > 0.1
