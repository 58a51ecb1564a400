"""Entry points of ``torch.hub``: every network of :func:`pure.list_models`, under its own name.

::

    network = torch.hub.load("pure-networks/pure", "pure34", num_classes=10)
    print(torch.hub.help("pure-networks/pure", "pure34"))
"""

from __future__ import annotations

from pure import models as _models  # underscored: torch.hub lists every other callable of this file

dependencies = ["torch", "torchvision"]

globals().update({_name: getattr(_models, _name) for _name in _models.list_models()})
