"""Learning to draw winning tickets: ELBO, and what the drawn masks are worth after training."""

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from common.evaluation import SumCount, means, sums_over
from common.experiment import Experiment, Metrics
from common.gradients import Loss
from common.keys import EVALUATE, root_key, stream
from common.steps import TrainState
from common.supervised import take, training
from nfn import encodings, features, pruning
from nfn.equivariant.tickets import data as ticket_data
from nfn.equivariant.tickets import model
from nfn.equivariant.tickets.data import TicketSpec
from nfn.equivariant.tickets.model import CvaeParams, CvaeSpec
from nfn.stack import stack_space
from nfn.weights import WeightSpace

PyTree = Any


def tickets(config: ConfigDict) -> Experiment:
    """Learns the distribution of winning tickets given the initial weights (Table 5)."""
    spec, cvae = ticket_data.ticket_spec(config.data), CvaeSpec(**config.model.to_dict())
    space = ticket_data.ticket_space(spec)
    model.check_size(space, cvae.kind)
    loss, chunk = _loss(space, cvae), config.evaluate_chunk
    init_params = partial(model.init_cvae, space=space, spec=cvae)
    trained = training(config, init_params, loss, num_train=spec.num_train)

    def evaluate(state: TrainState, data: PyTree, key: jax.Array) -> dict[str, SumCount]:
        return _measure_elbo(space, cvae, state.params, data, key, "valid", chunk)

    def final(state: TrainState, data: PyTree, key: jax.Array) -> dict[str, SumCount]:
        key_networks, key_masks, key_train, key_test = jax.random.split(key, 4)
        masks, sparsity = _draw_masks(space, cvae, spec, state.params, data, key_masks)
        return {
            **_measure_elbo(space, cvae, state.params, data, key_train, "train", chunk),
            **_measure_elbo(space, cvae, state.params, data, key_test, "test", chunk),
            **_measure_masks(spec, masks, data, key_networks),
            "expected_sparsity": sparsity,
        }

    return Experiment(
        data=lambda: ticket_data.ticket_data(spec, kind=cvae.kind, normalize=config.data.normalize),
        **trained._asdict(),
        evaluate=evaluate,
        final=final,
        predict=lambda state, data, weights: keep_logits(
            state.params, data, weights, space=space, cvae=cvae
        ),
        abstract_data=lambda: ticket_data.abstract_ticket_data(spec, kind=cvae.kind),
        describe=lambda: ticket_data.describe(spec),
        identity=lambda: ticket_data.identity(spec),
    )


def baselines(config: ConfigDict) -> dict[str, float]:
    """Returns what dense networks, their tickets and random masks reach on the test pairs.

    Networks see their batches in the order in which those of a run with the same seed see them.
    """
    spec = ticket_data.ticket_spec(config.data)
    data = ticket_data.ticket_data(spec, kind="np", normalize=False)
    key = stream(root_key(config), EVALUATE)

    def measure(data: PyTree, key: jax.Array) -> dict[str, SumCount]:
        weights, ticket = data["test"]["weights"], data["test"]["mask"]
        key_networks, key_masks, *_ = jax.random.split(key, 4)  # as in `final`
        keys = jax.random.split(key_masks, spec.num_test)
        chance = jax.vmap(
            lambda k, w: pruning.random_mask(k, w, sparsity=spec.sparsity, scope=spec.scope)
        )(keys, weights)
        masks = {"dense": pruning.full_mask(weights), "imp": ticket, "random": chance}
        values = _measure_masks(spec, masks, data, key_networks)
        kept = 1 - pruning.sparsity_of(chance)
        coin = kept * jnp.log(kept) + (1 - kept) * jnp.log(1 - kept)
        return {**values, "random_elbo": (coin, jnp.float32(1))}

    return means(jax.jit(measure)(data, key))


def keep_logits(
    params: CvaeParams, data: PyTree, weights: PyTree, *, space: WeightSpace, cvae: CvaeSpec
) -> PyTree:
    """Returns the logit of p(M | U_0) for every weight, the mean over 8 draws of Z, as params."""
    inner = stack_space(space, cvae.kind)
    x = _weights(inner, weights, data)

    def probability(key: jax.Array) -> features.Features:
        z = model.sample(key, model.prior(x, cvae))
        logits = model.decode(params, x, z, space=space, spec=cvae)
        return jax.tree.map(jax.nn.sigmoid, logits)

    draws = jax.lax.map(probability, jax.random.split(jax.random.key(0), 8))
    logits = jax.tree.map(lambda p: jax.scipy.special.logit(jnp.mean(p, axis=0)), draws)
    return features.params_from_features(inner, logits)


def _loss(space: WeightSpace, cvae: CvaeSpec) -> Loss:
    """Returns the negative ELBO in nats per kernel entry."""
    count = _num_prunable(space)

    def loss(
        params: PyTree, data: PyTree, batch: PyTree, key: jax.Array
    ) -> tuple[jax.Array, Metrics]:
        pairs = take(data["train"], batch["index"])
        likelihood, kl = _elbo(space, cvae, params, data, pairs, key)
        metrics = {"log_likelihood": jnp.mean(likelihood) / count, "kl": jnp.mean(kl) / count}
        return metrics["kl"] - metrics["log_likelihood"], metrics

    return loss


