"""INR classification as a whole: sizes by closed form, invariance after training, lean programs."""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from common import sharding
from common.aggregates import Results, aggregate
from common.config import load_config
from common.experiment import Experiment, build
from common.keys import root_key
from common.loop import program
from nfn import features
from nfn.equivariant.classification.model import kept_part
from nfn.equivariant.classification.phases import phases
from nfn.equivariant.tables import TABLES
from nfn.symmetry import random_sine_symmetry
from nfn.tasks import sirens
from nfn.weights import leaves_of
from tests.small_runs import drawn, train

CONFIG = "nfn/equivariant/configs/inr_classification.py"
SMALL = {
    "data.train_per_class": "12",
    "data.valid_per_class": "4",
    "data.test_per_class": "6",
    "data.fit_steps": "30",
    "model.channels": "8",
    "model.num_layers": "1",
    "model.frequencies": "4",
    "model.head_widths": "(16,)",
    "model.mlp_widths": "(16,)",
    "model.num_probes": "5",
    "num_steps": "140",
    "optimizer.warmup_steps": "0",
    "optimizer.learning_rate": "5e-3",
    "steps_per_call": "20",
    "eval_every": "20",
    "checkpoint_every": "0",
    "batch_size": "16",
    "evaluate_chunk": "10",
}


@functools.cache
def trained() -> tuple[Experiment, Any, Any]:
    """Returns a small experiment with NP, its data and its state after `num_steps`."""
    return train(load_config(f"{CONFIG}:demo", SMALL))


def moved_test_weights(data: Any, key: jax.Array, *, signs: bool) -> Any:
    """Returns the test networks, each with its hidden neurons in an order of its own.

    With `signs` their sine neurons have other signs and half turns as well.
    """
    spec = sirens.siren_set_spec(load_config(f"{CONFIG}:demo", SMALL).data)

    @jax.jit
    def move(weights: Any) -> Any:
        key_order, key_signs = jax.random.split(key)
        moved = features.permute_networks(key_order, sirens.siren_space(spec), weights)
        return random_sine_symmetry(key_signs, moved, omega=spec.omega) if signs else moved

    return move(data["test"]["params"])


@pytest.mark.parametrize(
    ("kind", "inputs", "permuting_matters", "signs_matter"),
    [
        ("np", "weights", False, True),
        pytest.param("hnp", "weights", False, True, marks=pytest.mark.slow),
        pytest.param("pt", "weights", False, True, marks=pytest.mark.slow),
        pytest.param("mlp", "weights", True, True, marks=pytest.mark.slow),
        pytest.param("mlp", "canonical", True, True, marks=pytest.mark.slow),
        pytest.param("np", "canonical", False, False, marks=pytest.mark.slow),
        pytest.param("hnp", "invariant", False, False, marks=pytest.mark.slow),
        pytest.param("np", "weights+probes", False, True, marks=pytest.mark.slow),
        ("np", "canonical+probes", False, False),
    ],
)
def test_the_answer_changes_with_the_symmetries_that_a_network_does_not_know(
    kind: str, inputs: str, permuting_matters: bool, signs_matter: bool
) -> None:
    fields = {**SMALL, "model.inputs": inputs}
    experiment, data, state = drawn(load_config(f"{CONFIG}:demo,kind={kind}", fields))
    assert experiment.predict is not None
    predict = jax.jit(experiment.predict)
    logits = np.asarray(predict(state, data, data["test"]["params"]))
    spread = logits.std(axis=0).max()
    assert spread > 1e-3  # the answers do depend on the network

    for signs, matters in ((False, permuting_matters), (True, signs_matter)):
        moved = moved_test_weights(data, jax.random.key(7), signs=signs)
        change = np.abs(predict(state, data, moved) - logits).max()
        if matters:
            assert change > spread / 2
        else:  # half turns move phases by several radians: their rounding is larger
            assert change <= (1e-2 if signs else 1e-4) * max(1.0, spread)


