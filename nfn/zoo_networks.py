"""The small networks of a zoo: strided 3x3 convolutions, global average pool, dense layers; MLPs.

Sizes are those of `nfn.weights.cnn_space`: `channels` before the first and after every convolution,
`dense` widths after the pool. Without convolutions, channels = (n_0,), they are an MLP. Params are
those of the Flax module with the same layers: {"Conv_0": {"kernel", "bias"}, ..., "Dense_0": ...}.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from nfn.weights import WeightSpace, cnn_space

NetworkParams = dict[str, dict[str, Float[Array, "..."]]]
Activation = Callable[[jax.Array], jax.Array]
Dropout = Callable[[int, jax.Array], jax.Array]  # number of the hidden layer, its output

FILTER, STRIDE = 3, 2


def network_space(*, channels: Sequence[int], dense: Sequence[int]) -> WeightSpace:
    """Returns the weight space of these networks, all neurons permutable."""
    filters = ((FILTER, FILTER),) * (len(channels) - 1)
    return cnn_space(channels=channels, filters=filters, dense=dense)


def init_network(
    key: PRNGKeyArray,
    *,
    channels: Sequence[int],
    dense: Sequence[int],
    scale: float | jax.Array = 1.0,
) -> NetworkParams:
    """Draws kernels ~ N(0, scale^2 2 / fan_in), biases 0.

    Source: Unterthiner et al. (2020), App. A, where `scale` varies.
    """
    space = network_space(channels=channels, dense=dense)
    params: dict[str, Any] = {}
    for k, spec in zip(jax.random.split(key, len(space.tensors)), space.tensors, strict=True):
        layer, _, leaf = spec.path.partition("/")
        value = jnp.zeros(spec.shape)
        if leaf == "kernel":
            fan_in = value.size // spec.shape[-1]
            value = scale * (2 / fan_in) ** 0.5 * jax.random.normal(k, spec.shape)
        params.setdefault(layer, {})[leaf] = value
    return params


def network(
    params: NetworkParams,
    x: Float[Array, "b h w c"] | Float[Array, "b n"],
    *,
    activation: Activation,
    dropout: Dropout = lambda layer, h: h,
) -> Float[Array, "b outputs"]:
    """Returns the logits of images, of which `patches` are taken once and not in every step.

    Args:
        params: One network.
        x: For a CNN the `patches` of images, for an MLP vectors.
        activation: After every layer but the last.
        dropout: Applied to every hidden layer [b, (h, w,) c], after the activation.
    """
    num_convs = sum(name.startswith("Conv_") for name in params)
    num_dense = len(params) - num_convs
    for i in range(num_convs):
        x = _affine(params[f"Conv_{i}"], patches(x) if i else x)
        x = dropout(i, activation(x))
    if num_convs:
        x = jnp.mean(x, axis=(-3, -2))
    for i in range(num_dense):
        x = _affine(params[f"Dense_{i}"], x)
        if i < num_dense - 1:
            x = dropout(num_convs + i, activation(x))
    return x


def patches(x: Float[Array, "*batch h w c"]) -> Float[Array, "*batch h_out w_out 9*c"]:
    """Returns what each position of a 3x3 convolution of stride 2 with padding SAME reads.

    A convolution is then one matmul: the gradients of XLA:CPU's own convolutions are slow in a
    loop (jax issue 12868), and slower under vmap.
    """
    *batch, height, width, channels = x.shape
    rows, row_padding = _windows(height)
    columns, column_padding = _windows(width)
    padded = jnp.pad(x, (*[(0, 0)] * len(batch), row_padding, column_padding, (0, 0)))
    shifts = [(i, j) for i in range(FILTER) for j in range(FILTER)]
    parts = [
        padded[..., i : i + STRIDE * (rows - 1) + 1 : STRIDE, :, :][
            ..., :, j : j + STRIDE * (columns - 1) + 1 : STRIDE, :
        ]
        for i, j in shifts
    ]
    return jnp.concatenate(parts, axis=-1).reshape(*batch, rows, columns, len(shifts) * channels)


def _windows(size: int) -> tuple[int, tuple[int, int]]:
    """Returns how many windows there are along an axis, and the zeros before and after it."""
    count = -(-size // STRIDE)
    total = max((count - 1) * STRIDE + FILTER - size, 0)
    return count, (total // 2, total - total // 2)


def _affine(layer: dict[str, jax.Array], x: Float[Array, "*batch d"]) -> Float[Array, "*batch e"]:
    kernel = layer["kernel"].reshape(-1, layer["kernel"].shape[-1])
    # One plain matmul: XLA:CPU is slow at contractions with several row axes.
    h = (x.reshape(-1, x.shape[-1]) @ kernel).reshape(*x.shape[:-1], kernel.shape[-1])
    return h + jnp.broadcast_to(layer["bias"], h.shape)
