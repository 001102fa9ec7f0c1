"""Convolutions with learned Fourier multipliers, in any number of dimensions (Li et al. 2021)."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from sciml import dft
from sciml.initialization import Uniform
from sciml.kernels import LinearKernel


class SpectralParams(NamedTuple):
    """Learned Fourier multipliers, real and imaginary part.

    Axes: the kept frequencies of every grid axis, c_in, c_out. The first grid axis keeps
    0 .. M-1, every other one 0 .. m-1, -m .. -1 (as the FNO does). Complex leaves would give
    conjugate gradients, so they are two real ones.
    """

    re: Float[Array, "*modes c_in c_out"]
    im: Float[Array, "*modes c_in c_out"]


def spectral_laws(*, modes: tuple[int, ...], c_in: int, c_out: int) -> SpectralParams:
    """Returns the laws of fresh multipliers, U[0, 1) / (c_in c_out) for both parts.

    Source: released code of the FNO and of BOON. `sciml.initialization.draw` draws them.

    Args:
        modes: Of the first grid axis M, of the others m.
        c_in: Channels of the input.
        c_out: Channels of the output.
    """
    shape = (modes[0], *(2 * m for m in modes[1:]), c_in, c_out)
    law = Uniform(shape, 0.0, 1 / (c_in * c_out))
    return SpectralParams(law, law)  # pyrefly: ignore[bad-argument-type]  # laws in place of arrays


def spectral_kernel(params: SpectralParams, grid: tuple[int, ...]) -> LinearKernel:
    """Returns the convolution as a LinearKernel of fields [*grid, batch, c].

    Args:
        params: Multipliers.
        grid: Points of every grid axis, spaced uniformly; they are taken as one period.

    Raises:
        ValueError: If a grid axis cannot represent its modes.
    """
    for axis, (points, count) in enumerate(zip(grid, mode_sizes(params), strict=True)):
        check_modes(points, count, is_half=axis == 0)
    return weighted_kernel(symmetric_weights(params), grid)


def weighted_kernel(
    weights: Float[Array, "2 *modes c_in c_out"], grid: tuple[int, ...]
) -> LinearKernel:
    """Returns the convolution with the multipliers of `symmetric_weights`."""
    first, *others = weights.shape[1:-2]
    sizes = (first, *((count - 1) // 2 for count in others))
    matrix = _real_matrix(weights)

    def mix(modes: Float[Array, "*modes 2 batch c"]) -> Float[Array, "*modes 2 batch d"]:
        x = jnp.moveaxis(modes, -3, -2)  # [*modes, batch, 2, c]
        flat = x.reshape(*x.shape[:-2], 2 * x.shape[-1])
        y = jnp.einsum("...bi,...io->...bo", flat, matrix)
        y = y.reshape(*x.shape[:-1], matrix.shape[-1] // 2)
        return jnp.moveaxis(y, -2, -3)

    def analyse(field: Array) -> Array:
        return mix(dft.forward(field, sizes))

    def face(field: Array, axis: int) -> Array:
        return _face_modes(field, sizes[:axis] + sizes[axis + 1 :], is_half=axis > 0)

    def impulse(delta: Array, axis: int) -> Array:
        return mix(_source_modes(delta, axis, sizes, grid))

    return LinearKernel(
        analyse=analyse,
        evaluate=lambda modes: dft.inverse(modes, grid),
        face=face,
        read=lambda modes, axis, functionals: _read(modes, axis, functionals, grid),
        impulse=impulse,
        blocks=lambda axis, functionals, dtype: _blocks(
            weights.astype(dtype), axis, functionals, grid
        ),
    )


def mode_sizes(params: SpectralParams) -> tuple[int, ...]:
    """Returns M of the first grid axis and m of the others."""
    first, *others = params.re.shape[:-2]
    return (first, *(count // 2 for count in others))


def check_modes(points: int, modes: int, *, is_half: bool) -> None:
    """Checks that a grid can tell the frequencies apart.

    Raises:
        ValueError: If it cannot.
    """
    # The frequency points / 2 of an even grid is its own negative; an odd grid has none such.
    most = (points + 1) // 2 if is_half else (points - 1) // 2
    if not 1 <= modes <= most:
        raise ValueError(
            f"{modes} Fourier modes on a grid axis of {points} points, expected 1 to {most}; "
            "change config.model.modes or refine the grid"
        )


def symmetric_weights(params: SpectralParams) -> Float[Array, "2 *all_modes c_in c_out"]:
    """Returns the same operator with multipliers at 0 .. m, -m .. -1 on all axes but the first.

    The inverse of the half spectrum keeps the real part of what the modes with first frequency 0
    give; here that is written into the multipliers (their Hermitian part), so that everything else
    is complex algebra without exceptions.
    """
    weights = jnp.stack(params)  # [2, M, 2 m, ..., c_in, c_out]
    for axis in range(2, weights.ndim - 2):
        m = weights.shape[axis] // 2
        low, high = jnp.split(weights, 2, axis)
        gap = jnp.zeros_like(jax.lax.slice_in_dim(low, 0, 1, axis=axis))
        weights = jnp.concatenate([low, gap, high], axis)
        assert weights.shape[axis] == 2 * m + 1
    sign = jnp.asarray([1, -1], weights.dtype).reshape(2, *(1,) * (weights.ndim - 2))
    first = weights[:, 0]
    hermitian = (first + sign * negate(first, range(1, first.ndim - 2))) / 2
    return weights.at[:, 0].set(hermitian)


def negate(array: Array, axes: range) -> Array:
    """Returns the array at the negative frequencies of axes in the order 0 .. m, -m .. -1."""
    for axis in axes:
        array = jnp.roll(jnp.flip(array, axis), 1, axis)
    return array


def _real_matrix(weights: Float[Array, "2 *modes c_in c_out"]) -> Array:
    """Returns the multipliers as real matrices [*modes, 2 c_in, 2 c_out] acting on (re, im)."""
    re, im = weights
    top = jnp.concatenate([re, im], axis=-1)
    return jnp.concatenate([top, jnp.concatenate([-im, re], axis=-1)], axis=-2)


def _face_modes(face: Array, sizes: tuple[int, ...], *, is_half: bool) -> Array:
    """Returns [blocks, batch, ends, parts, c] of a face [ends, *other axes, batch, c]."""
    if not sizes:
        return jnp.moveaxis(face, 0, 1)[None, :, :, None]
    field = jnp.moveaxis(face, 0, -2)  # [*other axes, batch, ends, c]
    batch, ends, c = field.shape[-3:]
    field = field.reshape(*field.shape[:-3], batch * ends, c)
    # If the axis of the half spectrum is the one that ends, keep both signs on all others.
    modes = dft.forward(field, sizes) if is_half else dft.forward(field[None], (1, *sizes))[0]
    modes = modes.reshape(math.prod(modes.shape[:-3]), 2, batch, ends, c)
    return jnp.transpose(modes, (0, 2, 3, 1, 4))


def _source_modes(
    delta: Float[Array, "blocks batch ends parts c"],
    axis: int,
    sizes: tuple[int, ...],
    grid: tuple[int, ...],
) -> Float[Array, "*modes 2 batch c"]:
    """Returns the modes of a source with these coefficients at the two ends of an axis."""
    points = grid[axis]
    wave = _end_waves(points, sizes[axis], axis, delta.dtype)  # cos, sin [2, k, ends]
    cos, sin = wave
    if len(grid) == 1:
        parts = jnp.stack([cos, -sin], axis=1)  # [M, 2, ends]
        return jnp.einsum("kpe,bec->kpbc", parts, delta[0, :, :, 0])
    re, im = delta[..., 0, :], delta[..., 1, :]  # e^{-iθ} δ = (cos - i sin)(re + i im)
    source_re = jnp.einsum("ke,tbec->tkbc", cos, re) + jnp.einsum("ke,tbec->tkbc", sin, im)
    source_im = jnp.einsum("ke,tbec->tkbc", cos, im) - jnp.einsum("ke,tbec->tkbc", sin, re)
    source = jnp.stack([source_re, source_im], axis=2)  # [blocks, k, 2, batch, c]
    others = _other_modes(sizes, axis)
    source = source.reshape(*others, *source.shape[1:])
    return jnp.moveaxis(source, len(others), axis)


def _read(
    modes: Float[Array, "*modes 2 batch c"],
    axis: int,
    functionals: np.ndarray,
    grid: tuple[int, ...],
) -> Float[Array, "blocks batch ends parts c"]:
    """Returns functionals of the field with these modes, as coefficients of a face."""
    if len(grid) == 1:
        cos, sin = _functional_waves(functionals, 0, modes.shape[0], modes.dtype)
        rows = jnp.stack([cos, -sin], axis=-1).reshape(cos.shape[0], -1)
        face = rows @ modes.reshape(rows.shape[1], -1)
        face = face.reshape(rows.shape[0], *modes.shape[2:])
        return jnp.moveaxis(face, 0, 1)[None, :, :, None]
    cos, sin = _functional_waves(functionals, axis, modes.shape[axis], modes.dtype)
    along = jnp.moveaxis(modes, axis, -4)  # [*others, k, 2, batch, c]
    along = along.reshape(math.prod(along.shape[:-4]), *along.shape[-4:])
    re, im = along[:, :, 0], along[:, :, 1]
    face_re = jnp.einsum("ek,tkbc->tbec", cos, re) - jnp.einsum("ek,tkbc->tbec", sin, im)
    face_im = jnp.einsum("ek,tkbc->tbec", cos, im) + jnp.einsum("ek,tkbc->tbec", sin, re)
    face = jnp.stack([face_re, face_im], axis=3)
    if axis > 0:
        return face
    # Half spectrum: the negative frequencies are the conjugates at the negative other ones.
    return (face + _conjugate(face, _other_modes_of(modes, axis))) / 2


def _blocks(
    weights: Float[Array, "2 *modes c_in c_out"],
    axis: int,
    functionals: np.ndarray,
    grid: tuple[int, ...],
) -> Array:
    """Returns [blocks, ends, parts, c_in, ends, parts, c_out] of the boundary rows and columns."""
    count = weights.shape[1 + axis]
    cos_in, sin_in = _end_waves(grid[axis], _size_of(count, axis), axis, weights.dtype)
    cos_out, sin_out = _functional_waves(functionals, axis, count, weights.dtype)
    # e^{iθ_n} e^{-iφ_j}, summed over k with the multipliers
    re = jnp.einsum("nk,kj->jnk", cos_out, cos_in) + jnp.einsum("nk,kj->jnk", sin_out, sin_in)
    im = jnp.einsum("nk,kj->jnk", sin_out, cos_in) - jnp.einsum("nk,kj->jnk", cos_out, sin_in)
    along = jnp.moveaxis(weights, 1 + axis, -3)
    w_re, w_im = along.reshape(2, -1, *along.shape[-3:])  # [blocks, k, c_in, c_out]
    a_re = jnp.einsum("jnk,tkio->tjino", re, w_re) - jnp.einsum("jnk,tkio->tjino", im, w_im)
    if len(grid) == 1:
        return a_re[:, :, None, :, :, None, :]
    a_im = jnp.einsum("jnk,tkio->tjino", re, w_im) + jnp.einsum("jnk,tkio->tjino", im, w_re)
    if axis == 0:
        others = weights.shape[2:-2]

        def negative(part: Array) -> Array:
            shaped = part.reshape(*others, *part.shape[1:])
            return negate(shaped, range(len(others))).reshape(part.shape)

        a_re, a_im = (a_re + negative(a_re)) / 2, (a_im - negative(a_im)) / 2
    real_row = jnp.stack([a_re, a_im], axis=4)  # [t, j, i, n, parts_out, o]
    imag_row = jnp.stack([-a_im, a_re], axis=4)
    return jnp.stack([real_row, imag_row], axis=2)


def _end_waves(points: int, size: int, axis: int, dtype: Any) -> Float[Array, "2 k 2"]:
    """Returns cos and sin of 2πkx/points at the first and the last point."""
    k = jnp.arange(size) if axis == 0 else dft.frequencies(size)
    turns = (k[:, None] * jnp.asarray([0, points - 1])[None, :]) % points
    angle = (2 * math.pi / points) * turns.astype(dtype)
    return jnp.stack([jnp.cos(angle), jnp.sin(angle)])


def _functional_waves(
    functionals: np.ndarray, axis: int, count: int, dtype: Any
) -> Float[Array, "2 ends k"]:
    """Returns functionals of the inverse transform along an axis: of cos and sin parts."""
    points = functionals.shape[1]
    used = np.flatnonzero(np.any(functionals != 0, axis=0))
    if axis == 0:
        rows = dft.half_inverse(points, count, dtype)  # [M, 2, points]: cos, -sin
        cos, sin = rows[:, 0], -rows[:, 1]
    else:
        cos, sin = dft.full_wave(points, (count - 1) // 2, dtype) / points
    weights = jnp.asarray(functionals[:, used], dtype)
    return jnp.stack([weights @ wave[:, used].T for wave in (cos, sin)])


def _size_of(count: int, axis: int) -> int:
    return count if axis == 0 else (count - 1) // 2


def _other_modes(sizes: tuple[int, ...], axis: int) -> tuple[int, ...]:
    counts = (sizes[0], *(2 * m + 1 for m in sizes[1:]))
    return counts[:axis] + counts[axis + 1 :]


def _other_modes_of(modes: Array, axis: int) -> tuple[int, ...]:
    counts = modes.shape[:-3]
    return counts[:axis] + counts[axis + 1 :]


def _conjugate(face: Array, others: tuple[int, ...]) -> Array:
    """Returns the conjugate of face coefficients at the negative frequencies."""
    shaped = face.reshape(*others, *face.shape[1:])
    flipped = negate(shaped, range(len(others))).reshape(face.shape)
    return jnp.stack([flipped[..., 0, :], -flipped[..., 1, :]], axis=-2)
