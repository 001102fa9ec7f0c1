"""Predictors of accuracy: equivariant stack, pool and head; and STATNN, which reads statistics."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from common.networks import Network, from_linen
from nfn import encodings, features
from nfn.equivariant.models import MLP, ReaderParams, invariant_reader
from nfn.equivariant.stack import StackSpec, stack_space
from nfn.statistics import PER_TENSOR, tensor_statistics
from nfn.weights import Params, WeightSpace

KINDS = ("np", "hnp", "statnn")


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


def inputs(space: WeightSpace, spec: PredictorSpec, weights: Params) -> features.Features:
    """Returns what a predictor normalizes and reads: the weights, or seven numbers per tensor."""
    if spec.kind == "statnn":
        x = features.features_from_params(space, weights)
        return {"statistics": tensor_statistics(x, space=space)}
    return features.features_from_params(stack_space(space, spec.kind), weights)


def normalization(
    space: WeightSpace, spec: PredictorSpec, weights: Params, *, normalize: bool
) -> encodings.NormalizationStatistics:
    """Returns mean and deviation of the `inputs` of a batch; 0 and 1 unless `normalize`."""
    x = inputs(space, spec, weights)
    if spec.kind == "statnn":
        rows = x["statistics"]
        spread = jnp.std(rows, axis=0)
        statistics = encodings.NormalizationStatistics(
            {"statistics": jnp.mean(rows, axis=0)},
            {"statistics": jnp.where(spread < 1e-5, 1, spread)},
        )
    else:
        inner = stack_space(space, spec.kind)
        statistics = encodings.normalization_statistics(x, space=inner)
    return statistics if normalize else encodings.no_normalization(statistics)


def predictor(space: WeightSpace, spec: PredictorSpec) -> Network:
    """Returns `apply(params, weights, statistics, key=None) -> logit of the accuracy [batch]`.

    Source: Zhou et al. (2023), App. D.1 and Table 12. NP adds learned codes of inputs and
    outputs; the head is three dense layers, STATNN the same on its statistics. Invariant under
    permutations of hidden neurons.

    Raises:
        ValueError: If `spec.kind` is unknown.
    """
    if spec.kind not in KINDS:
        raise ValueError(f"config.model.kind={spec.kind!r}: expected one of {', '.join(KINDS)}")
    if spec.kind == "statnn":
        return _statnn(space, spec)
    reader = invariant_reader(
        space,
        StackSpec(
            kind=spec.kind,
            widths=tuple(spec.widths),
            io="learned" if spec.kind == "np" else "none",
            dtype=spec.dtype,
        ),
        head_widths=tuple(spec.head_widths),
        num_outputs=1,
        head_dropout=spec.head_dropout,
    )

    def apply(
        params: ReaderParams,
        weights: Params,
        statistics: encodings.NormalizationStatistics,
        key: PRNGKeyArray | None = None,
    ) -> Float[Array, " batch"]:
        x = encodings.normalize(statistics, inputs(space, spec, weights))
        return reader.apply(params, x, None, key)[:, 0]

    return Network(reader.init, apply)


def _statnn(space: WeightSpace, spec: PredictorSpec) -> Network:
    network = from_linen(
        MLP(tuple(spec.head_widths), 1, spec.head_dropout),
        jax.ShapeDtypeStruct((1, PER_TENSOR * len(space.tensors)), jnp.float32),
    )

    def apply(
        params: Params,
        weights: Params,
        statistics: encodings.NormalizationStatistics,
        key: PRNGKeyArray | None = None,
    ) -> Float[Array, " batch"]:
        x = encodings.normalize(statistics, inputs(space, spec, weights))["statistics"]
        dropout = {} if key is None else {"train": True, "rngs": {"dropout": key}}
        return network.apply(params, x, **dropout)[:, 0]

    return Network(network.init, apply)
