"""On which side of a front a point is."""

import jax.numpy as jnp
from jaxtyping import Array, Bool

from sciml.pdes.jets import Scalar


def is_behind(x: Scalar, front: Scalar) -> Bool[Array, ""]:
    """Returns whether a point is on the left side of a front, to which the front itself belongs.

    A front computed elsewhere has other last digits, as a compiler may fuse a product with a sum in
    one program and not in another: points as near as that are on it.
    """
    few = 4 * float(jnp.finfo(x.dtype).eps)
    return x <= front + few * (1 + jnp.abs(front))
