"""Predictors of accuracy: equivariant stack, pool and head; and STATNN, which reads statistics."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from common.networks import from_linen
from nfn import encodings, features
from nfn.readers import MLP
from nfn.stack import StackSpec, linear_trunk
from nfn.statistics import PER_TENSOR, tensor_statistics
from nfn.tasks.accuracy import Predictor, trunk_predictor
from nfn.weights import Params, WeightSpace


class PredictorSpec(NamedTuple):
    """Sizes of a predictor.

    Attributes:
        kind: np, hnp (equivariant layers of the full and of the hidden group), statnn.
        widths: Channels per weight after every equivariant layer.
        head_widths: Hidden widths of the MLP after the pool, or of STATNN.
        head_dropout: Dropout rate in that MLP.
        dtype: Compute type of the equivariant layers, "float32" or "bfloat16".
    """

    kind: str
    widths: tuple[int, ...]
    head_widths: tuple[int, ...]
    head_dropout: float
    dtype: str


def predictor(space: WeightSpace, spec: PredictorSpec) -> Predictor:
    """Returns the predictor of `spec`, invariant under permutations of hidden neurons.

    Source: Zhou et al. (2023a), App. D.1 and Table 12. NP adds learned codes of inputs and
    outputs; the head is three dense layers, STATNN the same on its statistics.
    """
    if spec.kind == "statnn":
        return _statnn(space, spec)
    sizes = StackSpec(
        kind=spec.kind,
        widths=tuple(spec.widths),
        io="learned" if spec.kind == "np" else "none",
        dtype=spec.dtype,
    )
    return trunk_predictor(
        linear_trunk(space, sizes),
        head_widths=tuple(spec.head_widths),
        head_dropout=spec.head_dropout,
    )


def _statnn(space: WeightSpace, spec: PredictorSpec) -> Predictor:
    """Returns an MLP on seven numbers per tensor."""
    network = from_linen(
        MLP(tuple(spec.head_widths), 1, spec.head_dropout),
        jax.ShapeDtypeStruct((1, PER_TENSOR * len(space.tensors)), jnp.float32),
    )

    def read(weights: Params) -> features.Features:
        x = features.features_from_params(space, weights)
        return {"statistics": tensor_statistics(x, space=space)}

    def apply(
        params: Params,
        weights: Params,
        statistics: encodings.NormalizationStatistics,
        key: PRNGKeyArray | None = None,
    ) -> Float[Array, " batch"]:
        x = encodings.normalize(statistics, read(weights))["statistics"]
        dropout = {} if key is None else {"train": True, "rngs": {"dropout": key}}
        return network.apply(params, x, **dropout)[:, 0]

    def statistics(weights: Params) -> encodings.NormalizationStatistics:
        rows = read(weights)["statistics"]
        spread = jnp.std(rows, axis=0)
        return encodings.NormalizationStatistics(
            {"statistics": jnp.mean(rows, axis=0)},
            {"statistics": jnp.where(spread < 1e-5, 1, spread)},
        )

    return Predictor(network.init, apply, statistics)
