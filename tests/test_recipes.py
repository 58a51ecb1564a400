"""The recipes: every value against the paper's, the schedules worked out by hand, and what bad input is told."""

from __future__ import annotations

import math
from typing import Any

import pytest
from pydantic import ValidationError

from pure.models import list_models
from pure.recipes import Recipe, family_of, get_recipe, list_recipes, sources

DEFAULTS: dict[str, Any] = {
    "task": "classification",
    "data_options": {},
    "momentum": 0.9,
    "decay_theta": True,
    "clip_norm": None,
    "schedule": "milestones",
    "milestones": (),
    "patience": 3,
    "gamma": 0.1,
    "warmup_lr": None,
    "warmup_error": 0.8,
    "selection": "last",
    "augmentation": "none",
    "protocols": ("whole",),
    "noise_scale": None,
    "noise_curve": (),
    "noise_seed": 0,
    "precision": "float32",
    "unit_precision": "float32",
}
GALAXY = {
    "schedule": "plateau",
    "patience": 3,
    "selection": "lowest-validation-loss",
    "noise_scale": 1.0,
}
ROTATED = "rotate(180)+flip+resized-crop"
EXPECTED: dict[str, dict[str, Any]] = {
    "mask-folder": {
        "task": "segmentation",
        "dataset": "mask-folder",
        "data_options": {"size": 256},
        "epochs": 100,
        "batch_size": 16,
        "milestones": (50, 75),
        "selection": "lowest-validation-loss",
        "augmentation": "flip+rotate(180)",
    },
    "deblending": {
        "task": "segmentation",
        "dataset": "deblending",
        "data_options": {"number": 600},
        "epochs": 16,
        "batch_size": 16,
        "milestones": (8, 12),
        "selection": "lowest-validation-loss",
        "augmentation": "flip+rotate(180)",
    },
    "cifar10": {
        "dataset": "cifar10",
        "epochs": 160,
        "batch_size": 128,
        "milestones": (80, 120),
        "augmentation": "pad-crop(4)+flip",
    },
    "cifar10-extended": {
        "dataset": "cifar10",
        "epochs": 220,
        "batch_size": 128,
        "milestones": (140, 180),
        "augmentation": "pad-crop(4)+flip",
    },
    "digits": {
        "dataset": "digits",
        "epochs": 16,
        "batch_size": 32,
        "milestones": (8, 12),
        "augmentation": "shift(1)",
    },
    "fashion-mnist": {
        "dataset": "fashion-mnist",
        "epochs": 40,
        "batch_size": 128,
        "milestones": (20, 30),
        "augmentation": "pad-crop(4)+flip",
    },
    "galaxy10": {
        **GALAXY,
        "dataset": "galaxy10",
        "data_options": {"split": "stratified", "split_seed": 0, "static_augmentation": f"{ROTATED}(256)"},
        "epochs": 30,
        "batch_size": 64,
    },
    "galaxy10-quick": {
        **GALAXY,
        "dataset": "galaxy10-synthetic",
        "data_options": {"number": 800, "size": 64, "static_augmentation": f"{ROTATED}(64)"},
        "epochs": 8,
        "batch_size": 32,
    },
    "cifar10-tenth": {
        "dataset": "cifar10",
        "data_options": {"test": "batch5"},
        "epochs": 16,
        "batch_size": 128,
        "milestones": (8, 12),
        "augmentation": "pad-crop(4)+flip",
    },
    "gz2": {
        **GALAXY,
        "dataset": "gz2",
        "epochs": 30,
        "batch_size": 64,
        "data_options": {"crop": 64, "per_class": 1000, "static_augmentation": f"{ROTATED}(64)"},
        "noise_curve": (0.01, 0.03, 0.1, 0.3, 3.0),
    },
    "imagenette64": {
        "dataset": "image-folder",
        "data_options": {"data_name": "imagenette", "size": 72},
        "epochs": 18,
        "batch_size": 64,
        "milestones": (6, 12),
        "augmentation": "resized-crop(64)+flip",
        "protocols": ("single-crop(72,64)",),
    },
    "imagenet": {
        "dataset": "imagenet",
        "epochs": 90,
        "batch_size": 256,
        "milestones": (30, 60),
        "augmentation": "resized-crop(224)+flip",
        "protocols": ("single-crop", "ten-crop", "multi-scale"),
    },
    "imagenet-quick": {
        "dataset": "image-folder",
        "epochs": 18,
        "batch_size": 64,
        "milestones": (6, 12),
        "augmentation": "resized-crop(128)+flip",
    },
}
"""What the two families share."""

