"""Hyper-parameters as frozen data: one recipe for each data set and family of networks.

Section 4 of the paper trains PURe with a lower learning rate and a larger weight decay than ResNet, so a recipe's name
stands for two sets of values; :func:`get_recipe` picks the one for a network.
"""

from __future__ import annotations

import difflib
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt

__all__ = ["Family", "Recipe", "family_of", "get_recipe", "list_recipes"]

Family = Literal["pure", "resnet"]

_NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Recipe(BaseModel):
    """What fixes a training, next to the network and the seed.

    Attributes:
        name: the recipe's name.
        family: the networks that it is for.
        dataset: name of the data set, as :func:`pure.data.load` knows it.
        split_seed: fixes the division into training, validation and test set; the same for every run.
        source: where the values come from.
        epochs: passes over the training set.
        batch_size: images in a step.
        lr: initial learning rate of SGD.
        momentum: momentum of SGD.
        weight_decay: L2 penalty of SGD.
        decay_theta: whether the penalty also pulls on the thresholds' ``theta``, as plain SGD does.
        milestones: epochs after which the learning rate is multiplied by ``gamma``.
        gamma: the factor.
        selection: the weights that are tested: of the ``"last"`` epoch, or of the epoch with the
            ``"lowest-validation-loss"``.
        max_shift: augmentation, pixels: each training image is moved by up to so many, anew in each epoch.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: str
    family: Family
    dataset: str
    source: str
    epochs: PositiveInt
    batch_size: PositiveInt
    lr: float = Field(gt=0, allow_inf_nan=False)
    weight_decay: _NonNegative
    milestones: tuple[PositiveInt, ...]
    momentum: _NonNegative = 0.9
    gamma: _NonNegative = 0.1
    decay_theta: bool = True
    selection: Literal["last", "lowest-validation-loss"] = "last"
    max_shift: NonNegativeInt = 0
    split_seed: NonNegativeInt = 0


_DIGITS: dict[str, Any] = {
    "dataset": "digits",
    "source": "section 4.3.2 (CIFAR-10), shortened to a tenth: learning rate dropped at 1/2 and 3/4 of the epochs",
    "epochs": 16,
    "batch_size": 32,
    "milestones": (8, 12),
    "max_shift": 1,
}

_RECIPES: dict[str, dict[Family, Recipe]] = {
    "digits": {
        "pure": Recipe(name="digits", family="pure", lr=0.01, weight_decay=1e-3, **_DIGITS),
        "resnet": Recipe(name="digits", family="resnet", lr=0.1, weight_decay=1e-4, **_DIGITS),
    }
}


def list_recipes() -> list[str]:
    """The names that :func:`get_recipe` knows."""
    return sorted(_RECIPES)


def family_of(model: str) -> Family:
    """Whose hyper-parameters a network by this name is trained with: those of PURe or those of ResNet."""
    return "pure" if model.startswith("pure") else "resnet"


def get_recipe(name: str, family: Family, **overrides: Any) -> Recipe:
    """A recipe by name, for one family of networks.

    Args:
        name: one of :func:`list_recipes`.
        family: ``"pure"`` or ``"resnet"``; :func:`family_of` tells a network's.
        **overrides: fields of :class:`Recipe` to be set otherwise.  Where ``epochs`` is overridden and
            ``milestones`` is not, the milestones move along in proportion, but never before the end of the first epoch.

    Raises:
        ValueError: the name, the family or a field is unknown, or a value is of the wrong type or out of its range.
    """
    if name not in _RECIPES:
        nearest = difflib.get_close_matches(name.lower(), _RECIPES, n=1)
        hint = f"did you mean {nearest[0]!r}? " if nearest else ""
        raise ValueError(f"unknown recipe {name!r}; {hint}known are {', '.join(list_recipes())}")
    if family not in get_args(Family):
        raise ValueError(f"unknown family {family!r}; expected 'pure' or 'resnet', family_of(model) tells a network's")
    recipe = _RECIPES[name][family]
    fields = Recipe.model_fields.keys() - {"name", "family", "source"}
    for field in overrides:
        if field not in fields:
            nearest = difflib.get_close_matches(field, fields, n=1)
            hint = f"did you mean {nearest[0]!r}? " if nearest else ""
            raise ValueError(f"recipe {name!r} has no field {field!r}; {hint}it has {', '.join(sorted(fields))}")
    epochs = overrides.get("epochs")
    if isinstance(epochs, int) and "milestones" not in overrides:  # what is no int is refused below
        moved = (round(milestone * epochs / recipe.epochs) for milestone in recipe.milestones)
        overrides["milestones"] = tuple(max(1, milestone) for milestone in moved)
    return Recipe(**{**recipe.model_dump(), **overrides})
