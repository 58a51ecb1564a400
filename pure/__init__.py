"""Product-unit residual networks (PURe): the layer, the networks, their training and their records."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pure import functional
from pure.layers import ProductUnit, ProductUnit2d
from pure.models import create_model, list_models

if TYPE_CHECKING:
    from pure.train import fit

__version__ = "0.1.0"

__all__ = ["ProductUnit", "ProductUnit2d", "create_model", "fit", "functional", "list_models"]


def __getattr__(name: str) -> Any:
    """Import the training on first use: who only needs the layer does not wait for scikit-learn and pydantic."""
    if name == "fit":
        from pure.train import fit

        return fit
    raise AttributeError(f"module 'pure' has no attribute {name!r}")
