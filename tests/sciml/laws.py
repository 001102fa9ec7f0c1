"""The conservation laws as tests read them: values, slopes, residuals, one program for each law."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sciml.pdes.conservation import LAWS

SIZE = 256  # points of every call: shorter lists are padded, so that a law compiles once
FIELDS = ("solution", "flux", "window_mass", "front", "mass", "flux_in", "flux_out")
BY_TIME = ("front", "mass", "flux_in", "flux_out")  # functions of the time alone
Slopes = tuple[np.ndarray, np.ndarray, np.ndarray]


def point_function(name: str, field: str) -> Callable[..., jax.Array]:
    """Returns a batched function of a law as a function of the scalars param, t and x."""
    batched = getattr(LAWS[name], field)

    def point(param: jax.Array, t: jax.Array, x: jax.Array) -> jax.Array:
        points = (t,) if field in BY_TIME else (t, x)
        return batched(param[None], *(p[None, None] for p in points))[0, 0]

    return point


@functools.cache
def compiled(name: str) -> Callable[..., dict[str, tuple[jax.Array, tuple[jax.Array, ...]]]]:
    """Returns (param, t [SIZE], x [SIZE]) -> field -> its values and slopes by param, t and x."""
    fields = [field for field in FIELDS if getattr(LAWS[name], field) is not None]

    def at(param: jax.Array, t: jax.Array, x: jax.Array) -> Any:
        return {
            field: jax.value_and_grad(point_function(name, field), (0, 1, 2))(param, t, x)
            for field in fields
        }

    return jax.jit(jax.vmap(at, (None, 0, 0)))


def values_and_slopes(
    name: str, field: str, param: float, *points: np.ndarray, dtype: type = np.float64
) -> tuple[np.ndarray, Slopes]:
    """Returns one function of a law at paired points [p], and its slopes by param, t and x."""
    t, x = points if len(points) == 2 else (*points, np.asarray(LAWS[name].domain[0]))
    t, x = np.broadcast_arrays(np.atleast_1d(t), np.atleast_1d(x))
    padded = (np.append(p, np.full(SIZE - p.size, 0.5)).astype(dtype) for p in (t, x))
    found = compiled(name)(jnp.asarray(param, dtype), *(jnp.asarray(p) for p in padded))[field]
    return jax.tree.map(lambda a: np.asarray(a)[: t.size], found)


def value(name: str, field: str, param: float, *points: float | np.ndarray) -> np.ndarray:
    """Returns one function of a law for one parameter at paired points [p]."""
    return values_and_slopes(name, field, param, *(np.asarray(p, float) for p in points))[0]


@functools.cache
def residuals(name: str) -> Callable[..., jax.Array]:
    """Returns (share, size, constant, param, t [SIZE], x [SIZE]) -> residuals of a field.

    The field is that share of the solution, a wave of that size, and the constant.
    """
    u = point_function(name, "solution")

    def residual(
        share: jax.Array, size: jax.Array, constant: jax.Array, p: jax.Array, t: Any, x: Any
    ) -> jax.Array:
        def field(t: jax.Array, x: jax.Array) -> jax.Array:
            return share * u(p, t, x) + size * jnp.sin(2 * x + 3 * t) + constant

        return LAWS[name].residual(field, p, t, x)

    return jax.jit(jax.vmap(residual, (None, None, None, None, 0, 0)))


def residual_of(
    name: str, shares: tuple[float, float, float], param: float, t: np.ndarray, x: np.ndarray
) -> np.ndarray:
    """Returns `residuals` at paired points [p]."""
    padded = (np.append(p, np.full(SIZE - p.size, 0.5)) for p in (t, x))
    numbers = (jnp.asarray(number, float) for number in (*shares, param))
    return np.asarray(residuals(name)(*numbers, *(jnp.asarray(p) for p in padded)))[: t.size]


def kinks(name: str, param: float, t: np.ndarray) -> list[np.ndarray]:
    """Returns the places where the solution is not smooth, at every time."""
    if name == "diffusion":
        return []
    front = value(name, "front", param, t)
    return [param * t - 1, front] if name == "burgers_shock" else [front]


def smooth_points(name: str, param: float) -> tuple[np.ndarray, np.ndarray]:
    """Returns random points t, x of the domain, none of them near a kink."""
    law = LAWS[name]
    random = np.random.default_rng(0)
    t = random.uniform(0.1, 1, 200) * law.final_time
    x = random.uniform(*law.domain, 200)
    far = np.ones(200, bool)
    for kink in kinks(name, param, t):
        far &= np.abs(x - kink) > 0.01
    return t[far][:100], x[far][:100]


def times(name: str) -> np.ndarray:
    return np.array([0.05, 0.31, 0.52, 0.77, 0.98]) * LAWS[name].final_time


def integrals(name: str, param: float, t: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Returns the integrals of the solution from the low end to `high` [p], piece by piece."""
    low = LAWS[name].domain[0]
    ends = [np.full(t.size, low), *kinks(name, param, t), high]
    ends = np.sort(np.clip(np.stack(ends), low, high), axis=0)
    left, width = ends[:-1, :, None], np.diff(ends, axis=0)[..., None]
    # s = right - width r^8 takes the root singularity of the PME at a front away.
    nodes, weights = np.polynomial.legendre.leggauss(60)
    r = (nodes + 1) / 2
    x = left + width * (1 - r**8)  # [pieces, p, nodes]
    times = np.broadcast_to(t[None, :, None], x.shape)
    arrays = (jnp.asarray(a.reshape(1, -1)) for a in (times, x))
    u = np.asarray(LAWS[name].solution(jnp.asarray([param]), *arrays)).reshape(x.shape)
    return np.sum(width * weights / 2 * 8 * r**7 * u, axis=(0, 2))
