"""Every pod preset compiles for its TPU slice, fits, and only sums gradients."""

import json
from typing import Any

import pytest

from rlhf.trpo import TRPOSettings
from tests.variants import pod_specs

pytestmark = pytest.mark.optimized
NFN, BOON = "nfn/equivariant/configs", "sciml/boon/configs"
HNP = ("inr_classification", "editing", "generalization", "mlp_generalization")
PLANES = "landscape/visualizing"
# Steps of more than one gradient that is summed: ten updates and products with the Hessian; none,
# since every chip has seeds of its own; rows of all chips in one loss; products with the Fisher
# matrix and minibatches of reinforcement learning; an epoch of two ways to tune.
NOT_ONE_GRADIENT = (
    "gradient_descent",
    "two_layer",
    "contrastive",
    "human_preferences",
    "surgical/configs/adapt",
)
VARIANTS = (
    *(f"{NFN}/{name}.py:pod,kind=hnp" for name in HNP),
    f"{NFN}/tickets.py:pod,kind=pt",
    "sciml/probconserv/configs/neural_process.py:pod,pde=stefan,soft=1",
    f"{BOON}/single_step.py:pod,pde=heat,base=mwt",
    f"{BOON}/multi_step.py:pod,pde=cavity",
    f"{BOON}/multi_step.py:pod,pde=cavity,kind=plain",
    "landscape/visualizing/configs/depth.py:pod,depth=110,shortcuts=no",
    "landscape/sam_rank/configs/images.py:pod,network=vit",
)


def most_bytes(spec: str) -> float:
    """Returns the most bytes that are summed over the chips for one parameter: 4 of float32.

    Multipliers are summed as the real matrices [[re, im], [-im, re]] that act on modes, twice their
    numbers; those of boundary blocks along two axes apart from them; and in a multiwavelet kernel
    once for each of nine scales. Of two networks in batches of two sizes one has a gradient a step,
    the other 32.
    """
    if "batch_size" in spec:
        return 4.1 * 33 / 2
    if not spec.startswith("sciml"):
        return 4.1
    return 4 * (18 if "mwt" in spec else 4 if "cavity" in spec else 2.6)


@pytest.mark.aot
@pytest.mark.slow  # the TPU compiler takes half a minute for each; tests/common has one by default
@pytest.mark.parametrize("spec", [*pod_specs(), *VARIANTS])
def test_the_pod_preset_fits_a_v5e_slice(child: Any, spec: str) -> None:
    arguments = ["compile", f"--config={spec}", "--topology=v5e:16x16"]
    measured = ["--evaluate"] if PLANES in spec else []  # planes take the longest
    done = child([*arguments, "--quick", "--json", *measured], seconds=900)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)

    step, *others = report["programs"]
    assert all(p["memory"]["total"] < 0.5 * report["hbm_available"] for p in others)
    if measured:  # points are split over the chips: nothing is exchanged but the values at the end
        plane = others[-1]
        assert plane["name"] == "plane" and plane["roofline"]["collectives"] < 1e-3
        flops = plane["flops"] * report["num_devices"]
        networks = 2 if "batch_size" in spec else 1
        once = others[0]["flops"] / networks  # `evaluate` takes all images on every chip
        assert flops == pytest.approx(251**2 * once, rel=0.1)
    assert report["num_chips"] == 256
    assert step["memory"]["total"] < 0.5 * report["hbm_available"]
    if any(name in spec for name in NOT_ONE_GRADIENT):
        return
    # Data parallel: the gradient is summed over the chips, in the type it is computed in (half
    # precision is 2 bytes); Fourier frequencies have none, metrics are a few bytes more.
    assert set(step["collectives"]) == {"all-reduce"}
    reduced = step["collectives"]["all-reduce"]["bytes"]
    assert 1.79 * report["num_params"] <= reduced
    assert reduced <= most_bytes(spec) * report["num_params"] + 4_096


@pytest.mark.aot
@pytest.mark.slow
def test_preferences_sum_once_for_each_product_and_minibatch(child: Any) -> None:
    """Of the whole method's step, as it is compiled: rollout, labels, ensemble, TRPO."""
    spec = "rlhf/human_preferences/configs/control.py:pod"
    arguments = ["compile", f"--config={spec}", "--topology=v5e:16x16", "--quick", "--json"]
    done = child(arguments, seconds=900)
    assert done.returncode == 0, done.stderr
    sums = json.loads(done.stdout)["programs"][0]["collectives"]["all-reduce"]

    settings, steps = TRPOSettings(), 200
    batches = settings.value_epochs * (steps // settings.value_steps)
    needed = settings.cg_iterations + batches  # 10 + 48
    # Besides: moments of observations, returns and advantages, the gradient, and a try of the
    # line search, whose number of tries is not known before.
    assert needed < sums["count"] <= needed + 10


@pytest.mark.aot
@pytest.mark.slow  # two programs
def test_sam_needs_a_copy_of_the_parameters_more_at_most(child: Any) -> None:
    arguments = ["compile", "--config=landscape/sam_rank/configs/images.py:pod", "--quick"]
    arguments += ["--topology=v5e:16x16", "--json"]
    plain, sam = (
        json.loads(child([*arguments, f"--config.gradient.rho={rho}"], seconds=900).stdout)
        for rho in (0, 0.1)
    )

    one_copy = 4 * plain["num_params"]
    steps = [report["programs"][0] for report in (plain, sam)]
    assert steps[1]["memory"]["total"] - steps[0]["memory"]["total"] <= one_copy
    # Two passes of the network, each of which sums its gradient.
    assert steps[1]["flops"] == pytest.approx(2 * steps[0]["flops"], rel=0.1)
