"""Convolutions and pooling of images [c, h, w, n], the batch last: for few channels on a CPU.

A convolution is a copy of shifted images, whole rows of the batch at a time, and one product of
matrices; everything else runs over numbers that lie side by side. XLA:CPU has convolutions of
[n, h, w, c], which are fast where channels are many. With 16 or fewer, and slices of the batch that
stay in the processor's cache, a network of these takes two thirds of the time
(results/landscape_vs_torch.json). Their derivatives are not faster than others.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def convolution(
    x: Float[Array, "c_in h w n"], kernel: Float[Array, "k k c_in c_out"], stride: int = 1
) -> Float[Array, "c_out h_out w_out n"]:
    """Returns images convolved with square filters, with zeros around: h_out = ⌈h / stride⌉."""
    k, _, c_in, c_out = kernel.shape
    out = [-(-size // stride) for size in x.shape[1:3]]
    total = [max((m - 1) * stride + k - size, 0) for m, size in zip(out, x.shape[1:3], strict=True)]
    pads = [(0, 0), *((t // 2, t - t // 2) for t in total), (0, 0)]
    # Behind a barrier: XLA would compute what comes before anew for every shift.
    padded = jnp.pad(jax.lax.optimization_barrier(x), pads)
    reach = [stride * (m - 1) + 1 for m in out]
    shifted = [
        padded[:, i : i + reach[0] : stride, j : j + reach[1] : stride]
        for i in range(k)
        for j in range(k)
    ]
    columns = jnp.concatenate(shifted).reshape(k * k * c_in, -1)
    return (kernel.reshape(-1, c_out).T @ columns).reshape(c_out, *out, -1)


def mean_pool(x: Float[Array, "c h w n"], size: int = 2) -> Float[Array, "c h_out w_out n"]:
    """Returns means over squares of pixels; what is left over at the ends is dropped.

    Raises:
        ValueError: If an image is smaller than such a square.
    """
    c, h, w, n = x.shape
    if min(h, w) < size:
        raise ValueError(f"images of {h} x {w} pixels, pooled over {size} x {size}")
    rows, columns = h // size, w // size
    x = x[:, : rows * size, : columns * size]
    return jnp.mean(x.reshape(c, rows, size, columns, size, n), axis=(2, 4))
