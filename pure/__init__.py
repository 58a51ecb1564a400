"""Product-unit residual networks (PURe): the layer, the networks, their training and their records."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pure.models import create_model, list_models
from pure.nn import functional
from pure.nn.complex import ComplexProductUnit, ComplexProductUnit2d
from pure.nn.stabilised import StabilisedProductUnit, StabilisedProductUnit2d
from pure.nn.units import ProductUnit, ProductUnit2d
from pure.version import __version__ as __version__

if TYPE_CHECKING:
    from pure.train import fit

__all__ = [
    "ComplexProductUnit",
    "ComplexProductUnit2d",
    "ProductUnit",
    "ProductUnit2d",
    "StabilisedProductUnit",
    "StabilisedProductUnit2d",
    "create_model",
    "fit",
    "functional",
    "list_models",
]


def __getattr__(name: str) -> Any:
    """Import the training on first use: who only needs the layer does not wait for scikit-learn and pydantic."""
    if name == "fit":
        from pure.train import fit

        return fit
    raise AttributeError(f"module 'pure' has no attribute {name!r}")
