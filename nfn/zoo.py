"""Zoos: small classifiers trained by the thousand, each with hyper-parameters of its own.

`train_zoo` is the whole; `train_networks` is one group of networks on the devices, compiled once.
Network i is a pure function of (images, recipe, seed, i): on one kind of CPU it has the same bits
for any chunk and any number of networks around it. Another number of devices may round otherwise.
"""

import math
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Any, Literal, NamedTuple

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import PartitionSpec
from jaxtyping import Array, Float, Int, PRNGKeyArray

from common.errors import NumericalError
from common.evaluation import check_labels
from common.nets.dropout import dropout
from common.sharding import make_mesh
from nfn.zoo_networks import NetworkParams, init_network, network, patches
from nfn.zoo_recipes import ACTIVATIONS, Hyperparameters, Recipe, draw_hyperparameters
from nfn.zoo_updates import Training, descend

Mapping = Literal["auto", "map", "vmap"]
OnChunk = Callable[[int, int], None]

EVALUATION_ROWS = 100  # images in memory at a time while accuracies are measured
MAX_ATTEMPTS = 8  # draws of a network that goes on diverging
RETRIED = 4  # networks per device that are drawn again together


class ZooImages(NamedTuple):
    """Images as the networks read them: `patches` of [n, h, w, c] for a CNN, else [n, n_0]."""

    train: Float[Array, "n ..."]
    train_labels: Int[Array, " n"]
    test: Float[Array, "m ..."]
    test_labels: Int[Array, " m"]


class Trained(NamedTuple):
    """n trainings with s snapshots each; accuracies are fractions of 1."""

    params: Any  # leaves [n, s, ...], as Flax names them
    train_accuracy: Float[np.ndarray, "n s"]  # on the first images of the training set
    test_accuracy: Float[np.ndarray, "n s"]
    hyperparameters: Hyperparameters
    attempts: Int[np.ndarray, " n"]  # 1 + how many draws before it had diverged


def zoo_images(
    train: Float[np.ndarray, "n h w *c"],
    train_labels: Int[np.ndarray, " n"],
    test: Float[np.ndarray, "m h w *c"],
    test_labels: Int[np.ndarray, " m"],
    *,
    channels: Sequence[int],
) -> ZooImages:
    """Returns images [n, h, w] or [n, h, w, c] in the form that networks of `channels` read.

    A training on a share of the images takes the first ones: shuffle them before.

    Raises:
        ValueError: If the images do not have as many channels (an MLP: values) as the networks.
    """
    if len(channels) == 1:
        train, test = (x.reshape(len(x), -1) for x in (train, test))
    elif train.ndim == 3:
        train, test = train[..., None], test[..., None]
    if train.shape[-1] != channels[0]:
        what = "values" if len(channels) == 1 else "channels"
        raise ValueError(f"channels={tuple(channels)}: images have {train.shape[-1]} {what}")
    if len(channels) > 1:
        train, test = (np.asarray(patches(jnp.asarray(x))) for x in (train, test))
    columns = (train, train_labels.astype(np.int32), test, test_labels.astype(np.int32))
    return ZooImages._make(columns)


def train_zoo(
    images: ZooImages,
    recipe: Recipe,
    index: Sequence[int] | np.ndarray,
    *,
    seed: int = 0,
    chunk: int = 64,
    mapping: Mapping = "auto",
    on_chunk: OnChunk | None = None,
    devices: Sequence[jax.Device] | None = None,
) -> Trained:
    """Trains networks number `index` of the zoo that images, recipe and seed define.

    Source: Unterthiner et al. (2020), "Predicting Neural Network Accuracy from Weights".

    A network whose weights or logits stop being finite is drawn again, hyper-parameters too.

    Args:
        images: See `zoo_images`.
        recipe: Sizes and ranges.
        index: Numbers of the networks.
        seed: Of hyper-parameters, initializations and batches.
        chunk: Networks a device trains between two calls of `on_chunk`.
        mapping: How a device trains its networks: "map" one after another (fast on CPU), "vmap"
            together (fast on accelerators), "auto" by the platform.
        on_chunk: Called as on_chunk(done, n) whenever more networks are done.
        devices: Over which networks are distributed; all of this process if None.

    Raises:
        ValueError: If there is not one label an image, or labels are no classes of the recipe.
        NumericalError: If a network diverges again and again.
    """
    for rows, labels in (images[:2], images[2:]):
        check_labels(np.asarray(labels), rows=len(rows), classes=recipe.dense[-1])
    devices = tuple(jax.local_devices() if devices is None else devices)
    group, n = chunk * len(devices), len(index)
    placed = jax.device_put(images)
    parts = []
    for start in range(0, n, group):
        numbers = np.asarray(index[start : start + group], np.int32)
        parts.append(_until_finite(placed, recipe, numbers, seed, group, mapping, devices))
        if on_chunk is not None:
            on_chunk(min(n, start + group), n)
    return jax.tree.map(lambda *rows: np.concatenate(rows), *parts)


