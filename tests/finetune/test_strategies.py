"""Strategies: what they tune and when, one budget, and what an adaptation leaves untouched."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from common.subtrees import join
from finetune import strategies
from finetune.adapt import Adapted, adapt, best_of, chosen_place
from finetune.adaptation import Task, adaptation, cross_entropy, epoch_index, is_right
from finetune.blocks import leaf_paths, split, tuned_mask
from finetune.tuning import adam, init_tuning, many
from tests.finetune import shifted

PyTree = Any
EPOCHS = 6


def key() -> jax.Array:
    return jax.random.key(0)


def named(name: str, **options: Any) -> strategies.Strategy:
    budget = {"epochs": EPOCHS, **options}
    return strategies.named(name, shifted.network(), shifted.blocks(), **budget)


def by_block(strategy: strategies.Strategy) -> np.ndarray:
    """Returns multipliers [block, epoch], the same for kernel and bias."""
    found = strategies.as_data(strategy, shifted.network(), shifted.blocks()).multipliers
    for layer in found:
        np.testing.assert_array_equal(layer.kernel, layer.bias)
    return np.array([layer.kernel for layer in found])


def test_gradual_unfreezing_adds_a_block_at_a_time() -> None:
    first = named("gradual_first")
    np.testing.assert_array_equal(
        by_block(first), [[1, 1, 1, 1, 1, 1], [0, 0, 1, 1, 1, 1], [0, 0, 0, 0, 1, 1]]
    )
    np.testing.assert_array_equal(first.renewed, [False, False, True, False, True, False])
    last = named("gradual_last", epochs=7)
    wanted = [[0, 0, 0, 0, 0, 1, 1], [0, 0, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1, 1]]
    np.testing.assert_array_equal(by_block(last), wanted)
    assert all(jax.tree.leaves(last.mask))  # all leaves are trainable in the end


def test_probing_and_tuning_share_the_budget() -> None:
    lp_ft, ft_lp = named("lp_ft", factor=0.5), named("ft_lp", factor=0.5, probe_epochs=2)
    rest = [0, 0, 0, 0.5, 0.5, 0.5]
    np.testing.assert_array_equal(by_block(lp_ft), [rest, rest, [1, 1, 1, 0.5, 0.5, 0.5]])
    rest = [0.5, 0.5, 0.5, 0.5, 0, 0]
    np.testing.assert_array_equal(by_block(ft_lp), [rest, rest, [0.5, 0.5, 0.5, 0.5, 1, 1]])
    np.testing.assert_array_equal(lp_ft.renewed, np.arange(6) == 3)
    # Without an epoch of full tuning it is the linear probe.
    probe = named("lp_ft", probe_epochs=EPOCHS)
    np.testing.assert_array_equal(by_block(probe), by_block(named("linear_probe")))
    assert not probe.renewed.any()


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("gradul_first", {}, r"no strategy 'gradul_first' \(did you mean \"gradual_first\"\?\)"),
        ("block1+blok2", {}, "no strategy"),
        ("block1", {"epochs": 0}, "epochs=0; expected at least 1"),
        ("l1_sp", {"l1": -1.0}, r"l1=-1.0, l2=0.0; expected strengths >= 0"),
        ("auto_snr", {"snr": "mine"}, "snr='mine'; expected official or per_example"),
        ("auto_rgn", {"granularity": "leaf"}, "granularity='leaf'; expected one of tensor"),
    ],
)
def test_strategies_that_do_not_exist_are_refused(name: str, options: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        named(name, **options)


def run_criterion(strategy: strategies.Strategy) -> Any:
    """Returns the multipliers that a criterion gives."""
    multiply = strategy.criterion
    assert multiply is not None
    train = shifted.flipped().train
    batches = (train.inputs.reshape(2, 5, -1), train.labels.reshape(2, 5))
    loss = lambda p, batch: jnp.mean(cross_entropy(shifted.apply(p, batch[0]), batch[1]))
    return jax.jit(lambda p, b: multiply(loss, p, b))(shifted.network(), batches)


def test_every_epoch_sees_every_example_once() -> None:
    index = np.asarray(epoch_index(key(), 10, batch_size=4, epochs=3))
    assert index.shape == (3, 3, 4)
    for epoch in index:
        assert sorted(epoch.ravel()) == [-1, -1, *range(10)]
    assert (index[0] != index[1]).any()


def test_the_first_of_the_best_is_chosen_rates_before_epochs() -> None:
    assert chosen_place(np.array([[0.1, 0.7, 0.2], [0.7, 0.7, 0.3]])) == (0, 1)
    assert chosen_place(np.array([[0.1, 0.2], [0.3, 0.3]])) == (1, 0)


@pytest.fixture(scope="module")
def of_schedules() -> dict[str, Any]:
    """Returns what strategies that are schedules find: one program for all of them."""
    params, blocks, target = shifted.network(), shifted.blocks(), shifted.flipped()
    names = ("all", "block1", "block2", "last", "block1+last", "gradual_first", "gradual_last")
    names += ("lp_ft", "ft_lp")
    found = {name: strategies.as_data(named(name), params, blocks) for name in names}
    found["lp_ft without ft"] = strategies.as_data(
        named("lp_ft", probe_epochs=EPOCHS), params, blocks
    )
    task = Task(shifted.apply, cross_entropy, is_right)
    run = adaptation(task, found["all"], adam())
    tuned, frozen = split(params, found["all"].mask)
    index = epoch_index(key(), 10, batch_size=4, epochs=EPOCHS)
    multipliers = jax.tree.map(lambda *x: np.stack(x), *(s.multipliers for s in found.values()))
    renewed = np.stack([s.renewed for s in found.values()])
    program = jax.jit(many(run, "vmap", (None, None, None, None, None, 0, 0)))
    state = init_tuning(tuned, adam())
    results = program(state, frozen, target, index, 0.1, multipliers, renewed)
    return {
        name: jax.tree.map(lambda x, i=i: np.asarray(x[i]), results) for i, name in enumerate(found)
    }


def moved_blocks(params: PyTree) -> list[bool]:
    """Returns of every block whether a bit of it is another than before."""
    pairs = zip(params, shifted.network(), strict=True)
    return [
        any(
            np.asarray(a).tobytes() != np.asarray(b).tobytes()
            for a, b in zip(new, old, strict=True)
        )
        for new, old in pairs
    ]


def test_frozen_leaves_keep_their_bits_under_every_schedule(of_schedules: Any) -> None:
    moved = {name: moved_blocks(found.tuned) for name, found in of_schedules.items()}
    assert moved["block1"] == [True, False, False]
    assert moved["block2"] == [False, True, False]
    assert moved["last"] == [False, False, True]
    assert moved["block1+last"] == [True, False, True]
    assert moved["all"] == [True, True, True]


def test_lp_ft_without_full_tuning_is_the_linear_probe(of_schedules: Any) -> None:
    probe, lp_ft = of_schedules["last"], of_schedules["lp_ft without ft"]
    for a, b in zip(jax.tree.leaves(probe), jax.tree.leaves(lp_ft), strict=True):
        np.testing.assert_array_equal(a, b)
    # And with it, the first half is.
    np.testing.assert_array_equal(of_schedules["lp_ft"].loss[:3], probe.loss[:3])
    assert of_schedules["lp_ft"].loss[5] != probe.loss[5]


def test_the_driver_finds_what_the_mask_as_data_finds(of_schedules: Any) -> None:
    """Cut below the block, with moments of it alone; two rates, of which the first is the same."""
    params, target = shifted.network(), shifted.flipped()
    found = adapt(
        shifted.apply,
        params,
        target,
        named("last"),
        learning_rates=(0.1, 1e-6),
        key=key(),
        batch_size=4,
    )
    # The driver draws the order of examples from another key: an own index is compared.
    assert moved_blocks(found.params) == [False, False, True]
    assert found.valid.shape == found.test.shape == (2, EPOCHS)
    assert found.best == chosen_place(found.valid) and found.rate == (0.1, 1e-6)[found.best[0]]
    assert target.test is not None
    scores = shifted.logits(target.test.inputs)
    right = np.mean(np.argmax(scores, axis=-1) == target.test.labels)
    np.testing.assert_allclose(found.start[1], right, rtol=1e-6)
    assert right == np.mean(target.test.labels == 1)  # a flip leaves the middle class
    # The chosen network scores what the table says.
    layers = [np.asarray(x) for x in found.params[-1]]
    hidden = target.test.inputs
    for layer in params[:-1]:
        hidden = np.tanh(hidden @ layer.kernel + layer.bias[None])
    again = np.argmax(hidden @ layers[0] + layers[1][None], axis=-1) == target.test.labels
    np.testing.assert_allclose(found.score, np.mean(again), rtol=1e-6)


def test_the_best_block_is_chosen_on_held_out_data() -> None:
    def of(valid: list[list[float]], name: str) -> Adapted:
        scores = np.array(valid)
        return Adapted({}, scores, 1 - scores, scores, 0.1, 0, (0.2, 0.3), name)

    found = best_of([of([[0.5, 0.6]], "a"), of([[0.7, 0.1]], "b"), of([[0.7, 0.2]], "c")])
    assert found.strategy == "b"


@pytest.mark.parametrize(
    "name",
    [
        "auto_rgn",
        "lora:block2",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("l2_sp", "auto_snr")),
    ],
)
def test_other_strategies_keep_what_they_freeze(name: str) -> None:
    strategy, params = named(name), shifted.network()
    if name == "l2_sp":
        strategy = strategy._replace(l2=1e6)
    elif strategy.criterion is not None:  # freezes a block besides
        mask = tuned_mask(params, shifted.blocks(), ("block1", "last"))
        kept, _ = split(strategy.multipliers, mask)
        strategy = strategy._replace(mask=mask, multipliers=kept)
    tuned, frozen = split(params, strategy.mask)
    if strategy.begin is not None:
        tuned, frozen = strategy.begin(key(), params), params
    run = adaptation(Task(shifted.apply, cross_entropy, is_right), strategy, adam())
    target = shifted.flipped()._replace(test=None)
    index = np.arange(EPOCHS * 12).reshape(EPOCHS, 3, 4) % 10
    schedule = (strategy.multipliers, strategy.renewed)
    state = init_tuning(tuned, adam())
    found = jax.jit(run)(state, frozen, target, index, 0.01, *schedule)
    assert np.isnan(found.test).all()
    new = strategy.combine(found.tuned, frozen)
    moved = moved_blocks(new)
    if name == "lora:block2":
        assert moved == [False, True, False]
        before, after = params[1], new[1]
        np.testing.assert_array_equal(after.bias, before.bias)
        values = np.linalg.svd(np.asarray(after.kernel, float) - before.kernel, compute_uv=False)
        assert values[4] < 1e-5 * values[0]  # rank 4 of 5, to rounding
    elif name == "l2_sp":  # so strong a penalty holds the network where it was
        pairs = zip(jax.tree.leaves(new), jax.tree.leaves(params), strict=True)
        assert 0 < max(np.abs(a - b).max() for a, b in pairs) < 0.05
    else:
        # By signal to noise the last block may rest as well.
        assert moved[:2] == [True, False] and (moved[2] or name == "auto_snr")


def test_criteria_give_multipliers_of_the_leaves() -> None:
    rates = run_criterion(named("auto_rgn"))
    leaves = [float(x) for x in jax.tree.leaves(rates)]
    assert max(leaves) == 1 and min(leaves) > 0
    by_blocks = jax.tree.leaves(run_criterion(named("auto_rgn", granularity="block")))
    assert [by_blocks[i] == by_blocks[i + 1] for i in (0, 2, 4)] == [True] * 3
    kept = jax.tree.leaves(run_criterion(named("auto_snr", threshold=-1.0)))
    assert [float(x) for x in kept] == [1.0] * 6
    assert leaf_paths(join(rates, rates)) == leaf_paths(shifted.network())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": np.array([0, 3])}, r"target.train.labels\[1\]=3; expected 0 to 2"),
        ({"labels": np.array([], int)}, "target.train is empty"),
        ({"inputs": np.ones((3, 4), np.float32)}, "target.train: 3 inputs for 2 labels"),
    ],
)
def test_data_without_sense_are_refused(change: Any, message: str) -> None:
    train = shifted.flipped().train
    small = train._replace(inputs=train.inputs[:2], labels=train.labels[:2])._replace(**change)
    with pytest.raises(ValueError, match=message):
        adapt(
            shifted.apply,
            shifted.network(),
            shifted.flipped()._replace(train=small),
            None,
            learning_rates=(0.1,),
            key=key(),
        )
