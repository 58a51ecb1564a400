"""Hyper-parameters as frozen data: one recipe for each data set and family of networks.

Section 4 of the paper trains PURe with a lower learning rate and a larger weight decay than ResNet, so a recipe's name
stands for two sets of values; :func:`get_recipe` picks the one for a network.  :func:`sources` tells where each value
comes from.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveInt,
    ValidationError,
    field_validator,
    model_validator,
)

from pure.wording import did_you_mean

__all__ = [
    "Family",
    "Precision",
    "Recipe",
    "TaskName",
    "changed_recipe",
    "family_of",
    "faults",
    "get_recipe",
    "list_recipes",
    "nearest_field",
    "require_names",
    "sources",
]

Family = Literal["pure", "resnet"]
Precision = Literal["float32", "tf32", "bfloat16", "float16"]
TaskName = Literal["classification", "segmentation"]

_Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
_Share = Annotated[float, Field(ge=0, le=1)]


class Recipe(BaseModel):
    """What fixes a training, next to the network and the seed.  How it is executed is :mod:`pure.execution`.

    Attributes:
        name: the recipe's name.
        family: the networks that it is for.
        task: what is told: the class of an image, or that of each pixel; see :mod:`pure.train.tasks`.
        dataset: name of the data set, as :func:`pure.data.load` knows it.
        data_options: options of the data set, such as its ``split_seed``; the same for every run.
        epochs: passes over the training set.
        batch_size: images in a step, over all devices and parts.
        lr: initial learning rate of SGD.
        momentum: momentum of SGD.
        weight_decay: L2 penalty of SGD.
        decay_theta: whether the penalty also pulls on the thresholds' ``theta``, as plain SGD does.
        clip_norm: the gradient's norm is cut to this; None never cuts.
        schedule: the learning rate drops at the ``"milestones"``, or on a ``"plateau"`` of the validation loss.
        milestones: epochs after which the learning rate is multiplied by ``gamma``.
        patience: on a plateau, number of consecutive epochs without a lower validation loss before a drop.
        gamma: the factor.
        warmup_lr: learning rate until the training error of an epoch is below ``warmup_error``; None: no warm-up.
        warmup_error: share of training images, from 0 to 1, that are classified wrongly.
        selection: the weights that are tested: of the ``"last"`` epoch, or of the epoch with the
            ``"lowest-validation-loss"``.
        augmentation: of each training image, drawn again in each epoch, as :func:`pure.data.augment.parse` reads it.
        protocols: how test images are shown to the network, as :mod:`pure.data.protocols` names it; the first one
            counts in tables.
        noise_scale: the test set is measured again under Poisson noise of this scale (section 4.1.2); None: it is not.
        noise_curve: further scales under which the test set is measured, for the drop as a curve over the scale.
        noise_seed: fixes the noise; the same for every run.
        precision: of all but the product units' convolutions.  ``float32`` is that of IEEE 754; ``tf32`` allows
            convolutions and products of matrices on NVIDIA's GPUs to round their factors to 10 bits after the point,
            and is float32 elsewhere.  ``bfloat16`` and ``float16`` are those of autocast: weights stay float32, and of
            a product unit only the sum that is its exponent is lowered.
        unit_precision: of this sum alone: the product units' convolutions, whose results are exponents.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: str
    family: Family
    task: TaskName = "classification"
    dataset: str
    data_options: dict[str, str | int | float | bool | tuple[float, ...] | None] = {}
    epochs: PositiveInt
    batch_size: PositiveInt
    lr: _Positive
    momentum: _NonNegative = 0.9
    weight_decay: _NonNegative
    decay_theta: bool = True
    clip_norm: _Positive | None = None
    schedule: Literal["milestones", "plateau"] = "milestones"
    milestones: tuple[PositiveInt, ...] = ()
    patience: PositiveInt = 3
    gamma: _NonNegative = 0.1
    warmup_lr: _Positive | None = None
    warmup_error: _Share = 0.8
    selection: Literal["last", "lowest-validation-loss"] = "last"
    augmentation: str = "none"
    protocols: tuple[str, ...] = ("whole",)
    noise_scale: _Positive | None = None
    noise_curve: tuple[_Positive, ...] = ()
    noise_seed: NonNegativeInt = 0
    precision: Precision = "float32"
    unit_precision: Precision = "float32"

    @field_validator("augmentation")
    @classmethod
    def _augmentation_is_known(cls, text: str) -> str:
        from pure.data.augment import parse  # here, so that a name is looked up without PyTorch

        parse(text)
        return text

    @field_validator("protocols")
    @classmethod
    def _protocols_are_known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        from pure.data.protocols import PROTOCOLS, Protocol

        protocols = {str(Protocol.parse(name)) for name in names}
        if not names or len(protocols) < len(names):
            raise ValueError(f"expected one or more of {', '.join(PROTOCOLS)}, each once, got {names}")
        return names

    @model_validator(mode="after")
    def _masks_are_shown_whole(self) -> Self:
        if self.task == "segmentation" and self.protocols != ("whole",):
            raise ValueError(
                f"a segmentation is tested on whole images alone, protocols=('whole',), got {self.protocols}"
            )
        return self

    @model_validator(mode="after")
    def _warm_up_is_below(self) -> Self:
        if self.warmup_lr is not None and self.warmup_lr > self.lr:
            raise ValueError(f"warmup_lr {self.warmup_lr} is above lr {self.lr}; a warm-up starts lower")
        return self


