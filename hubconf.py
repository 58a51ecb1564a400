"""Entry points of ``torch.hub``: every network of :func:`pure.list_models`, under its own name.

::

    network = torch.hub.load("path/to/this/clone", "pure34", source="local", num_classes=10)
    print(torch.hub.help("path/to/this/clone", "pure34", source="local"))
"""

from __future__ import annotations

from pure import models as _models  # underscored: torch.hub lists every other callable of this file

dependencies = ["torch", "torchvision"]

globals().update({_name: getattr(_models, _name) for _name in _models.list_models()})
