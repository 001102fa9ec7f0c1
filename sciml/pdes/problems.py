"""The problems by name, each with its boundary condition and the numbers that a config sets."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
from jaxtyping import Array, Float, PRNGKeyArray

from common.errors import nearest
from sciml.numbers import Numbers, floating
from sciml.pdes.benchmarks import BENCHMARKS, PdeSpec
from sciml.pdes.burgers import front_velocity, step_velocity
from sciml.pdes.burgers_periodic import sample_burgers_periodic, solve_burgers_periodic
from sciml.pdes.cavity import solve_cavity
from sciml.pdes.heat import Heated, solve_heat, solve_heat_flux
from sciml.pdes.solution import Solution, dirichlet_solution
from sciml.pdes.stokes import stokes_velocity
from sciml.pdes.wave import solve_wave

Kind = Literal["dirichlet", "neumann", "periodic"]
# (key, batch size, spec) -> parameters, an array [batch] or a NamedTuple of arrays [batch, ...].
Sample = Callable[[PRNGKeyArray, int, PdeSpec], Any]
# (parameters, points, times, spec) -> solution; jit it with static points and spec.
Solve = Callable[[Any, int, Float[Array, " time"], PdeSpec], Solution]


class Problem(NamedTuple):
    """One problem.

    Attributes:
        kind: Its boundary condition, on every side.
        space_axes: 1 or 2.
        default: Numbers of the benchmark of BOON, as far as they are known.
        sample: Draws parameters.
        solve: Their solutions.
    """

    kind: Kind
    space_axes: int
    default: PdeSpec
    sample: Sample
    solve: Solve


def check_spec(spec: PdeSpec) -> None:
    """Checks the numbers of a problem.

    Raises:
        ValueError: Naming the field, its value and what is allowed.
    """
    if spec.name not in PROBLEMS:
        raise ValueError(
            f"config.data.name={spec.name!r} is unknown{nearest(spec.name, PROBLEMS)}; "
            f"allowed: {', '.join(PROBLEMS)}"
        )
    default = PROBLEMS[spec.name].default
    for field, value in spec._asdict().items():
        if field == "name":
            continue
        if not getattr(default, field):
            if value:
                raise ValueError(f"config.data.{field}={value}: {spec.name} has none, expected 0")
        elif not 0 < value < math.inf:
            raise ValueError(f"config.data.{field}={value}: expected more than 0, and finite")
    if spec.low > spec.high:
        raise ValueError(f"config.data.low={spec.low}: expected at most high={spec.high}")
    if default.resolution and spec.resolution < 4:
        raise ValueError(f"config.data.resolution={spec.resolution}: expected at least 4")


def _uniform(key: PRNGKeyArray, num: int, spec: PdeSpec) -> Float[Array, " batch"]:
    return jax.random.uniform(key, (num,), minval=spec.low, maxval=spec.high)


def _problem(
    name: str, kind: Kind, solve: Solve, *, sample: Sample = _uniform, space_axes: int = 1
) -> Problem:
    """Returns a problem whose functions check their spec first."""

    def check(spec: PdeSpec) -> None:
        if spec.name != name:
            raise ValueError(f"config.data.name={spec.name!r}: this problem is {name!r}")
        check_spec(spec)

    def checked_sample(key: PRNGKeyArray, num: int, spec: PdeSpec) -> Any:
        check(spec)
        if num < 1:
            raise ValueError(f"a batch of {num} samples: expected at least 1")
        return sample(key, num, spec)

    def checked_solve(
        params: Any, points: int, times: Float[Array, " time"] | Numbers, spec: PdeSpec
    ) -> Solution:
        check(spec)
        return solve(jax.tree.map(floating, params), points, floating(times), spec)

    return Problem(kind, space_axes, BENCHMARKS[name], checked_sample, checked_solve)


def _stokes(omega: Array, points: int, times: Array, spec: PdeSpec) -> Solution:
    velocity = partial(stokes_velocity, nu=spec.nu, amplitude=spec.amplitude)
    return dirichlet_solution(velocity, omega, points, times)


def _burgers(u_left: Array, points: int, times: Array, spec: PdeSpec) -> Solution:
    return dirichlet_solution(partial(step_velocity, nu=spec.nu), u_left, points, times)


def _burgers_front(u_left: Array, points: int, times: Array, spec: PdeSpec) -> Solution:
    return dirichlet_solution(partial(front_velocity, nu=spec.nu), u_left, points, times)


def _burgers_periodic(params: Any, points: int, times: Array, spec: PdeSpec) -> Solution:
    numbers = {"nu": spec.nu, "resolution": spec.resolution}
    return solve_burgers_periodic(params, points, times, **numbers)


def _random_waves(key: PRNGKeyArray, num: int, spec: PdeSpec) -> Any:
    modes = spec.resolution // 4
    return sample_burgers_periodic(key, num, modes=modes, amplitude=spec.amplitude)


def _heat(omega: Array, points: int, times: Array, spec: PdeSpec) -> Solution:
    return solve_heat(omega, points, times, nu=spec.nu, flux=spec.amplitude)


def _heat_flux(params: Heated, points: int, times: Array, spec: PdeSpec) -> Solution:
    return solve_heat_flux(params, points, times, nu=spec.nu)


def _fluxes(key: PRNGKeyArray, num: int, spec: PdeSpec) -> Heated:
    """Draws fluxes in the range of the spec, and initial data as those of the problem "heat"."""
    key_flux, key_omega = jax.random.split(key)
    return Heated(_uniform(key_flux, num, spec), _uniform(key_omega, num, BENCHMARKS["heat"]))


def _wave(amplitude: Array, points: int, times: Array, spec: PdeSpec) -> Solution:
    return solve_wave(amplitude, points, times, speed=spec.speed)


def _cavity(lid: Array, points: int, times: Array, spec: PdeSpec) -> Solution:
    numbers = {"nu": spec.nu, "max_speed": spec.high}
    return solve_cavity(lid, points, times, solver_points=spec.resolution, **numbers)


PROBLEMS: dict[str, Problem] = {
    "stokes": _problem("stokes", "dirichlet", _stokes),
    "burgers": _problem("burgers", "dirichlet", _burgers),
    "burgers_front": _problem("burgers_front", "dirichlet", _burgers_front),
    "burgers_periodic": _problem(
        "burgers_periodic", "periodic", _burgers_periodic, sample=_random_waves
    ),
    "heat": _problem("heat", "neumann", _heat),
    "heat_flux": _problem("heat_flux", "neumann", _heat_flux, sample=_fluxes),
    "wave": _problem("wave", "neumann", _wave, space_axes=2),
    "cavity": _problem("cavity", "dirichlet", _cavity, space_axes=2),
}
