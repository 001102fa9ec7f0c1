"""The largest curvature at which gradient descent is stable, and how near to it training is.

On a quadratic of curvature lambda, gradient descent with a learning rate eta converges exactly if
lambda < 2 / eta. Of a network, the sharpness, which is the largest eigenvalue of the Hessian, rises
to that limit and stays there: the edge of stability.
"""

import math
from collections.abc import Iterable
from typing import NamedTuple

from jaxtyping import PRNGKeyArray

from landscape.curvature import eigenpairs
from landscape.products import Loss
from landscape.vectors import PyTree

AT = (0.9, 1.3)  # sharpness / limit: what counts as at the edge, around which it oscillates


class Edge(NamedTuple):
    """Where training is, seen from the edge of stability.

    Attributes:
        sharpness: The largest eigenvalue of the Hessian.
        residual: An eigenvalue lies within so much of it.
        limit: The largest stable sharpness.
        ratio: Sharpness / limit.
        place: below, at or above the edge: `AT` says from which ratio to which it is "at".
    """

    sharpness: float
    residual: float
    limit: float
    ratio: float
    place: str


def limit(
    learning_rate: float,
    *,
    momentum: float = 0.0,
    nesterov: bool = False,
    weight_decay: float = 0.0,
) -> float:
    """Returns the sharpness of the loss below which training is stable on a quadratic.

    Source: Cohen et al. (2021), on quadratics, derived anew. 2 / eta for gradient descent,
    (2 + 2 beta) / eta for heavy ball, (2 + 2 beta) / (eta (1 + 2 beta)) for Nesterov, updates being
    those of `optax.sgd`: where the root of the iteration that falls first reaches -1. Weight
    decay wd adds wd to all curvatures, so it is subtracted here: that of a gradient with wd theta,
    as `common.optim` has it for sgd, of a loss that does not contain it. Batches that are
    parts of the data make training unstable already at less.

    Raises:
        ValueError: If a number is out of range; names it.
    """
    _check(learning_rate, momentum, weight_decay)
    return _factor(momentum, nesterov) / learning_rate - weight_decay


def largest_learning_rate(
    sharpness: float,
    *,
    momentum: float = 0.0,
    nesterov: bool = False,
    weight_decay: float = 0.0,
) -> float:
    """Returns the learning rate whose `limit` is this sharpness; infinite if nothing is curved.

    Raises:
        ValueError: If a number is out of range; names it.
    """
    _check(1.0, momentum, weight_decay)
    curvature = sharpness + weight_decay
    return _factor(momentum, nesterov) / curvature if curvature > 0 else math.inf


def edge_of_stability(
    loss: Loss,
    params: PyTree,
    batches: Iterable[PyTree],
    *,
    key: PRNGKeyArray,
    learning_rate: float,
    momentum: float = 0.0,
    nesterov: bool = False,
    weight_decay: float = 0.0,
    frozen: str | None = None,
    tolerance: float = 1e-3,
) -> Edge:
    """Returns how far training at `params` is from its edge of stability.

    Source: Cohen et al. (2021): full-batch training ends at a ratio around 1.

    Args:
        loss: loss(params, batch), a mean over the batch.
        params: Any tree.
        batches: A list of batches that are all data together, see `products.averaged`.
        key: Of the first vector of Lanczos.
        learning_rate: Of `optax.sgd`, as are the next two.
        momentum: 0 for gradient descent.
        nesterov: Whether the momentum is Nesterov's.
        weight_decay: See `limit`; 0 if it is in the loss.
        frozen: Regex of parameters that are not trained.
        tolerance: Estimated relative error of the sharpness.

    Raises:
        ValueError: If a number is out of range, or as `curvature.eigenpairs`.
    """
    rule = dict(momentum=momentum, nesterov=nesterov, weight_decay=weight_decay)
    allowed = limit(learning_rate, **rule)
    top = eigenpairs(loss, params, batches, key=key, k=1, frozen=frozen, tolerance=tolerance)
    sharpness, residual = float(top.values[0]), float(top.residuals[0])
    # Both sides with the decay: the ratio of the curvatures that training sees.
    ratio = (sharpness + weight_decay) / (allowed + weight_decay)
    place = "below" if ratio < AT[0] else "at" if ratio <= AT[1] else "above"
    return Edge(sharpness, residual, allowed, ratio, place)


def check_start(
    sharpness: float,
    learning_rate: float,
    *,
    momentum: float = 0.0,
    nesterov: bool = False,
    weight_decay: float = 0.0,
    times: float = 1.0,
) -> None:
    """Checks that training starts with a stable learning rate.

    Args:
        sharpness: At the start.
        learning_rate: Of `limit`, as are the next three.
        momentum: 0 for gradient descent.
        nesterov: Whether the momentum is Nesterov's.
        weight_decay: See `limit`.
        times: How many times the limit is allowed. Networks often survive a start above it:
            the loss rises for a few steps, until the sharpness has fallen below the limit.

    Raises:
        ValueError: If it is not; says with which one it would.
    """
    rule = dict(momentum=momentum, nesterov=nesterov, weight_decay=weight_decay)
    allowed = limit(learning_rate, **rule)
    if not sharpness + weight_decay <= times * (allowed + weight_decay):
        largest = times * largest_learning_rate(sharpness, **rule)
        said = f"{times:g} times the limit" if times != 1 else "the limit"
        raise ValueError(
            f"learning_rate={learning_rate:g}: the loss has sharpness {sharpness:.4g} at the "
            f"start, above {said} {allowed:.4g}; expected at most {largest:.4g}"
        )


def _factor(momentum: float, nesterov: bool) -> float:
    """Returns the limit of learning rate times curvature."""
    return (2 + 2 * momentum) / (1 + 2 * momentum if nesterov else 1)


def _check(learning_rate: float, momentum: float, weight_decay: float) -> None:
    if not 0 < learning_rate < math.inf:
        raise ValueError(f"learning_rate={learning_rate}: expected a finite number above 0")
    if not 0 <= momentum < 1:
        raise ValueError(f"momentum={momentum}: expected 0 <= momentum < 1")
    if not 0 <= weight_decay < math.inf:
        raise ValueError(f"weight_decay={weight_decay}: expected a finite number of at least 0")
