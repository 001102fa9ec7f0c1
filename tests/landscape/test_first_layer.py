"""Surfaces of networks whose first layer is affine: exact, and refused where it is not."""

from functools import partial
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from common.evaluation import classification_values
from landscape.directions import gaussian
from landscape.first_layer import AffineFirst
from landscape.grids import axis
from landscape.surfaces import surface, values_at

AXES = (axis(-1, 1, 5), axis(-0.5, 1, 3))


def first(params: Any, rows: Any, state: Any) -> jax.Array:
    """A convolution with a bias, then batch normalization with frozen statistics."""
    order = ("NHWC", "HWIO", "NHWC")
    h = jax.lax.conv_general_dilated(
        rows["x"], params["kernel"], (1, 1), "SAME", dimension_numbers=order
    )
    norm = jax.tree.map(lambda x: x[None, None, None], params["norm"])
    mean, var = (state[name][None, None, None] for name in ("mean", "var"))
    return norm["scale"] * (h - mean) / jnp.sqrt(var + 1e-5) + norm["bias"]


def rest(params: Any, h: jax.Array, rows: Any, state: Any) -> dict[str, jax.Array]:
    del state
    return classification_values(jax.nn.relu(h).mean((1, 2)) @ params["dense"], rows["y"])


def network(params: Any, rows: Any, state: Any) -> dict[str, jax.Array]:
    return rest(params, first(params, rows, state), rows, state)


SPLIT = AffineFirst(first, rest)


def problem(dtype: Any = float) -> tuple[Any, Any, Any]:
    """Returns parameters, rows and statistics; an integer leaf among the parameters."""
    draw = np.random.default_rng(0).normal
    params = {
        "kernel": draw(size=(3, 3, 2, 3)),
        "norm": {"scale": 1 + draw(size=3) / 4, "bias": draw(size=3)},
        "dense": 3 * draw(size=(3, 4)),
    }
    state = {"mean": draw(size=3), "var": draw(size=3) ** 2 + 1}
    rows = {"x": draw(size=(11, 4, 5, 2)), "y": np.arange(11) % 4}
    as_type = lambda tree: jax.tree.map(lambda x: jnp.asarray(x.astype(dtype)), tree)
    rows = {"x": as_type(rows["x"]), "y": jnp.asarray(rows["y"])}
    return {**as_type(params), "steps": 7}, rows, as_type(state)


def at_rest(direction: Any, *, scale: float = 0.0) -> Any:
    """Returns the direction with the scales of batch normalization at rest, or hardly moved."""
    norm = direction["norm"]
    return {**direction, "norm": {**norm, "scale": scale * norm["scale"]}}


@partial(jax.jit, static_argnames="scale")
def drawn(params: Any, scale: float = 0.0) -> tuple[Any, Any]:
    pair = (gaussian(jax.random.key(i), params) for i in (1, 2))
    return tuple(at_rest(direction, scale=scale) for direction in pair)


def plane(params: Any) -> tuple[Any, Any]:
    return drawn(params)


@pytest.mark.parametrize("how", [{}, {"chunk": 4, "at_once": 2, "part": 6}])
def test_the_split_network_has_the_surface_of_the_whole_one(how: Any) -> None:
    with jax.enable_x64(True):
        params, rows, state = problem()
        arguments = params, plane(params), AXES, rows
        found = surface(SPLIT, *arguments, model_state=state, **how)
        wanted = surface(network, *arguments, model_state=state)

    for name in ("loss", "accuracy"):
        assert found.values[name].shape == (5, 3)
        # float64 sums of some dozens of terms; the losses are between 1 and 40.
        np.testing.assert_allclose(found.values[name], wanted.values[name], rtol=1e-12)
    assert np.ptp(found.values["loss"]) > 1  # no flat surface


def test_in_float32_the_center_is_the_network_to_rounding_and_points_not_asked_for_are_nan() -> (
    None
):
    params, rows, state = problem(jnp.float32)
    points = np.array([[0.0, 0.0], [np.nan, 0.0], [0.5, -0.25]])

    @jax.jit
    def both(*arguments: Any) -> list[Any]:
        options = {"model_state": state, "chunk": 4}
        return [values_at(function, *arguments, **options) for function in (SPLIT, network)]

    found, wanted = jax.device_get(both(params, plane(params), points, rows))
    assert np.isnan(found["loss"][1]) and np.isfinite(found["loss"][0])
    # float32: 1e-7 a sum of 18 terms, then one of 20 and one of 11.
    chex.assert_trees_all_close(found, wanted, rtol=2e-6)


def test_the_two_parts_together_are_the_values() -> None:
    params, rows, state = problem(jnp.float32)

    both = jax.jit(lambda *arguments: (SPLIT(*arguments), network(*arguments)))
    together, whole = both(params, rows, state)

    chex.assert_trees_all_equal(together, whole)
    assert np.ptp(whole["loss"]) > 0


def refused(message: str, function: Any, directions: Any) -> None:
    params, rows, state = problem(jnp.float32)
    with pytest.raises(ValueError, match=message) as caught:
        surface(function, params, directions, AXES, rows, model_state=state)
    assert "\n" not in str(caught.value)


def test_a_first_part_that_is_not_affine_is_refused_with_how_far_it_is_off() -> None:
    params, rows, state = problem(jnp.float32)
    message = r"first is not affine.*at the coordinates \[-1.0, 1.0\].*are [0-9.]+ off"
    rectified = AffineFirst(lambda *arguments: jax.nn.relu(first(*arguments)), rest)
    scaled = drawn(params, 0.01)

    refused(message, rectified, plane(params))
    refused(message, SPLIT, scaled)  # scale times kernel: a product of two that move
    options = {"model_state": state, "statistics": lambda params, rows, state: state}
    with pytest.raises(ValueError, match="statistics that follow the weights"):
        surface(SPLIT, params, plane(params), AXES, rows, **options)
