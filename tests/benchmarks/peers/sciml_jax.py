"""The cases of `sciml_vs_torch` on our side: steps of the very experiments, k of them in a scan."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax

from common.config import load_config
from common.experiment import build
from common.loop.program import count_parameters
from tests.benchmarks.peers.jax_cases import experiment_case, random_data, serve_jax
from tests.benchmarks.peers.timed_cases import Case

STEPS = 10
SINGLE = "sciml/boon/configs/single_step.py:paper,pde=stokes"
MULTI = "sciml/boon/configs/multi_step.py:paper,pde=stokes"
# The peer's sizes: 500 points, or 128 x 25 without padding; batch 20.
FIELDS = {
    "fno1d": {"data.num_train": "40", "data.scales": "()"},
    "fno2d": {
        "data.num_train": "40",
        "data.points": "128",
        "data.kept": "25",
        "model.padding": "(0.0,0.0)",
    },
}


def experiment_of(size: str, kind: str) -> tuple[Any, Any]:
    """Returns the experiment at the paper's sizes and random numbers in place of its data."""
    spec = SINGLE if size == "fno1d" else MULTI
    experiment = build(load_config(f"{spec},kind={kind}", FIELDS[size]))
    return experiment, random_data(experiment)


def step_case(size: str, kind: str, *, steps: int = STEPS) -> Case:
    """Training steps as the loop runs them, so many in a call, with donated state."""
    experiment, data = experiment_of(size, kind)
    return experiment_case(experiment, data, steps=steps)


def forward_case(size: str, kind: str) -> Case:
    """Answers to one batch."""
    experiment, data = experiment_of(size, kind)
    rows = jax.tree.map(lambda x: x[:20], data["train"])
    state = jax.jit(experiment.init)(jax.random.key(0))
    assert experiment.predict is not None
    answer = jax.jit(experiment.predict)
    program = (answer, (state, {}, rows))
    return Case(lambda: jax.block_until_ready(answer(state, {}, rows)), program=program)


def main() -> None:
    cases: dict[str, Callable[[], Case]] = {}
    parameters = {}
    for size in FIELDS:
        for options in ("default", "plain"):  # what the peer calls its two networks
            cases[f"{size} step {options}"] = partial(step_case, size, "plain")
            cases[f"{size} forward {options}"] = partial(forward_case, size, "plain")
        cases[f"{size} call plain"] = partial(step_case, size, "plain", steps=1)
        for kind in ("boon", "boon_value"):
            cases[f"{size} step {kind}"] = partial(step_case, size, kind)
            cases[f"{size} forward {kind}"] = partial(forward_case, size, kind)
        state = jax.eval_shape(experiment_of(size, "plain")[0].init, jax.random.key(0))
        parameters[size] = count_parameters(state)
    serve_jax(cases, parameters=parameters)


if __name__ == "__main__":
    main()
