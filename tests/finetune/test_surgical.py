"""Surgical fine-tuning: sources, targets, which candidate is selected, and a tiny experiment."""

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from common.config import load_config
from common.errors import UserError
from common.experiment import Experiment, build
from finetune import shifts
from finetune.blocks import resnet_blocks
from finetune.surgical import data as shift_data
from finetune.surgical import measures, sources
from finetune.surgical.candidates import plan, selected
from finetune.surgical.networks import make_network
from finetune.surgical.probes import RIDGE, ridge

PyTree = Any
CONFIG = "finetune/surgical/configs/adapt.py"
SMALL = {
    "seed_group": "1",
    "num_steps": "2",
    "num_sources": "1",
    "batch_size": "10",
    "evaluate_chunk": "50",
    "source.num_steps": "2",
    "source.data.num_train": "200",
    "source.data.num_source": "80",
    "source.data.num_pool": "120",
    "source.data.num_test": "50",
    "source.model.widths": "(4,8,8)",
    "source.model.blocks": "(1,1,1)",
    "adapt.choices": "('block1','last','all','rgn_block','l2_sp')",
    "adapt.learning_rates": "(0.01,0.001)",
    "adapt.target_size": "20",
    "adapt.num_valid": "20",
    "adapt.updates": "2",
}


def config_of(variant: str = "", **fields: str) -> ConfigDict:
    """Returns the config of few images."""
    changed = {**SMALL, **{key.replace("__", "."): value for key, value in fields.items()}}
    return load_config(f"{CONFIG}:cpu{variant}", changed)


def spec_of(config: ConfigDict) -> shift_data.ShiftSpec:
    """Returns the shift of a config."""
    return shift_data.shift_spec(config.source.data, config.pixels, config.shift)


def test_the_first_largest_validation_accuracy_is_selected() -> None:
    valid = np.asarray(
        [
            [[50, 70, 60], [70, 40, 70]],  # a tie: the first rate, its second epoch
            [[10, 20, 30], [31, 20, 10]],
        ],
        np.float32,
    )
    candidate, epoch = selected(jnp.asarray(valid.reshape(4, 3)), (2, 2))
    assert candidate.tolist() == [0, 3]
    assert epoch.tolist() == [1, 0]
    for way, (row, column) in enumerate(zip(candidate, epoch, strict=True)):
        flat = valid[way].reshape(-1)
        assert flat.argmax() == (int(row) - 2 * way) * 3 + int(column)


def test_candidates_are_ways_times_rates_as_data() -> None:
    config = config_of(
        adapt__choices="('block2','last','lp_ft','rgn_block','l1_sp')", num_steps="4"
    )
    params = {
        name: {"kernel": jax.ShapeDtypeStruct((2, 2), np.float32)}
        for name in ("conv", "stage1_block0", "stage2_block0", "norm", "head")
    }
    found = plan(config.adapt, params, resnet_blocks(params), epochs=4)
    of = lambda name: np.asarray(found.candidates.multipliers[name]["kernel"])

    np.testing.assert_allclose(found.candidates.rate[:4], [0.01, 0.001, 0.1, 0.01])
    assert of("stage2_block0")[:4].tolist() == [[1] * 4, [1] * 4, [0] * 4, [0] * 4]
    np.testing.assert_allclose(of("head")[4], [1, 1, 0.1, 0.1])  # LP-FT: then all, slower
    np.testing.assert_allclose(of("conv")[4], [0, 0, 0.1, 0.1])
    np.testing.assert_allclose(found.candidates.rate[4:6], [0.1, 0.01])  # as of the last layer
    assert found.candidates.criterion.tolist() == [0] * 6 + [1] * 2 + [0] * 6
    assert found.sizes == (2, 2, 2, 2, 6)
    np.testing.assert_allclose(found.candidates.l1[8:], np.repeat([1e-5, 1e-4, 1e-3], 2))
    assert not found.candidates.l1[:8].any()
    below = [{name for name in params if tree[name]["kernel"]} for tree in found.resting]
    assert below == [set(), {"conv", "stage1_block0"}, {"conv", "stage1_block0", "stage2_block0"}]
    assert found.candidates.depth.tolist() == [1] * 2 + [2] * 2 + [0] * 10
    with pytest.raises(ValueError, match="no strategy 'block7'"):
        plan(config_of(adapt__choices="('block7',)").adapt, params, resnet_blocks(params), epochs=4)


