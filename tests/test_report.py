"""Tables and figures: every number worked out by hand from records that are made up."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from test_records import make_record

from pure import report
from pure.records import RECORD_NAME, RunRecord
from pure.style import COLOURS


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


def draw(figure: Figure) -> None:
    figure.canvas.draw()  # a figure can fail as late as this


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


def test_interval_for_equal_sizes_and_deviations_is_students() -> None:
    # Three each with deviation 1: standard error sqrt(2/3) = 0.81650, 4 degrees of freedom, t(0.975, 4) = 2.77645
    low, high = report._welch_interval([97.0, 98.0, 99.0], [95.0, 96.0, 97.0])
    assert (low, high) == pytest.approx((2 - 2.77645 * 0.81650, 2 + 2.77645 * 0.81650), abs=1e-4)


def test_interval_where_one_side_or_none_scatters() -> None:
    # Only one side's error counts then: 2 degrees of freedom, t(0.975, 2) = 4.30265, standard error sqrt(1/3)
    assert report._welch_interval([98.1, 98.1, 98.1], [97.1, 98.1, 99.1]) == pytest.approx(
        (-4.30265 / math.sqrt(3), 4.30265 / math.sqrt(3)), abs=1e-4
    )
    assert report._welch_interval([98.0, 98.0], [97.0, 97.0]) == (1.0, 1.0)


@pytest.mark.parametrize(
    "records",
    [
        [],
        runs("pure20", 0.9, 0.8),
        [*runs("pure20", 0.9), *runs("resnet20", 0.8, 0.7)],  # one run has no deviation
        [*runs("pure20", 0.9, 0.8), *runs("resnet32", 0.8, 0.7)],
        [*runs("pure20", 0.9, 0.8), *runs("resnet20", 0.8, 0.7, overrides={"epochs": 4})],
    ],
)
def test_nothing_is_compared_that_cannot_be(records: list[RunRecord]) -> None:
    assert report.difference_table(records).empty


def test_runs_table_shows_the_validation_of_the_tested_epoch() -> None:
    record = make_record("pure20", 7, 0.875, losses=(3.0, 2.0, 1.0), train_s=2.5)
    record = record.model_copy(update={"test": record.test.model_copy(update={"epoch": 2})})
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


def test_hardware_names_each_machine_once() -> None:
    cpu, gpu = make_record(), make_record(seed=1)
    gpu = gpu.model_copy(
        update={"environment": gpu.environment.model_copy(update={"device": "cuda", "device_name": "A card"})}
    )
    assert report.hardware([cpu, gpu, cpu]) == "A card, PyTorch 2.11.0; A processor, 2 threads, PyTorch 2.11.0"
    assert report.hardware([]) == "no runs"


MARKDOWN = """\
| Recipe | Network | Parameters | Test accuracy (%) | Runs | Test images | Training time (s) |
| :--- | :--- | ---: | ---: | ---: | ---: | ---: |
| digits | PURe20 | 1,234 | 98.00 ± 1.00 | 3 | 100 | 6.0 |
| digits | ResNet20 | 1,234 | 96.00 ± 1.41 | 2 | 100 | 4.0 |"""
WELCH = "-3.98 to +7.98"
DIFFERENCE = f"""\
| Recipe | Compared | Difference (points) | 95 % interval | Runs | Verdict |
| :--- | :--- | ---: | ---: | ---: | :--- |
| digits | PURe20 against ResNet20 | +2.00 | {WELCH} | 3 and 2 | undecided |"""
CLOSING = "Mean ± sample deviation over the seeds. Hardware: A processor, 2 threads, PyTorch 2.11.0."


def test_markdown_exactly() -> None:
    assert report.markdown(report.accuracy_table(PAIR)) == MARKDOWN
    assert report.markdown(report.difference_table(PAIR)) == DIFFERENCE
    assert report.markdown(report.accuracy_table([])) == "*no records*"


# The document


DOCUMENT = f"# Title ±\n\n{report.BEGIN}\nold\n{report.END}\n\nand what follows {report.BEGIN}\n"


def test_renew_table_changes_only_what_lies_between_the_markers_and_does_so_once() -> None:
    text = report.renew_table(DOCUMENT, PAIR)
    body = f"{report.BEGIN}\n{MARKDOWN}\n\n{DIFFERENCE}\n\n{CLOSING}\n{report.END}"
    assert text == f"# Title ±\n\n{body}\n\nand what follows {report.BEGIN}\n"
    assert report.renew_table(text, PAIR) == text


def test_renew_table_without_records_says_so() -> None:
    assert "*no records*" in report.renew_table(DOCUMENT, [])


@pytest.mark.parametrize("text", ["", "no markers", report.BEGIN, report.END, f"{report.END}\n{report.BEGIN}"])
def test_renew_table_refuses_a_document_without_markers_in_their_order(text: str) -> None:
    with pytest.raises(ValueError, match=r"table from the records: begin .* in the document; put them where the table"):
        report.renew_table(text, PAIR)


def test_command_line_renews_a_document(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number, record in enumerate(PAIR):
        record.write(tmp_path / "results" / str(number) / RECORD_NAME)
    document = tmp_path / "README.md"
    document.write_text(DOCUMENT, encoding="utf-8")
    arguments = [str(document), str(tmp_path / "results")]
    assert report.main(arguments) == 0
    assert document.read_text(encoding="utf-8") == report.renew_table(DOCUMENT, PAIR)
    assert capsys.readouterr().err == ""

    document.write_text("no markers")
    assert report.main(arguments) == 2
    assert "expected the lines" in capsys.readouterr().err
    assert document.read_text() == "no markers"
    assert report.main([str(tmp_path / "none.md"), str(tmp_path)]) == 2
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


def test_curves_of_several_runs_are_each_and_their_mean() -> None:
    records = [make_record(seed=0, losses=(4.0, 2.0)), make_record(seed=1, losses=(2.0, 1.0)), make_record("resnet20")]
    figure = report.curves(records)
    left = figure.axes[0]
    assert lines(left) == {
        "PURe20, training": ([1, 2], [3.0, 1.5]),
        "PURe20, validation": ([1, 2], [6.0, 3.0]),
        "ResNet20, training": ([1, 2], [2.0, 1.0]),
        "ResNet20, validation": ([1, 2], [4.0, 2.0]),
    }
    single = sorted(
        list(line.get_ydata())
        for line in left.lines
        if str(line.get_label()).startswith("_") and line.get_linestyle() == "--"
    )
    assert single == [[2.0, 1.0], [4.0, 2.0]]
    draw(figure)


@pytest.mark.parametrize("losses", [(math.nan, math.nan), (math.inf, math.inf), (math.nan, 1.0), (1e28, math.inf)])
def test_curves_of_a_run_that_diverged_can_be_drawn(losses: tuple[float, ...]) -> None:
    figure = report.curves([make_record(losses=losses), make_record(seed=1)])
    drawn = lines(figure.axes[0])["PURe20, training"][1]
    assert drawn == pytest.approx([(losses[0] + 2) / 2, (losses[1] + 1) / 2], nan_ok=True)
    draw(figure)
    draw(report.curves([make_record(losses=losses)]))


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
    texts = {text.get_position(): text.get_text() for text in axes.texts}
    assert texts == {(0, 0): "45", (1, 0): "5", (0, 1): "5", (1, 1): "45"}
    image = np.asarray(axes.images[0].get_array())
    assert image.tolist() == [[0, 5], [5, 0]]  # errors alone are coloured
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted class", "true class")
    assert [label.get_text() for label in axes.get_xticklabels()] == ["a", "b"]
    draw(figure)


def test_confusion_matrix_has_the_true_class_in_its_rows() -> None:
    record = make_record()
    record = record.model_copy(update={"test": record.test.model_copy(update={"confusion": ((7, 3), (0, 4))})})
    (axes,) = report.confusion_figure(record).axes
    assert {text.get_position(): text.get_text() for text in axes.texts} == {(0, 0): "7", (1, 0): "3", (1, 1): "4"}


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
    assert report.runs_table([]).empty
    for figure in (report.curves([]), report.thresholds_figure([])):
        assert all(not axes.lines for axes in figure.axes)
        draw(figure)


def test_a_network_without_product_units_says_so() -> None:
    figure = report.thresholds_figure([make_record("resnet20", thresholds={})])
    assert [text.get_text() for text in figure.axes[0].texts] == ["no product units in this network"]
    draw(figure)
