"""Edits of images: morphology as pure JAX functions, contrast (CLAHE) as NumPy data preparation.

Images are [n, h, w] (gray) or [n, h, w, c], values in [0, 1]. Windows stand as in OpenCV: a window
of k pixels reaches from -(k // 2) to (k - 1) // 2, and what lies outside of the image is ignored.
"""

import math
from collections.abc import Callable
from typing import Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, UInt8

from common.errors import nearest

ImageEdit = Literal["dilate", "erode", "gradient", "contrast"]
IMAGE_EDITS: tuple[str, ...] = get_args(ImageEdit)

# CIE 1931, sRGB primaries, white point D65: linear RGB to XYZ (IEC 61966-2-1).
XYZ_FROM_RGB = np.array(
    [
        [0.412453, 0.357580, 0.180423],
        [0.212671, 0.715160, 0.072169],
        [0.019334, 0.119193, 0.950227],
    ]
)
WHITE = XYZ_FROM_RGB.sum(axis=1)


def dilate(images: Float[Array, "n h w *c"], *, window: int = 3) -> Float[Array, "n h w *c"]:
    """Returns the maximum over the window around every pixel, channel by channel.

    Source: Zhou et al. (2023a), App. D.4, edit "Dilate" (3 x 3, one pass). Commutes with increasing
    maps of the values, hence the same in [0, 1] and in [-1, 1].
    """
    return _over_windows(images, lax.max, -jnp.inf, window)


def erode(images: Float[Array, "n h w *c"], *, window: int = 2) -> Float[Array, "n h w *c"]:
    """Returns the minimum over the window around every pixel, channel by channel.

    Source: Zhou et al. (2023b), INR editing; released code of Zhou et al. (2023a) (2 x 2).
    """
    return _over_windows(images, lax.min, jnp.inf, window)


def gradient(images: Float[Array, "n h w *c"], *, window: int = 2) -> Float[Array, "n h w *c"]:
    """Returns the morphological gradient, `dilate` - `erode` with the same window, in [0, 1].

    Source: Zhou et al. (2023b), INR editing; released code of Zhou et al. (2023a) (2 x 2).
    """
    return dilate(images, window=window) - erode(images, window=window)


