"""What adapting a network refuses, in one line each."""

import math
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

PyTree = Any


def check_target(apply: Any, params: PyTree, target: Any, learning_rates: Sequence[float]) -> None:
    """Refuses data that nothing can be learned from, and rates that are none.

    Raises:
        ValueError: If a part is empty, has other numbers of inputs and labels, or a label that is
            no class of the network; or if a rate is not positive and finite.
    """
    for name, examples in zip(target._fields, target, strict=True):
        if examples is None:
            continue
        count = len(examples.labels)
        if not count:
            raise ValueError(f"target.{name} is empty; expected at least one example")
        sizes = {len(x) for x in jax.tree.leaves(examples.inputs)}
        if sizes != {count}:
            raise ValueError(
                f"target.{name}: {', '.join(map(str, sorted(sizes)))} inputs for {count} labels; "
                "expected one label for each input"
            )
        check_labels(apply, params, examples, f"target.{name}")
    if not learning_rates or not all(0 < rate < math.inf for rate in learning_rates):
        raise ValueError(f"learning_rates={tuple(learning_rates)}; expected numbers > 0")


def check_labels(apply: Any, params: PyTree, examples: Any, place: str) -> None:
    """Refuses whole-number labels that are no class of a network with one logit for each.

    Raises:
        ValueError: Naming the first of them.
    """
    labels = np.asarray(examples.labels)
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        return
    one = jax.tree.map(lambda x: jax.ShapeDtypeStruct((1, *x.shape[1:]), x.dtype), examples.inputs)
    classes = jax.eval_shape(apply, params, one).shape[-1]
    wrong = np.flatnonzero((labels < 0) | (labels >= classes))
    if wrong.size:
        raise ValueError(
            f"{place}.labels[{wrong[0]}]={labels[wrong[0]]}; expected 0 to {classes - 1}, the "
            "classes of the network"
        )


def check_whole_batches(count: int, batch_size: int) -> None:
    """Refuses a last batch that is filled up, whose statistics would count examples twice.

    Raises:
        ValueError: If the examples are no multiple of the batch.
    """
    if count % batch_size:
        raise ValueError(
            f"batch_size={batch_size}: training by statistics of the batch wants whole ones of the "
            f"{count} examples; expected a divisor"
        )
