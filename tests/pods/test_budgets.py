"""Committed budgets of pod presets are those of the presets as they are, and of their programs."""

import os
import subprocess
from typing import Any

import pytest

from common.errors import UserError
from common.files.json_files import read_json
from common.pods import chips
from common.pods.chips import parse_topology
from tests.pods import budgets
from tests.processes import REPOSITORY
from tests.variants import pod_specs

FILE = REPOSITORY / "results/pod_budgets.json"
COMMITTED = read_json(FILE)
AGAIN = "python -m tests.pods.budgets --out=results/pod_budgets.json"
NAMES = list(COMMITTED["budgets"])
CHEAP = "landscape/sam_rank/configs/two_layer.py:pod v5e:16x16"  # compiled in seconds


@pytest.mark.parametrize("name", NAMES)
def test_a_budget_is_that_of_the_preset_as_it_is_now(name: str) -> None:
    spec, topology = name.split()
    one = COMMITTED["budgets"][name]
    chip = parse_topology(topology)

    assert spec in pod_specs()
    assert budgets.is_current(one, spec), f"{spec} has changed: {AGAIN}"
    if "refused" in one:
        assert one["refused"].startswith("lab: error: ")
        return
    assert one["chips"] == chip.num_chips and one["memory_usable"] == chip.chip.hbm_bytes
    assert 0 < one["memory"] < one["memory_usable"]
    # The roofline of the numbers beside it; collectives come on top.
    least = max(one["flops"] / chip.chip.flops, one["traffic"] / chip.chip.hbm_bandwidth)
    assert one["roofline_seconds"] >= least * (1 - 1e-9)


def test_the_command_goes_on_with_what_is_missing_or_has_changed() -> None:
    spec = budgets.WEAK_SPEC
    known: dict[str, Any] = {"budgets": {}}
    assert budgets.missing(known, [spec], ["v5e:4x4"]) == [f"{spec} v5e:4x4"]
    hashed = budgets.config_hash(budgets.load_config(str(REPOSITORY / spec)))
    known["budgets"][f"{spec} v5e:4x4"] = {"config_hash": hashed}
    assert budgets.missing(known, [spec], ["v5e:4x4", "v6e:4x4"]) == [f"{spec} v6e:4x4"]
    known["budgets"][f"{spec} v5e:4x4"]["config_hash"] = "another"
    assert budgets.missing(known, [spec], ["v5e:4x4"]) == [f"{spec} v5e:4x4"]


def test_a_preset_that_is_refused_is_a_budget_and_a_fault_is_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    code = 3
    said = "a warning\nlab: error: does not fit\n"
    end = lambda *_, **__: subprocess.CompletedProcess([], code, "", said)
    monkeypatch.setattr(budgets.subprocess, "run", end)
    assert budgets.budget(budgets.WEAK_SPEC, "v5e:1x1")["refused"] == "lab: error: does not fit"
    code = 1
    with pytest.raises(SystemExit, match="lab: error: does not fit"):
        budgets.budget(budgets.WEAK_SPEC, "v5e:1x1")


def test_a_missing_compiler_is_said_before_anything_is_compiled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(chips, "_is_installed", lambda _: False)
    with pytest.raises(UserError, match="GPU compiler"):
        budgets.check(["h100:8"])


def test_the_page_has_a_row_for_every_budget() -> None:
    text = budgets.markdown(COMMITTED)
    assert len(text.splitlines()) >= 2 + len(NAMES)
    with pytest.raises(UserError):
        parse_topology("v5e:17x17")


def test_the_page_on_pods_says_what_was_compiled() -> None:
    page = REPOSITORY / "PODS.md"
    head, end = "<!-- python -m tests.pods.budgets --coverage -->\n", "\n<!-- end -->"
    before, _, rest = page.read_text().partition(head)
    block, _, after = rest.partition(end)
    said = budgets.coverage(COMMITTED)
    if os.environ.get("UPDATE_GOLDEN") == "1":
        page.write_text(before + head + said + end + after)
    else:
        assert block == said, "UPDATE_GOLDEN=1 writes it"


def programs() -> list[pytest.ParameterSet]:
    """Returns every budget; but for `CHEAP` they are slow, half a minute each."""
    assert CHEAP in NAMES
    marks = {name: [] if name == CHEAP else [pytest.mark.slow] for name in NAMES}
    return [pytest.param(name, marks=marks[name]) for name in NAMES]


@pytest.mark.aot
@pytest.mark.parametrize("name", programs())
def test_a_budget_is_that_of_the_program(name: str) -> None:
    spec, topology = name.split()
    if parse_topology(topology).platform == "gpu":
        pytest.importorskip("jax_plugins.xla_cuda12", reason="needs jax-cuda12-plugin")
    wanted, found = COMMITTED["budgets"][name], budgets.budget(spec, topology)

    assert found.keys() == wanted.keys()
    for field in ("flops", "traffic", "memory", "roofline_seconds"):
        # Another version of the compiler lays arrays out otherwise, and fuses more or less.
        assert found.get(field) == pytest.approx(wanted.get(field), rel=0.05), field
    assert found.get("collectives") == wanted.get("collectives")
