"""What costs grow with: networks, weights, points, environments, seeds, devices, runs on disk.

    python -m tests.benchmarks.scaling --out=results/scaling.json
    python -m tests.benchmarks.scaling --out=results/scaling.json --markdown

Processor time of one core, the least of several rounds in which the sizes take turns, with freed
memory kept as `lab` does; of devices, the FLOPs of one of them in the compiled program, for the
same batch split over all. The exponent p of cost ~ n^p is that of a least-squares line through the
larger half of the sizes, in logarithms. Beside it what the algorithm's own cost grows with. A
smaller exponent means that fixed costs are not yet small.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from absl import app, flags

from common.config import load_config
from common.devices.memory import keep_freed_memory
from common.experiment import build
from common.keys import root_key
from common.lab.run_list import run_list
from common.results.report_runs import runs_html
from common.run_folders import records
from common.sharding import make_mesh
from landscape.directions import random_plane
from landscape.surfaces import values_at
from nfn import layers
from nfn.siren import siren_space
from nfn.weights import WeightSpace
from tests.benchmarks import update_scaling
from tests.benchmarks.peers import landscape_case, rlhf_jax, sciml_jax
from tests.benchmarks.peers.jax_cases import experiment_case, random_data, random_features
from tests.benchmarks.peers.timed_cases import Case
from tests.measurements import record

ONLY = flags.DEFINE_list("only", [], "Only curves with one of these words in their names")

LAYER_BATCH, CHANNELS = 16, 16
SMALL_RUN = "landscape/sam_rank/configs/two_layer.py:cpu"
CLASSIFIER = "nfn/equivariant/configs/inr_classification.py:cpu"


class Curve(NamedTuple):
    """Cost against one size.

    Attributes:
        sizes: At least four.
        own: Exponent of the algorithm.
        make: Size -> what is timed, or (`counts`) FLOPs.
        what: What costs that much, in words.
        counts: `make` returns the cost itself.
    """

    sizes: tuple[int, ...]
    own: float
    make: Callable[[int], Any]
    what: str
    counts: bool = False


def layer(space: WeightSpace, batch: int) -> Case:
    """An NP layer on so many networks."""
    params = layers.init_equivariant_linear(
        jax.random.key(0), space=space, c_in=CHANNELS, c_out=CHANNELS
    )
    x = random_features(space, CHANNELS, batch)
    compiled = jax.jit(partial(layers.equivariant_linear, space=space))
    return Case(lambda: jax.block_until_ready(compiled(params, x)))


def operator(points: int) -> Case:
    """Training steps of BOON-FNO."""
    fields = {**sciml_jax.FIELDS["fno1d"], "data.points": str(points), "model.width": "32"}
    experiment = build(load_config(f"{sciml_jax.SINGLE},kind=boon", fields))
    return experiment_case(experiment, random_data(experiment), steps=2)


def update(points: int) -> Case:
    """A conservation update with one row."""
    arrays, compiled = update_scaling.inputs_of(points), jax.jit(update_scaling.of_mass)
    return Case(lambda: jax.block_until_ready(compiled(*arrays)))


def plane(points: int) -> Case:
    """Losses of a small CNN at so many points of a plane."""
    rows = jax.tree.map(jnp.asarray, landscape_case.images())
    params = jax.jit(landscape_case.init)(jax.random.key(0))
    directions = random_plane(jax.random.key(1), params)
    places = jax.random.normal(jax.random.key(2), (points, 2))
    chunk = landscape_case.SLICE
    compiled = jax.jit(partial(values_at, landscape_case.values, chunk=chunk))
    return Case(lambda: jax.block_until_ready(compiled(params, directions, places, rows)))


def seeds(count: int) -> Case:
    """Training steps of the NP classifier in a group of seeds."""
    fields = {"data.copies": "1", "data.train_per_class": "40", "seed_group": str(count)}
    config = load_config(CLASSIFIER, fields)
    experiment = build(config)
    return experiment_case(experiment, random_data(experiment), steps=5, key=root_key(config))


def device_flops(count: int) -> float:
    """Returns the FLOPs of one of so many devices, of the loss of a batch split over them."""
    mesh = make_mesh({"data": count}, devices=jax.devices()[:count])
    spec = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    whole = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    space = siren_space((2, 32, 32, 1))
    params = layers.init_equivariant_linear(
        jax.random.key(0), space=space, c_in=CHANNELS, c_out=CHANNELS
    )
    x = random_features(space, CHANNELS, 64)

    def loss(params: Any, x: Any) -> jax.Array:
        y = layers.equivariant_linear(params, x, space=space)
        return sum((jnp.mean(leaf**2) for leaf in jax.tree.leaves(y)), jnp.zeros(()))

    compiled = jax.jit(jax.grad(loss), in_shardings=(whole, spec), out_shardings=whole)
    counted = compiled.lower(params, x).compile().cost_analysis()
    assert counted is not None
    return float(counted["flops"])


def environments(count: int) -> Case:
    """Environment steps of PPO with a learned reward, on so many pendulums."""
    return rlhf_jax.rl_case("ppo", envs=count)._replace(units=1)


def folder_of_runs(count: int, scratch: Path) -> Path:
    """Returns a folder of so many finished runs of two steps, one trained, the others copies."""
    first = scratch / "first"
    if not first.exists():
        fields = ("num_steps=2", "steps_per_call=1", "eval_every=0", "seed_group=1")
        command = [sys.executable, "-m", "common.lab.cli", "train", f"--config={SMALL_RUN}"]
        overrides = [f"--config.{field}" for field in fields]
        subprocess.run([*command, *overrides, f"--workdir={first}"], check=True)
    (run,) = records.find(first)
    folder = scratch / str(count)
    for seed in range(count):
        copy = folder / run.path.relative_to(first).parent / f"seed{seed}"
        shutil.copytree(run.path, copy)
        written = copy / "config.json"
        written.write_text(json.dumps({**json.loads(written.read_text()), "seed": seed}))
    return folder


def listing(scratch: Path, count: int) -> Case:
    """`lab runs list` of so many runs."""
    folder = folder_of_runs(count, scratch / "list")
    return Case(lambda: run_list(records.find(folder), lambda run: "", width=120))


def pages(scratch: Path, count: int) -> Case:
    """The runs of a page of `lab report`."""
    folder = folder_of_runs(count, scratch / "report")
    return Case(lambda: runs_html(folder))


def curves(scratch: Path) -> dict[str, Curve]:
    """Returns all curves by name; a folder for runs is given."""
    siren = siren_space((2, 32, 32, 1))

    def widened(width: int) -> Case:
        return layer(siren_space((2, width, width, 1)), LAYER_BATCH)

    return {
        "networks": Curve((16, 32, 64, 128, 256), 1, partial(layer, siren), "NP layer"),
        "neurons of a layer": Curve(
            (16, 32, 64, 128, 256), 2, widened, "NP layer; weights are their square"
        ),
        "grid points": Curve((125, 250, 500, 1000, 2000), 1, operator, "BOON-FNO, a step"),
        "points": Curve((1_000, 4_000, 16_000, 64_000, 256_000), 1, update, "conservation update"),
        "points of a plane": Curve((4, 8, 16, 32, 64), 1, plane, "losses of a CNN"),
        "seeds": Curve((1, 2, 4, 8), 1, seeds, "NP classifier, steps of a group"),
        "environments": Curve((8, 16, 32, 64, 128), 1, environments, "PPO, steps in all"),
        "devices": Curve((1, 2, 4, 8), -1, device_flops, "NP layer: FLOPs of one", counts=True),
        "runs, listed": Curve(
            (16, 32, 64, 128, 256), 1, partial(listing, scratch), "lab runs list"
        ),
        "runs, reported": Curve((16, 32, 64, 128, 256), 1, partial(pages, scratch), "lab report"),
    }


def measure(curve: Curve) -> dict[int, float]:
    """Returns the cost at every size: CPU milliseconds of a unit, or what is counted."""
    if curve.counts:
        return {size: curve.make(size) for size in curve.sizes}
    cases = {size: curve.make(size) for size in curve.sizes}
    best: dict[int, float] = {}
    for turn in range(update_scaling.ROUNDS.value + 1):  # in the first they compile
        for size, case in cases.items():
            start = time.process_time()
            case.run()
            took = 1e3 * (time.process_time() - start) / case.units
            if turn:
                best[size] = min(took, best.get(size, took))
    return best


def markdown(result: Mapping[str, Any]) -> str:
    """Returns the table of a measurement."""
    lines = [
        f"{result['environment']['cpu']}, one core, least of {result['rounds']} rounds.",
        "",
        "| cost against | of | sizes | cost (CPU ms; devices: FLOPs) | exponent | own |",
        "|---|---|---|---|---|---|",
    ]
    for name, row in result["curves"].items():
        cost = ", ".join(f"{value:.3g}" for value in row["cost"].values())
        sizes = ", ".join(row["cost"])
        numbers = f"{row['exponent']:.2f} | {row['own']:g}"
        lines.append(f"| {name} | {row['what']} | {sizes} | {cost} | {numbers} |")
    return "\n".join(lines)


def measure_all() -> dict[str, Any]:
    """Returns the curves, with their exponents."""
    found = {}
    with tempfile.TemporaryDirectory() as scratch:
        for name, curve in curves(Path(scratch)).items():
            if ONLY.value and not any(word in name for word in ONLY.value):
                continue
            cost = measure(curve)
            found[name] = {
                "what": curve.what,
                "cost": {str(size): value for size, value in cost.items()},
                "exponent": update_scaling.exponent(cost),
                "own": curve.own,
            }
            print(name, json.dumps(found[name]), flush=True)
            jax.clear_caches()
    return {"rounds": update_scaling.ROUNDS.value, "curves": found}


def main(_: Sequence[str]) -> None:
    """Measures all curves, or prints an earlier measurement."""
    record("scaling", measure_all, markdown)


if __name__ == "__main__":
    keep_freed_memory()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-1:])
    jax.config.update("jax_num_cpu_devices", 8)
    app.run(main)
