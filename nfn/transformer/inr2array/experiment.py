"""INR2ARRAY as pure functions: reconstruct the picture of a SIREN from an invariant array."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray
from ml_collections import ConfigDict

from common.data.epochs import epoch_indices
from common.evaluation import SumCount, sums_over, values_over
from common.experiment import Batch, Experiment, Metrics
from common.networks import Network
from common.steps import TrainState
from common.supervised import take, training
from nfn.features import permute_networks
from nfn.siren import SirenParams
from nfn.siren_sets import SirenSetSpec
from nfn.tasks import sirens
from nfn.transformer.inr2array import model
from nfn.transformer.inr2array.data import (
    abstract_array_data,
    array_data,
    move_randomly,
    num_images,
    rows_of,
)

PyTree = Any
# What `final` measures; an experiment that stands on a trained autoencoder reports the same.
METRICS = ("test_mse", "test_image_mse", "mean_image_mse", "array_change", "retrieval")


class Autoencoder(NamedTuple):
    """The networks of a config and what they need to know.

    `picture` draws the networks themselves: params [batch, ...] -> [batch, pixels, c].
    """

    encoder: model.Encoder
    decoder: Network
    picture: Callable[[SirenParams], Float[Array, "batch pixels c"]]
    spec: SirenSetSpec
    statistics: sirens.Statistics


class AutoencoderParams(NamedTuple):
    """Parameters of encoder and decoder."""

    encoder: model.EncoderParams
    decoder: PyTree


def autoencoder(config: ConfigDict) -> Autoencoder:
    """Returns the networks of the config of `inr2array`."""
    spec = sirens.siren_set_spec(config.data)
    space, sizes = sirens.siren_space(spec), model.AutoencoderSpec(**config.model.to_dict())
    drawing = model.Drawing(spec.size, spec.omega, spec.sine)
    encoder = model.encoder(space, sizes, drawing=drawing)
    decoder = model.decoder(space, sizes, drawing=drawing)
    statistics = sirens.statistics_of(encoder.read, encoder.space, normalize=config.data.normalize)
    picture = partial(sirens.renderings, spec=spec)
    return Autoencoder(encoder, decoder, picture, spec, statistics)


def inr2array(config: ConfigDict) -> Experiment:
    """Trains INR2ARRAY (Sec. "INR2ARRAY"): an array per SIREN from which its picture is redrawn."""
    networks = autoencoder(config)
    spec, chunk = networks.spec, config.evaluate_chunk

    def init_params(key: PRNGKeyArray) -> AutoencoderParams:
        key_encoder, key_decoder = jax.random.split(key)
        return AutoencoderParams(
            networks.encoder.init(key_encoder), networks.decoder.init(key_decoder)
        )

    num_train, loss = num_images(spec)["train"], _loss(networks, config.task)
    trained = training(config, init_params, loss, num_train=num_train * spec.copies)
    if config.task.aligned:
        trained = trained._replace(batch=partial(_aligned_batch, config, num_train, spec.copies))

    def evaluate(state: TrainState, data: PyTree, key: PRNGKeyArray) -> dict[str, SumCount]:
        del key
        return _valid_error(networks, state.params, data, config.task.target, chunk)

    def final(state: TrainState, data: PyTree, key: PRNGKeyArray) -> dict[str, SumCount]:
        metrics = _test_metrics(networks, state.params, data, key, chunk)
        if spec.copies > 1:  # else no image has a second fit
            count = config.retrieval_images
            metrics["retrieval"] = _retrieval(networks, state.params, data, count, chunk)
        return metrics

    def predict(state: TrainState, data: PyTree, weights: SirenParams) -> dict[str, jax.Array]:
        array = networks.encoder.apply(state.params.encoder, weights, data["statistics"])
        return {"array": array, "picture": networks.decoder.apply(state.params.decoder, array)}

    return Experiment(
        data=lambda: array_data(spec, networks.statistics),
        **trained._asdict(),
        evaluate=evaluate,
        final=final,
        predict=predict,
        abstract_data=lambda: abstract_array_data(spec, networks.statistics),
        describe=lambda: sirens.describe(spec),
        identity=lambda: sirens.identity(spec),
    )


def _aligned_batch(config: ConfigDict, num_train: int, copies: int, step: int) -> Batch:
    """Returns the networks that a step sees: all copies of its images together."""
    sizes = {"num_examples": num_train, "batch_size": config.batch_size // copies}
    image = epoch_indices(config.seed, step, **sizes)
    index = image[:, None] + num_train * np.arange(copies, dtype=np.int32)
    return {"index": index.reshape(-1)}


def _loss(networks: Autoencoder, task: ConfigDict) -> Callable[..., tuple[jax.Array, Metrics]]:
    """Returns the mean error of the pictures drawn from arrays of the batch's networks."""
    size = networks.spec.size

    def loss(
        params: AutoencoderParams, data: PyTree, batch: PyTree, key: PRNGKeyArray
    ) -> tuple[jax.Array, Metrics]:
        key_move, key_dropout = jax.random.split(key)
        index, images = batch["index"], data["images"]["train"]
        weights = take(data["train"]["params"], index)
        image = images[index % images.shape[0]]
        counts = jnp.ones((*image.shape[:2], 1), bool)
        if task.augment:
            keys = jax.random.split(key_move, index.shape[0])
            move = partial(move_randomly, size=size, max_shift=task.max_shift)
            weights, image, counts = jax.vmap(move)(keys, weights, image)
        target = image if task.target == "image" else networks.picture(weights)
        array = networks.encoder.apply(params.encoder, weights, data["statistics"], key_dropout)
        error = networks.decoder.apply(params.decoder, array) - target
        size_of_error = jnp.abs(error) if task.loss == "l1" else error**2
        total = jnp.sum(jnp.where(counts, size_of_error, 0))
        mean = total / (jnp.sum(counts) * error.shape[-1])
        return mean, {"array_norm": jnp.sqrt(jnp.mean(array**2))}

    return loss


