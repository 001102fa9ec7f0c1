"""Advantage actor-critic: one step by hand; and all algorithms on one device and on eight."""

import json
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlhf.a2c import A2CSettings, a2c, learning_rate
from rlhf.envs import make
from rlhf.envs.chain import chain
from rlhf.moments import merged, moments_of, no_moments, standardize
from rlhf.policies import perceptrons
from rlhf.ppo import PPOSettings, ppo
from rlhf.rollouts import collect, rewards_of, start
from rlhf.trpo import TRPOSettings, trpo
from tests.processes import Child

STEPS, ENVS = 5, 4
# Means over devices in the text of a program, where the body of a loop stands once: two for the
# moments of observations, two for those of returns, one to standardize advantages; one for each
# gradient, product with the Fisher matrix, try of the line search, and minibatch of values.
COLLECTIVES = {"a2c": 2 + 1, "ppo": 2 + 2 + 1 + 1, "trpo": 2 + 2 + 1 + 4}


@pytest.fixture(scope="module")
def learned() -> dict[str, Any]:
    """Two updates on a chain, with every number that they were made of."""
    env = chain(horizon=3)
    networks = perceptrons(env, hidden=(4,))
    algorithm = a2c(networks, A2CSettings(clip_norm=1e9))

    @jax.jit
    def run(key: jax.Array) -> dict[str, Any]:
        agent = algorithm.init(key)
        states = start(env, jax.random.fold_in(key, 1), ENVS)
        _, rollout = collect(
            env, partial(algorithm.act, agent), states, jax.random.fold_in(key, 2), STEPS
        )
        rewards = jax.random.normal(jax.random.fold_in(key, 3), (STEPS, ENVS))
        first, _ = algorithm.update(agent, rollout, rewards, jax.random.fold_in(key, 4))

        def loss(params: Any) -> jax.Array:
            """Returns the loss of Mnih et al., on returns made step by step below."""
            logits = networks.policy(params, rollout.observations)
            values = networks.value(params, rollout.observations)
            old = networks.value(agent.params, rollout.observations)
            after = networks.value(agent.params, rollout.next_observations)
            returns, following = [], after[-1]
            for t in reversed(range(STEPS)):
                following = jnp.where(rollout.ended[t], after[t], following)
                following = rewards[t] + 0.99 * following
                returns.insert(0, following)
            goal = jnp.stack(returns)
            logs = jax.nn.log_softmax(logits)
            chosen = jnp.take_along_axis(logs, rollout.actions[..., None], -1)[..., 0]
            entropy = -jnp.mean(jnp.sum(jnp.exp(logs) * logs, -1))
            gain = jnp.mean(chosen * (goal - old))
            return 0.5 * jnp.mean((values - goal) ** 2) - gain - 0.01 * entropy

        return {
            "before": agent,
            "after": first,
            "gradient": jax.grad(loss)(agent.params),
            "rollout": rollout,
        }

    return jax.device_get(run(jax.random.key(0)))


def test_one_step_of_rmsprop_is_that_of_the_formula(learned: dict[str, Any]) -> None:
    """Squares begin at 0.01 g²; the step is rate · g / sqrt(0.01 g² + 1e-5)."""

    def step(g: np.ndarray) -> np.ndarray:
        return -7e-4 * g / np.sqrt(0.01 * g**2 + 1e-5)

    moved = jax.tree.map(np.subtract, learned["after"].params, learned["before"].params)
    wanted = jax.tree.map(step, learned["gradient"])

    for found, value in zip(*map(jax.tree.leaves, (moved, wanted)), strict=True):
        assert np.abs(value).max() > 2e-6
        # Differences of numbers around 1 in float32.
        np.testing.assert_allclose(found, value, rtol=1e-3, atol=2e-7)


def test_moments_of_observations_hold_from_the_next_rollout(learned: dict[str, Any]) -> None:
    seen = learned["rollout"].observations
    before, after = learned["before"].observations, learned["after"].observations

    assert before.count == 0 and before.mean == 0 and before.variance == 1
    np.testing.assert_allclose(after.mean, seen.mean((0, 1)), rtol=1e-5)
    np.testing.assert_allclose(after.variance, seen.var((0, 1)), rtol=1e-5)
    assert after.count == STEPS * ENVS == learned["after"].steps


def test_the_rate_falls_to_nothing_at_80_million_steps() -> None:
    steps = jnp.array([0, 50_000_000, 80_000_000, 90_000_000], jnp.uint32)

    rates = [learning_rate(A2CSettings(), n) for n in steps]

    np.testing.assert_allclose(rates, [7e-4, 2.625e-4, 0, 0], rtol=1e-6)


def test_running_moments_are_those_of_all_values_at_once() -> None:
    x = jax.random.normal(jax.random.key(0), (60, 3)) * 5 + 100
    running = no_moments((3,))
    for chunk in (x[:10], x[10:11], x[11:40], x[40:]):
        running = merged(running, moments_of(chunk, 1))

    np.testing.assert_allclose(running.mean, x.mean(0), rtol=1e-5)
    np.testing.assert_allclose(running.variance, np.asarray(x, np.float64).var(0), rtol=1e-4)
    assert running.count == 60
    z = np.asarray(standardize(running, x))
    np.testing.assert_allclose(z.mean(0), 0, atol=1e-4)
    np.testing.assert_allclose(z.std(0), 1, rtol=1e-4)
    assert np.abs(standardize(running, x, limit=0.5)).max() == 0.5
    assert (standardize(no_moments((3,)), x) == x).all()


