"""Points of a weight space in two forms, both with any leading batch axes.

* params: nested dicts as Flax makes them, leaves [*batch, *shape], one number per weight;
* features: {path: [*batch, *permuted_axes, m * c]}, c channels per weight. The fixed axes of a
  tensor, of total size m, are folded into its channels: with fixed axes in the order of the
  tensor (last fastest), channel number = fixed_index * c + channel.
"""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from nfn.weights import Params, TensorSpec, WeightSpace, hidden_only, leaves_of, nested

Features = dict[str, Float[Array, "..."]]
Permutations = dict[str, Int[Array, " _"]]


def unfold(spec: TensorSpec, x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Returns one tensor's features as [*batch, *shape, c], the axes in their own order."""
    num_batch = x.ndim - len(spec.permuted) - 1
    order = spec.permuted + spec.fixed
    sizes = [spec.shape[axis] for axis in order]
    x = x.reshape(*x.shape[:num_batch], *sizes, x.shape[-1] // spec.multiplicity)
    places = range(num_batch, num_batch + len(order))
    return jnp.moveaxis(x, places, [num_batch + axis for axis in order])


def fold(spec: TensorSpec, x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Inverts `unfold`: [*batch, *shape, c] becomes [*batch, *permuted_axes, m * c]."""
    num_batch = x.ndim - len(spec.shape) - 1
    order = spec.permuted + spec.fixed
    places = range(num_batch, num_batch + len(order))
    x = jnp.moveaxis(x, [num_batch + axis for axis in order], places)
    return x.reshape(*x.shape[: num_batch + len(spec.permuted)], spec.multiplicity * x.shape[-1])


def align_rank(param: Float[Array, "..."], x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Returns `param` with leading axes of size 1, as many as `x` has more (batch and neurons)."""
    return jnp.expand_dims(param, range(x.ndim - param.ndim))


def feature_shapes(space: WeightSpace, c: int) -> dict[str, tuple[int, ...]]:
    """Returns the shape of every tensor's features with `c` channels, without batch axes."""
    return {spec.path: (*spec.permuted_shape, spec.multiplicity * c) for spec in space.tensors}


def num_channels(space: WeightSpace, features: Features) -> int:
    """Returns the number c of channels per weight.

    Raises:
        ValueError: If `features` do not belong to `space`; the message names the tensor.
    """
    if features.keys() != {spec.path for spec in space.tensors}:
        raise ValueError(
            f"features of {sorted(features)}, expected {[spec.path for spec in space.tensors]}"
        )
    first = space.tensors[0]
    c = features[first.path].shape[-1] // first.multiplicity
    for path, shape in feature_shapes(space, c).items():
        if c < 1 or features[path].shape[-len(shape) :] != shape:
            raise ValueError(
                f"{path}: features of shape {features[path].shape}, expected "
                f"[*batch, {', '.join(map(str, shape))}] for {c} channels; see `refold`"
            )
    return c


def features_from_params(space: WeightSpace, params: Params) -> Features:
    """Returns the weights as features with one channel; leaves are [*batch, *shape]."""
    leaves = _leaves(space, params)
    return {
        spec.path: fold(spec, jnp.asarray(leaves[spec.path])[..., None]) for spec in space.tensors
    }


def params_from_features(space: WeightSpace, features: Features) -> dict[str, Any]:
    """Inverts `features_from_params`.

    Raises:
        ValueError: If the features have more than one channel.
    """
    c = num_channels(space, features)
    if c != 1:
        raise ValueError(f"only features with 1 channel are weights, got {c} channels")
    return nested({spec.path: unfold(spec, features[spec.path])[..., 0] for spec in space.tensors})


def _leaves(space: WeightSpace, params: Params) -> dict[str, Any]:
    leaves = leaves_of(params)
    for path in leaves.keys() ^ {spec.path for spec in space.tensors}:
        where = "the weight space" if path in leaves else "the parameters"
        raise ValueError(f"{path}: missing in {where}")
    for spec in space.tensors:
        shape = np.shape(leaves[spec.path])
        if shape[len(shape) - len(spec.shape) :] != spec.shape:
            raise ValueError(f"{spec.path}: shape {shape}, expected [*batch, *{spec.shape}]")
    return leaves


def check_finite(space: WeightSpace, params: Params) -> None:
    """Checks weights on the host before they become data.

    Raises:
        ValueError: If a weight is not finite; the message names the tensor and how many are bad.
    """
    leaves = _leaves(space, params)
    for spec in space.tensors:
        is_bad = ~np.isfinite(np.asarray(leaves[spec.path]))
        if is_bad.any():
            raise ValueError(
                f"{spec.path}: {is_bad.sum()} of {is_bad.size} weights are not finite, the first "
                f"at index {tuple(int(i) for i in np.argwhere(is_bad)[0])}"
            )


def refold(space_from: WeightSpace, space_to: WeightSpace, features: Features) -> Features:
    """Returns the same features in the layout of a space with other groups fixed."""
    old = [(spec.path, spec.shape) for spec in space_from.tensors]
    new = [(spec.path, spec.shape) for spec in space_to.tensors]
    if old != new:
        raise ValueError(f"the spaces have different tensors: {old} and {new}")
    num_channels(space_from, features)
    return {
        spec_to.path: fold(spec_to, unfold(spec_from, features[spec_from.path]))
        for spec_from, spec_to in zip(space_from.tensors, space_to.tensors, strict=True)
    }


def concatenate(space: WeightSpace, parts: Sequence[Features]) -> Features:
    """Concatenates the channels of several features of the same batch."""
    for part in parts:
        num_channels(space, part)
    return {
        spec.path: fold(spec, jnp.concatenate([unfold(spec, p[spec.path]) for p in parts], axis=-1))
        for spec in space.tensors
    }


def vector_from_features(space: WeightSpace, features: Features) -> Float[Array, "*batch dim"]:
    """Returns all features in one vector, tensor by tensor, channels of a weight together.

    The order does not depend on which groups are fixed.
    """
    num_channels(space, features)
    unfolded = [unfold(spec, features[spec.path]) for spec in space.tensors]
    flat = [
        x.reshape(*x.shape[: x.ndim - len(spec.shape) - 1], -1)
        for spec, x in zip(space.tensors, unfolded, strict=True)
    ]
    return jnp.concatenate(flat, axis=-1)


def features_from_vector(space: WeightSpace, vector: Float[Array, "*batch dim"]) -> Features:
    """Inverts `vector_from_features`; the number of channels follows from the length."""
    *batch, dim = vector.shape
    c, rest = divmod(dim, space.size)
    if rest or c < 1:
        raise ValueError(f"a vector of length {dim} is no multiple of the {space.size} weights")
    ends = np.cumsum([c * math.prod(spec.shape) for spec in space.tensors])
    parts = jnp.split(vector, ends[:-1], axis=-1)
    return {
        spec.path: fold(spec, part.reshape(*batch, *spec.shape, c))
        for spec, part in zip(space.tensors, parts, strict=True)
    }


def random_permutation(key: PRNGKeyArray, space: WeightSpace) -> Permutations:
    """Draws one uniform permutation for every group, independently."""
    sizes = space.group_sizes
    keys = jax.random.split(key, max(len(sizes), 1))
    return {
        group: jax.random.permutation(k, size)
        for k, (group, size) in zip(keys, sizes.items(), strict=False)
    }


def permute_features(
    space: WeightSpace, features: Features, permutations: Permutations
) -> Features:
    """Returns sigma U: place j of an axis receives what was at place `permutations[group][j]`.

    Source: Zhou et al. (2023a), Eq. 1, with `permutations` = sigma^{-1}; the same permutation acts
    on all axes of a group, groups left out stay. One permutation per network: `jax.vmap`.
    """
    num_channels(space, features)
    _check_groups(space, permutations)
    return {
        spec.path: _permute(features[spec.path], (*spec.permuted_groups, None), permutations)
        for spec in space.tensors
    }


def permute_params(
    space: WeightSpace, params: Params, permutations: Permutations
) -> dict[str, Any]:
    """Returns sigma U for parameters [*batch, *shape]; see `permute_features`."""
    _check_groups(space, permutations)
    leaves = _leaves(space, params)
    permuted = {
        spec.path: _permute(jnp.asarray(leaves[spec.path]), spec.groups, permutations)
        for spec in space.tensors
    }
    return nested(permuted)


def permute_each(key: PRNGKeyArray, space: WeightSpace, x: Features) -> Features:
    """Returns every network of a batch under its own random permutation of `space`."""
    batch = jax.tree.leaves(x)[0].shape[0]

    def one(key: PRNGKeyArray, single: Features) -> Features:
        permutations = random_permutation(key, space)
        return permute_features(space, single, permutations)

    return jax.vmap(one)(jax.random.split(key, batch), x)


def permute_networks(key: PRNGKeyArray, space: WeightSpace, weights: Params) -> dict[str, Any]:
    """Returns params [batch, ...], every network with its hidden neurons in an order of its own."""
    hidden = hidden_only(space)
    moved = permute_each(key, hidden, features_from_params(hidden, weights))
    return params_from_features(hidden, moved)


def _check_groups(space: WeightSpace, permutations: Permutations) -> None:
    unknown = set(permutations) - set(space.groups)
    if unknown:
        raise ValueError(f"no group {sorted(unknown)} to permute; the space has {space.groups}")


def _permute(
    x: Float[Array, "..."], groups: tuple[str | None, ...], permutations: Permutations
) -> Float[Array, "..."]:
    for axis, group in enumerate(reversed(groups), start=1):
        if group in permutations:
            x = jnp.take(x, permutations[group], axis=-axis)
    return x
