"""The relative drop from records, its difference between networks, and the curve."""

from __future__ import annotations

from collections.abc import Iterator

import matplotlib.pyplot as plt
import pytest
from test_records import evaluation, make_record

from pure.records import RunRecord
from pure.report import robustness


@pytest.fixture(autouse=True)
def close_figures() -> Iterator[None]:
    yield
    plt.close("all")


def noisy(model: str, seed: int, clean: float, *under_noise: float) -> RunRecord:
    """A run tested at the scales 1, 0.1, ... with these accuracies."""
    tests = [
        evaluation(accuracy).model_copy(update={"noise_scale": 10.0**-number})
        for number, accuracy in enumerate(under_noise)
    ]
    record = make_record(model, seed, clean)
    return record.model_copy(update={"noisy": tests[0], "noise_curve": tuple(tests[1:])})


RECORDS = [
    noisy("pure20", 0, 0.8, 0.72, 0.4),
    noisy("pure20", 1, 0.9, 0.81, 0.36),
    noisy("resnet20", 0, 0.8, 0.64, 0.4),
    noisy("resnet20", 1, 0.5, 0.45, 0.35),
    make_record("pure20", 2, 0.9),
]


def test_drops_by_hand() -> None:
    found = robustness.drops(RECORDS)
    assert len(found) == 8  # the run without noise has none
    ours = found[found["network"] == "PURe20"]
    assert ours["scale"].tolist() == [0.1, 0.1, 1.0, 1.0]
    assert ours["drop"].tolist() == pytest.approx([50, 60, 10, 10])
    assert ours["accuracy"].tolist() == pytest.approx([40, 36, 72, 81])
    assert set(ours["family"]) == {"pure"}
    assert robustness.drops([]).empty


def test_two_networks_are_compared_by_seed() -> None:
    strong, weak = robustness.drop_table(robustness.drops(RECORDS), "PURe20", "ResNet20").to_dict("records")
    assert (strong["Scale"], weak["Scale"]) == ("0.1", "1")
    assert (strong["PURe20 (%)"], strong["ResNet20 (%)"], strong["Difference (points)"]) == ("55.0", "40.0", "+15.0")
    # differences of -10 and 0: -5 +- 12.706 x 5
    assert (weak["95 % interval"], weak["Loses less"], weak["Seeds"]) == ("-68.5 to +58.5", "undecided", "2")
    (alone,) = robustness.drop_table(robustness.drops(RECORDS[:1] + RECORDS[2:3]), "PURe20", "ResNet20")[
        "Seeds"
    ].unique()
    assert alone == "1"


def test_the_figure_draws_means_over_the_scale() -> None:
    left, right = robustness.drop_figure(robustness.drops(RECORDS)).axes
    means = {str(line.get_label()): list(line.get_ydata()) for line in right.lines if str(line.get_label())[0] != "_"}  # type: ignore[arg-type]
    assert means["PURe20"] == pytest.approx([55, 10])
    assert means["ResNet20"] == pytest.approx([40, 15])
    assert left.get_xscale() == "log"
