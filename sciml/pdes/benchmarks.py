"""The numbers of every problem, as a config sets them; config files read this without JAX."""

from typing import NamedTuple


class PdeSpec(NamedTuple):
    """Numbers of one problem; those that it does not have are 0.

    Attributes:
        name: Key of `sciml.pdes.problems.PROBLEMS`.
        nu: Viscosity or diffusivity (length²/time).
        low: Lower bound of the random parameter: frequency (stokes), velocity on the left (burgers,
            burgers_front), half waves (heat), flux (heat_flux), height (wave), lid speed (cavity).
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


# Those of BOON. What its notebooks do not say (all but heat's) is ours, in the range of the paper's
# experiments.
BENCHMARKS = {
    spec.name: spec
    for spec in (
        PdeSpec("stokes", nu=0.02, low=3.0, high=4.0, amplitude=2.0),
        PdeSpec("burgers", nu=0.02, low=0.75, high=0.85),
        PdeSpec("burgers_front", nu=0.02, low=0.75, high=0.85),
        PdeSpec("burgers_periodic", nu=0.1, amplitude=1.0, resolution=1024),
        PdeSpec("heat", nu=0.01, low=2.01, high=3.99, amplitude=5.0),
        PdeSpec("heat_flux", nu=0.01, low=4.5, high=5.5),  # ours: heat, but the flux differs too
        PdeSpec("wave", low=3.0, high=4.0, speed=1.0),
        PdeSpec("cavity", nu=0.01, low=1.0, high=1.5, resolution=99),  # every second point is kept
    )
}
