"""Errors that fall with size towards a floor: fitted power laws, with intervals for other sizes.

error(size) = floor + amplitude * size^-exponent, all three at least 0, after Hestness et al. (2017)
and Rosenfeld et al. (2020). NumPy only, and the same to the last bit shown on every machine: a
search over a fixed list of exponents, draws of a bit generator whose stream never changes.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

EXPONENTS = np.geomspace(0.02, 4.0, 120)  # neighbours differ by 4.6 %
DRAWS = 500
LOW, HIGH = 0.05, 0.95  # ends of the interval, as shares of the draws
PARAMETERS = 3  # what is fitted, so that as many sizes are needed


class PowerLaw(NamedTuple):
    """floor + amplitude * size^-exponent: numbers, or one entry for each of many fits.

    The exponent is 0 where the amplitude is: nothing falls there.
    """

    floor: np.ndarray
    amplitude: np.ndarray
    exponent: np.ndarray

    def at(self, size: float) -> np.ndarray:
        """Returns the error at a size."""
        return np.asarray(self.floor + self.amplitude * float(size) ** -self.exponent)


class Interval(NamedTuple):
    """A number with the interval in which nine of ten draws of the bootstrap lie."""

    value: float
    low: float
    high: float


class Axis(NamedTuple):
    """Errors measured along one size, while all other sizes stay as they are.

    Attributes:
        sizes: At least three different ones, positive.
        errors: Of every size the errors of its runs (seeds), positive; at least two of each.
        at: The size asked for.
        centre: The size that all axes of `extrapolate` have in common, one of `sizes`; with one
            axis any of them will do.
    """

    sizes: tuple[float, ...]
    errors: tuple[tuple[float, ...], ...]
    at: float
    centre: float


class AxisFit(NamedTuple):
    """The curve of one axis.

    Attributes:
        rows: As fitted to the means of the runs, then as fitted to every draw.
        misfit: How likely means as far from the curve would be by the spread of the runs alone
            (lack-of-fit F test): below 0.05 the curve does not fit. None with three sizes, through
            which a curve always passes.
    """

    rows: PowerLaw
    misfit: float | None

    @property
    def exponent(self) -> Interval:
        """Returns the exponent with its interval."""
        return _interval(self.rows.exponent)

    def at(self, size: float) -> Interval:
        """Returns the error at a size if no other size changes."""
        return _interval(np.maximum(self.rows.at(size), 0.0))


class Extrapolated(NamedTuple):
    """The error at the sizes asked for, all together, and the curve of each axis."""

    error: Interval
    axes: tuple[AxisFit, ...]


def fit_power_law(
    sizes: Sequence[float], errors: np.ndarray, *, floor_from_zero: bool = True
) -> PowerLaw:
    """Returns the power laws with the least sum of squared relative errors.

    Relative, because errors may span decades and their spread usually falls with them. For every
    exponent of `EXPONENTS` floor and amplitude are a least squares problem of two unknowns; one
    that comes out negative is 0.

    Args:
        sizes: K positive sizes.
        errors: [*batch, K] positive errors, such as means over runs; one fit for each row.
        floor_from_zero: Whether a floor below 0 is none; if not, it stays.

    Returns:
        Arrays of shape [*batch].

    Raises:
        ValueError: If there are fewer than three different sizes, or a size or error is not
            positive.
    """
    x, y = np.asarray(sizes, np.float64), np.asarray(errors, np.float64)
    if len(set(x.tolist())) < PARAMETERS or x.ndim != 1 or y.shape[-1] != len(x):
        raise ValueError(
            f"a power law needs {PARAMETERS} different sizes and an error of each, got sizes "
            f"{x.tolist()} and errors of shape {y.shape}"
        )
    if not (np.all(x > 0) and np.all(y > 0) and np.all(np.isfinite(x)) and np.all(np.isfinite(y))):
        raise ValueError("a power law needs positive sizes and errors")
    unit = float(np.exp(np.log(x).mean()))  # keeps powers near 1
    powers = (x / unit) ** -EXPONENTS[:, np.newaxis]  # [exponents, K]
    one, power = 1 / y[..., np.newaxis, :], powers / y[..., np.newaxis, :]  # relative: target is 1
    s11, s12, s22 = (one**2).sum(-1), (one * power).sum(-1), (power**2).sum(-1)
    t1, t2 = one.sum(-1), power.sum(-1)
    determinant = s11 * s22 - s12**2  # positive: the sizes differ
    floor = (t1 * s22 - t2 * s12) / determinant
    amplitude = (t2 * s11 - t1 * s12) / determinant
    sinks, rises = (floor < 0) & floor_from_zero, amplitude < 0  # never both: errors are positive
    floor, amplitude = (
        np.where(sinks, 0.0, np.where(rises, t1 / s11, floor)),
        np.where(rises, 0.0, np.where(sinks, t2 / s22, amplitude)),
    )
    residual = floor[..., np.newaxis] * one + amplitude[..., np.newaxis] * power - 1
    best = np.expand_dims((residual**2).sum(-1).argmin(-1), -1)
    floor, amplitude = (np.take_along_axis(a, best, -1)[..., 0] for a in (floor, amplitude))
    exponent = np.where(amplitude > 0, EXPONENTS[best[..., 0]], 0.0)
    return PowerLaw(floor, amplitude * unit**exponent, exponent)


@lru_cache(maxsize=64)  # claims, pages and figures ask for the same curves
def extrapolate(axes: tuple[Axis, ...], *, draws: int = DRAWS) -> Extrapolated:
    """Returns the error at the sizes asked for, with a bootstrap interval.

    Each axis has a curve of its own through the centre, where all axes meet, and what the axes gain
    from there adds up: error = floor + sum of amplitude * size^-exponent over the axes. The floor
    of one curve thus holds what the other sizes cost. A sum that falls below 0 is 0.

    Bootstrap (Efron 1979): means of runs drawn again, with the relative deviations of all runs of
    an axis from the mean of their size in one pool, since two or three runs of one size say little
    about their spread. The interval says what the spread of runs makes uncertain, and nothing about
    whether the law goes on beyond the sizes measured; with three runs of four or five sizes it
    holds the law's value somewhat less often than nine times of ten (tests measure how often).

    Args:
        axes: One or more; with several the centre is a size of each.
        draws: Of the bootstrap.

    Raises:
        ValueError: As `fit_power_law`; or if a size has fewer than two runs, or no centre.
    """
    fits, bases, gains = [], [], []
    for number, axis in enumerate(axes):
        if axis.centre not in axis.sizes:
            raise ValueError(f"the centre {axis.centre:g} is none of the sizes {[*axis.sizes]}")
        means = np.array([np.mean(runs) for runs in axis.errors])
        drawn = _drawn_means(axis, draws, stream=number)
        law = fit_power_law(axis.sizes, means)
        # With a bound every draw of a law without a floor has one that is too high, never too low.
        free = fit_power_law(axis.sizes, drawn, floor_from_zero=False)
        rows = PowerLaw(*(np.append(a, b) for a, b in zip(law, free, strict=True)))
        centre, alone = rows.at(axis.centre), np.maximum(rows.at(axis.at), 0.0)
        bases.append(centre)
        gains.append(centre - alone)
        fits.append(AxisFit(rows, _lack_of_fit(axis, law)))
    error = np.maximum(np.mean(bases, axis=0) - np.sum(gains, axis=0), 0.0)
    return Extrapolated(_interval(error), tuple(fits))


def _drawn_means(axis: Axis, draws: int, *, stream: int) -> np.ndarray:
    """Returns [draws, K] means of as many runs as every size has, drawn again."""
    counts = [len(runs) for runs in axis.errors]
    if min(counts) < 2:
        raise ValueError(f"every size needs two runs, got {counts}")
    means = [float(np.mean(runs)) for runs in axis.errors]
    pool = np.concatenate(
        [
            # of n deviations from their own mean the variance is too small by (n - 1) / n
            (np.asarray(runs) / mean - 1) * np.sqrt(n / (n - 1))
            for runs, mean, n in zip(axis.errors, means, counts, strict=True)
        ]
    )
    bits = np.random.PCG64(stream).random_raw(draws * sum(counts)).reshape(draws, -1)
    deviations = np.split(pool[bits % len(pool)], np.cumsum(counts)[:-1], axis=1)
    factors = np.stack([1 + drawn.mean(1) for drawn in deviations], axis=1)
    return np.array(means) * np.maximum(factors, 1e-3)  # an error stays positive


def _lack_of_fit(axis: Axis, law: PowerLaw) -> float | None:
    """Returns the p-value of the F test of the means against the curve."""
    from scipy.special import fdtrc  # what scipy.stats.f.sf is, which takes a second to load

    counts = np.array([len(runs) for runs in axis.errors])
    between, within = len(counts) - PARAMETERS, int(counts.sum()) - len(counts)
    if between < 1:
        return None
    means = np.array([np.mean(runs) for runs in axis.errors])
    curve = np.array([law.at(size) for size in axis.sizes])
    off = float((counts * (curve / means - 1) ** 2).sum()) / between
    runs = zip(axis.errors, means, strict=True)
    spread = sum(float(((np.asarray(r) / mean - 1) ** 2).sum()) for r, mean in runs) / within
    if spread == 0:
        return None  # runs that do not differ say nothing about what is far
    return float(fdtrc(between, within, off / spread))


def _interval(rows: np.ndarray) -> Interval:
    """Returns the first of the numbers with the interval of the others."""
    low, high = np.quantile(rows[1:], (LOW, HIGH))
    return Interval(float(rows[0]), float(low), float(high))
