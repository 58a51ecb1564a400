"""The study of the first steps: depths, what is measured, what is refused, its table and figure."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest

import pure
from pure.report import stability

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("stability")


@pytest.fixture
def command(script: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Runs the script on digits, in small, into a folder."""

    def run(**options: Any) -> list[stability.Study]:
        given = {
            "recipe": "digits",
            "depths": 8,
            "arms": "plain",
            "seeds": 1,
            "steps": 3,
            "batch-size": 16,
            "out": tmp_path,
            "data": tmp_path / "data",
        } | options
        words = [word for name, value in given.items() for word in (f"--{name}", *str(value).split())]
        monkeypatch.setattr(sys, "argv", ["stability.py", *words])
        script.main()
        return stability.read_studies(tmp_path)

    return run


@pytest.mark.parametrize(
    ("depth", "expected"), [(8, [1, 1, 1]), (20, [3, 3, 3]), (272, [45, 45, 45]), (486, [80, 81, 81]), (10, [1, 1, 2])]
)
def test_a_depth_becomes_blocks_of_two_layers_between_stem_and_classifier(
    script: Any, depth: int, expected: list[int]
) -> None:
    assert script.blocks(depth) == expected
    assert 2 * sum(expected) + 2 == depth


@pytest.mark.parametrize("depth", [6, 21])
def test_other_depths_are_refused(script: Any, depth: int) -> None:
    with pytest.raises(ValueError, match=f"an even depth of 8 or more, got {depth}"):
        script.blocks(depth)


def test_each_arm_changes_what_it_says(script: Any) -> None:
    network = pure.create_model("pure20", **script.network_options("pure", 8, "stabilised"))
    assert any(type(module).__name__ == "StabilisedProductUnit2d" for module in network.modules())
    assert "unit" not in script.network_options("resnet", 8, "stabilised")
    assert script.ARMS["clip"]["overrides"] == {"clip_norm": 1.0}


def test_a_stopped_study_goes_on_and_says_what_was_measured(command: Any) -> None:
    (first,) = command()
    assert first["options"] == {"blocks": [1, 1, 1], "shortcut": "B"}
    (again,) = command(seeds=2)
    assert again["runs"][0] == first["runs"][0]
    assert [run["seed"] for run in again["runs"]] == [0, 1]
    assert again["runs"][0]["loss"] != again["runs"][1]["loss"]
    for run in again["runs"]:
        assert run["diverged"] is None
        assert len(run["loss"]) == len(run["gradient_norm"]) == 3
        assert 1.5 < run["loss"][0] < 4.5  # ten classes, before any step: about ln 10
        assert min(run["gradient_norm"]) > 0


def test_a_warm_up_starts_slowly_and_the_first_loss_is_that_of_the_plain_run(command: Any) -> None:
    plain, warm = command(arms="plain warm-up", steps=8)
    assert warm["arm"] == "warm-up"
    assert warm["runs"][0]["loss"][0] == plain["runs"][0]["loss"][0]
    assert warm["runs"][0]["loss"][1] != plain["runs"][0]["loss"][1]


def test_steps_go_on_over_the_end_of_an_epoch(command: Any) -> None:
    (study,) = command(**{"batch-size": 512, "steps": 4})
    assert len(study["runs"][0]["loss"]) == 4


def test_another_study_is_not_mixed_into_a_file(command: Any) -> None:
    command()
    with pytest.raises(SystemExit, match="of another study: steps differ; choose another folder with --out"):
        command(steps=4)


def study(arm: str, *runs: dict[str, Any], depth: int = 20) -> dict[str, Any]:
    return {"family": "pure", "depth": depth, "arm": arm, "recipe": {}, "steps": 3, "runs": list(runs)}


def course(loss: list[float], norm: list[float], diverged: str | None = None) -> dict[str, Any]:
    found = {"seed": 0, "loss": loss, "gradient_norm": norm, "diverged": diverged}
    return {**found, "machine": {"device": "A processor"}, "commit": "0123456789abcdef"}


def test_the_table_counts_divergences_with_their_interval() -> None:
    runs = [course([2.0, 9.0], [5.0, 70.0], "loss is nan"), course([3.0, 1.0, 0.5], [1.0, 2.0, 4.0])]
    row = stability.stability_table([study("plain", *runs)]).iloc[0]
    assert row["Network"] == "PURe20"
    assert row["Diverged"] == "1 (1% to 99%)"
    assert row["First loss"] == "2.5"
    assert row["Highest loss"] == "6"  # of 9 and 3
    assert row["Loss at the end"] == "1.5"  # of the seed that came to the end
    assert row["Largest gradient norm"] == "37"


def test_the_interval_of_a_share_is_the_exact_one() -> None:
    assert stability.clopper_pearson(0, 5) == pytest.approx((0.0, 1 - 0.025 ** (1 / 5)))
    assert stability.clopper_pearson(5, 5) == pytest.approx((0.025 ** (1 / 5), 1.0))
    assert stability.clopper_pearson(0, 0) == (0.0, 1.0)


def test_the_figure_shows_medians_and_where_a_seed_diverged() -> None:
    runs = [course([2.0, 9.0], [5.0, 70.0], "nan"), course([3.0, 1.0, 0.5], [1.0, 2.0, 4.0])]
    figure = stability.courses_figure(
        [study("plain", *runs), study("clip", runs[1]), study("plain", runs[1], depth=32)]
    )
    loss = figure.axes[0]
    lines = {line.get_label(): line for line in loss.get_lines()}
    np.testing.assert_allclose(np.asarray(lines["plain"].get_ydata(), float), [2.5, 5.0, 0.5])
    crosses = [line for line in loss.get_lines() if line.get_marker() == "x"]
    assert [(float(each.get_xdata()[0]), float(each.get_ydata()[0])) for each in crosses] == [(2.0, 9.0)]
    assert [axes.get_title() for axes in figure.axes[:2]] == ["PURe20", "PURe32"]
    plt.close(figure)


def test_what_is_no_result_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps({"family": "pure"}))
    with pytest.raises(ValueError, match=r"a\.json lacks arm, depth, recipe, runs, steps; expected what benchmarks"):
        stability.read_studies(tmp_path)
    (tmp_path / "a.json").write_text(json.dumps(study("dropout")))
    with pytest.raises(ValueError, match=r"a\.json is of an unknown arm 'dropout'"):
        stability.read_studies(tmp_path)


def test_the_machines_and_commits_are_named() -> None:
    assert stability.machines([study("plain", course([1.0], [1.0]))]) == "A processor; commit 0123456789"
