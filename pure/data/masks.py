"""Images with masks: augmented together, so that a mask stays on its object."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from pure.data.augment import Augmentation, Parameters

__all__ = ["augment_masks"]


def augment_masks(augmentation: Augmentation, masks: Tensor, parameters: Parameters) -> Tensor:
    """Masks moved as their images are: by the same steps, with the same numbers.

    Each class is moved as a picture of its own, black and white, and a pixel gets the class that is brightest there.
    What comes into the frame is background, class 0; :func:`pure.data.augment.parse` says what an image gets.

    Args:
        augmentation: that of the images.
        masks: classes, shape ``(n, H, W)``, uint8.
        parameters: from :meth:`~pure.data.augment.Augmentation.draw`, as the images have them.

    Returns:
        Classes of the images' new shape, uint8.
    """
    classes = F.one_hot(masks.long(), max(2, int(masks.max()) + 1)).movedim(-1, 1)  # (n, classes, H, W)
    objects = augmentation.apply((255 * classes[:, 1:]).to(torch.uint8), parameters)
    background = torch.full_like(objects[:, :1], 127)  # an object ends at half the grey level
    return torch.cat([background, objects], 1).argmax(1).to(torch.uint8)
