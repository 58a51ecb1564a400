"""Decoding: every kind as Pillow has it, more than eight bits, and files that are damaged."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pure.data.storage import decoding
from pure.data.storage.decoding import decode


def picture(height: int = 6, width: int = 8, seed: int = 0, mode: str = "RGB") -> Image.Image:
    """A smooth picture, so that JPEG keeps it."""
    y, x = np.mgrid[0:height, 0:width]
    pixels = np.stack([20 * x + seed, 25 * y, 10 * (x + y)], axis=-1)
    return Image.fromarray(pixels.astype(np.uint8)).convert(mode)


def encoded(image: Image.Image, kind: str, **options: object) -> np.ndarray:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return np.frombuffer(buffer.getvalue(), dtype=np.uint8).copy()


@pytest.mark.parametrize(
    ("mode", "kind"),
    [("RGB", "JPEG"), ("L", "JPEG"), ("CMYK", "JPEG"), ("P", "PNG"), ("RGBA", "PNG"), ("LA", "PNG"), ("1", "PNG")]
    + [("RGB", kind) for kind in ("PNG", "WEBP", "BMP", "TIFF", "PPM")]
    + [("L", "TIFF"), ("L", "PPM"), ("CMYK", "TIFF"), ("P", "BMP"), ("RGBA", "TIFF")],
)
def test_every_kind_becomes_rgb_as_with_pillow(mode: str, kind: str) -> None:
    data = encoded(picture(mode=mode), kind)
    expected = np.array(Image.open(io.BytesIO(data.tobytes())).convert("RGB"))
    image = decode(data)
    assert (image.dtype, image.shape) == (torch.uint8, (3, 6, 8))
    assert np.array_equal(image.permute(1, 2, 0), expected)


def test_pillow_alone_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(picture(64, 48), "JPEG")
    both = decode(data)
    monkeypatch.setattr(decoding, "_DECODE_JPEG", None)
    assert torch.equal(decode(data), both)


def test_transparency_of_a_palette_is_dropped_without_a_warning() -> None:
    palette = picture(mode="P")
    data = encoded(palette, "PNG", transparency=bytes(range(256)))
    expected = torch.from_numpy(np.array(palette.convert("RGB"))).permute(2, 0, 1)
    assert torch.equal(decode(data), expected)
    assert torch.equal(decoding._decode_with_pillow(data), expected)


DEEP = np.array([[0, 255, 256], [0x1234, 0x8000, 65535]], dtype=np.uint16)
UPPER_EIGHT = [[[0, 0, 1], [0x12, 0x80, 255]]] * 3


def tiff(levels: np.ndarray, bits: int, sample_format: int = 1, photometric: int = 1, width: int = 0) -> np.ndarray:
    """A grey TIFF, not packed, in the order of the numbers' bytes, as any camera may write it."""
    order, magic = (">", b"MM\0*") if levels.dtype.byteorder == ">" else ("<", b"II*\0")
    pixels, height = levels.tobytes(), levels.shape[0]
    tags = {256: width or levels.shape[1], 257: height, 258: bits, 259: 1, 262: photometric, 273: 8, 277: 1}
    tags |= {278: height, 279: len(pixels), 339: sample_format}
    entries = b"".join(struct.pack(f"{order}HHII", tag, 4, 1, value) for tag, value in tags.items())
    directory = struct.pack(f"{order}H", len(tags)) + entries + bytes(4)
    content = magic + struct.pack(f"{order}I", 8 + len(pixels)) + pixels + directory
    return np.frombuffer(content, dtype=np.uint8).copy()


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_sixteen_bits_give_their_upper_eight(kind: str) -> None:
    assert decode(encoded(Image.fromarray(DEEP), kind)).tolist() == UPPER_EIGHT
    ramp = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    levels = decode(encoded(Image.fromarray(ramp), kind))
    assert levels[0].double().mean() == 127.5
    assert len(levels.unique()) == 256


def test_sixteen_bits_in_either_order_of_bytes_and_with_white_as_zero() -> None:
    assert decode(tiff(DEEP, 16)).tolist() == UPPER_EIGHT
    assert decode(tiff(DEEP.astype(">u2"), 16)).tolist() == UPPER_EIGHT
    inverted = decode(tiff(65535 - DEEP, 16, photometric=0))
    assert inverted.tolist() == UPPER_EIGHT


def test_twelve_bits_give_their_upper_eight() -> None:
    packed = np.array([[0x12, 0x34, 0x56, 0xFF, 0xF0, 0x0F]], dtype=np.uint8)  # 0x123, 0x456, 0xFFF, 0x00F
    assert decode(tiff(packed, 12, width=4))[0].tolist() == [[0x12, 0x45, 0xFF, 0x00]]


def test_a_netpbm_file_of_another_white_is_scaled() -> None:
    data = np.frombuffer(b"P5 3 1 1023\n" + np.array([0, 512, 1023], dtype=">u2").tobytes(), dtype=np.uint8).copy()
    assert decode(data)[0].tolist() == [[0, 128, 255]]


