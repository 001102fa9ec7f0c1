"""Multiwavelet kernels: convolutions on every scale of a wavelet transform (Gupta et al. 2021).

One axis is transformed: in one dimension the only one, else the first space axis (the second
inside, behind time). Its points hold the coefficients of a piecewise polynomial basis, so it must
have 2^L of them. On every scale a convolution maps (details, averages) to both; on all other axes
it is a Fourier layer as usual.
"""

import math
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpy.polynomial import legendre

from sciml.initialization import Uniform
from sciml.kernels import LinearKernel
from sciml.spectral import SpectralParams, init_spectral, symmetric_weights, weighted_kernel

PyTree = Any


class MultiwaveletParams(NamedTuple):
    """Parameters of one multiwavelet layer, the same on all scales.

    Attributes:
        detail: Convolution details -> details (A of the paper).
        average: Convolution averages -> details (B).
        coarse: Convolution details -> averages (C).
        last: Map of the polynomial coefficients on the coarsest scale (T_0), without a bias: the
            layer is linear.
    """

    detail: SpectralParams
    average: SpectralParams
    coarse: SpectralParams
    last: Float[Array, "order order"]


class Filters(NamedTuple):
    """Two-scale relations of orthonormal Legendre multiwavelets on [0, 1], [order, order] each.

    s = H0 s_even + H1 s_odd and d = G0 s_even + G1 s_odd; [[H0 H1], [G0 G1]] is orthogonal.
    """

    h0: np.ndarray
    h1: np.ndarray
    g0: np.ndarray
    g1: np.ndarray


@lru_cache(maxsize=8)
def legendre_filters(order: int) -> Filters:
    """Returns the filters of polynomials of degree below `order`.

    Source: Gupta et al. (2021), Eq. 4 to 6, after Alpert (1993). Integrals by Gauss-Legendre
    quadrature, exact for these polynomials.
    """
    nodes, weights = legendre.leggauss(order)
    x, weights = (nodes + 1) / 2, weights / 2

    def basis(points: np.ndarray) -> np.ndarray:
        rows = [legendre.legval(2 * points - 1, row) for row in np.eye(order)]
        return np.sqrt(2 * np.arange(order) + 1)[:, None] * np.stack(rows)

    phi = basis(x) * weights
    h0, h1 = (basis((x + shift) / 2) @ phi.T / math.sqrt(2) for shift in (0, 1))
    low = np.concatenate([h0, h1], axis=1)
    rows: list[np.ndarray] = []
    for unit in np.eye(order):  # polynomials with a jump in the middle, made orthogonal
        row = np.concatenate([unit, -unit]) / math.sqrt(2)
        for _ in range(2):  # twice is enough
            row = row - low.T @ (low @ row) - sum((np.dot(r, row) * r for r in rows), np.zeros(1))
        rows.append(row / np.linalg.norm(row))
    high = np.stack(rows)
    return Filters(h0, h1, high[:, :order], high[:, order:])


def init_multiwavelet(
    uniform: Uniform, *, modes: tuple[int, ...], width: int, order: int
) -> MultiwaveletParams:
    """Returns the parameters of a fresh layer, distributed as in the released code.

    Source: Gupta et al. (2021), the released code.

    Args:
        uniform: Source of numbers, see `sciml.initialization.draw`.
        modes: Kept frequencies, see `SpectralParams`; coarse scales keep as many as they have.
        width: Channels, a multiple of `order`.
        order: Polynomials of the basis.
    """
    convolution = partial(init_spectral, uniform, modes=modes, c_in=width, c_out=width)
    bound = 1 / math.sqrt(order)
    return MultiwaveletParams(
        detail=convolution(),
        average=convolution(),
        coarse=convolution(),
        last=uniform((order, order), -bound, bound),
    )


def wavelet_axis(grid: tuple[int, ...]) -> int:
    """Returns the axis that is transformed, of a grid with time first."""
    return 0 if len(grid) == 1 else 1