def test_another_optimizer_is_refused() -> None:
    networks = perceptrons(make("chain"))

    with pytest.raises(ValueError, match="allowed: rmsprop, adam"):
        a2c(networks, A2CSettings(optimizer="sgd"))
    agent = jax.eval_shape(a2c(networks, A2CSettings(optimizer="adam")).init, jax.random.key(0))
    assert len(jax.tree.leaves(agent.opt_state)) > 2 * len(jax.tree.leaves(agent.params))


DEVICES = """
import json
from functools import partial
import jax
import numpy as np
from jax.sharding import PartitionSpec as P
from rlhf.a2c import A2CSettings, a2c
from rlhf.envs import make
from rlhf.policies import perceptrons
from rlhf.ppo import PPOSettings, ppo
from rlhf.rollouts import collect, rewards_of, start
from rlhf.trpo import TRPOSettings, trpo

env = make("pendulum", horizon=4)
networks = perceptrons(env, hidden=(4,))
few = TRPOSettings(value_steps=2, value_epochs=1, fisher_stride=2, cg_iterations=3, backtracks=2)
cases = {
    "trpo": (trpo, few),
    "a2c": (a2c, A2CSettings()),
    "ppo": (ppo, PPOSettings(steps=2, epochs=1)),
}


def run(key, axis, num_envs, names=tuple(cases)):
    keys = jax.random.split(key, 7)
    algorithms = {n: cases[n][0](networks, cases[n][1], axis=axis) for n in names}
    agents = {n: a.init(jax.random.clone(keys[0])) for n, a in algorithms.items()}
    act = partial(algorithms[names[0]].act, agents[names[0]])
    states = start(env, keys[1], num_envs, axis=axis)
    states, rollout = collect(env, act, states, keys[2], 6, axis=axis)
    rewards = rewards_of(env.reward, rollout)
    return {
        n: a.update(agents[n], rollout, rewards, jax.random.clone(keys[3]))
        for n, a in algorithms.items()
    }


def split(names):
    local = partial(run, axis="data", num_envs=2, names=names)
    mesh = jax.make_mesh((8,), ("data",), devices=jax.devices())
    return jax.jit(jax.shard_map(local, mesh=mesh, in_specs=P(), out_specs=P(), check_vma=False))


key = jax.random.key(5)
many = split(tuple(cases))(key)
one = jax.jit(partial(run, axis=None, num_envs=16))(key)
found = {}
for name in cases:
    gap = [
        float(np.abs(np.asarray(a, np.float64) - np.asarray(b)).max() / (1 + np.abs(b).max()))
        for a, b in zip(*map(jax.tree.leaves, (many[name], one[name])), strict=True)
    ]
    text = split((name,)).lower(key).as_text()
    found[name] = {"gap": max(gap), "collectives": text.count("stablehlo.all_reduce")}
print(json.dumps(found))
"""


@pytest.mark.slow  # eight devices on two cores wait for each other
def test_eight_devices_agree_with_one(child: Child) -> None:
    """Environments are split over devices, draws are those of one; as many means as needed."""
    done = child(DEVICES, devices=8, env={"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}, seconds=300.0)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])

    assert {name: case["gap"] < 1e-5 for name, case in found.items()} == dict.fromkeys(found, True)
    assert {name: case["collectives"] for name, case in found.items()} == COLLECTIVES


@pytest.mark.parametrize("name", sorted(COLLECTIVES))
def test_devices_meet_once_a_minibatch_or_product(name: str) -> None:
    env = make("pendulum", horizon=4)
    networks = perceptrons(env, hidden=(4,))
    cases: dict[str, tuple[Any, Any]] = {
        "trpo": (trpo, TRPOSettings(value_steps=2)),
        "a2c": (a2c, A2CSettings()),
        "ppo": (ppo, PPOSettings(steps=2)),
    }
    make_algorithm, settings = cases[name]
    algorithm = make_algorithm(networks, settings, axis="data")

    def local(key: jax.Array) -> Any:
        keys = jax.random.split(key, 4)
        agent = algorithm.init(keys[0])
        states = start(env, keys[1], 2, axis="data")
        act = partial(algorithm.act, agent)
        _, rollout = collect(env, act, states, keys[2], 4, axis="data")
        return algorithm.update(agent, rollout, rewards_of(env.reward, rollout), keys[3])

    mesh = jax.sharding.AbstractMesh((8,), ("data",))
    whole = jax.P()
    split = jax.shard_map(local, mesh=mesh, in_specs=whole, out_specs=whole, check_vma=False)
    program = str(jax.make_jaxpr(split)(jax.random.key(0)))

    # Ends of lines: " psum[axes=('data',) ...] x", or "psum_invariant" of later versions.
    assert program.count(" psum") == COLLECTIVES[name]
