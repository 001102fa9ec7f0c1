"""Classifiers of weights: equivariant layers, pool and head; and the MLP that knows no symmetry."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, PRNGKeyArray

from common.networks import Network, from_linen
from nfn import encodings, features, layers
from nfn.weights import Params, WeightSpace, hidden_only

KINDS: tuple[str, ...] = ("np", "hnp", "pt", "mlp", "mlp_aug")


class ClassifierSpec(NamedTuple):
    """Sizes of a classifier of weights.

    Attributes:
        kind: np, hnp, pt (equivariant or pointwise layers), mlp, mlp_aug (flat weights).
        channels: Channels per weight of every equivariant layer.
        num_layers: Number of equivariant layers.
        frequencies: Gaussian Fourier frequencies per weight; 0: the weights themselves.
        fourier_scale: Standard deviation of these frequencies.
        io_bands: Bands of the input/output code of np and pt; 0: no code.
        io_max_frequency: Twice the highest scale of that code.
        head_widths: Hidden widths of the MLP after the pool.
        head_dropout: Dropout rate in that MLP; mlp and mlp_aug have none.
        channel_dropout: Rate at which whole channels are dropped after every layer.
        mlp_widths: Hidden widths of mlp and mlp_aug.
        dtype: Compute type of the equivariant layers, "float32" or "bfloat16".
        remat: Recompute layers in the backward pass instead of keeping their outputs.
    """

    kind: str
    channels: int
    num_layers: int
    frequencies: int
    fourier_scale: float
    io_bands: int
    io_max_frequency: float
    head_widths: tuple[int, ...]
    head_dropout: float
    channel_dropout: float
    mlp_widths: tuple[int, ...]
    dtype: str
    remat: bool


class ClassifierParams(NamedTuple):
    """Fixed Fourier frequencies, equivariant layers and head of `equivariant_classifier`."""

    fourier: encodings.FourierParams | None
    layers: tuple[layers.LinearParams, ...]
    head: Params


class MLP(nn.Module):
    """ReLU layers of the given widths with dropout, then a linear layer."""

    widths: tuple[int, ...]
    num_outputs: int
    dropout: float = 0.0

    @nn.compact
    def __call__(self, x: Float[Array, "*b n"], *, train: bool = False) -> Float[Array, "*b m"]:
        """Returns the outputs; `train` needs an RNG named "dropout" if the rate is positive."""
        for width in self.widths:
            x = nn.relu(nn.Dense(width)(x))
            x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return nn.Dense(self.num_outputs)(x)


def classifier(space: WeightSpace, spec: ClassifierSpec, *, num_classes: int) -> Network:
    """Returns the network of `spec`: `apply(params, weights, statistics, key=None) -> logits`.

    `weights` is a params tree with a leading batch axis, `statistics` are those of
    `input_space(space, kind)`; with a `key` dropout is on (and mlp_aug permutes its inputs).

    Raises:
        ValueError: If `spec.kind` is unknown.
    """
    if spec.kind in ("mlp", "mlp_aug"):
        return vector_classifier(space, spec, num_classes=num_classes)
    if spec.kind in ("np", "hnp", "pt"):
        return equivariant_classifier(space, spec, num_classes=num_classes)
    raise ValueError(f"config.model.kind={spec.kind!r}: expected one of {', '.join(KINDS)}")


def input_space(space: WeightSpace, kind: str) -> WeightSpace:
    """Returns the weight space whose features a classifier of this kind reads."""
    return hidden_only(space) if kind == "hnp" else space


def equivariant_classifier(
    space: WeightSpace, spec: ClassifierSpec, *, num_classes: int
) -> Network:
    """Returns the invariant classifier NFN_NP, NFN_HNP or NFN_PT.

    Source: Zhou et al. (2023), App. D.3 and Table 14: Fourier features, code of inputs and
    outputs (not for HNP), equivariant layers with ReLU, pool P~ (also after NP, as in the
    released code), MLP. Invariant under permutations of hidden neurons.
    """
    inner, outer = input_space(space, spec.kind), hidden_only(space)
    init_layer = layers.init_pointwise if spec.kind == "pt" else layers.init_equivariant_linear
    pooled = sum(tensor.multiplicity for tensor in outer.tensors) * spec.channels
    head = from_linen(
        MLP(spec.head_widths, num_classes, spec.head_dropout),
        jax.ShapeDtypeStruct((1, pooled), jnp.float32),
    )
    layer = _layer(inner, spec)

    def init(key: PRNGKeyArray) -> ClassifierParams:
        key_fourier, key_head, *keys = jax.random.split(key, 2 + spec.num_layers)
        sizes = [_encoded_channels(spec)] + [spec.channels] * spec.num_layers
        fourier = None
        if spec.frequencies:
            fourier = encodings.init_fourier_features(
                key_fourier, c_in=1, num_frequencies=spec.frequencies, scale=spec.fourier_scale
            )
        stack = tuple(
            init_layer(k, space=inner, c_in=c_in, c_out=c_out)
            for k, c_in, c_out in zip(keys, sizes, sizes[1:], strict=False)
        )
        return ClassifierParams(fourier, stack, head.init(key_head))

    def apply(
        params: ClassifierParams,
        weights: Params,
        statistics: encodings.NormalizationStatistics,
        key: PRNGKeyArray | None = None,
    ) -> Float[Array, "batch classes"]:
        key_head, *keys = _split(key, spec.num_layers + 1)
        x = encodings.normalize(statistics, features.features_from_params(inner, weights))
        x = _encode(params.fourier, x, inner, spec)
        for layer_params, layer_key in zip(params.layers, keys, strict=True):
            x = layer(layer_params, x, layer_key)
        x = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), x)
        pooled = layers.invariant_pool(features.refold(inner, outer, x), space=outer)
        return head.apply(params.head, pooled, **_dropout(key_head))

    return Network(init, apply)


def _uses_io(spec: ClassifierSpec) -> bool:
    return spec.kind != "hnp" and spec.io_bands > 0


def _encoded_channels(spec: ClassifierSpec) -> int:
    """Returns the channels per weight that `_encode` makes."""
    codes = 2 * spec.io_bands + 1 if _uses_io(spec) else 0
    return (2 * spec.frequencies if spec.frequencies else 1) + codes


def _encode(
    fourier: encodings.FourierParams | None,
    x: features.Features,
    space: WeightSpace,
    spec: ClassifierSpec,
) -> features.Features:
    if fourier is not None:
        x = encodings.fourier_features(fourier, x, space=space)
    if _uses_io(spec):
        x = encodings.io_encoding(
            x, space=space, num_bands=spec.io_bands, max_frequency=spec.io_max_frequency
        )
    return jax.tree.map(lambda leaf: leaf.astype(spec.dtype), x)


def _layer(space: WeightSpace, spec: ClassifierSpec) -> Callable[..., features.Features]:
    """Returns one hidden layer: linear map, ReLU, channel dropout where there is a key."""
    linear = layers.pointwise if spec.kind == "pt" else layers.equivariant_linear

    def layer(
        params: layers.LinearParams, x: features.Features, key: PRNGKeyArray | None
    ) -> features.Features:
        cast = jax.tree.map(lambda p: p.astype(spec.dtype), params)
        x = jax.tree.map(jax.nn.relu, linear(cast, x, space=space))
        if key is not None and spec.channel_dropout > 0:
            x = layers.channel_dropout(key, x, space=space, rate=spec.channel_dropout)
        return x

    return jax.checkpoint(layer) if spec.remat else layer


def vector_classifier(space: WeightSpace, spec: ClassifierSpec, *, num_classes: int) -> Network:
    """Returns the baseline MLP on the flat weights, MLP_Aug if its training inputs are permuted.

    Source: Zhou et al. (2023), App. D.3: 3 layers of 1000 units; in training MLP_Aug sees every
    network under random permutations of its hidden neurons. (The released config puts a sigmoid
    before the softmax, which weakens the baseline; not done here.)
    """
    hidden = hidden_only(space)
    network = from_linen(
        MLP(spec.mlp_widths, num_classes),
        jax.ShapeDtypeStruct((1, space.size), jnp.float32),
    )

    def apply(
        params: Params,
        weights: Params,
        statistics: encodings.NormalizationStatistics,
        key: PRNGKeyArray | None = None,
    ) -> Float[Array, "batch classes"]:
        x = encodings.normalize(statistics, features.features_from_params(space, weights))
        if key is not None and spec.kind == "mlp_aug":
            x = permute_each(key, hidden, features.refold(space, hidden, x))
            x = features.refold(hidden, space, x)
        return network.apply(params, features.vector_from_features(space, x))

    return Network(network.init, apply)


def permute_each(key: PRNGKeyArray, space: WeightSpace, x: features.Features) -> features.Features:
    """Returns every network of a batch under its own random permutation of `space`."""
    batch = jax.tree.leaves(x)[0].shape[0]

    def one(key: PRNGKeyArray, single: features.Features) -> features.Features:
        permutations = features.random_permutation(key, space)
        return features.permute_features(space, single, permutations)

    return jax.vmap(one)(jax.random.split(key, batch), x)


def _split(key: PRNGKeyArray | None, count: int) -> list[PRNGKeyArray | None]:
    """Returns `count` keys, or as many None if there is no key."""
    return [None] * count if key is None else list(jax.random.split(key, count))


def _dropout(key: PRNGKeyArray | None) -> dict[str, object]:
    return {} if key is None else {"train": True, "rngs": {"dropout": key}}
