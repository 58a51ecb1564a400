"""Loss and figures of a segmentation, by hand, and one training of it by the project's own command."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from pure.data.images import ImageSet
from pure.data.splits import Splits
from pure.recipes import get_recipe
from pure.records import read_record
from pure.train import estimate, fit, load_run
from pure.train.distributed import ranks
from pure.train.tasks import dice_loss, task_of

SMALL: dict[str, Any] = {"widths": (4, 6, 8), "blocks": (1, 1, 1)}
PLAIN: dict[str, Any] = {"channels_last": False, "compile": False}


def blobs(number: int, seed: int) -> ImageSet:
    """Bright squares on a dark noisy ground, every fourth image without one."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 90, (number, 3, 16, 16), generator=generator, dtype=torch.uint8)
    masks = torch.zeros(number, 16, 16, dtype=torch.uint8)
    for row in range(number):
        if row % 4:
            y, x = torch.randint(0, 10, (2,), generator=generator).tolist()
            masks[row, y : y + 6, x : x + 6] = 1
    images[masks[:, None].bool().expand_as(images)] += 120
    return ImageSet(images, masks)


@pytest.fixture(scope="module")
def splits() -> Splits:
    return Splits("blobs", ("background", "square"), blobs(48, 0), blobs(16, 1), blobs(20, 2))


def scores(answer: Tensor, sure: float = 20.0) -> Tensor:
    """Logits ``(n, 2, H, W)`` of an answer ``(n, H, W)``."""
    return sure * torch.stack([1 - answer, answer], 1).float()


def test_the_figures_of_a_test_by_hand(splits: Splits) -> None:
    masks, answer = torch.zeros(2, 4, 2, 4, dtype=torch.uint8)
    masks[0, 0] = 1  # found in half, with one more beside it
    answer[0, 0, :2] = answer[0, 1, 0] = 1
    masks[1, 0, 0] = answer[1, 0, 0] = 1  # found
    answer[2, 1, 1] = 1  # none is there
    task = task_of(get_recipe("deblending", "pu_unet"), splits)
    with ranks("cpu") as group:
        found = task.measure(scores(answer), masks, group)
    assert found.dice == pytest.approx((2 * 2 / (4 + 3) + 1) / 2)
    assert found.iou == pytest.approx((2 / 5 + 1) / 2)
    assert found.false_positives == 0.5
    assert found.accuracy == pytest.approx((5 / 8 + 1 + 7 / 8 + 1) / 4)
    assert found.image_dice is not None
    assert found.image_dice[:2] == pytest.approx((4 / 7, 1.0))
    assert found.image_dice[2:] == (None, None)  # no object to find
    assert found.predictions is found.confusion is found.top5 is None


def test_sets_of_one_kind_have_the_other_figures_left_out(splits: Splits) -> None:
    task = task_of(get_recipe("deblending", "pu_unet"), splits)
    with ranks("cpu") as group:
        empty = task.measure(scores(torch.zeros(2, 4, 4)), torch.zeros(2, 4, 4, dtype=torch.uint8), group)
        full = task.measure(scores(torch.ones(2, 4, 4)), torch.ones(2, 4, 4, dtype=torch.uint8), group)
    assert (empty.dice, empty.iou, empty.false_positives) == (None, None, 0.0)
    assert (full.dice, full.iou, full.false_positives) == (1.0, 1.0, None)


def test_the_dice_loss_by_hand() -> None:
    masks = torch.tensor([[[1, 1], [0, 0]], [[0, 0], [0, 0]]])
    half = torch.zeros(2, 2, 2, 2)  # every pixel with probability 1/2
    assert dice_loss(half, masks).item() == pytest.approx(1 - ((2 * 1 + 1) / (2 + 2 + 1) + 1 / 3) / 2)
    assert dice_loss(scores(masks), masks).item() == pytest.approx(0, abs=1e-6)
    logits = torch.randn(2, 3, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(dice_loss, (logits, 2 * masks))


def test_a_network_learns_to_segment_and_comes_back(splits: Splits, tmp_path: Path) -> None:
    options: dict[str, Any] = {"epochs": 6, "batch_size": 8, "milestones": (5,)}
    record = fit(
        "deblending",
        "pu_unet",
        data=splits,
        out=tmp_path,
        overrides=options,
        model_options=SMALL,
        execution=PLAIN,
        device="cpu",
    )
    assert read_record(tmp_path / "record.json").outcome() == record.outcome()
    assert record.test is not None
    assert record.test.dice is not None
    assert record.test.dice > 0.8  # an untrained network has about 0.2
    assert record.data.test_labels is None
    assert record.epochs[0].validation is not None
    assert record.epochs[0].validation.dice is not None
    assert record.recipe.task == "segmentation"
    assert len(record.thresholds) == 3
    _, network, _ = load_run(tmp_path, splits)
    task = task_of(record.recipe, splits)
    with ranks("cpu") as group, torch.no_grad():
        mean, std = (each[:, None, None] for each in splits.statistics)
        again = task.measure(
            network((splits.test.read(torch.arange(20)).float() - mean) / std), splits.test.labels, group
        )
    assert again.dice == pytest.approx(record.test.dice, abs=1e-6)
    assert again.image_dice == pytest.approx(record.test.image_dice, abs=1e-6)


def test_the_estimate_of_a_segmentation(splits: Splits) -> None:
    told = estimate(
        "deblending",
        "pu_unet",
        data=splits,
        model_options=SMALL,
        overrides={"batch_size": 8},
        execution=PLAIN,
        device="cpu",
    )
    assert "deblending pu_unet seed 0: 16 epochs of 6 batches" in told


def test_a_network_or_data_of_the_other_task_are_refused(splits: Splits) -> None:
    with pytest.raises(ValueError, match=r"logits of shape \(16, 2\).* need \(N, classes, H, W\); .* res_unet"):
        fit("deblending", "pure20", data=splits, model_options={"blocks": (1, 1, 1)}, execution=PLAIN, device="cpu")
    with pytest.raises(ValueError, match=r"'deblending' is for segmentation and needs a mask .* 'digits' has a class"):
        fit("deblending", "pu_unet", overrides={"dataset": "digits"}, model_options=SMALL, device="cpu")
    with pytest.raises(ValueError, match=r"'digits' is for classification and needs a class .* 'blobs' has a mask"):
        fit("digits", "pure20", data=splits, device="cpu")
    with pytest.raises(ValueError, match=r"logits of shape \(32, 10, 8, 8\)"):
        fit("digits", "res_unet", model_options=SMALL, execution=PLAIN, device="cpu")
    with pytest.raises(ValueError, match=r"segmentation is tested on whole images alone, .* got \('ten-crop',\)"):
        get_recipe("deblending", "pu_unet", protocols=("ten-crop",))
