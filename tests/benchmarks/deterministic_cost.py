"""What `config.deterministic=true` costs a step, of an experiment of every paper, on one device.

    python -m tests.benchmarks.deterministic_cost --out=results/deterministic_cost.json
    python -m tests.benchmarks.deterministic_cost --out=results/deterministic_cost.json --markdown

Three programs of each step take turns in one process: as usual; deterministic, whose gradients are
summed in a fixed order and whose common subexpressions XLA does not merge (`common.loop.program`);
and deterministic with them merged, which has other bits on one device than on several. CPU time of
the process, which other load changes least. Values of the data do not matter, so they are drawn.
"""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from unittest import mock

import jax
import numpy as np
from absl import app, flags

from common import sharding
from common.config import load_config
from common.experiment import build
from common.keys import root_key
from common.loop import program
from tests.benchmarks.peers.jax_cases import random_like
from tests.measurements import record

ONLY = flags.DEFINE_list("only", [], "Only configs with one of these words in their paths")
ROUNDS = flags.DEFINE_integer("rounds", 5, "calls of each program", lower_bound=1)
CONFIGS = (
    "nfn/equivariant/configs/inr_classification.py:cpu",
    "nfn/transformer/configs/inr_classification.py:cpu",
    "sciml/boon/configs/single_step.py:cpu",
    "sciml/probconserv/configs/neural_process.py:cpu",
    "landscape/visualizing/configs/batch_size.py:cpu",
    "landscape/sharpening/configs/gradient_descent.py:cpu",
    "landscape/sam_rank/configs/images.py:cpu",
    "finetune/surgical/configs/source.py:cpu",
    "rlhf/human_preferences/configs/control.py:cpu",
)
USUAL, ORDERED, MERGED = "usual", "deterministic", "deterministic, merged"
Call = Callable[[], float]


def calls(path: str) -> dict[str, Call]:
    """Returns what runs one call of each program and gives CPU milliseconds of a step."""
    return {
        USUAL: _call(path, is_ordered=False),
        ORDERED: _call(path, is_ordered=True),
        MERGED: _call(path, is_ordered=True, is_merged=True),
    }


def _call(path: str, *, is_ordered: bool, is_merged: bool = False) -> Call:
    overrides = {"seed_group": "1", "deterministic": str(is_ordered).lower(), "logical_shards": "4"}
    config = load_config(path, overrides)
    experiment = build(config)
    layout = program.layout(experiment, config, sharding.make_mesh(dict(config.mesh)))
    options = {} if is_merged else program.SAME_ON_ANY_NUMBER
    with mock.patch.object(program, "SAME_ON_ANY_NUMBER", options):
        step = program.lower_step(experiment, config, layout).compile()
    data = sharding.place(
        random_like(layout.data), jax.tree.map(lambda leaf: leaf.sharding, layout.data)
    )
    batches = program.place_batches(program.stack_batches(experiment, config, 0), layout)
    key = root_key(config)
    held = [program.lower_init(experiment, layout).compile()(key)]

    def call() -> float:
        start = time.process_time()
        # The state is donated: the next call begins where this one ends.
        held[0] = jax.block_until_ready(step(held[0], data, batches, key, np.int32(0)))[0]
        return 1e3 * (time.process_time() - start) / config.steps_per_call

    return call


def measure_all() -> dict[str, Any]:
    """Returns the CPU milliseconds of a step of every program, median over rounds."""
    rows: dict[str, dict[str, float]] = {}
    for path in CONFIGS:
        if ONLY.value and not any(word in path for word in ONLY.value):
            continue
        ways = calls(path)
        times = [{name: call() for name, call in ways.items()} for _ in range(ROUNDS.value + 1)]
        rows[path] = {name: statistics.median(row[name] for row in times[1:]) for name in ways}
        jax.clear_caches()
    return {"rounds": ROUNDS.value, "cpu_ms": rows}


def markdown(result: Mapping[str, Any]) -> str:
    """Returns the table of a measurement."""
    facts = result["environment"]
    lines = [
        f"{facts['cpu']}, jax {facts['packages']['jax']}.",
        "",
        "| experiment | usual, CPU ms | deterministic | of that for not merging |",
        "|---|---|---|---|",
    ]
    for path, row in result["cpu_ms"].items():
        times, unmerged = row[ORDERED] / row[USUAL], row[ORDERED] / row[MERGED]
        lines.append(f"| {path} | {row[USUAL]:.3g} | {times:.2f} x | {unmerged:.2f} x |")
    return "\n".join(lines)


def main(_: Sequence[str]) -> None:
    """Measures all experiments, or prints an earlier measurement."""
    record("deterministic_cost", measure_all, markdown)


if __name__ == "__main__":
    app.run(main)
