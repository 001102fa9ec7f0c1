"""The compile report against hand counts, for a TPU slice that is not here and for this machine.

Programs are compiled in child processes, whose environment must be set before they import JAX.
"""

import json
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from common import chips
from common.aot_report import CompileReport, Memory, ProgramReport, Roofline, render, to_json
from common.errors import UserError
from common.hlo import Collectives
from tests.processes import run_child

ROWS, D, H = 4096, 256, 512  # batch, and the sizes of two matrices
STATE_BYTES = 4 * 2 * D * H
MATMUL_FLOPS = 2 * ROWS * D * H

SETUP = f"""
import json, os, sys
from common import chips
os.environ.update(chips.environment(chips.parse_topology(sys.argv[1])))
import jax, jax.numpy as jnp, numpy as np, optax
from jax.sharding import PartitionSpec as P
from ml_collections import ConfigDict
from common import aot, sharding
from common.aot_report import to_json
from common.config import LOOP_DEFAULTS
from common.errors import LabError
from common.experiment import Experiment
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

def report(name, experiment, mesh={{"data": -1}}, evaluate=False, quick=True, **fields):
    config = ConfigDict(LOOP_DEFAULTS | dict(experiment="two:matmuls", mesh=mesh) | fields)
    try:
        got = aot.compile_report(
            experiment, config, sys.argv[1], evaluate=evaluate, quick=quick)
        got = json.loads(to_json(got))
    except LabError as error:
        got = {{"error": type(error).__name__, "code": error.exit_code, "message": str(error)}}
    print(json.dumps([name, got]), flush=True)
"""

SHARDED = """
report("data", two_matmuls(), evaluate=True, steps_per_call=50, batch_size=4096)
both = ("batch/", P(("data", "fsdp")))
report("fsdp", two_matmuls(rules=(("state/params", sharding.fsdp("fsdp")), both)),
       mesh={"data": 4, "fsdp": 4})
"""

REFUSED = """
def looped(params, data, batch, key):
    def layer(x, _):
        return jax.nn.relu(x @ params["a"]) @ params["b"], None
    return jnp.mean(jax.lax.scan(layer, batch["x"], None, length=8)[0] ** 2), {}
report("loop", two_matmuls(loss=looped))

def huge(params, data, batch, key):
    x = batch["x"]
    for _ in range(3):  # 4096 x 2**19 hidden values a chip, each needed twice
        x = jnp.tanh(x @ params["a"]) @ params["b"]
    return jnp.mean(x**2), {}
report("temporaries", two_matmuls(rows=2**16, h=2**19, loss=huge))
report("arguments", two_matmuls(d=2**15, h=2**16))
never = lambda: 1 / 0
much = lambda: {"images": jax.ShapeDtypeStruct((2**32, 8), jnp.float32)}
report("abstract data", two_matmuls(data=never, abstract_data=much))
report("full", two_matmuls(), quick=False)
report("mesh", two_matmuls(), mesh={"data": 3})
report("rows", two_matmuls(rows=40))
names = "v2:2x2 v4:2x2x1 v5e:1x1 v5e:16x16 v5p:16x16x24 v6e:8x16 tpu7x:2x2x1 tpu7x:16x24x24"
slices = [chips.parse_topology(name) for name in names.split()]
found = [(t, aot.topology_devices(t)) for t in slices]
print(json.dumps(["slices", [
    [t.name, t.generation, t.num_chips * t.chip.devices_per_chip, len(d), d[0].device_kind]
    for t, d in found]]))
"""


def reports(code: str, topology: str) -> tuple[dict[str, Any], str]:
    """Returns {name: report} and what went to stderr."""
    done = run_child(f"import sys; sys.argv[1:] = [{topology!r}]\n{SETUP}{code}", seconds=200)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(line) for line in done.stdout.splitlines()), done.stderr


