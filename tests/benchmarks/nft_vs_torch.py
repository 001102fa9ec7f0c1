"""Attention on weight spaces against `NPAttention` of the authors' PyTorch package `nfn`.

    python -m tests.benchmarks.nft_vs_torch --out=results/nft_vs_torch.json --peer=peer/bin/python
    python -m tests.benchmarks.nft_vs_torch --out=results/nft_vs_torch.json --markdown

Measured as in `nfn_vs_torch`, with its flags. A block is layer norm, attention, layer norm and
feed-forward maps with GELU. Our side splits the batch over as many devices as there are cores and
takes few networks of the larger size at a time (`nfn.attention.by_networks`).
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from absl import app

from common import runs
from tests.benchmarks.nfn_vs_torch import (
    HOW_TO,
    MARKDOWN,
    OUT,
    PEER,
    ROUNDS,
    THREADS,
    measure,
    ratios,
)

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
    """Measures, writes JSON and prints the table."""
    if MARKDOWN.value:
        print(markdown(json.loads(Path(OUT.value).read_text())))
        return
    if not PEER.value:
        print(f"nft_vs_torch: skipped, wants --peer=peer/bin/python; to make it: {HOW_TO}")
        return
    peer = str(Path(PEER.value).absolute())  # not resolved: the link is what makes it a venv
    result: dict[str, Any] = {
        "unit": "ms of one call",
        "load_before": os.getloadavg()[0],
        "rounds": ROUNDS.value,
        "threads": {},
    }
    for threads in THREADS.value:
        times, facts = measure(peer, int(threads), CASES, "nft")
        result["threads"][threads] = {"times": times, "ratios": ratios(times)}
        result["torch"] = facts["torch"]["torch"]
    result["load_after"] = os.getloadavg()[0]
    result["environment"] = runs.environment(["python", "-m", "tests.benchmarks.nft_vs_torch"])
    Path(OUT.value).parent.mkdir(parents=True, exist_ok=True)
    Path(OUT.value).write_text(json.dumps(result, indent=1) + "\n")
    print(markdown(result))


if __name__ == "__main__":
    app.run(main)