@pytest.mark.parametrize(
    ("levels", "bits", "sample_format", "what"),
    [
        (np.linspace(0, 1, 6, dtype=np.float32).reshape(2, 3), 32, 3, "floating-point numbers"),
        (np.arange(6, dtype=np.int32).reshape(2, 3), 32, 2, "whole numbers of 32 bits"),
        (np.arange(6, dtype=np.uint32).reshape(2, 3), 32, 1, "whole numbers of 32 bits"),
        (np.arange(6, dtype=np.int16).reshape(2, 3), 16, 2, "or negative ones"),
    ],
)
def test_grey_levels_of_unknown_white_are_refused(levels: np.ndarray, bits: int, sample_format: int, what: str) -> None:
    with pytest.raises(OSError, match=f"its grey levels are .*{what}.*; save it with 8 or 16 bits"):
        decode(tiff(levels, bits, sample_format))


def test_a_float_image_of_pillow_is_refused() -> None:
    for kind in ("TIFF", "PPM"):  # PPM: the floating-point kind, PFM
        with pytest.raises(OSError, match="floating-point numbers"):
            decode(encoded(Image.fromarray(np.ones((2, 2), dtype=np.float32)), kind))


def test_orientation_is_left_alone() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    assert decode(encoded(picture(), "JPEG", exif=exif)).shape == (3, 6, 8)


@pytest.mark.parametrize("kind", ["WEBP", "GIF"])
def test_first_frame_of_a_moving_picture(kind: str) -> None:
    frames = [Image.new("RGB", (8, 6), colour) for colour in ("red", "blue")]
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], lossless=True)
    assert decode(data)[:, 0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "PPM"])
@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")  # Pillow's, before it gives up
@pytest.mark.parametrize("keep", [0, 3, 20, 0.7])
def test_what_is_cut_off_is_an_error(kind: str, keep: float) -> None:
    data = encoded(picture(64, 64), kind)
    with pytest.raises(OSError, match=r"."):
        decode(data[: keep if keep > 1 else int(keep * len(data))])


KINDS = [
    ("PNG", "RGB", {}),
    ("PNG", "P", {}),
    ("PNG", "I;16", {}),
    ("JPEG", "RGB", {}),
    ("JPEG", "RGB", {"progressive": True}),
    ("BMP", "RGB", {}),
    ("TIFF", "RGB", {}),
    ("TIFF", "I;16", {}),
    ("TIFF", "RGB", {"compression": "tiff_lzw"}),
    ("WEBP", "RGB", {}),
    ("WEBP", "RGB", {"lossless": True}),
    ("PPM", "L", {}),
    ("PPM", "I;16", {}),
]

DECODE_DAMAGED = """
import sys, warnings
import numpy as np
from pure.data.storage.decoding import decode

warnings.simplefilter("ignore")  # Pillow's, on what is damaged
sound = np.load(sys.argv[1])
for number in range(len(sound.files)):
    data, refused = sound[str(number)], 0
    decode(data.copy())
    for place in np.unique(np.linspace(0, len(data) - 1, 120).astype(int)):
        for flipped in (1, 0x80, 255):
            damaged = data.copy()
            damaged[place] ^= flipped
            try:
                decode(damaged)
            except OSError:
                refused += 1
    print(number, refused, flush=True)
"""


def test_a_flipped_byte_is_an_error_or_another_picture_and_never_the_end_of_the_process(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    grey = Image.fromarray(pixels[..., 0].astype(np.uint16) << 8)
    images = [
        encoded(grey if mode == "I;16" else Image.fromarray(pixels).convert(mode), kind, **options)
        for kind, mode, options in KINDS
    ]
    np.savez(tmp_path / "sound.npz", **{str(number): data for number, data in enumerate(images)})
    command = [sys.executable, "-c", DECODE_DAMAGED, str(tmp_path / "sound.npz")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    counts = [line.split() for line in done.stdout.splitlines()]
    assert done.returncode == 0, f"{KINDS[len(counts)]}: {done.returncode}, {done.stderr[-2000:]}"  # -11: a crash
    assert all(int(refused) > 0 for _, refused in counts)
    assert len(counts) == len(KINDS)


def test_a_jpeg_that_promises_too_many_pixels_is_refused_before_memory_is_taken() -> None:
    for progressive in (False, True):
        data = encoded(picture(64, 64), "JPEG", progressive=progressive)
        frame = data.tobytes().index(b"\xff\xc2" if progressive else b"\xff\xc0")
        assert data[frame + 5 : frame + 9].tolist() == [0, 64, 0, 64]
        assert decoding._jpeg_pixels(data.data) == 64 * 64
        data[frame + 5 : frame + 9] = 255  # 65,535 x 65,535 pixels: 13 GB
        with pytest.raises(OSError, match="exceeds limit"):
            decode(data)
