"""How near samples come to every point of a cube or sphere, and how far they are from uniform.

Plain NumPy: these are facts about data, whatever the network.
"""

import math
from functools import cache

import numpy as np


def cube_radius(num_samples: int, dimension: int, failure: float) -> float:
    """Returns delta so that balls of radius delta around uniform samples cover [0, 1]^d.

    Source: MacDonald et al. (2023), Thm 4.2; a form with constants. With probability 1 - failure at
    least: one of m^d cells is empty with probability m^d (1 - m^-d)^n at most, and cells have the
    diameter delta = sqrt(d) / m.

    Args:
        num_samples: n, independent.
        dimension: d.
        failure: Probability in (0, 1) that something stays uncovered.

    Raises:
        ValueError: If an argument is out of range.
    """
    _check(num_samples, dimension, failure)

    def is_sure(m: int) -> bool:
        cells = m**dimension
        missed = num_samples * math.log1p(-1 / cells) if cells > 1 else -math.inf
        return math.log(cells) + missed <= math.log(failure)

    m = 1  # the probability rises with the number of cells
    while is_sure(m + 1):
        m += 1
    return math.sqrt(dimension) / m


def sphere_radius(num_samples: int, dimension: int, failure: float) -> float:
    """Returns delta so that balls of radius delta around uniform samples cover the unit S^d.

    Source: MacDonald et al. (2023), Thm 4.2; a form with constants. With probability 1 - failure at
    least: points that lie r or more apart have disjoint caps of radius r / 2, so that there are at
    most 1 / cap(r / 2). One of a largest such set has no sample within r with probability
    (1 - cap(r))^n at most, and everything is within r of one; delta = 2 r.

    Args:
        num_samples: n, independent.
        dimension: d of S^d in R^{d+1}.
        failure: Probability in (0, 1) that something stays uncovered.

    Raises:
        ValueError: If an argument is out of range.
    """
    _check(num_samples, dimension, failure)

    def is_sure(r: float) -> bool:
        missed = num_samples * math.log1p(-cap(r, dimension))
        return missed - math.log(cap(r / 2, dimension)) <= math.log(failure)

    low, high = 0.0, 1.0  # delta = 2 is the whole sphere, whatever the samples
    if not is_sure(high):
        return 2 * high
    while high - low > 1e-9 * high:
        middle = (low + high) / 2
        low, high = (low, middle) if is_sure(middle) else (middle, high)
    return 2 * high


def cap(radius: float, dimension: int) -> float:
    """Returns the share of the unit S^d that lies within a distance of a point, at most 2."""
    nodes, weights = _gauss_legendre()

    def integral(angle: float) -> float:
        angles = angle * (1 + nodes) / 2
        return float(weights @ np.sin(angles) ** (dimension - 1)) * angle / 2

    return integral(2 * math.asin(radius / 2)) / (2 * integral(math.pi / 2))


def distance_to_uniform(samples: np.ndarray) -> float:
    """Returns W_1 between samples of [0, 1]^d and the uniform law: exact in d = 1, else a bound.

    In d = 1, the area between both distribution functions. In d > 1 the cost of one way to move the
    mass: halve samples by the median along the longest side of a box, cut the box in the same
    shares, and go on until every sample has a box of volume 1 / n, over which its mass is spread:
    at a mean distance of at most sqrt(||x - center||^2 + ||sides||^2 / 12).

    Args:
        samples: [n, d], in [0, 1].

    Raises:
        ValueError: If they are of another shape, or not in the cube.
    """
    samples = np.asarray(samples, np.float64)
    if samples.ndim != 2 or 0 in samples.shape:
        raise ValueError(f"samples have shape {samples.shape}: expected [n, d], neither of them 0")
    if not np.all((samples >= 0) & (samples <= 1)):
        worst = samples.flat[np.argmax(np.abs(samples - 0.5))]
        raise ValueError(f"samples have an entry {worst}: expected all in [0, 1]")
    if samples.shape[1] == 1:
        return _to_uniform_line(np.sort(samples[:, 0]))
    ends = np.zeros(samples.shape[1]), np.ones(samples.shape[1])
    return sum(_costs(samples, *ends)) / len(samples)


def generalization_bound(
    cost_constant: float, network_constant: float, target_constant: float, distance: float
) -> float:
    """Returns a bound of |E c(f(x), f*(x)) - mean_i c(f(x_i), f*(x_i))|.

    Source: MacDonald et al. (2023), Thm 6.1: L_c (Lip f + Lip f*) W_1, here with the distance of
    these samples in place of its rate (log n / n)^(1/d).

    Args:
        cost_constant: L_c, Lipschitz constant of the cost in both arguments; for squared cost the
            largest error on the support.
        network_constant: Lip f on the support, such as `lipschitz.sandwich(...).upper`.
        target_constant: Lip f*.
        distance: W_1 between the law of x and the samples, or a bound of it.
    """
    return cost_constant * (network_constant + target_constant) * distance


@cache
def _gauss_legendre() -> tuple[np.ndarray, np.ndarray]:
    return np.polynomial.legendre.leggauss(64)


def _to_uniform_line(points: np.ndarray) -> float:
    """Returns the integral of |x_i - u| over the i-th of n equal parts of [0, 1], added up."""
    n = len(points)
    low, high = np.arange(n) / n, np.arange(1, n + 1) / n
    inside = np.clip(points, low, high)
    areas = (inside - low) ** 2 / 2 + (high - inside) ** 2 / 2 + np.abs(points - inside) / n
    return float(np.sum(areas))


def _costs(points: np.ndarray, low: np.ndarray, high: np.ndarray) -> list[float]:
    """Returns for every point how far its mass moves at most, into its part of a box."""
    n, sides = len(points), high - low
    if n == 1:
        off = points[0] - (low + high) / 2
        return [math.sqrt(float(off @ off + sides @ sides / 12))]
    axis, half = int(np.argmax(sides)), n // 2
    ordered = points[np.argsort(points[:, axis], kind="stable")]
    cut = low[axis] + sides[axis] * half / n
    low_cut, high_cut = low.copy(), high.copy()
    low_cut[axis] = high_cut[axis] = cut
    return _costs(ordered[:half], low, high_cut) + _costs(ordered[half:], low_cut, high)


def _check(num_samples: int, dimension: int, failure: float) -> None:
    wrong = {"num_samples": num_samples, "dimension": dimension}
    for name, value in wrong.items():
        if value < 1:
            raise ValueError(f"{name}={value}: expected at least 1")
    if not 0 < failure < 1:
        raise ValueError(f"failure={failure}: expected a probability between 0 and 1")
