"""Parts of a tree by path."""

import chex
import jax

from common import subtrees
from tests.common.small_problem import problem


def test_splitting_by_path_and_joining_gives_the_tree_back() -> None:
    params, _, _ = problem()
    for pattern in ("kernel", "bias", "first", "params"):
        chosen, rest = subtrees.split_by_path(params, pattern, field="pattern")

        chex.assert_trees_all_equal(subtrees.join(chosen, rest), params)
        chex.assert_trees_all_equal(subtrees.join(rest, chosen), params)
        count = len(jax.tree.leaves(chosen)) + len(jax.tree.leaves(rest))
        assert count == len(jax.tree.leaves(params))
