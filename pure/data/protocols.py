"""How test images are shown to a network, each way by its name.

He et al. (2016, section 3.4) compare their networks by "the standard 10-crop testing" and, "for best results", by the
fully convolutional form with scores averaged over five scales; the rows that table 4 of the paper repeats are of the
second kind.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, cast

from torch import Tensor
from torchvision.transforms.v2 import functional as transforms

__all__ = ["PROTOCOLS", "Protocol"]

Kind = Literal["whole", "single-crop", "ten-crop", "multi-scale"]

PROTOCOLS: Mapping[str, tuple[int, ...]] = {
    "whole": (),
    "single-crop": (256, 224),
    "ten-crop": (256, 224),
    "multi-scale": (224, 256, 384, 480, 640),
}
"""The protocols by name, with the sizes that they have unless told otherwise.

======================  ==============================================================================================
protocol                what the network sees
======================  ==============================================================================================
``whole``               the image as it is: digits, CIFAR-10, galaxies
``single-crop``         the central 224 x 224 pixels, after the shorter side was brought to 256
``ten-crop``            the four corners and the centre, 224 x 224, of the central 256 x 256, and their mirror images
``multi-scale``         the whole image and its mirror image, shorter side 224, 256, 384, 480 and 640, by a network that
                        is made fully convolutional
======================  ==============================================================================================

He et al. (2016, section 3.4) do not say which scores are averaged.  The two papers that they follow, Krizhevsky et al.
(2012) and Simonyan and Zisserman (2015), average softmax outputs, over crops and over scales and mirror images; so do
we.  Within one pass of the fully convolutional form the logits are averaged over positions, as Simonyan and Zisserman
do.

Sizes can be changed, and are then part of the name: ``"single-crop(144,128)"``, ``"ten-crop(144,128)"``,
``"multi-scale(128,144,192)"``.
"""


@dataclass(frozen=True)
class Protocol:
    """A way to show test images to a network.

    Attributes:
        kind: one of :data:`pure.data.protocols.PROTOCOLS`.
        sizes: in pixels.  For crops, what the shorter side is brought to, and the side of the crop.  For multi-scale,
            the shorter sides; the smallest is the size that the network was trained at.
    """

    kind: Kind
    sizes: tuple[int, ...]

    @classmethod
    def parse(cls, name: str) -> Protocol:
        """A protocol by name, such as ``"ten-crop"`` or ``"ten-crop(144,128)"``.

        Raises:
            ValueError: the name is unknown (the known ones are named), or its sizes are of the wrong number or order.
        """
        match = re.fullmatch(r"([a-z-]+)(?:\(([\d, ]+)\))?", name)
        if match is None or match[1] not in PROTOCOLS:
            raise ValueError(
                f"unknown protocol {name!r}; expected one of {', '.join(PROTOCOLS)}, with other sizes such as "
                "single-crop(144,128) if need be"
            )
        kind = cast(Kind, match[1])
        if match[2] is None:
            return cls(kind, PROTOCOLS[kind])
        sizes = tuple(int(size) for size in match[2].split(",") if size.strip())
        if kind == "whole":
            raise ValueError(f"protocol 'whole' takes the images as they are, without sizes; got {name!r}")
        if kind == "multi-scale":
            if len(set(sizes)) < len(sizes) or min(sizes, default=0) < 1:
                raise ValueError(f"multi-scale expects one or more different sizes of at least 1 pixel, got {name!r}")
        elif len(sizes) != 2 or not sizes[0] >= sizes[1] >= 1:
            raise ValueError(f"{kind} expects the shorter side and a crop that fits into it, got {name!r}")
        return cls(kind, sizes)

    def __str__(self) -> str:
        """The name, as a record keeps it."""
        sizes = ",".join(map(str, self.sizes))
        return self.kind if self.sizes == PROTOCOLS[self.kind] else f"{self.kind}({sizes})"

    @property
    def mirrored(self) -> bool:
        """Whether the mirror image of each view is shown too, and the softmax outputs are averaged over all."""
        return self.kind in ("ten-crop", "multi-scale")

    def views(self, images: Tensor) -> list[Tensor]:
        """What is cut out of images, without the mirror images.

        Args:
            images: shape ``(..., C, H, W)``, uint8.

        Returns:
            Tensors ``(..., C, h, w)``, uint8.  Five of ``ten-crop``: upper left, upper right, lower left, lower right,
            centre; one for each size of ``multi-scale``; else one.
        """
        if self.kind == "whole":
            return [images]
        if self.kind == "multi-scale":
            return [_resize(images, size) for size in self.sizes]
        side, crop = self.sizes
        resized = _resize(images, side)
        if self.kind == "single-crop":
            return [transforms.center_crop(resized, [crop, crop])]
        return list(transforms.five_crop(transforms.center_crop(resized, [side, side]), [crop, crop]))


def _resize(images: Tensor, side: int) -> Tensor:
    """Images whose shorter side is ``side``: bilinear and antialiased, as torchvision's reference evaluation does."""
    resized: Tensor = transforms.resize(images, [side], antialias=True)
    return resized
