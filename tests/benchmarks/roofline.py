"""How close the hot pieces come to what this machine can do, on one core and on two.

    python -m tests.benchmarks.roofline --out=results/roofline.json
    python -m tests.benchmarks.roofline --out=results/roofline.json --markdown

Two limits are measured in the same processes and in turns with the pieces: float32 products of
1024 x 1024 matrices, and a x + y of arrays in memory. The limit of a piece is the longer of its
least FLOPs (its products) by the first and its least bytes (what comes in and goes out) by the
second. One core: CPU time of the process, which other load changes least; two: wall time. Freed
memory is kept, as `lab` does. Where the time goes is from a trace on one core. Beside a peer: how
many times its time is ours, from the run in which both took turns (results/*_vs_torch.json).
"""

import os
import sys
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from absl import app

from common.files.json_files import read_json
from tests.benchmarks.nfn_vs_torch import CASES, REPOSITORY, ROUNDS, THREADS, Side
from tests.measurements import OUT, record

FORWARD, BACKWARD, MEMORY = 0.75, 0.65, 0.60  # goals: shares of the limit
LIMITS = ("matmul", "stream")
PEERS = {  # piece: comparison with a peer, and its case there
    **{
        f"{kind} layer {what}": ("nfn_vs_torch", f"{kind} 64 {what}")
        for kind in ("np", "hnp", "pt")
        for what in ("forward", "both")
    },
    "np layer, 512 channels forward": ("nfn_vs_torch", "np 512 forward"),
    "np layer, 512 channels both": ("nfn_vs_torch", "np 512 both"),
    **{
        f"{kind} {what}": ("nft_vs_torch", f"{kind} 64 {what}")
        for kind in ("attention", "block")
        for what in ("forward", "both")
    },
    "np classifier step": ("nfn_vs_torch", "classifier"),
    "siren fit step": ("nfn_vs_torch", "siren"),
    **{
        f"{size} {what}": ("sciml_vs_torch", f"{size} {what} default")
        for size in ("fno1d", "fno2d")
        for what in ("forward", "step")
    },
    "anp step": ("anp_vs_torch", "anp step"),
    "ppo environment step": ("rlhf_vs_torch", "rl"),
    "reward model step": ("rlhf_vs_torch", "reward 1"),
}


def measure(threads: int) -> dict[str, Any]:
    """Returns the limits of so many cores, and times, costs and profile of every piece there."""
    cpus = sorted(os.sched_getaffinity(0))[-threads:]
    command = [sys.executable, "-m", "tests.benchmarks.peers.roofline_jax"]
    clock = "cpu" if threads == 1 else "wall"
    with ExitStack() as stack:
        side = stack.enter_context(Side(command, REPOSITORY, cpus, keep=True))
        names = side.facts["pieces"]
        wanted = [n for n in names if not CASES.value or any(word in n for word in CASES.value)]
        times: dict[str, float] = {}
        peaks = dict.fromkeys(LIMITS, 0.0)
        for _ in range(ROUNDS.value):
            for name in (*LIMITS, *wanted):
                print(f"{threads} threads: {name}", file=sys.stderr)
                found = side.time(name)
                assert found is not None, name
                times[name] = min(found[clock], times.get(name, found[clock]))
                if name in LIMITS:
                    peaks[name] = found["flops"] / times[name] / 1e6
        gflops, gbytes = peaks["matmul"], 6 * peaks["stream"]  # 12 bytes for 2 FLOPs
        rows = {}
        for name in wanted:
            rows[name] = against(_told(side, f"cost {name}"), times[name], gflops, gbytes)
            if threads == 1:
                rows[name]["profile"] = _told(side, f"profile {name}")
    return {"gflops": gflops, "gbytes": gbytes, "pieces": rows}


def _told(side: Side, case: str) -> Any:
    """Returns what a case that is run once gives."""
    found = side.once(case)
    assert found is not None, case
    return found["value"]