@pytest.mark.parametrize(
    ("variant", "shift"), [("", "flip"), ("", "negative"), (",task=groups", "groups")]
)
def test_targets_have_the_shapes_they_say_and_no_image_of_the_source(
    variant: str, shift: str
) -> None:
    spec = spec_of(config_of(variant, shift__name=shift))
    source, target = shift_data.source(spec), shift_data.target(spec)
    shapes = jax.tree.map(lambda x: (x.shape, x.dtype), (source, target))
    abstract = (shift_data.abstract_source(spec), shift_data.abstract_target(spec))

    assert shapes == jax.tree.map(lambda x: (x.shape, x.dtype), abstract)
    seen = {image.tobytes() for image in source["train"]["image"]}
    assert not seen & {image.tobytes() for image in target["clean"]["image"]}
    classes = shift_data.classes_of_pool(spec)
    per_class = spec.num_pool // 10
    assert len(target["pool"]["label"]) == classes * per_class
    if shift == "flip":
        np.testing.assert_array_equal(target["pool"]["label"], 9 - target["clean"]["label"])
        np.testing.assert_array_equal(target["pool"]["label"], 9 - np.arange(10).repeat(12))
    elif shift == "negative":
        np.testing.assert_array_equal(target["pool"]["image"], -target["clean"]["image"])


def test_a_background_goes_with_the_half_in_the_source_only() -> None:
    spec = spec_of(config_of(",task=background"))
    target = shift_data.target(spec)
    agrees = {name: part["group"] == part["half"] for name, part in target.items()}
    assert abs(agrees["clean"].mean() - 0.95) < 0.02
    assert abs(agrees["test"].mean() - 0.5) < 0.05
    right = jnp.asarray(agrees["test"])
    found = measures.accuracies(right, target["test"], with_groups=True)
    worst = shifts.worst_group(
        1.0 * agrees["test"], target["test"]["half"], target["test"]["group"]
    )
    np.testing.assert_allclose(found["worst"], 100 * worst, atol=1e-4)


@pytest.fixture
def untrained(monkeypatch: pytest.MonkeyPatch) -> None:
    """Source networks are drawn here: a stage would compile a program of its own."""

    def drawn(config: ConfigDict, count: int) -> Any:
        random = np.random.default_rng(0)
        return jax.tree.map(
            lambda x: 0.3 * random.normal(size=x.shape).astype(x.dtype),
            sources.abstract_sources(config, count),
        )

    monkeypatch.setattr(sources, "trained", drawn)


def stepped(**fields: str) -> tuple[Experiment, PyTree, PyTree]:
    """Returns an experiment, its data and its state after two epochs."""
    experiment = build(config_of(shift__name="negative", **fields))
    data, state = experiment.data(), jax.jit(experiment.init)(jax.random.key(0))
    step = jax.jit(experiment.step)
    for number in range(2):
        state, _ = step(state, data, experiment.batch(number), jax.random.key(0))
    return experiment, data, state


