"""Drawing winning tickets: the ELBO by hand, equivariance of the decoder, the experiment whole."""

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from common.config import load_config
from common.errors import UserError
from common.experiment import build
from common.loop import program
from nfn import features, pruning
from nfn.equivariant.tickets import data as ticket_data
from nfn.equivariant.tickets import model
from nfn.equivariant.tickets.experiment import baselines
from nfn.equivariant.tickets.model import CvaeSpec, Gaussian
from nfn.weights import TensorSpec, WeightSpace, hidden_only, mlp_space, weight_space
from tests.small_runs import draws_like

CONFIG = "nfn/equivariant/configs/tickets.py"
SMALL = {
    "data.size": "4",
    "data.train_per_class": "8",
    "data.test_per_class": "5",
    "data.widths": "(6, 5)",
    "data.steps": "10",
    "data.num_train": "6",
    "data.num_valid": "2",
    "data.num_test": "3",
    "model.channels": "4",
    "model.num_layers": "1",
    "num_steps": "2",
    "steps_per_call": "1",
    "eval_every": "0",
    "checkpoint_every": "0",
    "batch_size": "2",
    "evaluate_chunk": "2",
}
SPACE = mlp_space((3, 4, 2))
SPEC = CvaeSpec("np", 6, 1, 2, layer_norm=True, dtype="float32", remat=False)


def gaussian(seed: int = 0, batch: int = 2) -> Gaussian:
    """Returns a posterior with 2 latent channels, far from the prior."""
    draws = 0.7 * jax.random.normal(jax.random.key(seed), (2, batch, 2 * SPACE.size))
    mean, log_variance = (features.features_from_vector(SPACE, draw) for draw in draws)
    return Gaussian(mean, log_variance)


def test_the_terms_of_the_elbo_equal_hand_computed_ones() -> None:
    space = weight_space([TensorSpec("Dense_0/kernel", (2, 1), ("input", None))])
    logits = {"Dense_0/kernel": jnp.array([[[math.log(3)], [math.log(1 / 4)]]])}  # p = 3/4, 1/5
    mask = {"Dense_0/kernel": jnp.array([[[1.0], [0.0]]])}
    # Means 1 and 0, variances 1 and 4: KL = 1/2 (1) + 1/2 (4 - 1 - log 4).
    posterior = Gaussian(
        {"Dense_0/kernel": jnp.array([[[1.0], [0.0]]])},
        {"Dense_0/kernel": jnp.array([[[0.0], [math.log(4)]]])},
    )

    likelihood = model.log_likelihood(logits, mask, space=space)
    assert likelihood == pytest.approx(math.log(3 / 4) + math.log(4 / 5), rel=1e-6)
    assert model.kl_from_prior(posterior) == pytest.approx(0.5 + 1.5 - math.log(2), rel=1e-6)


def test_the_likelihood_is_that_of_the_kernels_only() -> None:
    shapes = features.feature_shapes(SPACE, 1)
    zeros = {path: jnp.zeros((1, *shape)) for path, shape in shapes.items()}
    kernels = sum(math.prod(t.shape) for t in SPACE.tensors if pruning.is_kernel(t.path))

    likelihood = model.log_likelihood(zeros, zeros, space=SPACE)

    assert likelihood == pytest.approx(-kernels * math.log(2), rel=1e-6)


def test_the_kl_divergence_is_the_mean_log_ratio_of_densities() -> None:
    posterior = gaussian()

    def log_ratio(key: jax.Array) -> jax.Array:
        z = model.sample(key, posterior)
        terms = jax.tree.map(
            lambda x, mean, log_variance: jnp.sum(
                0.5 * (x**2 - log_variance - (x - mean) ** 2 / jnp.exp(log_variance)),
                axis=range(1, x.ndim),
            ),
            z,
            *posterior,
        )
        return sum(jax.tree.leaves(terms), start=jnp.zeros(2))

    ratios = jax.jit(jax.vmap(log_ratio))(jax.random.split(jax.random.key(1), 4_000))
    stderr = jnp.std(ratios, axis=0) / math.sqrt(4_000)

    assert (jnp.abs(jnp.mean(ratios, axis=0) - model.kl_from_prior(posterior)) < 4 * stderr).all()


