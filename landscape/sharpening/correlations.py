"""Rank correlations, with intervals that say how little a few networks prove."""

from typing import NamedTuple

import numpy as np
from scipy.stats import rankdata

RESAMPLED = 2_000
LEVEL = 0.9  # of intervals


class Correlation(NamedTuple):
    """Spearman's rank correlation.

    Attributes:
        value: From -1 to 1; 0 where nothing varies.
        low: End of the bootstrap interval in which nine of ten resamples lie.
        high: Its other end.
    """

    value: float
    low: float
    high: float


def spearman(x: np.ndarray, y: np.ndarray, *, seed: int = 0) -> Correlation:
    """Returns the rank correlation of pairs, with its percentile bootstrap interval.

    Source: Spearman (1904), and Efron (1979), percentile bootstrap: pairs are drawn again with
    replacement, as many as there are.

    Raises:
        ValueError: If there are fewer than three pairs, or not as many of one as of the other.
    """
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if x.shape != y.shape or x.ndim != 1 or len(x) < 3:
        raise ValueError(f"x has shape {x.shape}, y {y.shape}: expected both [n], n at least 3")
    drawn = np.random.default_rng(seed).integers(len(x), size=(RESAMPLED, len(x)))
    again = _correlations(x[drawn], y[drawn])
    low, high = np.quantile(again, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Correlation(float(_correlations(x[None], y[None])[0]), float(low), float(high))


# `scipy.stats.spearmanr` gives NaN for resamples in which nothing varies, frequent with few pairs.
def _correlations(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Returns the rank correlations of rows, ties having their mean rank."""
    x, y = (rankdata(values, axis=1) for values in (x, y))
    x, y = (ranks - ranks.mean(axis=1, keepdims=True) for ranks in (x, y))
    lengths = np.sqrt(np.sum(x**2, axis=1) * np.sum(y**2, axis=1))
    return np.sum(x * y, axis=1) / np.where(lengths > 0, lengths, np.inf)
