"""Directions: lengths, what stays, invariances, and points of lines and planes."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from landscape.directions import (
    filter_normalized,
    gaussian,
    plane_through,
    random_direction,
    random_plane,
    towards,
)
from landscape.filters import FLAX_RULES, FilterRules
from landscape.vectors import cosine, moved, norm
from tests.landscape.problems import init_relu, relu_network, rounding


def mixed() -> dict:
    """Returns parameters with a zero filter, a bias, a counter, and a half-precision leaf."""
    kernel = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    kernel[:, 1] = 0
    return {
        "head": {"kernel": jnp.asarray(kernel.astype(jnp.bfloat16))},
        "dense": {"kernel": jnp.asarray(kernel), "bias": jnp.asarray([1.0, -0.0, 2.0])},
        "count": jnp.asarray(7),
        "steps": jnp.arange(3),
        "key": jax.random.key(3),
    }


compiled, at = jax.jit(filter_normalized, static_argnames="rules"), jax.jit(moved)


def draw(params: Any, rules: FilterRules = FLAX_RULES) -> Any:
    return jax.device_get(compiled(jax.random.key(0), params, rules=rules))


def test_zero_filters_frozen_layers_counters_and_biases_stay() -> None:
    params = mixed()
    d = draw(params, FilterRules(frozen="head"))

    assert d["count"] is None and d["steps"] is None and d["key"] is None
    assert not np.any(d["head"]["kernel"]) and not np.any(d["dense"]["bias"])
    assert not np.any(d["dense"]["kernel"][:, 1])
    assert np.all(d["dense"]["kernel"][:, [0, 2]])
    there = moved(params, [d], [0.5])  # outside a program: the same objects
    assert there["count"] is params["count"] and there["key"] is params["key"]
    np.testing.assert_array_equal(there["head"]["kernel"], params["head"]["kernel"])
    np.testing.assert_allclose(
        there["dense"]["kernel"],
        np.asarray(params["dense"]["kernel"]) + np.float32(0.5) * d["dense"]["kernel"],
    )


def test_vectors_are_copied_if_asked_so_that_minus_one_switches_them_off() -> None:
    params = mixed()
    d = draw(params, FilterRules(vectors="copy"))

    np.testing.assert_array_equal(d["dense"]["bias"], params["dense"]["bias"])
    assert not np.any(at(params, [d], [-1.0])["dense"]["bias"])


def test_directions_of_half_precision_parameters_are_single() -> None:
    params = mixed()
    d = draw(params)["head"]["kernel"]
    w = np.asarray(params["head"]["kernel"], np.float32)

    assert d.dtype == jnp.float32
    np.testing.assert_allclose(np.linalg.norm(d, axis=0), np.linalg.norm(w, axis=0), rtol=1e-6)
    there = at(params, [draw(params)], [0.5])["head"]["kernel"]
    np.testing.assert_array_equal(there, (w + np.float32(0.5) * d).astype(jnp.bfloat16))


def test_the_center_is_the_model_bit_for_bit() -> None:
    params = mixed()
    there = moved(params, jax.jit(random_plane)(jax.random.key(0), params), np.zeros(2))

    for before, after in zip(jax.tree.leaves(params), jax.tree.leaves(there), strict=True):
        assert after.dtype == before.dtype
        if jnp.issubdtype(before.dtype, jax.dtypes.prng_key):
            assert after is before
        else:
            np.testing.assert_array_equal(after, before)


def test_random_directions_do_not_care_about_the_scale_shared_by_layers() -> None:
    @jax.jit
    def along(params: Any, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        key, other = jax.random.split(jax.random.key(0))
        directions = filter_normalized(key, params), gaussian(other, params)
        filters, raw = (relu_network(moved(params, [d], [0.7]), x) for d in directions)
        return filters, raw

    with jax.enable_x64(True):
        params, c = init_relu(0, (5, 8, 6, 3)), 7.0
        x = jnp.asarray(np.random.default_rng(1).normal(size=(20, 5)))
        powers = {"dense_0": c, "dense_1": 1 / c, "dense_2": 1.0}
        kernels = {name: np.asarray(params[name]["kernel"]) for name in powers}
        other = {name: {"kernel": kernels[name] * p} for name, p in powers.items()}
        found = jax.device_get((along(params, x), along(other, x)))
        (here, raw), (there, raw_there) = found

        # Sums over the inputs of three layers, relative to the largest output.
        np.testing.assert_allclose(there, here, atol=rounding(here, 5 + 8 + 6))
        assert np.max(np.abs(raw - raw_there)) > 0.1


def test_batch_normalized_filters_may_have_any_scale_each() -> None:
    """In eval mode: the filter times c_j, its running mean times c_j, its variance times c_j^2."""

    def network(variables: dict, x: jax.Array) -> jax.Array:
        params, stats = variables["params"], variables["batch_stats"]
        h = (x @ params["conv"]["kernel"] - stats["mean"][None]) / jnp.sqrt(stats["var"][None])
        return jax.nn.relu(h * params["norm"]["scale"][None] + params["norm"]["bias"][None])

    with jax.enable_x64(True):
        random = np.random.default_rng(0)
        c = random.uniform(0.1, 10, size=6)
        kernel, x = random.normal(size=(5, 6)), jnp.asarray(random.normal(size=(20, 5)))
        norm_params = {"scale": np.ones(6), "bias": np.ones(6) / 3}
        stats = {"mean": np.ones(6) / 2, "var": np.ones(6) * 2}
        here = {"params": {"conv": {"kernel": kernel}, "norm": norm_params}, "batch_stats": stats}
        scaled = {"mean": stats["mean"] * c, "var": stats["var"] * c**2}
        conv = {"kernel": kernel * c}
        there = {"params": {"conv": conv, "norm": norm_params}, "batch_stats": scaled}

        @jax.jit
        def at(v: Any) -> tuple[jax.Array, jax.Array]:
            d = filter_normalized(jax.random.key(0), v)
            return network(v, x), network(moved(v, [d], [0.7]), x)

        (alone, along), (other, along_other) = jax.device_get((at(here), at(there)))
        # Sums over 5 inputs and, of lengths, over 5 entries of a filter.
        np.testing.assert_allclose(other, alone, atol=rounding(alone, 5))
        np.testing.assert_allclose(along_other, along, atol=rounding(along, 5 + 5))
        assert np.max(np.abs(along - alone)) > 0.1


def test_two_gaussian_directions_are_as_nearly_orthogonal_as_chance_has_it() -> None:
    n, pairs = 400, 4000
    params = {"a": np.zeros((20, 15), np.float32), "b": np.zeros(100, np.float32)}

    @jax.jit
    def cosines(key: jax.Array) -> jax.Array:
        draw = lambda key: gaussian(key, params)
        keys = jax.random.split(key, 2 * pairs).reshape(2, pairs)
        return jnp.abs(jax.vmap(lambda one, two: cosine(draw(one), draw(two)))(*keys))

    found = np.asarray(cosines(jax.random.key(0)))

    # |cos| is half-normal: its standard deviation is sqrt(1 - 2 / pi) / sqrt(n).
    error = np.sqrt((1 - 2 / np.pi) / n / pairs)
    assert abs(np.mean(found) - np.sqrt(2 / (np.pi * n))) < 4 * error + 0.25 / n * found.mean()


def test_a_line_and_a_plane_go_through_their_checkpoints() -> None:
    with jax.enable_x64(True):
        trees = [{**init_relu(seed, (4, 5, 3)), "count": jnp.asarray(seed)} for seed in range(3)]
        first, second, third = trees

        @jax.jit
        def all_of(first: Any, second: Any, third: Any) -> Any:
            line = moved(first, [towards(first, second)], [1.0])
            plane = plane_through(first, second, third, orthogonal=True)
            oblique = plane_through(first, second, third)
            corners = [moved(first, plane[:2], plane.coordinates[i]) for i in range(3)]
            corners += [line, moved(first, oblique[:2], [0.0, 1.0])]
            cosines = cosine(plane.x, plane.y), cosine(oblique.x, oblique.y)
            return corners, cosines, (norm(plane.x), norm(plane.y))

        corners, (right, oblique), norms = jax.device_get(all_of(first, second, third))
        entries = 4 * 5 + 5 * 3  # of the inner products that make the plane orthogonal
        for found, wanted in zip(corners, (first, second, third, second, third), strict=True):
            assert found["count"] == 0  # where the line begins
            for a, b in zip(jax.tree.leaves(found)[1:], jax.tree.leaves(wanted)[1:], strict=True):
                np.testing.assert_allclose(a, b, atol=rounding(b, entries))
        assert abs(right) < rounding(1, entries)
        np.testing.assert_allclose(*norms)
        assert abs(oblique) > 0.1
        _, _, norms = all_of(first, second, second)  # on one line
        assert not np.any(np.isnan(norms))


def test_directions_of_other_trees_are_refused_in_one_line() -> None:
    params = {"dense": {"kernel": jnp.ones((4, 3))}}
    wrong = {
        "is of another tree": {"dens": {"kernel": jnp.ones((4, 3))}},
        r"shape \(3, 4\) at params/dense/kernel": {"dense": {"kernel": jnp.ones((3, 4))}},
        "a subtree at params/dense/kernel": {"dense": {"kernel": {"a": 1, "b": 2}}},
    }
    for message, direction in wrong.items():
        with pytest.raises(ValueError, match=message) as refused:
            moved(params, [direction], [1.0])
        assert "\n" not in str(refused.value)
        with pytest.raises(ValueError, match=message):
            towards(params, direction)
    with pytest.raises(ValueError, match="2 coordinates for 1 directions"):
        moved(params, [params], [1.0, 2.0])
    with pytest.raises(ValueError, match="is complex64: expected real parameters"):
        gaussian(jax.random.key(0), {"w": jnp.ones(2, jnp.complex64)})
    with pytest.raises(ValueError, match="no leaf of floats"):
        random_direction(jax.random.key(0), {"count": jnp.asarray(1)})
