"""What one filter is: by hand, for the layers of Flax, and what rules are refused."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from landscape.directions import filter_normalized, random_direction
from landscape.filters import (
    FLAX_RULES,
    NORMALIZATIONS,
    FilterRules,
    deviations,
    filters_of,
    normalized,
    num_filters,
)


class Attention(nn.Module):
    @nn.compact
    def __call__(self, tokens: jax.Array) -> jax.Array:
        x = nn.Embed(7, 6, name="embed")(tokens)
        x = nn.MultiHeadDotProductAttention(num_heads=2, name="attention")(x)
        return nn.LayerNorm(name="norm")(x)


class Convolutions(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = nn.Conv(6, (3, 3), name="conv")(x)
        x = nn.Conv(6, (3, 3), feature_group_count=6, name="depthwise")(x)
        return nn.Dense(5, name="dense")(x)


class Block(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array, _: None) -> tuple[jax.Array, None]:
        return nn.LayerNorm(name="norm")(nn.Dense(4, name="dense")(x)), None


def shapes_of(module: nn.Module, *inputs: jax.ShapeDtypeStruct) -> dict:
    return jax.eval_shape(module.init, jax.random.key(0), *inputs)["params"]


def test_filters_of_flax_layers_are_what_feeds_one_output() -> None:
    attention = shapes_of(Attention(), jax.ShapeDtypeStruct((1, 3), jnp.int32))
    convs = shapes_of(Convolutions(), jax.ShapeDtypeStruct((1, 4, 4, 2), jnp.float32))
    found = filters_of({"a": attention, "c": convs})
    counts = {path.removeprefix("params/"): (f.count, f.size) for path, f in found.items()}

    # (how many, entries of each); heads have 3 features
    assert counts["a/embed/embedding"] == (7, 6)
    assert counts["a/attention/query/kernel"] == (6, 6)
    assert counts["a/attention/value/kernel"] == (6, 6)
    assert counts["a/attention/out/kernel"] == (6, 6)
    assert counts["c/conv/kernel"] == (6, 18)
    assert counts["c/depthwise/kernel"] == (6, 9)
    assert counts["c/dense/kernel"] == (5, 6)
    vectors = {path for path, (count, _) in counts.items() if count == 0}
    assert vectors == {path for path in counts if path.endswith(("bias", "scale"))}
    assert num_filters(attention) == 7 + 4 * 6
    assert filters_of(attention)["params/attention/query/kernel"].axes == (1, 2)


def drawn_like(shapes: Any, seed: int = 0) -> Any:
    """Returns a tree of Gaussian numbers of these shapes."""
    random = np.random.default_rng(seed)
    return jax.tree.map(lambda x: random.normal(size=x.shape).astype(np.float32), shapes)


def test_scanned_layers_are_layers_of_their_own() -> None:
    scanned = nn.scan(Block, variable_axes={"params": 0}, split_rngs={"params": True}, length=3)
    shape = jax.ShapeDtypeStruct((2, 4), jnp.float32)
    shapes = jax.eval_shape(lambda key, x: scanned().init(key, x, None), jax.random.key(0), shape)
    params, draws = (drawn_like(shapes["params"], seed) for seed in (0, 1))
    rules = FilterRules(stacked=".", vectors="copy")

    @jax.jit
    def both(draws: Any, params: Any) -> tuple[list, list]:
        kinds = ("filter", "layer", "dlayer")
        one = lambda by: lambda d, w: normalized(d, w, by=by, rules=FilterRules(vectors="copy"))
        whole = [normalized(draws, params, by=by, rules=rules) for by in kinds]
        return whole, [jax.vmap(one(by))(draws, params) for by in kinds]

    whole, alone = both(draws, params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), whole, alone)
    assert num_filters(params, rules) == 12
    own = FilterRules(axes=(("kernel", (0, -1)),))
    assert filters_of(params, own)["params/dense/kernel"].count == 12


def test_lengths_are_those_of_the_parameters_or_one() -> None:
    theta = drawn_like({"kernel": np.zeros((5, 3)), "bias": np.zeros(3)})
    draws = drawn_like(theta, 1)
    of_all = jax.jit(lambda d, w: {by: normalized(d, w, by=by) for by in NORMALIZATIONS})
    found = of_all(draws, theta)

    g, w = draws["kernel"], theta["kernel"]
    columns, all_of = lambda x: np.linalg.norm(x, axis=0), np.linalg.norm
    wanted = {
        "filter": g / columns(g) * columns(w),
        "layer": g / all_of(g) * all_of(w),
        "weight": g * w,
        "dfilter": g / columns(g),
        "dlayer": g / all_of(g),
        "none": g,
    }
    assert set(wanted) == set(NORMALIZATIONS)
    for by, kernel in wanted.items():
        np.testing.assert_allclose(found[by]["kernel"], kernel, rtol=1e-5)
        assert not np.any(found[by]["bias"])


def test_deviations_are_those_of_drawn_entries() -> None:
    scales = np.array([[1.0, 3.0]], np.float32)
    theta = {"kernel": drawn_like(np.zeros((6, 2))) * scales, "bias": np.ones(2, np.float32)}

    @jax.jit
    def study(key: jax.Array) -> tuple[dict, dict]:
        kinds = dict(zip(NORMALIZATIONS, jax.random.split(key, len(NORMALIZATIONS)), strict=True))
        draw = lambda by: lambda key: random_direction(key, theta, by=by)
        many = {by: jax.vmap(draw(by))(jax.random.split(k, 4000)) for by, k in kinds.items()}
        return many, {by: deviations(theta, by=by) for by in kinds}

    drawn, wanted = study(jax.random.key(2))
    for by in NORMALIZATIONS:
        spread = np.sqrt(np.mean(np.square(drawn[by]["kernel"]), axis=0))
        # The relative error of a root mean square of 4,000 entries is at most 1 / sqrt(8000).
        np.testing.assert_allclose(spread, wanted[by]["kernel"], rtol=5 / np.sqrt(8000))
        assert not np.any(wanted[by]["bias"]) and not np.any(drawn[by]["bias"])


def test_every_filter_is_as_long_as_that_of_the_network_under_jit_and_vmap() -> None:
    image = jax.ShapeDtypeStruct((1, 4, 4, 2), jnp.float32)
    params = drawn_like(shapes_of(Convolutions(), image))
    one = jax.jit(filter_normalized)(jax.random.key(0), params)
    keys = jax.random.split(jax.random.key(0), 2)
    many = jax.jit(jax.vmap(filter_normalized, in_axes=(0, None)))(keys, params)

    for name in ("conv", "depthwise", "dense"):
        w = np.asarray(params[name]["kernel"])
        over = tuple(range(w.ndim - 1))
        for got in (one[name]["kernel"], many[name]["kernel"][1]):
            lengths = [np.sqrt(np.sum(np.square(x), axis=over)) for x in (got, w)]
            np.testing.assert_allclose(*lengths, rtol=1e-5)
        assert not np.any(one[name]["bias"])
        assert not np.allclose(many[name]["kernel"][0], many[name]["kernel"][1])


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        (FilterRules(axes=(("knrel", (-1,)),)), "axes='knrel' matches no parameter; there are par"),
        (FilterRules(stacked="blocks"), "stacked='blocks' matches no parameter"),
        (FilterRules(frozen="head"), "frozen='head' matches no parameter"),
        (FilterRules(frozen="("), "frozen='\\(': no regular expression"),
        (FilterRules(frozen="."), "frozen='.' leaves no parameter to move"),
        (FilterRules(vectors="none"), "vectors='none': expected zero or copy"),
        (FilterRules(axes=(("kernel", (2,)),)), r"axes=\(2,\) of params/kernel: expected axes of"),
        (FilterRules(axes=(("kernel", (0, 1)),)), "every entry of shape .5, 3. would be a filter"),
    ],
)
def test_rules_that_do_not_fit_are_refused_in_one_line(rules: FilterRules, message: str) -> None:
    theta = {"kernel": np.ones((5, 3)), "bias": np.ones(3)}

    with pytest.raises(ValueError, match=message) as refused:
        normalized(theta, theta, rules=rules)

    assert "\n" not in str(refused.value)


def test_an_unknown_normalization_is_refused() -> None:
    with pytest.raises(ValueError, match="by='filters': expected one of filter, layer"):
        normalized({"w": np.ones((2, 2))}, {"w": np.ones((2, 2))}, by="filters", rules=FLAX_RULES)