def check_grid(grid: tuple[int, ...], *, order: int, width: int) -> None:
    """Checks that a grid (time first) and a width allow the transform.

    Raises:
        ValueError: If the transformed axis does not have 2^L points, or the width is no multiple
            of the order.
    """
    points = grid[wavelet_axis(grid)]
    if points < 4 or points & (points - 1):
        raise ValueError(
            f"a multiwavelet axis of {points} points: expected a power of 2 of at least 4; change "
            "config.data.points"
        )
    if order < 1 or width % order:
        raise ValueError(
            f"config.model.width={width}: expected a multiple of config.model.wavelet_order={order}"
        )


class _Scales(NamedTuple):
    """A multiwavelet kernel on its grid.

    Attributes:
        levels: Convolutions of details and averages side by side, from the finest scale on, and
            last the map of the coarsest averages.
        filters: Of the transform.
        axis: Grid axis that is transformed.
        points: Its points.
        width: Channels.
    """

    levels: list[LinearKernel]
    filters: Filters
    axis: int
    points: int
    width: int


def multiwavelet_kernel(
    params: MultiwaveletParams, grid: tuple[int, ...], *, order: int
) -> LinearKernel:
    """Returns the layer as a LinearKernel of fields [*grid, batch, width].

    Source: Gupta et al. (2021), Fig. 2: decomposition and reconstruction.

    Raises:
        ValueError: As `check_grid`; and by its face, read, impulse and blocks for another axis
            than the transformed one, along which scales do not separate.
    """
    axis, width = wavelet_axis(grid), params.detail.re.shape[-1]
    check_grid(grid, order=order, width=width)
    levels = _level_kernels(params, grid, order)
    scales = _Scales(levels, legendre_filters(order), axis, grid[axis], width)
    return LinearKernel(
        analyse=partial(_analyse, scales),
        evaluate=partial(_evaluate, scales),
        face=partial(_face, scales),
        read=partial(_read, scales),
        impulse=partial(_impulse, scales),
        blocks=partial(_blocks, scales),
    )


def _analyse(scales: _Scales, field: Float[Array, "*grid batch c"]) -> tuple[PyTree, ...]:
    states, average = [], field
    for level in scales.levels[:-1]:
        detail, average = _down(average, scales.filters, scales.axis)
        states.append(level.analyse(jnp.concatenate([detail, average], axis=-1)))
    return (*states, scales.levels[-1].analyse(average))


def _evaluate(scales: _Scales, states: tuple[PyTree, ...]) -> Float[Array, "*grid batch c"]:
    average = scales.levels[-1].evaluate(states[-1])
    for level, state in zip(scales.levels[-2::-1], states[-2::-1], strict=True):
        detail, more = jnp.split(level.evaluate(state), 2, axis=-1)
        average = _up(detail, average + more, scales.filters, scales.axis)
    return average


def _face(
    scales: _Scales, field: Float[Array, "ends *others batch c"], axis: int
) -> Float[Array, "blocks batch ends parts c"]:
    _check_axis(scales, axis)
    return scales.levels[0].face(field, axis)


def _read(
    scales: _Scales, states: tuple[PyTree, ...], axis: int, functionals: np.ndarray
) -> Float[Array, "blocks batch ends parts c"]:
    _check_axis(scales, axis)
    windows = _windows(functionals, len(scales.levels) - 1)
    rows = _window_rows(scales.points, windows)
    parts = [
        level.read(state, axis, row)
        for level, state, row in zip(scales.levels, states, rows, strict=True)
    ]
    return _from_windows(parts, scales.filters, functionals, windows)


def _impulse(
    scales: _Scales, delta: Float[Array, "blocks batch ends parts c"], axis: int
) -> tuple[PyTree, ...]:
    _check_axis(scales, axis)
    sources = _end_sources(delta, scales.filters, len(scales.levels) - 1)
    return tuple(
        level.impulse(source, axis) for level, source in zip(scales.levels, sources, strict=True)
    )


