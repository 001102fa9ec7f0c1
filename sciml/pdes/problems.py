"""The problems by name, each with its boundary condition and the numbers that a config sets."""

import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
from jaxtyping import Array, Float, PRNGKeyArray

from common.errors import nearest
from sciml.numbers import Numbers, floating
from sciml.pdes.burgers import sample_burgers, solve_burgers, solve_burgers_front
from sciml.pdes.burgers_periodic import sample_burgers_periodic, solve_burgers_periodic
from sciml.pdes.cavity import sample_cavity, solve_cavity
from sciml.pdes.heat import sample_heat, solve_heat
from sciml.pdes.solution import Solution
from sciml.pdes.stokes import sample_stokes, solve_stokes
from sciml.pdes.wave import sample_wave, solve_wave

Kind = Literal["dirichlet", "neumann", "periodic"]


class PdeSpec(NamedTuple):
    """Numbers of one problem; those that it does not have are 0 (see `PROBLEMS[name].default`).

    Attributes:
        name: Key of `PROBLEMS`.
        nu: Viscosity or diffusivity (length²/time).
        low: Lower bound of the random parameter: frequency (stokes), velocity on the left (burgers,
            burgers_front), half waves (heat), height (wave), lid speed (cavity).
        high: Its upper bound.
        amplitude: Velocity of the wall (stokes), flux (heat), factor of the field
            (burgers_periodic).
        speed: Speed of sound (wave).
        resolution: Points of the inner grid (burgers_periodic, four times the modes of the initial
            data) or along each side (cavity, both ends included).
    """

    name: str
    nu: float = 0.0
    low: float = 0.0
    high: float = 0.0
    amplitude: float = 0.0
    speed: float = 0.0
    resolution: int = 0


class Problem(NamedTuple):
    """One problem.

    Attributes:
        kind: Its boundary condition, on every side.
        space_axes: 1 or 2.
        default: Numbers of the benchmark of BOON, as far as they are known.
        sample: (key, batch size, spec) -> parameters, a NamedTuple of arrays [batch, ...].
        solve: (parameters, points, times, spec) -> solution; jit it with static points and spec.
    """

    kind: Kind
    space_axes: int
    default: PdeSpec
    sample: Callable[[PRNGKeyArray, int, PdeSpec], Any]
    solve: Callable[[Any, int, Float[Array, " time"], PdeSpec], Solution]


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


def _problem(
    kind: Kind,
    space_axes: int,
    default: PdeSpec,
    sample: Callable[[PRNGKeyArray, int, PdeSpec], Any],
    solve: Callable[[Any, int, Array, PdeSpec], Solution],
) -> Problem:
    """Returns a problem whose functions check their spec first."""

    def check(spec: PdeSpec) -> None:
        if spec.name != default.name:
            raise ValueError(f"config.data.name={spec.name!r}: this problem is {default.name!r}")
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

    return Problem(kind, space_axes, default, checked_sample, checked_solve)


PROBLEMS: dict[str, Problem] = {
    "stokes": _problem(
        "dirichlet",
        1,
        PdeSpec("stokes", nu=0.02, low=3.0, high=4.0, amplitude=2.0),
        lambda key, num, spec: sample_stokes(key, num, low=spec.low, high=spec.high),
        lambda params, points, times, spec: solve_stokes(
            params, points, times, nu=spec.nu, amplitude=spec.amplitude
        ),
    ),
    "burgers": _problem(
        "dirichlet",
        1,
        PdeSpec("burgers", nu=0.02, low=0.75, high=0.85),
        lambda key, num, spec: sample_burgers(key, num, low=spec.low, high=spec.high),
        lambda params, points, times, spec: solve_burgers(params, points, times, nu=spec.nu),
    ),
    "burgers_front": _problem(
        "dirichlet",
        1,
        PdeSpec("burgers_front", nu=0.02, low=0.75, high=0.85),
        lambda key, num, spec: sample_burgers(key, num, low=spec.low, high=spec.high),
        lambda params, points, times, spec: solve_burgers_front(params, points, times, nu=spec.nu),
    ),
    "burgers_periodic": _problem(
        "periodic",
        1,
        PdeSpec("burgers_periodic", nu=0.1, amplitude=1.0, resolution=1024),
        lambda key, num, spec: sample_burgers_periodic(
            key, num, modes=spec.resolution // 4, amplitude=spec.amplitude
        ),
        lambda params, points, times, spec: solve_burgers_periodic(
            params, points, times, nu=spec.nu, resolution=spec.resolution
        ),
    ),
    "heat": _problem(
        "neumann",
        1,
        PdeSpec("heat", nu=0.01, low=2.01, high=3.99, amplitude=5.0),
        lambda key, num, spec: sample_heat(key, num, low=spec.low, high=spec.high),
        lambda params, points, times, spec: solve_heat(
            params, points, times, nu=spec.nu, flux=spec.amplitude
        ),
    ),
    "wave": _problem(
        "neumann",
        2,
        PdeSpec("wave", low=3.0, high=4.0, speed=1.0),
        lambda key, num, spec: sample_wave(key, num, low=spec.low, high=spec.high),
        lambda params, points, times, spec: solve_wave(params, points, times, speed=spec.speed),
    ),
    "cavity": _problem(
        "dirichlet",
        2,
        PdeSpec("cavity", nu=0.01, low=1.0, high=1.5, resolution=49),
        lambda key, num, spec: sample_cavity(key, num, low=spec.low, high=spec.high),
        lambda params, points, times, spec: solve_cavity(
            params,
            points,
            times,
            nu=spec.nu,
            solver_points=spec.resolution,
            max_speed=spec.high,
        ),
    ),
}