Values = Mapping[str, tuple[Any, str]]
"""Fields of a recipe, each with its value and its source."""

_SGD: Values = {
    "momentum": (0.9, "sections 4.1.2 and 4.2.2"),
    "gamma": (0.1, "sections 4.1.2, 4.2.2 and 4.3.2"),
}

_GALAXY10: Values = {
    **_SGD,
    "dataset": ("galaxy10", "section 4.1.1"),
    "data_options": (
        {"split": "stratified", "split_seed": 0, "static_augmentation": "rotate(180)+flip+resized-crop(256)"},
        "section 4.1.2: stratified, each training image once more; 8:1:1 and the angle are lost, see the ledger",
    ),
    "epochs": (30, "section 4.1.2"),
    "batch_size": (64, "section 4.1.2"),
    "schedule": ("plateau", "section 4.1.2"),
    "patience": (3, "section 4.1.2: no improvement over three consecutive epochs"),
    "selection": ("lowest-validation-loss", "section 4.1.2"),
    "noise_scale": (1.0, "section 4.1.2: Poisson noise; its scale is not stated, see the ledger"),
}
_IMAGENET: Values = {
    **_SGD,
    "dataset": ("imagenet", "section 4.2.1"),
    "epochs": (90, "section 4.2.2"),
    "batch_size": (256, "section 4.2.2"),
    "milestones": ((30, 60), "section 4.2.2"),
    "augmentation": ("resized-crop(224)+flip", "section 4.2.2: random resized crop with aspect change, flip"),
    "protocols": (("single-crop", "ten-crop", "multi-scale"), "not stated; see the ledger"),
}
_CIFAR10: Values = {
    **_SGD,
    "dataset": ("cifar10", "section 4.3.1"),
    "epochs": (160, "section 4.3.2"),
    "batch_size": (128, "section 4.3.2"),
    "milestones": ((80, 120), "section 4.3.2"),
    "augmentation": ("pad-crop(4)+flip", "section 4.3.2 follows He et al., section 4.2"),
    "selection": ("last", "not stated; the test set never chooses"),
}
_EXTENDED: Values = {
    **_CIFAR10,
    "epochs": (220, "section 4.3.2, the longer training"),
    "milestones": ((140, 180), "section 4.3.2, the longer training"),
}
_CIFAR10_TENTH: Values = {
    **_CIFAR10,
    "data_options": (
        {"test": "batch5"},
        "trains on batches 1 to 4, tests on batch 5; the official test set stays untouched",
    ),
    "epochs": (16, "a tenth of section 4.3.2"),
    "milestones": ((8, 12), "section 4.3.2: at 1/2 and 3/4 of the epochs"),
}
_DIGITS: Values = {
    **_CIFAR10,
    "dataset": ("digits", "stands in for CIFAR-10 where nothing can be downloaded"),
    "epochs": (16, "a tenth of section 4.3.2"),
    "batch_size": (32, "as many steps an epoch on a smaller set"),
    "milestones": ((8, 12), "section 4.3.2: at 1/2 and 3/4 of the epochs"),
    "augmentation": ("shift(1)", "an eighth of the edge, as in section 4.3.2; mirrored digits would be wrong"),
}
_FASHION: Values = {
    **_CIFAR10,
    "dataset": ("fashion-mnist", "a full real benchmark of CIFAR-10's size, for people without the others"),
    "epochs": (40, "a quarter of section 4.3.2"),
    "milestones": ((20, 30), "section 4.3.2: at 1/2 and 3/4 of the epochs"),
}
_GALAXY10_QUICK: Values = {
    **_GALAXY10,
    "dataset": ("galaxy10-synthetic", "stands in for Galaxy10 where nothing can be downloaded"),
    "data_options": (
        {"number": 800, "size": 64, "static_augmentation": "rotate(180)+flip+resized-crop(64)"},
        "small enough for two processor cores",
    ),
    "epochs": (8, "about a quarter of section 4.1.2"),
    "batch_size": (32, "as many steps an epoch on a smaller set"),
}
_GZ2: Values = {
    **_GALAXY10,
    "dataset": ("gz2", "real galaxies, for Galaxy10 at a size that two processor cores can train"),
    "data_options": (
        {"crop": 64, "per_class": 1000, "static_augmentation": "rotate(180)+flip+resized-crop(64)"},
        "section 4.1.2 on 1,000 training images of each class; of 64 pixels, which halve evenly",
    ),
    "noise_curve": ((0.01, 0.03, 0.1, 0.3, 3.0), "the scale is not stated: the drop is reported as a curve"),
}
_IMAGENETTE: Values = {
    **_IMAGENET,
    "dataset": ("image-folder", "ten classes of ImageNet at 64 pixels"),
    "data_options": ({"data_name": "imagenette", "size": 72}, "an eighth more than the crop, as 256 is to 224"),
    "epochs": (18, "a fifth of section 4.2.2"),
    "batch_size": (64, "as many steps an epoch on a smaller set"),
    "milestones": ((6, 12), "section 4.2.2: at 1/3 and 2/3 of the epochs"),
    "augmentation": ("resized-crop(64)+flip", "section 4.2.2, on smaller images"),
    "protocols": (("single-crop(72,64)",), "single crop, as most publications"),
}
_IMAGENET_QUICK: Values = {
    **_IMAGENET,
    "dataset": ("image-folder", "any class-per-folder tree, such as Imagenette"),
    "epochs": (18, "a fifth of section 4.2.2"),
    "batch_size": (64, "as many steps an epoch on a smaller set"),
    "milestones": ((6, 12), "section 4.2.2: at 1/3 and 2/3 of the epochs"),
    "augmentation": ("resized-crop(128)+flip", "section 4.2.2, on smaller images"),
    "protocols": (("whole",), "the images of the tree as they are"),
}