@pytest.mark.parametrize(
    "kind", ["np", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("pt", "hnp"))]
)
def test_decoder_and_encoder_commute_with_permutations_of_hidden_neurons(kind: str) -> None:
    spec = SPEC._replace(kind=kind)
    inner = hidden_only(SPACE) if kind == "hnp" else SPACE
    init = partial(model.init_cvae, space=SPACE, spec=spec)
    params = draws_like(jax.eval_shape(init, jax.random.key(0)))
    permutations = features.random_permutation(jax.random.key(3), hidden_only(SPACE))

    def draw(seed: int, c: int) -> features.Features:
        key = jax.random.key(seed)
        vector = jax.random.normal(key, (2, SPACE.size * c))
        return features.features_from_vector(inner, vector)

    def move(x: features.Features) -> features.Features:
        return features.permute_features(inner, x, permutations)

    def outputs(u: features.Features, z: features.Features, m: features.Features) -> Any:
        logits = model.decode(params, u, z, space=SPACE, spec=spec)
        return logits, model.encode(params, u, m, space=SPACE, spec=spec)

    @jax.jit
    def both_ways(inputs: tuple[features.Features, ...]) -> Any:
        logits, posterior = outputs(*inputs)
        moved_last = move(logits), Gaussian(*map(move, posterior))
        return outputs(*map(move, inputs)), moved_last, (logits, posterior)

    moved_first, moved_last, unmoved = both_ways(
        (draw(1, 1), draw(2, spec.latent_channels), draw(4, 1))
    )
    for got, expected in zip(
        jax.tree.leaves(moved_first), jax.tree.leaves(moved_last), strict=True
    ):
        np.testing.assert_allclose(got, expected, atol=2e-5)  # float32 means over a few neurons
    logits, posterior = unmoved
    for path, leaf in (logits | {f"mean {p}": x for p, x in posterior.mean.items()}).items():
        assert np.std(leaf) > 0.01, path


def test_hnp_is_refused_where_its_layer_would_be_huge() -> None:
    with pytest.raises(UserError, match="1,269,190 entries.*np or pt"):
        build(load_config(f"{CONFIG}:paper,dataset=mnist", {"model.kind": "hnp"}))


@pytest.mark.slow
@pytest.mark.parametrize("network", ["mlp", "cnn"])
def test_an_experiment_trains_and_measures_masks_of_the_stated_sparsity(network: str) -> None:
    options = {**SMALL, "data.channels": "(3, 3)", "data.widths": "(4,)"}
    config = load_config(f"{CONFIG}:cpu,network={network}", options if network == "cnn" else SMALL)
    experiment = build(config)
    data = experiment.data()
    shapes = jax.tree.map(lambda x: (x.shape, x.dtype), data)
    assert experiment.abstract_data is not None and experiment.final is not None
    assert shapes == jax.tree.map(lambda x: (x.shape, x.dtype), experiment.abstract_data())
    for part in ("train", "valid", "test"):
        assert pruning.sparsity_of(data[part]["mask"]) == pytest.approx(0.95, abs=0.01)

    key = jax.random.key(0)
    state = jax.jit(experiment.init)(key)
    batch = experiment.batch(0)
    _, metrics = jax.jit(experiment.step)(state, data, batch, jax.random.key(1))
    measured = program.evaluate(experiment.final, state, data, jax.random.key(2))
    assert math.isfinite(metrics["loss"])
    assert measured["drawn_sparsity"] == measured["likeliest_sparsity"]
    assert measured["drawn_sparsity"] == pytest.approx(95, abs=1)
    assert 0 <= measured["drawn_overlap"] <= 100


@pytest.mark.slow  # draws and prunes networks
def test_the_rows_without_a_model_share_networks_and_metrics() -> None:
    config = load_config(f"{CONFIG}:cpu", SMALL)
    values = baselines(config)

    assert values["dense_sparsity"] == 0
    assert values["imp_overlap"] == 100 and values["random_overlap"] < 100
    assert values["imp_sparsity"] == values["random_sparsity"]
    kept = 1 - values["random_sparsity"] / 100
    coin = kept * math.log(kept) + (1 - kept) * math.log(1 - kept)
    assert values["random_elbo"] == pytest.approx(coin, rel=1e-4)
    assert baselines(config) == values


@pytest.mark.slow
def test_a_larger_set_of_pairs_holds_the_smaller_one() -> None:
    spec = ticket_data.ticket_spec(load_config(f"{CONFIG}:cpu", SMALL).data)
    few, many = (
        ticket_data.tickets(ticket_data.with_checksum(spec._replace(num_train=n))) for n in (2, 3)
    )

    for name, rows in few.items():
        np.testing.assert_array_equal(many[name][: len(rows)], rows)


def weight_space_of(preset: str) -> WeightSpace:
    return ticket_data.ticket_space(ticket_data.ticket_spec(load_config(preset).data))


def test_the_paper_presets_prune_the_networks_of_the_paper() -> None:
    assert weight_space_of(f"{CONFIG}:paper,dataset=mnist") == mlp_space((784, 128, 128, 10))
    cnn = weight_space_of(f"{CONFIG}:paper,dataset=cifar10")
    assert [t.shape for t in cnn.tensors if pruning.is_kernel(t.path)] == [
        (3, 3, 3, 128),
        (3, 3, 128, 128),
        (3, 3, 128, 128),
        (128, 128),
        (128, 10),
    ]
