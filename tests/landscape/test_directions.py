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
from landscape.filters import FilterRules
from landscape.vectors import cosine, dot, moved, norm
from tests.landscape.problems import init_relu, relu_network, rounding


def mixed() -> dict:
    """Returns parameters with a zero filter, a bias, a counter, and a half-precision leaf."""
    kernel = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    kernel[:, 1] = 0
    return {
        "head": {"kernel": jnp.asarray(kernel, jnp.bfloat16)},
        "dense": {"kernel": jnp.asarray(kernel), "bias": jnp.asarray([1.0, -0.0, 2.0])},
        "count": jnp.asarray(7),
        "steps": jnp.arange(3),
        "key": jax.random.key(3),
    }


def test_zero_filters_frozen_layers_counters_and_biases_stay() -> None:
    params = mixed()
    d = filter_normalized(jax.random.key(0), params, rules=FilterRules(frozen="head"))

    assert d["count"] is None and d["steps"] is None and d["key"] is None
    assert not np.any(d["head"]["kernel"]) and not np.any(d["dense"]["bias"])
    assert not np.any(d["dense"]["kernel"][:, 1])
    assert np.all(d["dense"]["kernel"][:, [0, 2]])
    there = moved(params, [d], [0.5])
    assert there["count"] is params["count"] and there["key"] is params["key"]
    np.testing.assert_array_equal(there["head"]["kernel"], params["head"]["kernel"])
    np.testing.assert_allclose(
        there["dense"]["kernel"], params["dense"]["kernel"] + 0.5 * d["dense"]["kernel"]
    )


def test_vectors_are_copied_if_asked_so_that_minus_one_switches_them_off() -> None:
    params = mixed()
    d = filter_normalized(jax.random.key(0), params, rules=FilterRules(vectors="copy"))

    np.testing.assert_array_equal(d["dense"]["bias"], params["dense"]["bias"])
    assert not np.any(moved(params, [d], [-1.0])["dense"]["bias"])


def test_directions_of_half_precision_parameters_are_single() -> None:
    params = mixed()
    d = filter_normalized(jax.random.key(0), params)["head"]["kernel"]
    w = np.asarray(params["head"]["kernel"], np.float32)

    assert d.dtype == jnp.float32
    np.testing.assert_allclose(np.linalg.norm(d, axis=0), np.linalg.norm(w, axis=0), rtol=1e-6)
    there = moved(params, [filter_normalized(jax.random.key(0), params)], [0.5])["head"]["kernel"]
    np.testing.assert_array_equal(there, jnp.asarray(w + 0.5 * np.asarray(d), jnp.bfloat16))


def test_the_center_is_the_model_bit_for_bit() -> None:
    params = mixed()
    there = moved(params, random_plane(jax.random.key(0), params), jnp.zeros(2))

    for before, after in zip(jax.tree.leaves(params), jax.tree.leaves(there), strict=True):
        assert after.dtype == before.dtype
        assert bool(jnp.all(after == before))


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
        other = {name: {"kernel": params[name]["kernel"] * p} for name, p in powers.items()}
        (here, raw), (there, raw_there) = along(params, x), along(other, x)

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
        c = jnp.asarray(random.uniform(0.1, 10, size=6))
        kernel, x = (jnp.asarray(random.normal(size=shape)) for shape in ((5, 6), (20, 5)))
        norm_params = {"scale": jnp.ones(6), "bias": jnp.ones(6) / 3}
        stats = {"mean": jnp.ones(6) / 2, "var": jnp.ones(6) * 2}
        here = {"params": {"conv": {"kernel": kernel}, "norm": norm_params}, "batch_stats": stats}
        scaled = {"mean": stats["mean"] * c, "var": stats["var"] * c**2}
        conv = {"kernel": kernel * c[None]}
        there = {"params": {"conv": conv, "norm": norm_params}, "batch_stats": scaled}

        @jax.jit
        def at(v: Any) -> tuple[jax.Array, jax.Array]:
            d = filter_normalized(jax.random.key(0), v)
            return network(v, x), network(moved(v, [d], [0.7]), x)

        (alone, along), (other, along_other) = at(here), at(there)
        # Sums over 5 inputs and, of lengths, over 5 entries of a filter.
        np.testing.assert_allclose(other, alone, atol=rounding(alone, 5))
        np.testing.assert_allclose(along_other, along, atol=rounding(along, 5 + 5))
        assert np.max(np.abs(along - alone)) > 0.1


def test_two_gaussian_directions_are_as_nearly_orthogonal_as_chance_has_it() -> None:
    n, pairs = 400, 4000
    params = {"a": jnp.zeros((20, 15)), "b": jnp.zeros(100)}
    keys = jax.random.split(jax.random.key(0), 2 * pairs).reshape(2, pairs)
    drawn = jax.vmap(lambda one, two: jnp.abs(cosine(gaussian(one, params), gaussian(two, params))))
    found = np.asarray(jax.jit(drawn)(*keys))

    # |cos| is half-normal: its standard deviation is sqrt(1 - 2 / pi) / sqrt(n).
    error = np.sqrt((1 - 2 / np.pi) / n / pairs)
    assert abs(np.mean(found) - np.sqrt(2 / (np.pi * n))) < 4 * error + 0.25 / n * found.mean()


def test_a_line_and_a_plane_go_through_their_checkpoints() -> None:
    with jax.enable_x64(True):
        trees = [{**init_relu(seed, (4, 5, 3)), "count": jnp.asarray(seed)} for seed in range(3)]
        first, second, third = trees
        line = moved(first, [towards(first, second)], [1.0])
        plane = plane_through(first, second, third, orthogonal=True)
        oblique = plane_through(first, second, third)

        entries = 4 * 5 + 5 * 3  # of the inner products that make the plane orthogonal
        assert line["count"] is first["count"]
        for found, wanted in (
            (line, second),
            (moved(first, plane[:2], plane.coordinates[0]), first),
            (moved(first, plane[:2], plane.coordinates[1]), second),
            (moved(first, plane[:2], plane.coordinates[2]), third),
            (moved(first, oblique[:2], [0.0, 1.0]), third),
        ):
            for a, b in zip(jax.tree.leaves(found)[1:], jax.tree.leaves(wanted)[1:], strict=True):
                np.testing.assert_allclose(a, b, atol=rounding(b, entries))
        assert abs(cosine(plane.x, plane.y)) < rounding(1, entries)
        np.testing.assert_allclose(norm(plane.y), norm(plane.x))
        assert abs(cosine(oblique.x, oblique.y)) > 0.1
        degenerate = plane_through(first, second, second, orthogonal=True)
        assert not np.any(np.isnan(dot(degenerate.y, degenerate.y)))


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
