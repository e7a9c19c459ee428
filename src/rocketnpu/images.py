"""Pictures as model inputs: decode, fit to the input's size, normalise, quantize."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from rocketnpu.errors import ModelError
from rocketnpu.ir import Quantization

FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""What is decoded: formats of pixels only (Pillow also knows some that start other programs, such as EPS)."""

MAX_PIXELS = 1 << 26
"""Largest picture that is decoded, 64 megapixels (192 MiB as RGB): a small file can claim far more."""

LETTERBOX_GREY = 128


class Fit(StrEnum):
    """How a picture gets the input's size."""

    STRETCH = "stretch"
    LETTERBOX = "letterbox"


@dataclass(frozen=True)
class Normalization:
    """real = (pixel - mean) / std for pixels 0..255; one value, or one for each channel."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


UNIT = Normalization((0.0,), (255.0,))
SYMMETRIC = Normalization((128.0,), (128.0,))
BYTES = Normalization((0.0,), (1.0,))


def load_image(path: str | Path) -> Image.Image:
    """Decode a picture file, upright, as mode L or RGB.

    Raises ModelError for a bad file, OSError for one that cannot be read.
    """
    with open(path, "rb") as file, warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            image = Image.open(file, formats=FORMATS)
            if image.width * image.height > MAX_PIXELS:
                raise ModelError(f"image {path}: {image.width}x{image.height} pixels; at most {MAX_PIXELS} are decoded")
            image.load()
            upright = ImageOps.exif_transpose(image)
        except ModelError:
            raise
        except (Image.DecompressionBombError, Image.DecompressionBombWarning):
            raise ModelError(f"image {path}: more than {MAX_PIXELS} pixels; scale it down first") from None
        except Exception as error:  # decoders raise nearly anything on a damaged file, and each means just that
            known = ", ".join(FORMATS)
            raise ModelError(
                f"image {path}: cannot decode ({type(error).__name__}); give a whole {known} file"
            ) from None
    if upright.mode.startswith(("I", "F")):
        raise ModelError(f"image {path}: pixels of mode {upright.mode}; save it with 8 bits a channel")
    if upright.mode == "P":
        upright = upright.convert("RGBA")  # what a palette with transparency has to go through
    return upright.convert("L" if upright.mode in ("1", "L", "LA") else "RGB")


@dataclass(frozen=True)
class ImageShape:
    """What an input of rank 4 expects of a picture."""

    height: int
    width: int
    channels: int
    channels_first: bool


def image_shape(shape: tuple[int, ...]) -> ImageShape | None:
    """The picture that fits one input's shape: NHWC or NCHW with batch 1 and 1 or 3 channels; None if it takes none."""
    if len(shape) != 4 or shape[0] != 1:
        return None
    if shape[3] in (1, 3):
        return ImageShape(shape[1], shape[2], shape[3], channels_first=False)
    if shape[1] in (1, 3):
        return ImageShape(shape[2], shape[3], shape[1], channels_first=True)
    return None


def default_normalization(dtype: np.dtype[np.generic], quantization: Quantization | None) -> Normalization:
    """The usual convention that the input's own range of real values tells: 0..255, 0..1, else -1..1.

    Float inputs tell nothing and get -1..1; integers without quantization are taken as pixels.
    """
    if dtype.kind == "f":
        return SYMMETRIC
    low, high = _real_range(dtype, quantization)
    if high > 16:  # far beyond any normalised range
        return BYTES
    return UNIT if low > -0.1 else SYMMETRIC  # calibration may put a 0..1 input's lower end a little below 0


def image_to_input(
    image: Image.Image,
    shape: tuple[int, ...],
    dtype: np.dtype[np.generic],
    quantization: Quantization | None,
    *,
    normalization: Normalization | None = None,
    fit: Fit = Fit.STRETCH,
) -> NDArray[np.generic]:
    """A picture as the model's input: `shape` and `dtype`, quantized by the input's own scale and zero point.

    Without `normalization` the one of `default_normalization` is used.
    Raises ModelError when the input takes no picture.
    """
    wanted = image_shape(shape)
    if wanted is None:
        raise ModelError(f"an input of shape {shape} takes no picture: it wants 1xHxWxC or 1xCxHxW with C of 1 or 3")
    if dtype.kind != "f" and dtype not in (np.dtype(np.int8), np.dtype(np.uint8)):
        raise ModelError(f"an input of {dtype} takes no picture: give --input with an array")
    rule = normalization or default_normalization(dtype, quantization)
    mean, std = (_per_channel(values, wanted.channels) for values in (rule.mean, rule.std))
    pixels = np.asarray(_fitted(image, wanted, fit), np.float64).reshape(wanted.height, wanted.width, wanted.channels)
    real = (pixels - mean) / std
    stored = (real.transpose(2, 0, 1) if wanted.channels_first else real)[None]
    if dtype.kind == "f":
        return stored.astype(dtype)
    scale, zero_point = _grid(quantization)
    limits = np.iinfo(dtype.name)
    return np.clip(np.round(stored / scale) + zero_point, limits.min, limits.max).astype(dtype)


def _fitted(image: Image.Image, wanted: ImageShape, fit: Fit) -> Image.Image:
    size = (wanted.width, wanted.height)
    picture = image.convert("L" if wanted.channels == 1 else "RGB")
    if picture.size == size:
        return picture
    if fit is Fit.STRETCH:
        return picture.resize(size, Image.Resampling.BILINEAR)
    grey = LETTERBOX_GREY if wanted.channels == 1 else (LETTERBOX_GREY,) * 3
    return ImageOps.pad(picture, size, Image.Resampling.BILINEAR, color=grey)


def _per_channel(values: tuple[float, ...], channels: int) -> NDArray[np.float64]:
    if len(values) not in (1, channels):
        raise ModelError(f"normalization has {len(values)} values for {channels} channels; give one, or one for each")
    return np.array(values, np.float64)


def _grid(quantization: Quantization | None) -> tuple[float, int]:
    if quantization is None:
        return 1.0, 0
    return float(quantization.scales[0]), int(quantization.zero_points[0])


def _real_range(dtype: np.dtype[np.generic], quantization: Quantization | None) -> tuple[float, float]:
    scale, zero_point = _grid(quantization)
    limits = np.iinfo(dtype.name)
    return scale * (limits.min - zero_point), scale * (limits.max - zero_point)