@pytest.mark.parametrize(
    ("part", "left"),
    [
        ("kernels", {"dense_0/kernel", "dense_1/kernel", "dense_2/kernel"}),
        ("biases", {"dense_0/bias", "dense_1/bias", "dense_2/bias"}),
        ("no_last_bias", {f"dense_{i}/{n}" for i in range(3) for n in ("kernel", "bias")}),
    ],
)
def test_of_a_part_of_the_weights_the_rest_is_zero(part: str, left: set[str]) -> None:
    shapes = {"dense_0": (2, 4), "dense_1": (4, 4), "dense_2": (4, 1)}
    weights = {
        layer: {"kernel": jnp.ones((3, *shape)), "bias": jnp.ones((3, shape[1]))}
        for layer, shape in shapes.items()
    }
    kept = leaves_of(kept_part(weights, part))

    ones = {path for path, leaf in kept.items() if bool((leaf == 1).all())}
    zeros = {path for path, leaf in kept.items() if not leaf.any()}
    assert ones == left - ({"dense_2/bias"} if part == "no_last_bias" else set())
    assert ones | zeros == leaves_of(weights).keys()


def test_normalized_weights_differ_by_the_scale_of_the_frequencies() -> None:
    fields = {**SMALL, "data.normalize": "True", "model.fourier_scale": "0.25"}
    found = phases(load_config(f"{CONFIG}:demo", fields))
    raw = phases(load_config(f"{CONFIG}:demo", {**fields, "data.normalize": "False"}))

    # A deviation of 1 in every tensor, of statistics in float32.
    assert found == {name: pytest.approx(2 * math.pi * 0.25, rel=1e-4) for name in found}
    assert raw["phase_least"] < raw["phase"]


@pytest.mark.slow  # test_readme_nfn.py trains by default
def test_training_lowers_the_loss_below_that_of_guessing() -> None:
    config = load_config(f"{CONFIG}:demo", SMALL)
    experiment, data, state = trained()
    assert experiment.final is not None
    metrics = program.evaluate(experiment.final, state, data, root_key(config))

    assert metrics["train_loss"] < 0.9 * math.log(4)
    assert metrics["permuted_test_accuracy"] == pytest.approx(metrics["test_accuracy"])
    assert metrics["permuted_test_agreement"] == 100
    assert metrics["equivalent_test_agreement"] < 100  # NP does not know the symmetries of sine


@pytest.mark.parametrize(
    ("dataset", "kind", "span", "constants", "pooled"),
    [
        ("fashion_mnist", "np", 57, 6, 7),  # nfn/weights.py: 2-32-32-1
        pytest.param("fashion_mnist", "hnp", 75, 7, 7, marks=pytest.mark.slow),
        pytest.param("cifar10", "np", 62, 6, 11, marks=pytest.mark.slow),  # 2-32-32-3
        ("cifar10", "hnp", 163, 11, 11),
    ],
)
def test_the_paper_preset_has_as_many_parameters_as_the_dimension_of_its_maps(
    dataset: str, kind: str, span: int, constants: int, pooled: int
) -> None:
    config = load_config(f"{CONFIG}:paper,dataset={dataset},kind={kind}")
    state = jax.eval_shape(build(config).init, jax.random.key(0))

    inputs = 2 * 128 + (13 if kind == "np" else 0)  # Fourier features, code of inputs and outputs
    layers = sum(c * 512 * span + 512 * constants for c in (inputs, 512, 512))
    head = (512 * pooled + 1) * 1000 + 1001 * 1000 + 1001 * 10
    assert sum(leaf.size for leaf in jax.tree.leaves(state.params)) == 128 + layers + head


@pytest.mark.slow  # test_experiments.py has it of all
def test_a_large_data_set_does_not_enter_the_compiled_program() -> None:
    few, many = (
        load_config(f"{CONFIG}:demo", {"data.train_per_class": str(n)}) for n in (900, 18_000)
    )
    texts = []
    for config in (few, many):
        experiment = build(config)
        layout = program.layout(experiment, config, sharding.make_mesh({"data": 1}))
        texts.append(program.lower_step(experiment, config, layout).as_text())
    size = sum(math.prod(leaf.shape) * 4 for leaf in jax.tree.leaves(layout.data))

    assert size > 95e6
    assert max(map(len, texts)) < 500_000
    assert abs(len(texts[1]) - len(texts[0])) < 1_000  # digits of shapes


def test_the_demo_shows_the_published_rows_and_its_claims_ask_for_no_other() -> None:
    demo = TABLES["3"].at["demo"]
    numbers = {
        (cell.row, cell.column): aggregate({0: 1.0 + i, 1: 1.5 + i}, cell.row)
        for i, cell in enumerate(demo.cells)
    }

    assert {row for row, _ in numbers} == {
        *("NFN_NP", "NFN_HNP", "NFN_PT", "MLP", "MLP_Aug", "Chance")
    }
    results = Results(numbers, seeds=(0, 1))
    assert len([claim(results) for claim in demo.claims]) == 7
