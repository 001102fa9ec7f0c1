"""Zoos: networks that are Flax's, training that is optax's, the same bits however it is cut."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from common.errors import NumericalError
from nfn.weights import space_from_params
from nfn.zoo import ZooImages, train_networks, train_zoo, zoo_images
from nfn.zoo_networks import init_network, network, network_space, patches
from nfn.zoo_recipes import ACTIVATIONS, OPTIMIZERS, Recipe, draw_hyperparameters

CNN = Recipe(
    channels=(1, 4, 5),
    dense=(3,),
    steps=12,
    batch_size=16,
    learning_rate=(1e-3, 1e-2),
    init_scale=(0.5, 2.0),
    dropout=(0.0, 0.5),
    fractions=(0.25, 1.0),
    activations=ACTIVATIONS,
    optimizers=OPTIMIZERS,
)


class FlaxCNN(nn.Module):
    """The networks of a zoo as one would write them in Flax."""

    channels: tuple[int, ...]
    dense: tuple[int, ...]

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for width in self.channels[1:]:
            x = nn.tanh(nn.Conv(width, (3, 3), strides=2)(x))
        x = x.mean(axis=(-3, -2)) if len(self.channels) > 1 else x
        for width in self.dense[:-1]:
            x = nn.tanh(nn.Dense(width)(x))
        return nn.Dense(self.dense[-1])(x)


def noisy_images() -> tuple[np.ndarray, np.ndarray]:
    """Returns labels and images of three classes that differ in their mean."""
    random = np.random.default_rng(0)
    labels = random.integers(3, size=100)
    return labels, random.normal(labels[:, None, None] - 1.0, 1.0, (100, 6, 6)).astype(np.float32)


def images(channels: tuple[int, ...] = CNN.channels) -> ZooImages:
    """Returns them as the networks read them, 60 for training."""
    labels, pixels = noisy_images()
    return zoo_images(pixels[:60], labels[:60], pixels[60:], labels[60:], channels=channels)


@pytest.mark.parametrize(
    ("channels", "dense", "shape"),
    [
        pytest.param((1, 4, 5, 6), (10,), (14, 14, 1), marks=pytest.mark.slow),
        ((2, 3), (4, 5), (7, 5, 2)),
        ((49,), (8, 6, 10), (49,)),
    ],
)
def test_a_network_is_that_of_flax(
    channels: tuple[int, ...], dense: tuple[int, ...], shape: tuple[int, ...]
) -> None:
    @jax.jit
    def both(key_params: jax.Array, key_x: jax.Array) -> tuple[Any, ...]:
        params = init_network(key_params, channels=channels, dense=dense, scale=1.5)
        params = jax.tree.map(lambda w: w + 0.1, params)  # biases count too
        x = jax.random.normal(key_x, (3, *shape))
        flax = FlaxCNN(channels, dense).apply({"params": params}, x)
        read = patches(x) if len(channels) > 1 else x
        return params, network(params, read, activation=jnp.tanh), flax

    params, ours, flax = both(jax.random.key(0), jax.random.key(1))

    np.testing.assert_allclose(
        ours, np.asarray(flax), rtol=0, atol=1e-5
    )  # float32 sums of 100 terms
    assert space_from_params(params, order=sorted(params)) == network_space(
        channels=channels, dense=dense
    )


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_training_takes_the_steps_of_optax(optimizer: str) -> None:
    # A training set of one image: every batch is the same, whatever is drawn.
    data = images()
    recipe = CNN._replace(fractions=(1 / 60,), dropout=(0.0, 0.0))
    only = recipe._replace(optimizers=(optimizer,))
    drawn = draw_hyperparameters(only, [5], seed=0, num_images=60)
    key = jax.random.key(3)  # one program for all optimizers: which one is among its inputs
    trained = train_networks(key, data, np.array([5], np.int32), drawn, recipe=recipe)

    rate, l2 = float(drawn.learning_rate[0]), float(drawn.l2[0])
    second = optax.scale_by_rms(0.999, eps=1e-8, bias_correction=True, eps_in_sqrt=False)
    tx = {
        "adam": optax.adam(rate),
        "rmsprop": optax.chain(second, optax.scale(-rate)),
        "sgd": optax.sgd(rate, momentum=0.9),
    }[optimizer]
    params = init_network(
        jax.random.split(jax.random.fold_in(key, 5))[0],
        channels=recipe.channels,
        dense=recipe.dense,
        scale=float(drawn.init_scale[0]),
    )
    activation = (jax.nn.relu, jnp.tanh)[int(drawn.activation[0])]
    labels, _ = noisy_images()

    def loss(params: dict) -> jax.Array:
        logits = network(params, jnp.asarray(data.train[:1]), activation=activation)
        fit = optax.softmax_cross_entropy_with_integer_labels(logits, labels[:1]).mean()
        return fit + l2 * sum(jnp.sum(w**2) for w in jax.tree.leaves(params))

    @jax.jit
    def step(params: Any, state: optax.OptState) -> tuple[Any, optax.OptState]:
        updates, state = tx.update(jax.grad(loss)(params), state, params)
        return optax.apply_updates(params, updates), state

    state = tx.init(params)
    for _ in range(recipe.steps):
        params, state = step(params, state)
    for ours, theirs in zip(jax.tree.leaves(trained.params), jax.tree.leaves(params), strict=True):
        np.testing.assert_allclose(ours[0, 0], theirs, rtol=0, atol=2e-5)


def test_a_network_depends_on_its_number_only() -> None:
    data = images()
    whole = train_zoo(data, CNN, np.arange(6), chunk=6)
    pair = train_zoo(data, CNN, [4, 2], chunk=1)

    for name in ("params", "test_accuracy", "hyperparameters"):
        for all_rows, rows in zip(
            jax.tree.leaves(getattr(whole, name)), jax.tree.leaves(getattr(pair, name)), strict=True
        ):
            np.testing.assert_array_equal(all_rows[[4, 2]], rows)


@pytest.mark.slow  # how accelerators train them
def test_networks_trained_together_are_as_good_as_one_after_another() -> None:
    alone = train_zoo(images(), CNN, np.arange(6), chunk=6)
    together = train_zoo(images(), CNN, np.arange(6), chunk=6, mapping="vmap")

    # 40 test images; another order of rounding changes the answer for one of them.
    np.testing.assert_allclose(together.test_accuracy, alone.test_accuracy, atol=0.05)
    assert np.std(alone.test_accuracy) > 0


@pytest.mark.slow  # a program of its own, as the next two
def test_dropout_changes_what_is_trained() -> None:
    rows = np.full(6, 5, np.int32)  # the same network six times, but for dropout
    drawn = draw_hyperparameters(CNN, rows, seed=0, num_images=60)
    drawn = drawn._replace(dropout=jnp.array([0, 0, 0.5, 0.5, 0.1, 0]))
    trained = train_networks(jax.random.key(3), images(), rows, drawn, recipe=CNN)

    kernel = trained.params["Conv_1"]["kernel"].reshape(6, -1)
    np.testing.assert_array_equal(kernel[0], kernel[1])
    np.testing.assert_array_equal(kernel[2], kernel[3])
    for other in (2, 4):
        assert np.abs(kernel[other] - kernel[0]).max() > 1e-3


@pytest.mark.slow
def test_snapshots_are_trainings_cut_short() -> None:
    data = images(channels=(36,))
    recipe = CNN._replace(channels=(36,), dense=(5, 3), snapshots=3, dropout=(0.0, 0.0))
    trained = train_zoo(data, recipe, [0], chunk=1)
    steps = np.asarray(trained.hyperparameters.snapshots[0])

    assert (np.diff(steps) > 0).all() and steps[0] >= 1 and steps[-1] <= recipe.steps
    shorter = recipe._replace(steps=int(steps[1]), snapshots=1)
    drawn = trained.hyperparameters._replace(snapshots=jnp.array([[steps[1]]]))
    key = jax.random.fold_in(jax.random.key(0), 0)
    again = train_networks(key, data, np.array([0], np.int32), drawn, recipe=shorter)
    for ours, other in zip(
        jax.tree.leaves(trained.params), jax.tree.leaves(again.params), strict=True
    ):
        np.testing.assert_array_equal(ours[:, 1], other[:, 0])


@pytest.mark.slow
def test_networks_that_diverge_are_drawn_again() -> None:
    data = images()
    wild = CNN._replace(
        learning_rate=(1e-3, 1e8), optimizers=("sgd",), activations=("relu",), l2=(0.1, 1.0)
    )
    trained = train_zoo(data, wild, np.arange(6), chunk=6)

    assert trained.attempts.max() > 1
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(trained.params))
    assert np.isfinite(trained.test_accuracy).all()
    hopeless = wild._replace(learning_rate=(1e20, 1e21))
    with pytest.raises(
        NumericalError, match=r"networks 0 to 1 .* diverged 8 times; lower learning"
    ):
        train_zoo(data, hopeless, [0, 1], chunk=6)


def test_labels_of_no_image_or_no_class_are_refused() -> None:
    data = images()

    with pytest.raises(ValueError, match=r"labels of shape \(50,\) for 60 rows"):
        train_zoo(data._replace(train_labels=data.train_labels[:50]), CNN, [0])
    with pytest.raises(ValueError, match=r"labels go from -1 to 1, but the \d+ classes are 0 to"):
        train_zoo(data._replace(test_labels=data.test_labels - 1), CNN, [0])


def test_images_of_another_size_are_refused() -> None:
    with pytest.raises(ValueError, match=r"channels=\(49,\): images have 36 values"):
        images(channels=(49,))
    with pytest.raises(ValueError, match=r"channels=\(3, 4\): images have 1 channels"):
        images(channels=(3, 4))