def _until_finite(
    images: ZooImages,
    recipe: Recipe,
    numbers: Int[np.ndarray, " m"],
    seed: int,
    group: int,
    mapping: Mapping,
    devices: tuple[jax.Device, ...],
) -> Trained:
    """Trains up to `group` networks, those that diverge again from another draw."""
    train = partial(_train_attempt, images, recipe, seed, mapping, devices)
    done = train(numbers, group, 0)
    for attempt in range(1, MAX_ATTEMPTS + 1):
        bad = np.flatnonzero(np.isnan(done.test_accuracy).any(axis=1))
        if not len(bad):
            return done
        few = min(group, RETRIED * len(devices))  # they are seldom more
        for rows in np.split(bad, range(few, len(bad), few)):
            again = train(numbers[rows], few, attempt)
            for old, new in zip(jax.tree.leaves(done), jax.tree.leaves(again), strict=True):
                old[rows] = new
    raise NumericalError(
        f"one of the networks {numbers.min()} to {numbers.max()} of the zoo diverged "
        f"{MAX_ATTEMPTS} times; lower learning_rate={recipe.learning_rate} or init_scale="
        f"{recipe.init_scale} of the recipe"
    )


def _train_attempt(
    images: ZooImages,
    recipe: Recipe,
    seed: int,
    mapping: Mapping,
    devices: tuple[jax.Device, ...],
    numbers: Int[np.ndarray, " m"],
    size: int,
    attempt: int,
) -> Trained:
    """Trains networks from draw number `attempt`, filled up to `size` as others were."""
    padded = np.resize(numbers, size)
    hyperparameters = draw_hyperparameters(
        recipe, padded, seed=seed, num_images=len(images.train), attempt=attempt
    )
    key = jax.random.fold_in(jax.random.key(seed), attempt)
    trained = train_networks(
        key, images, padded, hyperparameters, recipe=recipe, mapping=mapping, devices=devices
    )
    trained.attempts[:] = attempt + 1
    return jax.tree.map(lambda x: np.array(x[: len(numbers)]), trained)


def train_networks(
    key: PRNGKeyArray,
    images: ZooImages,
    index: Int[np.ndarray, " n"],
    hyperparameters: Hyperparameters,
    *,
    recipe: Recipe,
    mapping: Mapping = "auto",
    devices: Sequence[jax.Device] | None = None,
) -> Trained:
    """Trains n networks in one call of one compiled program; n is a multiple of the devices.

    The inner function of the zoo and the one to measure its speed by: n * recipe.steps steps of
    networks. Network j starts from `key` into which index[j] is folded; one that diverges has
    accuracies NaN. The first call with a recipe and n compiles.
    """
    devices = tuple(jax.local_devices() if devices is None else devices)
    if mapping == "auto":
        mapping = "map" if devices[0].platform == "cpu" else "vmap"
    run = _compiled(recipe, mapping, devices)
    params, train, test = jax.device_get(run(key, images, index, hyperparameters))
    return Trained(params, train, test, hyperparameters, np.ones(len(index), np.int32))


@lru_cache(maxsize=4)
def _compiled(recipe: Recipe, mapping: Mapping, devices: tuple[jax.Device, ...]) -> Any:
    one = partial(train_network, recipe=recipe)

    def many(
        key: PRNGKeyArray, images: ZooImages, index: jax.Array, hyperparameters: Hyperparameters
    ) -> tuple[Any, ...]:
        def member(row: tuple[jax.Array, Hyperparameters]) -> tuple[Any, ...]:
            return one(jax.random.fold_in(key, row[0]), images, row[1])

        over = jax.vmap(member) if mapping == "vmap" else partial(lax.map, member)
        return over((index, hyperparameters))

    split, whole = PartitionSpec("member"), PartitionSpec()
    return jax.jit(
        jax.shard_map(
            many,
            mesh=make_mesh({"member": -1}, devices),
            in_specs=(whole, whole, split, split),
            out_specs=split,
            check_vma=False,  # the zero moments start equal on all devices, then differ
        )
    )


