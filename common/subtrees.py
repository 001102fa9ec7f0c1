"""Parts of a parameter tree, chosen by path: trees of the same shape with None at the gaps."""

import re
from typing import Any

import jax

from common.errors import UserError
from common.sharding import path_name

PyTree = Any


def split_by_path(params: PyTree, pattern: str, *, field: str) -> tuple[PyTree, PyTree]:
    """Returns (matching, others), both of the shape of `params` with None at the gaps.

    Args:
        params: A tree, with paths such as "params/block_0/kernel".
        pattern: A regular expression, found anywhere in the path.
        field: What the error calls it.

    Raises:
        UserError: If nothing matches.
    """

    def keep(matching: bool) -> PyTree:
        def one(path: tuple[Any, ...], leaf: Any) -> Any:
            found = re.search(pattern, path_name("params", path)) is not None
            return leaf if found == matching else None

        return jax.tree_util.tree_map_with_path(one, params)

    chosen = keep(True)
    if not jax.tree.leaves(chosen):
        names = [path_name("params", p) for p, _ in jax.tree_util.tree_leaves_with_path(params)]
        raise UserError(
            f"{field}={pattern!r} matches no parameter; paths are {', '.join(names[:6])}"
        )
    return chosen, keep(False)


def join(first: PyTree, second: PyTree) -> PyTree:
    """Returns the tree whose gaps (None) in one argument are filled from the other."""
    return jax.tree.map(lambda a, b: b if a is None else a, first, second, is_leaf=is_gap)


def at_gaps(tree: PyTree, other: PyTree) -> PyTree:
    """Returns the leaves of `other` where `tree` has None, and None elsewhere."""
    return jax.tree.map(lambda a, b: b if a is None else None, tree, other, is_leaf=is_gap)


def is_gap(leaf: Any) -> bool:
    """Returns whether a leaf is missing."""
    return leaf is None
