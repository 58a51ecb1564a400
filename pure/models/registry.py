"""The networks by name.

A network is named by its entry function, which registers itself, and is made by :func:`create_model`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any

from torch import nn

from pure.wording import did_you_mean

__all__ = ["REGISTRY", "create_model", "list_models", "refuse_options", "register_model"]

REGISTRY: dict[str, Callable[..., nn.Module]] = {}
"""The entry functions by their names."""


def register_model(entry: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
    """Make an entry function known to :func:`create_model` under its own name, as a decorator.

    ::

        @pure.register_model
        def pure12(num_classes: int = 10, in_channels: int = 3, **options: Any) -> nn.Module:
            return pure.create_model("pure20", num_classes, in_channels, blocks=[1, 2, 2], **options)

    Args:
        entry: called with ``num_classes``, ``in_channels`` and options as keywords, returns a network from images
            ``(N, in_channels, H, W)`` to logits ``(N, num_classes)``.

    Returns:
        The entry function.

    Raises:
        ValueError: another function is registered under this name.
    """
    name = entry.__name__
    taken = REGISTRY.get(name)
    if taken is not None and (taken.__module__, taken.__qualname__) != (entry.__module__, entry.__qualname__):
        raise ValueError(f"a network named {name!r} is registered already, by {taken.__module__}; choose another name")
    REGISTRY[name] = entry  # the same one again: its module was reloaded, or its cell run twice
    return entry


def list_models() -> list[str]:
    """The names that :func:`create_model` knows: by family (PURe, ResNet, pre-activation ResNet), then by depth."""
    families = [_family_and_depth(name)[0] for name in REGISTRY]  # in the order of their registration
    return sorted(REGISTRY, key=lambda name: (families.index(_family_and_depth(name)[0]), _family_and_depth(name)[1]))


def _family_and_depth(name: str) -> tuple[str, int]:
    family = name.rstrip("0123456789")
    return family, int(name[len(family) :] or 0)


def create_model(name: str, num_classes: int | None = None, in_channels: int = 3, **options: Any) -> nn.Module:
    """A network by name, initialised as section 4.1.2 says, with random weights.

    Each family has its options:

    - ``pure...``: ``blocks`` and ``widths``, one number for each stage, so any depth; ``stem``, ``"cifar"`` or
      ``"imagenet"``; ``shortcut``, ``"A"``, ``"B"`` or ``"none"``; ``variant``, ``"v1"``, the paper's first
      version, no ReLU anywhere, or ``"v3"``, one after the sum and in the stem, each also by itself,
      ``relu_after_sum``, ``relu_in_stem``; the switches ``units`` and ``unit_norm`` of
      :class:`pure.nn.blocks.ProductUnitBlock`; and ``unit``, ``"paper"``, ``"stabilised"`` or ``"complex"``, with the
      settings of :class:`pure.ProductUnit2d` (``threshold``, ``granularity``, ``eps``, ``init_a``, ``theta_init``,
      ``padding_mode``), :class:`pure.nn.stabilised.StabilisedProductUnit2d` or
      :class:`pure.nn.complex.ComplexProductUnit2d`; in a network the last has ``eps = ln 2`` unless told otherwise,
      since with much smaller ones it does not train.
    - ``pure50``, 101 and 152, with bottleneck blocks: ``blocks``, ``stem``, and of the above ``variant`` with its two
      and ``unit`` with its settings.  They are torchvision's networks after :func:`pure.convert`.
    - ``resnet20``, 32, 44, 56, 110: ``blocks``, ``widths``, ``stem``, ``shortcut``.
    - ``resnet18``, 34, 50, 101, 152, torchvision's own: ``blocks``, ``stem``.  Their shortcut is always B, and they do
      not refuse images that are too small for their strides, as the others do.
    - ``preact_resnet...``: ``blocks``, ``widths``, ``shortcut``.  Their stem is always CIFAR's, as published.

    Args:
        name: one of :func:`list_models`.
        num_classes: length of the output; None is the network's own default, 1,000 for those for photographs (18, 34,
            50, 101 and 152 layers) and 10 for the others.
        in_channels: channels of the input images.
        **options: as listed above.

    Returns:
        A module from images ``(N, in_channels, H, W)``, floating point, to logits ``(N, num_classes)``.

    Raises:
        ValueError: the name is unknown (the nearest known ones are named), or an option is out of its range.
        TypeError: the network has no such option; the message names those that it has.
    """
    if not isinstance(name, str):
        raise TypeError(f"expected the name of a model, got {name!r}; pure.list_models() names all")
    if name not in REGISTRY:
        hint = did_you_mean(name, REGISTRY, n=3) or f"known are {', '.join(list_models())}; "
        raise ValueError(f"unknown model {name!r}; {hint}pure.list_models() names all {len(REGISTRY)}")
    classes = {} if num_classes is None else {"num_classes": num_classes}
    return REGISTRY[name](in_channels=in_channels, **classes, **options)


def refuse_options(
    name: str, unknown: Iterable[str], family: Callable[..., nn.Module], more: Iterable[str] = ()
) -> None:
    """Raise a TypeError that names the options of a family, if any is unknown."""
    if unknown := list(unknown):
        parameters = inspect.signature(family).parameters.values()
        known = [each.name for each in parameters if each.kind is each.KEYWORD_ONLY]
        raise TypeError(f"{name} has no option {', '.join(unknown)}; expected {', '.join([*known, *more])}")
