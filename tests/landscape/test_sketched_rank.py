"""Bounds of the rank from sketches contain it, whatever the spectrum and the key."""

import re
from typing import Any

import jax
import numpy as np
import pytest

from landscape.rank import CENTERS, rank_of
from landscape.sketched_rank import lower_bound, sketched_rank, upper_bound
from landscape.streamed_rank import exact_rank

N, D = 80, 110
SIZE = 40  # one program for all spectra


def matrix(scales: np.ndarray, seed: int = 0) -> np.ndarray:
    """Returns features with a mean, and about these singular values."""
    random = np.random.default_rng(seed)
    x = random.normal(size=(N, N)) @ (scales[:, None] * random.normal(size=(N, D)))
    return (x / x.std() + 0.2).astype(np.float32)


K = np.arange(1, N + 1)
SPECTRA = {"exponential": np.exp(-K / 3), "quadratic": K**-2.0, "harmonic": 1 / K, "flat": K**0.0}


@pytest.mark.parametrize("name", SPECTRA)
def test_bounds_contain_the_rank(name: str) -> None:
    x = matrix(SPECTRA[name])
    exact = {q: exact_rank(x, q=q) for q in (0.9, 0.99)}
    for i, center in enumerate(CENTERS):
        for q, found in exact.items():
            rank = getattr(found, center).rank
            sketch = sketched_rank(x, key=jax.random.key(i), center=center, q=q, size=SIZE)

            assert (sketch.n, sketch.d, sketch.q, sketch.center) == (N, D, q, center)
            assert 1 <= sketch.lower <= rank <= sketch.upper <= N
            assert sketch.lower <= sketch.estimate <= sketch.upper
            # Quadrature of 40 eigenvalues is coarse: two of them on top of the standard error.
            assert abs(sketch.estimate - rank) <= 4 * sketch.stderr + 0.02 * rank + 2
            if name == "exponential":
                assert sketch.lower == sketch.upper and sketch.stderr == 0
                assert sketch.missed < 1e-4
            if name == "flat":
                assert sketch.missed > 0.01 and sketch.lower > N / 8


def test_tall_matrices_and_whole_sketches_are_exact() -> None:
    x = matrix(SPECTRA["flat"])
    wanted = exact_rank(x)
    for y, center, other in ((x, "features", "features"), (x.T, "samples", "features")):
        found = sketched_rank(y, key=jax.random.key(0), center=center, size=500, power=0)
        assert found.lower == found.upper == getattr(wanted, other).rank == found.estimate
        assert (found.n, found.d) == y.shape and found.missed < 1e-5


@pytest.mark.parametrize("name", SPECTRA)
def test_bounds_from_the_best_sketch_of_a_spectrum(name: str) -> None:
    """Every sketch below the best one gives wider bounds, and all of them contain the rank."""
    energies = SPECTRA[name] ** 2
    total, random = float(energies.sum()), np.random.default_rng(0)
    for q in (0.5, 0.9, 0.99, 0.9999):
        rank = int(rank_of(energies, q))
        for size in (1, 5, 40, N - 1):
            best = energies[:size]
            worse = np.sort(best * random.uniform(0.5, 1, size))[::-1]
            bounds = [
                (lower_bound(e, total, q), upper_bound(e, total, q, N)) for e in (best, worse)
            ]
            (low, high), (lower, upper) = bounds
            assert lower <= low <= rank <= high <= upper <= N
    # A flat spectrum is the line itself: the bound above is exact from a single direction.
    if name == "flat":
        assert upper_bound(energies[:1], total, 0.9, N) == rank_of(energies, 0.9)


def test_zeros_and_bad_input() -> None:
    x = matrix(SPECTRA["flat"])
    constant = np.repeat(np.arange(1, N + 1, dtype=np.float32)[:, None] / 7, D, axis=1)
    found = sketched_rank(constant, key=jax.random.key(0), size=SIZE)
    assert (found.estimate, found.lower, found.upper) == (1, 1, 1)
    refused: list[tuple[dict[str, Any], str]] = [
        (dict(size=0), "size=0: expected at least 1"),
        (dict(power=-1), "power=-1: expected at least 0"),
        (dict(num_probes=1), "num_probes=1: expected at least 2"),
        (dict(center="mean"), "center='mean': expected one of features"),
        (dict(q=0.0), "q=0.0: expected a share"),
    ]
    for arguments, said in refused:
        with pytest.raises(ValueError, match=re.escape(said)):
            sketched_rank(x, key=jax.random.key(0), **arguments)
    with pytest.raises(ValueError, match="NaN or infinite"):
        sketched_rank(np.where(x > 2, np.inf, x), key=jax.random.key(0))
