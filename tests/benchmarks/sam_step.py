"""What a step of SAM costs in steps of SGD: ours, optax, and torch, on a pre-activation ResNet-18.

    python -m venv peer && peer/bin/pip install torch==2.13.0
    PEER=peer/bin/python python -m tests.benchmarks.sam_step --out=results/sam_step.json
    python -m tests.benchmarks.sam_step --out=results/sam_step.json --markdown

Width 16, batches of 128 images of 32 x 32, SGD with momentum 0.9, radius 0.1, float32, batch
normalization as in training. JAX's ways take turns in one process, torch's in one of its own right
after (left out without `PEER`): the least wall time and the least CPU time of a step. "window" is a
radius that is 0 outside of shares of training, within and outside of them. Of optax it is the
opaque mode; it hides the statistics of batch normalization, which stay as they are.
"""

import json
import os
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import app, flags

from common.nets.preactivation_resnet import PreActResNet
from common.networks import from_stateful_linen
from common.plain_gradient import plain
from common.sam import sam
from common.steps import init_train_state, stateful_step
from tests.measurements import record

ROUNDS = flags.DEFINE_integer("rounds", 8, "Turns of every way", lower_bound=1)
WIDTH = flags.DEFINE_integer("width", 16, "Channels of the first stage", lower_bound=1)
BATCH = flags.DEFINE_integer("batch", 128, "Images", lower_bound=1)

RHO = 0.1
# Ways, and the way whose step is the unit of theirs.
UNITS = {
    "SGD": "SGD",
    "SAM": "SGD",
    "SAM, window, within": "SGD",
    "SAM, window, outside": "SGD",
    "SAM, diagnostics": "SGD",
    "SAM, groups of 32": "SGD",
    "optax SGD": "optax SGD",
    "optax SAM": "optax SGD",
    "torch SGD": "torch SGD",
    "torch SAM": "torch SGD",
}


def ways() -> dict[str, Callable[[], Any]]:
    """Returns steps that go on from where the last one ended."""
    images = jax.ShapeDtypeStruct((2, 32, 32, 3), jnp.float32)
    network = from_stateful_linen(PreActResNet(depth=18, width=WIDTH.value), images)
    params, statistics = jax.jit(network.init)(jax.random.key(0))
    draws = np.random.default_rng(0)
    x = draws.standard_normal((BATCH.value, 32, 32, 3)).astype(np.float32)
    batch = jax.tree.map(jnp.asarray, {"x": x, "y": draws.integers(0, 10, BATCH.value)})
    optimizer, key = optax.sgd(0.05, momentum=0.9), jax.random.key(1)

    def loss(params: Any, statistics: Any, data: Any, batch: Any, key: Any) -> Any:
        del data, key
        logits, statistics = network.apply(params, statistics, batch["x"], train=True)
        cost = optax.softmax_cross_entropy_with_integer_labels(logits, batch["y"])
        return jnp.mean(cost), {}, statistics

    def ours(gradient: Any, number: int = 0) -> Callable[[], Any]:
        step = jax.jit(stateful_step(loss, optimizer, gradient=gradient), donate_argnums=0)
        begin = lambda: init_train_state(params, optimizer, statistics, gradient=gradient)
        state = jax.tree.map(jnp.array, jax.jit(begin)())
        if state.gradient_state:
            counted = state.gradient_state._replace(step=jnp.int32(number))
            state = state._replace(gradient_state=counted)
        place = [state]

        def again() -> Any:
            place[0], metrics = step(place[0], {}, batch, key)
            return metrics

        return again

    value = lambda p: loss(p, statistics, {}, batch, key)[0]
    window = lambda step: jnp.where(step < 10**6, RHO, 0.0)
    ascent = optax.chain(optax.contrib.normalize(), optax.sgd(RHO))
    opaque = optax.contrib.sam(optimizer, ascent, opaque_mode=True)
    return {
        "SGD": ours(plain),
        "SAM": ours(sam(RHO)),
        "SAM, window, within": ours(sam(window)),
        "SAM, window, outside": ours(sam(window), number=10**6),
        "SAM, diagnostics": ours(sam(RHO, diagnostics=True)),
        "SAM, groups of 32": ours(sam(RHO, m=BATCH.value // 4)),
        "optax SGD": by_optax(value, params, optimizer),
        "optax SAM": by_optax(value, params, opaque, climbs=True),
    }


def by_optax(
    value: Callable[[Any], jax.Array],
    params: Any,
    rule: optax.GradientTransformation | optax.GradientTransformationExtraArgs,
    *,
    climbs: bool = False,
) -> Callable[[], Any]:
    """Returns steps of an optimizer of optax; one that climbs asks for gradients itself."""

    def step(params: Any, state: Any) -> Any:
        asked = {"grad_fn": lambda p, _: jax.grad(value)(p)} if climbs else {}
        updates, state = rule.update(jax.grad(value)(params), state, params, **asked)
        return optax.apply_updates(params, updates), state

    compiled = jax.jit(step, donate_argnums=(0, 1))
    place = [jax.tree.map(jnp.array, (params, rule.init(params)))]

    def again() -> Any:
        place[0] = compiled(*place[0])
        return place[0]

    return again


def timed(runs: Mapping[str, Callable[[], Any]]) -> dict[str, dict[str, float]]:
    """Returns the least wall and CPU milliseconds of every way; they take turns."""
    found: dict[str, dict[str, float]] = {}
    for turn in range(ROUNDS.value + 1):
        for name, run in runs.items():
            wall, cpu = time.perf_counter(), time.process_time()
            jax.block_until_ready(run())
            took = {"ms": time.perf_counter() - wall, "cpu_ms": time.process_time() - cpu}
            took = {key: 1e3 * seconds for key, seconds in took.items()}
            if turn:  # it compiled before
                before = found.get(name, took)
                found[name] = {key: min(took[key], before[key]) for key in took}
    return found


def of_torch() -> dict[str, dict[str, float]]:
    """Returns the same of torch, {} without `PEER`."""
    peer = os.environ.get("PEER")
    if not peer:
        return {}
    script = Path(__file__).parent / "peers" / "sam_torch.py"
    sizes = [str(WIDTH.value), str(BATCH.value), str(ROUNDS.value)]
    done = subprocess.run([peer, script, *sizes], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def measure_all() -> dict[str, Any]:
    """Returns the times of all ways, and the load of the machine."""
    rows = timed(ways()) | of_torch()
    sizes = {"width": WIDTH.value, "batch": BATCH.value, "rounds": ROUNDS.value}
    return {"rows": rows, "load": os.getloadavg()[0], **sizes}


def markdown(result: Mapping[str, Any]) -> str:
    """Returns the table of a measurement."""
    rows = result["rows"]
    lines = [
        f"{result['environment']['cpu']}, float32, width {result['width']}, batch "
        f"{result['batch']}, least of {result['rounds']} rounds, load {result['load']:.1f}.",
        "",
        "| step | ms | CPU ms | in steps of SGD | in CPU time |",
        "|---|---|---|---|---|",
    ]
    for name, row in rows.items():
        unit = rows[UNITS[name]]
        ratios = " | ".join(f"{row[key] / unit[key]:.2f}" for key in ("ms", "cpu_ms"))
        lines.append(f"| {name} | {row['ms']:.0f} | {row['cpu_ms']:.0f} | {ratios} |")
    return "\n".join(lines)


def main(_: list[str]) -> None:
    """Measures all ways, or prints an earlier measurement."""
    record("sam_step", measure_all, markdown)


if __name__ == "__main__":
    app.run(main)
