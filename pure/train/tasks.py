"""What a training is told to tell: the class of an image, or the class of each of its pixels.

A task is its loss, the sums that an epoch keeps of it, and the figures of a test; the rest of a training is the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics.functional.segmentation import dice_score, mean_iou

from pure.data import Splits
from pure.recipes import Recipe
from pure.records import Evaluation
from pure.train.distributed import Group
from pure.train.evaluate import measure, pack

__all__ = ["Task", "dice_loss", "task_of"]

SMOOTHING = 1.0
"""Pixels that count as found in every image, so that the Dice loss has a value, and a slope, where there is none."""


@dataclass(frozen=True)
class Task:
    """What differs between tasks.

    Attributes:
        loss: mean loss from logits and labels.
        sums: of a part of a batch, from logits, labels and mean loss: summed loss, number right, number right among
            five, number of images; float64.
        measure: the figures of a test, from the scores and labels of this rank's images.
        has_top5: whether being among the five likeliest classes has a meaning.
    """

    loss: Callable[[Tensor, Tensor], Tensor]
    sums: Callable[[Tensor, Tensor, Tensor], Tensor]
    measure: Callable[[Tensor, Tensor, Group], Evaluation]
    has_top5: bool


def task_of(recipe: Recipe, splits: Splits) -> Task:
    """The task of a recipe.

    Raises:
        ValueError: the data set has masks and the recipe wants classes, or the other way round.
    """
    has_masks = splits.train.labels.ndim == 3
    if has_masks != (recipe.task == "segmentation"):
        have, wanted = ("a mask", "a class") if has_masks else ("a class", "a mask")
        raise ValueError(
            f"recipe {recipe.name!r} is for {recipe.task} and needs {wanted} for each image, and data set "
            f"{splits.name!r} has {have}; choose a recipe for these data, or another data set"
        )
    return _TASKS[recipe.task]


# The class of an image


def _classification_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy of logits ``(n, classes)`` and labels ``(n,)``."""
    _require_dimensions(logits, labels)
    return F.cross_entropy(logits, labels)


def _classification_sums(logits: Tensor, labels: Tensor, loss: Tensor) -> Tensor:
    right = (logits.argmax(1) == labels).sum()
    among_five = (logits.topk(5).indices == labels[:, None]).sum() if logits.shape[1] > 5 else right
    return torch.stack([loss.double() * len(labels), right, among_five, torch.full_like(right, len(labels))])


def _measure_classes(scores: Tensor, labels: Tensor, group: Group) -> Evaluation:
    found = measure(scores, labels, synchronize=group.world_size > 1)
    predicted = pack(group.interleave(scores.argmax(1)), scores.shape[1])
    return found.model_copy(update={"predictions": predicted})


# The class of each pixel


def _segmentation_loss(logits: Tensor, masks: Tensor) -> Tensor:
    """Mean cross-entropy of the pixels and the Dice loss, added: the one sharpens edges, the other finds the small."""
    _require_dimensions(logits, masks)
    classes = masks.long()
    return F.cross_entropy(logits, classes) + dice_loss(logits, classes)


def dice_loss(logits: Tensor, masks: Tensor) -> Tensor:
    r"""One less the soft Dice coefficient (Milletari et al., 2016), mean over images and classes but the background.

    With probabilities :math:`p` and truth :math:`t` over the pixels of an image, and a pixel :math:`s = 1` that counts
    as found, :math:`1 - (2 \sum p t + s) / (\sum p + \sum t + s)`.  The coefficients of torchmetrics, which the test is
    measured by, take the answer as classes and have no gradient.

    Args:
        logits: shape ``(n, classes, H, W)``, the background first.
        masks: shape ``(n, H, W)``, int64.

    Returns:
        A scalar from 0 to 1.
    """
    found = logits.softmax(1)[:, 1:].flatten(2)  # (n, classes - 1, H * W)
    true = F.one_hot(masks, logits.shape[1]).movedim(-1, 1)[:, 1:].flatten(2)  # the same
    both = (found * true).sum(2)
    return 1 - ((2 * both + SMOOTHING) / (found.sum(2) + true.sum(2) + SMOOTHING)).mean()


def _segmentation_sums(logits: Tensor, masks: Tensor, loss: Tensor) -> Tensor:
    number = loss.new_full((), len(masks), dtype=torch.float64)
    right = (logits.argmax(1) == masks).double().flatten(1).mean(1).sum()
    return torch.stack([loss.double() * number, right, right, number])


_AT_ONCE = 64  # images that a test is measured on: of float64 copies of all scores there would be gigabytes


def _measure_masks(scores: Tensor, masks: Tensor, group: Group) -> Evaluation:
    """Of each image loss, accuracy, Dice and IoU, then the means: images count alike, on however many ranks."""
    pieces = zip(scores.split(_AT_ONCE), masks.split(_AT_ONCE), strict=True)
    figures = torch.cat([_figures(*piece) for piece in pieces] or [torch.empty(0, 6, dtype=torch.float64)])
    columns = [group.interleave(column) for column in figures.unbind(1)]
    losses, right, dice, iou, holds, finds = columns
    held, empty = holds > 0, holds == 0
    return Evaluation(
        loss=losses.mean().item(),
        accuracy=right.mean().item(),
        dice=dice[held].mean().item() if held.any() else None,
        iou=iou[held].mean().item() if held.any() else None,
        false_positives=finds[empty].mean().item() if empty.any() else None,
        image_dice=tuple(each if there else None for each, there in zip(dice.tolist(), held.tolist(), strict=True)),
    )


def _figures(scores: Tensor, masks: Tensor) -> Tensor:
    """Loss, accuracy, Dice, IoU, whether there is an object, whether one was found: ``(n, 6)``, float64."""
    classes, truth = scores.shape[1], masks.long()
    answer = scores.argmax(1)
    losses = [_segmentation_loss(each[None].double(), mask[None]) for each, mask in zip(scores, truth, strict=True)]
    settings: dict[str, Any] = {"num_classes": classes, "include_background": False, "input_format": "index"}
    dice = dice_score(answer, truth, average="macro", **settings)
    overlap = mean_iou(answer, truth, **settings)
    holds, finds = (each.flatten(1).any(1) for each in (truth, answer))
    right = (answer == truth).double().flatten(1).mean(1)
    return torch.stack([torch.stack(losses), right, *(each.double() for each in (dice, overlap, holds, finds))], 1)


def _require_dimensions(logits: Tensor, labels: Tensor) -> None:
    """Refuse a network of the other task."""
    if logits.ndim != labels.ndim + 1:
        wanted, such = ("(N, classes, H, W)", "res_unet or pu_unet") if labels.ndim == 3 else ("(N, classes)", "pure20")
        raise ValueError(
            f"the network gives logits of shape {tuple(logits.shape)}, and labels of shape {tuple(labels.shape)} need "
            f"{wanted}; choose a network for this task, such as {such}"
        )


_TASKS = {
    "classification": Task(_classification_loss, _classification_sums, _measure_classes, has_top5=True),
    "segmentation": Task(_segmentation_loss, _segmentation_sums, _measure_masks, has_top5=False),
}
