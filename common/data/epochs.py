"""Which examples a step sees: without replacement in an epoch, a pure function of seed and step."""

from functools import lru_cache

import numpy as np
from jaxtyping import Int32


def epoch_indices(
    seed: int, step: int, *, num_examples: int, batch_size: int
) -> Int32[np.ndarray, " batch_size"]:
    """Returns the indices of the examples in batch number `step`, counted from 0.

    Batches are consecutive pieces of one endless row of shuffled epochs: every epoch holds every
    example once, and a batch at the end of an epoch is filled up from the next one.

    Raises:
        ValueError: If seed or step is negative, or a size is below 1.
    """
    if seed < 0 or step < 0 or num_examples < 1 or batch_size < 1:
        raise ValueError(
            f"epoch_indices wants seed, step >= 0 and num_examples, batch_size >= 1; got "
            f"seed={seed}, step={step}, num_examples={num_examples}, batch_size={batch_size}"
        )
    start, stop = step * batch_size, (step + 1) * batch_size
    pieces = []
    for epoch in range(start // num_examples, (stop - 1) // num_examples + 1):
        first = epoch * num_examples
        order = _permutation(seed, epoch, num_examples)
        pieces.append(order[max(start - first, 0) : stop - first])
    return np.concatenate(pieces)


@lru_cache(maxsize=8)  # a batch needs one or two; several seeds may take turns
def _permutation(seed: int, epoch: int, num_examples: int) -> Int32[np.ndarray, " num_examples"]:
    order = np.random.default_rng((seed, epoch)).permutation(num_examples).astype(np.int32)
    order.flags.writeable = False
    return order
