"""The learning rate of each epoch, worked out by hand and compared with PyTorch's schedulers; the selected epoch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch.optim.lr_scheduler import MultiStepLR, ReduceLROnPlateau

from pure.recipes import Recipe, get_recipe
from pure.records import Epoch, Score
from pure.train.schedule import learning_rate, requires_validation, selected_epoch


def epochs(losses: Sequence[float | None], accuracies: Sequence[float] | None = None) -> list[Epoch]:
    accuracies = accuracies or [1.0] * len(losses)
    return [
        Epoch(
            lr=0.0,
            train=Score(loss=1.0, accuracy=accuracy),
            validation=None if loss is None else Score(loss=loss, accuracy=0.5),
            train_s=1.0,
            validation_s=1.0,
        )
        for loss, accuracy in zip(losses, accuracies, strict=True)
    ]


def rates(recipe: Recipe, done: list[Epoch]) -> list[float]:
    """Of the first epoch, the second, ... and the one after all that are done."""
    return [learning_rate(recipe, done[:number]) for number in range(len(done) + 1)]


@pytest.mark.parametrize(
    ("name", "model", "table"),
    [
        ("cifar10", "pure20", {1: 0.01, 80: 0.01, 81: 0.001, 120: 0.001, 121: 0.0001, 160: 0.0001}),
        ("cifar10", "resnet20", {1: 0.1, 80: 0.1, 81: 0.01, 120: 0.01, 121: 0.001, 160: 0.001}),
        ("cifar10-extended", "pure20", {140: 0.01, 141: 0.001, 180: 0.001, 181: 0.0001, 220: 0.0001}),
        ("imagenet", "pure34", {30: 0.01, 31: 0.001, 60: 0.001, 61: 0.0001, 90: 0.0001}),
        ("imagenet", "resnet34", {30: 0.1, 31: 0.01, 60: 0.01, 61: 0.001, 90: 0.001}),
        ("fashion-mnist", "pure20", {20: 0.01, 21: 0.001, 30: 0.001, 31: 0.0001, 40: 0.0001}),
        ("digits", "pure20", {8: 0.01, 9: 0.001, 12: 0.001, 13: 0.0001, 16: 0.0001}),
        ("imagenet-quick", "resnet18", {6: 0.1, 7: 0.01, 12: 0.01, 13: 0.001, 18: 0.001}),
    ],
)
def test_milestones_of_every_recipe_by_hand(name: str, model: str, table: dict[int, float]) -> None:
    recipe = get_recipe(name, model)
    found = rates(recipe, epochs([1.0] * recipe.epochs))
    assert {number: found[number - 1] for number in table} == pytest.approx(table, rel=1e-12)
    assert max(table) <= recipe.epochs


@pytest.mark.parametrize(
    ("losses", "patience", "expected"),
    [
        # Three consecutive epochs without improvement, then the drop: not four.
        ([1.0, 2.0, 2.0, 2.0, 2.0], 3, [0.1, 0.1, 0.1, 0.1, 0.01, 0.01]),
        ([1.0, 2.0, 2.0, 0.9, 2.0, 2.0], 3, [0.1] * 7),  # not consecutive
        ([1.0, 1.0, 1.0, 1.0], 3, [0.1, 0.1, 0.1, 0.1, 0.01]),  # an equal loss is no improvement
        ([math.nan, math.nan, math.nan, 1.0], 3, [0.1, 0.1, 0.1, 0.01, 0.01]),  # nor is a NaN
        ([math.inf, 3.0, math.nan, 2.0], 2, [0.1] * 5),
        ([1.0, 2.0, 2.0, 2.0, 2.0], 1, [0.1, 0.1, 0.01, 0.001, 0.0001, 0.00001]),
        ([1.0] * 7, 3, [0.1, 0.1, 0.1, 0.1, 0.01, 0.01, 0.01, 0.001]),  # counted again after a drop
        ([1.0, 2.0, 2.0, 2.0, 1.5, 1.5, 0.5], 3, [0.1, 0.1, 0.1, 0.1] + [0.01] * 4),  # the best loss is kept
    ],
)
def test_plateau_by_hand_and_as_pytorch_with_a_patience_of_one_less(
    losses: list[float], patience: int, expected: list[float]
) -> None:
    recipe = get_recipe("galaxy10", "resnet18", patience=patience)
    assert rates(recipe, epochs(losses)) == pytest.approx(expected, rel=1e-9)

    optimiser = torch.optim.SGD([torch.zeros(())], lr=0.1)
    theirs = ReduceLROnPlateau(optimiser, factor=0.1, patience=patience - 1, threshold=0.0, eps=0.0)
    found = [0.1]
    for loss in losses:
        theirs.step(loss)
        found.append(optimiser.param_groups[0]["lr"])
    assert rates(recipe, epochs(losses)) == found


def test_milestones_round_as_those_of_pytorch() -> None:
    recipe = get_recipe("digits", "resnet20", milestones=(1, 2, 4), gamma=0.3)
    optimiser = torch.optim.SGD([torch.zeros(())], lr=recipe.lr)
    theirs, found = MultiStepLR(optimiser, [1, 2, 4], 0.3), [recipe.lr]
    for _ in range(5):
        optimiser.step()
        theirs.step()
        found.append(optimiser.param_groups[0]["lr"])
    assert rates(recipe, epochs([1.0] * 5)) == found


def test_warm_up_ends_behind_the_first_epoch_with_a_training_error_below_the_limit() -> None:
    recipe = get_recipe("cifar10", "resnet110")
    assert (recipe.lr, recipe.warmup_lr, recipe.warmup_error) == (0.1, 0.01, 0.8)
    accuracies = [0.1, 0.15, 0.2, 0.21, 0.1]  # an error of exactly 80 % is not below
    found = rates(recipe, epochs([1.0] * 5, accuracies))
    assert found == pytest.approx([0.01, 0.01, 0.01, 0.01, 0.1, 0.1])  # one that falls back stays warm
    long = epochs([1.0] * 160, [0.1] * 3 + [0.9] * 157)
    assert [rates(recipe, long)[n] for n in (3, 4, 79, 80, 120)] == pytest.approx([0.01, 0.1, 0.1, 0.01, 0.001])


def test_warm_up_that_never_ends_keeps_its_rate() -> None:
    recipe = get_recipe("cifar10", "resnet110", epochs=4, milestones=(2,))
    assert rates(recipe, epochs([1.0] * 4, [0.1] * 4)) == [0.01] * 5


def test_a_plateau_is_counted_from_the_end_of_the_warm_up() -> None:
    recipe = get_recipe("galaxy10", "resnet18", warmup_lr=0.001, patience=2)
    done = epochs([1.0, 1.0, 1.0, 2.0, 2.0, 2.0], [0.1, 0.1, 0.9, 0.9, 0.9, 0.9])
    assert rates(recipe, done) == pytest.approx([0.001, 0.001, 0.001, 0.1, 0.1, 0.1, 0.01])


@pytest.mark.parametrize(
    ("selection", "losses", "selected"),
    [
        ("last", [3.0, 1.0, 2.0, 2.5], 4),
        ("lowest-validation-loss", [3.0, 1.0, 2.0, 2.5], 2),
        ("lowest-validation-loss", [1.0, 1.0, 2.0, 1.0], 1),  # the earliest of equals
        ("lowest-validation-loss", [math.nan, math.inf, 2.0, 1.5], 4),  # running statistics lag at first
        ("lowest-validation-loss", [2.0, math.nan, -math.inf, 3.0], 1),
        ("lowest-validation-loss", [math.nan, math.nan, math.nan, math.nan], 1),
        ("last", [None, None], 2),
    ],
)
def test_selected_epoch(selection: str, losses: list[float | None], selected: int) -> None:
    assert selected_epoch(get_recipe("digits", "pure", selection=selection), epochs(losses)) == selected


@pytest.mark.parametrize(
    ("name", "overrides", "needed"),
    [
        ("cifar10", {}, []),
        ("galaxy10", {}, ["schedule='plateau'", "selection='lowest-validation-loss'"]),
        ("galaxy10", {"selection": "last"}, ["schedule='plateau'"]),
        ("cifar10", {"selection": "lowest-validation-loss"}, ["selection='lowest-validation-loss'"]),
    ],
)
def test_what_needs_a_validation_set(name: str, overrides: dict[str, Any], needed: list[str]) -> None:
    assert requires_validation(get_recipe(name, "pure", **overrides)) == needed
