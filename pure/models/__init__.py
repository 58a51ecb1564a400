"""The networks by name: PURe, the ResNets, the pre-activation ResNets of tables 1, 2, 4, 5 and 6, and the U-Nets.

A network is named by its entry function, which registers itself, and is made by :func:`create_model`.
"""

from __future__ import annotations

from pure.models.registry import create_model, list_models, register_model

# In the order of the tables, since :func:`list_models` names the families as they were registered.
# isort: split
from pure.models.residual import (
    ResidualNetwork,
    Stem,
    pure18,
    pure20,
    pure32,
    pure34,
    pure44,
    pure56,
    pure110,
    pure272,
    resnet20,
    resnet32,
    resnet44,
    resnet56,
    resnet110,
)

# isort: split
from pure.models.torchvision import pure50, pure101, pure152, resnet18, resnet34, resnet50, resnet101, resnet152

# isort: split
from pure.models.preact import preact_resnet110, preact_resnet164, preact_resnet1001

# isort: split
from pure.models.peers import polynomial20, starnet20

# isort: split
from pure.models.unet import ResidualUNet, pu_unet, res_unet

__all__ = [
    "ResidualNetwork",
    "ResidualUNet",
    "Stem",
    "create_model",
    "list_models",
    "polynomial20",
    "preact_resnet110",
    "preact_resnet164",
    "preact_resnet1001",
    "pu_unet",
    "pure18",
    "pure20",
    "pure32",
    "pure34",
    "pure44",
    "pure50",
    "pure56",
    "pure101",
    "pure110",
    "pure152",
    "pure272",
    "register_model",
    "res_unet",
    "resnet18",
    "resnet20",
    "resnet32",
    "resnet34",
    "resnet44",
    "resnet50",
    "resnet56",
    "resnet101",
    "resnet110",
    "resnet152",
    "starnet20",
]
