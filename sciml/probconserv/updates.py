"""What is done to a prediction so that it conserves: the rows of the tables as functions.

One time slice of one function at a time: means and standard deviations of independent points come
from a network (or anything else), the mass of the slice and of its cells from the law.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from sciml import covariances
from sciml.bounds import Bounds, most_likely
from sciml.conservation import cell_constraint, mass_constraint, shape_correction
from sciml.constraints import Gaussian, LinearConstraint, condition, condition_samples, project
from sciml.covariances import Diagonal
from sciml.probconserv.normal import Normal

METHODS = ("anp", "hard", "probconserv", "diffused", "local")
BOUNDED = {"bounds": "anp", "bounded": "probconserv"}  # method: the one whose covariance it keeps
VARIANCE_FLOOR = 1e-8  # of the mixture, as in the released code


class UpdateSpec(NamedTuple):
    """How constraints are applied.

    Attributes:
        sigma: Standard deviation of noise in the mass; 0: it holds exactly.
        correlation: Of neighbouring points in the shape correction of "diffused".
        cells: Cells of equal numbers of intervals whose masses "local" knows.
    """

    sigma: float = 0.0
    correlation: float = 0.9
    cells: int = 4


class Slice(NamedTuple):
    """A time slice and what is known of it; bounds of some laws only."""

    x: Float[Array, " n"]
    mass: Float[Array, ""]
    cell_masses: Float[Array, " cells"]
    bounds: Bounds | None = None


def check_update(spec: UpdateSpec, points: int) -> None:
    """Checks an update against the points of a slice.

    Raises:
        ValueError: Naming the field, the value and what is allowed.
    """
    if not spec.sigma >= 0:
        raise ValueError(f"config.constraint.sigma={spec.sigma}: expected 0 or more")
    if not 0 <= spec.correlation <= 1:
        raise ValueError(f"config.constraint.correlation={spec.correlation}: expected 0 to 1")
    if spec.cells < 1 or (points - 1) % spec.cells:
        raise ValueError(
            f"config.constraint.cells={spec.cells}: expected a divisor of the {points - 1} "
            "intervals of config.data.points"
        )


def cell_edges(points: int, cells: int) -> tuple[int, ...]:
    """Returns the positions of the ends of equal cells."""
    return tuple(range(0, points, (points - 1) // cells))


def constraint_of(method: str, known: Slice, spec: UpdateSpec) -> LinearConstraint:
    """Returns the rows of a method; "anp" has none and is not asked."""
    if method == "local":
        edges = cell_edges(known.x.size, spec.cells)
        return cell_constraint(known.x, edges, known.cell_masses, sigma=spec.sigma)
    return mass_constraint(known.x, known.mass, sigma=spec.sigma)


def prior_of(method: str, predicted: Normal, x: Float[Array, " n"], spec: UpdateSpec) -> Gaussian:
    """Returns the Gaussian that is conditioned."""
    prior = Gaussian(predicted.mean, Diagonal(predicted.scale**2))
    if method != "diffused":
        return prior
    return shape_correction(prior, correlation=spec.correlation, x=x)


def updated(
    method: str, predicted: Normal, known: Slice, spec: UpdateSpec
) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
    """Returns mean and marginal variance of a slice after a method's update.

    Source: Hansen et al. (2023), the rows of the tables. "probconserv" is the update with the
    predicted variances, "hard" the one with Σ = 1 for the mean, its variances left as they were;
    "diffused" corrects the shape first (w/diff). "local", ours, knows the mass of every cell.
    Ours too are "bounds", which knows `known.bounds` and no mass, and "bounded", which knows both:
    the most likely profile within them, with the variances before the bounds were known, which are
    not below those after it (`sciml.bounds`).
    """
    if method in BOUNDED:
        _, variance = updated(BOUNDED[method], predicted, known, spec)
        rows = None if method == "bounds" else constraint_of(method, known, spec)
        prior = prior_of(method, predicted, known.x, spec)
        return most_likely(known.bounds or Bounds(), prior, rows), variance
    if method == "anp":
        return predicted.mean, predicted.scale**2
    constraint = constraint_of(method, known, spec)
    if method == "hard":
        return project(constraint, predicted.mean), predicted.scale**2
    posterior = condition(constraint, prior_of(method, predicted, known.x, spec))
    return posterior.mean, covariances.marginal_variance(posterior.covariance)


def draws(
    method: str, predicted: Normal, known: Slice, spec: UpdateSpec, key: PRNGKeyArray, *, count: int
) -> Float[Array, "count n"]:
    """Returns profiles after a method's update; those of exact constraints conserve, each of them.

    Source: Hansen et al. (2023), the downstream task of the released code.

    "hard" has no covariance that knows of its constraint: independent noise around its mean. The
    released code draws with the standard deviation in place of the variance; here it is the
    variance for all.

    Raises:
        ValueError: For noisy constraints (sigma above 0).
    """
    if spec.sigma > 0:
        raise ValueError(f"config.constraint.sigma={spec.sigma}: profiles are drawn for 0 only")
    if method in ("anp", "hard"):
        center, _ = updated(method, predicted, known, spec)
        noise = covariances.draw(key, Diagonal(predicted.scale**2), (count,))
        return jnp.broadcast_to(center, noise.shape) + noise
    prior = prior_of(method, predicted, known.x, spec)
    noise = covariances.draw(key, prior.covariance, (count,))
    samples = jnp.broadcast_to(prior.mean, noise.shape) + noise
    return condition_samples(constraint_of(method, known, spec), prior, samples)


def mixture(
    means: Float[Array, "samples n"], variances: Float[Array, "samples n"]
) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
    """Returns mean and variance of an equal mixture: mean variance + sample variance of means.

    Source: Hansen et al. (2023), the released code. Variances are not below VARIANCE_FLOOR.
    """
    between = jnp.var(means, axis=0, ddof=1) if means.shape[0] > 1 else jnp.zeros_like(means[0])
    variance = jnp.mean(variances, axis=0) + between
    return jnp.mean(means, axis=0), jnp.maximum(variance, VARIANCE_FLOOR)


def shock_positions(
    profiles: Float[Array, "count n"], x: Float[Array, " n"]
) -> Float[Array, " count"]:
    """Returns the first x at which a profile is not above 0; the last x if it always is.

    Source: Hansen et al. (2023), the position of the shock in the released code.
    """
    is_zero = profiles <= 0
    first = jnp.where(jnp.any(is_zero, axis=-1), jnp.argmax(is_zero, axis=-1), x.size - 1)
    return jax.vmap(lambda place: x[place])(first)
