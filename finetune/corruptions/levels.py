"""Grey levels 0 to 255 as numbers in [0, 1], and back; and one entry of a table by severity."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Integer, UInt8

# A number this little under a whole one is taken for it: otherwise the last bit of a device decides
# between two levels where the exact value is whole.
SLACK = 2.0**-13

Severity = int | Integer[Array, ""]


def from_levels(levels: UInt8[Array, "..."]) -> Float[Array, "..."]:
    """Returns levels as float32 in [0, 1]."""
    return levels.astype(jnp.float32) * np.float32(1 / 255)


def to_levels(images: Float[Array, "..."]) -> UInt8[Array, "..."]:
    """Returns numbers, clipped to [0, 1], times 255, without what is behind the point.

    Source: Hendrycks and Dietterich (2019), the released make_cifar_c.py, which truncates.
    """
    scaled = jnp.clip(images, 0.0, 1.0) * np.float32(255) + np.float32(SLACK)
    return scaled.astype(jnp.uint8)


def at_severity(table: Any, severity: Severity) -> Any:
    """Returns the entry of a severity, 1 to 5: of a Python number at once, else as traced.

    Real numbers become float32.
    """
    entries = np.asarray(table)
    if entries.dtype == np.float64:
        entries = entries.astype(np.float32)
    if isinstance(severity, int | np.integer):
        return entries[int(severity) - 1]
    return jnp.asarray(entries)[severity - 1]


def kept(array: Array) -> Array:
    """Returns an array that is computed once, not again in each place that uses it."""
    return jax.lax.optimization_barrier(array)


def product(spec: str, *arrays: Any) -> Array:
    """Returns an einsum that no device computes in fewer bits than float32 has."""
    return jnp.einsum(spec, *arrays, precision=jax.lax.Precision.HIGHEST)
