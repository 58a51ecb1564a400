"""The recipes: every value, the schedule, and what bad input is told."""

from __future__ import annotations

import math
from typing import Any

import pytest
from pydantic import ValidationError

from pure.models import list_models
from pure.recipes import Recipe, family_of, get_recipe, list_recipes

SHARED = {
    "name": "digits",
    "dataset": "digits",
    "source": "section 4.3.2 (CIFAR-10), shortened to a tenth: learning rate dropped at 1/2 and 3/4 of the epochs",
    "epochs": 16,
    "batch_size": 32,
    "milestones": (8, 12),
    "momentum": 0.9,
    "gamma": 0.1,
    "decay_theta": True,
    "selection": "last",
    "max_shift": 1,
    "split_seed": 0,
}


@pytest.mark.parametrize(
    ("family", "own"),
    [("pure", {"lr": 0.01, "weight_decay": 0.001}), ("resnet", {"lr": 0.1, "weight_decay": 0.0001})],
)
def test_every_value_of_digits(family: Any, own: dict[str, float]) -> None:
    assert get_recipe("digits", family).model_dump() == {**SHARED, "family": family, **own}


def test_a_recipe_is_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        get_recipe("digits", "pure").lr = 1.0  # type: ignore[misc]


def test_family_of_every_network() -> None:
    assert list_recipes() == ["digits"]
    families = {name: family_of(name) for name in list_models()}
    assert families["pure20"] == families["pure272"] == "pure"
    assert families["resnet20"] == families["resnet110"] == "resnet"
    assert all(family in name for name, family in families.items())


# The schedule


@pytest.mark.parametrize(
    ("epochs", "milestones"),
    [(16, (8, 12)), (160, (80, 120)), (4, (2, 3)), (8, (4, 6)), (3, (2, 2)), (2, (1, 2)), (1, (1, 1))],
)
def test_milestones_move_along_with_the_epochs(epochs: int, milestones: tuple[int, ...]) -> None:
    assert get_recipe("digits", "pure", epochs=epochs).milestones == milestones


def test_milestones_that_are_given_stay() -> None:
    recipe = get_recipe("digits", "pure", epochs=4, milestones=(1,))
    assert (recipe.epochs, recipe.milestones) == (4, (1,))


# Overrides and bad input


def test_overrides_are_set_and_the_rest_stays() -> None:
    recipe = get_recipe("digits", "resnet", lr=0.05, momentum=0.0, selection="lowest-validation-loss")
    expected = {**SHARED, "family": "resnet", "weight_decay": 0.0001, "lr": 0.05, "momentum": 0.0}
    assert recipe.model_dump() == {**expected, "selection": "lowest-validation-loss"}
    assert get_recipe("digits", "resnet").lr == 0.1  # the published one is untouched


def test_unknown_recipe_is_answered_with_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"unknown recipe 'digit'; did you mean 'digits'\? known are digits"):
        get_recipe("digit", "pure")
    with pytest.raises(ValueError, match=r"unknown recipe 'imagenet'; known are digits"):
        get_recipe("imagenet", "pure")


def test_unknown_family() -> None:
    with pytest.raises(ValueError, match="unknown family 'pure20'; expected 'pure' or 'resnet'"):
        get_recipe("digits", "pure20")  # type: ignore[arg-type]


def test_unknown_field_is_answered_with_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"recipe 'digits' has no field 'batchsize'; did you mean 'batch_size'\?"):
        get_recipe("digits", "pure", batchsize=3)


def test_the_source_cannot_be_overridden() -> None:
    with pytest.raises(ValueError, match="recipe 'digits' has no field 'source'"):
        get_recipe("digits", "pure", source="mine")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("epochs", "ten"),
        ("epochs", 2.0),
        ("epochs", True),
        ("epochs", 0),
        ("batch_size", 0),
        ("batch_size", "32"),
        ("lr", 0.0),
        ("lr", -1.0),
        ("lr", math.nan),
        ("lr", math.inf),
        ("lr", "0.1"),
        ("weight_decay", -1e-3),
        ("weight_decay", math.inf),
        ("momentum", math.nan),
        ("gamma", math.inf),
        ("milestones", (1.5,)),
        ("milestones", (0,)),
        ("milestones", 3),
        ("decay_theta", "false"),
        ("decay_theta", 1),
        ("selection", "best"),
        ("max_shift", -1),
        ("split_seed", -1),
    ],
)
def test_ill_typed_and_impossible_values_are_refused_by_name(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"for Recipe\n{field}"):
        get_recipe("digits", "pure", **{field: value})


def test_a_whole_number_is_a_learning_rate() -> None:
    assert get_recipe("digits", "pure", lr=1).lr == 1.0


def test_a_recipe_comes_back_from_json() -> None:
    recipe = get_recipe("digits", "pure", milestones=(3, 5), epochs=7)
    assert Recipe.model_validate_json(recipe.model_dump_json()) == recipe
