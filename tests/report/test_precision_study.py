"""The precision study: its error measure, what it asks and decides, its tables; and seeds stacked under vmap."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from pure.report import precision_study

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


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


def test_numbers_are_rounded_to_the_bits_that_a_precision_has() -> None:
    step = 2.0**-10  # between neighbours above one, of tf32 and float16
    values = torch.tensor([1 + 0.4 * step, 1 + 0.5 * step, 1 + 1.5 * step, -1 - 0.6 * step, 1e5], dtype=torch.float64)
    expected = [1.0, 1.0, 1 + 2 * step, -1 - step]  # ties to even
    for precision in ("tf32", "float16"):
        assert precision_study.rounded(values, precision)[:4].tolist() == expected
    assert precision_study.rounded(values, "float16")[4] == float("inf")
    assert precision_study.rounded(values, "tf32")[4] == 99968.0  # neighbours are 64 apart
    assert precision_study.rounded(values, "bfloat16")[0] == 1.0
    assert precision_study.rounded(values, "float32")[1] == values[1]
    with pytest.raises(ValueError, match=r"unknown precision 'half'; expected tf32, float32"):
        precision_study.rounded(values, "half")


# The tables and the figure of the page


def measured(
    accuracies: dict[str, float], step: tuple[float, float, float] = (1.0, 1.0, 1.0), diverged: int = 0, **given: Any
) -> dict[str, dict[str, Any]]:
    """The three entries of one pair, as the study writes them; the step is lower quartile, median, upper quartile."""
    accuracy: dict[str, Any] = {"seeds": accuracies, "diverged": diverged, "sample": None}
    if "difference" in given:
        accuracy["difference"] = dict(zip(("mean", "low", "high"), given["difference"], strict=True))
    logits = {"largest": 0.02, "median": 0.004, "changed": 0.25, "nonfinite": given.get("nonfinite", 0.0)}
    low, median, high = step
    return {"accuracy": accuracy, "logits": logits, "step": {"low": low, "median": median, "high": high, "rounds": 5}}


def a_study(recipe: str = "digits", **models: dict[str, dict[str, dict[str, Any]]]) -> dict[str, Any]:
    """A file of the study from :func:`measured` by model and pair."""
    machine = {"device": "A device", "threads": 1, "cores": 2, "load": None, "torch": "2", "cuda": None}
    turned = {
        model: {
            "epochs": 3,
            **{part: {p: m[part] for p, m in by_pair.items()} for part in ("accuracy", "logits", "step")},
        }
        for model, by_pair in models.items()
    }
    return {"machine": machine, "recipe": recipe, "models": turned}


FLOAT32 = measured({"0": 90.0, "1": 92.0})
GAIN = {"accuracies": {"0": 91.0, "1": 91.0}, "step": (0.5, 0.6, 0.7), "difference": (0.0, -3.0, 3.0)}


def of_a_gpu(**lowered: Any) -> dict[str, Any]:
    """A study in which TF32 and bfloat16 gain for both families, but for what is given of PURe20 in bfloat16."""
    tf32 = measured(**{**GAIN, "step": (0.7, 0.8, 0.9)})
    half = measured(**GAIN)
    ours = measured(**{**GAIN, **lowered})
    return a_study(
        pure20={"float32/float32": FLOAT32, "bfloat16/bfloat16": ours, "tf32/tf32": tf32},
        resnet20={"float32/float32": FLOAT32, "bfloat16/float32": half, "tf32/tf32": tf32},
    )


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"accuracies": {"0": 1.0, "1": 1.0}, "difference": (-2.0, -3.0, -0.1)}, "worse"),
        ({"accuracies": {"0": 1.0, "1": 1.0}, "difference": (2.0, 0.1, 3.0)}, "better"),
        ({"accuracies": {"0": 1.0, "1": 1.0}, "difference": (2.0, -0.1, 3.0)}, "not resolved"),
        ({"accuracies": {"0": 1.0}}, "too few runs"),
        ({"accuracies": {}, "diverged": 2}, "diverges"),
        ({"accuracies": {"0": 1.0, "1": 1.0}, "difference": (2.0, 0.1, 3.0), "diverged": 1}, "diverges"),
    ],
)
def test_accuracy_is_judged_by_the_interval_and_by_divergence(given: Any, words: str) -> None:
    study = a_study(pure20={"float32/float32": FLOAT32, "float16/float16": measured(**given)})
    assert precision_study.results({"s": study})[1].accuracy == words


@pytest.mark.parametrize(
    ("step", "words"),
    [((0.9, 0.95, 0.99), "faster"), ((0.9, 0.95, 1.01), "not resolved"), ((1.01, 1.05, 1.1), "slower")],
)
def test_time_is_judged_by_both_quartiles(step: Any, words: str) -> None:
    study = a_study(pure20={"float32/float32": FLOAT32, "tf32/tf32": measured({"0": 1.0}, step)})
    assert precision_study.results({"s": study})[1].time == words


def test_a_pair_that_gains_for_both_families_is_the_default_and_the_fastest_of_several() -> None:
    found = precision_study.results({"gpu": of_a_gpu()})
    assert precision_study.decision(found, "digits") == ("bfloat16", "bfloat16")
    table = precision_study.decision_table(found)
    # bfloat16 with the units in float32 was measured for the ResNet alone, not for a PURe
    assert table[["Network", "Units", "Taken"]].to_numpy().tolist() == [
        ["bfloat16", "bfloat16", "yes"],
        ["tf32", "tf32", "yes"],
    ]
    assert table["Time"][0] == "PURe20 faster, ResNet20 faster"


@pytest.mark.parametrize(
    "lowered",
    [
        {"step": (0.9, 0.95, 1.1)},
        {"difference": (-2.0, -3.0, -1.0)},
        {"diverged": 1},
        {"nonfinite": 0.1},
    ],
)
def test_one_network_that_does_not_gain_is_enough_to_leave_a_pair(lowered: Any) -> None:
    found = precision_study.results({"gpu": of_a_gpu(**lowered)})
    assert precision_study.decision(found, "digits") == ("tf32", "tf32")


def test_a_default_must_gain_on_every_machine_and_belongs_to_its_recipe() -> None:
    slow = a_study(
        pure20={"float32/float32": FLOAT32, "bfloat16/bfloat16": measured(**{**GAIN, "step": (1.1, 1.2, 1.3)})}
    )
    found = precision_study.results({"cpu": slow, "gpu": of_a_gpu()})
    assert precision_study.decision(found, "digits") == precision_study.REFERENCE
    assert precision_study.decision(found, "cifar10") == precision_study.REFERENCE
    other = precision_study.results({"cpu": {**slow, "recipe": "cifar10"}, "gpu": of_a_gpu()})
    assert precision_study.decision(other, "digits") == ("bfloat16", "bfloat16")


def test_tables_name_what_diverged_and_leave_empty_what_is_not_known() -> None:
    gone = measured({}, (2.0, 2.5, 3.0), diverged=2, nonfinite=1.0)
    gone["logits"] |= {"largest": float("nan"), "median": float("nan")}
    found = precision_study.results(
        {
            "s": a_study(
                pure20={"float32/float32": FLOAT32, "float16/float16": gone, "bfloat16/float32": measured(**GAIN)}
            )
        }
    )
    accuracy = precision_study.accuracy_table(found)
    assert accuracy["Diverged"].tolist() == ["0", "2", "0"]
    assert accuracy["Accuracy (%)"].tolist() == ["91.00 ± 1.41", "none", "91.00 ± 0.00"]
    assert accuracy["Verdict"].tolist() == ["", "diverges", "not resolved"]
    assert accuracy["Difference"].tolist() == ["", "", "+0.00 [-3.00, +3.00]"]
    assert precision_study.logits_table(found)["Largest error"].tolist() == ["2.0e-02", "none", "2.0e-02"]
    assert precision_study.steps_table(found)["Step / float32"].tolist() == ["2.500", "0.600"]
    labels = [text.get_text() for text in precision_study.study_figure(found).axes[0].get_yticklabels()]
    assert labels == ["float32/float32", "float16/float16 (2 diverged)", "bfloat16/float32"]
    plt.close("all")


def test_the_figure_joins_each_seed_over_the_pairs_and_leaves_a_gap_where_it_diverged() -> None:
    half = measured({"1": 85.0}, diverged=1)
    found = precision_study.results({"s": a_study(resnet20={"float32/float32": FLOAT32, "bfloat16/float32": half})})
    left = precision_study.study_figure(found).axes[0]
    courses = [line.get_xdata() for line in left.lines if line.get_marker() == "o"]
    np.testing.assert_array_equal(courses, [[90.0, np.nan], [92.0, 85.0]])
    assert [float(line.get_xdata()[0]) for line in left.lines if line.get_marker() == "|"] == [91.0, 85.0]
    plt.close("all")


def test_files_of_stacked_seeds_are_told_from_studies(tmp_path: Path) -> None:
    stacked = {
        "machine": a_study()["machine"],
        "settings": {"model": "pure20", "seeds": 2, "batch": 4, "pixels": 8, "processes": 2},
        "gradients_differ_by": 1e-5,
        "seeds_per_hour_stacked_over_alone": {"median": 0.9, "low": 0.8, "high": 0.95, "rounds": 3},
        "seeds_per_hour_side_by_side_over_one_process": 1.5,
    }
    (tmp_path / "seeds.json").write_text(json.dumps(stacked))
    (tmp_path / "gpu.json").write_text(json.dumps(of_a_gpu()))
    files = precision_study.read_results(tmp_path)
    assert {result.study for result in precision_study.results(files)} == {"gpu"}
    table = precision_study.seeds_table(files)
    shown = table[["Study", "Stacked", "Verdict", "Side by side"]].to_numpy().tolist()
    assert shown == [["seeds", "0.90 [0.80, 0.95]", "loses", "1.50 by 2"]]
    machines = precision_study.machines_table(files)
    assert machines[["Study", "Trained"]].to_numpy().tolist() == [["gpu", "digits, 3 epochs"], ["seeds", ""]]
