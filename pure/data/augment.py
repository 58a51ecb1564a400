"""Augmentations as text, so that they are data in a recipe: ``"pad-crop(4)+flip"``; ``parse`` lists them.

Each is an operation on a batch of images on any device; a worker's single image is a batch of one.  The random numbers
are drawn apart from their use and on the CPU, so that they are the same on every device and a batch can be cut into
parts.  Resizing is bilinear and antialiased, as Pillow and torchvision do it by default.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms.v2 import functional as TF

from pure.wording import did_you_mean

__all__ = ["Augmentation", "parse"]

Parameters = tuple[Tensor, ...]
"""What was drawn: for each step a tensor whose first dimension is that of the batch."""

Transform = Callable[[Tensor], Tensor]
"""From an image ``(C, H, W)`` to another."""


class _Step(Protocol):
    """One operation.  Heights and widths are those of the images that reach it."""

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the result.  Raises ValueError if the images are too small."""
        ...

    def draw(self, n: int, height: int, width: int, generator: torch.Generator) -> Tensor:
        """Random numbers for ``n`` images, ``(n, k)``, on the CPU."""
        ...

    def apply(self, images: Tensor, parameters: Tensor) -> Tensor:
        """The operation on images ``(n, C, H, W)``, uint8 or float32, and parameters on their device."""
        ...


@dataclass(frozen=True)
class Augmentation:
    """A chain of operations on images.

    Attributes:
        text: as it was given to :func:`parse`.
        steps: the operations in their order.
    """

    text: str
    steps: tuple[_Step, ...]

    def shape(self, shape: tuple[int, int, int]) -> tuple[int, int, int]:
        """The shape ``(C, H, W)`` of the results for images of this shape.

        Raises:
            ValueError: the images are too small.
        """
        channels, height, width = shape
        for step in self.steps:
            height, width = step.size(height, width)
        return channels, height, width

    def draw(self, n: int, shape: tuple[int, int, int], generator: torch.Generator) -> Parameters:
        """Draw what is random for a batch.

        Args:
            n: number of images.
            shape: their shape ``(C, H, W)``.
            generator: on the CPU.

        Returns:
            A tensor ``(n, k)`` for each step, on the CPU.
        """
        _, height, width = shape
        parameters = []
        for step in self.steps:
            parameters.append(step.draw(n, height, width, generator))
            height, width = step.size(height, width)
        return tuple(parameters)

    def apply(self, images: Tensor, parameters: Parameters) -> Tensor:
        """Augment a batch.

        Args:
            images: shape ``(n, C, H, W)``, uint8 or float32, on any device.
            parameters: from :meth:`draw`, for these ``n`` images.

        Returns:
            Images of the same dtype on the same device.
        """
        with torch.autocast(images.device.type, enabled=False):  # grey levels need more bits than bfloat16 has
            for step, drawn in zip(self.steps, parameters, strict=True):
                images = step.apply(images, _moved(drawn, images.device))
        return images

    def transform(self) -> Transform:
        """The same for one image ``(C, H, W)``, drawn from torch's default generator when it is called.

        It can be sent to worker processes, and raises ValueError for an image that is too small.
        """
        return functools.partial(_augment_one, self)


def _augment_one(augmentation: Augmentation, image: Tensor) -> Tensor:
    channels, height, width = image.shape
    drawn = augmentation.draw(1, (channels, height, width), torch.default_generator)
    return augmentation.apply(image.unsqueeze(0), drawn)[0]


def parse(text: str) -> Augmentation:
    """Read an augmentation: names joined by ``+``, each with its number in brackets if it takes one.

    =====================  ==========================================================================================
    ``none``               the image as it is
    ``shift(p)``           moved by up to ``p`` pixels along each axis, the border filled with the image's edge
    ``pad-crop(p)``        the same with black borders: padded by ``p`` pixels, a window of the old size cut out (He et
                           al., 2016, section 4.2).  Black is grey level 0 of the raw image, as torchvision's
                           ``RandomCrop(padding=p)`` before normalization has it, and most published trainings; one
                           that pads after normalization fills with the mean colour instead
    ``flip``               mirrored left to right, every second image
    ``resized-crop(s)``    a window of 8 to 100 % of the area and an aspect ratio of 3/4 to 4/3, resized to ``s x s``:
                           torchvision's ``RandomResizedCrop`` with its fallback to the centre after ten tries
    ``scale-crop(a,b,s)``  the shorter edge resized to a length from ``a`` to ``b``, all as likely, a window of
                           ``s x s`` cut out: "scale augmentation" of He et al. (2016, section 3.4), with 256, 480 and
                           224
    ``resize(s)``          the shorter edge resized to ``s``
    ``center-crop(s)``     the middle ``s x s``
    ``rotate(a)``          turned by up to ``a`` degrees either way about the centre, bilinear, the corners black
    =====================  ==========================================================================================

    Without antialiasing a window that shrinks would lose detail by chance, and differ from what Pillow makes of it.

    Raises:
        ValueError: a name is unknown (the known ones are told), or its number is missing, surplus or out of its range.
    """
    if text.strip() == "none":
        return Augmentation("none", ())
    return Augmentation(text, tuple(_parse_step(part.strip(), text) for part in text.split("+")))