@pytest.fixture(scope="module")
def tpu() -> dict[str, Any]:
    """Reports for 16 chips, from two processes at once, neither of which may write to stderr."""
    with ThreadPoolExecutor() as pool:
        both = list(pool.map(lambda code: reports(code, "v5e:4x4"), (SHARDED, REFUSED)))
    assert [stderr for _, stderr in both] == ["", ""]
    return {name: report for found, _ in both for name, report in found.items()}


@pytest.mark.aot
def test_data_parallel_training_has_one_all_reduce_of_the_gradient(tpu: dict[str, Any]) -> None:
    step = tpu["data"]["programs"][0]
    assert list(step["collectives"]) == ["all-reduce"]
    merged = step["collectives"]["all-reduce"]
    assert merged["count"] == 1
    assert merged["bytes"] == STATE_BYTES + 4  # and the loss
    assert merged["sent"] == pytest.approx(merged["bytes"] * 2 * 15 / 16)


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


@pytest.mark.aot
def test_fsdp_rules_divide_the_parameters_of_a_chip_by_the_size_of_the_axis(
    tpu: dict[str, Any],
) -> None:
    step = tpu["fsdp"]["programs"][0]
    batch_bytes = 4 * ROWS * D // 16
    assert step["memory"]["arguments"] == pytest.approx(STATE_BYTES / 4 + batch_bytes, rel=0.02)
    assert step["memory"]["aliased"] == STATE_BYTES // 4
    assert step["collectives"]["all-gather"]["count"] >= 2  # each matrix, whole, when it is used
    assert step["flops"] == pytest.approx(5 * MATMUL_FLOPS / 16, rel=0.02)


@pytest.mark.aot
def test_evaluation_is_compiled_only_when_asked_for(tpu: dict[str, Any]) -> None:
    assert [p["name"] for p in tpu["data"]["programs"]] == ["step", "evaluate"]
    assert tpu["data"]["programs"][1]["collectives"] == {}
    assert [p["name"] for p in tpu["fsdp"]["programs"]] == ["step"]


@pytest.mark.aot
def test_a_quick_compile_keeps_arguments_flops_and_collectives(tpu: dict[str, Any]) -> None:
    quick, full = tpu["data"]["programs"][0], tpu["full"]["programs"][0]
    assert tpu["data"]["quick"] and not tpu["full"]["quick"]
    assert quick["memory"]["arguments"] == full["memory"]["arguments"]
    assert quick["collectives"] == full["collectives"]
    assert quick["flops"] == pytest.approx(full["flops"], rel=0.01)


@pytest.mark.aot
def test_a_loop_costs_as_often_as_it_runs(tpu: dict[str, Any]) -> None:
    step = tpu["loop"]["programs"][0]
    # 8 layers of two products, each with two for its gradients; the first input needs none.
    assert step["flops"] == pytest.approx(8 * 6 * MATMUL_FLOPS / 16, rel=0.05)
    assert step["unknown_loops"] == 0


@pytest.mark.aot
@pytest.mark.parametrize(
    ("name", "needed"),
    [
        ("temporaries", r"needs (1[6-9]|[2-4]\d)\.\d\d GiB \(perhaps less without --quick\)"),
        ("arguments", r"needs at least 16\.0\d GiB \(state 16\.00 GiB, batch 0\.0\d GiB\)"),
        ("abstract data", r"needs at least 128\.00 GiB \(state 0\.00 GiB, data 128\.00 GiB"),
    ],
)
def test_what_does_not_fit_is_one_line_with_needed_and_available_memory(
    tpu: dict[str, Any], name: str, needed: str
) -> None:
    refusal = tpu[name]
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


