"""Every pod preset of this topic compiles for its TPU slice, fits, and only sums gradients."""

import json
from typing import Any

import pytest

NFN, NFT = "nfn/equivariant/configs", "nfn/transformer/configs"
OTHERS = ("editing", "generalization", "mlp_generalization")


def report_of(child: Any, spec: str) -> dict[str, Any]:
    arguments = ["compile", f"--config={spec}", "--topology=v5e:16x16"]
    done = child([*arguments, "--quick", "--json"], seconds=600)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.aot
@pytest.mark.parametrize(
    "spec",
    [
        f"{NFN}/inr_classification.py:pod",
        *(
            pytest.param(f"{path}:pod{kind}", marks=pytest.mark.slow)
            for path, kind in (
                *((f"{NFN}/{name}.py", "") for name in OTHERS),
                *((f"{NFN}/{name}.py", ",kind=hnp") for name in ("inr_classification", *OTHERS)),
                (f"{NFN}/tickets.py", ""),
                (f"{NFN}/tickets.py", ",kind=pt"),
                (f"{NFT}/editing.py", ""),
                (f"{NFT}/generalization.py", ""),
                (f"{NFT}/inr2array.py", ""),
                (f"{NFT}/inr_classification.py", ""),
            )
        ),
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
