"""The experiments of the paper: their data, states, steps and what is measured of them."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from ml_collections import ConfigDict

from common.data import cache
from common.experiment import Batch, Experiment, Metrics, SumCount
from common.gradient_types import Gradient, Loss
from common.gradients import make_gradient
from common.optim import make_optimizer
from common.sam_fields import within
from common.steps import TrainState, gradient_step, init_train_state
from common.supervised import take
from landscape.sam_rank import measures, teachers
from landscape.sam_rank.contrastive.experiment import contrastive
from landscape.sam_rank.images.training import images
from landscape.sam_rank.networks import TwoLayer, init_two_layer
from landscape.sam_rank.networks import two_layer as network
from landscape.sam_rank.penalties import norm_penalized
from landscape.sam_rank.teachers import ProblemSpec, draw_problem

PyTree = Any
EXAMPLES = 1  # stream of random numbers, beside the seed


class TwoLayerState(NamedTuple):
    """State of a two-layer run, with a problem of its own: its group's other seeds have others.

    Attributes:
        train: Parameters and optimizer.
        problem: Training and test points, see `teachers.draw_problem`.
    """

    train: TrainState
    problem: PyTree


def two_layer(config: ConfigDict) -> Experiment:
    """Trains a student of one hidden layer on points that a smaller one labels.

    Source: Andriushchenko et al. (2023), released code of two-layer networks. SAM, or a penalty on
    the norm of the gradient, acts in the first half of the updates only.
    """
    activation = config.model.activation
    optimizer = make_optimizer(num_steps=config.num_steps, **config.optimizer)
    gradient = _gradient(config)
    update = gradient_step(loss_of(activation), optimizer, gradient=gradient)

    def init(key: Array) -> TwoLayerState:
        problem, params = _drawn(config, key)
        return TwoLayerState(init_train_state(params, optimizer, gradient=gradient), problem)

    def step(
        state: TwoLayerState, data: PyTree, batch: PyTree, key: Array
    ) -> tuple[TwoLayerState, Metrics]:
        del data
        train, metrics = update(state.train, state.problem, batch, key)
        return state._replace(train=train), metrics

    def evaluate(state: TwoLayerState, data: PyTree, key: Array) -> dict[str, SumCount]:
        del data, key
        found = measures.of_network(state.train.params, state.problem, config)
        return {name: (value, jnp.ones_like(value)) for name, value in found.items()}

    def predict(state: TwoLayerState, data: PyTree, inputs: Array) -> Array:
        del data
        return network(state.train.params, inputs, activation)

    return Experiment(
        data=dict,
        init=init,
        step=step,
        batch=_batches(config),
        evaluate=evaluate,
        rules=((r"^(state|batch)/", _members_apart),) if config.seed_group > 1 else (),
        predict=predict,
        abstract_data=dict,
        identity=lambda: cache.identity(_spec(config), draw_problem),
    )


def loss_of(activation: str) -> Loss:
    """Returns the mean squared error of a batch, whose data are a problem."""

    def loss(params: PyTree, data: PyTree, batch: PyTree, key: Array) -> tuple[Array, Metrics]:
        del key
        rows = take(data["train"], batch["index"])
        return jnp.mean((network(params, rows["input"], activation) - rows["target"]) ** 2), {}

    return loss


def _gradient(config: ConfigDict) -> Gradient:
    """Returns the gradient of the config, of the loss with its penalty if it has one."""
    gradient, weight = make_gradient(config), config.penalty.gradient_norm
    if not weight:
        return gradient
    weights = within(weight, config.gradient.start, config.gradient.stop, config.num_steps)
    return norm_penalized(weights if callable(weights) else lambda step: weight, base=gradient)


def _spec(config: ConfigDict) -> ProblemSpec:
    """Returns which problem a config asks for."""
    return ProblemSpec(activation=config.model.activation, **config.data)


def _drawn(config: ConfigDict, key: Array) -> tuple[PyTree, TwoLayer]:
    """Returns a problem and the parameters of its student, or those of the recorded runs."""
    spec, model = _spec(config), config.model
    if spec.kind == "golden":
        problem, params, _ = teachers.golden(model.activation, model.scale)
        return problem, params
    key_problem, key_params = jax.random.split(key)
    sizes = {"units": model.units, "inputs": spec.dimension, "scale": model.scale}
    return draw_problem(key_problem, spec), init_two_layer(key_params, **sizes)


def _batches(config: ConfigDict) -> Any:
    """Returns step -> {"index"}: examples drawn with replacement, or those of the recorded runs."""
    if config.data.kind == "golden":
        index = teachers.golden(config.model.activation, config.model.scale).index[:, None]
    else:
        random = np.random.default_rng((config.seed, EXAMPLES))
        shape = (config.num_steps, config.batch_size)
        index = random.integers(config.data.num_train, size=shape, dtype=np.int32)

    def batch(step: int) -> Batch:
        return {"index": index[step]}

    return batch


def _members_apart(shape: tuple[int, ...], mesh: jax.sharding.Mesh) -> jax.P:
    """Returns the split of seeds over devices: every array of a group has them as leading axis."""
    size = mesh.shape.get("data", 1)
    return jax.P("data") if shape and shape[0] % size == 0 else jax.P()


EXPERIMENTS = {"two_layer": two_layer, "contrastive": contrastive, "images": images}
