"""Encoded images to tensors, so that no damaged file does worse than raise an OSError.

torchvision's decoder reads JPEGs, twice as fast as Pillow for images of 224 pixels.  Pillow reads all else: one wrong
byte in a PNG makes torchvision's end the process (torchvision 0.29), and what Pillow costs more, 80 us for a PNG of 32
pixels and a quarter of the time for one of 224, is paid once where a set is read into memory.
"""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from torch import Tensor

__all__ = ["decode", "image_size"]

# The operator itself, since some of torchvision.io's functions warn that a later release will be without them.
_DECODE_JPEG: Callable[[Tensor, int, bool], Tensor] | None = getattr(torch.ops.image, "decode_jpeg", None)
_RGB = 3  # torchvision.io.ImageReadMode.RGB

_START_OF_IMAGE = b"\xff\xd8\xff"
_NO_FRAMES = (0xC4, 0xC8, 0xCC)  # markers among those of frames, 0xC0 to 0xCF, that are something else
_BITS_PER_SAMPLE, _PHOTOMETRIC, _WHITE_IS_ZERO = 258, 262, 0  # tags of TIFF


def decode(data: NDArray[np.uint8]) -> Tensor:
    """An encoded image as torchvision's default loader gives it: RGB, and EXIF's orientation left alone.

    Grey images are repeated, palettes looked up, transparency dropped, CMYK converted.

    Args:
        data: the bytes of the file, shape ``(n,)``.

    Returns:
        Shape ``(3, H, W)``, uint8; of a moving picture the first frame, of 12 or 16 bits the upper eight.

    Raises:
        OSError: no image, or one that is damaged, promises more pixels than Pillow takes for honest, or has grey levels
            whose white is unknown (floating-point numbers, whole numbers of 32 bits).
    """
    if _DECODE_JPEG is not None and 0 < _jpeg_pixels(data.data) <= (Image.MAX_IMAGE_PIXELS or 0):
        try:
            return _DECODE_JPEG(torch.from_numpy(data), _RGB, False)  # False: do not turn by EXIF
        except RuntimeError:
            pass  # Pillow reads some that torchvision refuses, and says better what is wrong with the others
    return _decode_with_pillow(data)


def image_size(path: str) -> tuple[int, int] | None:
    """Height and width in pixels from the header of a file; None where Pillow does not know it."""
    try:
        with Image.open(path) as image:
            return image.height, image.width
    except Exception:  # a damaged header can raise anything; whoever decodes the file says what is wrong
        return None


def _decode_with_pillow(data: NDArray[np.uint8]) -> Tensor:
    try:
        with Image.open(io.BytesIO(data.tobytes())) as image:
            if image.mode == "F" or image.mode.startswith("I"):
                grey = torch.from_numpy(_upper_eight_bits(image))
                return grey.expand(3, -1, -1).contiguous()
            # By way of RGBA, since Pillow else warns that it drops a transparency.
            full = image.convert("RGBA") if "transparency" in image.info else image
            pixels = np.array(full.convert("RGB"))
    except UnidentifiedImageError:  # its message is the address of an object
        raise OSError(f"it is not an image ({len(data):,} bytes)") from None
    except OSError:
        raise
    except Exception as error:  # a damaged file can raise anything: ValueError, SyntaxError, struct.error, ...
        raise OSError(str(error) or type(error).__name__) from None
    return torch.from_numpy(pixels).permute(2, 0, 1)


def _upper_eight_bits(image: Image.Image) -> NDArray[np.uint8]:
    """Grey levels of more than eight bits, ``(H, W)``; Pillow's own conversion cuts them off at 255."""
    bits, inverted = _depth(image), False
    if bits is None:
        kind = "floating-point numbers" if image.mode == "F" else "whole numbers of 32 bits, or negative ones"
        raise OSError(f"its grey levels are {kind}, whose white is unknown; save it with 8 or 16 bits")
    if image.format == "TIFF":
        inverted = image.tag_v2.get(_PHOTOMETRIC) == _WHITE_IS_ZERO  # type: ignore[attr-defined]
    levels = (np.asarray(image) >> (bits - 8)).astype(np.uint8)
    return 255 - levels if inverted else levels


def _depth(image: Image.Image) -> int | None:
    """Bits of a grey level; None where that does not tell which level is white."""
    if image.mode.startswith("I;16"):
        if image.format != "TIFF":
            return 16
        bits: int = image.tag_v2.get(_BITS_PER_SAMPLE, (16,))[0]  # type: ignore[attr-defined]
        return bits
    # Where Pillow keeps 16 bits as 32: PNG before its release 11, and PGM, scaled to 65,535.
    return 16 if image.mode == "I" and image.format in ("PNG", "PPM") else None


def _jpeg_pixels(data: memoryview) -> int:
    """How many pixels a JPEG promises in the header of its first frame; 0 if it has no frame, or is not a JPEG.

    torchvision's decoder believes it whatever it says: two wrong bytes could ask for 13 GB.
    """
    place = 2 if data[:3] == _START_OF_IMAGE else len(data)
    while place + 9 <= len(data) and data[place] == 0xFF:
        marker, length = data[place + 1], int.from_bytes(data[place + 2 : place + 4])
        if 0xC0 <= marker <= 0xCF and marker not in _NO_FRAMES:
            return int.from_bytes(data[place + 5 : place + 7]) * int.from_bytes(data[place + 7 : place + 9])
        place += 2 + length
    return 0
