"""What every network of weights has in the middle: features in, features out, the same symmetry."""

from collections.abc import Callable
from typing import Any, NamedTuple

from jaxtyping import PRNGKeyArray

from nfn.features import Features
from nfn.weights import WeightSpace

PyTree = Any


class Trunk(NamedTuple):
    """A map from features to features of one weight space, as a pair of pure functions.

    Readers (`nfn.readers`) and experiments (`nfn.tasks`) take any trunk: a stack of linear layers
    (`nfn.stack.linear_trunk`), a transformer (`nfn.transformer_stack.attention_trunk`), or
    your own.

    Attributes:
        space: Layout of the features that it reads and writes.
        channels: Channels per weight that it writes.
        init: key -> params.
        apply: (params, x, extra=None, key=None) -> features; `extra` are further channels, for
            trunks made for them; with a `key` dropout is on.
    """

    space: WeightSpace
    channels: int
    init: Callable[[PRNGKeyArray], PyTree]
    apply: Callable[..., Features]
