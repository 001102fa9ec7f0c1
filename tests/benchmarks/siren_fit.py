"""Ratios of ways to fit SIRENs: sine, vmap or map, chunk, optimizer, simulated devices.

    python -m tests.benchmarks.siren_fit --out=siren_fit.json

Net-steps are Adam steps of one network. The ways alternate within one process, the best of
`--rounds` counts; a process of its own for each number of devices. CPU seconds are of all threads.
"""

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import app, flags
from jax.sharding import PartitionSpec

from common.files.json_files import write_json
from common.sharding import make_mesh
from nfn.sine import SineMethod
from nfn.siren import fit_siren

OUT = flags.DEFINE_string("out", None, "JSON file to write.", required=True)
ROUNDS = flags.DEFINE_integer("rounds", 3, "Repetitions, of which the best counts.")
SECONDS = flags.DEFINE_float("seconds", 0.5, "Approximate duration of one measurement.")
DEVICES = flags.DEFINE_integer("devices", 0, "Measure with so many devices only (for children).")

REPOSITORY = Path(__file__).resolve().parent.parent.parent
SIZES = {"2-16-16-1, 14x14": ((2, 16, 16, 1), 14), "2-32-32-1, 28x28": ((2, 32, 32, 1), 28)}
STEPS = 50


class Way(NamedTuple):
    """One way to fit."""

    sine: SineMethod = "polynomial"
    mapped: str = "vmap"
    chunk: int = 32
    adam: str = "optax"


WAYS = (
    Way(),
    Way(sine="jnp"),
    Way(mapped="map"),
    Way(adam="by hand"),
    Way(chunk=16),
    Way(chunk=64),
    Way(chunk=256),
)


class Rate(NamedTuple):
    """Net-steps per second of wall time and of CPU time, and the loss that was reached."""

    wall: float
    cpu: float
    mse: float


def adam_by_hand(learning_rate: float) -> optax.GradientTransformation:
    """Returns Adam with its bias corrections folded into one step size."""

    def init(params: Any) -> Any:
        zeros = jax.tree.map(jnp.zeros_like, params)
        return jnp.zeros((), jnp.int32), zeros, zeros

    def update(updates: Any, state: Any, params: Any = None) -> Any:
        del params
        count, m, v = state
        count = count + 1
        m = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, m, updates)
        v = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, v, updates)
        size = learning_rate * jnp.sqrt(1 - 0.999**count) / (1 - 0.9**count)
        return jax.tree.map(lambda m, v: -size * m / (jnp.sqrt(v) + 1e-8), m, v), (count, m, v)

    return optax.GradientTransformation(init, update)


def fitter(way: Way, widths: tuple[int, ...]) -> Callable[[jax.Array, jax.Array], Any]:
    """Returns the compiled fit of one chunk a device, as `fit_sirens` has it."""
    adam = optax.adam if way.adam == "optax" else adam_by_hand
    fit = partial(
        fit_siren, widths=widths, omega=15.0, steps=STEPS, optimizer=adam(5e-3), sine=way.sine
    )
    if way.mapped == "vmap":
        fit_chunk = jax.vmap(fit)
    else:
        fit_chunk = lambda keys, images: jax.lax.map(lambda pair: fit(*pair), (keys, images))
    split = PartitionSpec("member")
    mesh = make_mesh({"member": -1})
    return jax.jit(
        jax.shard_map(fit_chunk, mesh=mesh, in_specs=split, out_specs=split, check_vma=False)
    )


def measure(way: Way, widths: tuple[int, ...], size: int) -> Callable[[], Rate]:
    """Returns a function that measures a way, compiled and run once before."""
    n = way.chunk * jax.device_count()
    keys = jax.random.split(jax.random.key(0), n)
    ramp = np.linspace(0, 1, size, dtype=np.float32)
    images = jnp.asarray(np.broadcast_to(ramp[:, None] * ramp, (n, size, size)))
    fit = fitter(way, widths)
    mse = float(jnp.mean(jax.block_until_ready(fit(keys, images))[1]))
    start = time.perf_counter()
    jax.block_until_ready(fit(keys, images))
    calls = max(1, round(SECONDS.value / (time.perf_counter() - start)))

    def once() -> Rate:
        wall, cpu = time.perf_counter(), time.process_time()
        for _ in range(calls):
            jax.block_until_ready(fit(keys, images))
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        net_steps = calls * n * STEPS
        return Rate(net_steps / wall, net_steps / cpu, mse)

    return once


def measure_all() -> list[dict[str, Any]]:
    """Measures every way at every size on the devices of this process."""
    rows = []
    for name, (widths, size) in SIZES.items():
        runs = {way: measure(way, widths, size) for way in WAYS}
        rates = {way: [] for way in WAYS}
        for _ in range(ROUNDS.value):
            for way, run in runs.items():
                rates[way].append(run())
        for way, found in rates.items():
            best = Rate(max(r.wall for r in found), max(r.cpu for r in found), found[0].mse)
            row = {"size": name, "devices": jax.device_count()}
            rows.append({**row, **way._asdict(), **best._asdict()})
    return rows


def measure_in_child(devices: int) -> list[dict[str, Any]]:
    """Measures in a process with `devices` simulated devices."""
    environment = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
    }
    command = [
        sys.executable,
        "-m",
        "tests.benchmarks.siren_fit",
        *sys.argv[1:],
        f"--devices={devices}",
    ]
    done = subprocess.run(
        command, env=environment, cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def table(rows: list[dict[str, Any]]) -> str:
    """Returns the rows as text; `x` is the wall rate over that of the first row of its size."""
    lines = [
        f"{'size':17} devices {'sine':10} mapped chunk {'adam':8} {'net-steps/s':>11} {'x':>5} "
        f"{'per CPU-s':>11} mse"
    ]
    first: dict[str, float] = {}
    for row in rows:
        ratio = row["wall"] / first.setdefault(row["size"], row["wall"])
        lines.append(
            f"{row['size']:17} {row['devices']:7} {row['sine']:10} {row['mapped']:6} "
            f"{row['chunk']:5} {row['adam']:8} {row['wall']:11,.0f} {ratio:5.2f} "
            f"{row['cpu']:11,.0f} {row['mse']:.6f}"
        )
    return "\n".join(lines)


def main(_: list[str]) -> None:
    """Measures, prints a table and writes JSON."""
    if DEVICES.value:
        print(json.dumps(measure_all()))
        return
    load = os.getloadavg()[0]
    rows = [row for devices in (1, 2) for row in measure_in_child(devices)]
    rows.sort(key=lambda row: (row["size"], row["devices"]))
    print(table(rows))
    result = {
        "unit": "net-steps per second",
        "steps": STEPS,
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "load_before": load,
        "jax": jax.__version__,
        "rows": rows,
    }
    write_json(OUT.value, result)


if __name__ == "__main__":
    app.run(main)
