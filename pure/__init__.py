"""Product-unit residual networks (PURe): the layer, the networks, their training and their records."""

from __future__ import annotations

from pure import functional
from pure.layers import ProductUnit, ProductUnit2d
from pure.models import create_model, list_models

__version__ = "0.1.0"

__all__ = ["ProductUnit", "ProductUnit2d", "create_model", "functional", "list_models"]
