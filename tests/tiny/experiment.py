"""Least squares on fresh points of y = x . slope; a large learning rate makes it diverge."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from common.experiment import Batch, Experiment, Metrics, SumCount
from common.steps import TrainState, gradient_step, init_train_state

SLOPE = np.linspace(-1.0, 1.0, 4, dtype=np.float32)


def line(config: ConfigDict) -> Experiment:
    """Fits the four numbers of `SLOPE`."""
    optimizer = optax.sgd(config.optimizer.learning_rate, momentum=0.9)

    def points(seed: int, stream: int, size: int) -> Batch:
        x = np.random.default_rng((seed, stream)).standard_normal((size, 4))
        return {"x": x.astype(np.float32), "y": (x @ SLOPE).astype(np.float32)}

    def init(key: jax.Array) -> TrainState:
        return init_train_state({"slope": jax.random.normal(key, (4,))}, optimizer)

    def errors(params: dict[str, jax.Array], rows: Batch) -> jax.Array:
        return jnp.square(rows["x"] @ params["slope"] - rows["y"])

    def loss(
        params: dict[str, jax.Array], data: Batch, batch: Batch, key: jax.Array
    ) -> tuple[jax.Array, Metrics]:
        del data, key
        return jnp.mean(errors(params, batch)), {}

    def evaluate(state: TrainState, data: Batch, key: jax.Array) -> dict[str, SumCount]:
        del key
        values = errors(state.params, data)
        return {"valid_error": (jnp.sum(values), jnp.float32(values.size))}

    return Experiment(
        data=lambda: points(0, 0, 64),
        init=init,
        step=gradient_step(loss, optimizer),
        batch=lambda step: points(config.seed, step + 1, config.batch_size),
        evaluate=evaluate,
    )
