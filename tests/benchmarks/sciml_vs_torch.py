"""FNO and BOON against the FNO of the PyTorch package neuraloperator, and BOON against its base.

    python -m venv peer && peer/bin/pip install torch==2.13.0 neuraloperator==2.0.0
    PEER=peer/bin/python python -m tests.benchmarks.sciml_vs_torch --out=results/sciml_vs_torch.json
    python -m tests.benchmarks.sciml_vs_torch --out=results/sciml_vs_torch.json --markdown

Measured as in `nfn_vs_torch`, with its flags. A step is forward, backward and Adam on a batch of
20; ours runs 10 of them in a scan, as the training loop does. The peer's default network has a
channel MLP and a wider lifting; "plain" is without both, layer for layer closest to ours.
"""

from collections.abc import Mapping
from typing import Any

from absl import app

from tests.benchmarks.nfn_vs_torch import preamble, record_cases

SIZES = {
    "fno1d": "1-D, 500 points, width 64, 16 modes",
    "fno2d": "space x time, 128 x 25, width 32, 12 x 12 modes",
}
KINDS = ("default", "plain", "boon", "boon_value")
CASES = tuple(
    f"{size} {what} {kind}" for size in SIZES for what in ("step", "forward") for kind in KINDS
)


def markdown(result: Mapping[str, Any]) -> str:
    """Returns the table of a measurement: ms of wall time and ratios."""
    lines = [
        preamble(
            result,
            f"ms of wall time, least of {result['rounds']} rounds. Ratio: neuraloperator / ours. "
            "BOON: times our FNO in the same run.",
        ),
        "",
        "| | threads | FNO | neuraloperator | ratio | plain | ratio | BOON | direct target |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for size, title in SIZES.items():
        for what in ("step", "forward"):
            for threads, part in result["threads"].items():
                wall = {
                    kind: {
                        side: numbers["wall"]
                        for side, numbers in part["times"].get(f"{size} {what} {kind}", {}).items()
                    }
                    for kind in KINDS
                }
                if not all(wall.values()):
                    continue
                ours = min(wall["default"]["ours"], wall["plain"]["ours"])
                default, plain = wall["default"]["torch"], wall["plain"]["torch"]
                boon, value = wall["boon"]["ours"], wall["boon_value"]["ours"]
                lines.append(
                    f"| {title}, {'training step' if what == 'step' else 'inference'} | {threads} "
                    f"| {ours:.3g} | {default:.3g} | {default / ours:.1f} | {plain:.3g} "
                    f"| {plain / ours:.1f} | {boon:.3g} ({boon / ours:.2f} x) "
                    f"| {value:.3g} ({value / ours:.2f} x) |"
                )
    return "\n".join(lines)


def main(_: list[str]) -> None:
    """Measures all cases."""
    unit = "ms of one call, or of one training step"
    record_cases("sciml", unit, lambda threads: CASES, markdown)


if __name__ == "__main__":
    app.run(main)
