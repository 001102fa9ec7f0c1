"""Truncated discrete Fourier transforms of real fields as real matrix products.

Fields are [*grid, batch, channel]; the first grid axis is the one of the half spectrum. Only the
kept modes are ever computed: two dense products on a CPU and on the matrix unit of a TPU, without
complex numbers (tests/benchmarks/sciml_vs_torch.py compares with the FFT).

Modes are a real array [*modes, 2, batch, channel] of real and imaginary parts: the first axis
holds k = 0 .. M-1, every other one 2 m + 1 frequencies in the order 0 .. m, -m .. -1.
"""

import math
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from sciml.numbers import Numbers, floating


class Complex(NamedTuple):
    """Complex numbers as two real arrays of one shape."""

    re: Float[Array, "*shape"]
    im: Float[Array, "*shape"]


def conjugate(a: Complex) -> Complex:
    """Returns re - i im."""
    return Complex(a.re, -a.im)


def product(subscripts: str, a: Complex, b: Complex) -> Complex:
    """Returns the sum of products of complex numbers that `subscripts` name, as of einsum."""
    re = jnp.einsum(subscripts, a.re, b.re) - jnp.einsum(subscripts, a.im, b.im)
    im = jnp.einsum(subscripts, a.re, b.im) + jnp.einsum(subscripts, a.im, b.re)
    return Complex(re, im)


def wave(k: Int[Array, " k"], x: Int[Array, " x"], points: int, dtype: Any) -> Complex:
    """Returns e^{2πikx/points} [k, x]; k x is reduced as an integer: float32 keeps its digits."""
    turns = (k[:, None] * x[None, :]) % points
    angle = (2 * math.pi / points) * turns.astype(dtype)
    return Complex(jnp.cos(angle), jnp.sin(angle))


def half_forward(points: int, modes: int, dtype: Any) -> Float[Array, "modes 2 points"]:
    """Returns the rows cos and -sin of k = 0 .. modes-1: real field -> Σ u_x e^{-2πikx/points}."""
    rows = wave(jnp.arange(modes), jnp.arange(points), points, dtype)
    return jnp.stack(conjugate(rows), axis=1)


def half_inverse(points: int, modes: int, dtype: Any) -> Float[Array, "modes 2 points"]:
    """Returns what modes k = 0 .. modes-1 contribute to every point: the inverse of a real DFT.

    The frequencies above 0 stand for their negatives too, so they count twice.
    """
    twice = jnp.where(jnp.arange(modes) == 0, 1.0, 2.0).astype(dtype) / points
    return half_forward(points, modes, dtype) * twice[:, None, None]


def frequencies(m: int) -> Int[Array, " k"]:
    """Returns 0 .. m, -m .. -1."""
    return jnp.concatenate([jnp.arange(m + 1), jnp.arange(-m, 0)])


def full_wave(points: int, m: int, dtype: Any) -> Complex:
    """Returns e^{2πikx/points} [k, x] for the frequencies 0 .. m, -m .. -1 at all points."""
    return wave(frequencies(m), jnp.arange(points), points, dtype)


def forward(
    field: Float[Array, "*grid batch c"] | Numbers, modes: tuple[int, ...]
) -> Float[Array, "*modes 2 batch c"]:
    """Returns the kept modes of a real field.

    Args:
        field: Values on a uniform grid of one axis for each entry of `modes`.
        modes: Of the first axis the number M of frequencies 0 .. M-1, of the others the largest m.
    """
    field = floating(field)
    dtype = field.dtype
    rows = half_forward(field.shape[0], modes[0], dtype)
    out = jnp.tensordot(rows, field, axes=1)  # [M, 2, *other grid axes, batch, c]
    for axis, m in enumerate(modes[1:]):
        points = field.shape[1 + axis]
        cos, sin = full_wave(points, m, dtype)
        trig = jnp.concatenate([cos[: m + 1], sin[1 : m + 1]])  # [2 m + 1, points]
        # The grid axis in work is always the third: the modes made so far stand before the parts.
        flat = out.reshape(*_lead(out, 1 + axis), 2, points, *_rest(out, 3 + axis))
        real = _along(trig, flat)
        out = _to_complex(real, m).reshape(
            *out.shape[: 1 + axis], 2 * m + 1, 2, *out.shape[3 + axis :]
        )
    return out


