"""Blocks of a network: groups of the leaves of a parameter tree, of which some are tuned.

    blocks = resnet_blocks(params)                        # block1, block2, block3, last
    blocks = blocks_by_path(params, [("stem", "^conv"), ("head", "^head")])
    blocks = blocks_by_depth(params, 4, apply=apply, inputs=images)
    tuned, frozen = split(params, tuned_mask(params, blocks, "block1"))

A leaf is known by its path, "stage1_block0/conv1/kernel". Blocks are in the order of the forward
pass. What is tuned is a tree of True and False; trees that are split have None at the gaps, as
those of `common.subtrees`.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from common.errors import nearest
from finetune.programs import first_uses

PyTree = Any
ALL, NOTHING = "all", "none"  # words that stand for every leaf and for no leaf
LAST = "last"
STATISTICS = "^batch_stats/"  # of Flax's variables


class Blocks(NamedTuple):
    """Groups of leaves.

    Attributes:
        names: Of the groups, in the order of the forward pass.
        paths: Of the leaves of every group.
        others: Paths of leaves in no group, which only "all" tunes.
        fixed: Paths of leaves that no step tunes, such as running statistics.
    """

    names: tuple[str, ...]
    paths: tuple[tuple[str, ...], ...]
    others: tuple[str, ...] = ()
    fixed: tuple[str, ...] = ()

    def of(self, path: str) -> int | None:
        """Returns the number of the group that a leaf is in."""
        return next((i for i, paths in enumerate(self.paths) if path in paths), None)


def leaf_paths(params: PyTree) -> tuple[str, ...]:
    """Returns the path of every leaf, in the order of `jax.tree.leaves`."""
    found = jax.tree_util.tree_leaves_with_path(params)
    return tuple(jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in found)


def blocks_by_path(
    params: PyTree, groups: Iterable[tuple[str, str]], *, fixed: str = STATISTICS
) -> Blocks:
    """Returns the groups given by an ordered list of (name, regular expression).

    Args:
        params: A tree.
        groups: The expression is found anywhere in the path of a leaf ("^" is its start).
        fixed: An expression for leaves that are no parameters; it may match nothing.

    Raises:
        ValueError: If an expression matches nothing, two match the same leaf, or two groups have
            one name, or one has the name "all" or "none".
    """
    groups, every = tuple(groups), leaf_paths(params)
    found = tuple(path for path in every if not re.search(fixed, path))
    names = tuple(name for name, _ in groups)
    for name in names:
        if names.count(name) > 1 or name in (ALL, NOTHING):
            problem = (
                "names two of them" if names.count(name) > 1 else "stands for all or no leaves"
            )
            raise ValueError(f"blocks: {name!r} {problem}; expected another name for each")
    owner: dict[str, str] = {}
    for name, pattern in groups:
        matching = [path for path in found if re.search(pattern, path)]
        if not matching:
            raise ValueError(
                f"block {name!r}: {pattern!r} matches no leaf; paths are {_some(found)}"
            )
        for path in matching:
            if path in owner:
                raise ValueError(
                    f"block {name!r}: {pattern!r} matches {path}, which is in block "
                    f"{owner[path]!r} already; expected blocks without a leaf in common"
                )
            owner[path] = name
    paths = tuple(tuple(path for path in found if owner.get(path) == name) for name in names)
    others = tuple(path for path in found if path not in owner)
    return Blocks(names, paths, others, tuple(path for path in every if path not in found))


def blocks_by_depth(
    params: PyTree,
    num_blocks: int | None = None,
    *,
    apply: Callable[..., Any] | None = None,
    inputs: PyTree = None,
    fixed: str = STATISTICS,
) -> Blocks:
    """Returns contiguous groups of layers, "block1" to "block<n-1>" and "last".

    A layer is the leaves of one module or tuple, or one leaf where all are in the same dict; it
    counts if it has a matrix or a kernel, and what follows it (biases, normalizations) goes with
    it. "last" is the last layer that counts; the
    others are divided so that groups differ by one layer at most.

    Args:
        params: A tree.
        num_blocks: At least 2; None: four, or as many as there are layers.
        apply: (params, inputs) -> outputs; layers are then in the order in which this uses them,
            which no names can mislead. None: in the order of the tree.
        inputs: Arrays or ShapeDtypeStructs for `apply`.
        fixed: As for `blocks_by_path`.

    Raises:
        ValueError: If there are fewer layers than groups.
    """
    paths = leaf_paths(params)
    if apply is not None:
        first = first_uses(apply, params, inputs)
        paths = tuple(path for _, path in sorted(zip(first, paths, strict=True)))
    at_rest = tuple(path for path in leaf_paths(params) if re.search(fixed, path))
    paths = tuple(path for path in paths if path not in at_rest)
    sides = dict(zip(leaf_paths(params), map(np.ndim, jax.tree.leaves(params)), strict=True))
    layers: list[list[str]] = []  # every one begins with a layer that counts, but perhaps the first
    counts: list[bool] = []
    for leaves in _modules(paths):
        is_counted = any(sides[path] > 1 for path in leaves)
        if is_counted and (not layers or any(counts)):
            layers.append(leaves)
            counts.append(True)
        elif layers:
            layers[-1] += leaves
            counts[-1] |= is_counted
        else:
            layers.append(leaves)
            counts.append(is_counted)
    num_blocks = min(4, len(layers)) if num_blocks is None else num_blocks
    if not 2 <= num_blocks <= len(layers):
        raise ValueError(
            f"num_blocks={num_blocks}; expected 2 to {len(layers)}, the layers with a matrix"
        )
    parts = np.array_split(np.arange(len(layers) - 1), num_blocks - 1)
    groups = [tuple(path for i in part for path in layers[i]) for part in parts]
    names = tuple(f"block{i + 1}" for i in range(num_blocks - 1))
    return Blocks((*names, LAST), (*groups, tuple(layers[-1])), (), at_rest)


def resnet_blocks(params: PyTree, *, with_norm: bool = False) -> Blocks:
    """Returns the blocks of a residual network of `common.nets`: its stages, and "last".

    "block1" is the stem's convolution and the first stage, then comes a block for each stage, and
    "last" is the head. The normalization outside of the stages is in no block.

    Source: Lee et al. (2023): released code: conv1 + layer1, layer2, ..., fc; bn1 is in no block.

    Args:
        params: Of a `ResNet` or a `PreActResNet`, or its variables, with batch statistics.
        with_norm: Puts that normalization into "block1", where it follows the stem.

    Raises:
        ValueError: If the tree has no stages.
    """
    top = r"^(params/)?"
    paths = [path for path in leaf_paths(params) if not re.search(STATISTICS, path)]
    stages = sorted({m[2] for path in paths if (m := re.search(rf"{top}stage(\d+)_", path))})
    if not stages:
        raise ValueError(
            f"resnet_blocks: no stage1_... among the paths {_some(paths)}; "
            "expected a ResNet or PreActResNet of common.nets"
        )
    stem = f"{top}(conv|norm)/|" if with_norm else f"{top}conv/|"
    groups = [
        (f"block{stage}", f"{stem if stage == stages[0] else ''}{top}stage{stage}_")
        for stage in stages
    ]
    has_head = any(re.search(f"{top}head/", path) for path in paths)
    return blocks_by_path(params, [*groups, (LAST, f"{top}head/")] if has_head else groups)


def chosen(blocks: Blocks, tuned: str | Sequence[str]) -> tuple[int, ...]:
    """Returns the numbers of the blocks that are named, in their order; of "all" every one.

    Raises:
        ValueError: If there is no such block.
    """
    names = (tuned,) if isinstance(tuned, str) else tuple(tuned)
    for name in names:
        if name not in (*blocks.names, ALL):
            allowed = ", ".join((*blocks.names, ALL))
            raise ValueError(
                f"no block {name!r}{nearest(name, blocks.names)}; expected some of {allowed}"
            )
    return tuple(i for i, name in enumerate(blocks.names) if name in names or ALL in names)


def tuned_mask(params: PyTree, blocks: Blocks, tuned: str | Sequence[str]) -> PyTree:
    """Returns the tree of True and False that says which leaves are tuned.

    Args:
        params: The tree that the blocks are of.
        blocks: Its groups.
        tuned: A block, several, or "all": every leaf that is not fixed, those in no block too.

    Raises:
        ValueError: If there is no such block, or everything would be frozen.
    """
    numbers = chosen(blocks, tuned)
    if not numbers:
        raise ValueError("tuned=(): freezes everything; expected one block or more")
    paths = {path for i in numbers for path in blocks.paths[i]}
    if ALL in ((tuned,) if isinstance(tuned, str) else tuned):
        paths |= set(blocks.others)
    return jax.tree.unflatten(
        jax.tree.structure(params), [path in paths for path in leaf_paths(params)]
    )


def check_mask(mask: PyTree, params: PyTree) -> None:
    """Refuses a mask that is of another tree, or that freezes everything.

    Raises:
        ValueError: In one line.
    """
    if jax.tree.structure(mask) != jax.tree.structure(params):
        raise ValueError("mask: a tree of another structure than params; expected True or False")
    if not any(jax.tree.leaves(mask)):
        raise ValueError("mask freezes everything; expected at least one leaf with True")


def split(params: PyTree, mask: PyTree) -> tuple[PyTree, PyTree]:
    """Returns (tuned, frozen), both of the shape of `params` with None at the gaps.

    `common.subtrees.join` puts them together again.
    """
    tuned = jax.tree.map(lambda leaf, is_tuned: leaf if is_tuned else None, params, mask)
    frozen = jax.tree.map(lambda leaf, is_tuned: None if is_tuned else leaf, params, mask)
    return tuned, frozen


def stacked_masks(
    params: PyTree, blocks: Blocks, selections: Sequence[str | Sequence[str]]
) -> PyTree:
    """Returns masks as data: a tree of arrays [selections], 1 where a leaf is tuned and 0 else."""
    masks = [tuned_mask(params, blocks, tuned) for tuned in selections]
    return jax.tree.map(lambda *flags: jnp.asarray(flags, jnp.float32), *masks)


def by_block(blocks: Blocks, values: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Returns the values of leaves, given by path, as one list for every block."""
    return {
        name: [values[path] for path in paths if path in values]
        for name, paths in zip(blocks.names, blocks.paths, strict=True)
    }


def over_blocks(params: PyTree, blocks: Blocks, values: Float[Array, " blocks"]) -> PyTree:
    """Returns a tree with the value of its block at every leaf, and 0 at leaves in no block."""
    numbers = [blocks.of(path) for path in leaf_paths(params)]
    leaves = [jnp.zeros((), values.dtype) if n is None else values[n] for n in numbers]
    return jax.tree.unflatten(jax.tree.structure(params), leaves)


def _modules(paths: Sequence[str]) -> list[list[str]]:
    """Returns paths of the same module together, in the order of their first ones."""
    places = list(dict.fromkeys(path.rpartition("/")[0] for path in paths))
    if len(places) == 1:
        return [[path] for path in paths]
    return [[path for path in paths if path.rpartition("/")[0] == place] for place in places]


def _some(paths: Sequence[str]) -> str:
    return ", ".join(paths[:6]) + (", ..." if len(paths) > 6 else "")
