"""Tables and figures of segmentations, from records made by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pytest
import torch

from pure import report
from pure.recipes import get_recipe
from pure.records import Epoch, Evaluation, ModelSummary, RunRecord, Score, read_record
from pure.report import segmentation

ROOT = Path(__file__).parents[2]
TEMPLATE = read_record(next((ROOT / "results" / "digits" / "pure20").rglob("record.json")))

DICE = {"pu_unet": [0.80, 0.82, 0.81], "res_unet": [0.79, 0.80, 0.80]}


def record(name: str, seed: int, **changes: Any) -> RunRecord:
    dice = DICE[name][seed]
    test = Evaluation(
        loss=0.5,
        accuracy=0.97,
        dice=dice,
        iou=dice - 0.1,
        false_positives=0.25,
        image_dice=(dice - 0.05, None, dice + 0.05),
    )
    score = Score(loss=0.5, accuracy=0.9, dice=dice, iou=dice - 0.1, false_positives=0.5)
    epochs = [Epoch(lr=0.05, train=score, validation=score, train_s=1.0, validation_s=0.1)] * 2
    recipe = get_recipe("deblending", name)
    return TEMPLATE.model_copy(
        update={
            "recipe": recipe,
            "model": ModelSummary(name=name, options={"widths": (8, 16)}, parameters=1234),
            "data": TEMPLATE.data.model_copy(update={"name": "deblending", "test": 3, "synthetic": True}),
            "seed": seed,
            "test": test,
            "epochs": tuple(epochs),
            "selected": 2,
            "overrides": (),
            **changes,
        }
    )


@pytest.fixture
def records() -> list[RunRecord]:
    return [record(model, seed) for model in DICE for seed in range(3)]


def test_the_table_has_a_row_for_each_network(records: list[RunRecord]) -> None:
    table = segmentation.segmentation_table([*records, TEMPLATE])
    assert list(table["Network"]) == ["PU-UNet (widths=(8, 16))", "residual U-Net (widths=(8, 16))"]
    assert list(table["Dice (%)"]) == ["81.00 ± 1.00", "79.67 ± 0.58"]
    assert list(table["IoU (%)"]) == ["71.00 ± 1.00", "69.67 ± 0.58"]
    assert list(table["Found on empty images (%)"]) == ["25.00 ± 0.00"] * 2
    assert list(table["Runs"]) == ["3", "3"]


def test_differences_are_paired_by_seed(records: list[RunRecord]) -> None:
    table = segmentation.segmentation_differences(records).set_index("Measure")
    assert table.loc["Dice, these images", "Difference (points)"] == "+1.33"  # of 1, 2 and 1 points
    # Student: 4.303 * 0.577 / sqrt(3) = 1.434
    assert table.loc["Dice, these images", "95 % interval"] == "-0.10 to +2.77"
    assert table.loc["Dice, these images", "Verdict"] == "undecided"
    assert table.loc["Found on empty images, these images", "Difference (points)"] == "+0.00"
    assert table.loc["Dice, further images too", "Difference (points)"] == "+1.33"
    assert table.loc["Dice, further images too", "Seeds"] == "3"


def test_only_runs_with_the_same_settings_are_paired(records: list[RunRecord]) -> None:
    (pairs,) = segmentation.pairs(records)
    assert [(ours.model.name, ours.seed, theirs.seed) for ours, theirs in pairs] == [
        ("pu_unet", k, k) for k in range(3)
    ]
    assert len(segmentation.pairs([*records[:3], *records[4:]])[0]) == 2  # seed 0 has no partner
    wider = [
        record("res_unet", seed, model=ModelSummary(name="res_unet", options={"widths": (16, 32)}, parameters=1))
        for seed in range(3)
    ]
    assert segmentation.pairs([*records[:3], *wider]) == []
    assert segmentation.segmentation_differences([]).empty


def test_the_accuracy_of_pixels_stands_in_no_table_of_images(records: list[RunRecord]) -> None:
    for table in (report.accuracy_table, report.runs_table):
        assert table(records).empty
        assert len(table([*records, TEMPLATE])) == 1


def test_the_figures_show_what_is_there(records: list[RunRecord]) -> None:
    figure = segmentation.dice_figure(records)
    left, right = figure.axes
    assert [line.get_label() for line in left.lines] == ["PU-UNet", "residual U-Net"]
    assert left.lines[0].get_ydata().tolist() == pytest.approx([81, 81])  # type: ignore[union-attr]
    assert [line.get_xdata()[0] for line in right.lines if line.get_marker() == "o"] == pytest.approx([80, 82, 81])  # type: ignore[index]
    plt.close(figure)
    masks = torch.zeros(3, 8, 8, dtype=torch.uint8)
    masks[:2, 2:5, 2:5] = 1
    figure = segmentation.masks_figure(torch.zeros(3, 3, 8, 8, dtype=torch.uint8), masks, masks, ["a", "b", "c"], 2)
    assert [len(axes.images) for axes in figure.axes] == [1, 1, 1, 0]
    assert [len(axes.collections) for axes in figure.axes] == [2, 2, 0, 0]  # true and found; an empty mask has none
    assert [axes.get_title("center") for axes in figure.axes[:3]] == ["a", "b", "c"]
    plt.close(figure)


def test_the_table_of_steps_takes_the_ratio_within_a_round() -> None:
    case = {
        "size": "small",
        "layout": "contiguous",
        "parameters": {"res_unet": 1000, "pu_unet": 1003},
        "seconds": {"res_unet": [1.0, 2.0, 4.0], "pu_unet": [1.1, 2.1, 4.0]},
    }
    row = segmentation.steps_table(json.loads(json.dumps({"cases": [case]}))).iloc[0]
    assert row["Step, ratio"] == "1.050"
    assert (row["residual U-Net"], row["PU-UNet"], row["Rounds"]) == ("1,000", "1,003", "3")