def _valid_error(
    networks: Autoencoder, params: AutoencoderParams, data: PyTree, target: str, chunk: int
) -> dict[str, SumCount]:
    """Returns the mean square error of what is redrawn from validation networks."""

    def values(rows: PyTree) -> dict[str, jax.Array]:
        array = networks.encoder.apply(params.encoder, rows["params"], data["statistics"])
        if target == "image":
            wanted = data["images"]["valid"][rows["image"]]
        else:
            wanted = networks.picture(rows["params"])
        return {"valid_mse": _mse(networks.decoder.apply(params.decoder, array), wanted)}

    return sums_over(values, rows_of(data, "valid"), chunk=chunk)


def _test_metrics(
    networks: Autoencoder, params: AutoencoderParams, data: PyTree, key: PRNGKeyArray, chunk: int
) -> dict[str, SumCount]:
    """Compares pictures redrawn from test networks, and their arrays with permuted ones'.

    mean_image_mse: the error of what knows nothing, the mean training image in their place.
    array_change: how much permuting hidden neurons changes an entry of an array, at most, in
    units of the root mean square of all entries.
    """
    space = sirens.siren_space(networks.spec)
    mean_image = jnp.mean(data["images"]["train"], axis=0)

    def values(rows: PyTree, key: PRNGKeyArray) -> dict[str, jax.Array]:
        weights, image = rows["params"], data["images"]["test"][rows["image"]]
        moved = permute_networks(key, space, weights)
        both = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), weights, moved)
        arrays = networks.encoder.apply(params.encoder, both, data["statistics"])
        before, after = jnp.split(arrays, 2)
        redrawn = networks.decoder.apply(params.decoder, before)
        picture = networks.picture(weights)
        return {
            "test_mse": _mse(redrawn, picture),
            "test_image_mse": _mse(redrawn, image),
            "mean_image_mse": _mse(jnp.broadcast_to(mean_image, picture.shape), picture),
            "change": jnp.max(jnp.abs(before - after), axis=(-2, -1)),
            "square": jnp.mean(before**2, axis=(-2, -1)),
        }

    found = values_over(values, rows_of(data, "test"), chunk=chunk, key=key)
    change, square = found.pop("change"), found.pop("square")
    metrics = {name: (jnp.sum(x), jnp.float32(x.size)) for name, x in found.items()}
    change = jnp.max(change) / jnp.sqrt(jnp.mean(square))
    return {**metrics, "array_change": (change, jnp.float32(1))}


def _mse(
    picture: Float[Array, "batch pixels c"], wanted: Float[Array, "batch pixels c"]
) -> Float[Array, " batch"]:
    return jnp.mean((picture - wanted) ** 2, axis=(-2, -1))


def _retrieval(
    networks: Autoencoder, params: AutoencoderParams, data: PyTree, count: int, chunk: int
) -> SumCount:
    """Returns the percentage of images that are found again by another fit.

    The array of the first fit of each of `count` training images is compared with those of their
    second fits: found, if the nearest one belongs to the same image. Chance is 100 / count.
    """
    num_train = data["images"]["train"].shape[0]
    count = min(count, num_train)

    weights = jax.tree.map(
        lambda x: jnp.concatenate([x[:count], x[num_train : num_train + count]]),
        data["train"]["params"],
    )

    def values(rows: PyTree) -> dict[str, jax.Array]:
        array = networks.encoder.apply(params.encoder, rows, data["statistics"])
        return {"array": array.reshape(array.shape[0], -1)}

    first, second = jnp.split(values_over(values, weights, chunk=chunk)["array"], 2)
    product = jnp.matmul(first, second.T, precision=jax.lax.Precision.HIGHEST)
    distance = jnp.sum(second**2, axis=-1)[None] - 2 * product  # up to a constant of each row
    is_found = jnp.argmin(distance, axis=-1) == jnp.arange(count)
    return 100 * jnp.sum(is_found).astype(jnp.float32), jnp.float32(count)