def inverse(
    modes: Float[Array, "*modes 2 batch c"], grid: tuple[int, ...]
) -> Float[Array, "*grid batch c"]:
    """Returns the real field with these modes, the others zero."""
    dtype, out = modes.dtype, modes
    for axis in range(len(grid) - 1, 0, -1):
        points, m = grid[axis], (modes.shape[axis] - 1) // 2
        cos, sin = full_wave(points, m, dtype)
        trig = jnp.concatenate([cos[: m + 1], sin[1 : m + 1]]) / points
        flat = out.reshape(*_lead(out, axis), 2 * m + 1, 2, *_rest(out, axis + 2))
        real = _along(trig.T, _to_trig(flat, m))
        out = real.reshape(*out.shape[:axis], 2, points, *out.shape[axis + 2 :])
    rows = half_inverse(grid[0], modes.shape[0], dtype)
    return jnp.tensordot(rows, out, axes=((0, 1), (0, 1)))


def _along(
    matrix: Float[Array, "k x"], field: Float[Array, "l p x *rest"]
) -> Float[Array, "l p k *rest"]:
    """Multiplies along the third axis."""
    if field.ndim > 4:
        return jnp.einsum("kx,lpx...->lpk...", matrix, field)
    # In place of a contraction that would transpose the field on a CPU.
    return jnp.matmul(jnp.broadcast_to(matrix, (*field.shape[:2], *matrix.shape)), field)


def _to_complex(real: Float[Array, "l 2 k *rest"], m: int) -> Float[Array, "l k 2 *rest"]:
    """Combines cosine and sine sums of a complex field into Σ a e^{-ikx} for both signs of k."""
    re_cos, im_cos = real[:, 0, : m + 1], real[:, 1, : m + 1]
    re_sin, im_sin = (_pad_zero(real[:, part, m + 1 :]) for part in (0, 1))
    plus = jnp.stack([re_cos + im_sin, im_cos - re_sin], axis=2)  # k = 0 .. m
    minus = jnp.stack([re_cos - im_sin, im_cos + re_sin], axis=2)
    return jnp.concatenate([plus, minus[:, :0:-1]], axis=1)


def _to_trig(modes: Float[Array, "l k 2 *rest"], m: int) -> Float[Array, "l 2 k *rest"]:
    """Returns coefficients of cos (k = 0 .. m) and sin (k = 1 .. m) of Σ g e^{ikx}."""
    plus, minus = modes[:, 1 : m + 1], modes[:, :m:-1]  # k = 1 .. m and -1 .. -m
    cos = plus + minus
    difference = plus - minus
    sin = jnp.stack([-difference[:, :, 1], difference[:, :, 0]], axis=2)
    return jnp.swapaxes(jnp.concatenate([modes[:, :1], cos, sin], axis=1), 1, 2)


def _pad_zero(sin: Float[Array, "l m *rest"]) -> Float[Array, "l k *rest"]:
    return jnp.pad(sin, ((0, 0), (1, 0), *((0, 0),) * (sin.ndim - 2)))  # sin(0 x)


def _lead(out: Array, axes: int) -> tuple[int]:
    return (math.prod(out.shape[:axes]),)


def _rest(out: Array, first: int) -> tuple[int, ...]:
    """Returns the sides behind an axis: other grid axes as one, batch and channels as one.

    Merged with a grid axis before it, a batch that is split over devices would be gathered.
    """
    *grid, batch, c = out.shape[first:]
    return (math.prod(grid), batch * c) if grid else (batch * c,)
