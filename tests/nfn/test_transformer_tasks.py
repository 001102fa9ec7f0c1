"""NFT in the experiments on SIRENs and zoos: symmetry, and that both learn."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from common.aggregates import Results, aggregate
from common.config import load_config
from nfn import features
from nfn.kendall import kendall_tau
from nfn.tasks.sirens import renderings, siren_set_spec, siren_space
from nfn.tasks.zoos import zoo_space
from nfn.transformer.tables import TABLES
from nfn.transformer.tables.editing import NFT, NO_NEURONS, NO_TENSORS
from nfn.weights import WeightSpace, hidden_only
from tests.small_runs import train

EDITING = "nfn/transformer/configs/editing.py:cpu,edit=erode"
GENERALIZATION = "nfn/transformer/configs/generalization.py:cpu"
BLOCK = {
    "model.channels": "8",
    "model.num_blocks": "1",
    "model.num_heads": "2",
    "model.ff_ratio": "1",
    "checkpoint_every": "0",
    "optimizer.warmup_steps": "0",
}
SMALL_EDITING = {
    **BLOCK,
    "data.classes": "(0, 1)",
    "data.train_per_class": "12",
    "data.valid_per_class": "2",
    "data.test_per_class": "2",
    "data.fit_steps": "60",
    "data.widths": "(2, 6, 6, 1)",
    "model.frequencies": "4",
    "batch_size": "8",
    "num_steps": "60",
    "steps_per_call": "20",
    "eval_every": "20",
    "evaluate_chunk": "4",
    "optimizer.learning_rate": "1e-2",
}
SMALL_ZOO = {
    **BLOCK,
    "data.channels": "(1, 4, 4)",
    "data.zoo_steps": "30",
    "data.zoo_batch_size": "16",
    "data.runs": "60",
    "data.piece": "30",
    "data.train_runs": "36",
    "data.valid_runs": "12",
    "data.test_runs": "12",
    "head.head_widths": "(16,)",
    "batch_size": "12",
    "num_steps": "60",
    "steps_per_call": "20",
    "eval_every": "20",
    "evaluate_chunk": "5",
    "optimizer.learning_rate": "3e-3",
}


@partial(jax.jit, static_argnums=0)
def moved(space: WeightSpace, weights: Any) -> Any:
    """Returns the networks after a permutation of the hidden neurons, the same in every call."""
    order = features.random_permutation(jax.random.key(7), space)
    return features.permute_params(space, weights, order)


@pytest.mark.slow
def test_the_editor_learns_and_permuting_hidden_neurons_commutes_with_it() -> None:
    experiment, data, state = train(load_config(EDITING, SMALL_EDITING))
    assert experiment.predict is not None
    spec = siren_set_spec(load_config(EDITING, SMALL_EDITING).data)
    space, test = hidden_only(siren_space(spec)), data["test"]
    edit = jax.jit(experiment.predict)
    edited = edit(state, data, test["params"])
    mse = jax.jit(lambda weights: jnp.mean((renderings(weights, spec) - test["target"]) ** 2))
    before, after = (float(mse(weights)) for weights in (test["params"], edited))
    assert after < 0.7 * before

    weights, edited_first = moved(space, test["params"]), moved(space, edited)
    for a, b in zip(
        jax.tree.leaves(edit(state, data, weights)), jax.tree.leaves(edited_first), strict=True
    ):
        np.testing.assert_allclose(a, b, atol=1e-5)


@pytest.mark.slow
def test_the_predictor_learns_and_permuted_networks_get_the_same_prediction() -> None:
    experiment, data, state = train(load_config(GENERALIZATION, SMALL_ZOO))
    assert experiment.predict is not None
    space = hidden_only(zoo_space(load_config(GENERALIZATION, SMALL_ZOO).data))
    predict = jax.jit(experiment.predict)
    predictions = predict(state, data, data["train"]["params"])
    assert kendall_tau(predictions, data["train"]["accuracy"]) > 0.3

    weights = moved(space, data["train"]["params"])
    np.testing.assert_allclose(predict(state, data, weights), predictions, atol=1e-5)


@pytest.mark.parametrize("name", ["editing", "generalization"])
def test_both_tables_train_nfn_on_the_data_of_nft(name: str) -> None:
    ours = load_config(f"nfn/transformer/configs/{name}.py:cpu").data
    theirs = load_config(f"nfn/equivariant/configs/{name}.py:cpu").data

    assert ours.to_dict() == theirs.to_dict()


def test_the_claims_follow_from_the_numbers() -> None:
    def judged(table: Any, changes: dict[tuple[str, str], float], default: Any) -> dict[str, bool]:
        cells = {}
        for cell in table.cells:
            value = changes.get((cell.row, cell.column), default(cell))
            values = {seed: value * (1 + 1e-4 * seed) for seed in table.seeds}
            cells[cell.row, cell.column] = aggregate(values, cell.row, cell.column)
        results = Results(cells, table.seeds)
        return {claim.name: claim(results).holds for claim in table.claims}

    errors = {"Do nothing": 0.3, "NFN_PT": 0.09, "NFN_HNP": 0.08, "NFN_NP": 0.07, NFT: 0.06}
    errors |= {NO_NEURONS: 0.08, NO_TENSORS: 0.065}

    def error(cell: Any) -> float:
        return 1e-12 if "permuting" in cell.column else errors[cell.row]

    assert all(judged(TABLES["editing"], {}, error).values())
    worse = judged(
        TABLES["editing"], {(NFT, "contrast"): 0.075, (NO_TENSORS, "erode"): 0.09}, error
    )
    failing = {name for name, holds in worse.items() if not holds}
    assert failing == {"attention_is_never_worse_than_np", "attention_in_layers_matters_most"}

    taus = {"NFN_HNP": 0.8, NFT: 0.75, "NFN_NP": 0.7, "STATNN": 0.7}

    def tau(cell: Any) -> float:
        if "permuted" in cell.column:
            return 1e-8
        return taus[cell.row] - (0.1 if cell.column == "tau, 250" else 0)

    assert all(judged(TABLES["generalization"], {}, tau).values())
    worse = judged(TABLES["generalization"], {(NFT, "tau, 2400"): 0.695}, tau)
    assert [name for name, holds in worse.items() if not holds] == ["order_of_the_paper"]
