"""The Attentive Neural Process: from a function at some points to a Gaussian at any others.

Source: Kim et al. (2019), in the form of Hansen et al. (2023), who let points attend to each other
in both encoders. A latent vector z, common to all targets, makes one function of them; a query of
every target to the contexts gives the detail.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from sciml.initialization import Uniform, draw
from sciml.probconserv.attention import (
    AttentionParams,
    AttentionSpec,
    LinearParams,
    cross_attention,
    init_attention,
    init_linear,
    linear,
    self_attention,
    split_or_none,
)
from sciml.probconserv.normal import Normal, kl_divergence, log_density, sample

COORDINATES = 2  # (t, x)


class AnpSpec(NamedTuple):
    """Sizes of the network; defaults are those of Hansen et al. (989 826 parameters).

    Attributes:
        width: Channels of a point.
        latent: Size of z.
        heads: Of every attention.
        dropout: Rate in every attention, of weights and of outputs.
        self_attention_layers: In each of the two encoders.
        cross_attention_layers: From targets to contexts.
        decoder_layers: With ReLU, each of 2 width + latent channels.
        min_scale: Least standard deviation of a prediction.
    """

    width: int = 128
    latent: int = 128
    heads: int = 4
    dropout: float = 0.1
    self_attention_layers: int = 2
    cross_attention_layers: int = 2
    decoder_layers: int = 3
    min_scale: float = 1e-3


class Observations(NamedTuple):
    """Functions at points (t, x) where their values are known."""

    points: Float[Array, "batch n 2"]
    values: Float[Array, "batch n"]


class AnpBatch(NamedTuple):
    """Functions that are known at contexts and asked for at targets."""

    contexts: Observations
    targets: Observations


class LatentParams(NamedTuple):
    """Encoder of a set of points to the distribution of z."""

    points: LinearParams
    attentions: tuple[AttentionParams, ...]
    hidden: LinearParams
    mean: LinearParams
    log_variance: LinearParams


class DeterministicParams(NamedTuple):
    """Encoder of contexts and target points to one vector for every target."""

    points: LinearParams
    self_attentions: tuple[AttentionParams, ...]
    query: LinearParams
    keys: LinearParams
    cross_attentions: tuple[AttentionParams, ...]


class DecoderParams(NamedTuple):
    """Network that is applied at every target."""

    target: LinearParams
    layers: tuple[LinearParams, ...]
    outputs: LinearParams


class AnpParams(NamedTuple):
    """All of the network."""

    latent: LatentParams
    deterministic: DeterministicParams
    decoder: DecoderParams


def init_anp(key: PRNGKeyArray, *, spec: AnpSpec) -> AnpParams:
    """Draws the network: Xavier-uniform weights, those before a ReLU larger by sqrt(2).

    Source: Hansen et al. (2023), the released code.

    Raises:
        ValueError: If heads do not divide the width, or a size, rate or scale makes no sense.
    """
    check_spec(spec)
    width, gain = spec.width, math.sqrt(2)
    hidden = 2 * width + spec.latent

    def attentions(uniform: Uniform, count: int) -> tuple[AttentionParams, ...]:
        return tuple(init_attention(uniform, width) for _ in range(count))

    def network(uniform: Uniform) -> AnpParams:
        latent = LatentParams(
            points=init_linear(uniform, COORDINATES + 1, width),
            attentions=attentions(uniform, spec.self_attention_layers),
            hidden=init_linear(uniform, width, width, gain=gain),
            mean=init_linear(uniform, width, spec.latent),
            log_variance=init_linear(uniform, width, spec.latent),
        )
        deterministic = DeterministicParams(
            points=init_linear(uniform, COORDINATES + 1, width),
            self_attentions=attentions(uniform, spec.self_attention_layers),
            query=init_linear(uniform, COORDINATES, width),
            keys=init_linear(uniform, COORDINATES, width),
            cross_attentions=attentions(uniform, spec.cross_attention_layers),
        )
        layers = range(spec.decoder_layers)
        decoder = DecoderParams(
            target=init_linear(uniform, COORDINATES, width),
            layers=tuple(init_linear(uniform, hidden, hidden, gain=gain) for _ in layers),
            outputs=init_linear(uniform, hidden, 2),
        )
        return AnpParams(latent, deterministic, decoder)

    return draw(key, network)


def check_spec(spec: AnpSpec) -> None:
    """Checks the sizes.

    Raises:
        ValueError: As in `init_anp`.
    """
    for name in ("width", "latent", "heads", "cross_attention_layers", "decoder_layers"):
        if getattr(spec, name) < 1:
            raise ValueError(f"spec.{name} is {getattr(spec, name)}, expected at least 1")
    if spec.self_attention_layers < 0:
        raise ValueError(
            f"spec.self_attention_layers is {spec.self_attention_layers}, expected at least 0"
        )
    if spec.width % spec.heads:
        raise ValueError(f"spec.heads is {spec.heads}, expected a divisor of width {spec.width}")
    if not 0 <= spec.dropout < 1:
        raise ValueError(f"spec.dropout is {spec.dropout}, expected 0 <= dropout < 1")
    if not spec.min_scale >= 0:
        raise ValueError(f"spec.min_scale is {spec.min_scale}, expected at least 0")


def encode_latent(
    params: AnpParams, known: Observations, *, spec: AnpSpec, key: PRNGKeyArray | None = None
) -> Normal:
    """Returns the distribution of z given a function at points; their order does not matter.

    Source: Kim et al. (2019), the latent path.

    Args:
        params: Of the network.
        known: Points and values.
        spec: Sizes.
        key: Turns dropout on.
    """
    part = params.latent
    encoded = _encode_points(part.points, part.attentions, known, spec, key)
    hidden = jax.nn.relu(linear(part.hidden, jnp.mean(encoded, axis=-2)))
    scale = jnp.exp(linear(part.log_variance, hidden) / 2)
    return Normal(linear(part.mean, hidden), scale)


def encode_targets(
    params: AnpParams,
    contexts: Observations,
    target_points: Float[Array, "batch p 2"],
    *,
    spec: AnpSpec,
    key: PRNGKeyArray | None = None,
) -> Float[Array, "batch p width"]:
    """Returns what every target finds at the contexts: all of a prediction that z is no part of.

    Source: Kim et al. (2019), the deterministic path.

    Args: As in `anp`.
    """
    part = params.deterministic
    key_self, key_cross = split_or_none(key, 2)
    values = _encode_points(part.points, part.self_attentions, contexts, spec, key_self)
    query, keys = linear(part.query, target_points), linear(part.keys, contexts.points)
    split = split_or_none(key_cross, len(part.cross_attentions))
    for layer, k in zip(part.cross_attentions, split, strict=True):
        query = cross_attention(layer, query, keys, values, spec=_attention(spec), key=k)
    return query


def decode(
    params: AnpParams,
    found: Float[Array, "batch p width"],
    latent: Float[Array, "batch latent"],
    target_points: Float[Array, "batch p 2"],
    *,
    spec: AnpSpec,
) -> Normal:
    """Returns the Gaussian at every target: ReLU layers on [found; z; Linear(point)].

    Source: Hansen et al. (2023), the decoder of the released code.

    The first layer is taken apart. Its part of z is the same at all targets, and its part of a
    point is the product of two linear maps: together a third of the work of the whole layer.
    """
    part = params.decoder
    first, *rest = part.layers
    ends = (spec.width, spec.width + spec.latent)
    of_found, of_latent, of_target = jnp.split(first.weight, ends)
    point = LinearParams(part.target.weight @ of_target, part.target.bias @ of_target)
    once = linear(LinearParams(of_latent, point.bias + first.bias), latent)  # [batch hidden]
    hidden = jax.nn.relu(found @ of_found + target_points @ point.weight + once[:, None, :])
    for layer in rest:
        hidden = jax.nn.relu(linear(layer, hidden))
    outputs = linear(part.outputs, hidden)
    return Normal(outputs[..., 0], jax.nn.softplus(outputs[..., 1]) + spec.min_scale)


def anp(
    params: AnpParams,
    contexts: Observations,
    target_points: Float[Array, "batch p 2"],
    *,
    spec: AnpSpec,
    latent: Float[Array, "batch latent"],
    key: PRNGKeyArray | None = None,
) -> Normal:
    """Returns mean and scale [batch p] at the targets for one z of every function.

    Invariant to the order of contexts, and every target is on its own; differentiable in all.

    Args:
        params: Of the network.
        contexts: Where the function is known.
        target_points: (t, x) where it is asked for.
        spec: Sizes.
        latent: z, as `encode_latent` gives its distribution.
        key: Turns dropout on.
    """
    found = encode_targets(params, contexts, target_points, spec=spec, key=key)
    return decode(params, found, latent, target_points, spec=spec)


def predict_samples(
    params: AnpParams,
    contexts: Observations,
    target_points: Float[Array, "batch p 2"],
    key: PRNGKeyArray,
    *,
    spec: AnpSpec,
    num_samples: int,
    dropout: bool,
) -> Normal:
    """Returns mean and scale [samples batch p] for draws of z given the contexts.

    One draw after the other, so that memory is that of one; without dropout the contexts are
    encoded once for all.

    Args:
        params: Of the network.
        contexts: Where the function is known.
        target_points: (t, x) where it is asked for.
        key: Of the draws.
        spec: Sizes.
        num_samples: Draws of z.
        dropout: Whether every draw has masks of its own, as the released code has it; else none.
    """
    numbers = jnp.arange(num_samples)

    def one_of_all(number: Array) -> Normal:
        key_z, key_latent, key_targets = jax.random.split(jax.random.fold_in(key, number), 3)
        z = sample(encode_latent(params, contexts, spec=spec, key=key_latent), key_z)
        return anp(params, contexts, target_points, spec=spec, latent=z, key=key_targets)

    if dropout:
        return jax.lax.map(one_of_all, numbers)
    prior = encode_latent(params, contexts, spec=spec)
    found = encode_targets(params, contexts, target_points, spec=spec)

    def one_of_latent(number: Array) -> Normal:
        z = sample(prior, jax.random.fold_in(key, number))
        return decode(params, found, z, target_points, spec=spec)

    return jax.lax.map(one_of_latent, numbers)


def negative_elbo(
    params: AnpParams, batch: AnpBatch, key: PRNGKeyArray, *, spec: AnpSpec
) -> Float[Array, ""]:
    """Returns -Σ log N(target; mean, scale) + KL(q(z | targets) ‖ q(z | contexts)).

    Source: Kim et al. (2019), the evidence lower bound. Summed over functions and targets, with z
    from the targets, as in the released code of Hansen et al. (2023).

    Args:
        params: Of the network.
        batch: Functions.
        key: Of z and of dropout.
        spec: Sizes; a dropout of 0 makes the loss of a validation.
    """
    key_z, key_posterior, key_prior, key_anp = jax.random.split(key, 4)
    posterior = encode_latent(params, batch.targets, spec=spec, key=key_posterior)
    prior = encode_latent(params, batch.contexts, spec=spec, key=key_prior)
    z = sample(posterior, key_z)
    predicted = anp(params, batch.contexts, batch.targets.points, spec=spec, latent=z, key=key_anp)
    misfit = -jnp.sum(log_density(predicted, batch.targets.values))
    return misfit + jnp.sum(kl_divergence(posterior, prior))


def _encode_points(
    points_params: LinearParams,
    attentions: tuple[AttentionParams, ...],
    known: Observations,
    spec: AnpSpec,
    key: PRNGKeyArray | None,
) -> Float[Array, "batch n width"]:
    x = linear(points_params, jnp.concatenate([known.points, known.values[..., None]], axis=-1))
    for layer, k in zip(attentions, split_or_none(key, len(attentions)), strict=True):
        x = self_attention(layer, x, spec=_attention(spec), key=k)
    return x


def _attention(spec: AnpSpec) -> AttentionSpec:
    return AttentionSpec(spec.heads, spec.dropout)
