"""What is measured of predictions before and after their updates, for one test function each."""

from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from sciml.bounds import Bounds, outside
from sciml.conservation import trapezoid_weights
from sciml.metrics import coverage, crps_gaussian, gaussian_log_likelihood
from sciml.pdes.conservation import LAWS
from sciml.probconserv.anp import AnpParams, AnpSpec, predict_samples
from sciml.probconserv.data import DataSpec, Slices
from sciml.probconserv.normal import Normal
from sciml.probconserv.updates import (
    BOUNDED,
    METHODS,
    Slice,
    UpdateSpec,
    draws,
    mixture,
    shock_positions,
    updated,
)


class MeasureSpec(NamedTuple):
    """What is measured.

    Attributes:
        data: What the functions are.
        model: The network.
        update: How constraints are applied.
        num_samples: Draws of z.
        dropouts: Whether dropout is on in prediction, for each set of numbers: False are those
            without a prefix, True has the prefix "dropout_".
        shock_samples: Profiles drawn to find the shock; 0: not measured.
        sigmas: Noise in the mass for which "probconserv" is measured besides `update.sigma`.
    """

    data: DataSpec
    model: AnpSpec
    update: UpdateSpec
    num_samples: int
    dropouts: tuple[bool, ...]
    shock_samples: int
    sigmas: tuple[float, ...] = ()


class Predicted(NamedTuple):
    """Predictions of slices by method.

    Attributes:
        moments: Mean and marginal variance, [batch, n] each.
        shocks: Positions [batch, draws] of the shock in drawn profiles, if any are drawn.
    """

    moments: dict[str, tuple[Array, Array]]
    shocks: dict[str, Array]


def measured(
    params: AnpParams, rows: Slices, keys: Array, *, spec: MeasureSpec
) -> dict[str, Float[Array, " batch"]]:
    """Returns all metrics of every test function, named "[dropout_]METHOD_METRIC".

    ce: Σ g μ - b, signed; abs_ce; ll: mean marginal log density; mse; crps; coverage: share inside
    the central 90 %; sd: mean standard deviation; outside: by how much the mean leaves the bounds
    of the law, if it has any, where it does so most; shock_bias, shock_sd, shock_rmse: of the
    positions of drawn profiles' shocks. `keys` has one key for each function, so that numbers do
    not depend on how functions are split over memory or devices.
    """

    def one(row: Slices, key: PRNGKeyArray) -> dict[str, Array]:
        found: dict[str, Array] = {}
        for dropout in spec.dropouts:
            key_mode = jax.random.fold_in(key, int(dropout))
            prefix = "dropout_" if dropout else ""
            numbers = _of_function(params, row, key_mode, spec, dropout)
            found |= {prefix + name: value for name, value in numbers}
        return found

    return jax.vmap(one)(rows, keys)


def predicted(params: AnpParams, rows: Slices, keys: Array, *, spec: MeasureSpec) -> Predicted:
    """Returns what every method predicts on the slices."""

    def one(row: Slices, key: PRNGKeyArray) -> Predicted:
        key_z, key_draws = jax.random.split(key)
        samples, known = _samples(params, row, key_z, spec, False), _slice(row, spec.data)
        methods = (*METHODS, *_bounded(known))
        moments = {m: _moments(m, samples, known, spec.update) for m in methods}
        return Predicted(moments, dict(_positions(samples, known, key_draws, spec)))

    return jax.vmap(one)(rows, keys)


def _of_function(
    params: AnpParams, row: Slices, key: PRNGKeyArray, spec: MeasureSpec, dropout: bool
) -> Iterator[tuple[str, Array]]:
    """Yields the metrics of one test function."""
    key_z, key_draws = jax.random.split(key)
    samples, known = _samples(params, row, key_z, spec, dropout), _slice(row, spec.data)
    weights = trapezoid_weights(known.x)
    truth = row.targets.values[None]

    def numbers(name: str, update: UpdateSpec, method: str) -> Iterator[tuple[str, Array]]:
        mean, variance = _moments(method, samples, known, update)
        error = jnp.sum(weights * mean) - known.mass
        yield f"{name}_ce", error
        yield f"{name}_abs_ce", jnp.abs(error)
        yield f"{name}_mse", jnp.mean((mean - row.targets.values) ** 2)
        yield f"{name}_sd", jnp.mean(jnp.sqrt(variance))
        if known.bounds is not None:
            yield f"{name}_outside", outside(known.bounds, mean)
        for metric, function in (
            ("ll", gaussian_log_likelihood),
            ("crps", crps_gaussian),
            ("coverage", coverage),
        ):
            yield f"{name}_{metric}", function(mean[None], variance[None], truth)[0]

    for method in (*METHODS, *_bounded(known)):
        yield from numbers(method, spec.update, method)
    for sigma in spec.sigmas:
        yield from numbers(f"sigma{sigma:g}", spec.update._replace(sigma=sigma), "probconserv")
    for method, positions in _positions(samples, known, key_draws, spec):
        missed = positions - row.front
        yield f"{method}_shock_bias", jnp.abs(jnp.mean(missed))
        yield f"{method}_shock_sd", jnp.std(positions)
        yield f"{method}_shock_rmse", jnp.sqrt(jnp.mean(missed**2))


def _samples(
    params: AnpParams, row: Slices, key: PRNGKeyArray, spec: MeasureSpec, dropout: bool
) -> Normal:
    """Returns means and scales [samples n] of one function."""
    drawn = predict_samples(
        params,
        jax.tree.map(lambda x: x[None], row.contexts),
        row.targets.points[None],
        key,
        spec=spec.model,
        num_samples=spec.num_samples,
        dropout=dropout,
    )
    return Normal(drawn.mean[:, 0], drawn.scale[:, 0])


def _slice(row: Slices, data: DataSpec) -> Slice:
    law = LAWS[data.name]
    x = jnp.linspace(*law.domain, data.points)
    bounds = None if law.bounds is None else Bounds(*law.bounds)
    return Slice(x, row.mass, row.cell_masses, bounds)


def _bounded(known: Slice) -> tuple[str, ...]:
    """Returns the methods that know the bounds of a law, none if it has none."""
    return () if known.bounds is None else tuple(BOUNDED)


def _moments(
    method: str, samples: Normal, known: Slice, update: UpdateSpec
) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
    return mixture(*jax.vmap(lambda sample: updated(method, sample, known, update))(samples))


def _positions(
    samples: Normal, known: Slice, key: PRNGKeyArray, spec: MeasureSpec
) -> Iterator[tuple[str, Array]]:
    """Yields shock positions of profiles drawn after every update; the same noise for all."""
    if spec.shock_samples == 0:
        return
    count = -(-spec.shock_samples // samples.mean.shape[0])
    keys = jax.random.split(key, samples.mean.shape[0])
    for method in METHODS:

        def of_one(sample: Normal, key: PRNGKeyArray, method: str = method) -> Array:
            profiles = draws(method, sample, known, spec.update, key, count=count)
            return shock_positions(profiles, known.x)

        cloned = jax.vmap(jax.random.clone)(keys)
        yield method, jax.vmap(of_one)(samples, cloned).reshape(-1)
