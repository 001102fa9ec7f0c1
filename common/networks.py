"""A network as a pair of pure functions, whatever library it was written in."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from flax import linen as nn

PyTree = Any


class Network(NamedTuple):
    """`init(key) -> params` and `apply(params, inputs, **options) -> outputs`, both pure."""

    init: Callable[[jax.Array], PyTree]
    apply: Callable[..., Any]


def from_linen(module: nn.Module, *example: Any) -> Network:
    """Returns `module` as a Network whose params are the plain dict tree of collection "params".

    Args:
        module: A finished module without other collections (batch statistics belong to
            `model_state`, which the paper's own code carries).
        *example: Arrays or ShapeDtypeStructs of the inputs, used for their shapes only.
    """

    def init(key: jax.Array) -> PyTree:
        inputs = [jax.numpy.zeros(x.shape, x.dtype) for x in example]
        return module.init(key, *inputs)["params"]

    def apply(params: PyTree, *inputs: Any, **options: Any) -> Any:
        return module.apply({"params": params}, *inputs, **options)

    return Network(init, apply)
