"""Cases of `rlhf_vs_torch` on our side."""

import time
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from common.config import load_config
from common.experiment import build
from rlhf import buffer as ring
from rlhf.ensemble import Fit, Labels, bootstrap_weights, fit, init_ensemble, preference_loss
from rlhf.envs import make
from rlhf.policies import perceptrons
from rlhf.ppo import PPOSettings, ppo
from rlhf.reward_model import init_vector_reward, vector_reward
from rlhf.rollouts import Rollout
from rlhf.training import init_learner, iterate
from rlhf.trpo import TRPOSettings, trpo
from tests.benchmarks.peers.jax_cases import donated_case, serve_jax
from tests.benchmarks.peers.timed_cases import Case

ENVS, CLIP, PAIRS, BATCH = 8, 25, 256, 32
SOLVED, WHOLE = -250.0, "rlhf/human_preferences/configs/control.py:cpu"


def learned(params: Any, rollout: Rollout) -> jax.Array:
    """The reward of observations and actions by one network of 32-32."""
    seen = jnp.concatenate([rollout.observations, rollout.actions], axis=-1)
    return vector_reward(params, seen)


def rl_case(name: str, envs: int = ENVS) -> Case:
    """Environment steps in one call: PPO as the peer has it, or TRPO on 32 environments."""
    env = make("pendulum")
    networks = perceptrons(env)
    if name == "ppo":  # 2,048 steps, minibatches of 64
        algorithm, steps = ppo(networks, PPOSettings(discount=0.97, steps=8)), 256
    else:
        settings = TRPOSettings(discount=0.98, decay=0.95, kl_limit=0.015)
        algorithm, envs, steps = trpo(networks, settings), 32, 200
    reward = init_vector_reward(jax.random.key(0), inputs=4, hidden=(32, 32))

    def run(state: Any, reward: Any) -> Any:
        def step(carry: Any, _: None) -> Any:
            learner, key = carry
            key, now = jax.random.split(key)
            learner, metrics = iterate(
                env, algorithm, partial(learned, reward), learner, now, num_steps=steps
            )
            return (learner, key), metrics

        return jax.lax.scan(step, state, length=5)

    start = init_learner(env, algorithm, jax.random.key(1), num_envs=envs)
    return donated_case(run, (start, jax.random.key(2)), reward, units=5 * envs * steps)


def reward_case(members: int, hidden: tuple[int, ...]) -> Case:
    """Optimizer steps of one reward model, or of all members of an ensemble, 64 in one call."""
    rng = np.random.default_rng(0)
    clips = jnp.asarray(rng.normal(size=(PAIRS, 2, CLIP, 4)), jnp.float32)
    answers = jnp.asarray(rng.integers(0, 2, PAIRS), jnp.float32)
    weights = bootstrap_weights(jax.random.key(0), PAIRS, members)
    labels = ring.Buffer(
        Labels(clips, answers, jnp.zeros((PAIRS, 2)), weights), jnp.asarray(PAIRS, jnp.int32)
    )
    how = Fit(
        apply=lambda params, model_state, x, key: (vector_reward(params, x), model_state),
        loss=preference_loss(0.1),
        optimizer=optax.adam(1e-3),
        batch_size=BATCH,
        steps=8,  # as many as the peer's epoch has, and all losses after them
        rounds=8,
    )
    init = partial(init_vector_reward, inputs=4, hidden=hidden)
    start = init_ensemble(jax.random.key(1), init, how.optimizer, members=members, coefficient=0.01)

    def run(state: Any, labels: Any) -> Any:
        ensemble, key = state
        key, now = jax.random.split(key)
        ensemble, found = fit(now, ensemble, how, labels)
        return (ensemble, key), found

    return donated_case(run, (start, jax.random.key(2)), labels, units=how.steps * how.rounds)


def whole_case() -> Case:
    """The whole method, the config of the table with one seed, until the true return is -250."""
    config = load_config(WHOLE, {"seed_group": "1"})
    experiment = build(config)
    data = experiment.data()
    chunk, seen = 5, config.learner.envs * config.learner.steps
    key = jax.random.key(config.seed)

    def run_chunk(state: Any, data: Any, batches: Any, first: jax.Array) -> Any:
        def step(state: Any, row: Any) -> Any:
            number, batch = row
            return experiment.step(state, data, batch, jax.random.fold_in(key, number))

        return jax.lax.scan(step, state, (first + jnp.arange(chunk), batches))

    def batches(first: int) -> Any:
        rows = [experiment.batch(n) for n in range(first, first + chunk)]
        return jax.tree.map(lambda *xs: np.stack(xs), *rows)

    state = jax.jit(experiment.init)(key)
    before, before_cpu = time.perf_counter(), time.process_time()
    arguments = (state, data, batches(0), jnp.asarray(0))
    compiled = jax.jit(run_chunk, donate_argnums=0).lower(*arguments).compile()
    took = {"wall": time.perf_counter() - before, "cpu": time.process_time() - before_cpu}

    def run() -> dict[str, Any]:
        curve, state = [], jax.block_until_ready(jax.jit(experiment.init)(key))
        start, start_cpu = time.perf_counter(), time.process_time()
        for first in range(0, config.num_steps, chunk):
            state, metrics = compiled(state, data, batches(first), jnp.asarray(first))
            returns = np.asarray(metrics["return"])
            wall, cpu = time.perf_counter() - start, time.process_time() - start_cpu
            steps = (first + chunk) * seen
            curve.append({"steps": steps, "wall": wall, "cpu": cpu, "return": float(returns[-1])})
            if returns[-1] > SOLVED:
                break
        return {"curve": curve, "solved": curve[-1]["return"] > SOLVED, "compile": took}

    return Case(run)


if __name__ == "__main__":
    jax.config.update("jax_enable_compilation_cache", False)  # compiling is told as in a first run
    serve_jax(
        {
            "rl": lambda: rl_case("ppo"),
            "rl trpo": lambda: rl_case("trpo"),
            "reward 1": lambda: reward_case(1, (32, 32)),
            "reward 3": lambda: reward_case(3, (64, 64)),
            "whole": whole_case,
        }
    )
