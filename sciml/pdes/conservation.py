"""Conservation laws u_t + F(u)_x = 0 with exact solutions and exact masses, by name.

What a law conserves is known from its boundary fluxes: the mass of the domain obeys
b(t) = U(0) + ∫_0^t (F_in - F_out) ds. All functions are pure, compiled, and in the precision of
their inputs (integers: the default one); every one of n functions has its own parameter and its own
p points (t, x), paired.
"""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from sciml.numbers import Numbers, floating
from sciml.pdes import porous_medium, shocks, stefan
from sciml.pdes.jets import Scalar

Batched = Callable[..., Float[Array, "n p"]]


class ConservationLaw(NamedTuple):
    """One family of problems; `param` [n], `t` and `x` [n, p], results [n, p].

    Attributes:
        parameter: Name of the parameter.
        valid: Open interval of parameters for which the formulas hold.
        domain: Lowest and highest x.
        final_time: Times go from 0 to here; the formulas hold later too.
        report_time: When the paper compares.
        solution: (param, t, x) -> u; a point on a front (to its last digits) belongs to its left.
        flux: (param, t, x) -> F. Infinite for "stefan" at x = t = 0.
        flux_in: (param, t) -> F at the low end.
        flux_out: (param, t) -> F at the high end.
        window_mass: (param, t, x) -> ∫_low^x u ds.
        mass: (param, t) -> b(t), the window that is the domain.
        front: (param, t) -> lowest x beyond which u = 0, maybe outside the domain; or None.
        bounds: Lowest and highest value that a solution of any parameter can have at any time, by
            the maximum principle; None: nothing is said.
        residual: (fn, param, t, x) -> what the PDE leaves of a differentiable u = fn(t, x), all
            scalars: to be `vmap`ed, and differentiable in what `fn` closes over.
    """

    parameter: str
    valid: tuple[float, float]
    domain: tuple[float, float]
    final_time: float
    report_time: float
    solution: Batched
    flux: Batched
    flux_in: Batched
    flux_out: Batched
    window_mass: Batched
    mass: Batched
    front: Batched | None
    residual: Callable[..., Scalar]
    bounds: tuple[float, float] | None = None


def _batched(point: Callable[..., Array]) -> Batched:
    """Returns the compiled form of a function of scalars over n functions of p points each."""

    @jax.jit
    @functools.wraps(point)
    def batched(
        param: Float[Array, " n"] | Numbers, *points: Float[Array, "n p"] | Numbers
    ) -> Float[Array, "n p"]:
        # The inner map leaves the parameter alone: what depends on it only is computed n times.
        over_points = jax.vmap(point, (None,) + (0,) * len(points))
        return jax.vmap(over_points)(floating(param), *map(floating, points))

    return batched


def _at(point: Callable[..., Array], x: float) -> Callable[[Array, Array], Array]:
    """Returns the function of (param, t) that `point` is at a fixed place."""
    return lambda param, t: point(param, t, jnp.full_like(t, x))


def _law(
    solution: Callable[..., Array],
    flux: Callable[..., Array],
    window_mass: Callable[..., Array],
    residual: Callable[..., Array],
    front: Callable[..., Array] | None = None,
    *,
    parameter: str,
    domain: tuple[float, float] = (0.0, 1.0),
    valid: tuple[float, float] = (0.0, math.inf),
    final_time: float = 1.0,
    report_time: float = 0.5,
    bounds: tuple[float, float] | None = None,
) -> ConservationLaw:
    """Returns the law of functions of scalars."""
    low, high = domain
    return ConservationLaw(
        parameter=parameter,
        valid=valid,
        domain=domain,
        final_time=final_time,
        report_time=report_time,
        solution=_batched(solution),
        flux=_batched(flux),
        flux_in=_batched(_at(flux, low)),
        flux_out=_batched(_at(flux, high)),
        window_mass=_batched(window_mass),
        mass=_batched(_at(window_mass, high)),
        front=None if front is None else _batched(front),
        residual=residual,
        bounds=bounds,
    )


# Numbers: configuration files of the released code of ProbConserv (Hansen et al. 2023).
LAWS: dict[str, ConservationLaw] = {
    "diffusion": _law(
        porous_medium.diffusion,
        porous_medium.diffusion_flux,
        porous_medium.diffusion_window,
        porous_medium.diffusion_residual,
        parameter="k",
        domain=(0.0, 2 * math.pi),
    ),
    "pme": _law(
        porous_medium.porous_medium,
        porous_medium.porous_medium_flux,
        porous_medium.porous_medium_window,
        porous_medium.porous_medium_residual,
        porous_medium.porous_medium_front,
        parameter="m",
        bounds=(0.0, math.inf),  # a density; its highest value differs from m to m
    ),
    "stefan": _law(
        stefan.stefan,
        stefan.stefan_flux,
        stefan.stefan_window,
        stefan.stefan_residual,
        stefan.stefan_front,
        parameter="u*",
        valid=(0.0, 1.0),
        final_time=0.1,
        report_time=0.05,
        bounds=(0.0, 1.0),
    ),
    "advection": _law(
        shocks.advection,
        shocks.advection_flux,
        shocks.advection_window,
        shocks.advection_residual,
        shocks.advection_front,
        parameter="a",
        report_time=0.1,
        bounds=(0.0, 1.0),
    ),
    "burgers_shock": _law(
        shocks.burgers_shock,
        shocks.burgers_flux,
        shocks.burgers_window,
        shocks.burgers_residual,
        shocks.burgers_front,
        parameter="a",
        domain=(-1.0, 1.0),
    ),
}


def check_law(name: str, param: float | tuple[float, ...] | Float[Array, "*n"]) -> ConservationLaw:
    """Returns the law of that name, if its formulas hold for all of the (concrete) parameters.

    Raises:
        ValueError: If there is no such law, or a parameter is outside of the valid interval.
    """
    if name not in LAWS:
        raise ValueError(f"law {name!r}: expected one of {', '.join(LAWS)}")
    law = LAWS[name]
    low, high = law.valid
    values = np.asarray(param, np.float64).ravel()
    bad = values[~((low < values) & (values < high))]  # NaN is bad too
    if bad.size:
        raise ValueError(
            f"{law.parameter}={bad[0]:g} of the law {name!r}: expected {low:g} < {law.parameter} "
            f"< {high:g}"
        )
    return law
