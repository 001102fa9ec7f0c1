"""Which parameters a data set asks to change: relative gradient norms, signal to noise, Fisher.

    rgn = averaged(relative_gradient_norm, loss, params, batches, blocks)
    rates = normalized(rgn.tensors)                       # Auto-RGN: multiplies the learning rate
    moments = example_moments(loss, params, examples, chunk=50)
    snr, information = example_snr(moments, blocks), fisher(moments, blocks)

Every criterion has a number for each leaf and one for each block. All is pure.
"""

import re
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from common.precision import wide, widened
from finetune.blocks import Blocks, leaf_paths, over_blocks
from finetune.tuning import Loss

PyTree = Any

GRANULARITIES = ("tensor", "block", "matrix")
FLOOR = 1e-8  # root mean square that a tensor is taken to have at least
NORMS = r"(^|/)[^/]*(norm|bn)[^/]*/"  # modules that the released code leaves out


class Profile(NamedTuple):
    """What a criterion says of a network.

    Attributes:
        tensors: A tree with a number at every leaf.
        blocks: Of every block, in their order.
    """

    tensors: PyTree
    blocks: Float[Array, " blocks"]


class Moments(NamedTuple):
    """Gradients of single examples.

    Attributes:
        mean: Tree of their means.
        variance: Tree of their variances, unbiased.
        count: How many.
    """

    mean: PyTree
    variance: PyTree
    count: Array


Criterion: TypeAlias = Callable[[PyTree, PyTree, Blocks], Profile]  # (grads, params, blocks)


def relative_gradient_norm(
    grads: PyTree, params: PyTree, blocks: Blocks, *, floor: float = FLOOR
) -> Profile:
    """Returns |g| / |theta|, L2 norms of every tensor and of every block.

    Source: Lee et al. (2023): relative gradient norm (Auto-RGN), by tensor as in the released code.

    Args:
        grads: Gradient of a batch.
        params: Where it was taken.
        blocks: Groups.
        floor: A tensor, or block, has a root mean square of this at least. A bias that starts at 0
            would have an infinite ratio, and with a small floor still takes the maximum.
    """
    squares = [jnp.sum(jnp.square(g)) for g in jax.tree.leaves(widened(grads))]
    of_params = [jnp.sum(jnp.square(p)) for p in jax.tree.leaves(widened(params))]
    sizes = [np.size(p) for p in jax.tree.leaves(params)]

    def ratio(square: Array, of_param: Array, size: int) -> Array:
        return jnp.sqrt(square) / jnp.maximum(jnp.sqrt(of_param), floor * size**0.5)

    tensors = map(ratio, squares, of_params, sizes)
    of_blocks = [
        ratio(sum_of(squares, group), sum_of(of_params, group), sum(sizes[i] for i in group))
        for group in members(params, blocks)
    ]
    return Profile(jax.tree.unflatten(jax.tree.structure(params), tensors), jnp.stack(of_blocks))


def output_axis_snr(
    grads: PyTree, params: PyTree, blocks: Blocks, *, epsilon: float = 1e-8
) -> Profile:
    """Returns the mean of g^2 / (variance of g over output channels + epsilon), by tensor.

    Source: Lee et al. (2023): Auto-SNR as in the released code, whose variance is over the first
    axis of a tensor and not over examples.

    Outputs are the first axis there and the last one here. The variance is unbiased: with one
    output it is NaN, as there, and a NaN is over no threshold. A block has the mean over the
    entries of its tensors that are not NaN.
    """
    del params
    values = [
        jnp.square(g) / (jnp.var(g, axis=-1, ddof=1, keepdims=True) + epsilon)
        if g.ndim and g.shape[-1] > 1
        else jnp.full(g.shape, jnp.nan)
        for g in jax.tree.leaves(widened(grads))
    ]
    return of_entries(values, grads, blocks)