def _elbo(
    space: WeightSpace, cvae: CvaeSpec, params: PyTree, data: PyTree, pairs: PyTree, key: jax.Array
) -> tuple[jax.Array, jax.Array]:
    inner = stack_space(space, cvae.kind)
    mask = jax.tree.map(lambda m: m.astype(jnp.float32), pairs["mask"])
    return model.elbo(
        params,
        key,
        _weights(inner, pairs["weights"], data),
        features.features_from_params(inner, mask),
        space=space,
        spec=cvae,
    )


def _measure_elbo(
    space: WeightSpace,
    cvae: CvaeSpec,
    params: PyTree,
    data: PyTree,
    key: jax.Array,
    part: str,
    chunk: int,
) -> dict[str, SumCount]:
    """Returns ELBO and KL in nats per kernel entry, one draw of Z for every pair."""
    count = _num_prunable(space)

    def values(pairs: PyTree, key: jax.Array) -> dict[str, jax.Array]:
        likelihood, kl = _elbo(space, cvae, params, data, pairs, key)
        return {"elbo": (likelihood - kl) / count, "kl": kl / count}

    return sums_over(values, data[part], chunk=chunk, prefix=f"{part}_", key=key)


def _draw_masks(
    space: WeightSpace,
    cvae: CvaeSpec,
    spec: TicketSpec,
    params: PyTree,
    data: PyTree,
    key: jax.Array,
) -> tuple[dict[str, PyTree], SumCount]:
    """Returns two masks for all test weights, Z from the prior, and the sparsity of p(M | U_0, Z).

    "drawn" are masks of the exact sparsity of tickets: a Bernoulli draw keeps an entry if its
    logit plus logistic noise is above 0; here the highest sums are kept. "likeliest" are the
    highest logits without noise.
    """
    key_latent, key_noise = jax.random.split(key)
    inner = stack_space(space, cvae.kind)

    def draw(row: tuple[jax.Array, PyTree]) -> tuple[PyTree, PyTree, jax.Array]:
        i, single = row
        x = _weights(inner, jax.tree.map(lambda w: w[None], single), data)
        z = model.sample(jax.random.fold_in(key_latent, i), model.prior(x, cvae))
        logits = features.params_from_features(
            inner, model.decode(params, x, z, space=space, spec=cvae)
        )
        logits = jax.tree.map(lambda leaf: leaf[0], logits)
        noisy = _add_logistic(jax.random.fold_in(key_noise, i), logits)
        kept = [jnp.sum(jax.nn.sigmoid(leaf)) for leaf in pruning.kernels_of(logits)]
        keep = partial(pruning.keep_top, sparsity=spec.sparsity, scope=spec.scope)
        density = jnp.sum(jnp.stack(kept)) / _num_prunable(space)
        return keep(noisy), keep(logits), 100 * (1 - density)

    drawn, likeliest, sparsity = jax.lax.map(
        draw, (jnp.arange(spec.num_test), data["test"]["weights"])
    )
    percent = (jnp.sum(sparsity), jnp.float32(spec.num_test))
    return {"drawn": drawn, "likeliest": likeliest}, percent


def _measure_masks(
    spec: TicketSpec, masks: dict[str, PyTree], data: PyTree, key: jax.Array
) -> dict[str, SumCount]:
    """Trains the test networks under several masks each, and tests them.

    Network i sees its batches in the same order under every mask.

    Returns:
        Of every mask, test accuracy in percent and its standard error over the initializations,
        overlap with the true ticket in percent, sparsity in percent.
    """
    weights, n = data["test"]["weights"], spec.num_test

    def trained_accuracy(row: tuple[jax.Array, PyTree, PyTree], shared: PyTree) -> jax.Array:
        (i, weights, mask), (key, images) = row, shared
        train, test = images["train"], images["test"]
        key = jax.random.fold_in(key, i)
        params = pruning.train(
            key, weights, mask, train["pixels"], train["label"], recipe=spec.recipe
        )
        return pruning.accuracy(params, test["pixels"], test["label"])

    # All masks in one stack: the training is compiled once.
    repeated = jax.tree.map(lambda x: jnp.concatenate([x] * len(masks)), (jnp.arange(n), weights))
    stacked = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *masks.values())
    accuracy = pruning.over_members(
        trained_accuracy, (*repeated, stacked), (key, data["images"]), chunk=spec.chunk
    ).reshape(len(masks), n)
    measured = {}
    for name, mask, values in zip(masks, masks.values(), accuracy, strict=True):
        stderr = jnp.std(values, ddof=1) / math.sqrt(n)
        shared = jnp.mean(jax.vmap(pruning.overlap)(mask, data["test"]["mask"]))
        measured |= {
            f"{name}_test_accuracy": (jnp.sum(values), jnp.float32(n)),
            f"{name}_stderr": (stderr, jnp.float32(1)),
            f"{name}_overlap": (shared, jnp.float32(1)),
            f"{name}_sparsity": (100 * pruning.sparsity_of(mask), jnp.float32(1)),
        }
    return measured


def _add_logistic(key: jax.Array, logits: PyTree) -> PyTree:
    leaves, tree = jax.tree.flatten(logits)
    keys = jax.random.split(key, len(leaves))
    noise = [jax.random.logistic(k, leaf.shape) for k, leaf in zip(keys, leaves, strict=True)]
    return jax.tree.map(jnp.add, logits, jax.tree.unflatten(tree, noise))


def _weights(inner: WeightSpace, weights: PyTree, data: PyTree) -> features.Features:
    return encodings.normalize(data["statistics"], features.features_from_params(inner, weights))


def _num_prunable(space: WeightSpace) -> int:
    return sum(math.prod(t.shape) for t in space.tensors if pruning.is_kernel(t.path))
