"""Every experiment of every paper keeps the contract, traced at full size without its data."""

import json

import pytest

from common import program, sharding
from common.config import load_config
from common.experiment import build, check_experiment
from tests.lowered import largest_constant
from tests.variants import Variant, model_variants

VARIANTS = model_variants()


def parameters(variants: list[Variant], *slow: str) -> list[pytest.ParameterSet]:
    """Returns the variants, those of the presets in `slow` as slow tests."""
    return [
        pytest.param(v, id=v.name, marks=[pytest.mark.slow] if v.preset in slow else [])
        for v in variants
    ]


@pytest.mark.parametrize("variant", parameters(VARIANTS, "pod"))  # pods trace as `paper` does
def test_the_experiment_conforms(variant: Variant) -> None:
    # The contract is that of one seed; a group of them is made from it by the loop.
    experiment = build(load_config(variant.spec, {"seed_group": "1"}))
    assert experiment.abstract_data is not None  # else the data of the paper would be made here
    assert experiment.identity is not None  # a run has to go on where its data are made again

    check_experiment(experiment)
    if variant.preset == "cpu" and not variant.options:  # others may need images that are not here
        facts = json.dumps(experiment.identity())
        assert '"version": ' in facts and '"function": ' in facts


@pytest.mark.parametrize(
    "variant", parameters([v for v in VARIANTS if not v.options], "paper", "pod")
)
def test_the_step_holds_no_data(variant: Variant) -> None:
    config = load_config(variant.spec)
    experiment = build(config)
    assert experiment.abstract_data is not None  # else the data of the paper would be made here

    layout = program.layout(experiment, config, sharding.make_mesh({"data": -1}))
    text = program.lower_step(experiment, config, layout).as_text()

    assert len(text) < 4_000_000  # ten layers and Adam have 2 MB; a data set has more
    assert largest_constant(text) <= 65_536
