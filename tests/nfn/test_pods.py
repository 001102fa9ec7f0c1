"""Every pod preset of this topic compiles for its TPU slice, fits, and only sums gradients."""

import json
from typing import Any

import pytest

from tests.variants import pod_specs

NFN = "nfn/equivariant/configs"
HNP = ("inr_classification", "editing", "generalization", "mlp_generalization")


def report_of(child: Any, spec: str) -> dict[str, Any]:
    arguments = ["compile", f"--config={spec}", "--topology=v5e:16x16"]
    done = child([*arguments, "--quick", "--json"], seconds=600)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.aot
@pytest.mark.slow  # the TPU compiler takes half a minute for each; tests/common has one by default
@pytest.mark.parametrize(
    "spec",
    [
        *pod_specs("nfn"),
        *(f"{NFN}/{name}.py:pod,kind=hnp" for name in HNP),
        f"{NFN}/tickets.py:pod,kind=pt",
    ],
)
def test_the_pod_preset_fits_a_v5e_slice(child: Any, spec: str) -> None:
    report = report_of(child, spec)

    (step,) = report["programs"]
    assert report["num_chips"] == 256
    assert step["memory"]["total"] < 0.5 * report["hbm_available"]
    # Data parallel: the gradient is summed over the chips, in the type it is computed in; Fourier
    # frequencies have none, metrics are a few bytes more.
    assert set(step["collectives"]) == {"all-reduce"}
    reduced = step["collectives"]["all-reduce"]["bytes"]
    assert 1.99 * report["num_params"] <= reduced <= 4.1 * report["num_params"] + 4_096
