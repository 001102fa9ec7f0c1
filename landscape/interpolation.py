"""Lines between two networks, the second one's neurons in the order of the first's if asked.

Hidden neurons have no order of their own: a network with its neurons permuted is the same function,
but far away in parameter space. A group of neurons is given as the places where its number counts:
pairs of a path and an axis, such as ("dense_0/kernel", 1), ("dense_0/bias", 0) and
("dense_1/kernel", 0).
"""

from collections.abc import Sequence
from typing import Any, TypeAlias

import jax
import numpy as np
from scipy.optimize import linear_sum_assignment

from landscape.directions import towards
from landscape.grids import Surface
from landscape.surfaces import Values, surface
from landscape.vectors import PyTree

Group: TypeAlias = Sequence[tuple[str, int]]
Leaves: TypeAlias = dict[str, np.ndarray]


def interpolation(
    values: Values,
    first: PyTree,
    second: PyTree,
    axis: np.ndarray,
    rows: PyTree,
    *,
    groups: Sequence[Group] = (),
    **how: Any,
) -> Surface:
    """Returns the values along the line with `first` at 0 and `second` at 1.

    Source: Goodfellow et al. (2015); theta(a) = (1 - a) theta_1 + a theta_2.

    Args:
        values: What is measured, see `landscape.surfaces`.
        first: theta_1.
        second: theta_2; with its neurons in the order of `first` if there are `groups`.
        axis: Values of a.
        rows: The data.
        groups: The hidden neurons.
        **how: Passed on to `surfaces.surface`.

    Raises:
        ValueError: If they are of different trees, or a group is not one of theirs.
    """
    second = aligned(first, second, groups) if groups else second
    return surface(values, first, (towards(first, second),), (axis,), rows, **how)


def dense_groups(layers: Sequence[str], *, has_bias: bool = True) -> list[Group]:
    """Returns the hidden neurons of dense layers that follow one another, by the layers' paths."""
    groups: list[Group] = []
    for here, after in zip(layers[:-1], layers[1:], strict=True):
        bias = [(f"{here}/bias", 0)] if has_bias else []
        groups.append([(f"{here}/kernel", 1), *bias, (f"{after}/kernel", 0)])
    return groups


def aligned(
    params: PyTree, other: PyTree, groups: Sequence[Group], *, max_sweeps: int = 100
) -> PyTree:
    """Returns `other` with its neurons in the order that brings it near to `params`.

    Source: Ainsworth et al. (2023), matching weights. Each group in turn gets the best order given
    those of all others, until none changes. The function of the network stays the same.

    Raises:
        ValueError: If they are of different trees, or a group is not one of theirs.
    """
    wanted, found = _leaves(params), _leaves(other)
    shapes = [{path: leaf.shape for path, leaf in leaves.items()} for leaves in (wanted, found)]
    if shapes[0] != shapes[1]:
        differ = sorted(
            p for p in {**shapes[0], **shapes[1]} if shapes[0].get(p) != shapes[1].get(p)
        )
        raise ValueError(f"the networks are of different trees or shapes, as at {differ[0]}")
    for number, group in enumerate(groups):
        _check(group, number, wanted)
    for _ in range(max_sweeps):
        changed = False
        for group in groups:
            order = linear_sum_assignment(_similarity(wanted, found, group), maximize=True)[1]
            changed |= bool((order != np.arange(len(order))).any())
            found = _permuted(found, group, order)
        if not changed:
            break
    structure = jax.tree.structure(other)
    return structure.unflatten([jax.numpy.asarray(leaf) for leaf in found.values()])


def _similarity(wanted: Leaves, found: Leaves, group: Group) -> np.ndarray:
    """Returns inner products of the weights of every neuron of both networks."""
    total = 0.0
    for path, axis in group:
        a, b = (np.moveaxis(leaves[path], axis, 0).astype(float) for leaves in (wanted, found))
        total = total + a.reshape(len(a), -1) @ b.reshape(len(b), -1).T
    return np.asarray(total)


def _permuted(leaves: Leaves, group: Group, order: np.ndarray) -> Leaves:
    changed = dict(leaves)
    for path, axis in group:
        changed[path] = np.take(changed[path], order, axis)
    return changed


def _check(group: Group, number: int, leaves: Leaves) -> None:
    sizes = {}
    for path, axis in group:
        if path not in leaves or not 0 <= axis < leaves[path].ndim:
            known = ", ".join(f"{p} {leaf.shape}" for p, leaf in list(leaves.items())[:6])
            raise ValueError(f"groups[{number}]: no axis {axis} of {path}; there are {known}")
        sizes[f"axis {axis} of {path}"] = leaves[path].shape[axis]
    if len(set(sizes.values())) != 1:
        said = ", ".join(f"{place} has {size}" for place, size in sizes.items())
        raise ValueError(
            f"groups[{number}]: expected as many neurons everywhere; {said or 'empty'}"
        )


def _leaves(tree: PyTree) -> Leaves:
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }
