"""Training on a set of examples: what experiments that follow the gradient of a loss share.

    init, step, batch = training(config, network.init, loss, num_train=10_000)
    return Experiment(data=data, init=init, step=step, batch=batch, evaluate=evaluate)

What is left to an experiment are its data, its loss and what it measures. One that deviates takes
the parts instead: `epoch_batches`, `common.optim.make_optimizer`, `common.gradients.make_gradient`
and the steps of `common.steps`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from common.data.epochs import epoch_indices
from common.experiment import Batch
from common.gradients import Loss, make_gradient
from common.optim import make_optimizer
from common.steps import (
    StatefulLoss,
    Step,
    TrainState,
    gradient_step,
    init_train_state,
    stateful_step,
)

PyTree = Any


class Training(NamedTuple):
    """Three functions of an Experiment."""

    init: Callable[[jax.Array], TrainState]
    step: Step
    batch: Callable[[int], Batch]


def training(
    config: ConfigDict, init: Callable[[jax.Array], PyTree], loss: Loss, *, num_train: int
) -> Training:
    """Returns `init`, `step` and `batch` of training by `config.optimizer` and `config.gradient`.

    Args:
        config: Config of the experiment, with `optimizer`, `num_steps` and `batch_size`.
        init: key -> params.
        loss: (params, data, batch, key) -> (scalar, metrics); `batch["index"]` are the rows of the
            training set that the step sees (`take`).
        num_train: Examples in the training set.

    Raises:
        UserError: Naming the field of one of the two sections that makes no sense.
    """
    optimizer = make_optimizer(num_steps=config.num_steps, **config.optimizer)
    gradient = make_gradient(config)
    return Training(
        init=lambda key: init_train_state(init(key), optimizer, gradient=gradient),
        step=gradient_step(loss, optimizer, gradient=gradient),
        batch=epoch_batches(config, num_train),
    )


def stateful_training(
    config: ConfigDict,
    init: Callable[[jax.Array], tuple[PyTree, PyTree]],
    loss: StatefulLoss,
    *,
    num_train: int,
) -> Training:
    """Returns `training` of a network that remembers its batches, as batch normalization does.

    Args:
        config: As for `training`.
        init: key -> (params, model_state).
        loss: (params, model_state, data, batch, key) -> (scalar, metrics, new model_state).
        num_train: Examples in the training set.

    Raises:
        UserError: Naming the field of one of the two sections that makes no sense.
    """
    optimizer = make_optimizer(num_steps=config.num_steps, **config.optimizer)
    gradient = make_gradient(config)

    def init_state(key: jax.Array) -> TrainState:
        params, model_state = init(key)
        return init_train_state(params, optimizer, model_state, gradient=gradient)

    return Training(
        init=init_state,
        step=stateful_step(loss, optimizer, gradient=gradient),
        batch=epoch_batches(config, num_train),
    )


def epoch_batches(config: ConfigDict, num_examples: int) -> Callable[[int], Batch]:
    """Returns step -> {"index"}: `config.batch_size` examples, shuffled anew in every epoch."""

    def batch(step: int) -> Batch:
        sizes = {"num_examples": num_examples, "batch_size": config.batch_size}
        return {"index": epoch_indices(config.seed, step, **sizes)}

    return batch


def take(rows: PyTree, index: jax.Array | np.ndarray) -> PyTree:
    """Returns the rows of a tree of arrays at an index along their leading axis."""
    return jax.tree.map(lambda x: x[index], rows)
