"""What the training loop costs beyond the bare compiled steps, on the model of `make demo`.

    python -m tests.benchmarks.loop_overhead --out=loop_overhead.json

Both sides run the same steps on the same data in one process, in turn, and the fastest of several
rounds counts. Bare: one jitted lax.scan over all steps, batches placed before. Loop: the function
`fit` with metrics every 10 steps, without checkpoints and with one every 1000 steps
(as preset cpu has them), timed between the batches of two steps, so that neither compilation nor
the final evaluation counts. A checkpoint is written in the background, but needs a core for a tenth
of a second.
"""

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import app, flags
from ml_collections import ConfigDict

from common import sharding
from common.config import load_config
from common.experiment import Experiment, build
from common.files.json_files import text_of, write_json
from common.keys import root_key
from common.loop import program
from common.loop.train import fit
from common.provenance.environment import environment

CONFIG = "nfn/equivariant/configs/inr_classification.py:demo"
OUT = flags.DEFINE_string("out", "", "JSON file to write")
STEPS = flags.DEFINE_integer("steps", 2000, "timed steps of a round", lower_bound=100)
ROUNDS = flags.DEFINE_integer("rounds", 4, "rounds of each side", lower_bound=1)
KIND = flags.DEFINE_string("kind", "np", "config.model.kind")


def bare_seconds(experiment: Experiment, config: ConfigDict, steps: int) -> Any:
    """Returns a function that runs `steps` steps in one scan and gives its seconds."""
    changed = ConfigDict({**config.to_dict(), "steps_per_call": steps})
    data = jax.tree.map(np.asarray, experiment.data())
    layout = program.layout(experiment, changed, sharding.make_mesh(dict(config.mesh)), data=data)
    placed = sharding.place(data, jax.tree.map(lambda leaf: leaf.sharding, layout.data))
    compiled = program.lower_step(experiment, changed, layout).compile()
    init = program.lower_init(experiment, layout).compile()
    batches = program.place_batches(program.stack_batches(experiment, changed, 0), layout)
    key = root_key(config)

    def run() -> float:
        state = jax.block_until_ready(init(key))
        start = time.perf_counter()
        jax.block_until_ready(compiled(state, placed, batches, key, np.int32(0)))
        return time.perf_counter() - start

    return run


def loop_seconds(experiment: Experiment, config: ConfigDict, steps: int) -> float:
    """Returns the seconds that `fit` takes for `steps` steps, after a first call has warmed up."""
    k = config.steps_per_call
    times: dict[int, float] = {}

    def batch(step: int) -> Any:
        times[step] = time.perf_counter()
        return experiment.batch(step)

    with tempfile.TemporaryDirectory() as folder:
        fit(experiment._replace(batch=batch, final=None), config, Path(folder) / "run")
    return times[2 * k + steps] - times[2 * k]


def main(argv: Sequence[str]) -> None:
    """Times both sides and prints their ratio."""
    del argv
    steps = STEPS.value
    k = load_config(CONFIG).steps_per_call
    overrides = {"model.kind": KIND.value, "num_steps": str(steps + 4 * k), "eval_every": "0"}
    overrides |= {"checkpoint_every": "0", "log_every": "10"}
    config = load_config(CONFIG, overrides)
    saving = load_config(CONFIG, {**overrides, "checkpoint_every": "1000"})
    experiment = build(config)
    bare = bare_seconds(experiment, config, steps)
    bare()
    rounds = [
        {
            "bare": bare(),
            "loop": loop_seconds(experiment, config, steps),
            "loop_with_checkpoints": loop_seconds(experiment, saving, steps),
        }
        for _ in range(ROUNDS.value)
    ]
    best = {name: min(row[name] for row in rounds) for name in rounds[0]}
    result = {
        "config": CONFIG,
        "kind": KIND.value,
        "steps": steps,
        "steps_per_call": k,
        "seconds": rounds,
        "ms_per_step": {name: 1e3 * value / steps for name, value in best.items()},
        "overhead_percent": {
            name: 100 * (value / best["bare"] - 1) for name, value in best.items() if name != "bare"
        },
        "environment": environment(["python", "-m", "tests.benchmarks.loop_overhead"]),
    }
    print(text_of(result), end="")
    if OUT.value:
        write_json(OUT.value, result)


if __name__ == "__main__":
    app.run(main)
