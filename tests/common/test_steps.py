"""Steps: one update of the optimizer, of what is trained only, and what a network remembers."""

from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from common import gradients, steps
from common.optim import OPTIMIZERS, make_optimizer
from tests.common.small_problem import KEY, close, differ, loss, problem

PyTree = Any


pytestmark = pytest.mark.usefixtures("float64")  # rounding must not hide a wrong term


def test_a_step_with_sam_is_the_step_of_optax_sam() -> None:
    params, data, batch = problem()
    key, rate, rho = jax.random.key(KEY), 0.1, 0.3
    step = steps.gradient_step(loss, optax.sgd(rate), gradient=gradients.sam(rho))
    state = steps.init_train_state(params, optax.sgd(rate))
    new_state, _ = step(state, data, batch, key)

    ascent = optax.chain(optax.contrib.normalize(), optax.sgd(rho))
    opaque = optax.contrib.sam(optax.sgd(rate), ascent, opaque_mode=True, reset_state=False)

    def grad_of(point: PyTree, _: Any) -> PyTree:
        return jax.grad(lambda p: loss(p, data, batch, key)[0])(point)

    grads = grad_of(params, None)
    updates, _ = opaque.update(grads, opaque.init(params), params, grad_fn=grad_of)
    close(new_state.params, optax.apply_updates(params, updates))


def constant() -> optax.GradientTransformation:
    """An optimizer that moves everything, whatever the gradient."""
    return optax.stateless(lambda updates, params: jax.tree.map(jnp.ones_like, updates))


@pytest.mark.parametrize("name", [*OPTIMIZERS, "constant"])
def test_a_masked_step_leaves_the_rest_as_it_is_whatever_the_optimizer_does(name: str) -> None:
    params, data, batch = problem()
    decay = {"num_steps": 9, "learning_rate": 0.1, "weight_decay": 0.1, "momentum": 0.9}
    optimizer = constant() if name == "constant" else make_optimizer(name=name, **decay)

    def step(gradient: gradients.Gradient, state: PyTree) -> PyTree:
        one = steps.gradient_step(loss, optimizer, gradient=gradient)
        return one(state, data, batch, jax.random.key(KEY))[0]

    @jax.jit
    def two_steps(params: PyTree) -> PyTree:  # the first leaves momentum behind
        before = step(gradients.plain, steps.init_train_state(params, optimizer))
        return before, step(gradients.masked("second"), before)

    before, after = two_steps(params)

    chex.assert_trees_all_equal(after.params["first"], before.params["first"])
    assert differ(before.params["first"], params["first"])
    assert differ(after.params["second"], before.params["second"])
    moments = jax.tree_util.tree_leaves_with_path((before.opt_state, after.opt_state))
    frozen = [leaf for path, leaf in moments if "first" in jax.tree_util.keystr(path)]
    half = len(frozen) // 2
    chex.assert_trees_all_equal(frozen[:half], frozen[half:])
    assert half or name == "constant"


def test_the_norm_of_many_half_gradients_is_that_of_the_numbers_they_hold() -> None:
    params = {"w": jnp.zeros(100_000, jnp.float16)}
    optimizer = make_optimizer(num_steps=9, learning_rate=0.5, name="sgd", clip_norm=1.0)

    def slope(params: PyTree, data: PyTree, batch: PyTree, key: jax.Array) -> Any:
        return jnp.sum(params["w"].astype(jnp.float32)), {}

    state = steps.init_train_state(params, optimizer)
    step = jax.jit(steps.gradient_step(slope, optimizer))
    state, metrics = step(state, {}, {}, jax.random.key(KEY))

    assert np.isclose(metrics["grad_norm"], np.sqrt(100_000), rtol=1e-6)
    # Clipped to length 1, then half of it: float16 holds it to three digits.
    assert np.allclose(state.params["w"], -0.5 / np.sqrt(100_000), rtol=1e-3)
    assert state.params["w"].dtype == jnp.float16


def test_a_step_reports_loss_gradient_norm_and_the_metrics_of_the_loss() -> None:
    params, data, batch = problem()
    optimizer = optax.adam(1e-2)
    state = steps.init_train_state(params, optimizer)

    key = jax.random.key(KEY)
    new_state, metrics = steps.gradient_step(loss, optimizer)(state, data, batch, key)

    (value, extra), grads = jax.value_and_grad(loss, has_aux=True)(params, data, batch, key)
    flat = np.concatenate([np.ravel(g) for g in jax.tree.leaves(grads)])
    close(metrics, {**extra, "loss": value, "grad_norm": np.linalg.norm(flat)})
    updates, opt_state = optimizer.update(grads, optimizer.init(params), params)
    close(new_state, steps.TrainState(optax.apply_updates(params, updates), opt_state))


@pytest.mark.parametrize(
    "wrap", [gradients.plain, gradients.sam(0.3), gradients.accumulated(3)], ids=["", "sam", "3"]
)
def test_a_stateful_step_keeps_what_the_network_remembers_of_its_batches(
    wrap: gradients.Gradient,
) -> None:
    params, data, batch = problem()

    def normalized(params: Any, seen: Any, data: Any, batch: Any, key: jax.Array) -> Any:
        mean = jnp.mean(batch["x"], axis=0) * params["first"]["kernel"][:, 0]
        inputs = {**batch, "x": batch["x"] - mean[None]}
        return (*loss(params, data, inputs, key), {"mean": 0.9 * seen["mean"] + 0.1 * mean})

    optimizer = optax.sgd(0.1)
    old = steps.init_train_state(params, optimizer, {"mean": jnp.ones(3)})
    step = jax.jit(steps.stateful_step(normalized, optimizer, gradient=wrap))

    new, metrics = step(old, data, batch, jax.random.key(KEY))

    # Of the parameters before the step, and the mean over the slices of a batch is its own.
    mean = jnp.mean(batch["x"], axis=0) * params["first"]["kernel"][:, 0]
    close(new.model_state["mean"], 0.9 + 0.1 * mean)
    assert differ(new.params, params)
    assert {*metrics} == {"loss", "grad_norm", "first_row_free"}