def _parse_step(part: str, text: str) -> _Step:
    match = re.fullmatch(r"([a-z-]+)(?:\((.*)\))?", part)
    name, number = match.groups() if match else (part, None)
    if name not in _STEPS:
        known = ", ".join(f"{name}({unit})" if unit else name for name, (_, unit) in _STEPS.items())
        raise ValueError(
            f"unknown augmentation {part!r} in {text!r}; {did_you_mean(name, _STEPS)}known are none, {known}, "
            "joined by +"
        )
    make, unit = _STEPS[name]
    if not unit:
        if number is not None:
            raise ValueError(f"augmentation {name!r} takes no number, got {part!r}")
        return make()
    if name == "scale-crop":
        sizes = [int(size) if size.strip().isdecimal() else 0 for size in (number or "").split(",")]
        if len(sizes) != 3 or not 1 <= sizes[2] <= sizes[0] <= sizes[1]:
            raise ValueError(
                f"augmentation {name!r} takes the least and the greatest length of the shorter edge and the edge of a "
                f"window that fits into both, as scale-crop(256,480,224), got {part!r}"
            )
        return make(*sizes)
    try:
        value = float(number or "")
    except ValueError:
        value = math.nan
    if unit == "degrees":
        if not 0 < value <= 180:
            raise ValueError(f"augmentation {name!r} takes an angle above 0 and up to 180 degrees, got {part!r}")
        return make(value)
    if not (value.is_integer() and value >= 1):
        raise ValueError(f"augmentation {name!r} takes a whole number of pixels from 1 on, as {name}(4), got {part!r}")
    return make(int(value))


