"""Predicting generalization as a whole: splits, statistics, invariance after training, sizes."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import kendalltau

from common.config import load_config
from common.experiment import build
from common.keys import root_key
from common.loop import program
from nfn import features
from nfn.stack import StackSpec, linear_trunk
from nfn.statistics import tensor_statistics
from nfn.tasks.accuracy import predict_accuracy, trunk_predictor
from nfn.tasks.zoos import zoo_data, zoo_space
from nfn.weights import hidden_only, mlp_space
from tests.small_runs import drawn, train

CONFIG = "nfn/equivariant/configs/generalization.py"
MLP_CONFIG = "nfn/equivariant/configs/mlp_generalization.py"
PARTS = ("train", "valid", "test")
SMALL = {
    "data.channels": "(1, 4)",
    "data.zoo_steps": "30",
    "data.zoo_batch_size": "16",
    "data.runs": "60",
    "data.piece": "60",  # filled up to 64 networks
    "data.train_runs": "36",
    "data.valid_runs": "12",
    "data.test_runs": "12",
    "model.widths": "(4, 3)",
    "model.head_widths": "(16,)",
    "num_steps": "60",
    "steps_per_call": "20",
    "eval_every": "20",
    "checkpoint_every": "0",
    "batch_size": "12",
    "evaluate_chunk": "5",
    "optimizer.warmup_steps": "0",
    "optimizer.learning_rate": "1e-2",
}


@pytest.mark.slow  # test_readme_nfn.py has it of such a predictor
@pytest.mark.parametrize(
    "kind", ["np", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("hnp", "statnn"))]
)
def test_permuted_networks_get_the_same_prediction(kind: str) -> None:
    experiment, data, state = drawn(load_config(f"{CONFIG}:cpu,kind={kind}", SMALL))
    assert experiment.predict is not None
    space = hidden_only(zoo_space(load_config(f"{CONFIG}:cpu", SMALL).data))
    weights = data["test"]["params"]
    moved = jax.jit(features.permute_networks, static_argnums=1)(jax.random.key(7), space, weights)
    predict = jax.jit(experiment.predict)
    predictions = np.asarray(predict(state, data, weights))

    assert predictions.std() > 1e-3  # they do depend on the network
    change = np.abs(predict(state, data, moved) - predictions).max()
    assert change < min(1e-4, 1e-2 * predictions.std())


@pytest.mark.slow  # test_readme_nfn.py trains one by default
def test_training_a_predictor_ranks_the_networks_it_is_trained_on() -> None:
    # 36 networks near chance are too few for others: test_readme_nfn.py has those it has not seen.
    config = load_config(f"{CONFIG}:cpu,kind=hnp", SMALL)
    experiment, data, state = train(config)
    assert experiment.final is not None
    metrics = program.evaluate(experiment.final, state, data, root_key(config))

    assert metrics["train_tau"] > 0.5
    assert metrics["permuted_change"] < 1e-5


@pytest.mark.slow
def test_a_predictor_without_the_symmetry_is_seen_to_change_under_permutations() -> None:
    """Its answer is the first weight of the first hidden neuron."""

    def apply(params: Any, weights: Any, statistics: Any, key: Any = None) -> jax.Array:
        del statistics, key
        return params["gain"] * weights["Conv_0"]["kernel"][:, 0, 0, 0, 0]

    config = load_config(f"{CONFIG}:cpu", SMALL)
    space = zoo_space(config.data)
    trunk = linear_trunk(space, StackSpec("np", (2,)))
    predictor = trunk_predictor(trunk, head_widths=(), head_dropout=0.0)._replace(
        init=lambda key: {"gain": jnp.ones(())}, apply=apply
    )
    experiment = predict_accuracy(config, predictor)
    state = experiment.init(jax.random.key(0))
    assert experiment.final is not None
    data = experiment.data()
    metrics = program.evaluate(experiment.final, state, data, root_key(config))
    test = data["test"]
    predictions = 1 / (1 + np.exp(-test["params"]["Conv_0"]["kernel"][:, 0, 0, 0, 0]))

    assert metrics["permuted_change"] > 0.02
    assert metrics["test_error"] == pytest.approx(np.abs(predictions - test["accuracy"]).mean())
    assert metrics["test_tau"] == pytest.approx(kendalltau(predictions, test["accuracy"])[0])


@pytest.mark.slow  # trains a zoo
def test_seeds_share_validation_and_test_networks_and_larger_sets_hold_smaller_ones() -> None:
    section = load_config(f"{CONFIG}:cpu", SMALL).data
    fewer = load_config(f"{CONFIG}:cpu", {**SMALL, "data.train_runs": "20"}).data

    def networks(section: Any, seed: int) -> dict[str, list[bytes]]:
        data = zoo_data(section, lambda params: jax.tree.map(jnp.zeros_like, params), seed=seed)
        kernels = {part: data[part]["params"]["Dense_0"]["kernel"] for part in PARTS}
        return {part: [k.tobytes() for k in rows] for part, rows in kernels.items()}

    one, other, small = networks(section, 0), networks(section, 1), networks(fewer, 0)
    assert one["test"] == other["test"] and one["valid"] == other["valid"]
    assert one["train"] != other["train"]
    assert small["train"] == one["train"][:20]
    assert len(set(one["train"] + one["valid"] + one["test"])) == 60


@pytest.mark.slow
def test_a_zoo_with_snapshots_has_the_shapes_it_announces() -> None:
    small = {name: value for name, value in SMALL.items() if name != "data.channels"}
    config = load_config(f"{MLP_CONFIG}:cpu", {**small, "data.snapshots": "3", "data.piece": "30"})
    experiment = build(config)
    data = experiment.data()

    counts = {part: len(data[part]["accuracy"]) for part in PARTS}
    assert counts == {"train": 3 * 36, "valid": 3 * 12, "test": 3 * 12}
    kernels = np.concatenate([data[part]["params"]["Dense_0"]["kernel"] for part in PARTS])
    assert len(np.unique(kernels.reshape(len(kernels), -1), axis=0)) == 3 * 60  # of both pieces
    abstract = experiment.abstract_data
    assert abstract is not None
    expected = jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), abstract())
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), data) == expected


def test_statistics_are_those_of_numpy_tensor_by_tensor() -> None:
    space = mlp_space((3, 4, 1))
    x = {
        spec.path: jax.random.normal(
            jax.random.key(i), (5, *spec.permuted_shape, spec.multiplicity)
        )
        for i, spec in enumerate(space.tensors)
    }
    got = tensor_statistics(x, space=space)

    for place, spec in enumerate(space.tensors):
        rows = np.asarray(x[spec.path]).reshape(5, -1)
        spread = rows.var(axis=1, ddof=1) if rows.shape[1] > 1 else np.zeros(5)
        quantiles = np.quantile(rows, [0, 0.25, 0.5, 0.75, 1], axis=1)
        wanted = np.stack([rows.mean(axis=1), spread, *quantiles], axis=1)
        np.testing.assert_allclose(got[:, 7 * place : 7 * place + 7], wanted, atol=1e-6)
    doubled = {path: jnp.concatenate([leaf, leaf], axis=-1) for path, leaf in x.items()}
    with pytest.raises(ValueError, match="2 channels per weight"):
        tensor_statistics(doubled, space=space)


@pytest.mark.parametrize(
    ("kind", "trunk"),
    # Per pair of channels 3784 (HNP) and 2034 (NP) maps, per output channel 50 and 32 constants.
    # Codes of NP: 1 input (9 filter positions), 10 outputs in kernel and bias, before each layer.
    [
        ("hnp", 352 * 3784 + 37 * 50),
        ("np", 352 * 2034 + 37 * 32 + 33 * (9 + 10 + 10)),
        ("statnn", None),
    ],
)
def test_the_paper_preset_has_as_many_parameters_as_the_dimension_of_its_maps(
    kind: str, trunk: int | None
) -> None:
    config = load_config(f"{CONFIG}:paper,kind={kind}")
    state = jax.eval_shape(build(config).init, jax.random.key(0))

    inputs = 7 * 8 if trunk is None else 5 * 50
    head = (inputs + 1) * 1000 + 1001 * 1000 + 1001
    count = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    assert count == (trunk or 0) + head
    assert count == {"hnp": 2_586_819, "np": 1_971_110, "statnn": 1_059_001}[kind]
