"""Attention on weight spaces against `NPAttention` of the authors' PyTorch package `nfn`.

    python -m tests.benchmarks.nft_vs_torch --out=results/nft_vs_torch.json --peer=peer/bin/python
    python -m tests.benchmarks.nft_vs_torch --out=results/nft_vs_torch.json --markdown

Measured as in `nfn_vs_torch`, with its flags. A block is layer norm, attention, layer norm and
feed-forward maps with GELU. Our side splits the batch over as many devices as there are cores and
takes few networks of the larger size at a time (`nfn.attention.by_networks`).
"""

from collections.abc import Mapping
from typing import Any

from absl import app

from tests.benchmarks.nfn_vs_torch import record

SIZES = {
    "64": "SIREN 2-32-32-1, batch 64, 64 channels, 8 heads",
    "32": "SIREN 2-16-16-1, batch 32, 32 channels, 4 heads",
}
CASES = tuple(
    f"{kind} {size} {what}"
    for size in SIZES
    for kind in ("attention", "block")
    for what in ("forward", "both")
)


def markdown(result: Mapping[str, Any]) -> str:
    """Returns the table of a measurement: ms of wall time, and how many times ours is faster."""
    facts = result["environment"]
    lines = [
        f"{facts['cpu']}, jax {facts['packages']['jax']}, torch {result['torch']}, load average "
        f"{result['load_before']:.1f}; ms, least of {result['rounds']} rounds; ratio: "
        "torch / ours. Kept: both told by MALLOC_... to keep freed memory.",
        "",
        "| | threads | ours | torch | ratio | ours, kept | torch, kept | ratio |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for case in CASES:
        kind, size, what = case.split()
        done = "forward" if what == "forward" else "forward + backward"
        for threads, part in result["threads"].items():
            sides = part["times"].get(case)
            if not sides:
                continue
            ours, torch, ours_kept, torch_kept = (
                sides[name]["wall"] for name in ("ours", "torch", "ours, kept", "torch, kept")
            )
            lines.append(
                f"| {kind}, {SIZES[size]}, {done} | {threads} | {ours:.3g} | {torch:.3g} | "
                f"{torch / ours:.1f} | {ours_kept:.3g} | {torch_kept:.3g} | "
                f"{torch_kept / ours_kept:.1f} |"
            )
    return "\n".join(lines)


def main(_: list[str]) -> None:
    """Measures all cases."""
    record("nft", "ms of one call", lambda threads: CASES, markdown)


if __name__ == "__main__":
    app.run(main)
