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


class StatefulNetwork(NamedTuple):
    """A network that remembers its batches, as batch normalization does; both functions are pure.

    `init(key) -> (params, model_state)`; `apply(params, model_state, inputs, train=False, ...) ->
    (outputs, model_state)`, with a new state if `train`, and the one it was given if not. It is
    what `common.supervised.stateful_training` and `common.steps.stateful_step` take.
    """

    init: Callable[[jax.Array], tuple[PyTree, PyTree]]
    apply: Callable[..., tuple[Any, PyTree]]


def from_linen(module: nn.Module, *example: Any) -> Network:
    """Returns `module` as a Network whose params are the plain dict tree of collection "params".

    Args:
        module: A finished module without other collections (`from_stateful_linen` is for those
            with batch statistics).
        *example: Arrays or ShapeDtypeStructs of the inputs, used for their shapes only.
    """

    def init(key: jax.Array) -> PyTree:
        inputs = [jax.numpy.zeros(x.shape, x.dtype) for x in example]
        return module.init(key, *inputs)["params"]

    def apply(params: PyTree, *inputs: Any, **options: Any) -> Any:
        return module.apply({"params": params}, *inputs, **options)

    return Network(init, apply)


def from_stateful_linen(
    module: nn.Module, *example: Any, collection: str = "batch_stats"
) -> StatefulNetwork:
    """Returns `module`, which has an option `train`, with one collection besides "params" as state.

    Args:
        module: A finished module that is called with `train=True` in training.
        *example: Arrays or ShapeDtypeStructs of the inputs, used for their shapes only.
        collection: The collection that training renews; `model_state` is its plain dict tree.
    """

    def init(key: jax.Array) -> tuple[PyTree, PyTree]:
        inputs = [jax.numpy.zeros(x.shape, x.dtype) for x in example]
        variables = module.init(key, *inputs, train=False)
        return variables["params"], variables.get(collection, {})

    def apply(
        params: PyTree, model_state: PyTree, *inputs: Any, train: bool = False, **options: Any
    ) -> tuple[Any, PyTree]:
        variables = {"params": params, collection: model_state}
        if not train:
            return module.apply(variables, *inputs, train=False, **options), model_state
        outputs, updated = module.apply(
            variables, *inputs, train=True, mutable=[collection], **options
        )
        return outputs, updated.get(collection, {})

    return StatefulNetwork(init, apply)
