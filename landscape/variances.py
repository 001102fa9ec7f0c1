"""Running variances of batch normalization on lines and planes: they have to stay positive."""

import itertools
import re
from collections.abc import Sequence

import jax
import numpy as np
from absl import logging

from common.sharding import path_name
from landscape.vectors import PyTree, layout_of, leaves_of

VARIANCE = r"(^|/)(var|variance|running_var)$"  # flax, haiku, PyTorch


def check_variances(
    params: PyTree, directions: Sequence[PyTree] = (), axes: Sequence[np.ndarray] = ()
) -> None:
    """Checks that every running variance in a tree is positive, at theta itself.

    Where one gets negative at a corner of the grid, as it does on lines that go on beyond two
    checkpoints, a warning says so: losses there are infinite.

    Raises:
        ValueError: Naming the variance.
    """
    leaves = jax.tree_util.tree_leaves_with_path(params)
    names = [path_name("params", path) for path, _ in leaves]
    places = [i for i, name in enumerate(names) if re.search(VARIANCE, name)]
    if not places:
        return
    for i in places:
        least = np.min(np.asarray(leaves[i][1], float), initial=np.inf)
        if not least > 0:
            raise ValueError(
                f"{names[i]} has an entry {least:.3g}: a running variance of batch normalization "
                "is positive; is the checkpoint one of a trained network?"
            )
    layout = layout_of(params)
    moves = [leaves_of(layout, direction) for direction in directions]
    for corner in itertools.product(*((min(axis), max(axis)) for axis in axes)):
        for i in places:
            value = np.asarray(leaves[i][1], float)
            for c, move in zip(corner, moves, strict=True):
                value = value if move[i] is None else value + c * np.asarray(move[i], float)
            if not np.min(value, initial=np.inf) > 0:
                at = ", ".join(f"{c:g}" for c in corner)
                logging.warning(
                    "%s is not positive at (%s): the loss there is infinite", names[i], at
                )
                return
