"""Statistics of adapted networks: estimated anew, renewed in training, refused where frozen."""

from typing import Any

import jax
import numpy as np
import pytest
from flax import linen as nn

from common.nets.batch_norm import BatchNorm
from common.networks import from_stateful_linen
from finetune import strategies
from finetune.adapt import adapt
from finetune.adaptation import Examples, Target
from finetune.blocks import blocks_by_path
from finetune.statistics import evaluating, reestimated, training, variables_of


class Small(nn.Module):
    """Two layers with a normalization between them."""

    @nn.compact
    def __call__(self, x: Any, *, train: bool = False) -> Any:
        x = nn.Dense(4, name="first")(x)
        x = BatchNorm(name="norm", momentum=0.8)(x, train=train)
        return nn.Dense(2, name="head")(nn.relu(x))


@pytest.fixture(scope="module")
def network() -> tuple[Any, Any, Any]:
    x = np.random.default_rng(0).normal(2, 3, size=(24, 3)).astype(np.float32)
    found = from_stateful_linen(Small(), x)
    return found, variables_of(*jax.jit(found.init)(jax.random.key(0))), x


def test_statistics_estimated_anew_are_those_of_the_inputs(network: Any) -> None:
    found, variables, x = network
    new = jax.jit(lambda v, x: reestimated(training(found), v, x, batch_size=12))(variables, x)
    layer = variables["params"]["first"]
    hidden = (x.astype(float) @ np.asarray(layer["kernel"]) + np.asarray(layer["bias"])).reshape(
        2, 12, 4
    )
    stats = new["batch_stats"]["norm"]
    # Float32, and a difference of numbers near 1 that gives the momentum.
    np.testing.assert_allclose(stats["mean"], hidden.mean((0, 1)), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(stats["var"], hidden.var(1).mean(0), rtol=1e-4)
    assert new["params"] is not None and jax.tree.all(
        jax.tree.map(lambda a, b: bool((a == b).all()), new["params"], variables["params"])
    )
    with pytest.raises(ValueError, match="batch_size=25 of 24 inputs; expected 1 to 24"):
        reestimated(training(found), variables, x, batch_size=25)


@pytest.fixture(scope="module")
def adapted(network: Any) -> Any:
    """Returns a function that adapts the network by the batch."""
    found, variables, x = network
    blocks = blocks_by_path(variables, [("body", "first|norm"), ("last", "head")])
    labels = np.arange(24) % 2
    target = Target(Examples(x[:16], labels[:16]), Examples(x[16:], labels[16:]))

    def by_batch(tuned: str, **options: Any) -> Any:
        strategy = strategies.tune(variables, blocks, tuned, epochs=2)
        return adapt(
            evaluating(found),
            variables,
            target,
            strategy,
            learning_rates=(0.01,),
            key=jax.random.key(1),
            train=training(found),
            **options,
        )

    return by_batch


def test_training_by_the_batch_refuses_frozen_statistics_and_parts(adapted: Any) -> None:
    with pytest.raises(ValueError, match="norm is in a frozen block, but training by the batch"):
        adapted("last")
    with pytest.raises(ValueError, match="batch_size=6: training by statistics of the batch"):
        adapted("all", batch_size=6)


@pytest.mark.slow
def test_training_by_the_batch_renews_statistics(network: Any, adapted: Any) -> None:
    _, variables, _ = network
    found = adapted("all", batch_size=8).params["batch_stats"]["norm"]
    assert (found["mean"] != variables["batch_stats"]["norm"]["mean"]).all()