def against(cost: Mapping[str, Any], ms: float, gflops: float, gbytes: float) -> dict[str, Any]:
    """Returns a piece beside its limit.

    Args:
        cost: Its least FLOPs and bytes.
        ms: Its time.
        gflops: Products of the machine, 10^9 FLOPs a second.
        gbytes: Memory of the machine, 10^9 bytes a second.
    """
    bounds = {"products": cost["flops"] / gflops / 1e6, "memory": cost["bytes"] / gbytes / 1e6}
    kind = max(bounds, key=lambda name: bounds[name])
    return {**cost, "ms": ms, "limit ms": bounds[kind], "limit": kind, "share": bounds[kind] / ms}


def goal(name: str, limit: str) -> float:
    """Returns the share of the limit that a piece should reach."""
    if limit == "memory":
        return MEMORY
    return FORWARD if name.endswith("forward") else BACKWARD


def reason(row: Mapping[str, Any]) -> str:
    """Returns what keeps a piece from its limit, from its profile, in one sentence."""
    parts = row["profile"]
    rest = {kind: share for kind, share in parts.items() if kind != "products"}
    largest = ", ".join(f"{kind} {share:.0%}" for kind, share in _first(rest, 2))
    inside = parts.get("products", 0.0)
    if row["limit"] == "products":
        rate = min(row["share"] / inside, 1.0) if inside else 0.0  # a trace is no exact clock
        return f"{inside:.0%} of its time are products, at {rate:.0%} of the peak; else {largest}"
    return f"products {inside:.0%}, {largest}"


def beside_peer(name: str, results: Path) -> str:
    """Returns how many times the peer's time is ours, "" if they were not compared.

    On one core where that was measured, by CPU time; else on two, by wall time.
    """
    file, case = PEERS.get(name, ("", ""))
    path = results / f"{file}.json"
    if not file or not path.exists():
        return ""
    threads, part = next(iter(read_json(path)["threads"].items()))
    sides = part["times"].get(case, {})
    both = [sides.get(f"{who}, kept") or sides.get(who) for who in ("torch", "ours")]
    if None in both:
        return ""
    clock = "cpu" if threads == "1" else "wall"
    theirs, ours = (side[clock] for side in both)
    return f"{theirs / ours:.2g}"


def _first(parts: Mapping[str, float], count: int) -> Iterable[tuple[str, float]]:
    return sorted(parts.items(), key=lambda item: -item[1])[:count]


def markdown(result: Mapping[str, Any]) -> str:
    """Returns the table of a measurement."""
    threads = result["threads"]
    limits = "; ".join(
        f"{count} thread{'s' if count != '1' else ''}: {part['gflops']:.0f} GFLOP/s, "
        f"{part['gbytes']:.1f} GB/s"
        for count, part in threads.items()
    )
    lines = [
        f"{result['environment']['cpu']}, jax {result['environment']['packages']['jax']}, load "
        f"average {result['load_before']:.1f} to {result['load_after']:.1f}; {limits}.",
        "",
        "| piece | limited by | "
        + " | ".join(f"ms, {n} | limit | share" for n in threads)
        + " | goal | peer / ours | what keeps it from there |",
        "|---" * (5 + 3 * len(threads)) + "|",
    ]
    for name, row in threads["1"]["pieces"].items():
        sides = [part["pieces"][name] for part in threads.values()]
        shown = " | ".join(
            f"{side['ms']:.3g} | {side['limit ms']:.3g} | {side['share']:.0%}" for side in sides
        )
        wanted = goal(name, row["limit"])
        why = "" if row["share"] >= wanted else reason(row)
        peer = beside_peer(name, Path(OUT.value).parent)
        lines.append(f"| {name} | {row['limit']} | {shown} | {wanted:.0%} | {peer} | {why} |")
    return "\n".join(lines)


def measure_all() -> dict[str, Any]:
    """Returns the pieces on one core and on two."""
    load = os.getloadavg()[0]
    found = {count: measure(int(count)) for count in THREADS.value}
    return {
        "rounds": ROUNDS.value,
        "load_before": load,
        "load_after": os.getloadavg()[0],
        "threads": found,
    }


def main(_: list[str]) -> None:
    """Measures all pieces, or prints an earlier measurement."""
    record("roofline", measure_all, markdown)


if __name__ == "__main__":
    app.run(main)