def test_simulated_devices_give_the_same_collectives_and_no_time() -> None:
    found, _ = reports('report("cpu", two_matmuls())', "cpu:8")
    step = found["cpu"]["programs"][0]
    assert found["cpu"]["num_devices"] == 8 and found["cpu"]["hbm_available"] is None
    assert step["roofline"] is None
    merged = step["collectives"]["all-reduce"]
    assert (merged["count"], merged["bytes"]) == (1, STATE_BYTES + 4)
    assert step["flops"] == pytest.approx(5 * MATMUL_FLOPS / 8, rel=0.02)
    assert step["memory"]["arguments"] == pytest.approx(STATE_BYTES + 4 * ROWS * D // 8, rel=0.01)


def test_topologies_name_slices() -> None:
    assert chips.parse_topology("v5e:16x16").num_chips == 256
    assert chips.parse_topology("v5p:4x4x8").shape == (4, 4, 8)
    assert chips.parse_topology("v6e:1x1").num_chips == 1
    assert chips.parse_topology("cpu:8")[1:4] == ("cpu", "cpu", (8,))
    twin = chips.parse_topology("tpu7x:2x2x1").chip
    assert twin.devices_per_chip == 2 and twin.flops == pytest.approx(2307e12 / 2)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("v5e-16", 'expected generation:AxB[xC] or cpu:N (did you mean "v5e"?); generations: v2, '),
        ("v5litepod:4x4", "for example v5e:4x4"),
        ("v5e", "for example v5e:4x4"),
        ("v5e:4x4_twisted", "for example v5e:4x4"),
        ("v5e:4x4x4", "v5e slices have 2 sides, for example v5e:2x2"),
        ("v4:4x4", "v4 slices have 3 sides, for example v4:2x2x1"),
        ("v5e:3x4", "the first two sides must be even"),
        ("v5e:32x32", "go up to 16x16"),
        ("v5p:2x2x0", "sides of at least 1"),
        ("cpu:0", "1 <= N <= 512"),
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
    with pytest.raises(UserError, match=r"libtpu, which is not installed: pip install \.\[aot\]"):
        chips.environment(chips.parse_topology("v5e:4x4"))
    assert "=8" in chips.environment(chips.parse_topology("cpu:8"))["XLA_FLAGS"]


def test_topologies_and_reports_need_no_jax() -> None:
    code = "import sys, common.chips, common.aot_report; assert 'jax' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def example(**changes: Any) -> CompileReport:
    program = ProgramReport(
        name="step",
        memory=Memory(3 * 2**30, 2 * 2**30, 2**30, 512, 4 * 2**30 + 512),
        flops=2.0e9,
        bytes_accessed=3 * 2**20,
        collectives={"all-reduce": Collectives(2, 5 * 2**10, 9.0)},
        unknown_loops=1,
        roofline=Roofline(1e-3, 2e-3, 4e-6, 2.004e-3),
        compile_seconds=1.25,
    )
    report = CompileReport(
        "a.b:c",
        "v5e:2x2",
        "TPU v5 lite",
        4,
        4,
        {"data": 4},
        1234,
        64,
        16 * 2**30,
        False,
        (program,),
    )
    return report._replace(**changes)


def test_the_text_is_aligned_and_the_json_holds_the_same_numbers() -> None:
    lines = render(example()).splitlines()
    starts = {len(line) - len(line[22:].lstrip()) for line in lines if line}
    assert starts == {22}
    text = "\n".join(" ".join(line.split()) for line in lines)
    assert "memory per chip 4.00 GiB of 16.00 GiB usable (25.0%)" in text
    assert "all-reduce 2 x, together 5.00 KiB" in text
    assert "FLOPs per chip 2e+09 (8e+09 in all)" in text
    assert "estimated time 2 ms, from peak rates; nothing was measured" in text
    assert "= max(FLOPs 1 ms, traffic 2 ms) + collectives 4 us" in text
    assert "1 of unknown length" in text
    again = json.loads(to_json(example()))
    assert again["programs"][0]["collectives"]["all-reduce"] == {
        "count": 2,
        "bytes": 5120,
        "sent": 9.0,
    }
    assert again["mesh"] == {"data": 4} and again["programs"][0]["memory"]["total"] == 2**32 + 512


def test_two_devices_a_chip_are_told_apart() -> None:
    text = render(example(topology="tpu7x:2x2x1", num_devices=8, num_params=None))
    assert "tpu7x:2x2x1: 4 chips = 8 x" in text and "memory per device" in text
