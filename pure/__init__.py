"""Product-unit residual networks (PURe): the layer, the networks, their training and their records."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pure import functional
from pure.complex import ComplexProductUnit, ComplexProductUnit2d
from pure.layers import ProductUnit, ProductUnit2d
from pure.models import create_model, list_models
from pure.stabilised import StabilisedProductUnit, StabilisedProductUnit2d

if TYPE_CHECKING:
    from pure.train import fit

__version__ = "0.1.0"

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
