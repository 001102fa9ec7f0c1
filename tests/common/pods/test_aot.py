"""The compile report against hand counts, for a TPU slice that is not here and for this machine.

Programs are compiled in child processes, whose environment must be set before they import JAX.
"""

import json
import re
from functools import partial
from types import SimpleNamespace
from typing import Any

import jax
import pytest

from common.errors import DoesNotFit, UserError
from common.loop import program
from common.pods import aot, chips
from tests.common.toys import regression, toy_config
from tests.processes import run_child

ROWS, D, H = 4096, 256, 512  # batch, and the sizes of two matrices
STATE_BYTES = 4 * 2 * D * H
MATMUL_FLOPS = 2 * ROWS * D * H

SETUP = f"""
import json, os, sys
from common.pods import chips
os.environ.update(chips.environment(chips.parse_topology(sys.argv[1])))
import jax, jax.numpy as jnp, numpy as np, optax
from jax.sharding import PartitionSpec as P
from ml_collections import ConfigDict
from common import sharding
from common.pods import aot
from common.pods.aot_report import to_json
from common.loop_fields import LOOP_DEFAULTS
from common.errors import LabError
from common.experiment import Experiment, Measure
from common.steps import gradient_step, init_train_state

def two_matmuls(rows={ROWS}, d={D}, h={H}, rules=(), loss=None, data=dict, abstract_data=None):
    optimizer = optax.sgd(0.1)

    def init(key):
        a, b = jax.random.split(key)
        return init_train_state(
            {{"a": jax.random.normal(a, (d, h)), "b": jax.random.normal(b, (h, d))}}, optimizer)

    def squares(params, data, batch, key):
        return jnp.mean((jax.nn.relu(batch["x"] @ params["a"]) @ params["b"]) ** 2), {{}}

    def evaluate(state, data, key):
        return {{"norm": (jnp.sum(state.params["a"] ** 2), jnp.float32(1))}}

    return Experiment(data, init, gradient_step(loss or squares, optimizer),
        lambda step: {{"x": np.zeros((rows, d), np.float32)}}, evaluate, rules=rules,
        abstract_data=abstract_data)

def report(name, experiment, mesh={{"data": -1}}, evaluate=False, quick=True, place=None, **fields):
    config = ConfigDict(LOOP_DEFAULTS | dict(experiment="two:matmuls", mesh=mesh) | fields)
    try:
        got = aot.compile_report(
            experiment, config, place or sys.argv[1], evaluate=evaluate, quick=quick)
        got = json.loads(to_json(got))
    except LabError as error:
        got = {{"error": type(error).__name__, "code": error.exit_code, "message": str(error)}}
    print(json.dumps([name, got]), flush=True)
"""

# On simulated devices, which compile in a second.
SIMULATED = """
product = lambda state, data, key: {"x": state.params["a"] @ state.params["b"]}
measured = two_matmuls()._replace(measures=(Measure("product", product, calls=7),))
report("data", measured, evaluate=True, steps_per_call=50, batch_size=4096)
both = ("batch/", P(("data", "fsdp")))
report("fsdp", two_matmuls(rules=(("state/params", sharding.fsdp("fsdp")), both)),
       mesh={"data": 2, "fsdp": 4})

def looped(params, data, batch, key):
    def layer(x, _):
        return jax.nn.relu(x @ params["a"]) @ params["b"], None
    return jnp.mean(jax.lax.scan(layer, batch["x"], None, length=8)[0] ** 2), {}
report("loop", two_matmuls(loss=looped))
"""

# For a TPU slice: one compile, and what is refused without one.
POD = """
report("data", two_matmuls(), steps_per_call=50, batch_size=4096)
report("arguments", two_matmuls(d=2**15, h=2**16))
never = lambda: 1 / 0
much = lambda: {"images": jax.ShapeDtypeStruct((2**32, 8), jnp.float32)}
report("abstract data", two_matmuls(data=never, abstract_data=much))
report("mesh", two_matmuls(), mesh={"data": 3})
report("rows", two_matmuls(rows=40))
report("slices of 16", two_matmuls(), place="2xv5e:4x4")
report("inside", two_matmuls(), mesh={"data": 1, "model": -1}, place="2xv5e:4x4")
names = "2xv5p:2x2x2 v2:2x2 v4:2x2x1 v5e:1x1 v5e:16x16 v5p:16x16x24 v6e:8x16"
names += " tpu7x:2x2x1 tpu7x:16x24x24"
slices = [chips.parse_topology(name) for name in names.split()]
found = [(t, aot.topology_devices(t)) for t in slices]
print(json.dumps(["slices", [
    [t.name, t.generation, t.num_chips * t.chip.devices_per_chip, len(d), d[0].device_kind]
    for t, d in found]]))
"""