def _blocks(
    scales: _Scales, axis: int, functionals: np.ndarray, dtype: Any
) -> Float[Array, "blocks ends_in parts_in c_in ends_out parts_out c_out"]:
    _check_axis(scales, axis)
    windows = _windows(functionals, len(scales.levels) - 1)
    parts = _window_answers(scales, _window_rows(scales.points, windows), dtype)
    flat = [part.reshape(part.shape[0], -1, *part.shape[-3:]) for part in parts]
    out = _from_windows(flat, scales.filters, functionals, windows)
    return out.reshape(*parts[0].shape[:4], *out.shape[2:])


def _check_axis(scales: _Scales, axis: int) -> None:
    if axis != scales.axis:
        raise ValueError(
            f"a multiwavelet kernel can be refined along its transformed axis {scales.axis} only, "
            f"not along axis {axis}; write the end values there instead (Refinement.axes)"
        )


def _down(field: Array, filters: Filters, axis: int) -> tuple[Array, Array]:
    """Returns details and averages on half the points of an axis."""
    pairs = field.reshape(*field.shape[:axis], field.shape[axis] // 2, 2, *field.shape[axis + 1 :])
    even, odd = (jax.lax.index_in_dim(pairs, i, axis + 1, keepdims=False) for i in (0, 1))
    detail = _by_order(even, filters.g0.T) + _by_order(odd, filters.g1.T)
    average = _by_order(even, filters.h0.T) + _by_order(odd, filters.h1.T)
    return detail, average


def _up(detail: Array, average: Array, filters: Filters, axis: int) -> Array:
    """Undoes `_down`."""
    even = _by_order(average, filters.h0) + _by_order(detail, filters.g0)
    odd = _by_order(average, filters.h1) + _by_order(detail, filters.g1)
    pairs = jnp.stack([even, odd], axis=axis + 1)
    return pairs.reshape(*pairs.shape[:axis], 2 * pairs.shape[axis], *pairs.shape[axis + 2 :])


def _by_order(x: Float[Array, "*any c"], matrix: np.ndarray) -> Float[Array, "*any c"]:
    """Multiplies the polynomial coefficients, the fastest part of the channels, by a matrix."""
    order = matrix.shape[0]
    split = x.reshape(*x.shape[:-1], x.shape[-1] // order, order)
    return (split @ jnp.asarray(matrix, x.dtype)).reshape(x.shape)


def _level_kernels(
    params: MultiwaveletParams, grid: tuple[int, ...], order: int
) -> list[LinearKernel]:
    """Returns the convolutions of every scale, from the finest on, and the map of the coarsest.

    All but the last act on details and averages side by side, 2 width channels.
    """
    axis = wavelet_axis(grid)
    depth = grid[axis].bit_length() - 1
    detail, average, coarse = (symmetric_weights(p) for p in params[:3])
    top = jnp.concatenate([detail, coarse], axis=-1)  # details go to both
    bottom = jnp.concatenate([average, jnp.zeros_like(average)], axis=-1)
    weights = jnp.concatenate([top, bottom], axis=-2)
    kernels = []
    for level in range(1, depth + 1):
        points = grid[axis] >> level
        sized = (*grid[:axis], points, *grid[axis + 1 :])
        kernels.append(weighted_kernel(_truncate(weights, points, axis), sized))
    width = detail.shape[-1]
    channels = jnp.kron(jnp.eye(width // order, dtype=params.last.dtype), params.last)
    shape = _truncate(detail, 1, axis).shape
    last = jnp.broadcast_to(channels.reshape(*(1,) * (len(shape) - 2), width, width), shape)
    last = jnp.stack([last[0], jnp.zeros_like(last[1])])
    kernels.append(weighted_kernel(last, (*grid[:axis], 1, *grid[axis + 1 :])))
    return kernels


def _truncate(
    weights: Float[Array, "2 *modes c_in c_out"], points: int, axis: int
) -> Float[Array, "2 *kept c_in c_out"]:
    """Keeps the multipliers along an axis that a scale of so many points has."""
    count = weights.shape[1 + axis]
    if axis == 0:
        return weights[:, : max(1, min(count, points // 2))]
    m = min((count - 1) // 2, (points - 1) // 2)
    chosen = np.r_[0 : m + 1, count - m : count]
    return jnp.take(weights, chosen, axis=1 + axis)


def _end_sources(delta: Array, filters: Filters, depth: int) -> list[Array]:
    """Returns sources at the ends [..., ends, parts, c] on every scale, the coarsest last."""
    sources, average = [], delta
    for _ in range(depth):  # the first point is always an even one, the last an odd one
        low, high = average[..., 0, :, :], average[..., 1, :, :]
        detail = [_by_order(low, filters.g0.T), _by_order(high, filters.g1.T)]
        mean = [_by_order(low, filters.h0.T), _by_order(high, filters.h1.T)]
        average = jnp.stack(mean, axis=-3)
        sources.append(jnp.concatenate([jnp.stack(detail, axis=-3), average], axis=-1))
    return [*sources, average]


def _windows(functionals: np.ndarray, depth: int) -> list[int]:
    """Returns how many points at each end of every scale the functionals depend on."""
    points = functionals.shape[1]
    used = np.flatnonzero(np.any(functionals != 0, axis=0))
    reach = int(max(np.minimum(used, points - 1 - used).max(initial=0) + 1, 1))
    halves = [max(1, -(-reach // 2**level)) for level in range(1, depth + 1)]
    return [*halves, 1]


def _window_rows(points: int, windows: list[int]) -> list[np.ndarray]:
    """Returns for every scale the functionals that read its window at each end, low end first."""
    rows = []
    for level, width in enumerate(windows):
        size = points >> min(level + 1, len(windows) - 1)  # the last two are the coarsest scale
        unit, width = np.eye(size), min(width, size)
        rows.append(np.concatenate([unit[:width], unit[size - width :]]))
    return rows


def _from_windows(
    parts: list[Array], filters: Filters, functionals: np.ndarray, windows: list[int]
) -> Float[Array, "blocks batch ends parts c"]:
    """Returns functionals of a field from its scales near the ends.

    Args:
        parts: Of every scale [blocks, batch, 2 window, parts, 2 c], the coarsest [..., 2, ..., c].
        filters: Of the transform.
        functionals: Weights on the finest grid.
        windows: Points read at each end of every scale.
    """
    average = parts[-1]
    for level in range(len(parts) - 2, -1, -1):
        detail, more = jnp.split(parts[level], 2, axis=-1)
        fine = _up(detail, average + more, filters, axis=2)
        half = fine.shape[2] // 2
        keep = min(windows[level - 1], half) if level else half
        average = jnp.concatenate([fine[:, :, :keep], fine[:, :, -keep:]], axis=2)
    width = average.shape[2] // 2
    points = functionals.shape[1]
    is_new = np.arange(points - width, points) >= width  # where windows overlap, count once
    weights = np.concatenate([functionals[:, :width], functionals[:, -width:] * is_new], axis=1)
    return jnp.einsum("ew,tbwpc->tbepc", jnp.asarray(weights, average.dtype), average)


def _window_answers(
    scales: _Scales, rows: list[np.ndarray], dtype: Any
) -> list[Float[Array, "blocks ends_in parts_in c_in rows parts_out c_out"]]:
    """Returns what every scale answers near the ends to unit sources at them.

    Letters: s channel of the source, e its end, p and q parts, d and o channels of a scale, r row.
    """
    width, depth = scales.width, len(scales.levels) - 1
    unit = jnp.broadcast_to(jnp.eye(width, dtype=dtype)[:, None, None], (width, 2, 1, width))
    sources = _end_sources(unit, scales.filters, depth)  # [c of the source, ends, 1, 2 c]
    parts = []
    for level, source, windows in zip(scales.levels, sources, rows, strict=True):
        answer = level.blocks(scales.axis, windows, dtype)  # [blocks, ends, p, 2 c, rows, q, 2 c]
        parts.append(jnp.einsum("sed,tepdrqo->tepsrqo", source[:, :, 0], answer))
    return parts
