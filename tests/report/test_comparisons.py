"""Networks compared run by run: every number by hand, from records that are made up."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from scipy import stats
from test_records import evaluation, make_record

from pure.records import RunRecord, pack_classes
from pure.report.comparisons import Comparison, ablation_table, compare, comparison_table, factorial_table, partners
from pure.report.statistics import Difference, image_difference


def runs(model: str, *accuracies: float, **more: Any) -> list[RunRecord]:
    return [make_record(model, seed, accuracy, **more) for seed, accuracy in enumerate(accuracies)]


OURS, THEIRS = runs("pure20", 0.98, 0.99, 0.97), runs("resnet20", 0.95, 0.97, 0.95)


def test_runs_are_paired_by_seed_and_a_diverged_one_leaves_its_pair_out() -> None:
    ours = [*OURS[:2], make_record("pure20", 2, diverged=True)]
    found = compare(ours, list(reversed(THEIRS)))
    # 3 and 2 points: deviation 0.7071, standard error 0.5, 1 degree of freedom
    assert found.effect is not None
    half = stats.t.ppf(0.975, 1) * 0.5
    assert (found.effect.mean, found.effect.low) == pytest.approx((2.5, 2.5 - half))
    assert (found.n, found.diverged) == (2, (1, 0))
    assert str(found).endswith("n = 2, 1 and 0 diverged")


def test_other_data_make_no_pair() -> None:
    other = [run.model_copy(update={"data": run.data.model_copy(update={"fingerprint": "0" * 64})}) for run in THEIRS]
    assert partners(OURS, other) == []
    assert str(compare(OURS, other)) == "no pairs of runs"
    assert str(compare(OURS[:1], THEIRS)) == "1 pair of runs"


def test_times_are_compared_by_their_quotient() -> None:
    ours = [make_record("pure20", seed, train_s=seconds) for seed, seconds in enumerate((2.0, 8.0))]
    theirs = [make_record("resnet20", seed, train_s=seconds) for seed, seconds in enumerate((1.0, 2.0))]
    found = compare(ours, theirs, "training time")
    assert found.effect is not None
    # logarithms of 2 and 4: mean of ln 2 and 2 ln 2
    assert found.effect.mean == pytest.approx(2**1.5)
    assert found.side("more", 1.0) == 0  # two seeds decide nothing here
    assert str(found).startswith("\N{MULTIPLICATION SIGN}2.83 (")


def test_a_loss_that_is_not_finite_counts_as_the_largest() -> None:
    ours = runs("pure20", 0.9, 0.9, losses=(math.inf, 1.0))
    found = compare(ours, THEIRS, "initial loss")
    assert found.effect is not None
    assert found.effect.mean == pytest.approx(3.4e38 / 4.0)  # the validation loss is twice 2.0


def answered(model: str, seed: int, right: list[int]) -> RunRecord:
    record = make_record(model, seed)
    labels, predictions = torch.zeros(4), 1 - torch.tensor(right)
    return record.model_copy(
        update={
            "data": record.data.model_copy(update={"test_labels": pack_classes(labels)}),
            "test": evaluation(sum(right) / 4, predictions=pack_classes(predictions)),
        }
    )


def test_accuracies_are_paired_by_image_where_the_records_tell() -> None:
    ours = [answered("pure20", 0, [1, 1, 1, 0]), answered("pure20", 1, [1, 1, 1, 1])]
    theirs = [answered("resnet20", 0, [1, 0, 1, 0]), answered("resnet20", 1, [1, 1, 0, 0])]
    found = compare(ours, theirs)
    expected = image_difference(
        torch.tensor([[1, 1, 1, 0], [1, 1, 1, 1]]).numpy(), torch.tensor([[1, 0, 1, 0], [1, 1, 0, 0]]).numpy()
    )
    assert found.images
    assert found.effect is not None
    assert (found.effect.mean, found.effect.low) == pytest.approx((37.5, 100 * expected.low))
    assert comparison_table([(ours, theirs)], "accuracy").loc[0, "Interval covers"] == "seeds and images"


@pytest.mark.parametrize(
    ("low", "high", "expected", "bound", "side"),
    [
        (0.1, 0.5, "more", 0.0, 1),
        (0.1, 0.5, "less", 0.0, -1),
        (-0.1, 0.5, "more", 0.0, 0),
        (-0.4, 0.5, "more", -0.5, 1),
    ],
)
def test_an_interval_lies_on_one_side_or_on_none(
    low: float, high: float, expected: str, bound: float, side: int
) -> None:
    assert Comparison("", Difference(0.2, low, high), 5).side(expected, bound) == side
    assert Comparison("", None, 1).side(expected, bound) == 0


def test_ablations_stand_against_the_network_as_it_is_the_most_harmful_last() -> None:
    worse = runs("pure20", 0.5, 0.5, 0.5, options={"granularity": "channel"})
    better = runs("pure20", 1.0, 1.0, 1.0, overrides={"decay_theta": False})
    table = ablation_table(OURS, [*worse, *OURS, *better, *THEIRS])
    assert list(table["Changed"]) == ["decay_theta = False", "granularity = channel"]
    # 2, 1, 3 points better: deviation 1, standard error 1 / sqrt(3), t(0.975, 2) = 4.303
    assert table.loc[0, "Difference"] == "+2.00 points (-0.48 to +4.48)"
    assert ablation_table([], OURS).empty


def test_the_interaction_of_a_two_by_two_experiment() -> None:
    cells = {
        ("pure", "pure"): runs("pure20", 0.90, 0.92),
        ("pure", "resnet"): runs("pure20", 0.80, 0.82),
        ("resnet", "pure"): runs("resnet20", 0.85, 0.87),
        ("resnet", "resnet"): runs("resnet20", 0.84, 0.86),
    }
    table = factorial_table(cells)
    means = [text.split(" ")[0] for text in table["Difference"]]
    # PURe: (5 - 4) / 2; recipe: (10 + 1) / 2; under PURe's 5, under ResNet's -4; interaction 9
    assert means == ["+0.50", "+5.50", "+5.00", "-4.00", "+9.00"]
    assert factorial_table({**cells, ("resnet", "resnet"): []}).empty


def test_the_loss_after_the_first_epoch_is_the_trainings_where_nothing_is_held_out() -> None:
    for held_out in (True, False):
        ours = runs("pure20", 0.9, 0.9, losses=(4.0, 1.0), held_out=held_out)
        theirs = runs("resnet20", 0.9, 0.9, losses=(2.0, 8.0), held_out=held_out)
        found = compare(ours, theirs, "initial loss")
        assert found.effect is not None
        assert found.effect.mean == pytest.approx(2.0)
