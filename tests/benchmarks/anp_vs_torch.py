"""Training steps of the Attentive Neural Process against the same network in PyTorch.

    python -m venv peer && peer/bin/pip install torch==2.13.0
    PEER=peer/bin/python python -m tests.benchmarks.anp_vs_torch \
        --out=results/anp_vs_torch.json
    python -m tests.benchmarks.anp_vs_torch --out=results/anp_vs_torch.json \
        --markdown

Measured as in `nfn_vs_torch`, with its flags; the cases are in peers/anp_{jax,torch}.py. A step is
the negative ELBO with dropout, backward and Adam on 16 functions of 100 contexts and 100 targets;
ours runs 10 of them in a scan, as the training loop does.
"""

from collections.abc import Mapping
from typing import Any

from absl import app

from tests.benchmarks.nfn_vs_torch import preamble, record, side_by_side

CASES = {
    "anp step": "ANP of width 128, training step",
    "anp step cpu": "ANP of width 32, training step",
}


def markdown(result: Mapping[str, Any]) -> str:
    """Returns the table of a measurement: ms of wall time and ratios."""
    how = (
        f"ms of wall time, least of {result['rounds']} rounds. Ratio: torch / ours. Kept: both "
        "told by MALLOC_... to keep freed memory."
    )
    return "\n".join([preamble(result, how), *side_by_side(result, CASES)])


def main(_: list[str]) -> None:
    """Measures all cases."""
    record("anp", "ms of one training step", lambda threads: tuple(CASES), markdown)


if __name__ == "__main__":
    app.run(main)
