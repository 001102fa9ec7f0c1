"""Every experiment of every paper keeps the contract, traced at full size without its data."""

import json
from operator import attrgetter

import pytest
from ml_collections import ConfigDict

from common import gradients, sharding
from common.config import load_config
from common.errors import MissingPackage
from common.experiment import build, check_experiment
from common.loop import program
from tests.lowered import largest_constant
from tests.variants import Variant, choice_variants, loaded, preset_variants

# Their code is that of another experiment with other sizes or a stage before it.
LIKE_ANOTHER = (
    "landscape.visualizing.published",
    "nfn.equivariant.mlp_generalization",
    "nfn.transformer.generalization",
    "nfn.transformer.inr_classification",
    "rlhf.human_preferences.atari",
    "sciml.boon.shift",
    "sciml.boon.single_step",
)
# Tests of their papers build them and take steps by default, where the same contract is checked.
TAKEN_ELSEWHERE = (
    "finetune.surgical.adapt",
    "landscape.sharpening.gradient_descent",
    "landscape.sharpening.regularization",
    "nfn.equivariant.editing",
    "rlhf.human_preferences.control",
    "rlhf.human_preferences.people",
)
WHOLE = "paper"  # the largest one-device program; other presets differ in sizes, rarely in code
# Layers that repeat are traced one by one: one of each is enough by default, all of them are slow.
REPEATED = {
    "model.num_layers": "1",
    "model.num_blocks": "1",
    "model.image.layers": "1",
    "model.text.layers": "1",
    "watch.layers": "(1,)",
    "model.blocks": "(1, 1, 1)",
    "source.model.blocks": "(1, 1, 1)",
}
DEPTHS = {"resnet": "8"}  # of `model.kind`: one block in every stage


def parameters(*, slow: bool = False) -> list[pytest.ParameterSet]:
    """Returns the preset `paper` of experiments of different code, or all else as slow tests."""

    def is_default(variant: Variant) -> bool:
        others = (*LIKE_ANOTHER, *TAKEN_ELSEWHERE)
        return variant.preset == WHOLE and not variant.name.startswith(others)

    chosen = [variant for variant in preset_variants() if is_default(variant) != slow]
    marks = [pytest.mark.slow] if slow else []
    return [pytest.param(variant, id=variant.name, marks=marks) for variant in chosen]


def repeated_once(config: ConfigDict) -> dict[str, str]:
    """Returns the fields of a config that take one of each of its layers, with their values."""

    def has(name: str) -> bool:
        try:
            return attrgetter(name)(config) is not None
        except AttributeError:
            return False

    fields = {name: value for name, value in REPEATED.items() if has(name)}
    kind = config.model.kind if has("model.kind") else ""
    return fields | ({"model.depth": DEPTHS[kind]} if kind in DEPTHS else {})


def conforms(variant: Variant, *, whole: bool = True) -> None:
    # The contract is that of one seed; a group of them is made from it by the loop.
    fields = {} if whole else repeated_once(loaded(variant.spec))
    config = load_config(variant.spec, {"seed_group": "1", "gradient.name": "sam", **fields})
    try:
        experiment = build(config)
    except MissingPackage as missing:  # of an extra
        pytest.skip(str(missing))
    assert experiment.abstract_data is not None  # else the data of the paper would be made here
    assert experiment.identity is not None  # a run has to go on where its data are made again

    with gradients.following(config):  # that the step takes the gradient of the config
        check_experiment(experiment)  # also that no function holds data


@pytest.mark.smoke
@pytest.mark.parametrize("variant", parameters())
def test_the_experiment_conforms(variant: Variant) -> None:
    conforms(variant, whole=False)


@pytest.mark.slow
@pytest.mark.parametrize("variant", [*parameters(), *parameters(slow=True)])
def test_the_experiment_conforms_at_its_whole_depth(variant: Variant) -> None:
    conforms(variant)


def test_the_identity_of_data_names_function_and_version_of_what_makes_them() -> None:
    for variant in preset_variants():
        if variant.preset == "cpu":  # others may need images that are not here
            try:
                experiment = build(load_config(variant.spec, {"seed_group": "1"}))
            except MissingPackage:
                continue
            assert experiment.identity is not None, variant.name
            facts = json.dumps(experiment.identity())
            assert '"version": ' in facts, variant.name
            assert '"function": ' in facts, variant.name


@pytest.mark.slow
def test_every_choice_conforms() -> None:  # tests of the papers train them
    for variant in choice_variants():
        try:
            conforms(variant)
        except Exception as error:
            error.add_note(variant.name)
            raise


@pytest.mark.slow  # `check_experiment` sees what is traced; here what XLA gets
@pytest.mark.parametrize("variant", preset_variants(), ids=lambda variant: variant.name)
def test_the_program_of_a_step_holds_no_data(variant: Variant) -> None:
    config = loaded(variant.spec)
    experiment = build(config)
    assert experiment.abstract_data is not None  # else the data of the paper would be made here

    layout = program.layout(experiment, config, sharding.make_mesh({"data": -1}))
    text = program.lower_step(experiment, config, layout).as_text()

    assert len(text) < 4_000_000  # ten layers and Adam have 2 MB; a data set has more
    assert largest_constant(text) <= 65_536