def averaged(
    criterion: Criterion, loss: Loss, params: PyTree, batches: PyTree, blocks: Blocks
) -> Profile:
    """Returns a criterion's mean over batches, of the gradient of each.

    Source: Lee et al. (2023): released code: an average over 5 batches, before every epoch.

    Args:
        criterion: Such as `relative_gradient_norm`.
        loss: (params, batch) -> mean over the batch.
        params: Where gradients are taken.
        batches: Arrays [batches, batch, ...].
        blocks: Groups.
    """

    def of_batch(batch: PyTree) -> Profile:
        return criterion(jax.grad(loss)(params, batch), params, blocks)

    return jax.tree.map(lambda x: jnp.mean(x, axis=0), jax.lax.map(of_batch, batches))


def example_moments(loss: Loss, params: PyTree, examples: PyTree, *, chunk: int = 1) -> Moments:
    """Returns mean and variance of the gradients of single examples.

    Args:
        loss: (params, batch) -> mean over the batch; its batches have one example here.
        params: Where gradients are taken.
        examples: Arrays with the examples along their first axis.
        chunk: Gradients in memory at a time, a divisor of the number of examples. On CPUs 1 is
            fastest for convolutions, many for dense networks.

    Raises:
        ValueError: If there are fewer than two examples, or `chunk` does not divide their number.
    """
    count = len(jax.tree.leaves(examples)[0])
    if count < 2 or chunk < 1 or count % chunk:
        raise ValueError(
            f"example_moments: {count} examples, chunk={chunk}; expected 2 examples or more and a "
            "chunk that divides their number"
        )

    def gradient(example: PyTree) -> PyTree:
        batch = jax.tree.map(lambda x: x[None], example)
        return widened(jax.grad(loss)(params, batch))

    def merge(total: tuple[PyTree, PyTree, Array], part: PyTree) -> tuple[Any, None]:
        mean, square, seen = total
        grads = jax.vmap(gradient)(part) if chunk > 1 else _single(gradient, part)
        of_part = jax.tree.map(lambda g: jnp.mean(g, axis=0), grads)
        spread = jax.tree.map(lambda g, m: jnp.sum(jnp.square(g - m[None]), axis=0), grads, of_part)
        shift = jax.tree.map(jnp.subtract, of_part, mean)
        share = chunk / (seen + chunk)
        mean = jax.tree.map(lambda m, d: m + share * d, mean, shift)
        square = jax.tree.map(lambda s, t, d: s + t + seen * share * d**2, square, spread, shift)
        return (mean, square, seen + chunk), None

    zeros = jax.tree.map(lambda p: jnp.zeros(p.shape, wide(p.dtype)), params)
    parts = jax.tree.map(lambda x: x.reshape(-1, chunk, *x.shape[1:]), examples)
    (mean, square, seen), _ = jax.lax.scan(merge, (zeros, zeros, jnp.float32(0)), parts)
    return Moments(mean, jax.tree.map(lambda s: s / (count - 1), square), seen)


def _single(gradient: Callable[[PyTree], PyTree], part: PyTree) -> PyTree:
    """Returns the gradient of the one example of a chunk, without `vmap` over a kernel's."""
    found = gradient(jax.tree.map(lambda x: x[0], part))
    return jax.tree.map(lambda g: g[None], found)


def example_snr(moments: Moments, blocks: Blocks, *, epsilon: float = 1e-8) -> Profile:
    """Returns the squared mean gradient over its variance across examples, averaged over entries.

    Source: Lee et al. (2023): Auto-SNR by its definition in the paper, across data points.
    """
    ratio = jax.tree.map(lambda m, v: jnp.square(m) / (v + epsilon), moments.mean, moments.variance)
    return of_entries(jax.tree.leaves(ratio), moments.mean, blocks)


def fisher(moments: Moments, blocks: Blocks) -> Profile:
    """Returns the mean of squared gradients of single examples, over examples and entries.

    That is the diagonal of the empirical Fisher information, with the labels of the data.
    """
    of_square = (moments.count - 1) / moments.count
    second = jax.tree.map(
        lambda m, v: jnp.square(m) + of_square * v, moments.mean, moments.variance
    )
    return of_entries(jax.tree.leaves(second), moments.mean, blocks)