# What simulated devices show too, once more for the slice, and what only its compiler knows.
POD_IN_FULL = (
    SIMULATED.replace('"data": 2', '"data": 4')
    + """
report("full", two_matmuls(), quick=False)

def huge(params, data, batch, key):
    x = batch["x"]
    for _ in range(3):  # 4096 x 2**19 hidden values a chip, each needed twice
        x = jnp.tanh(x @ params["a"]) @ params["b"]
    return jnp.mean(x**2), {}
report("temporaries", two_matmuls(rows=2**16, h=2**19, loss=huge))
"""
)


def reports(code: str, topology: str) -> tuple[dict[str, Any], str]:
    """Returns {name: report} and what went to stderr."""
    done = run_child(f"import sys; sys.argv[1:] = [{topology!r}]\n{SETUP}{code}", seconds=200)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(line) for line in done.stdout.splitlines()), done.stderr


@pytest.fixture(scope="module")
def tpu() -> dict[str, Any]:
    """Reports for 16 chips, from a process that may not write to stderr."""
    found, stderr = reports(POD, "v5e:4x4")
    assert stderr == ""
    return found


@pytest.fixture(scope="module")
def tpu_in_full() -> dict[str, Any]:
    return reports(POD_IN_FULL, "v5e:4x4")[0]


@pytest.fixture(scope="module")
def simulated() -> dict[str, Any]:
    return reports(SIMULATED, "cpu:8")[0]


# Programs for many devices: of the slice, slow to compile, and of simulated ones.
SLICE_TOO = [
    ("simulated", 8),
    pytest.param("tpu_in_full", 16, marks=[pytest.mark.aot, pytest.mark.slow]),
]


@pytest.mark.aot
def test_data_parallel_training_has_one_all_reduce_of_the_gradient(tpu: dict[str, Any]) -> None:
    step = tpu["data"]["programs"][0]
    assert list(step["collectives"]) == ["all-reduce"]
    merged = step["collectives"]["all-reduce"]
    assert merged["count"] == 1
    assert merged["bytes"] == STATE_BYTES + 4  # and the loss
    assert merged["sent"] == pytest.approx(merged["bytes"] * 2 * 15 / 16)


@pytest.mark.aot
def test_slices_exchange_only_the_part_of_the_gradient_that_a_chip_holds(
    tpu: dict[str, Any],
) -> None:
    report, chip = tpu["slices of 16"], chips.GENERATIONS["v5e"].chip
    step = report["programs"][0]
    assert report["num_chips"] == report["num_devices"] == 32
    assert step["flops"] == pytest.approx(5 * MATMUL_FLOPS / 32, rel=0.05)
    across = step["collectives"].pop("all-reduce between slices")
    # A sixteenth of it, and 512 bytes for the loss, to one other slice: sent once.
    assert across["sent"] == across["bytes"] == pytest.approx(STATE_BYTES / 16, rel=0.01)
    assert chip.ici_bandwidth is not None and chip.dcn_bandwidth is not None
    links = sum(one["sent"] for one in step["collectives"].values()) / chip.ici_bandwidth
    links += across["sent"] / chip.dcn_bandwidth
    assert step["roofline"]["collectives"] == pytest.approx(links)
    assert (tpu["inside"]["error"], tpu["inside"]["code"]) == ("UserError", 2)
    assert "must be a multiple of 2" in tpu["inside"]["message"]


@pytest.mark.aot
def test_flops_and_memory_are_those_counted_by_hand(tpu: dict[str, Any]) -> None:
    report, step = tpu["data"], tpu["data"]["programs"][0]
    # Two products forward, two for the gradients of a and b, one for that of the hidden layer.
    assert step["flops"] == pytest.approx(5 * MATMUL_FLOPS / 16, rel=0.02)
    memory = step["memory"]
    batch_bytes = 4 * ROWS * D // 16
    assert memory["arguments"] == pytest.approx(STATE_BYTES + batch_bytes, rel=0.01)
    assert memory["aliased"] == STATE_BYTES  # the state is updated in place
    assert STATE_BYTES <= memory["outputs"] <= 1.01 * STATE_BYTES
    assert (
        memory["total"]
        == sum(memory[n] for n in ("arguments", "outputs", "temporaries")) - STATE_BYTES
    )
    assert memory["total"] < report["hbm_available"] == chips.GENERATIONS["v5e"].chip.hbm_bytes
    assert (report["num_chips"], report["num_params"], report["global_batch"]) == (
        16,
        2 * D * H,
        ROWS,
    )


