"""Batch normalization of adapted networks: by running statistics, by the batch, or estimated anew.

    variables = variables_of(params, model_state)
    apply, train = evaluating(network), training(network)
    variables = reestimated(train, variables, inputs, batch_size=100)

Variables are a tree {"params", "batch_stats"}, as Flax has it; blocks never contain statistics.
"""

import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from common.networks import StatefulNetwork
from finetune.adaptation import STATISTICS
from finetune.blocks import leaf_paths

PyTree = Any
Train = Callable[[PyTree, PyTree], tuple[Any, PyTree]]


def variables_of(params: PyTree, model_state: PyTree) -> dict[str, PyTree]:
    """Returns parameters and running statistics as one tree."""
    return {"params": params, STATISTICS: model_state}


def evaluating(network: StatefulNetwork) -> Callable[[PyTree, PyTree], Any]:
    """Returns (variables, inputs) -> outputs, by running statistics."""
    return lambda variables, inputs: network.apply(
        variables["params"], variables[STATISTICS], inputs
    )[0]


def training(network: StatefulNetwork) -> Train:
    """Returns (variables, inputs) -> (outputs, new statistics), by those of the batch."""
    return lambda variables, inputs: network.apply(
        variables["params"], variables[STATISTICS], inputs, train=True
    )


def check_norms(variables: PyTree, mask: PyTree) -> None:
    """Refuses frozen layers whose statistics training by the batch would renew.

    Raises:
        ValueError: Naming the first layer with statistics none of whose parameters is tuned.
    """
    flags = dict(zip(leaf_paths(mask), jax.tree.leaves(mask), strict=True))
    for path in leaf_paths(variables[STATISTICS]):
        place = path.rpartition("/")[0]
        own = [f for p, f in flags.items() if re.match(f"params/{re.escape(place)}/[^/]+$", p)]
        if own and not any(own):
            raise ValueError(
                f"{place} is in a frozen block, but training by the batch renews its statistics; "
                "expected train=None (running statistics), or a strategy that tunes it"
            )


def reestimated(train: Train, variables: PyTree, inputs: PyTree, *, batch_size: int) -> PyTree:
    """Returns variables whose statistics are the means over batches of these inputs; pure.

    No label is used and no parameter changes. The momentum of the layers is found by asking twice,
    with statistics of 0 and of 1: new = momentum old + (1 - momentum) batch.

    Args:
        train: Of `training`.
        variables: Of the network.
        inputs: Examples along the first axis; what is left over by whole batches is not used.
        batch_size: Examples of a batch.

    Raises:
        ValueError: If there are fewer inputs than one batch.
    """
    count = len(jax.tree.leaves(inputs)[0])
    if not 1 <= batch_size <= count:
        raise ValueError(f"batch_size={batch_size} of {count} inputs; expected 1 to {count}")
    number = count // batch_size
    batches = jax.tree.map(
        lambda x: x[: number * batch_size].reshape(number, batch_size, *x.shape[1:]), inputs
    )

    def of_batch(batch: PyTree) -> PyTree:
        at = [
            train({**variables, STATISTICS: jax.tree.map(fill, variables[STATISTICS])}, batch)[1]
            for fill in (jnp.zeros_like, jnp.ones_like)
        ]
        return jax.tree.map(lambda zero, one: zero / (1 - (one - zero)), *at)

    found = jax.lax.map(of_batch, batches)
    return {**variables, STATISTICS: jax.tree.map(lambda x: jnp.mean(x, axis=0), found)}
