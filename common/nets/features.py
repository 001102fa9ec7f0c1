"""Features of a network: its values at named places, for examples one after the other.

A module names a value by `keep`; that adds nothing to a program unless the value is asked for. A
place is known by its path: "block3" of a ResNet, "layer6/gelu" of a transformer, and
"first/body/layer6/gelu" where that is the first of two towers. Only what leads to the asked places
is computed. The modules say in `PLACES` which of their places are behind a ReLU.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.traverse_util import flatten_dict
from jaxtyping import Array, Float

from common.errors import nearest
from common.evaluation import values_over
from common.networks import Network, StatefulNetwork
from common.precision import widened

PyTree = Any
TOKENS = ("first", "mean", "all")
_COLLECTION = "features"


def keep(module: nn.Module, place: str, value: jax.Array) -> jax.Array:
    """Returns `value`, which is from now on what the network of `module` has at `place`."""
    if not module.is_initializing():
        module.sow(_COLLECTION, place, value, init_fn=tuple, reduce_fn=_newest)
    return value


def features(
    network: Network | StatefulNetwork,
    params: PyTree,
    model_state: PyTree,
    inputs: PyTree,
    places: Sequence[str],
    *,
    tokens: str = "first",
    chunk: int | None = None,
) -> dict[str, Float[Array, "n d"]]:
    """Returns the values at `places`, one row an example, in float32 at least. Pure, for `jit`.

    Batch normalization is by the running statistics.

    Args:
        network: A linen module as `common.networks` returns it.
        params: Of the network.
        model_state: Of a StatefulNetwork; not used else.
        inputs: Images, or a tuple where the network takes several arrays; examples first.
        places: Paths, some of `places_of`.
        tokens: Of values [n, tokens, d]: the first token (the class token of a ViT), the mean over
            all, or all in one row. Maps [n, h, w, c] are one row in any case.
        chunk: Examples in memory at a time; None: all at once.

    Raises:
        ValueError: If there is no such place, or `tokens` is none of these.
    """
    if tokens not in TOKENS:
        allowed = ", ".join(TOKENS)
        raise ValueError(f"features: tokens={tokens!r}; expected one of {allowed}")
    inputs = inputs if isinstance(inputs, tuple) else (inputs,)

    def rows(inputs: tuple[Any, ...]) -> dict[str, jax.Array]:
        found = _all(network, params, model_state, inputs)
        for place in places:
            if place not in found:
                raise ValueError(_unknown(place, found))
        return widened({place: _row(found[place], tokens) for place in places})

    return rows(inputs) if chunk is None else values_over(rows, inputs, chunk=chunk)


def places_of(
    network: Network | StatefulNetwork, params: PyTree, model_state: PyTree, inputs: PyTree
) -> dict[str, tuple[int, ...]]:
    """Returns the shape of the value at every place, without computing it.

    Arguments are those of `features`; all may be ShapeDtypeStructs.
    """
    inputs = inputs if isinstance(inputs, tuple) else (inputs,)
    found = jax.eval_shape(lambda p, s, x: _all(network, p, s, x), params, model_state, inputs)
    return {place: value.shape for place, value in found.items()}


def _all(
    network: Network | StatefulNetwork, params: PyTree, model_state: PyTree, inputs: tuple[Any, ...]
) -> dict[str, jax.Array]:
    """Returns what the modules of the network keep, by path."""
    state = () if isinstance(network, Network) else (model_state,)
    returned = network.apply(params, *state, *inputs, mutable=[_COLLECTION])
    _, kept = returned if isinstance(network, Network) else returned[0]
    found: dict[str, Any] = flatten_dict(kept.get(_COLLECTION, {}), sep="/")
    return found


def _newest(old: Any, new: Any) -> Any:
    """Returns the value of a place, of which only one is kept."""
    del old
    return new


def _row(value: jax.Array, tokens: str) -> jax.Array:
    if value.ndim == 3 and tokens == "first":
        value = value[:, 0]
    elif value.ndim == 3 and tokens == "mean":
        value = jnp.mean(widened(value), axis=1)
    return value.reshape(len(value), -1)


def _unknown(place: str, found: dict[str, jax.Array]) -> str:
    some = ", ".join(list(found)[:8]) or "none"
    count = f"; some of its {len(found)}: {some}" if len(found) > 8 else f"; it has {some}"
    return f"features: no place {place!r} in this network{nearest(place, found)}{count}"
