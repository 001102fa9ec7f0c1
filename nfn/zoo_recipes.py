"""What the networks of a zoo differ in: ranges of hyper-parameters, and a draw for each network."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Array, Float, Int

ACTIVATIONS = ("relu", "tanh")
OPTIMIZERS = ("adam", "rmsprop", "sgd")


class Recipe(NamedTuple):
    """How the networks of a zoo are made; ranges are drawn from for every network.

    Source: Unterthiner et al. (2020), App. A: the kinds of hyper-parameters.

    Attributes:
        channels: Before the first and after every convolution; (n_0,) for an MLP.
        dense: Widths of the dense layers, the last one the number of classes.
        steps: Steps of a whole training.
        batch_size: Images per step, drawn with replacement.
        learning_rate: Range, log-uniform.
        l2: Range, log-uniform; the penalty is l2 times the sum of all squared weights.
        init_scale: Range, log-uniform, of the factor on He's standard deviation.
        dropout: Range, uniform, of the rate after every hidden layer; (0, 0) for none.
        fractions: Shares of the training images of which one is drawn.
        activations: Of which one is drawn.
        optimizers: Of which one is drawn.
        snapshots: Networks kept of every training. One is the last; more are at so many
            different steps, drawn uniformly from 1 ... steps.
    """

    channels: tuple[int, ...]
    dense: tuple[int, ...]
    steps: int
    batch_size: int
    learning_rate: tuple[float, float]
    l2: tuple[float, float] = (1e-8, 1e-2)
    init_scale: tuple[float, float] = (1.0, 1.0)
    dropout: tuple[float, float] = (0.0, 0.0)
    fractions: tuple[float, ...] = (1.0,)
    activations: tuple[str, ...] = ("relu",)
    optimizers: tuple[str, ...] = ("adam",)
    snapshots: int = 1


class Hyperparameters(NamedTuple):
    """What was drawn for each of n networks; `activation` and `optimizer` are numbers."""

    learning_rate: Float[Array, " n"]
    l2: Float[Array, " n"]
    init_scale: Float[Array, " n"]
    dropout: Float[Array, " n"]
    num_images: Int[Array, " n"]
    activation: Int[Array, " n"]  # place in ACTIVATIONS
    optimizer: Int[Array, " n"]  # place in OPTIMIZERS
    snapshots: Int[Array, "n s"]  # steps, ascending


def draw_hyperparameters(
    recipe: Recipe,
    index: Sequence[int] | np.ndarray,
    *,
    seed: int,
    num_images: int,
    attempt: int = 0,
) -> Hyperparameters:
    """Draws the hyper-parameters of networks `index`; each depends on its own number only."""

    def draw(i: int) -> tuple[Any, ...]:
        random = np.random.default_rng((seed, i, attempt))

        def log_uniform(limits: tuple[float, float]) -> float:
            return math.exp(random.uniform(*np.log(limits)))

        continuous = [log_uniform(x) for x in (recipe.learning_rate, recipe.l2, recipe.init_scale)]
        dropout, fraction = random.uniform(*recipe.dropout), random.choice(recipe.fractions)
        activation = ACTIVATIONS.index(random.choice(recipe.activations))
        optimizer = OPTIMIZERS.index(random.choice(recipe.optimizers))
        steps = np.array([recipe.steps])
        if recipe.snapshots > 1:
            steps = np.sort(random.permutation(recipe.steps)[: recipe.snapshots]) + 1
        count = max(1, round(fraction * num_images))
        return *continuous, dropout, count, activation, optimizer, steps

    columns = zip(*(draw(i) for i in np.asarray(index).tolist()), strict=True)
    kinds = [np.float32] * 4 + [np.int32] * 4
    return Hyperparameters._make(map(np.array, columns, kinds))
