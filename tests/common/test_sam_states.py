"""SAM that depends on the steps before: what it keeps, in whatever it is wrapped and trained."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from common import steps
from common.checkpoints.checkpoint import Checkpoints
from common.checkpoints.snapshot import digest
from common.errors import UserError
from common.gradient_types import StatefulGradient, init_gradient_state, with_state
from common.gradients import accumulated, make_gradient, masked, ordered, plain
from common.loop_fields import GRADIENT
from common.nets.mlp import init_mlp, mlp
from common.optim import make_schedule
from common.sam import sam
from common.supervised import training
from tests.common.bowl import START, bowl, entries, leaves, slope
from tests.common.small_problem import KEY, close, differ, loss, noisy_loss, problem
from tests.common.toys import toy_config

double = pytest.mark.usefixtures("float64")  # rounding must not hide a wrong term


@double
def test_the_batch_before_shows_the_way_after_a_first_step_that_stays() -> None:
    def shifted(params: Any, data: Any, batch: Any, key: Any) -> Any:
        value, metrics = bowl(params, data, batch, key)
        return value + batch["shift"] @ params["a"], metrics

    gradient = sam(0.3, previous_batch=True)
    state = init_gradient_state(gradient, leaves(START))
    function = jax.jit(with_state(gradient, shifted))
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


@double
@pytest.mark.parametrize(
    "wrap",
    [
        pytest.param(lambda rho, **o: masked("second", base=sam(rho, **o)), id="masked+sam"),
        *(
            pytest.param(wrap, id=name, marks=pytest.mark.slow)
            for name, wrap in {
                "sam+masked": lambda rho, **o: sam(rho, base=masked("second"), **o),
                "accumulated+sam": lambda rho, **o: accumulated(3, base=sam(rho, **o)),
                "sam+accumulated": lambda rho, **o: sam(rho, base=accumulated(3), **o),
                "ordered+sam": lambda rho, **o: ordered(3, base=sam(rho, **o)),
            }.items()
        ),
    ],
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

    at = lambda rho: jax.jit(wrap(rho)(noisy_loss))(params, data, batch, jax.random.key(KEY))
    wanted = {rho: at(rho) for rho in (0.0, 0.3)}
    for rho in (0.0, 0.3, 0.0):
        found, grads, state = function(params, state, data, batch, jax.random.key(KEY))
        close((found, grads), wanted[rho])
    assert state.step == 3

    gradient = wrap(0.3, previous_batch=True)
    state = init_gradient_state(gradient, params)
    function = jax.jit(with_state(gradient, noisy_loss))
    for _ in range(2):  # of one batch, point and noise, the gradient before is that of now
        (_, _), grads, state = function(params, state, data, batch, jax.random.key(KEY))
    close(state.memory["second"], wanted[0.0][1]["second"])


def config_of(optimizer: dict[str, Any] | None = None, **section: Any) -> Any:
    optimizer = {"name": "sgd", "learning_rate": 0.1, **(optimizer or {})}
    gradient = {"name": "sam", "rho": 0.4, "diagnostics": True, **section}
    return toy_config(optimizer=optimizer, gradient={**GRADIENT, **gradient}, batch_size=24)


def trained(config: Any, count: int = 8) -> tuple[Any, list[Any], list[float]]:
    """The step of a config, the states before and after each of `count` steps, and the radii."""
    params, data, rows = problem()
    of_rows = lambda params, data, batch, key: loss(params, data, rows, key)
    init, step, batch = training(config, lambda key: params, of_rows, num_train=24)
    one = jax.jit(step)
    states, radii = [init(jax.random.key(0))], []
    for number in range(count):
        state, metrics = one(states[-1], data, batch(number), jax.random.key(number))
        states.append(state)
        radii.append(float(metrics["sam_rho"]))
    return one, states, radii


@jax.jit
def ahead_of(rho: Any, params: Any, data: Any, rows: Any) -> Any:
    """The gradient a radius uphill, as one would write it down: one program for all radii."""
    slope = jax.grad(lambda point: loss(point, data, rows, jax.random.key(0))[0])
    here = slope(params)
    length = optax.tree.norm(here)
    return slope(jax.tree.map(lambda p, g: p + rho * g / length, params, here))


COSINE = [0.4 * (1 + np.cos(np.pi * t / 8)) / 2 for t in range(8)]


@double
@pytest.mark.parametrize(
    ("optimizer", "section", "radii"),
    [
        pytest.param({}, {"rho_schedule": "cosine"}, COSINE, marks=pytest.mark.slow),
        pytest.param(
            {},
            {"rho_schedule": "linear", "rho_warmup_steps": 2, "rho_final_fraction": 0.25},
            [0, 0.2, *(0.4 - 0.3 * t / 6 for t in range(6))],
            marks=pytest.mark.slow,
        ),
        (
            {"schedule": "step", "decay_every": 3},
            {"rho": GRADIENT["rho"], "rho_per_rate": 2.0},
            [0.2] * 3 + [0.1] * 3 + [0.05] * 2,
        ),
        pytest.param(
            {}, {"start": 0.25, "stop": 0.5}, [0, 0, 0.4, 0.4, 0, 0, 0, 0], marks=pytest.mark.slow
        ),
        ({}, {"start": 0.5, "rho_schedule": "cosine"}, [0] * 4 + COSINE[4:]),
    ],
)
def test_the_radius_follows_schedule_rate_and_shares_of_training(
    optimizer: dict[str, Any], section: dict[str, Any], radii: list[float]
) -> None:
    _, states, found = trained(config_of(optimizer, **section))

    assert found == pytest.approx(radii, rel=1e-6, abs=1e-7)  # schedules are float32
    assert [int(state.gradient_state.step) for state in states] == [*range(9)]
    _, data, rows = problem()
    rate = make_schedule(0.1, num_steps=8, **optimizer)
    for number in (2, 4):  # within and after the shares
        before, after = states[number].params, states[number + 1].params
        grads = ahead_of(found[number], before, data, rows)
        wanted = jax.tree.map(lambda p, g, n=number: p - rate(n) * g, before, grads)
        # The radius above is rounded to float32.
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), after, wanted)


def test_a_run_resumed_from_a_checkpoint_goes_on_with_the_step_and_the_batch_before(
    tmp_path: Path,
) -> None:
    config = config_of(start=0.5, previous_batch=True)
    step, states, _ = trained(config)
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        checkpoints.save(5, states[5], extra={})
        checkpoints.wait()
        restored = checkpoints.restore(jax.eval_shape(lambda: states[5]))
    assert restored is not None
    state = restored.state
    index = np.arange(24)
    for number in range(5, 8):
        state, _ = step(state, problem()[1], {"index": index}, jax.random.key(number))

    assert digest(state) == digest(states[8])
    assert differ(state.gradient_state.memory, jax.tree.map(jnp.zeros_like, state.params))


class StateOfBefore(NamedTuple):
    """What `TrainState` was when there was no state of gradients."""

    params: Any
    opt_state: Any
    model_state: Any = ()


@pytest.mark.parametrize("kind", [plain, sam(0.1), accumulated(2), sam(0.1, m=2, eta=0.1)])
def test_states_of_gradients_that_keep_nothing_are_saved_as_they_were(
    kind: Any, tmp_path: Path
) -> None:
    params, _, _ = problem()
    new = steps.init_train_state(params, optax.adam(0.1), {"mean": jnp.ones(3)}, gradient=kind)
    old = StateOfBefore(*new[:3])

    assert new.gradient_state == ()
    assert digest(new) == digest(old)
    if kind is plain:
        with Checkpoints(tmp_path / "checkpoints") as checkpoints:
            checkpoints.save(1, old, extra={})
            checkpoints.wait()
            restored = checkpoints.restore(jax.eval_shape(lambda: new))
        assert restored is not None
        assert digest(restored.state) == digest(new)


@double
def test_seeds_under_vmap_and_donated_states_count_steps_as_one_alone_does() -> None:
    config = config_of(start=0.25, previous_batch=True)
    params, data, rows = problem()
    init, step, batch = training(
        config, lambda key: params, lambda p, d, b, key: noisy_loss(p, d, rows, key), num_train=24
    )
    group = jax.jit(jax.vmap(step, in_axes=(0, None, None, 0)), donate_argnums=0)
    alone = jax.jit(step)
    state = jax.tree.map(lambda x: jnp.stack([x, x]), init(jax.random.key(0)))  # of no key
    single = init(jax.random.key(1))
    for number in range(4):
        keys = jax.vmap(jax.random.key)(jnp.arange(2) + 10 * number)
        state, _ = group(state, data, batch(number), keys)
        single, _ = alone(single, data, batch(number), jax.random.key(1 + 10 * number))

    close(jax.tree.map(lambda x: x[1], state), single)


def test_the_second_pass_costs_the_memory_of_one_copy_of_the_parameters() -> None:
    init, size = partial(init_mlp, sizes=(256, 512, 512, 10)), 64
    params = jax.eval_shape(init, jax.random.key(0))

    def squares(params: Any, data: Any, batch: Any, key: Any) -> Any:
        return jnp.mean(mlp(params, batch, activation=jnp.tanh) ** 2), {}

    def temporary(gradient: Any) -> int:
        optimizer = optax.sgd(0.1, momentum=0.9)
        state = jax.eval_shape(lambda p: steps.init_train_state(p, optimizer), params)
        step = steps.gradient_step(squares, optimizer, gradient=gradient)
        rows, key = jax.ShapeDtypeStruct((size, 256), jnp.float32), jax.random.key(0)
        lowered = jax.jit(step, donate_argnums=0).lower(state, {}, rows, key)
        sizes = lowered.compile().memory_analysis()
        assert sizes is not None
        return sizes.temp_size_in_bytes

    copy = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(params))
    more = temporary(sam(0.1)) - temporary(plain)
    assert 0 < more <= 1.02 * copy  # besides norms and single numbers


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"start": 0.5, "stop": 0.5}, r"config\.gradient\.stop=0.5: .*start < stop"),
        ({"start": -0.1}, r"config\.gradient\.start=-0.1"),
        ({"stop": 1.5}, r"config\.gradient\.stop=1.5"),
        ({"rho_schedule": "cosin"}, "rho_schedule='cosin' is unknown.*\"cosine\""),
        ({"rho_final_fraction": 0.5}, r"rho_final_fraction=0.5: .*linear or cosine"),
        ({"rho_warmup_steps": 9}, "rho_warmup_steps=9: expected 0 to num_steps=8"),
        ({"rho_per_rate": 2.0}, "rho_per_rate=2.0: takes the place of rho"),
        ({"rho": 0.05, "rho_per_rate": -2.0}, "rho_per_rate=-2.0"),
        ({"eta": 0.5}, "eta=0.5: only adaptive=True reads it"),
        ({"decay_in_ascent": True}, "decay_in_ascent: the config has no optimizer.weight_decay"),
        ({"statistics": "last"}, r"config\.gradient\.statistics='last'"),
        ({"m": -1}, r"config\.gradient\.m=-1"),
        ({"name": "sam+ordered", "m": 4}, r"config\.gradient\.m=4: .*deterministic=true"),
        ({"name": "plain", "m": 4}, r"config\.gradient\.m=4: only sam or sam_before reads it"),
    ],
)
def test_fields_that_make_no_sense_are_one_line_with_their_value(
    section: dict[str, Any], message: str
) -> None:
    plain_section: dict[str, Any] = (
        {"diagnostics": False, "rho": GRADIENT["rho"]} if "name" in section else {}
    )
    with pytest.raises(UserError, match=message) as error:
        make_gradient(config_of({}, **{**plain_section, **section}))
    assert "\n" not in str(error.value)
