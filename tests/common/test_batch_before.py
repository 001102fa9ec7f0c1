"""The batch of the step before, which SAM can climb: where it comes from, and what the step is."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from common.experiment import build
from common.gradient_types import init_gradient_state, with_state
from common.sam import sam
from tests.common.bowl import MATRIX, START, bowl, entries, leaves, slope
from tests.common.small_problem import close
from tests.common.toys import toy_config

pytestmark = pytest.mark.usefixtures("float64")
OLD, NEW = np.array([2.0, -1.0, 0.5]), np.array([0.0, -3.0, 1.0])
BATCH = {"shift": NEW, "before/shift": OLD}


def shifted(params: Any, data: Any, batch: Any, key: Any) -> Any:
    value, _ = bowl(params, data, batch, key)
    return value + jnp.asarray(batch["shift"]) @ params["a"], {"shift": batch["shift"]}


def slope_of(w: np.ndarray, shift: np.ndarray) -> np.ndarray:
    return slope(w) + np.concatenate([shift, [0, 0]])


def test_the_old_batch_is_climbed_and_the_new_one_descended_from_the_parameters_of_now() -> None:
    gradient = jax.jit(sam(0.3, batch_before=True, ascent_steps=2, ascent_size=0.6)(shifted))
    (value, metrics), grads = gradient(leaves(START), None, BATCH, None)

    worst = START
    for _ in range(2):  # 0.36 at most: the second step is projected
        uphill = slope_of(worst, OLD)
        offset = worst - START + 0.18 * uphill / np.linalg.norm(uphill)
        worst = START + offset * min(1, 0.3 / np.linalg.norm(offset))
    close(entries(grads), slope_of(worst, NEW))
    close(value, START @ MATRIX @ START / 2 + np.sum(START**4) / 4 + OLD @ START[:3])
    close(metrics["shift"], OLD)


def test_where_the_radius_is_0_the_step_is_that_of_the_new_batch_alone() -> None:
    gradient = sam(lambda step: jnp.where(step == 1, 0.3, 0.0), batch_before=True)
    state, function = (
        init_gradient_state(gradient, leaves(START)),
        jax.jit(with_state(gradient, shifted)),
    )
    uphill = slope_of(START, OLD)
    worst = START + 0.3 * uphill / np.linalg.norm(uphill)
    for at in (START, worst):
        (_, metrics), grads, state = function(leaves(START), state, None, BATCH, None)
        close(entries(grads), slope_of(at, NEW))
        close(metrics["shift"], NEW if at is START else OLD)


@pytest.mark.parametrize("seeds", [1, 2])
def test_experiments_bring_the_rows_of_the_step_before(seeds: int) -> None:
    section = {"name": "sam_before", "rho": 0.3, "start": 0.25}
    config = toy_config(gradient=section, seed_group=seeds)
    plain = build(toy_config(seed_group=seeds))
    experiment = build(config)

    for step, before in ((0, 0), (1, 0), (4, 3)):
        found, old = experiment.batch(step), plain.batch(before)
        wanted = {**plain.batch(step), **{f"before/{name}": rows for name, rows in old.items()}}
        assert jax.tree.all(jax.tree.map(np.array_equal, found, wanted))
    key = jax.eval_shape(lambda: jax.random.key(0))
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0))) if seeds > 1 else key
    state = jax.eval_shape(experiment.init, keys)
    data = experiment.data()
    after, _ = jax.eval_shape(experiment.step, state, data, experiment.batch(0), keys)
    assert after == state
