"""The tuning step: what is frozen keeps its bits, what is tuned follows Adam, what is cut stays."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from common.nets.convolution import convolution
from common.subtrees import join
from finetune.blocks import split, tuned_mask
from finetune.prefix import cached_activations, cut_below
from finetune.tuning import adam, init_tuning, many, tuning_epoch, tuning_step
from tests.finetune import shifted

PyTree = Any


def loss(params: PyTree, batch: PyTree) -> jax.Array:
    logits = shifted.apply(params, batch["x"])
    return optax.softmax_cross_entropy_with_integer_labels(logits, batch["y"]).mean()


@pytest.fixture(scope="module")
def batch() -> PyTree:
    train = shifted.flipped().train
    return {"x": train.inputs, "y": train.labels}


def test_a_step_is_adam_with_coupled_decay_on_the_tuned_leaves(batch: PyTree) -> None:
    """Against the formulas of Kingma and Ba in float64, three steps."""
    params, groups = shifted.network(), shifted.blocks()
    tuned, frozen = split(params, tuned_mask(params, groups, ("block1", "last")))
    state = init_tuning(tuned, adam(0.1))
    moments = [leaf for leaf in jax.tree.leaves(state.opt_state) if leaf.ndim]
    assert len(moments) == 2 * 4  # two moments of two kernels and two biases; none of block2
    step, gradient = jax.jit(tuning_step(loss, adam(0.1))), jax.jit(jax.grad(loss))
    rates = jax.tree.map(lambda leaf: 0.01 * leaf.ndim, tuned)  # by leaf: kernels twice biases
    wanted = [np.asarray(x, np.float64) for x in jax.tree.leaves(tuned)]
    first, second = [0 * x for x in wanted], [0 * x for x in wanted]
    value = jnp.zeros(())
    for number in range(1, 4):
        now = jax.tree.unflatten(jax.tree.structure(tuned), [np.float32(x) for x in wanted])
        grads, _ = split(
            gradient(join(now, frozen), batch), tuned_mask(params, groups, ("block1", "last"))
        )
        for i, (g, rate) in enumerate(
            zip(jax.tree.leaves(grads), jax.tree.leaves(rates), strict=True)
        ):
            g = np.asarray(g, np.float64) + 0.1 * wanted[i]
            first[i] = 0.9 * first[i] + 0.1 * g
            second[i] = 0.999 * second[i] + 0.001 * g**2
            along = first[i] / (1 - 0.9**number)
            along /= np.sqrt(second[i] / (1 - 0.999**number)) + 1e-8
            wanted[i] = wanted[i] - rate * along
        state, value = step(state, frozen, batch, rates)
    assert value > 0
    for ours, theirs in zip(jax.tree.leaves(state.tuned), wanted, strict=True):
        # Float32 gradients of a few dozen terms; Adam divides them by themselves.
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)


def test_rates_as_data_freeze_bitwise_and_share_a_program(batch: PyTree) -> None:
    """All blocks at once, mapped, and one after the other; where the rate is 0 not a bit moves."""
    params, groups = shifted.network(), shifted.blocks()
    rates = [
        jax.tree.map(lambda flag: np.float32(0.01 * flag), tuned_mask(params, groups, name))
        for name in groups.names
    ]
    stacked = jax.tree.map(lambda *x: np.stack(x), *rates)
    epoch = tuning_epoch(tuning_step(loss, adam()))
    index = np.array([[0, 1, 2, 3], [4, 5, 6, 7]])
    tuned, frozen = split(params, tuned_mask(params, groups, "all"))
    state = init_tuning(tuned, adam())
    axes = (None, None, None, None, 0)
    at_once = jax.jit(many(epoch, "vmap", axes))(state, frozen, batch, index, stacked)[0].tuned
    in_turn = jax.jit(many(epoch, "map", axes))(state, frozen, batch, index, stacked)[0].tuned
    for a, b in zip(jax.tree.leaves(at_once), jax.tree.leaves(in_turn), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)  # two steps of float32
    for number, name in enumerate(groups.names):
        mask = tuned_mask(params, groups, name)
        for moved, start, flag in zip(*map(jax.tree.leaves, (in_turn, params, mask)), strict=True):
            assert np.array_equal(moved[number], start) != flag
    with pytest.raises(ValueError, match="how='loop'; expected vmap or map"):
        many(epoch, "loop", axes)


# Three convolutions with a bypass, a normalization of examples, and a head.
def convolve(params: PyTree, x: Any) -> jax.Array:
    for name in ("first", "second", "third"):
        mean = x.mean((1, 2, 3), keepdims=True)
        y = jax.nn.relu(convolution((x - mean) * params[name]["scale"], params[name]["kernel"]))
        x = y if name == "first" else x + y
    return x.mean((1, 2)) @ params["head"]["kernel"]


@pytest.fixture(scope="module")
def images() -> tuple[PyTree, PyTree, Any]:
    random = np.random.default_rng(0)
    draw = lambda *shape: random.normal(size=shape).astype(np.float32) / 3
    params = {
        "first": {"kernel": draw(3, 3, 2, 4), "scale": draw(1, 1, 1, 1)},
        "second": {"kernel": draw(3, 3, 4, 4), "scale": draw(1, 1, 1, 1)},
        "third": {"kernel": draw(3, 3, 4, 4), "scale": draw(1, 1, 1, 1)},
        "head": {"kernel": draw(4, 3)},
    }
    return params, draw(4, 6, 6, 2), np.array([0, 1, 2, 0])


def mask_of(params: PyTree, *names: str) -> PyTree:
    return {name: jax.tree.map(lambda _, n=name: n in names, part) for name, part in params.items()}


def classified(params: PyTree, batch: PyTree) -> jax.Array:
    logits = convolve(params, batch[0])
    return optax.softmax_cross_entropy_with_integer_labels(logits, batch[1]).mean()


def test_the_gradient_of_later_blocks_has_no_convolution_of_earlier_ones(images: Any) -> None:
    """Three forward; a tuned block takes one for its kernel and one for the scale before that.

    Every block above the lowest tuned one takes one more, the way down.
    """
    params, x, y = images
    wanted = {("head",): 3, ("third",): 3 + 2, ("second",): 3 + 2 + 1, ("first",): 3 + 2 + 2}
    wanted[tuple(params)] = 3 + 2 * 3
    for names, count in wanted.items():
        tuned, frozen = split(params, mask_of(params, *names))
        state = init_tuning(tuned, adam())
        lowered = jax.jit(tuning_step(classified, adam())).lower(state, frozen, (x, y), 0.1)
        assert lowered.as_text().count("stablehlo.convolution") == count
    tuned, frozen = split(params, mask_of(params, "head"))
    compiled = jax.jit(jax.grad(lambda t, f: classified(join(t, f), (x, y)))).lower(tuned, frozen)
    text = compiled.compile().as_text()
    assert text is not None and text.count(" convolution(") == 3


def test_a_cut_network_computes_what_is_frozen_once(images: Any) -> None:
    params, x, _ = images
    whole = jax.jit(convolve)(params, x)
    kept, left = {"head": (4,), "second": (6, 6, 4)}, {"head": 0, "second": 2}
    for name, shape in kept.items():
        mask = mask_of(params, name)
        tuned, frozen = split(params, mask)
        cut = cut_below(jax.jit(convolve), params, mask, x[:2])
        found = cached_activations(cut, frozen, x[:3], 2)  # of three, two at a time
        # The input of the block, and nothing that is as large: means come along.
        assert [a.shape for a in found.rows if a.size > 3 * 4] == [(3, *shape)] * (name != "head")
        assert cut.size < 4 * (np.prod(shape) + 8)
        rest = jax.jit(cut.rest)
        rows = found._replace(rows=tuple(a[:2] for a in found.rows))
        text = rest.lower(tuned, rows).as_text()
        assert text.count("stablehlo.convolution") == left[name]
        # The same operations in the same order, fused differently.
        np.testing.assert_allclose(rest(tuned, rows), whole[:2], rtol=1e-5, atol=1e-6)


def test_examples_that_see_one_another_cannot_be_cached(images: Any) -> None:
    params, x, _ = images

    def normalized(params: PyTree, x: Any) -> jax.Array:
        y = convolution(x, params["first"]["kernel"])
        y = y - y.mean((0, 1, 2), keepdims=True)
        return y.mean((1, 2)) * jnp.sum(y * y) @ params["head"]["kernel"]

    small = {"first": params["first"], "head": params["head"]}
    assert cut_below(normalized, small, mask_of(small, "head"), x).size == 4 * 4
    scaled = lambda p, x: (x @ p["w"] - (x @ p["w"]).mean(0, keepdims=True)) * p["s"][None]
    tree = {"w": np.ones((3, 2), np.float32), "s": np.ones(2, np.float32)}
    both = lambda p, x: scaled(p, x) + p["s"][None] * (x @ p["w"]).mean(0, keepdims=True)
    with pytest.raises(ValueError, match=r"an array \(1, 2\) of 5 examples cannot be kept"):
        cut_below(both, tree, {"w": False, "s": True}, np.ones((5, 3), np.float32))
    with pytest.raises(ValueError, match="mask freezes everything"):
        cut_below(both, tree, {"w": False, "s": False}, np.ones((5, 3), np.float32))