RATES = {  # learning rate and weight decay: PURe, ResNet (sections 4.1.2, 4.2.2, 4.3.2)
    "galaxy10": ((0.01, 0.01), (0.1, 0.001)),
    "imagenet": ((0.01, 0.001), (0.1, 0.0001)),
    "cifar10": ((0.01, 0.001), (0.1, 0.0001)),
}
RATES |= {name: RATES["cifar10"] for name in ("cifar10-extended", "cifar10-tenth", "digits", "fashion-mnist")}
RATES["deblending"] = RATES["mask-folder"] = ((0.05, 0.0001), (0.05, 0.0001))  # one value for both networks
RATES |= {name: RATES["galaxy10"] for name in ("galaxy10-quick", "gz2")}
RATES |= {name: RATES["imagenet"] for name in ("imagenet-quick", "imagenette64")}

WARM_UP = {"warmup_lr": 0.01, "warmup_error": 0.8}


def test_there_are_these_recipes() -> None:
    assert list_recipes() == sorted(EXPECTED)


@pytest.mark.parametrize("family", ["pure", "resnet"])
@pytest.mark.parametrize("name", EXPECTED)
def test_every_value_of_every_recipe(name: str, family: str) -> None:
    lr, weight_decay = RATES[name][family == "resnet"]
    own = {"name": name, "family": family, "lr": lr, "weight_decay": weight_decay}
    assert get_recipe(name, family).model_dump() == {**DEFAULTS, **EXPECTED[name], **own}


@pytest.mark.parametrize("name", EXPECTED)
def test_only_resnet110_warms_up_and_on_cifars_images_only(name: str) -> None:
    with_warm_up = name in ("cifar10", "cifar10-extended", "cifar10-tenth", "fashion-mnist")
    for model in list_models():
        family = get_recipe(name, family_of(model)).model_dump()
        changed = WARM_UP if with_warm_up and model == "resnet110" else {}
        assert get_recipe(name, model).model_dump() == {**family, **changed}


def rates(recipe: Recipe) -> list[tuple[int, float]]:
    """First epoch, from 1, and learning rate of each stretch of a schedule by milestones."""
    drops = [recipe.lr * recipe.gamma**number for number in range(len(recipe.milestones) + 1)]
    return list(zip((1, *(milestone + 1 for milestone in recipe.milestones)), drops, strict=True))


@pytest.mark.parametrize(
    ("name", "family", "expected"),
    [
        ("cifar10", "pure", [(1, 1e-2), (81, 1e-3), (121, 1e-4)]),
        ("cifar10", "resnet", [(1, 1e-1), (81, 1e-2), (121, 1e-3)]),
        ("cifar10-extended", "pure", [(1, 1e-2), (141, 1e-3), (181, 1e-4)]),
        ("cifar10-extended", "resnet", [(1, 1e-1), (141, 1e-2), (181, 1e-3)]),
        ("imagenet", "pure", [(1, 1e-2), (31, 1e-3), (61, 1e-4)]),
        ("imagenet", "resnet", [(1, 1e-1), (31, 1e-2), (61, 1e-3)]),
        ("imagenet-quick", "pure", [(1, 1e-2), (7, 1e-3), (13, 1e-4)]),
        ("fashion-mnist", "pure", [(1, 1e-2), (21, 1e-3), (31, 1e-4)]),
        ("digits", "pure", [(1, 1e-2), (9, 1e-3), (13, 1e-4)]),
    ],
)
def test_learning_rates_by_hand(name: str, family: str, expected: list[tuple[int, float]]) -> None:
    found = rates(get_recipe(name, family))
    assert [epoch for epoch, _ in found] == [epoch for epoch, _ in expected]
    assert [rate for _, rate in found] == pytest.approx([rate for _, rate in expected])


