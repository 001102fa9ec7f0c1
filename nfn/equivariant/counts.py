"""Table 1: how many parameters the equivariant layers have, counted from their pytrees."""

import math

import jax
from ml_collections import ConfigDict

from common.tables import Cell, Results, Table, Verdict
from nfn.couplings import num_constants, num_linear_parameters
from nfn.layers import init_equivariant_linear
from nfn.weights import (
    WeightSpace,
    cnn_space,
    hidden_only,
    mlp_space,
    residual_mlp_space,
    rnn_space,
)

# Row -> weight space with all neurons permutable; plain MLPs without filters first.
SPACES = {
    "MLP 2-3-2": mlp_space((2, 3, 2)),
    "MLP 2-3-3-2": mlp_space((2, 3, 3, 2)),
    "MLP 2-2-3-2-2": mlp_space((2, 2, 3, 2, 2)),
    "MLP 784-128-128-10": mlp_space((784, 128, 128, 10)),
    "SIREN 2-32-32-1": mlp_space((2, 32, 32, 1)),
    "SIREN 2-32-32-3": mlp_space((2, 32, 32, 3)),
    "CNN 1-16-16-16-10": cnn_space(
        channels=(1, 16, 16, 16), filters=((3, 3), (3, 3), (3, 3)), dense=(10,)
    ),
    "RNN 8-16-4": rnn_space((8, 16, 4)),
    "residual MLP 8-16-4, 2 blocks": residual_mlp_space(
        inputs=8, width=16, blocks=2, outputs=4, inner=32
    ),
}
COLUMNS = ("NP", "NP, predicted", "HNP", "HNP, predicted", "any linear map")


def layer_parameters(config: ConfigDict) -> dict[str, float]:
    """Returns {"row: column": count} of layers from one channel to one, with their biases.

    NP and HNP are counted in the pytrees that `init_equivariant_linear` makes; "predicted" is the
    dimension of the space of affine equivariant maps; the last column is that of all affine maps.
    """
    del config  # no training: the spaces are those of this file
    counts: dict[str, float] = {}
    for row, space in SPACES.items():
        for column, group in (("NP", space), ("HNP", hidden_only(space))):
            counts[f"{row}: {column}"] = _stored(group)
            counts[f"{row}: {column}, predicted"] = num_linear_parameters(group) + num_constants(
                group
            )
        counts[f"{row}: any linear map"] = space.size**2 + space.size
    return counts


def stored_parameters_are_the_dimension(results: Results) -> Verdict:
    """Every layer stores as many parameters as the space of equivariant maps has dimensions."""
    pairs = [
        (row, group, results[row, group].mean, results[row, f"{group}, predicted"].mean)
        for row in SPACES
        for group in ("NP", "HNP")
    ]
    wrong = [f"{row}, {group}: {a:.0f} for {b:.0f}" for row, group, a, b in pairs if a != b]
    return Verdict(not wrong, "; ".join(wrong) or f"{len(pairs)} of {len(pairs)} are equal")


def np_is_quadratic_in_depth(results: Results) -> Verdict:
    """NP layers of MLPs with L layers have 4L² + 10L - 4 parameters and 2L biases, at any width."""
    parts = []
    for row in list(SPACES)[:4]:
        depth = row.count("-")
        expected = 4 * depth**2 + 10 * depth - 4 + 2 * depth
        parts.append((results[row, "NP"].mean == expected, f"{row}: {expected}"))
    return Verdict(all(ok for ok, _ in parts), "; ".join(text for _, text in parts))


def hnp_grows_with_inputs(results: Results) -> Verdict:
    """HNP layers have more parameters than NP layers, the more so the more inputs and outputs."""
    ratios = {
        row: results[row, "HNP"].mean / results[row, "NP"].mean
        for row in ("SIREN 2-32-32-1", "SIREN 2-32-32-3", "MLP 784-128-128-10")
    }
    rising = sorted(ratios.values()) == list(ratios.values()) and min(ratios.values()) > 1
    return Verdict(rising, "; ".join(f"{row}: HNP / NP {r:.4g}" for row, r in ratios.items()))


def _stored(space: WeightSpace) -> int:
    params = jax.eval_shape(
        lambda key: init_equivariant_linear(key, space=space, c_in=1, c_out=1), jax.random.key(0)
    )
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))


TABLE_1 = Table(
    name="1",
    title="Parameters of one layer per pair of input and output channel",
    source="Zhou et al. (2023), Table 1",
    config="nfn/equivariant/configs/inr_classification.py",
    cells=tuple(
        Cell(row, column, {}, f"{row}: {column}", run="nfn.equivariant.counts:layer_parameters")
        for row in SPACES
        for column in COLUMNS
    ),
    seeds=(0,),
    claims=(stored_parameters_are_the_dimension, np_is_quadratic_in_depth, hnp_grows_with_inputs),
    unit="parameters",
    notes=(
        "The paper gives orders of growth: O(L²) for NP, O((L + n_0 + n_L)²) for HNP, dim(U)² for "
        "any linear map; these are the numbers. They depend on no seed and on no config field.",
        "tests/nfn/test_span.py checks the predicted dimensions of small spaces by brute force.",
    ),
    figures="nfn.equivariant.figures:table_1",
)
