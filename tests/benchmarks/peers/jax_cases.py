"""What cases on our side share."""

import os
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from common.experiment import Experiment
from nfn.features import Features, feature_shapes
from nfn.weights import WeightSpace
from tests.benchmarks.peers.timed_cases import Case, serve


def matmul_case() -> Case:
    """A product of two matrices, to tell what share of the peak others reach."""
    a = jnp.asarray(np.random.default_rng(0).normal(size=(1024, 1024)), jnp.float32)
    multiply = jax.jit(jnp.matmul)
    return Case(lambda: jax.block_until_ready(multiply(a, a)), flops=2 * 1024**3)


def random_features(space: WeightSpace, channels: int, batch: int) -> Features:
    """Returns features of a batch of networks."""
    generator = np.random.default_rng(0)
    return {
        path: jnp.asarray(generator.normal(size=(batch, *shape)), jnp.float32)
        for path, shape in feature_shapes(space, channels).items()
    }


def random_data(experiment: Experiment) -> Any:
    """Returns positive random numbers in place of an experiment's data."""
    assert experiment.abstract_data is not None
    return random_like(experiment.abstract_data())


def random_like(shapes: Any) -> Any:
    """Returns positive random numbers of these shapes and types, in the order of their leaves."""
    generator = np.random.default_rng(0)
    return jax.tree.map(
        lambda leaf: jnp.asarray(np.abs(generator.normal(size=leaf.shape)), leaf.dtype), shapes
    )


def donated_case(run: Callable[..., Any], state: Any, *arguments: Any, units: int) -> Case:
    """Calls `run(state, *arguments) -> (state, output)` again and again with donated state."""
    compiled, held = jax.jit(run, donate_argnums=0), [state]

    def once() -> None:
        held[0], _ = jax.block_until_ready(compiled(held[0], *arguments))

    return Case(once, units=units, program=(compiled, (state, *arguments)))


def experiment_case(
    experiment: Experiment, data: Any, *, steps: int, key: jax.Array | None = None
) -> Case:
    """Training steps of an experiment as the loop runs them, `steps` of them in a scan.

    A group of seeds has a `key` for each (`common.keys.root_key`).
    """
    batches = [experiment.batch(step) for step in range(steps)]
    batches = jax.tree.map(lambda *rows: jnp.stack(rows), *batches)
    key = jax.random.key(0) if key is None else key

    def run(state: Any, data: Any, batches: Any) -> Any:
        return jax.lax.scan(lambda s, b: experiment.step(s, data, b, key), state, batches)

    return donated_case(run, jax.jit(experiment.init)(key), data, batches, units=steps)


def serve_jax(makers: Mapping[str, Callable[[], Case]], **facts: Any) -> None:
    """Times cases, see `timed_cases.serve`."""
    about = {"jax": jax.__version__, "threads": len(os.sched_getaffinity(0))}
    serve({"matmul": matmul_case, **makers}, {**about, **facts})
