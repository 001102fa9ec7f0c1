"""Convolutions with learned Fourier multipliers, in any number of dimensions (Li et al. 2021).

Letters in einsum: t frequency along the other axes (a block of the boundary), k along the axis that
ends, e end of that axis that is read, s end where a source is, b batch, c channel, i and o channels
in and out, p real and imaginary part.
"""

import math
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from sciml import dft
from sciml.dft import Complex, conjugate, product
from sciml.initialization import Uniform
from sciml.kernels import LinearKernel

T = TypeVar("T")


class SpectralParams(NamedTuple):
    """Learned Fourier multipliers, real and imaginary part.

    Axes: the kept frequencies of every grid axis, c_in, c_out. The first grid axis keeps
    0 .. M-1, every other one 0 .. m-1, -m .. -1 (as the FNO does). Complex leaves would give
    conjugate gradients, so they are two real ones.
    """

    re: Float[Array, "*modes c_in c_out"]
    im: Float[Array, "*modes c_in c_out"]


def init_spectral(
    uniform: Uniform, *, modes: tuple[int, ...], c_in: int, c_out: int
) -> SpectralParams:
    """Returns fresh multipliers, U[0, 1) / (c_in c_out) for both parts.

    Source: Li et al. (2021), the released code; that of Saad et al. (2023) has the same.

    Args:
        uniform: Source of numbers, see `sciml.initialization.draw`.
        modes: Of the first grid axis M, of the others m.
        c_in: Channels of the input.
        c_out: Channels of the output.
    """
    shape, high = (modes[0], *(2 * m for m in modes[1:]), c_in, c_out), 1 / (c_in * c_out)
    return SpectralParams(re=uniform(shape, 0.0, high), im=uniform(shape, 0.0, high))