def normalized(values: PyTree) -> PyTree:
    """Returns non-negative values over the largest of them, in [0, 1].

    Source: Lee et al. (2023): released code: weights are RGN over its maximum.
    """
    top = jnp.max(jnp.stack([jnp.max(x) for x in jax.tree.leaves(values)]))
    return jax.tree.map(lambda x: x / jnp.maximum(top, jnp.finfo(x.dtype).tiny), values)


def relative_to(profile: Profile, reference: Profile) -> Profile:
    """Returns a profile over that of other data, each normalized: what a shift changes.

    With the clean data of training as reference it says which blocks the shift asks for.
    """

    def ratio(ours: Array, theirs: Array) -> Array:
        return ours / jnp.maximum(theirs, jnp.finfo(theirs.dtype).eps)

    return jax.tree.map(
        ratio, Profile(*map(normalized, profile)), Profile(*map(normalized, reference))
    )


def rates_of(
    profile: Profile,
    params: PyTree,
    blocks: Blocks,
    *,
    granularity: str = "tensor",
    left_out: str = NORMS,
) -> PyTree:
    """Returns what multiplies the learning rate of every leaf: the profile over its maximum.

    Source: Lee et al. (2023): Auto-RGN; "tensor" is the released code, whose normalizations rest.

    Args:
        profile: Of the network.
        params: Its parameters.
        blocks: Its groups.
        granularity: "tensor": by leaf; "matrix": by leaf, those with one axis at most rest;
            "block": by block, all leaves of it alike.
        left_out: Expression for paths of leaves that rest, "" for none. Of "tensor" and "matrix".

    Raises:
        ValueError: If there is no such granularity, or every leaf is left out.
    """
    check_granularity(granularity)
    if granularity == "block":
        return over_blocks(params, blocks, normalized(profile.blocks))
    is_used = counted(params, left_out=left_out, only_matrices=granularity == "matrix")
    return normalized(
        jax.tree.map(lambda x, used: x if used else jnp.zeros_like(x), profile.tensors, is_used)
    )


def check_granularity(granularity: str) -> None:
    """Refuses a word that is no granularity.

    Raises:
        ValueError: With those that are.
    """
    if granularity not in GRANULARITIES:
        allowed = ", ".join(GRANULARITIES)
        raise ValueError(f"granularity={granularity!r}; expected one of {allowed}")


def counted(params: PyTree, *, left_out: str = NORMS, only_matrices: bool = False) -> PyTree:
    """Returns a mask of the leaves that a criterion by tensor is about.

    Raises:
        ValueError: If it leaves all of them out.
    """
    flags = [
        not (left_out and re.search(left_out, path)) and not (only_matrices and np.ndim(leaf) < 2)
        for path, leaf in zip(leaf_paths(params), jax.tree.leaves(params), strict=True)
    ]
    if not any(flags):
        raise ValueError(f"left_out={left_out!r}: leaves out every leaf; expected one to stay")
    return jax.tree.unflatten(jax.tree.structure(params), flags)


def members(params: PyTree, blocks: Blocks) -> tuple[tuple[int, ...], ...]:
    """Returns the numbers of the leaves of every block, in the order of `jax.tree.leaves`."""
    number = {path: i for i, path in enumerate(leaf_paths(params))}
    return tuple(tuple(number[path] for path in paths) for paths in blocks.paths)


def sum_of(values: list[Array], group: tuple[int, ...]) -> Array:
    """Returns the sum of the values with these numbers."""
    return jnp.sum(jnp.stack([values[i] for i in group]))


def of_entries(values: list[Array], like: PyTree, blocks: Blocks) -> Profile:
    """Returns means over entries: of every leaf, and of the leaves of a block that are no NaN."""
    means = [jnp.mean(x) for x in values]
    sums = [jnp.where(jnp.isnan(m), 0.0, m * x.size) for m, x in zip(means, values, strict=True)]
    counts = [jnp.where(jnp.isnan(m), 0.0, x.size) for m, x in zip(means, values, strict=True)]
    of_blocks = [sum_of(sums, g) / jnp.maximum(sum_of(counts, g), 1) for g in members(like, blocks)]
    return Profile(jax.tree.unflatten(jax.tree.structure(like), means), jnp.stack(of_blocks))
