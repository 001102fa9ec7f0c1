"""Pixels that move: coarser pixels, and elastic displacements."""

from functools import cache

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float64, Key, UInt8

from finetune.corruptions import parameters
from finetune.corruptions.draws import uniforms
from finetune.corruptions.levels import (
    Severity,
    at_severity,
    from_levels,
    kept,
    product,
    to_levels,
)
from finetune.corruptions.stencils import banded, diagonals, folded, gaussian_bands

TRUNCATE = 3.0  # standard deviations, of the smoothed displacements


def box_matrix(size: int, share: float) -> Float64[np.ndarray, "size size"]:
    """Returns the matrix that makes a row of pixels coarser, by boxes of whole pixels.

    int(share * size) boxes average the pixels whose centers they hold, as Pillow does; each pixel
    of the result is the box that holds its center.
    """
    boxes = max(int(size * share), 1)
    width = size / boxes
    centers = (np.arange(boxes) + 0.5) * width
    first = np.maximum(np.trunc(centers - width / 2 + 0.5).astype(int), 0)
    last = np.minimum(np.trunc(centers + width / 2 + 0.5).astype(int), size)
    pixels = np.arange(size)[None]
    inside = (pixels >= first[:, None]) & (pixels < last[:, None])
    means = inside / inside.sum(1, keepdims=True)
    return means[((np.arange(size) + 0.5) / width).astype(int)]


@cache
def box_matrices(size: int) -> Float64[np.ndarray, "severities size size"]:
    """Returns `box_matrix` of every severity."""
    return np.stack([box_matrix(size, share) for share in parameters.PIXELATE])


def pixelate(
    levels: UInt8[Array, "n h w c"], severity: Severity, keys: Key[Array, " n"] | None = None
) -> UInt8[Array, "n h w c"]:
    """Returns images made smaller and large again by boxes.

    Rows are averaged before columns, and rounded in between, as Pillow does.

    Source: Hendrycks and Dietterich (2019), pixelate.
    """
    del keys
    count, height, width, channels = levels.shape
    images = levels.astype(jnp.float32).reshape(count, height, width * channels)
    for axis, size in ((2, width), (1, height)):
        offsets, table = diagonals(box_matrices(size))
        means = banded(images, axis, offsets, at_severity(table, severity))
        # Means of a few levels are halves, or far from halves.
        images = jnp.floor(means + np.float32(0.5 + 2**-10))
    return images.astype(jnp.uint8).reshape(levels.shape)


def bilinear(
    images: Float[Array, "n h w c"],
    rows: Float[Array, "n h w"],
    columns: Float[Array, "n h w"],
    edge: str,
) -> Float[Array, "n h w c"]:
    """Returns images at these places, interpolated between four pixels; see `folded` for edges."""
    count, height, width, channels = images.shape
    flat, rows, columns = kept(images.reshape(-1, channels)), kept(rows), kept(columns)
    first = height * width * jnp.arange(count, dtype=jnp.int32)[:, None, None]
    top, left = jnp.floor(rows), jnp.floor(columns)
    down, right = rows - top, columns - left
    above, beside = top.astype(jnp.int32), left.astype(jnp.int32)
    total = jnp.zeros_like(flat)
    for row, row_share in ((0, 1 - down), (1, down)):
        for column, column_share in ((0, 1 - right), (1, right)):
            y = folded(above + row, height, edge)
            x = folded(beside + column, width, edge)
            # Once for all channels, and all images together.
            source = kept(first + y * width + x).reshape(-1)
            share = (row_share * column_share).reshape(-1, 1)
            total = total + share * flat.at[source].get(mode="promise_in_bounds")
    return total.reshape(images.shape)


def affine_places(
    moves: Float[Array, "n 3 2"], height: int, width: int
) -> tuple[Float[Array, "n h w"], Float[Array, "n h w"]]:
    """Returns the rows and columns that pixels come from when three points of an image are moved.

    The points are corners of a square in the middle, two thirds as large as the image. Places are
    exact, as in OpenCV 5; that of the published files rounded them to 1/32 pixel.

    Args:
        moves: Right and down, of the points at the lower right, upper right and upper left.
        height: Of the image.
        width: Of the image.
    """
    center = np.array([width // 2, height // 2], np.float32)
    side = min(height, width) // 3
    corners = np.array([[1, 1], [1, -1], [-1, -1]], np.float32)
    points = center + side * corners
    moved = points[None] + moves
    # A maps moved points back: A (q_i - q_2) = p_i - p_2 for two i.
    edges = moved[:, :2] - moved[:, 2:]  # [n, i, xy]
    a, b, c, d = edges[:, 0, 0], edges[:, 0, 1], edges[:, 1, 0], edges[:, 1, 1]
    inverse = jnp.stack([jnp.stack([d, -b], 1), jnp.stack([-c, a], 1)], 1)  # [n, xy, i]
    inverse = inverse / (a * d - b * c)[:, None, None]
    back = product("nxi,iy->nxy", inverse, jnp.asarray(points[:2] - points[2:]))  # [n, from, to]
    shift = jnp.asarray(points[2])[None] - product("nx,nxy->ny", moved[:, 2], back)
    x = jnp.arange(width, dtype=jnp.float32)[None, None]
    y = jnp.arange(height, dtype=jnp.float32)[None, :, None]
    part = lambda axis: (
        x * back[:, 0, axis, None, None]
        + y * back[:, 1, axis, None, None]
        + shift[:, axis, None, None]
    )
    return part(1), part(0)


def elastic(
    images: Float[Array, "n h w c"],
    severity: Severity,
    moves: Float[Array, "n 3 2"],
    fields: Float[Array, "n 2 h w"],
) -> Float[Array, "n h w c"]:
    """Returns images under an affine map, then with every pixel from a place nearby.

    Args:
        images: Images.
        severity: 1 to 5.
        moves: In [-1, 1], of three points.
        fields: In [-1, 1], for columns and rows; smoothed here.
    """
    height, width = images.shape[1:3]
    side = min(height, width)
    table = parameters.ELASTIC
    affine = at_severity([side * entry.affine for entry in table], severity)
    amount = at_severity([side * entry.amount for entry in table], severity)
    places = affine_places(moves * affine, height, width)
    warped = kept(bilinear(images, *places, "mirror"))

    sigmas = tuple(side * entry.sigma for entry in table)
    both = [gaussian_bands(sigmas, size, "reflect", TRUNCATE) for size in (height, width)]
    rows, columns = (at_severity(bands, severity) for bands in both)
    smooth = product("ab,nfbw->nfaw", rows, fields)
    smooth = amount * product("vw,nfaw->nfav", columns, smooth)
    x = jnp.arange(width, dtype=jnp.float32)[None, None]
    y = jnp.arange(height, dtype=jnp.float32)[None, :, None]
    return bilinear(warped, y + smooth[:, 1], x + smooth[:, 0], "reflect")


def elastic_transform(
    levels: UInt8[Array, "n h w c"], severity: Severity, keys: Key[Array, " n"]
) -> UInt8[Array, "n h w c"]:
    """Returns images that were stretched like rubber.

    Source: Hendrycks and Dietterich (2019), elastic transform.
    """
    moves = uniforms(keys, (3, 2), -1.0, 1.0)
    fields = uniforms(keys, (2, *levels.shape[1:3]), -1.0, 1.0, stream=1)
    return to_levels(elastic(from_levels(levels), severity, moves, fields))
