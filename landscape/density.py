"""The density of all eigenvalues of the Hessian, by stochastic Lanczos quadrature."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Float, PRNGKeyArray

from common.keys import split_apart
from landscape import lanczos
from landscape.products import GaussNewton, Loss, averaged
from landscape.vectors import PyTree


class Spectrum(NamedTuple):
    """A discrete estimate of the spectral density: [probes, steps] of nodes and their weights."""

    nodes: np.ndarray
    weights: np.ndarray

    def mean(self, function: Callable[[np.ndarray], np.ndarray]) -> tuple[float, float]:
        """Returns the mean of function(eigenvalue) over all eigenvalues, and its standard error."""
        samples = np.sum(self.weights * function(self.nodes), axis=1)
        if len(samples) == 1:
            return float(samples[0]), math.nan
        return float(np.mean(samples)), float(np.std(samples, ddof=1) / math.sqrt(len(samples)))

    def density(
        self, grid: Float[np.ndarray, " grid"], *, width: float
    ) -> Float[np.ndarray, " grid"]:
        """Returns the density smoothed by Gaussians of standard deviation `width`; integral 1.

        Source: Ghorbani et al. (2019).

        Raises:
            ValueError: If the width is not positive.
        """
        if not width > 0:
            raise ValueError(f"width={width}: expected a number above 0")
        z = (np.asarray(grid)[:, None] - self.nodes.reshape(1, -1)) / width
        bumps = np.exp(-(z**2) / 2) / (width * math.sqrt(2 * math.pi))
        return bumps @ self.weights.reshape(-1) / len(self.weights)


def spectral_density(
    loss: Loss | GaussNewton,
    params: PyTree,
    batches: Iterable[PyTree],
    *,
    key: PRNGKeyArray,
    num_steps: int = 80,
    num_probes: int = 4,
    frozen: str | None = None,
    sizes: Sequence[float] | None = None,
) -> Spectrum:
    """Returns nodes and weights of the density of eigenvalues, by stochastic Lanczos quadrature.

    Source: Ghorbani et al. (2019). Rademacher probes; exact for polynomials of
    degree below 2 `num_steps`, up to the randomness of the probes.

    Raises:
        ValueError: If there are more steps than dimensions, no probes, or a regex matches nothing.
    """
    operator = averaged(loss, params, batches, frozen=frozen, sizes=sizes)
    layout = operator.layout
    lanczos.check_steps(num_steps, layout.size)
    if num_probes < 1:
        raise ValueError(f"num_probes={num_probes}: expected at least 1")
    nodes, weights = np.zeros((2, num_probes, num_steps))
    for i, probe_key in enumerate(split_apart(key, num_probes)):
        probe = jax.random.rademacher(probe_key, (layout.size,), layout.dtype)
        found = lanczos.decompose(operator.apply, probe, num_steps)
        ritz = lanczos.ritz(found.alphas, found.betas)
        nodes[i, : len(ritz.values)] = ritz.values  # others have weight 0
        weights[i, : len(ritz.values)] = ritz.weights
    return Spectrum(nodes, weights)