def train_network(
    key: PRNGKeyArray, images: ZooImages, hyperparameters: Hyperparameters, *, recipe: Recipe
) -> tuple[NetworkParams, Float[Array, " s"], Float[Array, " s"]]:
    """Returns the snapshots of one training, their train and their test accuracies.

    Valid under `jax.vmap` and `lax.map`. Accuracies are NaN where a weight is not finite.
    """
    key_init, key_steps = jax.random.split(key)
    params = init_network(
        key_init,
        channels=recipe.channels,
        dense=recipe.dense,
        scale=hyperparameters.init_scale,
    )
    # All weights in one vector: an update is then one operation, not one for every tensor.
    vector, unravel = jax.flatten_util.ravel_pytree(params)
    step = partial(_step, key_steps, images, hyperparameters, unravel, recipe)

    def segment(state: Training, limits: tuple[jax.Array, jax.Array]) -> tuple[Training, jax.Array]:
        state = lax.fori_loop(limits[0], limits[1], step, state)
        return state, state.weights

    ends = hyperparameters.snapshots
    starts = jnp.concatenate([jnp.zeros_like(ends[:1]), ends[:-1]])
    zeros = jnp.zeros_like(vector)
    _, snapshots = lax.scan(segment, Training(vector, zeros, zeros), (starts, ends))
    params = jax.vmap(unravel)(snapshots)

    rows = min(len(images.train), len(images.test))
    train = (images.train[:rows], images.train_labels[:rows])
    is_finite = jnp.isfinite(snapshots).all(axis=1)

    def accuracy(x: jax.Array, labels: jax.Array) -> jax.Array:
        shares = lax.map(lambda p: _accuracy(p, x, labels, hyperparameters), params)
        return jnp.where(is_finite, shares, jnp.nan)

    return params, accuracy(*train), accuracy(images.test, images.test_labels)


def _step(
    key: PRNGKeyArray,
    images: ZooImages,
    hyperparameters: Hyperparameters,
    unravel: Callable[[jax.Array], NetworkParams],
    recipe: Recipe,
    number: jax.Array,
    state: Training,
) -> Training:
    """Returns the training after one more step."""
    key_batch, key_dropout = jax.random.split(jax.random.fold_in(key, number))
    chosen = jax.random.randint(key_batch, (recipe.batch_size,), 0, hyperparameters.num_images)
    x, labels = images.train[chosen], images.train_labels[chosen]
    drops = partial(_drop_channels, key_dropout, hyperparameters.dropout)

    def loss(params: NetworkParams) -> jax.Array:
        activation = partial(_activation, hyperparameters.activation)
        dropout = {"dropout": drops} if recipe.dropout[1] else {}
        log_p = jax.nn.log_softmax(network(params, x, activation=activation, **dropout))
        return -jnp.mean(jnp.take_along_axis(log_p, labels[:, None], axis=-1))

    gradient, _ = jax.flatten_util.ravel_pytree(jax.grad(loss)(unravel(state.weights)))
    gradient += 2 * hyperparameters.l2 * state.weights
    return descend(
        state,
        gradient,
        step=number,
        optimizer=hyperparameters.optimizer,
        learning_rate=hyperparameters.learning_rate,
    )


def _activation(which: jax.Array, h: jax.Array) -> jax.Array:
    return jnp.where(which == ACTIVATIONS.index("tanh"), jnp.tanh(h), jax.nn.relu(h))


def _drop_channels(key: PRNGKeyArray, rate: jax.Array, layer: int, h: jax.Array) -> jax.Array:
    """Returns the output of a hidden layer without some whole channels, the rest scaled up."""
    shape = (h.shape[0], *[1] * (h.ndim - 2), h.shape[-1])
    return dropout(jax.random.fold_in(key, layer), h, rate=rate, shape=shape)


def _accuracy(
    params: NetworkParams, x: jax.Array, labels: jax.Array, hyperparameters: Hyperparameters
) -> jax.Array:
    """Returns the share of right answers, NaN if an answer is not finite; a slice at a time."""
    size = math.gcd(len(x), EVALUATION_ROWS)
    activation = partial(_activation, hyperparameters.activation)

    def rows(chosen: tuple[jax.Array, jax.Array]) -> jax.Array:
        logits = network(params, chosen[0], activation=activation)
        is_right = jnp.argmax(logits, axis=-1) == chosen[1]
        return jnp.where(jnp.isfinite(logits).all(), jnp.mean(is_right), jnp.nan)

    shares = lax.map(rows, (x.reshape(-1, size, *x.shape[1:]), labels.reshape(-1, size)))
    return jnp.mean(shares)
