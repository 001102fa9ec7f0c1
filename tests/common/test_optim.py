"""Optimizers and schedules: hand-computed rates, what weight decay means, what stays frozen."""

from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from common.errors import UserError
from common.optim import OPTIMIZERS, SCHEDULES, make_optimizer, make_schedule

PyTree = Any


pytestmark = pytest.mark.usefixtures("float64")


def params() -> PyTree:
    return jax.tree.map(
        jnp.asarray, {"head": {"kernel": np.array([3.0, -4.0])}, "body": {"kernel": np.ones(3)}}
    )


def run(optimizer: optax.GradientTransformation, count: int = 1, grad: Any = None) -> PyTree:
    """Returns params and state after steps along `grad`, by default of |params|^2 / 2."""
    values = params()
    state = optimizer.init(values)
    for _ in range(count):
        grads = values if grad is None else jax.tree.map(lambda x: jnp.full_like(x, grad), values)
        updates, state = optimizer.update(grads, state, values)
        values = optax.apply_updates(values, updates)
    return values, state


@pytest.mark.parametrize(
    ("options", "points"),
    [
        ({}, {0: 0.2, 7: 0.2, 100: 0.2}),
        ({"schedule": "cosine"}, {0: 0.2, 25: 0.2 * (1 + np.sqrt(0.5)) / 2, 50: 0.1, 100: 0.0}),
        ({"schedule": "cosine", "final_fraction": 0.5}, {0: 0.2, 50: 0.15, 100: 0.1, 300: 0.1}),
        ({"schedule": "linear"}, {0: 0.2, 25: 0.15, 100: 0.0, 300: 0.0}),
        ({"schedule": "linear", "final_fraction": 0.1}, {0: 0.2, 50: 0.11, 100: 0.02}),
        ({"schedule": "exponential", "final_fraction": 0.01}, {0: 0.2, 50: 0.02, 100: 0.002}),
        (
            {"schedule": "step", "decay_every": 40, "decay_factor": 0.25},
            {0: 0.2, 39: 0.2, 40: 0.05, 79: 0.05, 80: 0.0125},
        ),
        ({"warmup_steps": 20}, {0: 0.0, 5: 0.05, 20: 0.2, 100: 0.2}),
        (
            {"schedule": "cosine", "warmup_steps": 20},
            {0: 0.0, 10: 0.1, 20: 0.2, 60: 0.1, 100: 0.0},
        ),
        (
            {"schedule": "step", "decay_at": (0.5, 0.75), "decay_factor": 0.1},
            {0: 0.2, 49: 0.2, 51: 0.02, 74: 0.02, 76: 0.002, 300: 0.002},
        ),
        ({"schedule": "linear", "warmup_steps": 50}, {25: 0.1, 50: 0.2, 75: 0.1, 100: 0.0}),
    ],
)
def test_a_schedule_passes_through_points_computed_by_hand(
    options: dict[str, Any], points: dict[int, float]
) -> None:
    rate = make_schedule(0.2, num_steps=100, **options)

    for step, value in points.items():
        assert np.isclose(rate(step), value, rtol=1e-6, atol=1e-9), step


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_every_optimizer_with_every_schedule_reduces_a_quadratic(name: str, schedule: str) -> None:
    optimizer = make_optimizer(
        num_steps=60,
        learning_rate=0.1,
        name=name,
        schedule=schedule,
        final_fraction=0.1,
        warmup_steps=5,
        decay_every=20,
    )

    @jax.jit
    def descend(values: PyTree) -> PyTree:
        def step(carry: PyTree, _: None) -> tuple[PyTree, None]:
            values, state = carry
            updates, state = optimizer.update(values, state, values)
            return (optax.apply_updates(values, updates), state), None

        return jax.lax.scan(step, (values, optimizer.init(values)), length=60)[0][0]

    assert optax.tree.norm(descend(params())) < 0.7 * optax.tree.norm(params())


@pytest.mark.parametrize("name", ["adamw", "lamb", "lion"])
def test_decoupled_weight_decay_shrinks_by_rate_times_decay_without_any_gradient(name: str) -> None:
    optimizer = make_optimizer(num_steps=9, learning_rate=0.1, name=name, weight_decay=0.5)

    values, _ = run(optimizer, grad=0.0)

    # LAMB scales every tensor's update to the length of the tensor: rate * |w| along -w.
    factor = 1 - 0.1 if name == "lamb" else 1 - 0.1 * 0.5
    expected = jax.tree.map(lambda x: factor * x, params())
    chex.assert_trees_all_close(values, expected, rtol=1e-9)


def test_the_l2_term_of_sgd_is_a_gradient_and_that_of_adam_is_normalized_with_it() -> None:
    decay = {"num_steps": 9, "learning_rate": 0.1, "weight_decay": 0.5}

    sgd, _ = run(make_optimizer(name="sgd", **decay), grad=0.2)
    adam, _ = run(make_optimizer(name="adam", **decay), grad=0.0)
    adamw, _ = run(make_optimizer(name="adamw", **decay), grad=0.0)

    by_hand = jax.tree.map(lambda x: x - 0.1 * (0.2 + 0.5 * x), params())
    chex.assert_trees_all_close(sgd, by_hand, rtol=1e-12)
    # Adam's first step has length rate whatever the gradient: the decay became its sign.
    by_sign = jax.tree.map(lambda x: x - 0.1 * jnp.sign(x), params())
    chex.assert_trees_all_close(adam, by_sign, rtol=1e-6)
    assert not np.allclose(adam["head"]["kernel"], adamw["head"]["kernel"], atol=1e-2)


