"""Conditional VAE of masks: q(Z | U_0, M), p(M | U_0, Z) and prior N(0, I) on a weight space."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from nfn import features
from nfn.couplings import num_linear_parameters
from nfn.features import Features
from nfn.pruning import is_kernel
from nfn.stack import StackParams, StackSpec, init_stack, stack, stack_space
from nfn.weights import WeightSpace

MAX_ENTRIES = 50_000  # of a linear map with one channel in and out


class CvaeSpec(NamedTuple):
    """Sizes of encoder and decoder.

    Attributes:
        kind: np, hnp or pt, see `StackSpec`.
        channels: Channels per weight of every hidden layer.
        num_layers: Hidden layers; a linear output layer follows.
        latent_channels: Channels of Z per weight.
        layer_norm: Normalize the channels before every ReLU.
        dtype: Compute type of the layers, "float32" or "bfloat16".
        remat: Recompute layers in the backward pass instead of keeping their outputs.
    """

    kind: str
    channels: int
    num_layers: int
    latent_channels: int
    layer_norm: bool
    dtype: str
    remat: bool


class CvaeParams(NamedTuple):
    """Stacks of `encode` and `decode`."""

    encoder: StackParams
    decoder: StackParams


class Gaussian(NamedTuple):
    """Independent normal variables, one per channel of every weight."""

    mean: Features
    log_variance: Features


def init_cvae(key: PRNGKeyArray, *, space: WeightSpace, spec: CvaeSpec) -> CvaeParams:
    """Draws encoder (2 channels in: weight, mask) and decoder (weight and Z in, logit out).

    Source: Zhou et al. (2023a), Sec. 3.3 and App. D.2.

    Raises:
        ValueError: If a layer of this kind would be too large for the space.
    """
    key_encoder, key_decoder = jax.random.split(key)
    check_size(space, spec.kind)
    return CvaeParams(
        init_stack(key_encoder, space=space, spec=_encoder(spec), c_in=2),
        init_stack(key_decoder, space=space, spec=_decoder(spec), c_in=1 + spec.latent_channels),
    )


def check_size(space: WeightSpace, kind: str) -> None:
    """Refuses kind hnp where its layers would grow with the square of many inputs.

    Raises:
        ValueError: Naming the number of entries.
    """
    entries = num_linear_parameters(stack_space(space, kind))
    if kind != "pt" and entries > MAX_ENTRIES:
        raise ValueError(
            f"config.model.kind={kind!r}: with inputs and outputs told apart, a layer between "
            f"the weights of this network has {entries:,} entries for each channel in and out, at "
            f"most {MAX_ENTRIES:,} allowed; the paper leaves it out too (use np or pt)"
        )


def encode(
    params: CvaeParams, weights: Features, mask: Features, *, space: WeightSpace, spec: CvaeSpec
) -> Gaussian:
    """Returns q(Z | U_0, M); features in the layout of `stack_space(space, spec.kind)`.

    Source: Zhou et al. (2023a), App. D.2: the encoder reads weights and mask.
    """
    inner = stack_space(space, spec.kind)
    x = features.concatenate(inner, [weights, mask])
    outputs = stack(params.encoder, x, space=space, spec=_encoder(spec))
    mean, log_variance = {}, {}
    for tensor in inner.tensors:
        both = features.unfold(tensor, outputs[tensor.path])
        mean[tensor.path] = features.fold(tensor, both[..., : spec.latent_channels])
        log_variance[tensor.path] = features.fold(tensor, both[..., spec.latent_channels :])
    return Gaussian(mean, log_variance)


def decode(
    params: CvaeParams, weights: Features, latent: Features, *, space: WeightSpace, spec: CvaeSpec
) -> Features:
    """Returns the logits of p(M | U_0, Z), one for every weight.

    Source: Zhou et al. (2023a), App. D.2: the decoder reads weights and Z.
    """
    x = features.concatenate(stack_space(space, spec.kind), [weights, latent])
    return stack(params.decoder, x, space=space, spec=_decoder(spec))


def sample(key: PRNGKeyArray, gaussian: Gaussian) -> Features:
    """Draws from independent normal variables; leaves are [batch, ...]."""
    leaves, tree = jax.tree.flatten(gaussian.mean)
    sizes = [math.prod(leaf.shape[1:]) for leaf in leaves]
    # One draw cut in pieces, as XLA compiles every draw slowly; cut across the batch, whose rows
    # lie on different devices, it would have to be moved between them.
    noise = jax.random.normal(key, (leaves[0].shape[0], sum(sizes)))
    pieces = jnp.split(noise, np.cumsum(sizes)[:-1], axis=1)
    eps = [piece.reshape(leaf.shape) for piece, leaf in zip(pieces, leaves, strict=True)]
    return jax.tree.map(
        lambda mean, log_variance, e: mean + jnp.exp(0.5 * log_variance) * e,
        gaussian.mean,
        gaussian.log_variance,
        jax.tree.unflatten(tree, eps),
    )


def prior(weights: Features, spec: CvaeSpec) -> Gaussian:
    """Returns N(0, I) for features `weights` with one channel per weight."""
    zeros = {
        path: jnp.zeros((*x.shape[:-1], x.shape[-1] * spec.latent_channels))
        for path, x in weights.items()
    }
    return Gaussian(zeros, zeros)


def log_likelihood(
    logits: Features, mask: Features, *, space: WeightSpace
) -> Float[Array, " batch"]:
    """Returns log p(M | U_0, Z) in nats, summed over the entries of all kernels."""
    paths = [tensor.path for tensor in space.tensors if is_kernel(tensor.path)]
    terms = [mask[path] * logits[path] - jax.nn.softplus(logits[path]) for path in paths]
    return sum((_sum(term) for term in terms), start=jnp.zeros(()))


def kl_from_prior(gaussian: Gaussian) -> Float[Array, " batch"]:
    """Returns KL(q || N(0, I)) in nats, summed over all channels of all weights."""
    terms = jax.tree.map(
        lambda mean, log_variance: _sum(0.5 * (mean**2 + jnp.exp(log_variance) - 1 - log_variance)),
        gaussian.mean,
        gaussian.log_variance,
    )
    return sum(jax.tree.leaves(terms), start=jnp.zeros(()))


def elbo(
    params: CvaeParams,
    key: PRNGKeyArray,
    weights: Features,
    mask: Features,
    *,
    space: WeightSpace,
    spec: CvaeSpec,
) -> tuple[Float[Array, " batch"], Float[Array, " batch"]]:
    """Returns the two terms of the ELBO: E_q log p(M | U_0, Z), by one draw of Z, and the KL.

    Source: Zhou et al. (2023a), Sec. 3.3.
    """
    posterior = encode(params, weights, mask, space=space, spec=spec)
    logits = decode(params, weights, sample(key, posterior), space=space, spec=spec)
    return log_likelihood(logits, mask, space=space), kl_from_prior(posterior)


def _sum(x: Float[Array, "batch ..."]) -> Float[Array, " batch"]:
    return jnp.sum(x, axis=range(1, x.ndim))


def _encoder(spec: CvaeSpec) -> StackSpec:
    return _stack(spec, 2 * spec.latent_channels)


def _decoder(spec: CvaeSpec) -> StackSpec:
    return _stack(spec, 1)


def _stack(spec: CvaeSpec, outputs: int) -> StackSpec:
    return StackSpec(
        kind=spec.kind,
        widths=(spec.channels,) * spec.num_layers + (outputs,),
        layer_norm=spec.layer_norm,
        linear_output=True,
        dtype=spec.dtype,
        remat=spec.remat,
    )