_SEGMENTATION: Values = {
    "task": ("segmentation", "a residual U-Net against PU-UNet, arXiv 2606.20035"),
    "momentum": (0.9, "section 4.1.2"),
    "lr": (0.05, "one value for both networks, set before the first of its runs"),
    "weight_decay": (1e-4, "that of He et al., for both networks"),
    "batch_size": (16, "as the memory of one device has it at full size"),
    "selection": ("lowest-validation-loss", "section 4.1.2"),
    "augmentation": ("flip+rotate(180)", "neither side of a galaxy, a mole or a polyp is up"),
}
_DEBLENDING: Values = {
    **_SEGMENTATION,
    "dataset": ("deblending", "simulated galaxies, whose masks are known"),
    "data_options": ({"number": 600}, "small enough for minutes on one processor core"),
    "epochs": (16, "small enough for minutes on one processor core"),
    "milestones": ((8, 12), "section 4.3.2: at 1/2 and 3/4 of the epochs"),
}
_MASK_FOLDER: Values = {
    **_SEGMENTATION,
    "dataset": ("mask-folder", "any images with masks, as ISIC 2018, Kvasir-SEG and BUSI"),
    "data_options": ({"size": 256}, "not read in arXiv 2606.20035; a usual size"),
    "epochs": (100, "not read in arXiv 2606.20035"),
    "milestones": ((50, 75), "section 4.3.2: at 1/2 and 3/4 of the epochs"),
}

