"""Training steps of the Attentive Neural Process against the same network in PyTorch.

    python -m venv peer && peer/bin/pip install torch==2.13.0
    PEER=peer/bin/python python -m tests.benchmarks.anp_vs_torch --out=results/anp_vs_torch.json
    python -m tests.benchmarks.anp_vs_torch --out=results/anp_vs_torch.json --markdown

Measured as in `nfn_vs_torch`, with its flags; the cases are in peers/anp_{jax,torch}.py. A step is
the negative ELBO with dropout, backward and Adam on 16 functions of 100 contexts and 100 targets;
ours runs 10 of them in a scan, as the training loop does.
"""

from functools import partial

from absl import app

from tests.benchmarks.nfn_vs_torch import record_cases, side_by_side

CASES = {
    "anp step": "ANP of width 128, training step",
    "anp step cpu": "ANP of width 32, training step",
}


def main(_: list[str]) -> None:
    """Measures all cases."""
    show = partial(side_by_side, CASES)
    record_cases("anp", "ms of one training step", lambda threads: tuple(CASES), show)


if __name__ == "__main__":
    app.run(main)