def test_sgd_momentum_is_heavy_ball_and_nesterov_looks_ahead() -> None:
    options = {"num_steps": 9, "learning_rate": 0.1, "name": "sgd", "momentum": 0.9}

    heavy, _ = run(make_optimizer(**options), 2, grad=1.0)
    ahead, _ = run(make_optimizer(nesterov=True, **options), 2, grad=1.0)
    none, state = run(make_optimizer(num_steps=9, learning_rate=0.1, name="sgd"), 2, grad=1.0)

    start = params()["head"]["kernel"]
    assert np.allclose(start - heavy["head"]["kernel"], 0.1 * (1 + 1.9))
    assert np.allclose(start - ahead["head"]["kernel"], 0.1 * ((1 + 0.9) + (1 + 0.9 * 1.9)))
    assert np.allclose(start - none["head"]["kernel"], 0.1 * 2)
    assert all(leaf.ndim == 0 for leaf in jax.tree.leaves(state))  # only step counts


def test_clipping_bounds_the_global_norm_and_leaves_short_gradients_alone() -> None:
    norm = float(optax.tree.norm(params()))
    for limit in (norm / 4, 4 * norm):
        options = {"num_steps": 9, "learning_rate": 1.0, "name": "sgd", "clip_norm": limit}
        values, _ = run(make_optimizer(**options))
        factor = min(1.0, limit / norm)  # of all tensors together, direction kept
        expected = jax.tree.map(lambda x, f=factor: x - f * x, params())
        chex.assert_trees_all_close(values, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_parameters_outside_trainable_keep_their_bits_and_have_no_state(name: str) -> None:
    optimizer = make_optimizer(
        num_steps=9,
        learning_rate=0.1,
        name=name,
        momentum=0.9,
        weight_decay=0.1,
        clip_norm=1.0,
        trainable=r"^params/head/",
    )

    values, state = run(optimizer, 3)

    chex.assert_trees_all_equal(values["body"], params()["body"])
    assert np.all(values["head"]["kernel"] != params()["head"]["kernel"])
    shapes = {leaf.shape for leaf in jax.tree.leaves(state)}
    assert (3,) not in shapes  # the body's
    assert (2,) in shapes  # the head's
    # The frozen part does not count for the clipped norm either.
    alone = make_optimizer(
        num_steps=9, learning_rate=0.1, name=name, momentum=0.9, weight_decay=0.1, clip_norm=1.0
    )
    head: PyTree = {"head": params()["head"]}
    head_state = alone.init(head)
    for _ in range(3):
        updates, head_state = alone.update(head, head_state, head)
        head = optax.apply_updates(head, updates)
    chex.assert_trees_all_close({"head": values["head"]}, head, rtol=1e-12)


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ({"name": "adan"}, ("name='adan'", "did you mean", "adam, adamw, sgd")),
        ({"schedule": "cosin"}, ("schedule='cosin'", 'did you mean "cosine"', "linear")),
        ({"schedule": "exponential"}, ("final_fraction=0", "exponential")),
        ({"schedule": "step"}, ("decay_every=0", "step decay")),
        ({"schedule": "step", "decay_at": (0.5, 0.5)}, ("decay_at=(0.5, 0.5)", "increasing")),
        ({"schedule": "step", "decay_at": (0.5,), "decay_every": 9}, ("decay_every=9", "either")),
        ({"weight_decai": 1}, ("weight_decai", 'did you mean "weight_decay"', "learning_rate")),
        ({"weight_decay": -1}, ("weight_decay=-1", "at least 0")),  # not: no decay, unsaid
        ({"clip_norm": -1}, ("clip_norm=-1", "at least 0")),
        ({"learning_rate": -0.1}, ("learning_rate=-0.1", "at least 0")),
        ({"warmup_steps": -1}, ("warmup_steps=-1", "at least 0")),
        ({"final_fraction": -1}, ("final_fraction=-1", "at least 0")),
        ({"momentum": 1}, ("momentum=1", "< 1")),
    ],
)
def test_an_unknown_name_or_a_number_out_of_range_is_one_line(
    options: dict[str, Any], parts: tuple[str, ...]
) -> None:
    section: dict[str, Any] = {"learning_rate": 0.1, **options}
    with pytest.raises(UserError) as error:
        make_optimizer(num_steps=9, **section)

    text = str(error.value)
    assert text.startswith("config.optimizer.") and "\n" not in text
    assert all(part in text for part in parts), text


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_half_parameters_get_the_updates_of_float32_rounded_in_the_end(name: str) -> None:
    optimizer = make_optimizer(num_steps=9, learning_rate=0.1, name=name, weight_decay=0.1)
    grads = jnp.full(2000, 1e-4)  # its square is 0 in float16

    def step(dtype: Any) -> tuple[Any, Any]:
        values = jnp.full(2000, 8.0, dtype)  # 2,000 * 8**2 is infinite in float16
        updates, state = optimizer.update(grads.astype(dtype), optimizer.init(values), values)
        return optax.apply_updates(values, updates), state

    narrow, state = step(jnp.float16)
    wide, _ = step(jnp.float32)

    assert narrow.dtype == jnp.float16
    assert np.allclose(narrow, wide, rtol=1e-3) and np.all(wide < 8)
    assert all(leaf.dtype != jnp.float16 for leaf in jax.tree.leaves(state))


def test_a_pattern_that_trains_nothing_is_an_error() -> None:
    optimizer = make_optimizer(num_steps=9, learning_rate=0.1, trainable="tail")

    with pytest.raises(UserError, match=r"'tail' matches no parameter.*params/body/kernel"):
        optimizer.init(params())