def _moved(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor on the device; from pinned memory on CUDA, so that the processor need not wait for the device."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


# Windows of the old size


@dataclass(frozen=True)
class _Shift:
    """A window of the image's own size, somewhere in the image that was padded by its edge."""

    padding: int
    mode: ClassVar[str] = "edge"

    def size(self, height: int, width: int) -> tuple[int, int]:
        return height, width

    def draw(self, n: int, height: int, width: int, generator: torch.Generator) -> Tensor:
        """Top and left of the window, from 0 to twice the padding."""
        return torch.randint(0, 2 * self.padding + 1, (n, 2), generator=generator)

    def apply(self, images: Tensor, parameters: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        padded = self._pad(images)
        n, channels, padded_height, padded_width = padded.shape
        top, left = parameters.T.unsqueeze(2)  # (n, 1)
        device = images.device
        rows = (top + torch.arange(height, device=device)) * padded_width + left  # (n, H): where each starts in a plane
        planes = torch.arange(n * channels, device=device).view(n, channels, 1) * (padded_height * padded_width)
        starts = (planes + rows.unsqueeze(1)).flatten()
        # Copying whole rows is six times as fast as an index for each pixel.
        windows = padded.flatten().unfold(0, width, 1).index_select(0, starts)  # (n * C * H, W)
        return windows.view(n, channels, height, width)

    def _pad(self, images: Tensor) -> Tensor:
        p = self.padding
        above, below = images[:, :, :1].expand(-1, -1, p, -1), images[:, :, -1:].expand(-1, -1, p, -1)
        images = torch.cat((above, images, below), 2)
        before, after = images[..., :1].expand(-1, -1, -1, p), images[..., -1:].expand(-1, -1, -1, p)
        return torch.cat((before, images, after), 3)


@dataclass(frozen=True)
class _PadCrop(_Shift):
    """A window of the image's own size, somewhere in the image that was padded with black."""

    mode: ClassVar[str] = "constant"

    def _pad(self, images: Tensor) -> Tensor:
        return F.pad(images, (self.padding,) * 4)


# Mirror


@dataclass(frozen=True)
class _Flip:
    """Left to right, every second image."""

    def size(self, height: int, width: int) -> tuple[int, int]:
        return height, width

    def draw(self, n: int, height: int, width: int, generator: torch.Generator) -> Tensor:
        """Whether to flip."""
        return torch.rand(n, 1, generator=generator) < 0.5

    def apply(self, images: Tensor, parameters: Tensor) -> Tensor:
        n = len(images)
        both = torch.cat((images, images.flip(3)))
        # A choice of whole images, four times as fast as one for each pixel.
        return both.index_select(0, torch.arange(n, device=images.device) + n * parameters.flatten())


# Other sizes


@dataclass(frozen=True)
class _ResizedCrop:
    """A window of random area and aspect ratio, resized to a square."""

    edge: int
    scale: ClassVar[tuple[float, float]] = (0.08, 1.0)
    ratio: ClassVar[tuple[float, float]] = (3 / 4, 4 / 3)
    tries: ClassVar[int] = 10

    def size(self, height: int, width: int) -> tuple[int, int]:
        return self.edge, self.edge

    def draw(self, n: int, height: int, width: int, generator: torch.Generator) -> Tensor:
        """Top, left, height and width of the window; torchvision's ten tries, all at once."""
        area, shape, y, x = torch.rand(4, n, self.tries, generator=generator, dtype=torch.float64)
        area = height * width * (self.scale[0] + (self.scale[1] - self.scale[0]) * area)
        low, high = map(math.log, self.ratio)
        ratio = (low + (high - low) * shape).exp()
        heights, widths = (area / ratio).sqrt().round().long(), (area * ratio).sqrt().round().long()
        fits = (heights > 0) & (heights <= height) & (widths > 0) & (widths <= width)  # (n, tries)
        first = fits.int().argmax(1, keepdim=True)  # the first that fits
        h, w, y, x = (values.gather(1, first).squeeze(1) for values in (heights, widths, y, x))
        top, left = (y * (height - h + 1)).long(), (x * (width - w + 1)).long()
        drawn = torch.stack((top, left, h, w), 1)
        return torch.where(fits.any(1, keepdim=True), drawn, torch.tensor(self._fallback(height, width)))

    def _fallback(self, height: int, width: int) -> tuple[int, int, int, int]:
        """The middle of the image, cut to the nearest aspect ratio that is allowed."""
        low, high = self.ratio
        h, w = height, width
        if width / height < low:
            h = round(width / low)
        elif width / height > high:
            w = round(height * high)
        return (height - h) // 2, (width - w) // 2, h, w

    def apply(self, images: Tensor, parameters: Tensor) -> Tensor:
        if images.device.type == "cpu":
            # One by one: torch's kernel for uint8 is as fast as two matrix products for 32 pixels, and 18 times as fast
            # for 256.
            size = [self.edge, self.edge]
            boxes = parameters.tolist()
            return torch.stack(
                [TF.resized_crop(image, *box, size=size) for image, box in zip(images, boxes, strict=True)]
            )
        return resize_windows(images, parameters, self.edge)


def resize_windows(images: Tensor, windows: Tensor, edge: int) -> Tensor:
    """Resize a window of each image to ``edge x edge``, bilinear and antialiased: rows and columns are weighted means.

    Args:
        images: shape ``(n, C, H, W)``.
        windows: shape ``(n, 4)``: top, left, height, width.
        edge: of the result.

    Returns:
        Shape ``(n, C, edge, edge)``, of the images' dtype.
    """
    height, width = images.shape[-2:]
    top, left, h, w = windows.T
    rows, columns = _weights(top, h, height, edge), _weights(left, w, width, edge)  # (n, edge, H), (n, edge, W)
    resized = rows.unsqueeze(1) @ images.float() @ columns.unsqueeze(1).mT  # (n, C, edge, edge)
    return resized if images.is_floating_point() else resized.round_().clamp_(0, 255).to(images.dtype)


def _weights(start: Tensor, length: Tensor, size: int, edge: int) -> Tensor:
    """What each pixel along an axis counts for each pixel of the result, ``(n, edge, size)``.

    A triangle about the place in the window, as wide as a pixel of the result or of the image, whichever is wider.
    """
    start, length = start.view(-1, 1, 1).float(), length.view(-1, 1, 1).float()
    scale = length / edge  # pixels of the image for one of the result
    centre = start + scale * (torch.arange(edge, device=start.device).view(1, -1, 1) + 0.5)
    pixel = torch.arange(size, device=start.device).view(1, 1, -1) + 0.5
    weights = (1 - (pixel - centre).abs() / scale.clamp(min=1)).clamp(min=0)
    weights = weights * ((pixel > start) & (pixel < start + length))  # nothing from outside the window
    return weights / weights.sum(2, keepdim=True)


@dataclass(frozen=True)
class _Resize:
    """The shorter edge to a given length."""

    edge: int

    def size(self, height: int, width: int) -> tuple[int, int]:
        short, long = sorted((height, width))
        other = int(self.edge * long / short)
        return (self.edge, other) if height <= width else (other, self.edge)

    def draw(self, n: int, height: int, width: int, generator: torch.Generator) -> Tensor:
        return torch.empty(n, 0)

    def apply(self, images: Tensor, parameters: Tensor) -> Tensor:
        resized: Tensor = TF.resize(images, [self.edge], antialias=True)
        return resized


@dataclass(frozen=True)
class _ScaleCrop:
    """The shorter edge to a random length, then a window somewhere."""

    least: int
    greatest: int
    edge: int

    def size(self, height: int, width: int) -> tuple[int, int]:
        return self.edge, self.edge

    def draw(self, n: int, height: int, width: int, generator: torch.Generator) -> Tensor:
        """Length of the shorter edge, and top and left of the window."""
        lengths = torch.randint(self.least, self.greatest + 1, (n,), generator=generator)
        sizes = torch.tensor([_Resize(length).size(height, width) for length in lengths.tolist()])  # (n, 2)
        places = torch.rand(n, 2, generator=generator, dtype=torch.float64)
        return torch.cat((lengths.unsqueeze(1), (places * (sizes - self.edge + 1)).long()), 1)

    def apply(self, images: Tensor, parameters: Tensor) -> Tensor:
        windows = []  # one by one: in between, the images differ in size
        for image, (length, top, left) in zip(images, parameters.tolist(), strict=True):
            resized = TF.resize(image, [length], antialias=True)
            windows.append(resized[:, top : top + self.edge, left : left + self.edge])
        return torch.stack(windows)


@dataclass(frozen=True)
class _CenterCrop:
    """The middle."""

    edge: int

    def size(self, height: int, width: int) -> tuple[int, int]:
        if min(height, width) < self.edge:
            raise ValueError(
                f"center-crop({self.edge}) is larger than the images of {height} x {width} pixels; take a smaller one, "
                f"or resize first: resize({self.edge})+center-crop({self.edge})"
            )
        return self.edge, self.edge

    def draw(self, n: int, height: int, width: int, generator: torch.Generator) -> Tensor:
        return torch.empty(n, 0)

    def apply(self, images: Tensor, parameters: Tensor) -> Tensor:
        return self.cut(images)

    def cut(self, images: Tensor) -> Tensor:
        """The middle of images ``(..., H, W)``; torchvision's would pad those that are too small."""
        self.size(*images.shape[-2:])
        middle: Tensor = TF.center_crop(images, [self.edge, self.edge])
        return middle


# Rotation


@dataclass(frozen=True)
class _Rotate:
    """About the centre, by up to an angle either way; what comes in is black."""

    degrees: float

    def size(self, height: int, width: int) -> tuple[int, int]:
        return height, width

    def draw(self, n: int, height: int, width: int, generator: torch.Generator) -> Tensor:
        """The angle in degrees, anticlockwise."""
        return self.degrees * (2 * torch.rand(n, 1, generator=generator) - 1)

    def apply(self, images: Tensor, parameters: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        angle = torch.deg2rad(parameters.flatten())
        cos, sin, zero = angle.cos(), angle.sin(), torch.zeros_like(angle)
        # From a place in the result to one in the image, both from -1 to 1 along each axis.
        rows = (cos, -sin * height / width, zero), (sin * width / height, cos, zero)
        matrix = torch.stack([torch.stack(row, 1) for row in rows], 1)  # (n, 2, 3)
        grid = F.affine_grid(matrix, list(images.shape), align_corners=False)
        turned = F.grid_sample(images.float(), grid, mode="bilinear", padding_mode="zeros", align_corners=False)
        return turned if images.is_floating_point() else turned.round_().to(images.dtype)


_STEPS: dict[str, tuple[Callable[..., _Step], str]] = {
    "shift": (_Shift, "pixels"),
    "pad-crop": (_PadCrop, "pixels"),
    "flip": (_Flip, ""),
    "resized-crop": (_ResizedCrop, "edge"),
    "scale-crop": (_ScaleCrop, "least,greatest,edge"),
    "resize": (_Resize, "edge"),
    "center-crop": (_CenterCrop, "edge"),
    "rotate": (_Rotate, "degrees"),
}
"""The operations by name, each with what its number is."""