def spectral_kernel(params: SpectralParams, grid: tuple[int, ...]) -> LinearKernel:
    """Returns the convolution as a LinearKernel of fields [*grid, batch, c].

    Source: Li et al. (2021), Eq. 4: the inverse transform of multipliers times the transform.

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
    return LinearKernel(
        analyse=lambda field: _mix(dft.forward(field, sizes), matrix),
        evaluate=lambda modes: dft.inverse(modes, grid),
        face=lambda field, axis: _face_modes(field, _without(sizes, axis), is_half=axis > 0),
        read=_read,
        impulse=lambda delta, axis: _mix(_source_modes(delta, axis, sizes, grid[axis]), matrix),
        blocks=lambda axis, functionals, dtype: _blocks(weights.astype(dtype), axis, functionals),
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
    hermitian = (first + sign * _negate(first, range(1, first.ndim - 2))) / 2
    return weights.at[:, 0].set(hermitian)


def _negate(array: Array, axes: range) -> Array:
    """Returns the array at the negative frequencies of axes in the order 0 .. m, -m .. -1."""
    for axis in axes:
        array = jnp.roll(jnp.flip(array, axis), 1, axis)
    return array


def _real_matrix(weights: Float[Array, "2 *modes c_in c_out"]) -> Array:
    """Returns the multipliers as real matrices [*modes, 2 c_in, 2 c_out] acting on (re, im)."""
    re, im = weights
    top = jnp.concatenate([re, im], axis=-1)
    return jnp.concatenate([top, jnp.concatenate([-im, re], axis=-1)], axis=-2)


def _mix(
    modes: Float[Array, "*modes 2 batch c_in"], matrix: Float[Array, "*modes two_in two_out"]
) -> Float[Array, "*modes 2 batch c_out"]:
    """Multiplies every mode by its matrix of `_real_matrix`."""
    x = jnp.moveaxis(modes, -3, -2)  # [*modes, batch, 2, c_in]
    flat = x.reshape(*x.shape[:-2], 2 * x.shape[-1])
    y = jnp.einsum("...bi,...io->...bo", flat, matrix)
    y = y.reshape(*x.shape[:-1], matrix.shape[-1] // 2)
    return jnp.moveaxis(y, -2, -3)


def _face_modes(
    face: Float[Array, "ends *others batch c"], sizes: tuple[int, ...], *, is_half: bool
) -> Float[Array, "blocks batch ends parts c"]:
    """Returns the coefficients of a face, truncated to the modes along its axes.

    Args:
        face: Values at the ends of an axis.
        sizes: Of the modes along the other axes.
        is_half: Whether the first of these is the axis of the half spectrum. If that is the one
            that ends, both signs are kept on all others.
    """
    if not sizes:
        return jnp.moveaxis(face, 0, 1)[None, :, :, None]
    field = jnp.moveaxis(face, 0, -2)  # [*others, batch, ends, c]
    batch, ends, c = field.shape[-3:]
    field = field.reshape(*field.shape[:-3], batch * ends, c)
    modes = dft.forward(field, sizes) if is_half else dft.forward(field[None], (1, *sizes))[0]
    modes = modes.reshape(math.prod(modes.shape[:-3]), 2, batch, ends, c)
    return jnp.transpose(modes, (0, 2, 3, 1, 4))


def _source_modes(
    delta: Float[Array, "blocks batch ends parts c"],
    axis: int,
    sizes: tuple[int, ...],
    points: int,
) -> Float[Array, "*modes 2 batch c"]:
    """Returns the modes of a source with these coefficients at the two ends of an axis.

    A source δ at the point x has the modes e^{-2πikx/points} δ.
    """
    shift = conjugate(_end_wave(points, sizes[axis], axis, delta.dtype))  # [k, ends]
    if len(sizes) == 1:  # δ is real
        return jnp.einsum("kps,bsc->kpbc", jnp.stack(shift, axis=1), delta[0, :, :, 0])
    source = product("ks,tbsc->tkbc", shift, Complex(delta[..., 0, :], delta[..., 1, :]))
    others = _without((sizes[0], *(2 * m + 1 for m in sizes[1:])), axis)
    modes = jnp.stack(source, axis=2)  # [blocks, k, 2, batch, c]
    return jnp.moveaxis(modes.reshape(*others, *modes.shape[1:]), len(others), axis)


def _read(
    modes: Float[Array, "*modes 2 batch c"], axis: int, functionals: np.ndarray
) -> Float[Array, "blocks batch ends parts c"]:
    """Returns functionals of the field with these modes, as coefficients of a face."""
    counts = modes.shape[:-3]
    wave = _functional_wave(functionals, axis, counts[axis], modes.dtype)  # [ends, k]
    if len(counts) == 1:  # the real part of the product is all there is
        rows = jnp.stack(conjugate(wave), axis=-1).reshape(wave.re.shape[0], -1)
        face = rows @ modes.reshape(rows.shape[1], -1)
        face = face.reshape(rows.shape[0], *modes.shape[2:])
        return jnp.moveaxis(face, 0, 1)[None, :, :, None]
    along = jnp.moveaxis(modes, axis, -4)  # [*others, k, 2, batch, c]
    along = along.reshape(math.prod(along.shape[:-4]), *along.shape[-4:])
    face = product("ek,tkbc->tbec", wave, Complex(along[:, :, 0], along[:, :, 1]))
    if axis == 0:
        face = _hermitian_part(face, _without(counts, axis))
    return jnp.stack(face, axis=3)


def _blocks(
    weights: Float[Array, "2 *modes c_in c_out"], axis: int, functionals: np.ndarray
) -> Float[Array, "blocks ends_in parts_in c_in ends_out parts_out c_out"]:
    """Returns what functionals read of the answers to sources at the two ends of an axis.

    That is Σ_k wave_k e^{-2πikx/points} weight_k, with the wave of a functional and the shift of a
    source at x.
    """
    counts, points = weights.shape[1:-2], functionals.shape[1]
    size = counts[axis] if axis == 0 else (counts[axis] - 1) // 2
    shift = conjugate(_end_wave(points, size, axis, weights.dtype))
    wave = _functional_wave(functionals, axis, counts[axis], weights.dtype)
    along = jnp.moveaxis(weights, 1 + axis, -3)
    along = along.reshape(2, -1, *along.shape[-3:])  # [2, blocks, k, c_in, c_out]
    turned = product("ek,ks->sek", wave, shift)
    answer = product("sek,tkio->tsieo", turned, Complex(*along))
    if len(counts) == 1:
        return answer.re[:, :, None, :, :, None, :]
    if axis == 0:
        answer = _hermitian_part(answer, _without(counts, axis))
    to_real = jnp.stack([answer.re, answer.im], axis=4)  # of a real source: [t, s, i, e, parts, o]
    to_imaginary = jnp.stack([-answer.im, answer.re], axis=4)  # of an imaginary one
    return jnp.stack([to_real, to_imaginary], axis=2)


def _end_wave(points: int, size: int, axis: int, dtype: Any) -> Complex:
    """Returns e^{2πikx/points} [k, ends] at the first and the last point."""
    k = jnp.arange(size) if axis == 0 else dft.frequencies(size)
    return dft.wave(k, jnp.asarray([0, points - 1]), points, dtype)


def _functional_wave(functionals: np.ndarray, axis: int, count: int, dtype: Any) -> Complex:
    """Returns functionals [ends, k] of what the inverse transform makes of every mode."""
    points = functionals.shape[1]
    used = np.flatnonzero(np.any(functionals != 0, axis=0))
    if axis == 0:
        rows = dft.half_inverse(points, count, dtype)  # [M, 2, points]: cos, -sin
        wave = conjugate(Complex(rows[:, 0], rows[:, 1]))
    else:
        wave = dft.full_wave(points, (count - 1) // 2, dtype)
        wave = Complex(wave.re / points, wave.im / points)
    weights = jnp.asarray(functionals[:, used], dtype)
    return Complex(*(weights @ part[:, used].T for part in wave))


def _hermitian_part(values: Complex, others: tuple[int, ...]) -> Complex:
    """Returns the mean of values [blocks, ...] and their conjugates at the negative frequencies.

    The half spectrum has no negative frequencies along its own axis: there the values are those
    conjugates.
    """

    def negative(part: Array) -> Array:
        shaped = part.reshape(*others, *part.shape[1:])
        return _negate(shaped, range(len(others))).reshape(part.shape)

    mirrored = conjugate(Complex(negative(values.re), negative(values.im)))
    return Complex((values.re + mirrored.re) / 2, (values.im + mirrored.im) / 2)


def _without(values: tuple[T, ...], axis: int) -> tuple[T, ...]:
    """Returns what belongs to the other axes."""
    return values[:axis] + values[axis + 1 :]