def _over_windows(
    images: jax.Array, operation: Callable[..., jax.Array], start: float, window: int
) -> jax.Array:
    sizes, padding = [1] * images.ndim, [(0, 0)] * images.ndim
    for axis in (1, 2):
        sizes[axis], padding[axis] = window, (window // 2, (window - 1) // 2)
    initial = np.asarray(start, images.dtype)
    return lax.reduce_window(images, initial, operation, sizes, [1] * images.ndim, padding)


def contrast(
    images: Float[np.ndarray, "n h w *c"], *, clip_limit: float = 1.0, tiles: int = 3
) -> Float[np.ndarray, "n h w *c"]:
    """Returns images after `clahe` of their lightness; values are rounded to 8 bits first.

    Source: Zhou et al. (2023a), App. D.4, edit "Contrast" (L of CIELAB, clip 1.0, 3 x 3 tiles).
    Gray images have no hue: `clahe` acts on the gray value itself. Where the new lightness leaves
    the colors that RGB can show, RGB is clipped to [0, 1].
    """
    if images.ndim == 3:
        return (clahe(_bytes(images), clip_limit=clip_limit, tiles=tiles) / 255).astype(np.float32)
    lab = lab_from_rgb(_bytes(images) / 255)
    # 8 bits for L in [0, 100], as OpenCV stores it.
    lightness = clahe(_bytes(lab[..., 0] / 100), clip_limit=clip_limit, tiles=tiles)
    lab[..., 0] = lightness * (100 / 255)
    return rgb_from_lab(lab).astype(np.float32)


def clahe(
    gray: UInt8[np.ndarray, "n h w"], *, clip_limit: float = 1.0, tiles: int = 3
) -> UInt8[np.ndarray, "n h w"]:
    """Returns contrast limited adaptive histogram equalization of each image.

    Source: Zuiderveld (1994), as in OpenCV's `createCLAHE`; equal to its output bit by bit:
    1. if `tiles` does not divide height and width, the image is extended at the bottom and right
       by reflection without repeating the edge (by a whole `tiles` where a size is divisible);
    2. per tile of N pixels the histogram of 256 values is clipped at max(1, floor(clip_limit N /
       256)); what is cut off is dealt out again: the same number to all values, and the rest r,
       one each, to the values 0, s, 2 s, ... with s = max(1, floor(256 / r));
    3. the new value of v is the cumulative histogram times 255 / N, rounded half to even;
    4. every pixel takes the bilinear interpolation of the new values of the four tiles whose
       centers surround it (fewer at the border), rounded half to even.

    Raises:
        ValueError: If there is not at least one pixel per tile.
    """
    n, height, width = gray.shape
    if tiles < 1 or tiles >= min(height, width):
        raise ValueError(f"tiles={tiles}: expected 1 to {min(height, width) - 1} for {gray.shape}")
    padding = [(0, 0), (0, 0), (0, 0)]
    if height % tiles or width % tiles:
        padding[1:] = [(0, tiles - size % tiles) for size in (height, width)]
    extended = np.pad(gray, padding, mode="reflect")
    rows, columns = extended.shape[1] // tiles, extended.shape[2] // tiles
    blocks = extended.reshape(n, tiles, rows, tiles, columns).swapaxes(2, 3)
    lookup = _equalization(blocks.reshape(n, tiles, tiles, rows * columns), clip_limit)
    top, bottom, row_weight = _neighbors(height, rows, tiles)
    left, right, column_weight = _neighbors(width, columns, tiles)

    def looked_up(tile_rows: np.ndarray, tile_columns: np.ndarray) -> np.ndarray:
        image = np.arange(n)[:, None, None]
        places = (tile_rows[None, :, None], tile_columns[None, None, :])
        return lookup[(image, *places, gray)].astype(np.float32)

    x, y = column_weight[None, None, :], row_weight[None, :, None]
    upper = looked_up(top, left) * (1 - x) + looked_up(top, right) * x
    lower = looked_up(bottom, left) * (1 - x) + looked_up(bottom, right) * x
    return np.clip(np.rint(upper * (1 - y) + lower * y), 0, 255).astype(np.uint8)


def _equalization(
    pixels: UInt8[np.ndarray, "n rows columns size"], clip_limit: float
) -> UInt8[np.ndarray, "n rows columns 256"]:
    """Returns the new value of each of the 256 values, tile by tile."""
    size = pixels.shape[-1]
    flat = pixels.reshape(-1, size).astype(np.int64)
    histogram = np.zeros((len(flat), 256), np.int64)
    np.add.at(histogram, (np.arange(len(flat))[:, None], flat), 1)
    limit = max(1, math.floor(clip_limit * size / 256))
    cut = np.maximum(histogram - limit, 0).sum(axis=1)
    histogram = np.minimum(histogram, limit) + (cut // 256)[:, None]
    rest = (cut % 256)[:, None]
    step = np.maximum(256 // np.maximum(rest, 1), 1)
    value = np.arange(256)[None]
    histogram += (value % step == 0) & (value // step < rest)
    scale = np.float32(255) / np.float32(size)
    new = np.rint(histogram.cumsum(axis=1).astype(np.float32) * scale)
    return np.clip(new, 0, 255).astype(np.uint8).reshape(*pixels.shape[:-1], 256)


def _neighbors(size: int, tile: int, tiles: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns per pixel the tiles before and after it, and the weight of the latter."""
    place = np.arange(size, dtype=np.float32) * (np.float32(1) / np.float32(tile)) - np.float32(0.5)
    first = np.floor(place).astype(np.int64)
    weight = place - first.astype(np.float32)
    return np.maximum(first, 0), np.minimum(first + 1, tiles - 1), weight


def lab_from_rgb(rgb: Float[np.ndarray, "*n 3"]) -> Float[np.ndarray, "*n 3"]:
    """Returns CIELAB (L in [0, 100], white point D65) of sRGB values in [0, 1]."""
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    xyz = linear @ XYZ_FROM_RGB.T / WHITE
    edge = 6 / 29
    f = np.where(xyz > edge**3, np.cbrt(xyz), xyz / (3 * edge**2) + 4 / 29)
    x, y, z = np.moveaxis(f, -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def rgb_from_lab(lab: Float[np.ndarray, "*n 3"]) -> Float[np.ndarray, "*n 3"]:
    """Inverts `lab_from_rgb`; colors that sRGB cannot show are clipped to [0, 1]."""
    lightness, a, b = np.moveaxis(lab, -1, 0)
    y = (lightness + 16) / 116
    f = np.stack([y + a / 500, y, y - b / 200], axis=-1)
    edge = 6 / 29
    xyz = np.where(f > edge, f**3, 3 * edge**2 * (f - 4 / 29)) * WHITE
    linear = np.clip(xyz @ np.linalg.inv(XYZ_FROM_RGB).T, 0, 1)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def _bytes(values: Float[np.ndarray, "*n"]) -> UInt8[np.ndarray, "*n"]:
    return np.clip(np.rint(np.asarray(values) * 255), 0, 255).astype(np.uint8)


def edit_images(images: Float[np.ndarray, "n h w *c"], edit: str) -> Float[np.ndarray, "n h w *c"]:
    """Returns the images after one of `IMAGE_EDITS` with the sizes of the paper, in [0, 1].

    Raises:
        ValueError: If there is no such edit.
    """
    if edit not in IMAGE_EDITS:
        raise ValueError(
            f"no edit {edit!r} of images{nearest(edit, IMAGE_EDITS)}; allowed: "
            f"{', '.join(IMAGE_EDITS)}"
        )
    if edit == "contrast":
        return contrast(images)
    function = {"dilate": dilate, "erode": erode, "gradient": gradient}[edit]
    return np.asarray(jax.jit(function)(images))
