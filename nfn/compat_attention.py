"""Exchange with the authors' PyTorch package `nfn` 0.1.2: attention and learned encodings.

States, spaces and features are those of `nfn.compat`.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from nfn.attention import SHARED, AttentionParams
from nfn.compat import State, package_chain
from nfn.encodings import LearnedEncodingParams
from nfn.layers import LinearParams
from nfn.weights import INPUT, OUTPUT, TensorSpec, WeightSpace


def attention_from_package(state: State, space: WeightSpace) -> AttentionParams:
    """Returns the parameters of `attention` that compute what an NPAttention computes.

    The package applies the map back to a kernel to the three terms one by one and so adds its
    bias three times; our bias is the sum, the same for attention with all its terms only.
    """
    chain = package_chain(space)
    if "to_qkv.linear.weight" in state:
        matrix, bias = _map(state, "to_qkv")
        return AttentionParams(LinearParams({SHARED: matrix}, {SHARED: bias}), LinearParams({}, {}))
    qkv, output = LinearParams({}, {}), LinearParams({}, {})
    for i, (kernel, bias) in enumerate(zip(chain.kernels, chain.biases, strict=True)):
        path = bias.path
        qkv.matrices[path], qkv.biases[path] = _map(state, f"bias_to_qkv.{i}")
        path = kernel.path
        matrix, qkv.biases[path] = _map(state, f"weight_to_qkv.{i}")
        order = _package_order(kernel, len(matrix))
        qkv.matrices[path] = matrix[order]
        matrix, shift = _map(state, f"unproject_weight.{i}")
        output.matrices[path], output.biases[path] = matrix[:, order], 3 * shift[order]
    return AttentionParams(qkv, output)


def learned_encoding_from_package(state: State, space: WeightSpace) -> LearnedEncodingParams:
    """Returns the parameters of `learned_encoding` held by a LearnedPosEmbedding."""
    tables = {name: jnp.asarray(table, jnp.float32) for name, table in state.items()}
    chain, kinds = package_chain(space), ("weight", "bias")
    tensors = {
        spec.path: tables[f"{kind}_emb.weight"][i]
        for kind, specs in zip(kinds, (chain.kernels, chain.biases), strict=True)
        for i, spec in enumerate(specs)
    }
    neurons = {INPUT: tables["inp_emb.weight"], OUTPUT: tables["out_emb.weight"]}
    return LearnedEncodingParams(tensors, neurons)


def _map(state: State, module: str) -> tuple[Array, Array]:
    """Returns matrix (in, out) and bias of a ChannelLinear."""
    weight, bias = (state[f"{module}.linear.{name}"] for name in ("weight", "bias"))
    return jnp.asarray(weight.T, jnp.float32), jnp.asarray(bias, jnp.float32)


def _package_order(spec: TensorSpec, size: int) -> np.ndarray:
    """Returns the place of our folded channels among the package's, which are (c, *filter)."""
    return np.arange(size).reshape(-1, spec.multiplicity).T.reshape(-1)