_OWN: dict[str, dict[Family, Values]] = {
    "galaxy10": {
        "pure": {"lr": (0.01, "section 4.1.2"), "weight_decay": (0.01, "section 4.1.2")},
        "resnet": {"lr": (0.1, "section 4.1.2"), "weight_decay": (0.001, "section 4.1.2")},
    },
    "imagenet": {
        "pure": {"lr": (0.01, "section 4.2.2"), "weight_decay": (0.001, "section 4.2.2")},
        "resnet": {"lr": (0.1, "He et al., section 3.4"), "weight_decay": (1e-4, "He et al., section 3.4")},
    },
    "cifar10": {
        "pure": {"lr": (0.01, "section 4.3.2"), "weight_decay": (0.001, "section 4.3.2")},
        "resnet": {"lr": (0.1, "He et al., section 4.2"), "weight_decay": (1e-4, "He et al., section 4.2")},
    },
}
"""What sections 4.1 to 4.3 set apart for the two families."""

_RECIPES: dict[str, tuple[Values, dict[Family, Values]]] = {
    "cifar10": (_CIFAR10, _OWN["cifar10"]),
    "cifar10-extended": (_EXTENDED, _OWN["cifar10"]),
    "cifar10-tenth": (_CIFAR10_TENTH, _OWN["cifar10"]),
    "deblending": (_DEBLENDING, {"pure": {}, "resnet": {}}),
    "digits": (_DIGITS, _OWN["cifar10"]),
    "fashion-mnist": (_FASHION, _OWN["cifar10"]),
    "galaxy10": (_GALAXY10, _OWN["galaxy10"]),
    "galaxy10-quick": (_GALAXY10_QUICK, _OWN["galaxy10"]),
    "gz2": (_GZ2, _OWN["galaxy10"]),
    "imagenet": (_IMAGENET, _OWN["imagenet"]),
    "imagenette64": (_IMAGENETTE, _OWN["imagenet"]),
    "imagenet-quick": (_IMAGENET_QUICK, _OWN["imagenet"]),
    "mask-folder": (_MASK_FOLDER, {"pure": {}, "resnet": {}}),
}

_WARM_UP: Values = {
    "warmup_lr": (0.01, "He et al., section 4.2: ResNet110 starts slowly"),
    "warmup_error": (0.8, "He et al., section 4.2: until the training error is below 80 %"),
}
_WARMED_UP = {(recipe, "resnet110") for recipe in ("cifar10", "cifar10-extended", "cifar10-tenth", "fashion-mnist")}


def list_recipes() -> list[str]:
    """The names that :func:`get_recipe` knows."""
    return sorted(_RECIPES)


def family_of(model: str) -> Family:
    """Whose hyper-parameters a network by this name is trained with: those of PURe or those of ResNet."""
    return "pure" if model.startswith(("pure", "pu_")) else "resnet"