def test_a_recipe_is_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        get_recipe("digits", "pure").lr = 1.0  # type: ignore[misc]


def test_family_of_every_network() -> None:
    families = {name: family_of(name) for name in list_models()}
    assert families["pure20"] == families["pure272"] == "pure"
    assert families["resnet20"] == families["preact_resnet110"] == families.pop("res_unet") == "resnet"
    assert families.pop("pu_unet") == "pure"
    peers = {"polynomial20", "starnet20"}  # no product units: trained as ResNets unless told otherwise
    assert all(family in name for name, family in families.items() if name not in peers)
    assert {families[name] for name in peers} == {"resnet"}


# Sources


@pytest.mark.parametrize("model", ["pure20", "resnet20", "resnet110"])
@pytest.mark.parametrize("name", EXPECTED)
def test_every_value_that_is_set_has_its_source(name: str, model: str) -> None:
    recipe, told = get_recipe(name, model), sources(name, model)
    set_otherwise = {
        field
        for field, info in Recipe.model_fields.items()
        if field not in ("name", "family") and (info.is_required() or getattr(recipe, field) != info.default)
    }
    assert set_otherwise <= told.keys() <= Recipe.model_fields.keys()
    assert all(told.values())


def test_sources_name_the_section() -> None:
    assert sources("galaxy10", "pure18")["lr"] == "section 4.1.2"
    assert sources("cifar10", "pure20")["lr"] == "section 4.3.2"
    assert sources("cifar10", "resnet20")["lr"] == "He et al., section 4.2"
    assert "warmup_lr" not in sources("cifar10", "resnet20")
    assert sources("cifar10", "resnet110")["warmup_lr"].startswith("He et al., section 4.2")


# Epochs and milestones


@pytest.mark.parametrize(
    ("epochs", "milestones"),
    [(16, (8, 12)), (160, (80, 120)), (4, (2, 3)), (8, (4, 6)), (3, (2, 2)), (2, (1, 2)), (1, (1, 1))],
)
def test_milestones_move_along_with_the_epochs(epochs: int, milestones: tuple[int, ...]) -> None:
    assert get_recipe("digits", "pure", epochs=epochs).milestones == milestones


def test_milestones_of_the_extended_training_move_in_their_own_proportion() -> None:
    assert get_recipe("cifar10-extended", "pure", epochs=22).milestones == (14, 18)


def test_milestones_that_are_given_stay() -> None:
    recipe = get_recipe("digits", "pure", epochs=4, milestones=(1,))
    assert (recipe.epochs, recipe.milestones) == (4, (1,))


def test_a_schedule_without_milestones_gets_none() -> None:
    assert get_recipe("galaxy10", "pure", epochs=3).milestones == ()


# Options of the data set


def test_options_of_the_data_are_set_one_by_one() -> None:
    recipe = get_recipe("galaxy10", "pure", data_options={"split_seed": 3})
    assert recipe.data_options == {**EXPECTED["galaxy10"]["data_options"], "split_seed": 3}
    assert get_recipe("galaxy10", "pure").data_options["split_seed"] == 0  # the published one is untouched


def test_another_data_set_has_other_options() -> None:
    recipe = get_recipe("galaxy10", "pure", dataset="galaxy10-synthetic", data_options={"number": 50})
    assert recipe.data_options == {"number": 50}
    assert get_recipe("galaxy10", "pure", dataset="digits").data_options == {}
    same = get_recipe("galaxy10", "pure", dataset="galaxy10", data_options={"split_seed": 3})
    assert same.data_options == {**EXPECTED["galaxy10"]["data_options"], "split_seed": 3}


# Overrides and bad input