@pytest.mark.aot
def test_the_time_is_the_roofline_of_its_own_numbers(tpu: dict[str, Any]) -> None:
    step, chip = tpu["data"]["programs"][0], chips.GENERATIONS["v5e"].chip
    compute, memory = step["flops"] / chip.flops, step["bytes_accessed"] / chip.hbm_bandwidth
    links = step["collectives"]["all-reduce"]["sent"] / chip.ici_bandwidth
    assert step["roofline"]["step"] == pytest.approx(max(compute, memory) + links)


@pytest.mark.parametrize(("where", "devices"), SLICE_TOO)
def test_fsdp_rules_divide_the_parameters_of_a_chip_by_the_size_of_the_axis(
    where: str, devices: int, request: pytest.FixtureRequest
) -> None:
    step = request.getfixturevalue(where)["fsdp"]["programs"][0]
    batch_bytes = 4 * ROWS * D // devices
    assert step["memory"]["arguments"] == pytest.approx(STATE_BYTES / 4 + batch_bytes, rel=0.02)
    assert step["memory"]["aliased"] == STATE_BYTES // 4
    assert step["collectives"]["all-gather"]["count"] >= 2  # each matrix, whole, when it is used
    assert step["flops"] == pytest.approx(5 * MATMUL_FLOPS / devices, rel=0.02)


@pytest.mark.parametrize(("where", "devices"), SLICE_TOO)
def test_evaluation_is_compiled_only_when_asked_for(
    where: str, devices: int, request: pytest.FixtureRequest
) -> None:
    found = request.getfixturevalue(where)
    assert found["data"]["num_devices"] == devices
    step, evaluate, product = found["data"]["programs"]
    assert [p["name"] for p in (step, evaluate, product)] == ["step", "evaluate", "product"]
    assert [p["calls"] for p in (step, evaluate, product)] == [1, 1, 7]
    assert product["flops"] == pytest.approx(2 * D * H * D, rel=0.01)  # whole on every device
    assert found["data"]["programs"][1]["collectives"] == {}
    assert [p["name"] for p in found["fsdp"]["programs"]] == ["step"]


@pytest.mark.parametrize(("where", "devices"), SLICE_TOO)
def test_a_loop_costs_as_often_as_it_runs(
    where: str, devices: int, request: pytest.FixtureRequest
) -> None:
    step = request.getfixturevalue(where)["loop"]["programs"][0]
    # 8 layers of two products, each with two for its gradients; the first input needs none.
    assert step["flops"] == pytest.approx(8 * 6 * MATMUL_FLOPS / devices, rel=0.05)
    assert step["unknown_loops"] == 0


@pytest.mark.aot
@pytest.mark.slow
def test_a_quick_compile_keeps_arguments_flops_and_collectives(
    tpu_in_full: dict[str, Any],
) -> None:
    quick, full = (tpu_in_full[name]["programs"][0] for name in ("data", "full"))
    assert tpu_in_full["data"]["quick"] and not tpu_in_full["full"]["quick"]
    assert quick["memory"]["arguments"] == full["memory"]["arguments"]
    assert quick["collectives"] == full["collectives"]
    assert quick["flops"] == pytest.approx(full["flops"], rel=0.01)


@pytest.mark.aot
@pytest.mark.parametrize(
    ("where", "name", "needed"),
    [
        pytest.param(
            "tpu_in_full",
            "temporaries",
            r"needs (1[6-9]|[2-4]\d)\.\d\d GiB \(perhaps less without --quick\)",
            marks=pytest.mark.slow,
        ),
        ("tpu", "arguments", r"needs at least 16\.0\d GiB \(state 16\.00 GiB, batch 0\.0\d GiB\)"),
        ("tpu", "abstract data", r"needs at least 128\.00 GiB \(state 0\.00 GiB, data 128\.00 GiB"),
    ],
)
def test_what_does_not_fit_is_one_line_with_needed_and_available_memory(
    where: str, name: str, needed: str, request: pytest.FixtureRequest
) -> None:
    refusal = request.getfixturevalue(where)[name]
    assert (refusal["error"], refusal["code"]) == ("DoesNotFit", 3)
    assert "\n" not in refusal["message"]
    pattern = rf"^step does not fit v5e:4x4: {needed}.* on each TPU v5 lite, which has 15\.75 GiB; "
    assert re.search(pattern, refusal["message"]), refusal["message"]


@pytest.mark.aot
def test_a_mesh_or_batch_that_does_not_divide_is_the_users_mistake(tpu: dict[str, Any]) -> None:
    for name, words in (("mesh", "16 (TPU v5 lite)"), ("rows", "does not divide over data=16")):
        assert (tpu[name]["error"], tpu[name]["code"]) == ("UserError", 2)
        assert words in tpu[name]["message"]


