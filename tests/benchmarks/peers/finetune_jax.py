"""A step of tuning some blocks of ResNet-20, ours: prints JSON of its time and memory.

    python -m tests.benchmarks.peers.finetune_jax CASE BATCH ROUNDS

CASE is a block or "all", with ", cached" for the network cut below it.
"""

import json
import sys
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from common.nets.resnet import ResNet
from common.networks import from_stateful_linen
from common.subtrees import join
from finetune.blocks import resnet_blocks, split, tuned_mask
from finetune.prefix import cut_below
from finetune.statistics import evaluating, variables_of
from finetune.tuning import Tuning, adam, init_tuning, tuning_step
from tests.benchmarks.peers.peak_memory import peak


def main(case: str, batch: int, rounds: int) -> None:
    """Prints the least wall and CPU milliseconds of a step, and what memory it adds."""
    tuned_block, _, cached = case.partition(", ")
    random = np.random.default_rng(0)
    x = jnp.asarray(random.normal(size=(batch, 32, 32, 3)), jnp.float32)
    y = jnp.asarray(random.integers(0, 10, batch))
    network = from_stateful_linen(ResNet(20), x)
    variables = variables_of(*jax.jit(network.init)(jax.random.key(0)))
    apply, mask = evaluating(network), tuned_mask(variables, resnet_blocks(variables), tuned_block)
    tuned, frozen = split(variables, mask)
    inputs: Any = x
    outputs = lambda tuned, frozen, inputs: apply(join(tuned, frozen), inputs)
    if cached:
        cut = cut_below(apply, variables, mask, x)
        inputs = jax.block_until_ready(jax.jit(cut.activations)(frozen, x))
        outputs, frozen = lambda tuned, frozen, inputs: cut.rest(tuned, inputs), ()

    def loss(parts: Any, batch: Any) -> jax.Array:
        logits = outputs(parts[0], parts[1], batch[0])
        return optax.softmax_cross_entropy_with_integer_labels(logits, batch[1]).mean()

    step = tuning_step(loss, adam(), combine=lambda tuned, frozen: (tuned, frozen))
    state = jax.tree.map(jnp.array, init_tuning(tuned, adam()))
    lowered = jax.jit(step, donate_argnums=0).lower(state, frozen, (inputs, y), 1e-4)
    program, place = lowered.compile(), [state]

    def run() -> None:
        now: Tuning = place[0]
        place[0], _ = jax.block_until_ready(program(now, frozen, (inputs, y), 1e-4))

    added = peak(run)
    best = {"ms": float("inf"), "cpu_ms": float("inf")}
    for _ in range(rounds):
        wall, cpu = time.perf_counter(), time.process_time()
        run()
        took = {"ms": time.perf_counter() - wall, "cpu_ms": time.process_time() - cpu}
        best = {key: min(1e3 * took[key], best[key]) for key in took}
    print(json.dumps(best | {"mib": added, "version": jax.__version__}))


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
