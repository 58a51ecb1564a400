"""Tables and figures: every number worked out by hand from records that are made up."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Affine2D, Bbox
from test_records import evaluation, make_record

from pure import report
from pure.data.sets.galaxy10 import COUNTS
from pure.execution import Execution
from pure.records import RECORD_NAME, Resources, RunRecord, Score, Unit
from pure.report import Difference, Sample, difference
from pure.report.__main__ import main
from pure.report.published import Results, renew
from pure.report.style import COLOURS
from pure.report.tables import network_title, shown


@pytest.fixture(autouse=True)
def close_figures() -> Iterator[None]:
    yield
    plt.close("all")


def runs(model: str, *accuracies: float, **more: Any) -> list[RunRecord]:
    return [make_record(model, seed, accuracy, **more) for seed, accuracy in enumerate(accuracies)]


PAIR = [*runs("pure20", 0.98, 0.99, 0.97, train_s=6.0), *runs("resnet20", 0.95, 0.97, train_s=4.0)]


def lines(axes: Axes) -> dict[str, tuple[list[float], list[float]]]:
    """What is drawn under a label."""
    return {
        str(line.get_label()): (np.asarray(line.get_xdata()).tolist(), np.asarray(line.get_ydata()).tolist())
        for line in axes.lines
        if not str(line.get_label()).startswith("_")
    }


def counts(axes: Axes) -> dict[tuple[int, int], str]:
    """What a confusion matrix shows, by column and row."""
    return {
        (math.floor(x), math.floor(y)): text.get_text()
        for text in axes.texts
        if text.get_text()
        for x, y in [text.get_position()]
    }


def overlapping(figure: Figure, texts: list[Text]) -> list[tuple[str, str]]:
    """Pairs of texts that lie on top of each other; turned ones are compared as they lie, not by upright boxes."""
    draw(figure)
    shown = [text for text in texts if text.get_text()]
    frames = []
    for text in shown:
        angle, text_box = text.get_rotation(), text.get_window_extent()
        text.set_rotation(0)
        flat = text.get_window_extent()
        text.set_rotation(angle)
        turn = Affine2D().rotate_deg(angle)
        centre = (text_box.x0 + text_box.width / 2, text_box.y0 + text_box.height / 2)
        x, y = turn.inverted().transform(centre)
        frames.append((angle, Bbox.from_bounds(x - flat.width / 2, y - flat.height / 2, flat.width, flat.height)))
    return [
        (first.get_text(), second.get_text())
        for (first, (angle, one)), (second, (other, two)) in itertools.combinations(zip(shown, frames, strict=True), 2)
        if angle == other and one.overlaps(two)
    ]


def draw(figure: Figure) -> None:
    figure.canvas.draw()  # a figure can fail as late as this


# Aggregation


def test_sample_by_hand() -> None:
    sample, one = Sample.of([97.0, 98.0, 102.0]), Sample.of(iter([2.5]))
    assert (sample.mean, sample.deviation, sample.n) == (99.0, math.sqrt((4 + 1 + 9) / 2), 3)
    assert (one.mean, one.deviation, one.n) == (2.5, None, 1)
    assert [str(Sample.of([97.0, 98.0, 102.0])), str(Sample.of([2.5]))] == ["99.00 ± 2.65", "2.50"]
    assert Sample.of([98.1, 98.1, 98.1]).deviation == 0.0
    with pytest.raises(ValueError, match="no values: a sample has at least one"):
        Sample.of([])


def test_interval_for_equal_sizes_and_deviations_is_students() -> None:
    # Three each with deviation 1: standard error sqrt(2/3) = 0.81650, 4 degrees of freedom, t(0.975, 4) = 2.77645
    ours, theirs = Sample.of([97.0, 98.0, 99.0]), Sample.of([95.0, 96.0, 97.0])
    found = difference(ours, theirs)
    assert (found.mean, found.low, found.high) == pytest.approx(
        (2, 2 - 2.77645 * 0.81650, 2 + 2.77645 * 0.81650), abs=1e-4
    )
    narrower = difference(ours, theirs, confidence=0.5)  # t(0.75, 4) = 0.74070
    assert narrower.high == pytest.approx(2 + 0.74070 * 0.81650, abs=1e-4)


def test_interval_where_one_side_or_none_scatters() -> None:
    # Only one side's error counts then: 2 degrees of freedom, t(0.975, 2) = 4.30265, standard error sqrt(1/3)
    found = difference(Sample.of([98.1, 98.1, 98.1]), Sample.of([97.1, 98.1, 99.1]))
    assert (found.low, found.high) == pytest.approx((-4.30265 / math.sqrt(3), 4.30265 / math.sqrt(3)), abs=1e-4)
    assert difference(Sample.of([98.0, 98.0]), Sample.of([97.0, 97.0])) == Difference(1.0, 1.0, 1.0)


def test_one_run_has_no_interval() -> None:
    with pytest.raises(ValueError, match="expected two runs or more on each side, got 1 and 2"):
        difference(Sample.of([98.0]), Sample.of([97.0, 98.0]))


# Tables


def test_accuracy_table_by_hand() -> None:
    times = (5.0, 9.0, 6.0)
    pure = [
        make_record("pure20", seed, accuracy, train_s=s)
        for seed, accuracy, s in zip(range(3), (0.98, 0.99, 0.97), times, strict=True)
    ]
    table = report.accuracy_table([*runs("resnet20", 0.95, 0.97), *pure, *runs("pure32", 0.5)])
    # pure20: mean 98, deviation sqrt((0 + 1 + 1) / 2) = 1; resnet20: mean 96, sqrt((1 + 1) / 1) = 1.41
    assert table.to_dict("records") == [
        {
            "Recipe": "digits",
            "Network": network,
            "Parameters": "1,234",
            "Test accuracy (%)": accuracy,
            "Runs": n,
            "Test images": "100",
            "Training time (s)": median,
        }
        for network, accuracy, n, median in [
            ("PURe20", "98.00 ± 1.00", "3", "6.0"),
            ("PURe32", "50.00", "1", "3.0"),
            ("ResNet20", "96.00 ± 1.41", "2", "3.0"),
        ]
    ]


def test_runs_with_other_values_or_options_are_rows_of_their_own() -> None:
    records = [
        *runs("pure20", 0.98, 0.96),
        *runs("pure20", 0.9, 0.9, overrides={"epochs": 4, "lr": 0.5}),
        *runs("pure20", 0.8, options={"threshold": "exp", "granularity": "channel"}),
    ]
    table = report.accuracy_table(records)
    rows = table[["Recipe", "Network", "Test accuracy (%)", "Runs"]].to_numpy().tolist()
    assert sorted(rows) == [
        ["digits", "PURe20", "97.00 ± 1.41", "2"],
        ["digits", "PURe20 (granularity=channel, threshold=exp)", "80.00", "1"],
        ["digits (epochs=4, lr=0.5)", "PURe20", "90.00 ± 0.00", "2"],
    ]


def test_runs_of_another_version_of_a_recipe_or_of_other_data_are_not_averaged() -> None:
    older = make_record("pure20", 1, 0.5)
    older = older.model_copy(update={"recipe": older.recipe.model_copy(update={"momentum": 0.0})})
    elsewhere = make_record("pure20", 2, 0.25)
    elsewhere = elsewhere.model_copy(update={"data": elsewhere.data.model_copy(update={"fingerprint": "0" * 64})})
    table = report.accuracy_table([make_record("pure20", 0, 0.75), older, elsewhere])
    assert sorted(table["Test accuracy (%)"]) == ["25.00", "50.00", "75.00"]


def test_difference_table_by_hand() -> None:
    # Difference of the means 98 - 96 = 2.  Squared standard errors 1/3 and 2/2 = 1, together 4/3.  Degrees of freedom
    # (4/3)^2 / ((1/3)^2 / 2 + 1^2 / 1) = (16/9) / (19/18) = 32/19.  The integral of Student's density up to 5.1762 is
    # 0.975 there, so the interval is 2 -+ 5.1762 * sqrt(4/3) = 2 -+ 5.9770.
    (row,) = report.difference_table(PAIR).to_dict("records")
    assert row == {
        "Recipe": "digits",
        "Compared": "PURe20 against ResNet20",
        "Shortcuts": "B and A",
        "Difference (points)": "+2.00",
        "95 % interval": WELCH,
        "Runs": "3 and 2",
        "Verdict": "undecided",
    }


@pytest.mark.parametrize(
    ("pure", "resnet", "difference", "verdict"),
    [
        ((0.98, 0.99, 0.97), (0.91, 0.92, 0.90), "+7.00", "PURe better"),
        ((0.91, 0.92, 0.90), (0.98, 0.99, 0.97), "-7.00", "ResNet better"),
        ((0.98, 0.99, 0.97), (0.98, 0.99, 0.96), "+0.33", "undecided"),
        ((0.98, 0.98), (0.98, 0.98), "+0.00", "undecided"),
    ],
)
def test_verdict(pure: tuple[float, ...], resnet: tuple[float, ...], difference: str, verdict: str) -> None:
    table = report.difference_table([*runs("pure20", *pure), *runs("resnet20", *resnet)])
    assert table[["Difference (points)", "Verdict"]].to_numpy().tolist() == [[difference, verdict]]


@pytest.mark.parametrize(
    "records",
    [
        [],
        runs("pure20", 0.9, 0.8),
        [*runs("pure20", 0.9), *runs("resnet20", 0.8, 0.7)],  # one run has no deviation
        [*runs("pure20", 0.9, 0.8), *runs("resnet32", 0.8, 0.7)],
        [*runs("pure20", 0.9, 0.8), *runs("resnet20", 0.8, 0.7, overrides={"epochs": 4})],
        [*runs("pure20", 0.9, 0.8), *runs("resnet20", 0.8, 0.7, data="digits-rotated")],
        [*runs("pure20", 0.9, 0.8), make_record("resnet20", 0, 0.8), make_record("resnet20", 1, diverged=True)],
        [*runs("preact_resnet20", 0.9, 0.8), *runs("resnet20", 0.8, 0.7)],
    ],
)
def test_nothing_is_compared_that_cannot_be(records: list[RunRecord]) -> None:
    assert report.difference_table(records).empty


def test_pairs_on_other_data_are_not_compared() -> None:
    other = [
        run.model_copy(update={"data": run.data.model_copy(update={"fingerprint": "0" * 64})})
        for run in runs("resnet20", 0.8, 0.7)
    ]
    assert report.difference_table([*runs("pure20", 0.9, 0.8), *other]).empty


def test_a_network_is_compared_with_both_baselines_of_its_depth() -> None:
    records = [
        *runs("pure20", 0.98, 0.96),
        *runs("resnet20", 0.9, 0.88),
        *runs("resnet20", 0.94, 0.92, options={"shortcut": "B"}),
    ]
    table = report.difference_table(records)
    assert table[["Compared", "Difference (points)"]].to_numpy().tolist() == [
        ["PURe20 against ResNet20", "+8.00"],
        ["PURe20 against ResNet20 (shortcut=B)", "+4.00"],
    ]
    assert table["Shortcuts"].tolist() == ["B and A", ""]
    (row,) = report.difference_table(records, equal_shortcuts=True).to_dict("records")
    assert (row["Compared"], row["Difference (points)"]) == ("PURe20 against ResNet20 (shortcut=B)", "+4.00")
    assert "Shortcuts" not in row


def test_long_numbers_are_cut_in_titles_and_short_ones_stand_as_given() -> None:
    assert [shown(value) for value in (0.6931471805599453, 2.0, 0.0001, 1e-7, True, "exp")] == [
        "0.6931",
        "2.0",
        "0.0001",
        "1e-07",
        "True",
        "exp",
    ]


def test_numbered_items_are_text_and_numbers_are_figures() -> None:
    table = pd.DataFrame({"Claim": ["1. First.", "12. Second."], "Size": ["1.5", "-12"]})
    assert report.markdown(table).splitlines()[1] == "| :--- | ---: |"


def test_runs_that_diverged_are_counted_and_in_no_mean() -> None:
    records = [
        *PAIR,
        make_record("pure20", 3, diverged=True, train_s=100.0),
        make_record("pure32", 0, diverged=True, train_s=7.0),
    ]
    table = report.accuracy_table(records)
    columns = ["Network", "Test accuracy (%)", "Runs", "Diverged", "Training time (s)"]
    assert table[columns].to_numpy().tolist() == [
        ["PURe20", "98.00 ± 1.00", "3", "1", "6.0"],
        ["PURe32", "none", "0", "1", "7.0"],
        ["ResNet20", "96.00 ± 1.41", "2", "0", "4.0"],
    ]
    assert "| ---: | ---: | ---: | ---: | ---: | ---: |" in report.markdown(table)  # none is no word among figures
    (row,) = report.difference_table(records).to_dict("records")
    assert (row["Difference (points)"], row["Runs"], row["Diverged"]) == ("+2.00", "3 and 2", "1 and 0")


def test_data_that_are_not_the_recipes_own_and_synthetic_ones_are_named() -> None:
    plain = make_record(recipe="cifar10")
    jpeg = make_record(recipe="cifar10", data="cifar10-jpeg", overrides={"data_options": {"variant": "jpeg"}})
    quick = make_record(recipe="galaxy10-quick", overrides={"data_options": {"number": 50}, "epochs": 2})
    quick = quick.model_copy(update={"data": quick.data.model_copy(update={"synthetic": True})})
    titles = [
        "cifar10",
        "cifar10 (variant=jpeg) on cifar10-jpeg",
        "galaxy10-quick (epochs=2, number=50), synthetic images",
    ]
    assert report.accuracy_table([plain, jpeg, quick])["Recipe"].tolist() == titles
    renamed = plain.model_copy(update={"recipe": plain.recipe.model_copy(update={"name": "of-another-version"})})
    assert report.accuracy_table([renamed])["Recipe"].tolist() == ["of-another-version"]


def test_absurd_tests_have_what_was_estimated_anew_beside_them() -> None:
    absurd = evaluation(0.1, loss=1e28, reestimated=Score(loss=0.5, accuracy=0.9))
    records = [make_record("pure20", 0, test=absurd), make_record("pure20", 1, 0.7), make_record("pure32", 0, 0.6)]
    table = report.accuracy_table(records)
    assert table[["Network", "Test accuracy (%)", "Re-estimated (%)"]].to_numpy().tolist() == [
        ["PURe20", "40.00 ± 42.43", "80.00 ± 14.14 (1 of 2 runs)"],
        ["PURe32", "60.00", ""],
    ]
    first, *rest = report.runs_table(records).to_dict("records")
    assert (first["Test loss (nats)"], first["Re-estimated"]) == ("1.00e+28", "90.00 %, 0.500 nats")
    assert [row["Re-estimated"] for row in rest] == ["", ""]


def of_classes(number: int, record: RunRecord) -> RunRecord:
    data = record.data.model_copy(update={"classes": tuple(map(str, range(number)))})
    return record.model_copy(update={"data": data})


def imagenet(seed: int, single: float, ten: float) -> RunRecord:
    record = make_record(
        recipe="imagenet",
        seed=seed,
        test=evaluation(single, top5=single + 0.1, protocol="single-crop"),
        protocols=(evaluation(ten, top5=ten + 0.05, protocol="ten-crop"), evaluation(ten, protocol="multi-scale")),
    )
    return of_classes(11, record)


def test_several_protocols_by_hand() -> None:
    records = [imagenet(0, 0.5, 0.6), imagenet(1, 0.6, 0.8), make_record()]
    assert report.protocols_table(records).to_dict("records") == [
        {
            "Recipe": "imagenet",
            "Network": "PURe20",
            "single-crop, top-1 (%)": "55.00 ± 7.07",
            "single-crop, top-5 (%)": "65.00 ± 7.07",
            "ten-crop, top-1 (%)": "70.00 ± 14.14",
            "ten-crop, top-5 (%)": "75.00 ± 14.14",
            "multi-scale, top-1 (%)": "70.00 ± 14.14",
            "Runs": "2",
        }
    ]
    rows = report.accuracy_table(records)[["Recipe", "Test accuracy (%)", "Top-5 (%)", "Protocol"]]
    assert rows.to_numpy().tolist() == [
        ["digits", "50.00", "", ""],
        ["imagenet", "55.00 ± 7.07", "65.00 ± 7.07", "single-crop"],
    ]
    assert report.protocols_table([make_record()]).empty


def test_drop_under_noise_is_that_of_the_means() -> None:
    records = [
        make_record("pure20", 0, 0.8, noisy=evaluation(0.4)),
        make_record("pure20", 1, 0.4, noisy=evaluation(0.4)),
        make_record("pure20", 2, 0.9),  # without noise it has no part in the comparison
        make_record("pure20", 3, diverged=True),
    ]
    # Means 60 and 40: 100 * 20 / 60 = 33.33; the mean of the drops, 50 and 0, would be 25
    assert report.noise_table([*records, make_record("resnet20")]).to_dict("records") == [
        {
            "Recipe": "digits",
            "Network": "PURe20",
            "Test accuracy (%)": "60.00 ± 28.28",
            "With noise (%)": "40.00 ± 0.00",
            "Relative drop (%)": "33.33",
            "Runs": "2",
            "Diverged": "1",
        }
    ]


def test_times_by_hand() -> None:
    # Validation accuracies 1/8, 2/8, ...: 80 % in the seventh epoch of seven and more; 0.5 s of validation each
    long = make_record(seed=0, losses=(1.0,) * 8, train_s=16.0)  # 14 s to 7/8, 16 s to the best
    longer = make_record(seed=1, losses=(1.0,) * 8, train_s=32.0)
    short = make_record(seed=2, losses=(1.0,) * 2, train_s=4.0)  # never at 80 %, best at the end
    quick = make_record("pure32", losses=(1.0,) * 2, train_s=3.0)
    diverged = make_record("pure32", 1, diverged=True, train_s=1000.0)
    nothing = make_record("resnet20", held_out=False)
    fast = Resources(throughput=12345.6, peak_memory=3 * 2**20, loader="device")
    longer = longer.model_copy(update={"resources": fast})
    table = report.times_table([long, longer, short, quick, diverged, nothing.model_copy(update={"resources": None})])
    columns = ["Network", "To 80 % (s)", "To the best (s)", "Training (s)", "With evaluation (s)", "Runs"]
    assert table[columns].to_numpy().tolist() == [
        ["PURe20", "21.0 (2 of 3)", "16.0", "16.0", "17.0", "3"],
        ["PURe32", "never", "3.0", "3.0", "4.0", "1"],
        ["ResNet20", "", "", "3.0", "4.0", "1"],
    ]
    assert table[["Images per second", "Memory (MiB)"]].to_numpy().tolist() == [["100", "1"], ["100", "1"], ["", ""]]
    assert report.times_table([longer])[["Images per second", "Memory (MiB)"]].to_numpy().tolist() == [["12,346", "3"]]


def test_runs_table_shows_the_validation_of_the_tested_epoch() -> None:
    record = make_record("pure20", 7, 0.875, losses=(3.0, 2.0, 1.0), train_s=2.5, selected=2)
    assert report.runs_table([record]).to_dict("records") == [
        {
            "Recipe": "digits",
            "Network": "PURe20",
            "Seed": "7",
            "Validation accuracy (%)": "25.00",
            "Test accuracy (%)": "87.50",
            "Test loss (nats)": "0.750",
            "Epochs": "3",
            "Training time (s)": "2.5",
        }
    ]


def test_top5_is_not_shown_for_ten_classes() -> None:
    """Of which half would be among the five by chance."""
    ten, eleven = (of_classes(number, make_record(test=evaluation(0.5, top5=0.9))) for number in (10, 11))
    for table in (report.accuracy_table, report.runs_table):
        assert "Top-5 (%)" not in table([ten])
        assert table([eleven])["Top-5 (%)"].tolist() == ["90.00"]


def test_places_table_says_where_when_and_from_what() -> None:
    def at(run: RunRecord, day: int, **where: Any) -> RunRecord:
        times = run.times.model_copy(update={"started": datetime(2026, 6, day, 12, tzinfo=UTC), "total_s": 1800.0})
        environment = run.environment.model_copy(update={"commit": "0123456789abcdef", **where})
        return run.model_copy(update={"times": times, "environment": environment})

    first, second, third = runs("pure20", 0.98, 0.99, 0.97)
    records = [at(first, 1), at(second, 3), at(third, 4, commit="fedcba9876543210-dirty")]
    elsewhere, here = report.places_table(records).to_dict("records")
    assert (elsewhere["Commit"], elsewhere["Seeds"], elsewhere["Days"]) == (
        "fedcba98-dirty",
        "2",
        "4\N{NO-BREAK SPACE}Jun\N{NO-BREAK SPACE}2026",
    )
    assert (here["Commit"], here["Seeds"]) == ("01234567", "0, 1")
    assert here["Days"].replace("\N{NO-BREAK SPACE}", " ") == "1 Jun 2026 to 3 Jun 2026"
    assert (here["Hours"], elsewhere["Hours"]) == ("1.00", "0.50")
    assert here["Machine"] == report.hardware(records[:1])
    assert report.places_table([]).empty


def test_runs_table_of_runs_that_ended_otherwise() -> None:
    records = [
        of_classes(11, make_record(seed=0, noisy=evaluation(0.25), test=evaluation(0.5, top5=0.9))),
        make_record(seed=1, held_out=False),
        make_record(seed=2, diverged=True),
    ]
    columns = [
        "Validation accuracy (%)",
        "Test accuracy (%)",
        "Top-5 (%)",
        "With noise (%)",
        "Test loss (nats)",
        "Diverged",
    ]
    assert report.runs_table(records)[columns].to_numpy().tolist() == [
        ["25.00", "50.00", "90.00", "25.00", "0.750", ""],
        ["", "50.00", "", "", "0.750", ""],
        ["", "", "", "", "", "epoch 3, step 5: loss of layer2.0.conv2"],
    ]


def test_recipe_table_has_every_value_with_its_section() -> None:
    table = report.recipe_table("cifar10")
    assert list(table) == ["Setting", "PURe", "ResNet", "Source"]
    rows = {row["Setting"]: list(row.values())[1:] for row in table.to_dict("records")}
    assert rows["`epochs`"] == ["160", "160", "section 4.3.2"]
    assert rows["`milestones`"] == ["80, 120", "80, 120", "section 4.3.2"]
    assert rows["`lr`"] == ["0.01", "0.1", "PURe: section 4.3.2; ResNet: He et al., section 4.2"]
    assert "`warmup_lr`" not in rows
    deep = report.recipe_table("cifar10", ("resnet20", "resnet110")).to_dict("records")
    (row,) = [row for row in deep if row["Setting"] == "`warmup_lr`"]
    assert (row["ResNet20"], row["ResNet110"]) == ("none", "0.01")
    assert row["Source"].startswith("ResNet110: He et al.") or row["Source"].startswith("He et al.")
    galaxy = {row["Setting"]: row["PURe"] for row in report.recipe_table("galaxy10").to_dict("records")}
    assert galaxy["`data_options`"].startswith("split=stratified, split_seed=0, static_augmentation=rotate(180)")


def test_hardware_names_each_machine_once() -> None:
    cpu, gpu = make_record(), make_record(seed=1)
    gpu = gpu.model_copy(
        update={"environment": gpu.environment.model_copy(update={"device": "cuda", "device_name": "A card"})}
    )
    assert report.hardware([cpu, gpu, cpu]) == "A card, PyTorch 2.11.0; A processor, 2 threads, PyTorch 2.11.0"
    four = gpu.model_copy(update={"resources": Resources(throughput=1.0, peak_memory=1, loader="device", devices=4)})
    assert report.hardware([four]) == "4 x A card, PyTorch 2.11.0"
    assert report.hardware([]) == "no runs"


MARKDOWN = """\
| Recipe | Network | Parameters | Test accuracy (%) | Runs | Test images | Training time (s) |
| :--- | :--- | ---: | ---: | ---: | ---: | ---: |
| digits | PURe20 | 1,234 | 98.00 ± 1.00 | 3 | 100 | 6.0 |
| digits | ResNet20 | 1,234 | 96.00 ± 1.41 | 2 | 100 | 4.0 |"""
WELCH = "-3.98 to +7.98"
DIFFERENCE = f"""\
| Recipe | Compared | Shortcuts | Difference (points) | 95 % interval | Runs | Verdict |
| :--- | :--- | :--- | ---: | ---: | ---: | :--- |
| digits | PURe20 against ResNet20 | B and A | +2.00 | {WELCH} | 3 and 2 | undecided |"""
CLOSING = "Mean ± sample deviation over the seeds. Hardware: A processor, 2 threads, PyTorch 2.11.0."


def test_markdown_exactly() -> None:
    assert report.markdown(report.accuracy_table(PAIR)) == MARKDOWN
    assert report.markdown(report.difference_table(PAIR)) == DIFFERENCE
    assert report.markdown(report.accuracy_table([])) == "*no records*"


# The document


BEGIN, END = "<!-- table from the records: begin -->", "<!-- table from the records: end -->"
DOCUMENT = f"# Title ±\n\n{BEGIN}\nold\n{END}\n\nand what follows {BEGIN}\n"


def results(folder: Path, records: list[RunRecord]) -> Results:
    for number, record in enumerate(records):
        record.write(folder / "results" / str(number) / RECORD_NAME)
    return Results(folder / "results")


def test_renew_changes_only_what_lies_between_the_markers_and_does_so_once(tmp_path: Path) -> None:
    text = renew(DOCUMENT, results(tmp_path, PAIR))
    body = f"{BEGIN}\n{MARKDOWN}\n\n{DIFFERENCE}\n\n{CLOSING}\n{END}"
    assert text == f"# Title ±\n\n{body}\n\nand what follows {BEGIN}\n"
    assert renew(text, results(tmp_path, PAIR)) == text


def test_renew_without_records_says_so(tmp_path: Path) -> None:
    assert "*no records*" in renew(DOCUMENT, results(tmp_path, []))


def test_ablations_are_not_in_the_table(tmp_path: Path) -> None:
    ablations = [make_record(seed=seed, options={"granularity": "channel"}) for seed in range(3)]
    overridden = [make_record("resnet20", seed, overrides={"epochs": 3}) for seed in range(3)]
    assert renew(DOCUMENT, results(tmp_path, [*PAIR, *ablations, *overridden])).count("| digits |") == 3


@pytest.mark.parametrize("text", ["", "no markers", BEGIN, END, f"{END}\n{BEGIN}"])
def test_renew_refuses_a_document_without_markers_in_their_order(text: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"table from the records: begin .* in the document; put them where the table"):
        renew(text, results(tmp_path, PAIR))


def test_command_line_renews_a_document(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = results(tmp_path, PAIR)
    document = tmp_path / "README.md"
    document.write_text(DOCUMENT, encoding="utf-8")
    arguments = ["renew", str(document), str(tmp_path / "results")]
    assert main(arguments) == 0
    assert document.read_text(encoding="utf-8") == renew(DOCUMENT, made)
    assert capsys.readouterr().err == ""

    document.write_text("no markers")
    assert main(arguments) == 2
    assert "expected the lines" in capsys.readouterr().err
    assert document.read_text() == "no markers"
    assert main(["renew", str(tmp_path / "none.md"), str(tmp_path)]) == 2
    assert "none.md" in capsys.readouterr().err


# Figures


def test_curves_of_one_run_are_the_records_values() -> None:
    figure = report.curves([make_record(losses=(3.0, 2.0, 0.5))])
    left, right = figure.axes
    assert lines(left) == {
        "PURe20, training": ([1, 2, 3], [3.0, 2.0, 0.5]),
        "PURe20, validation": ([1, 2, 3], [6.0, 4.0, 1.0]),
    }
    assert lines(right) == {
        "PURe20, training": ([1, 2, 3], [25.0, 50.0, 75.0]),
        "PURe20, validation": ([1, 2, 3], [12.5, 25.0, 37.5]),
    }
    assert [line.get_linestyle() for line in left.lines] == ["--", "-"]
    assert (left.get_yscale(), left.get_ylabel()) == ("log", "cross-entropy (nats)")
    assert {line.get_color() for line in left.lines} == {COLOURS["pure"]}
    draw(figure)


def test_curves_of_several_runs_are_their_mean_and_a_band_of_one_deviation() -> None:
    records = [make_record(seed=0, losses=(4.0, 2.0)), make_record(seed=1, losses=(2.0, 1.0)), make_record("resnet20")]
    figure = report.curves(records)
    left = figure.axes[0]
    assert lines(left) == {
        "PURe20, training": ([1, 2], [3.0, 1.5]),
        "PURe20, validation": ([1, 2], [6.0, 3.0]),
        "ResNet20, training": ([1, 2], [2.0, 1.0]),
        "ResNet20, validation": ([1, 2], [4.0, 2.0]),
    }
    band = left.collections[0].get_paths()[0].vertices  # of PURe20's training: one sample deviation below and above
    edges = {(float(epoch), round(float(value), 9)) for epoch, value in band}
    assert edges == {
        (epoch, round(mean + side * deviation, 9))
        for epoch, mean, deviation in ((1.0, 3.0, math.sqrt(2)), (2.0, 1.5, math.sqrt(0.5)))
        for side in (-1, 1)
    }
    assert len(left.collections) == 2  # one run has no band
    draw(figure)


@pytest.mark.parametrize("losses", [(math.nan, math.nan), (math.inf, math.inf), (math.nan, 1.0), (1e28, math.inf)])
def test_curves_with_losses_that_are_no_numbers_can_be_drawn(losses: tuple[float, ...]) -> None:
    figure = report.curves([make_record(losses=losses), make_record(seed=1)])
    drawn = lines(figure.axes[0])["PURe20, training"]
    means = {1: (losses[0] + 2) / 2, 2: (losses[1] + 1) / 2}
    finite = {epoch: mean for epoch, mean in means.items() if math.isfinite(mean)}
    assert drawn == (list(finite), pytest.approx(list(finite.values())))
    draw(figure)
    draw(report.curves([make_record(losses=losses)]))


def test_curves_of_a_run_that_diverged_are_in_no_mean_and_end_in_a_cross() -> None:
    diverged = make_record(seed=1, losses=(8.0, 9.0, 10.0), diverged=True)
    figure = report.curves([make_record(seed=0, losses=(4.0, 2.0, 1.0)), diverged])
    left = figure.axes[0]
    assert lines(left)["PURe20, training"][1] == [4.0, 2.0, 1.0]
    crosses = [(list(line.get_xdata()), list(line.get_ydata())) for line in left.lines if line.get_marker() == "x"]
    assert crosses == [([3], [10.0]), ([3], [20.0])]
    draw(figure)
    alone = report.curves([diverged])
    assert lines(alone.axes[0]) == {}
    assert [8.0, 9.0, 10.0] in [list(line.get_ydata()) for line in alone.axes[0].lines]
    draw(alone)
    draw(report.curves([make_record(diverged=True, epochs=())]))  # in its first epoch


def test_curves_where_nothing_is_held_out() -> None:
    figure = report.curves([make_record(held_out=False)])
    assert [list(lines(axes)) for axes in figure.axes] == [["PURe20, training"]] * 2
    draw(figure)


def test_thresholds_are_the_records_values() -> None:
    records = [
        make_record(seed=0, thresholds={"a": 0.5, "b": (0.25, 0.75, 0.5), "c": 2.0}),
        make_record(seed=1, thresholds={"a": 0.6, "b": 0.7, "c": 0.8}),
        make_record("resnet20", thresholds={}),
    ]
    figure = report.thresholds_figure(records)
    (axes,) = figure.axes
    drawn = lines(axes)
    assert drawn.pop("at the start: ln 2")[1] == [math.log(2)] * 2
    assert drawn == {"PURe20, seed 0": ([0, 1, 2], [0.5, 0.5, 2.0]), "PURe20, seed 1": ([0, 1, 2], [0.6, 0.7, 0.8])}
    assert [label.get_text() for label in axes.get_xticklabels()] == ["a", "b", "c"]
    draw(figure)


def test_every_unit_of_the_deepest_network_has_its_name() -> None:
    shallow = make_record("pure20", thresholds={"a": 0.5})
    deep = make_record("pure32", thresholds={"a": 0.5, "b": 0.6})
    (axes,) = report.thresholds_figure([shallow, deep]).axes
    assert [label.get_text() for label in axes.get_xticklabels()] == ["a", "b"]


@pytest.mark.parametrize("threshold", ["exp", 0.25])
def test_no_line_at_ln_2_where_thresholds_do_not_start_there(threshold: str | float) -> None:
    (axes,) = report.thresholds_figure([make_record(options={"threshold": threshold})]).axes
    assert list(lines(axes)) == [f"PURe20 (threshold={threshold}), seed 0"]


def test_confusion_matrix_shows_every_count() -> None:
    record = make_record(accuracy=0.9)
    figure = report.confusion_figure(record)
    (axes,) = figure.axes
    assert counts(axes) == {(0, 0): "45", (1, 0): "5", (0, 1): "5", (1, 1): "45"}
    image = np.asarray(axes.collections[0].get_array()).reshape(2, 2)
    assert image.tolist() == [[0, 5], [5, 0]]  # errors alone are coloured
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted class", "true class")
    assert [label.get_text() for label in axes.get_xticklabels()] == ["a", "b"]
    draw(figure)


def test_confusion_matrix_has_the_true_class_in_its_rows() -> None:
    record = make_record(test=evaluation(0.5, confusion=((7, 3), (0, 4))))
    (axes,) = report.confusion_figure(record).axes
    assert counts(axes) == {(0, 0): "7", (1, 0): "3", (1, 1): "4"}


LONGEST = {
    "galaxies": tuple(COUNTS),
    "ImageNet": ("German short-haired pointer", "black-and-tan coonhound", "soft-coated wheaten terrier", "ox"),
}


@pytest.mark.parametrize("classes", LONGEST.values(), ids=LONGEST)
def test_the_longest_names_of_a_confusion_matrix_lie_beside_each_other(classes: tuple[str, ...]) -> None:
    counts = np.full((len(classes), len(classes)), 1234)
    record = make_record(test=evaluation(0.5, confusion=tuple(map(tuple, counts.tolist()))))
    record = record.model_copy(update={"data": record.data.model_copy(update={"classes": classes})})
    figure = report.confusion_figure(record)
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_xticklabels()] == list(classes)
    assert overlapping(figure, [*axes.get_xticklabels(), axes.xaxis.label]) == []
    assert overlapping(figure, [*axes.get_yticklabels(), *axes.texts]) == []
    assert all(figure.bbox.contains(*corner) for text in axes.get_xticklabels() for corner in ends(text))


@pytest.mark.parametrize("classes", LONGEST.values(), ids=LONGEST)
def test_the_longest_names_over_misclassified_images_lie_beside_each_other(classes: tuple[str, ...]) -> None:
    labels = torch.arange(16) % len(classes)
    logits = torch.nn.functional.one_hot((labels + 1) % len(classes), len(classes)) * 20.0
    figure = report.misclassified_figure(torch.zeros(16, 3, 64, 64, dtype=torch.uint8), labels, logits, classes)
    titles = [axes.title for axes in figure.axes]
    assert len(titles) == 16
    assert overlapping(figure, titles) == []
    for axes in figure.axes:  # nor on an image, that above included
        assert not any(title.get_window_extent().overlaps(axes.get_window_extent()) for title in titles)
    assert all(figure.bbox.contains(*corner) for title in titles for corner in ends(title))


def ends(text: Text) -> tuple[tuple[float, float], tuple[float, float]]:
    """Two corners of the box around a text."""
    box = text.get_window_extent()
    return (box.x0, box.y0), (box.x1, box.y1)


@pytest.mark.parametrize(
    ("record", "why"),
    [
        (make_record(diverged=True), "it diverged"),
        (make_record(test=evaluation(0.5, confusion=None)), "it has 2 classes"),
    ],
)
def test_no_confusion_matrix(record: RunRecord, why: str) -> None:
    with pytest.raises(ValueError, match=f"no confusion matrix in the record of PURe20, seed 0: {why}"):
        report.confusion_figure(record)


def test_product_units_of_a_run_are_the_records_values() -> None:
    record = make_record(losses=(3.0, 2.0, 1.0))
    second = Unit(threshold=(1.0, 2.0), clamped=0.25, exponent=(-3.0, 4.0))
    epochs = [each.model_copy(update={"units": {**each.units, "other": second}}) for each in record.epochs]
    figure = report.units_figure(record.model_copy(update={"epochs": tuple(epochs)}))
    left, middle, right = figure.axes
    assert lines(left) == {"unit": ([1, 2, 3], [0.5, 1.5, 2.5]), "other": ([1, 2, 3], [1.5, 1.5, 1.5])}
    assert [list(line.get_ydata()) for line in middle.lines] == [[75.0, 25.0]]  # of the last epoch
    (ranges,) = right.collections
    assert [segment.tolist() for segment in ranges.get_segments()] == [[[0, -3], [0, 4]], [[1, -3], [1, 4]]]
    assert lines(right)["float16 overflows above"][1] == pytest.approx([math.log(65504)] * 2)
    assert [label.get_text() for label in middle.get_xticklabels()] == ["unit", "other"]
    draw(figure)


def test_of_a_deep_network_the_first_and_the_last_unit_are_named() -> None:
    units = {f"u{k}": Unit(threshold=float(k), clamped=0.5, exponent=(0.0, 1.0)) for k in range(30)}
    record = make_record(losses=(1.0,))
    record = record.model_copy(update={"epochs": (record.epochs[0].model_copy(update={"units": units}),)})
    figure = report.units_figure(record)
    assert list(lines(figure.axes[0])) == ["u0", "u29"]
    assert len(figure.axes[0].lines) == 30
    draw(figure)


def test_a_run_without_observed_units_says_so() -> None:
    record = make_record()
    epochs = tuple(epoch.model_copy(update={"units": {}}) for epoch in record.epochs)
    figure = report.units_figure(record.model_copy(update={"epochs": epochs}))
    assert [text.get_text() for text in figure.axes[0].texts] == ["no product units were observed in this run"]
    draw(figure)


def test_misclassified_images_the_surest_first() -> None:
    images = torch.arange(4, dtype=torch.uint8).view(4, 1, 1, 1).expand(4, 1, 2, 2)
    labels = torch.tensor([0, 1, 1, 0])
    logits = torch.tensor([[0.0, 1.0], [0.0, 9.0], [3.0, 0.0], [2.0, 0.0]])  # wrong are 0 (73 %) and 2 (95 %)
    figure = report.misclassified_figure(images, labels, logits, ("cat", "dog"))
    shown = [axes for axes in figure.axes if axes.images]
    assert [axes.get_title() for axes in shown] == ["cat (95 %)\nis dog", "dog (73 %)\nis cat"]
    assert [int(np.asarray(axes.images[0].get_array()).max()) for axes in shown] == [2, 0]
    assert len([axes for axes in report.misclassified_figure(images, labels, logits, "ab", 1).axes if axes.images]) == 1
    draw(figure)


def test_misclassified_images_may_differ_in_size() -> None:
    images = [torch.full((3, 2 + row, 4), row, dtype=torch.uint8) for row in range(2)]
    figure = report.misclassified_figure(images, torch.ones(2).long(), torch.tensor([[1.0, 0.0], [2.0, 0.0]]), "ab")
    shown = [np.asarray(axes.images[0].get_array()) for axes in figure.axes if axes.images]
    assert [(array.shape, int(array.max())) for array in shown] == [((3, 4, 3), 1), ((2, 4, 3), 0)]
    draw(figure)


@pytest.mark.parametrize("shape", [(10, 1, 4, 4), (10, 3, 4, 4)])
def test_misclassified_images_of_a_network_that_diverged(shape: tuple[int, ...]) -> None:
    logits = torch.full((10, 2), math.nan)
    figure = report.misclassified_figure(torch.zeros(shape, dtype=torch.uint8), torch.ones(10).long(), logits, "ab")
    assert len([axes for axes in figure.axes if axes.images]) == 10
    draw(figure)


def test_no_error_at_all_is_said() -> None:
    images, labels = torch.zeros(1, 1, 2, 2, dtype=torch.uint8), torch.tensor([0])
    figure = report.misclassified_figure(images, labels, torch.tensor([[1.0, 0.0]]), "ab")
    assert [text.get_text() for axes in figure.axes for text in axes.texts] == [
        "none: every test image was classified rightly"
    ]


def test_without_records_everything_is_empty_and_nothing_fails() -> None:
    assert report.accuracy_table([]).empty
    for table in (report.runs_table, report.times_table, report.noise_table, report.protocols_table):
        assert table([]).empty
    for figure in (report.curves([]), report.thresholds_figure([])):
        assert all(not axes.lines for axes in figure.axes)
        draw(figure)


def test_a_network_without_product_units_says_so() -> None:
    figure = report.thresholds_figure([make_record("resnet20", thresholds={})])
    assert [text.get_text() for text in figure.axes[0].texts] == ["no product units in this network"]
    draw(figure)


def test_runs_that_were_executed_in_other_ways_have_one_mean() -> None:
    compiled = Execution(channels_last=True, compile=True, loader="workers", micro_batches=2)
    table = report.accuracy_table([make_record(seed=0), make_record(seed=1, execution=compiled)])
    assert len(table) == 1


def test_the_third_version_is_named_in_titles_however_it_was_asked_for() -> None:
    relus = {"relu_after_sum": True, "relu_in_stem": True}
    for options in (relus, {"variant": "v3"}):
        assert network_title(make_record("pure20", options={**options, "blocks": (1, 1, 1)})) == (
            "PURe20 (blocks=(1, 1, 1), variant=v3)"
        )
    assert network_title(make_record("pure20", options={"relu_after_sum": True})) == "PURe20 (relu_after_sum=True)"
    assert network_title(make_record("pure20", options={**relus, "relu_in_stem": False})) == (
        "PURe20 (relu_after_sum=True, relu_in_stem=False)"
    )
