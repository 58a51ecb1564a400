"""Thresholds from records: which runs count, what a choice is worth, where theta goes by decay alone."""

from __future__ import annotations

import math
from collections.abc import Iterator

import matplotlib.pyplot as plt
import pytest
import torch
from test_records import make_record

from pure.records import RunRecord
from pure.report import thresholds


@pytest.fixture(autouse=True)
def close_figures() -> Iterator[None]:
    yield
    plt.close("all")


def runs(*accuracies: float, **more: object) -> list[RunRecord]:
    return [make_record("pure20", seed, accuracy, **more) for seed, accuracy in enumerate(accuracies)]  # type: ignore[arg-type]


OTHERS = {
    "exp": {"options": {"threshold": "exp"}},
    "fixed at 2": {"options": {"threshold": 2.0}},
    "softplus, per channel": {"options": {"granularity": "channel"}},
    "softplus, theta from -2": {"options": {"theta_init": -2.0}},
    "softplus, theta without decay": {"overrides": {"decay_theta": False}},
}


def test_choices_are_told_apart_and_the_papers_comes_first() -> None:
    records = [run for more in OTHERS.values() for run in runs(0.9, **more)] + runs(0.9, 0.8)
    found = thresholds.choices(records)
    assert list(found) == ["softplus", *OTHERS]
    assert [run.seed for run in found["softplus"]] == [0, 1]


def test_runs_that_differ_in_something_else_are_no_choice_of_a_threshold() -> None:
    records = [
        *runs(0.9, options={"shortcut": "A"}),
        *runs(0.9, overrides={"lr": 0.1}),
        make_record("resnet20", 0, 0.9),
    ]
    assert thresholds.choices(records) == {}
    with pytest.raises(ValueError, match=r"one network and one recipe, got .*pure20.*pure32"):
        thresholds.choices([*runs(0.9), make_record("pure32", 0, 0.9)])


def test_a_choice_is_compared_by_seed_and_what_diverged_is_counted() -> None:
    lost = make_record("pure20", 2, diverged=True, options={"threshold": "exp"})
    found = thresholds.choices([*runs(0.90, 0.94, 0.99), *runs(0.92, 0.95, options={"threshold": "exp"}), lost])
    first, second = thresholds.choices_table(found).to_dict("records")
    assert (first["Threshold"], first["Difference (points)"], first["Diverged"]) == ("softplus", "", "0")
    assert first["Test accuracy (%)"] == "94.33 ± 4.51"
    # of seeds 0 and 1 alone: differences of 2 and 1 points
    assert (second["Difference (points)"], second["Runs"], second["Diverged"]) == ("+1.50", "3", "1")
    assert second["95 % interval"] == "-4.85 to +7.85"  # 1.5 +- 12.706 x 0.5
    assert second["Epochs to 90 %"] == "never"  # the records stop at 50 % of the training images


def test_one_seed_has_no_interval() -> None:
    assert thresholds.difference_to(runs(0.9, 0.8), runs(0.7)) is None


def test_courses_follow_each_unit_and_average_channels() -> None:
    table = thresholds.courses(runs(0.9, 0.8))
    assert table["threshold"].tolist() == [0.5, 1.5, 0.5, 1.5]
    assert table["epoch"].tolist() == [1, 2, 1, 2]
    assert (table["clamped"] == 0.75).all()
    assert table[["low", "high"]].iloc[1].tolist() == [-2.0, 3.0]


def test_the_state_is_that_of_the_last_epoch_beside_the_normal_law() -> None:
    (row,) = thresholds.state_table(thresholds.choices(runs(0.9, 0.8))).to_dict("records")
    assert (row["Median"], row["On it (%)"], row["Largest exponent"]) == ("1.5", "75 (75 to 75)", "3.0")
    assert row["Normal law (%)"] == "93"  # Phi(1.5) = 0.9332


def test_figures_draw_every_choice_and_every_unit() -> None:
    found = thresholds.choices([*runs(0.9, 0.8), *runs(0.7, 0.75, options={"threshold": "exp"})])
    left, right = thresholds.choices_figure(found).axes
    assert [text.get_text() for text in left.get_yticklabels()] == ["softplus", "exp"]
    marks = [line.get_xdata()[0] for line in right.lines if len(line.get_xdata()) == 1]  # type: ignore[arg-type,index]
    assert marks == [pytest.approx(-12.5)]
    movement = thresholds.movement_figure(found["softplus"])
    assert [list(axes.lines[0].get_ydata()) for axes in movement.axes] == [[0.5, 1.5], [75.0, 75.0]]  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no product unit was observed"):
        thresholds.movement_figure([])


def test_decay_alone_is_what_sgd_does_without_a_gradient() -> None:
    theta = torch.ones(1, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.SGD([theta], lr=0.1, momentum=0.9, weight_decay=0.01)
    for rate in (0.1, 0.01):
        optimizer.param_groups[0]["lr"] = rate
        for _ in range(30):
            theta.grad = torch.zeros_like(theta)
            optimizer.step()
    assert thresholds.theta_left((0.1, 0.01), 30, 0.01) == pytest.approx(theta.item(), rel=1e-12)
    # without momentum, a factor in each step
    assert thresholds.theta_left((0.1,), 50, 0.1, momentum=0) == pytest.approx(0.99**50)
    assert math.isclose(thresholds.theta_left((0.1,), 50, 0.0), 1.0)
