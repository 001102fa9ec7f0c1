"""Every pod preset of this topic compiles for its TPU slice, fits, and only sums gradients."""

import json
from typing import Any

import pytest

from tests.variants import pod_specs

BOON = "sciml/boon/configs"


@pytest.mark.aot
@pytest.mark.slow  # a compilation for a pod is a default test of common
@pytest.mark.parametrize(
    "spec",
    [
        *pod_specs("sciml"),
        "sciml/probconserv/configs/neural_process.py:pod,pde=stefan,soft=1",
        f"{BOON}/single_step.py:pod,pde=heat,base=mwt",
        f"{BOON}/multi_step.py:pod,pde=cavity",
        f"{BOON}/multi_step.py:pod,pde=cavity,kind=plain",
    ],
)
def test_the_pod_preset_fits_a_v5e_slice(child: Any, spec: str) -> None:
    arguments = ["compile", f"--config={spec}", "--topology=v5e:16x16"]
    done = child([*arguments, "--quick", "--json"], seconds=900)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)

    (step,) = report["programs"]
    assert report["num_chips"] == 256
    assert step["memory"]["total"] < 0.5 * report["hbm_available"]
    # Data parallel: gradients are summed over the chips; those of multipliers as the real matrices
    # [[re, im], [-im, re]] that act on modes, twice their numbers; those of boundary blocks along
    # two axes apart from them; and in a multiwavelet kernel once for each of nine scales.
    assert set(step["collectives"]) == {"all-reduce"}
    most = 18 if "mwt" in spec else 4 if "cavity" in spec else 2.6
    reduced = step["collectives"]["all-reduce"]["bytes"]
    assert 0.9 * 4 * report["num_params"] <= reduced <= most * 4 * report["num_params"] + 4_096