@pytest.mark.aot
def test_libtpu_agrees_on_the_devices_of_every_slice(tpu: dict[str, Any]) -> None:
    for name, generation, wanted, found, kind in tpu["slices"]:
        assert found == wanted, name
        assert chips.DEVICE_KINDS[kind] == generation


@pytest.mark.parametrize(
    ("refusal", "needed"),
    [
        ("Ran out of memory in memory space hbm. Used 33.25G of 15.75G hbm.", "needs 33.25 GiB"),
        ("Allocation (size=34359738368) would exceed memory (size=17179869184)", "least 32.00 GiB"),
    ],
)
def test_what_the_compiler_refuses_for_want_of_memory_is_one_line(
    refusal: str, needed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = toy_config()

    def refuse(*_: Any, text: str) -> Any:
        def fail(**_: Any) -> None:
            raise jax.errors.JaxRuntimeError(text)

        return SimpleNamespace(compile=fail)

    text = f"RESOURCE_EXHAUSTED: {refusal}"
    monkeypatch.setattr(program, "lower_step", partial(refuse, text=text))
    with pytest.raises(DoesNotFit, match=f"step does not fit local devices: .*{needed}"):
        aot.compile_report(regression(config), config, None)
    monkeypatch.setattr(program, "lower_step", partial(refuse, text="INTERNAL: ours"))
    with pytest.raises(jax.errors.JaxRuntimeError, match="ours"):
        aot.compile_report(regression(config), config, None)


def test_simulated_devices_give_the_same_collectives_and_no_time(
    simulated: dict[str, Any],
) -> None:
    found = simulated["data"]
    step = found["programs"][0]
    assert found["num_devices"] == 8 and found["hbm_available"] is None
    assert step["roofline"] is None
    merged = step["collectives"]["all-reduce"]
    assert (merged["count"], merged["bytes"]) == (1, STATE_BYTES + 4)
    assert step["flops"] == pytest.approx(5 * MATMUL_FLOPS / 8, rel=0.02)
    assert step["memory"]["arguments"] == pytest.approx(STATE_BYTES + 4 * ROWS * D // 8, rel=0.01)


def test_topologies_name_slices() -> None:
    assert chips.parse_topology("v5e:16x16").num_chips == 256
    assert chips.parse_topology("v5p:4x4x8").shape == (4, 4, 8)
    assert chips.parse_topology("v6e:1x1").num_chips == 1
    two = chips.parse_topology("2xv5p:4x4x8")
    assert (two.slices, two.shape, two.num_chips) == (2, (4, 4, 8), 256)
    assert chips.parse_topology("h100:8")[1:4] == ("gpu", "h100", (8,))
    assert chips.parse_topology("cpu:8")[1:4] == ("cpu", "cpu", (8,))
    twin = chips.parse_topology("tpu7x:2x2x1").chip
    assert twin.devices_per_chip == 2 and twin.flops == pytest.approx(2307e12 / 2)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (
            "v5e-16",
            'expected generation:AxB[xC], h100:N or cpu:N (did you mean "v5e"?); generations: v2, ',
        ),
        ("v5litepod:4x4", "for example v5e:4x4"),
        ("v5e", "for example v5e:4x4"),
        ("v5e:4x4_twisted", "for example v5e:4x4"),
        ("v5e:4x4x4", "v5e slices have 2 sides, for example v5e:2x2"),
        ("v4:4x4", "v4 slices have 3 sides, for example v4:2x2x1"),
        ("v5e:3x4", "the first two sides must be even"),
        ("v5e:32x32", "go up to 16x16"),
        ("v5p:2x2x0", "sides of at least 1"),
        ("cpu:0", "1 <= N <= 512"),
        ("2xcpu:8", "expected cpu:N"),
        ("h100:9", "N GPUs of one machine, 1 <= N <= 8"),
        ("0xv5e:4x4", "expected 1 to 32 slices, got 0"),
        ("xv5e:4x4", "for example v5e:4x4"),
        ("", "for example v5e:4x4"),
    ],
)
def test_other_topologies_are_refused_with_what_is_allowed(name: str, words: str) -> None:
    with pytest.raises(UserError) as caught:
        chips.parse_topology(name)
    assert words in str(caught.value) and "\n" not in str(caught.value)
    assert f"--topology={name!r}" in str(caught.value)


def test_a_missing_tpu_compiler_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match="libtpu, which is not installed: `make aot`"):
        chips.environment(chips.parse_topology("v5e:4x4"))
    with pytest.raises(UserError, match="pip install --no-deps jax-cuda12-plugin"):
        chips.environment(chips.parse_topology("h100:8"))
    assert "=8" in chips.environment(chips.parse_topology("cpu:8"))["XLA_FLAGS"]