@pytest.mark.usefixtures("untrained")
def test_a_tiny_adaptation_keeps_what_it_freezes() -> None:
    one_stage = {"source__model__blocks": "(1,)", "source__model__widths": "(4,)"}
    choices = {"adapt__choices": "('block1','last')", "adapt__learning_rates": "(0.01,)"}
    _, data, state = stepped(**one_stage, **choices)
    source = jax.tree.map(lambda x: x[0], data["sources"]["params"])
    first, last = (jax.tree.map(lambda x, i=i: x[i], state.tuning.tuned) for i in (0, 1))
    for name in source:
        pairs = zip(*map(jax.tree.leaves, (source[name], last[name], first[name])), strict=True)
        for before, of_last, of_first in pairs:
            assert np.array_equal(before, of_last) == (name != "head")
            is_first = name in ("conv", "stage1_block0")
            assert np.array_equal(before, of_first) == (not is_first)
    assert (np.asarray(state.valid) >= 0).all()


def test_the_oracle_stem_gives_the_logits_of_the_source() -> None:
    config = config_of(source__model__blocks="(1,)", source__model__widths="(4,)")
    net = make_network(config.source.model, (14, 14, 1))
    params, _ = jax.jit(net.init)(jax.random.key(0))
    images = np.random.default_rng(0).normal(size=(4, 14, 14, 1)).astype(np.float32)
    apply = jax.jit(lambda params, x: net.apply(params, {}, x)[0])
    stem = shifts.oracle_stem(params["conv"]["kernel"], shift_data.colors_of(1))
    oracle = {**params, "conv": {"kernel": stem.kernel}}

    before = apply(params, images)
    after = apply(oracle, shift_data.negative(images))
    np.testing.assert_allclose(after, before, rtol=1e-5, atol=1e-6)
    assert float(jnp.abs(apply(params, shift_data.negative(images)) - before).max()) > 1e-3


@pytest.mark.slow
def test_a_tiny_adaptation_is_measured() -> None:
    experiment, data, state = stepped()
    assert experiment.final is not None
    found: Any = jax.jit(experiment.final)(state, data, jax.random.key(0))
    values: dict[str, float] = {name: float(a / b) for name, (a, b) in found.items()}
    assert abs(values["test_oracle"] - values["source_accuracy"]) < 1e-4
    np.testing.assert_allclose(
        values["gain_last"], values["test_last"] - values["test_all"], atol=1e-4
    )
    assert sum(values[f"named_{name}"] for name in ("block1", "block2", "block3", "last")) == 1


def test_a_probe_is_where_the_penalized_squares_are_least() -> None:
    random = np.random.default_rng(0)
    features, labels = random.normal(size=(30, 4)), random.integers(3, size=30)
    found = ridge(features, labels, 3)
    x = np.concatenate([features, np.ones((30, 1))], axis=1)
    weight = RIDGE * np.mean(x**2) * 30
    slope = x.T @ (x @ found - np.eye(3)[labels]) + weight * found
    # Of sums of this size rounding is all that may be left.
    np.testing.assert_allclose(slope, 0, atol=1e-9 * np.abs(x.T @ np.eye(3)[labels]).max())


@pytest.mark.parametrize(
    ("variant", "fields", "message"),
    [
        ("", {"adapt.target_size": "0"}, "the target set is empty"),
        ("", {"adapt.target_size": "15"}, "expected multiples of the 10 classes"),
        ("", {"shift.severity": "6"}, "config.shift.severity=6: expected 1 to 5"),
        ("", {"shift.name": "flop"}, "did you mean"),
        ("", {"shift.name": "noise_block4"}, "no block 'block4'"),
        ("", {"adapt.choices": "('block9',)"}, "no strategy 'block9'"),
        ("", {"shift.name": "groups"}, "expected config.data.task='groups' too"),
        ("", {"source.data.num_pool": "200"}, "together at most config.data.num_train=200"),
    ],
)
def test_bad_input_is_one_line(variant: str, fields: dict[str, str], message: str) -> None:
    named = {key.replace(".", "__"): value for key, value in fields.items()}

    def first_batch() -> None:
        build(config_of(variant, **named)).batch(0)

    with pytest.raises((UserError, ValueError), match=re.escape(message)) as caught:
        first_batch()
    assert "\n" not in str(caught.value)
