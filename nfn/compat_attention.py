"""Exchange with the authors' PyTorch package `nfn` 0.1.2: attention and learned encodings.

States, spaces and features are those of `nfn.compat`.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from nfn.attention import SHARED, AttentionParams
from nfn.compat import package_chain
from nfn.compat_state import State, entry
from nfn.encodings import LearnedEncodingParams
from nfn.layers import LinearParams
from nfn.weights import INPUT, OUTPUT, TensorSpec, WeightSpace


def attention_from_package(
    state: State, space: WeightSpace, *, use_neurons: bool = True, use_tensors: bool = True
) -> AttentionParams:
    """Returns the parameters of `attention` that compute what an NPAttention computes.

    The package applies the map back to a kernel to its terms one by one: to two inside neuron
    layers (rows and columns) and to one among tensors. So it adds its bias up to three times; our
    bias is the sum, and the parameters are for `attention` with the same terms.

    Args:
        state: State of NPAttention, with shared or separate projections.
        space: The full space.
        use_neurons: Whether it has the terms inside neuron layers (not `ablate_crossterm`).
        use_tensors: Whether it has the term among tensors (not `ablate_diagonalterm`).

    Raises:
        ValueError: If `space` is no chain of layers with biases, or `state` does not fit it.
    """
    num_terms = 2 * use_neurons + use_tensors
    chain = package_chain(space)
    if "to_qkv.linear.weight" in state:
        c = entry(state, "to_qkv.linear.weight").shape[-1]
        matrix, bias = _map(state, "to_qkv", (c, 3 * c))
        return AttentionParams(LinearParams({SHARED: matrix}, {SHARED: bias}), LinearParams({}, {}))
    qkv, output = LinearParams({}, {}), LinearParams({}, {})
    c = entry(state, "bias_to_qkv.0.linear.weight").shape[-1]
    for i, (kernel, bias) in enumerate(zip(chain.kernels, chain.biases, strict=True)):
        size = c * kernel.multiplicity
        path = bias.path
        qkv.matrices[path], qkv.biases[path] = _map(state, f"bias_to_qkv.{i}", (c, 3 * c))
        path = kernel.path
        matrix, qkv.biases[path] = _map(state, f"weight_to_qkv.{i}", (size, 3 * c))
        order = _package_order(kernel, size)
        qkv.matrices[path] = matrix[order]
        matrix, shift = _map(state, f"unproject_weight.{i}", (c, size))
        output.matrices[path], output.biases[path] = matrix[:, order], num_terms * shift[order]
    return AttentionParams(qkv, output)


def learned_encoding_from_package(state: State, space: WeightSpace) -> LearnedEncodingParams:
    """Returns the parameters of `learned_encoding` held by a LearnedPosEmbedding.

    Raises:
        ValueError: If `space` is no chain of layers with biases, or `state` does not fit it.
    """
    chain, kinds = package_chain(space), ("weight", "bias")
    rows = dict(weight=len(chain.kernels), bias=len(chain.kernels))
    rows |= dict(inp=chain.kernels[0].shape[-2], out=chain.kernels[-1].shape[-1])
    tables = {f"{kind}_emb.weight": entry(state, f"{kind}_emb.weight") for kind in rows}
    for kind, size in rows.items():
        found = tables[f"{kind}_emb.weight"].shape
        if len(found) != 2 or found[0] != size:
            raise ValueError(f"{kind}_emb.weight: shape {found}, expected {size} rows (rows, c)")
    tables = {name: jnp.asarray(table) for name, table in tables.items()}
    tensors = {
        spec.path: tables[f"{kind}_emb.weight"][i]
        for kind, specs in zip(kinds, (chain.kernels, chain.biases), strict=True)
        for i, spec in enumerate(specs)
    }
    neurons = {INPUT: tables["inp_emb.weight"], OUTPUT: tables["out_emb.weight"]}
    return LearnedEncodingParams(tensors, neurons)


def _map(state: State, module: str, shape: tuple[int, int]) -> tuple[Array, Array]:
    """Returns matrix (in, out) and bias of a ChannelLinear."""
    weight, bias = (entry(state, f"{module}.linear.{name}") for name in ("weight", "bias"))
    if weight.shape != shape[::-1] or bias.shape != shape[1:]:
        raise ValueError(
            f"{module}.linear: weight {weight.shape} and bias {bias.shape}, expected {shape[::-1]} "
            f"and {shape[1:]}"
        )
    return jnp.asarray(weight.T), jnp.asarray(bias)


def _package_order(spec: TensorSpec, size: int) -> np.ndarray:
    """Returns the place of our folded channels among the package's, which are (c, *filter)."""
    return np.arange(size).reshape(-1, spec.multiplicity).T.reshape(-1)
