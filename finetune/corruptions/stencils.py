"""Linear filters along the axes of images, as matrices and taps made in float64."""

from collections.abc import Sequence
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float64, Int

from finetune.corruptions.levels import kept, product


def folded(index: Any, size: int, edge: str) -> Any:
    """Returns which pixel of a row stands in for an index outside of it.

    Args:
        index: Whole numbers, of NumPy or JAX.
        size: Pixels of the row.
        edge: "nearest" (a a|a b c), "reflect" (b a|a b c) or "mirror" (c b|a b c).
    """
    xp = jnp if isinstance(index, jax.Array) else np
    if edge == "nearest" or size == 1:
        return xp.clip(index, 0, size - 1)
    period = 2 * size if edge == "reflect" else 2 * size - 2
    place = xp.mod(index, period)
    return xp.where(place < size, place, period - place - (edge == "reflect"))


def gaussian_taps(sigma: float, truncate: float) -> Float64[np.ndarray, " taps"]:
    """Returns a normalized Gaussian, cut off at `truncate` standard deviations."""
    radius = int(truncate * sigma + 0.5)
    if sigma <= 0 or radius == 0:
        return np.ones(1)
    taps = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    return taps / taps.sum()


def band(
    taps: Float64[np.ndarray, " taps"], size: int, edge: str
) -> Float64[np.ndarray, "size size"]:
    """Returns the matrix that filters a row of pixels by centered taps."""
    radius = len(taps) // 2
    pixels = np.arange(size)[:, None]
    sources = folded(pixels + np.arange(-radius, radius + 1), size, edge)  # [size, taps]
    matrix = np.zeros((size, size))
    np.add.at(matrix, (pixels, sources), taps)
    return matrix


@cache
def gaussian_bands(
    sigmas: tuple[float, ...], size: int, edge: str, truncate: float
) -> Float64[np.ndarray, "severities size size"]:
    """Returns matrices of Gaussian filters, one for each standard deviation."""
    return np.stack([band(gaussian_taps(sigma, truncate), size, edge) for sigma in sigmas])


def separable(
    images: Float[Array, "n h w c"],
    rows: Float[Array, "h_out h"],
    columns: Float[Array, "w_out w"],
) -> Float[Array, "n h_out w_out c"]:
    """Returns images times one matrix from the left and one from the right, channel by channel."""
    return along_rows(along_columns(images, rows), columns)


def along_columns(
    images: Float[Array, "n h w c"], rows: Float[Array, "h_out h"]
) -> Float[Array, "n h_out w c"]:
    """Returns images whose columns are multiplied by a matrix."""
    count, height, width, channels = images.shape
    flat = product("ab,nbk->nak", rows, images.reshape(count, height, width * channels))
    return flat.reshape(count, rows.shape[0], width, channels)


def along_rows(
    images: Float[Array, "n h w c"], columns: Float[Array, "w_out w"]
) -> Float[Array, "n h w_out c"]:
    """Returns images whose rows are multiplied by a matrix, channel by channel."""
    count, height, width, channels = images.shape
    flat = images.reshape(count * height, width, channels)
    moved = product("vw,kwc->kvc", columns, flat)
    return moved.reshape(count, height, columns.shape[0], channels)


def diagonals(
    matrices: Float64[np.ndarray, "k size size"],
) -> tuple[tuple[int, ...], Float64[np.ndarray, "k diagonals size"]]:
    """Returns which diagonals of square matrices are not zero, and what is on them, by row."""
    size = matrices.shape[-1]
    each = {d: np.diagonal(matrices, d, 1, 2) for d in range(1 - size, size)}
    offsets = tuple(d for d, entries in each.items() if entries.any())
    inside = lambda d: (max(0, -d), max(0, d))
    return offsets, np.stack([np.pad(each[d], ((0, 0), inside(d))) for d in offsets], axis=1)


def banded(
    images: Float[Array, "n h k"],
    axis: int,
    offsets: Sequence[int],
    entries: Float[Array, "diagonals size"],
) -> Float[Array, "n h k"]:
    """Returns images times a matrix of few diagonals along an axis, 1 or 2.

    Args:
        images: Rows of pixels; those of several channels are side by side along axis 2.
        axis: 1 for columns of pixels, 2 for rows.
        offsets: Of the diagonals; pixels outside of an image are not used.
        entries: Of the diagonals.
    """
    size = images.shape[axis]
    step = size // entries.shape[1]  # channels
    before, after = max(0, -min(offsets)) * step, max(0, max(offsets)) * step
    around = [(0, 0), (0, 0), (0, 0)]
    around[axis] = (before, after)
    wide = kept(jnp.pad(images, around))
    total = jnp.zeros_like(images)
    for offset, entry in zip(offsets, entries, strict=True):
        start = offset * step + before
        part = jax.lax.slice_in_dim(wide, start, start + size, axis=axis)
        shape = (1, -1, 1) if axis == 1 else (1, 1, -1)
        total = total + jnp.repeat(entry, step).reshape(shape) * part
    return total


def padded(images: Float[Array, "n h w c"], radius: int, edge: str) -> Float[Array, "n h2 w2 c"]:
    """Returns images with `radius` more pixels on every side, see `folded`."""
    for axis in (1, 2):
        size = images.shape[axis]
        places = folded(np.arange(-radius, size + radius), size, edge)
        parts = [*_runs(places)]
        images = jnp.concatenate([_cut(images, axis, *part) for part in parts], axis=axis)
    return images


def _runs(places: Int[np.ndarray, " k"]) -> Sequence[tuple[int, int, int]]:
    """Returns (first, length, step) of runs of indices of the same step."""
    runs: list[list[int]] = []
    for place in places.tolist():
        if runs and runs[-1][1] == 1:
            step = place - runs[-1][0]
            if step in (-1, 0, 1):
                runs[-1][1:] = [2, step]
                continue
        elif runs and place == runs[-1][0] + runs[-1][1] * runs[-1][2]:
            runs[-1][1] += 1
            continue
        runs.append([place, 1, 1])
    return [(first, length, step) for first, length, step in runs]


def _cut(images: Array, axis: int, first: int, length: int, step: int) -> Array:
    index = [slice(None)] * images.ndim
    if step == 0:
        index[axis] = slice(first, first + 1)
        return jnp.repeat(images[tuple(index)], length, axis=axis)
    last = first + step * (length - 1)
    index[axis] = slice(min(first, last), max(first, last) + 1)
    cut = images[tuple(index)]
    return jnp.flip(cut, axis) if step < 0 else cut


def stencil(
    images: Float[Array, "n h w c"], kernel: Float[Array, "k k"], edge: str
) -> Float[Array, "n h w c"]:
    """Returns every pixel's weighted sum of its surroundings, channel by channel."""
    size = kernel.shape[0]
    _, height, width, _ = images.shape
    around = padded(images, size // 2, edge)
    total = jnp.zeros_like(images)
    for row in range(size):
        for column in range(size):
            part = around[:, row : row + height, column : column + width]
            total = total + kernel[row, column] * part
    return total