def test_overrides_are_set_and_the_rest_stays() -> None:
    changes = {"lr": 0.05, "momentum": 0.0, "selection": "lowest-validation-loss", "augmentation": "none"}
    recipe = get_recipe("digits", "resnet", **changes)
    assert recipe.model_dump() == {**get_recipe("digits", "resnet").model_dump(), **changes}
    assert get_recipe("digits", "resnet").lr == 0.1  # the published one is untouched


def test_every_field_but_name_and_family_can_be_overridden() -> None:
    values = get_recipe("cifar10", "pure").model_dump(exclude={"name", "family"})
    assert get_recipe("cifar10", "pure", **values) == get_recipe("cifar10", "pure")
    for field in ("name", "family"):
        message = f"recipe 'digits' has no field '{field}'"
        with pytest.raises((ValueError, TypeError), match=message if field == "family" else "name"):
            get_recipe("digits", "pure", **{field: "mine"})


def test_unknown_recipe_is_answered_with_the_nearest() -> None:
    known = ", ".join(sorted(EXPECTED))
    with pytest.raises(ValueError, match=rf"unknown recipe 'digit'; did you mean 'digits'\? known are {known}"):
        get_recipe("digit", "pure")
    with pytest.raises(ValueError, match=rf"unknown recipe 'mnist-of-old-times'; known are {known}"):
        get_recipe("mnist-of-old-times", "pure")
    with pytest.raises(ValueError, match="unknown recipe 'cifar'; did you mean 'cifar10'"):
        sources("cifar", "pure")


def test_unknown_field_is_answered_with_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"recipe 'digits' has no field 'batchsize'; did you mean 'batch_size'\?"):
        get_recipe("digits", "pure", batchsize=3)


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
        ("clip_norm", 0.0),
        ("milestones", (1.5,)),
        ("milestones", (0,)),
        ("milestones", 3),
        ("schedule", "cosine"),
        ("patience", 0),
        ("warmup_error", 80.0),
        ("decay_theta", "false"),
        ("decay_theta", 1),
        ("selection", "best"),
        ("augmentation", "rotate"),
        ("protocols", ()),
        ("protocols", ("whole", "whole")),
        ("protocols", ("thrice",)),
        ("protocols", ("single-crop", "single-crop(256,224)")),
        ("protocols", ("single-crop(100,200)",)),
        ("noise_scale", 0.0),
        ("noise_seed", -1),
        ("precision", "half"),
        ("unit_precision", "double"),
        ("data_options", {"split": {}}),
        ("data_options", "split"),
    ],
)
def test_ill_typed_and_impossible_values_are_refused_by_name(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"^recipe 'digits': {field}: "):
        get_recipe("digits", "pure", **{field: value})


def test_data_options_may_be_several_numbers() -> None:
    recipe = get_recipe("digits", "pure", data_options={"fractions": (0.5, 0.25, 0.25)})
    assert recipe.data_options == {"fractions": (0.5, 0.25, 0.25)}
    assert Recipe.model_validate_json(recipe.model_dump_json()) == recipe


def test_a_warm_up_starts_lower() -> None:
    with pytest.raises(ValueError, match=r"warmup_lr 0\.2 is above lr 0\.1; a warm-up starts lower"):
        get_recipe("cifar10", "resnet20", warmup_lr=0.2)
    assert get_recipe("cifar10", "resnet20", warmup_lr=0.1).warmup_lr == 0.1


def test_a_protocol_may_have_other_sizes() -> None:
    names = ("single-crop(144,128)", "multi-scale(128,144)")
    assert get_recipe("imagenet-quick", "pure", protocols=names).protocols == names


def test_a_whole_number_is_a_learning_rate() -> None:
    assert get_recipe("digits", "pure", lr=1).lr == 1.0


@pytest.mark.parametrize("name", EXPECTED)
def test_a_recipe_comes_back_from_json(name: str) -> None:
    recipe = get_recipe(name, "resnet110", epochs=7)
    assert Recipe.model_validate_json(recipe.model_dump_json()) == recipe
