"""Winning tickets: magnitude pruning and training of masked networks, many at a time.

A network is an MLP or a CNN in the params of Flax, {"Dense_0": {"kernel", "bias"}, ...}, as
`nfn.weights.cnn_space` describes it. A mask is a tree of the same shape with entries 0 and 1.
Kernels are pruned, biases never: they are few, and start at 0. Every function is about one
network; `over_members` maps it over stacks with leaves [n, ...].
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import traverse_util
from jax import lax
from jax.sharding import PartitionSpec
from jaxtyping import Array, Float, Int, PRNGKeyArray

from nfn.weights import Params, WeightSpace

PyTree = Any
Mask = dict[str, Any]
SCOPES = ("global", "layer")


class Recipe(NamedTuple):
    """How every network is trained: Adam on the cross-entropy of random batches."""

    steps: int
    batch_size: int
    learning_rate: float


def init_network(key: PRNGKeyArray, *, space: WeightSpace) -> Params:
    """Draws kernels from N(0, 2 / (fan_in + fan_out)); biases are 0.

    Source: Frankle & Carbin (2019), Sec. 1 (Gaussian Glorot).
    """
    leaves = {}
    for k, spec in zip(jax.random.split(key, len(space.tensors)), space.tensors, strict=True):
        leaves[spec.path] = jnp.zeros(spec.shape)
        if is_kernel(spec.path):
            fans = math.prod(spec.shape[:-2]) * (spec.shape[-2] + spec.shape[-1])
            leaves[spec.path] = math.sqrt(2 / fans) * jax.random.normal(k, spec.shape)
    return traverse_util.unflatten_dict(leaves, sep="/")


def network(params: Params, images: Float[Array, "batch h w c"]) -> Float[Array, "batch classes"]:
    """Returns the logits: convolutions of stride 2, mean over the map, dense layers; ReLU between.

    Without convolutions the first dense layer reads the flat image.
    """
    x = images
    convs = [name for name in params if name.startswith("Conv_")]
    for i in range(len(convs)):
        kernel, bias = params[f"Conv_{i}"]["kernel"], params[f"Conv_{i}"]["bias"]
        labels = ("NHWC", "HWIO", "NHWC")
        x = lax.conv_general_dilated(x, kernel, (2, 2), "SAME", dimension_numbers=labels)
        x = jax.nn.relu(x + jnp.broadcast_to(bias, x.shape))
    x = jnp.mean(x, axis=(1, 2)) if convs else x.reshape(len(x), -1)
    for i in range(len(params) - len(convs)):
        kernel, bias = params[f"Dense_{i}"]["kernel"], params[f"Dense_{i}"]["bias"]
        x = (jax.nn.relu(x) if i else x) @ kernel
        x = x + jnp.broadcast_to(bias, x.shape)
    return x


def train(
    key: PRNGKeyArray,
    params: Params,
    mask: Mask,
    images: Float[Array, "n h w c"],
    labels: Int[Array, " n"],
    *,
    recipe: Recipe,
) -> Params:
    """Returns `params` * `mask`, trained; what the mask leaves out stays exactly 0.

    The batch of step i holds `batch_size` examples drawn with the key into which i is folded.

    Raises:
        ValueError: If there is not one label an image.
    """
    if len(labels) != len(images):
        raise ValueError(f"{len(images)} images and {len(labels)} labels; expected one an image")
    optimizer = optax.adam(recipe.learning_rate)

    def loss(params: Params, rows: Int[Array, " batch"]) -> jax.Array:
        logits = network(masked(params, mask), images[rows])
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels[rows]).mean()

    def step(state: tuple[Any, Any], i: jax.Array) -> tuple[tuple[Any, Any], None]:
        params, opt_state = state
        rows = jax.random.randint(jax.random.fold_in(key, i), (recipe.batch_size,), 0, len(images))
        updates, opt_state = optimizer.update(jax.grad(loss)(params, rows), opt_state)
        return (optax.apply_updates(params, updates), opt_state), None

    params = masked(params, mask)
    (params, _), _ = lax.scan(step, (params, optimizer.init(params)), jnp.arange(recipe.steps))
    return params


def accuracy(
    params: Params, images: Float[Array, "n h w c"], labels: Int[Array, " n"]
) -> Float[Array, ""]:
    """Returns the share of images that the network classifies correctly, in percent."""
    return 100.0 * jnp.mean(jnp.argmax(network(params, images), axis=-1) == labels)


def masked(params: Params, mask: Mask) -> Params:
    """Returns the entries of `params` that the mask keeps, 0 elsewhere."""
    return jax.tree.map(lambda p, m: p * m.astype(p.dtype), params, mask)


def sparsity_of(mask: Mask) -> Float[Array, ""]:
    """Returns the share of kernel entries that a mask, or a stack of masks, leaves out."""
    kernels = kernels_of(mask)
    return 1 - jnp.sum(jnp.array([jnp.mean(m) * m.size for m in kernels])) / sum(
        m.size for m in kernels
    )


def full_mask(params: Params) -> Mask:
    """Returns the mask that keeps everything."""
    return jax.tree.map(lambda p: jnp.ones(p.shape, bool), params)


def keep_top(scores: Params, *, sparsity: float, scope: str = "global") -> Mask:
    """Returns the mask of the kernel entries with the highest scores, and of all biases.

    Of n entries it keeps exactly `num_kept(n, sparsity)`; ties go to the earlier entry.

    Args:
        scores: One number for every weight.
        sparsity: Share of the kernel entries that are pruned.
        scope: "global": the highest of all kernels together; "layer": of every kernel.

    Raises:
        ValueError: If sparsity or scope are not allowed.
    """
    if not 0 <= sparsity < 1 or scope not in SCOPES:
        raise ValueError(
            f"sparsity={sparsity}, scope={scope!r}: expected 0 <= sparsity < 1, scope in {SCOPES}"
        )
    leaves: dict[str, Any] = traverse_util.flatten_dict(scores, sep="/")
    kernels = {path: leaf for path, leaf in leaves.items() if is_kernel(path)}
    mask = {path: jnp.ones(leaf.shape, bool) for path, leaf in leaves.items()}
    if scope == "layer":
        mask |= {path: _top(leaf.reshape(-1), sparsity) for path, leaf in kernels.items()}
    else:
        flat = _top(jnp.concatenate([leaf.reshape(-1) for leaf in kernels.values()]), sparsity)
        ends = np.cumsum([leaf.size for leaf in kernels.values()])
        mask |= dict(zip(kernels, jnp.split(flat, ends[:-1]), strict=True))
    shaped = {path: m.reshape(leaves[path].shape) for path, m in mask.items()}
    return traverse_util.unflatten_dict(shaped, sep="/")


def num_kept(n: int, sparsity: float) -> int:
    """Returns how many of n entries a mask of this sparsity keeps, at least one."""
    return max(1, round((1 - sparsity) * n))


def random_mask(key: PRNGKeyArray, params: Params, *, sparsity: float, scope: str) -> Mask:
    """Returns a mask like that of `keep_top`, of entries that chance has chosen."""
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(key, len(leaves))
    scores = [jax.random.uniform(k, leaf.shape) for k, leaf in zip(keys, leaves, strict=True)]
    return keep_top(jax.tree.unflatten(tree, scores), sparsity=sparsity, scope=scope)


def magnitude_ticket(
    key: PRNGKeyArray,
    params: Params,
    images: Float[Array, "n h w c"],
    labels: Int[Array, " n"],
    *,
    recipe: Recipe,
    sparsity: float,
    scope: str = "global",
    rounds: int = 1,
) -> Mask:
    """Returns the ticket of a network that starts at `params`: train, prune, rewind, repeat.

    Source: Frankle & Carbin (2019), Sec. 2, iterative magnitude pruning. Every round keeps the
    same share of what is left; Zhou et al. (2023a), Sec. 3.3, make one round.
    """
    mask = full_mask(params)
    for i in range(rounds):
        trained = train(jax.random.fold_in(key, i), params, mask, images, labels, recipe=recipe)
        share = (1 - sparsity) ** ((i + 1) / rounds)
        # Pruned weights score below those that are left, which may be 0 themselves.
        scores = jax.tree.map(lambda p, m: jnp.where(m, jnp.abs(p), -1.0), trained, mask)
        mask = keep_top(scores, sparsity=1 - share, scope=scope)
    return mask


def overlap(mask: Mask, other: Mask) -> Float[Array, ""]:
    """Returns which share of the kernel entries that `other` keeps `mask` keeps too, in percent."""
    pairs = list(zip(kernels_of(mask), kernels_of(other), strict=True))
    both = jnp.array([jnp.sum(a & b) for a, b in pairs])
    return 100.0 * jnp.sum(both) / jnp.sum(jnp.array([jnp.sum(b) for _, b in pairs]))


def kernels_of(tree: Params) -> list[Any]:
    """Returns the leaves that can be pruned, in order of their paths."""
    leaves = traverse_util.flatten_dict(tree, sep="/")
    return [leaves[path] for path in sorted(leaves) if is_kernel(path)]


def over_members(
    function: Callable[[PyTree, PyTree], PyTree], stacked: PyTree, shared: PyTree, *, chunk: int = 1
) -> PyTree:
    """Returns `function(member, shared)` for every member of a stack, leaves [n, ...].

    Members are split over all devices of the mesh under which this is traced (`jax.set_mesh`), and
    on each device taken `chunk` at a time; the stack is filled up with copies of its first members.

    Args:
        function: Of one member and of what all share; pure.
        stacked: Leaves [n, ...], also typed keys.
        shared: Arrays such as the images, whole on every device.
        chunk: Members under one `jax.vmap`.
    """

    def local(stacked: PyTree, shared: PyTree) -> PyTree:
        return lax.map(lambda member: function(member, shared), stacked, batch_size=chunk)

    mesh = jax.sharding.get_abstract_mesh()
    n = jax.tree.leaves(stacked)[0].shape[0]
    if mesh.empty:
        return local(stacked, shared)
    padded = np.arange(-(-n // mesh.size) * mesh.size) % n
    split, whole = PartitionSpec(mesh.axis_names), PartitionSpec()
    # check_vma: Adam's zero moments start equal on all devices, then differ.
    mapped = jax.shard_map(local, in_specs=(split, whole), out_specs=split, check_vma=False)
    results = mapped(jax.tree.map(lambda leaf: leaf[padded], stacked), shared)
    return jax.tree.map(lambda leaf: leaf[:n], results)


def _top(scores: Float[Array, " n"], sparsity: float) -> Array:
    order = jnp.argsort(-scores, stable=True)
    return jnp.zeros(scores.shape, bool).at[order[: num_kept(len(scores), sparsity)]].set(True)


def is_kernel(path: str) -> bool:
    """Returns whether the tensor of this path can be pruned."""
    return path.endswith("kernel")
