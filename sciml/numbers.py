"""Numbers as callers have them: integers, lists, Python's; known now, or being traced."""

from collections.abc import Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

# Beside an array: what `floating` makes one of.
Numbers: TypeAlias = ArrayLike | Sequence[Any]


def floating(numbers: Numbers) -> Float[Array, "..."]:
    """Returns an array of floats: integers, lists and Python's numbers in the default type.

    Floats keep their type. What is computed in the type of its input, a spacing, a weight or a
    standard deviation, would be cut to whole numbers otherwise, without a word.
    """
    array = jnp.asarray(numbers)
    is_float = jnp.issubdtype(array.dtype, jnp.floating)
    return array if is_float else array.astype(jnp.result_type(float))


def concrete(*arrays: Any) -> bool:
    """Returns whether the numbers are there to be looked at, that is, not being traced."""
    return not any(isinstance(array, jax.core.Tracer) for array in arrays)
