"""`config.deterministic`: the same bits on 8, 4, 2 and 1 devices, in processes of their own."""

import json
from typing import Any

import pytest

from tests.processes import Child

pytestmark = pytest.mark.optimized  # bits are those of programs as users have them

CODE = """
import json, sys
import jax
import jax.numpy as jnp
from common import plain_gradient, sharding
from tests.common import toys

results = {"devices": jax.device_count()}

def train(name, builder, **changes):
    config = toys.toy_config(builder, num_steps=20, **changes)
    state, metrics = toys.train(getattr(toys, builder)(config), config)
    results[name] = [*map(toys.digest, (state.params, state.opt_state, metrics))]
    results[f"{name} losses"] = [float(x) for x in metrics["loss"]]
    if name == builder:
        results[f"{name} means"] = toys.evaluate(getattr(toys, builder)(config), config, state)

def means(scale, rows):
    # Rows are computed in order, and the mean of all by every device.
    number = lambda part, first: first + jnp.arange(len(part))
    part = lambda scale, part, first: (number(part, first), jnp.tanh(part * scale))
    numbers, found = plain_gradient.in_order(part)(scale, rows)
    return numbers, found, jnp.mean(found, axis=0)

wishes = plain_gradient.Wishes(8, "plain")
rows = jnp.sin(jnp.arange(48.0)).reshape(16, 3)
with jax.set_mesh(sharding.make_mesh({"data": -1})), plain_gradient.wishing(wishes):
    found = jax.jit(means)(jnp.float32(0.7), rows)
results["rows"] = toys.digest(found)
results["rows in order"] = found[0].tolist() == [*range(16)] and wishes.is_ordered

train("regression", "regression", deterministic=True)
train("attention", "attention", deterministic=True)  # has common subexpressions
if "full" in sys.argv:  # what compiles for long, or as another does
    train("weights", "weights", deterministic=True)
    masked = {"name": "masked", "paths": "hidden"}
    train("masked", "regression", gradient=masked, deterministic=True)
    if jax.device_count() in (1, 8):
        train("four steps a call", "regression", deterministic=True, steps_per_call=4)
        train("sam", "regression", gradient={"name": "sam"}, deterministic=True)
if jax.device_count() in (1, 8):
    train("plain", "regression")
if jax.device_count() == 1:
    train("ordered", "regression", gradient={"name": "ordered"})
print(json.dumps(results))
"""


@pytest.fixture(
    scope="module", params=[(8, 1), pytest.param((8, 4, 2, 1), marks=pytest.mark.slow)], ids=str
)
def runs(child: Child, request: pytest.FixtureRequest) -> dict[int, dict[str, Any]]:
    """What 20 Adam steps gave on each number of simulated devices."""
    found = {}
    for devices in request.param:
        done = child(CODE, *["full"] * (len(request.param) > 2), devices=devices)
        assert done.returncode == 0, done.stderr
        found[devices] = json.loads(done.stdout.splitlines()[-1])
        assert found[devices]["devices"] == devices
    return found


def test_parameters_optimizer_state_and_metrics_have_the_same_bits_on_every_device_count(
    runs: dict[int, dict[str, Any]],
) -> None:
    kept = [name for name in runs[1] if f"{name} losses" in runs[1]]
    names = [name for name in kept if name not in ("plain", "ordered")]
    slow = ("weights", "masked", "four steps a call", "sam") if len(runs) > 2 else ()
    assert {*names} == {"regression", "attention", *slow}
    for name in names:
        assert len(set(runs[1][name])) == 3, name  # params, opt_state, metrics
        for devices, results in runs.items():
            found = results.get(name, runs[8][name])
            assert found == runs[1][name], f"{name} differs between 1 and {devices} devices"
        losses = [results[f"{name} losses"] for results in runs.values() if name in results]
        assert losses[0][-1] < losses[0][0], name


def test_rows_in_order_and_what_is_computed_of_them_have_the_same_bits(
    runs: dict[int, dict[str, Any]],
) -> None:
    assert {found["rows"] for found in runs.values()} == {runs[1]["rows"]}
    assert all(found["rows in order"] for found in runs.values())


def test_the_default_gradient_of_a_deterministic_run_is_the_ordered_one(
    runs: dict[int, dict[str, Any]],
) -> None:
    assert runs[1]["ordered"] == runs[1]["regression"]
    assert runs[1]["ordered"] != runs[1]["plain"]


def test_without_it_device_counts_agree_to_rounding_only(runs: dict[int, dict[str, Any]]) -> None:
    # float32 rounding of a mean over 16 rows, carried through 20 steps.
    assert runs[8]["plain losses"] == pytest.approx(runs[1]["plain losses"], rel=1e-5)


def test_evaluation_on_several_devices_sums_the_same_rows(
    runs: dict[int, dict[str, Any]],
) -> None:
    names = [name for name in runs[1] if name.endswith(" means")]
    assert "regression means" in names
    for results in runs.values():
        for name in names:
            # The same parameters; only the order of a float32 sum of 48 rows differs.
            assert results[name] == pytest.approx(runs[1][name], rel=1e-6), name
