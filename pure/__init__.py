"""Product-unit residual networks (PURe): the layer, the networks, their training and their records."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from pure.version import __version__ as __version__

if TYPE_CHECKING:
    from pure.models import create_model, list_models, register_model
    from pure.models.conversion import convert
    from pure.nn import functional
    from pure.nn.complex import ComplexProductUnit, ComplexProductUnit2d
    from pure.nn.stabilised import StabilisedProductUnit, StabilisedProductUnit2d
    from pure.nn.units import ProductUnit, ProductUnit2d
    from pure.train import fit

__all__ = [
    "ComplexProductUnit",
    "ComplexProductUnit2d",
    "ProductUnit",
    "ProductUnit2d",
    "StabilisedProductUnit",
    "StabilisedProductUnit2d",
    "convert",
    "create_model",
    "fit",
    "functional",
    "list_models",
    "register_model",
]

_MODULES = {
    "ComplexProductUnit": "nn.complex",
    "ComplexProductUnit2d": "nn.complex",
    "ProductUnit": "nn.units",
    "ProductUnit2d": "nn.units",
    "StabilisedProductUnit": "nn.stabilised",
    "StabilisedProductUnit2d": "nn.stabilised",
    "convert": "models.conversion",
    "create_model": "models",
    "fit": "train",
    "functional": "nn",
    "list_models": "models",
    "register_model": "models",
}
_WINGS = ("data", "execution", "models", "nn", "recipes", "records", "train")


def __dir__() -> list[str]:
    return [*globals(), *__all__]


def __getattr__(name: str) -> Any:
    """Import on first use: a command that only shows its help does not wait for PyTorch."""
    if name in _WINGS:
        return importlib.import_module(f"pure.{name}")
    if name not in _MODULES:
        raise AttributeError(f"module 'pure' has no attribute {name!r}")
    if name == "functional":
        return importlib.import_module("pure.nn.functional")
    return getattr(importlib.import_module(f"pure.{_MODULES[name]}"), name)
