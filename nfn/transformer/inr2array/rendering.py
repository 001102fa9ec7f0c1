"""Images drawn by a square of SIRENs, every pixel by the one of its nearest cell."""

import math
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from nfn.sine import SineMethod
from nfn.siren import SirenParams, coordinate_grid, siren


class CellGroup(NamedTuple):
    """Cells that draw equally many pixels, and which; hence one batched product for all of them."""

    cells: Int[np.ndarray, " k"]
    pixels: Int[np.ndarray, "k p"]


def cell_of_pixels(size: int, num_cells: int) -> Int[np.ndarray, " pixels"]:
    """Returns the cell that draws each of size x size pixels, both counted row by row.

    Source: Zhou et al. (2023b), released code of INR2ARRAY: cell round((sqrt M - 1) (x + 1) / 2) on
    each axis for x = linspace(-1, 1, size), a half rounded to the even cell: the centers of the
    outer cells lie on the border, borders between cells halfway between their centers.

    Raises:
        ValueError: If the number of cells is no square, or an axis has fewer pixels than cells.
    """
    side = math.isqrt(num_cells)
    if side**2 != num_cells or side > size:
        raise ValueError(
            f"config.model.num_latents={num_cells}: expected a square number of cells, at most "
            f"{size} x {size}, or config.model.spatial=False"
        )
    axis = np.rint((side - 1) * np.arange(size) / max(size - 1, 1)).astype(np.int32)
    return (axis[:, None] * side + axis[None, :]).reshape(-1)


def cell_groups(size: int, num_cells: int) -> tuple[CellGroup, ...]:
    """Returns the pixels of every cell, cells with equally many pixels together."""
    cells = cell_of_pixels(size, num_cells)
    counts = np.bincount(cells, minlength=num_cells)
    groups = []
    for count in np.unique(counts):
        chosen = np.flatnonzero(counts == count)
        groups.append(CellGroup(chosen, np.stack([np.flatnonzero(cells == m) for m in chosen])))
    return tuple(groups)


def render_cells(
    params: SirenParams, *, size: int, omega: float, sine: SineMethod = "jnp"
) -> Float[Array, "pixels c"]:
    """Returns the image that M SIRENs draw together, values in the [-1, 1] scale.

    Source: Zhou et al. (2023b), released code of INR2ARRAY: all SIRENs share the coordinates of the
    whole image. Each is evaluated at its own pixels only.

    Args:
        params: One array of SIRENs, leaves [M, ...]; `jax.vmap` for a batch.
        size: Pixels on each axis.
        omega: Frequency of the SIRENs.
        sine: How to compute it, see `nfn.sine`.
    """
    groups = cell_groups(size, params["dense_0"]["bias"].shape[0])
    coordinates = coordinate_grid(size)
    draw = jax.vmap(partial(siren, omega=omega, sine=sine))
    parts = []
    for cells, pixels in groups:
        chosen = jax.tree.map(partial(jnp.take, indices=cells, axis=0), params)
        values = draw(chosen, coordinates[pixels])  # [k, p, c]
        parts.append(values.reshape(-1, values.shape[-1]))
    drawn = np.concatenate([pixels.reshape(-1) for _, pixels in groups])
    return jnp.take(jnp.concatenate(parts), np.argsort(drawn), axis=0)
