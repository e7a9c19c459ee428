"""Pictures as model inputs."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rocketnpu.errors import ModelError
from rocketnpu.images import (
    BYTES,
    SYMMETRIC,
    UNIT,
    Fit,
    Normalization,
    default_normalization,
    image_to_input,
    load_image,
)
from rocketnpu.ir import Quantization

INT8, UINT8, FLOAT32 = np.dtype(np.int8), np.dtype(np.uint8), np.dtype(np.float32)


def grid(scale: float, zero_point: int) -> Quantization:
    return Quantization(np.array([scale]), np.array([zero_point]))


def ramp() -> Image.Image:
    """All 256 grey levels in 16 x 16 pixels."""
    return Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16))


@pytest.mark.parametrize(
    ("dtype", "quantization", "offset"),
    [
        (UINT8, grid(1 / 128, 128), 0),  # MobileNet
        (INT8, grid(1.0, -128), -128),  # ResNet of MLPerf Tiny
        (INT8, grid(1 / 255, -128), -128),  # the demo
        (UINT8, None, 0),
    ],
)
def test_common_quantized_inputs_get_the_pixels_as_they_are(
    dtype: np.dtype[np.generic], quantization: Quantization | None, offset: int
) -> None:
    tensor = image_to_input(ramp(), (1, 16, 16, 1), dtype, quantization)
    assert tensor.dtype == dtype
    np.testing.assert_array_equal(tensor.astype(int).ravel(), np.arange(256) + offset)


@pytest.mark.parametrize(
    ("dtype", "quantization", "expected"),
    [
        (UINT8, grid(0.012566017, 131), SYMMETRIC),  # EfficientNet-Lite0: -1.65..1.56
        (INT8, grid(1 / 255, -128), UNIT),
        (INT8, grid(1.0, -128), BYTES),
        (FLOAT32, None, SYMMETRIC),
    ],
)
def test_default_normalization_follows_the_inputs_real_range(
    dtype: np.dtype[np.generic], quantization: Quantization | None, expected: Normalization
) -> None:
    assert default_normalization(dtype, quantization) == expected


def test_normalized_pixels_are_rounded_on_the_inputs_own_grid_and_saturate() -> None:
    pixels = Image.fromarray(np.array([[0, 100, 255]], np.uint8))
    rule = Normalization((100.0,), (50.0,))
    tensor = image_to_input(pixels, (1, 1, 3, 1), INT8, grid(0.02, 3), normalization=rule)
    np.testing.assert_array_equal(tensor.ravel(), [-97, 3, 127])  # real -2, 0, 3.1


def test_each_channel_has_its_own_mean_and_std() -> None:
    pixel = Image.new("RGB", (1, 1), (10, 20, 30))
    rule = Normalization((10.0, 10.0, 10.0), (1.0, 2.0, 4.0))
    tensor = image_to_input(pixel, (1, 1, 1, 3), FLOAT32, None, normalization=rule)
    np.testing.assert_array_equal(tensor.ravel(), [0, 5, 5])
    with pytest.raises(ModelError, match="3 values for 1 channels"):
        image_to_input(pixel, (1, 1, 1, 1), FLOAT32, None, normalization=rule)


def test_channels_first_inputs_get_planes() -> None:
    picture = Image.new("RGB", (4, 2), (1, 2, 3))
    tensor = image_to_input(picture, (1, 3, 2, 4), UINT8, None)
    np.testing.assert_array_equal(tensor[0].reshape(3, 8), np.repeat([[1], [2], [3]], 8, axis=1))


def test_stretch_fills_the_input_and_letterbox_keeps_the_proportions() -> None:
    picture = Image.new("L", (8, 4), 255)
    stretched = image_to_input(picture, (1, 8, 8, 1), UINT8, None)
    boxed = image_to_input(picture, (1, 8, 8, 1), UINT8, None, fit=Fit.LETTERBOX)
    np.testing.assert_array_equal(stretched[0, :, 0, 0], [255] * 8)
    np.testing.assert_array_equal(boxed[0, :, 0, 0], [128, 128, 255, 255, 255, 255, 128, 128])


@pytest.mark.parametrize("shape", [(1, 10), (1, 4, 4, 2), (2, 4, 4, 3), (4, 4, 3)])
def test_inputs_that_are_no_picture_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ModelError, match="takes no picture"):
        image_to_input(ramp(), shape, UINT8, None)


def test_an_int16_input_takes_no_picture() -> None:
    with pytest.raises(ModelError, match="int16 takes no picture"):
        image_to_input(ramp(), (1, 4, 4, 1), np.dtype(np.int16), grid(1.0, 0))


def test_pictures_are_turned_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    Image.new("RGB", (4, 2)).save(tmp_path / "turned.png", exif=exif)
    assert load_image(tmp_path / "turned.png").size == (2, 4)


def test_a_palette_with_transparency_becomes_rgb(tmp_path: Path) -> None:
    Image.new("RGBA", (2, 2), (9, 8, 7, 0)).quantize().save(tmp_path / "palette.png")
    assert load_image(tmp_path / "palette.png").mode == "RGB"


def test_16_bit_pictures_are_refused_because_conversion_would_clip_them(tmp_path: Path) -> None:
    Image.fromarray(np.full((2, 2), 40000, np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(ModelError, match="8 bits a channel"):
        load_image(tmp_path / "deep.png")


def png_claiming(width: int, height: int) -> bytes:
    """A PNG file of a few bytes whose header claims this size."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [8193, 9500, 30000])  # our limit, Pillow's warning, Pillow's error
def test_a_picture_that_claims_too_many_pixels_is_not_decoded(tmp_path: Path, side: int) -> None:
    (tmp_path / "bomb.png").write_bytes(png_claiming(side, side))
    with pytest.raises(ModelError, match=r"bomb\.png: .*pixels"):
        load_image(tmp_path / "bomb.png")


@pytest.mark.parametrize("name", ["text", "empty", "truncated", "postscript"])
def test_what_is_no_picture_is_refused_in_one_line(tmp_path: Path, name: str) -> None:
    ramp().resize((64, 64)).save(tmp_path / "good.png")
    whole = (tmp_path / "good.png").read_bytes()
    content = {"text": b"hello", "empty": b"", "truncated": whole[: len(whole) // 2], "postscript": b"%!PS-Adobe-3.0\n"}
    (tmp_path / name).write_bytes(content[name])
    with pytest.raises(ModelError, match="cannot decode") as caught:
        load_image(tmp_path / name)
    assert "\n" not in str(caught.value)