def get_recipe(name: str, model: str, /, **overrides: Any) -> Recipe:
    """A recipe by name, for one network.

    Args:
        name: one of :func:`list_recipes`.
        model: the network's name; the name of a family, ``"pure"`` or ``"resnet"``, gives what its networks share.
        **overrides: fields of :class:`Recipe` to override.  Where ``epochs`` is overridden and
            ``milestones`` is not, the milestones move in proportion, but never before the end of the first epoch.
            ``data_options`` are set one by one: those not named keep the recipe's value, unless ``dataset`` is another.

    Raises:
        ValueError: the name or a field is unknown, or a value is of the wrong type or out of its range.
    """
    require_names(name, overrides)
    values = {field: value for field, (value, _) in _values(name, model).items()}
    epochs = overrides.get("epochs")
    if isinstance(epochs, int) and "milestones" not in overrides:  # anything but an int is refused below
        moved = (round(milestone * epochs / values["epochs"]) for milestone in values.get("milestones", ()))
        overrides["milestones"] = tuple(max(1, milestone) for milestone in moved)
    if overrides.get("dataset", values["dataset"]) != values["dataset"]:
        values.pop("data_options", None)  # another data set has other options
    if isinstance(overrides.get("data_options"), dict):
        overrides["data_options"] = {**values.get("data_options", {}), **overrides["data_options"]}
    try:
        return Recipe(name=name, family=family_of(model), **{**values, **overrides})
    except ValidationError as error:
        raise ValueError(f"recipe {name!r}: {'; '.join(faults(error))}") from None


def require_names(name: str, overrides: Iterable[str]) -> None:
    """Refuse a recipe or a field that does not exist; looked up without PyTorch, so that spelling is told at once.

    Raises:
        ValueError: naming the nearest ones.
    """
    _values(name, "pure")
    fields = Recipe.model_fields.keys() - {"name", "family"}
    for field in overrides:
        if field not in fields:
            raise ValueError(f"recipe {name!r} has no field {field!r}; {_instead(field, fields)}")


def changed_recipe(
    name: str, model: str, overrides: Mapping[str, Any] | None, data_options: Mapping[str, Any] | None
) -> tuple[Recipe, tuple[str, ...]]:
    """The recipe with its overrides, and the names of those that differ from what is published."""
    changes = dict(overrides or {})
    if data_options:
        changes["data_options"] = {**changes.get("data_options", {}), **data_options}
    published, changed = get_recipe(name, model), get_recipe(name, model, **changes)
    return changed, tuple(sorted(field for field in changes if getattr(changed, field) != getattr(published, field)))


_EXECUTION = ("channels_last", "compile", "cuda_graphs", "loader", "micro_batches", "sync_batchnorm")
"""Fields that recipes had before :mod:`pure.execution`."""


def _instead(field: str, fields: Collection[str]) -> str:
    if field in _EXECUTION:
        return f"it says how a training is executed: give --execution {field}=... (execution={{{field!r}: ...}})"
    return nearest_field(field, fields)


def nearest_field(field: str, fields: Collection[str]) -> str:
    """What to give instead of a field that does not exist, in words."""
    return f"{did_you_mean(field, fields)}it has {', '.join(sorted(fields))}"


def faults(error: ValidationError) -> list[str]:
    """What is wrong with each field, in a line, without pydantic's types and addresses."""
    found: dict[str, str] = {}
    for each in error.errors():
        field = str(each["loc"][0]) if each["loc"] else ""
        # What a validator of ours raised names the value itself.
        ours = each.get("ctx", {}).get("error")
        text = str(ours) if ours is not None else f"{each['msg'][0].lower()}{each['msg'][1:]}, got {each['input']!r}"
        found.setdefault(field, f"{field}: {text}" if field else text)  # of the types that a value may have, the first
    return list(found.values())


def sources(name: str, model: str) -> dict[str, str]:
    """Where each value of a recipe comes from, by field; fields that are not named have the default of the class.

    Args:
        name: one of :func:`list_recipes`.
        model: the network's name, or a family's.

    Raises:
        ValueError: the recipe is unknown.
    """
    return {field: source for field, (_, source) in _values(name, model).items()}


def _values(name: str, model: str) -> Values:
    if name not in _RECIPES:
        raise ValueError(
            f"unknown recipe {name!r}; {did_you_mean(name, _RECIPES)}known are {', '.join(list_recipes())}"
        )
    shared, own = _RECIPES[name]
    return {**shared, **own[family_of(model)], **(_WARM_UP if (name, model) in _WARMED_UP else {})}
