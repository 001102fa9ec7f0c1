"""SAM that depends on the steps before: what it keeps, in whatever it is wrapped and trained."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from common.gradient_types import StatefulGradient, init_gradient_state, with_state
from common.gradients import accumulated, masked, ordered
from common.sam import sam
from tests.common.bowl import START, bowl, entries, leaves, slope
from tests.common.small_problem import KEY, close, loss, noisy_loss, problem

pytestmark = pytest.mark.usefixtures("float64")  # rounding must not hide a wrong term


def test_the_batch_before_shows_the_way_after_a_first_step_that_stays() -> None:
    def shifted(params: Any, data: Any, batch: Any, key: Any) -> Any:
        value, metrics = bowl(params, data, batch, key)
        return value + batch["shift"] @ params["a"], metrics

    gradient = sam(0.3, previous_batch=True)
    state, function = init_gradient_state(gradient, leaves(START)), with_state(gradient, shifted)
    ways = [np.array([1.0, 0, 0]), np.array([0, -3.0, 0]), np.array([0, 0, 2.0])]
    w, before = START, np.zeros(5)
    for way in ways:
        whole = np.concatenate([way, [0, 0]])
        (_, _), grads, state = function(leaves(w), state, None, {"shift": jnp.asarray(way)}, None)
        length = np.linalg.norm(before)
        worst = w + 0.3 * before / length if length else w
        close(entries(grads), slope(worst) + whole)
        close(entries(state.memory), slope(w) + whole)
        w, before = w - 0.05 * entries(grads), slope(w) + whole
    assert state.step == 3


@pytest.mark.parametrize(
    "wrap",
    [
        lambda rho, **o: masked("second", base=sam(rho, **o)),
        lambda rho, **o: sam(rho, base=masked("second"), **o),
        lambda rho, **o: accumulated(3, base=sam(rho, **o)),
        lambda rho, **o: sam(rho, base=accumulated(3), **o),
        lambda rho, **o: ordered(3, base=sam(rho, **o)),
    ],
    ids=["masked+sam", "sam+masked", "accumulated+sam", "sam+accumulated", "ordered+sam"],
)
def test_what_it_keeps_passes_through_whatever_wraps_it(wrap: Callable[..., Any]) -> None:
    params, data, batch = problem()
    radius = lambda step: jnp.where(step == 1, 0.3, 0.0)
    gradient = wrap(radius)
    assert isinstance(gradient, StatefulGradient)
    function, state = (
        jax.jit(with_state(gradient, noisy_loss)),
        init_gradient_state(gradient, params),
    )

    for rho in (0.0, 0.3, 0.0):
        found, grads, state = function(params, state, data, batch, jax.random.key(KEY))
        wanted = jax.jit(wrap(rho)(noisy_loss))(params, data, batch, jax.random.key(KEY))
        close((found, grads), wanted)
    assert state.step == 3

    gradient = wrap(0.3, previous_batch=True)
    state = init_gradient_state(gradient, params)
    function = jax.jit(with_state(gradient, loss))
    for _ in range(2):  # of one batch and one point, the gradient before is that of now
        (_, _), grads, state = function(params, state, data, batch, jax.random.key(KEY))
    close(
        state.memory["second"],
        wrap(0.0)(loss)(params, data, batch, jax.random.key(KEY))[1]["second"],
    )
