"""One normalized layer in the place of deep networks, where what is tested holds for any."""

from collections.abc import Iterator
from contextlib import contextmanager

import jax
import pytest
from flax import linen as nn

from common.nets.batch_norm import BatchNorm
from landscape.visualizing import networks


class Shallow(nn.Module):
    """A dense layer with batch normalization, and the logits of ten classes."""

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        x = nn.Dense(4, use_bias=False, name="dense")(x.reshape(len(x), -1))
        x = nn.relu(BatchNorm(name="norm")(x, train=train))
        return nn.Dense(10, name="head")(x)


@contextmanager
def shallow_networks() -> Iterator[None]:
    """Experiments that are built within have a `Shallow` network: it compiles in half the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(networks, "_module", lambda spec: Shallow())
        yield
