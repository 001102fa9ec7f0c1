"""The cases of `anp_vs_torch` on our side: training steps, k of them in a scan."""

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from sciml.probconserv.anp import AnpBatch, AnpSpec, Observations, init_anp, negative_elbo
from tests.benchmarks.peers.jax_cases import donated_case, serve_jax
from tests.benchmarks.peers.timed_cases import Case

STEPS = 10
POINTS = 100
# Sizes and functions; as in anp_torch.
SIZES = {"anp step": (AnpSpec(), 16), "anp step cpu": (AnpSpec(width=32, latent=32), 16)}


def batches(functions: int) -> AnpBatch:
    """Returns random points and values, one batch for each step."""
    generator = np.random.default_rng(0)
    shape = (STEPS, functions, POINTS)
    points, targets = generator.uniform(size=(2, *shape, 2)).astype(np.float32)
    values, target_values = generator.normal(size=(2, *shape)).astype(np.float32)
    batch = AnpBatch(Observations(points, values), Observations(targets, target_values))
    return jax.tree.map(jnp.asarray, batch)


def step_case(size: str) -> Case:
    """Training steps with donated state: negative ELBO with dropout, Adam."""
    spec, functions = SIZES[size]
    optimizer = optax.adam(1e-4)
    loss = partial(negative_elbo, spec=spec)

    def step(state: Any, batch: AnpBatch) -> Any:
        params, moments, key = state
        key, key_step = jax.random.split(key)
        value, gradient = jax.value_and_grad(loss)(params, batch, key_step)
        updates, moments = optimizer.update(gradient, moments, params)
        return (optax.apply_updates(params, updates), moments, key), value

    params = jax.jit(partial(init_anp, spec=spec))(jax.random.key(0))
    state = (params, optimizer.init(params), jax.random.key(1))
    return donated_case(partial(jax.lax.scan, step), state, batches(functions), units=STEPS)


def main() -> None:
    parameters = {}
    for size, (spec, _) in SIZES.items():
        params = jax.eval_shape(partial(init_anp, spec=spec), jax.random.key(0))
        parameters[size] = sum(math.prod(x.shape) for x in jax.tree.leaves(params))
    serve_jax({size: partial(step_case, size) for size in SIZES}, parameters=parameters)


if __name__ == "__main__":
    main()
