"""Learning from preferences on a pendulum against imitation and Stable-Baselines3.

    python -m venv peer && peer/bin/pip install torch==2.13.0 imitation==1.0.1
    PEER=peer/bin/python python -m tests.benchmarks.rlhf_vs_torch --out=results/rlhf_vs_torch.json
    python -m tests.benchmarks.rlhf_vs_torch --out=results/rlhf_vs_torch.json --markdown

Both sides on the same cores, in turns, with the flags of `nfn_vs_torch`; the least time counts, and
CPU time is given besides, which a busy machine changes less. The pendulum is the same (ours has no
cost of torque). A whole run goes on until its true return is -250: the peer as in its
documented example, with eight environments and 200 comparisons of clips of 100 steps over 60
iterations; ours by the config of the table. The time of evaluations is left out, that of compiling
is given apart.
"""

import os
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from absl import app

from tests.benchmarks.nfn_vs_torch import FOLDER, PEER, REPOSITORY, ROUNDS, THREADS, Side, preamble
from tests.measurements import MARKDOWN, record

HOW_TO = "python -m venv peer && peer/bin/pip install torch==2.13.0 imitation==1.0.1"
RATES = {
    "rl": "PPO on a learned reward, 8 environments, environment steps",
    "rl trpo": "TRPO on a learned reward, 32 environments, environment steps (peer: PPO)",
    "reward 1": "one reward model 32-32, 32 pairs of 25 steps, updates",
    "reward 3": "three reward models 64-64, 32 pairs of 25 steps, updates of all three",
}
AGAINST = {"rl trpo": "rl"}  # cases that only we have, and what they stand against


def measure(peer: str, threads: int) -> dict[str, Any]:
    """Returns the least time of every case, the whole runs, and what the sides say of it."""
    cpus = sorted(os.sched_getaffinity(0))[-threads:]
    commands = {
        "ours": ([sys.executable, "-m", "tests.benchmarks.peers.rlhf_jax"], REPOSITORY),
        "torch": ([peer, "-m", "rlhf_torch"], FOLDER),
    }
    times: dict[str, dict[str, Any]] = {case: {} for case in RATES}
    with ExitStack() as stack:
        sides = {
            name: stack.enter_context(Side(command, cwd, cpus, keep=False))
            for name, (command, cwd) in commands.items()
        }
        for _ in range(ROUNDS.value):
            for case, best in times.items():
                for name, side in sides.items():
                    if (found := side.time(case)) is not None:
                        old = best.get(name, found)
                        best[name] = {clock: min(found[clock], old[clock]) for clock in found}
        whole = {name: side.once("whole") for name, side in sides.items()}
        facts = {name: side.facts for name, side in sides.items()}
    runs = {name: found and found["value"] for name, found in whole.items()}
    return {"times": times, "whole": runs, "sides": facts}


def rates(part: Mapping[str, Any], clock: str) -> dict[str, tuple[float, float]]:
    """Returns units a second, ours and the peer's, of every case and of the whole method."""
    found = {}
    for case in RATES:
        ours = part["times"][case]["ours"][clock]
        theirs = part["times"][AGAINST.get(case, case)]["torch"][clock]
        found[case] = (1e3 / ours, 1e3 / theirs)
    ends = [part["whole"][side]["curve"][-1] for side in ("ours", "torch")]
    ours, theirs = (end["steps"] / end[clock] for end in ends)
    return {**found, "whole": (ours, theirs)}


def markdown(result: Mapping[str, Any]) -> str:
    """Returns the table of a measurement."""
    titles = {**RATES, "whole": "the whole method, environment steps"}
    lines = [
        preamble(result, f"a second; least of {result['rounds']} rounds. Ratio: ours / peer."),
        "",
        "| | threads | ours | peer | ratio | ratio of CPU time |",
        "|---|---|---|---|---|---|",
    ]
    for threads, part in result["threads"].items():
        wall, cpu = rates(part, "wall"), rates(part, "cpu")
        for case, title in titles.items():
            (ours, theirs), (ours_cpu, theirs_cpu) = wall[case], cpu[case]
            lines.append(
                f"| {title} | {threads} | {ours:,.0f} | {theirs:,.0f} | {ours / theirs:.1f} "
                f"| {ours_cpu / theirs_cpu:.1f} |"
            )
    lines.append("")
    for threads, part in result["threads"].items():
        for side, name in (("ours", "ours"), ("torch", "imitation")):
            run = part["whole"][side]
            end, best = run["curve"][-1], max(point["return"] for point in run["curve"])
            what = "reached -250" if run["solved"] else f"best return {best:.0f}, given up"
            line = (
                f"- {name}, {threads} threads: {what} after {end['steps']:,.0f} steps, "
                f"{end['wall']:.1f} s ({end['cpu']:.1f} CPU-s)"
            )
            if "compile" in run:
                line += "; compiling {wall:.1f} s ({cpu:.1f} CPU-s)".format(**run["compile"])
            lines.append(f"{line}.")
    return "\n".join(lines)


def main(_: list[str]) -> None:
    """Measures all cases."""

    def measure_all() -> dict[str, Any]:
        peer = str(Path(PEER.value).absolute())  # not resolved: the link is what makes it a venv
        before = os.getloadavg()[0]
        parts = {threads: measure(peer, int(threads)) for threads in THREADS.value}
        torch = next(iter(parts.values()))["sides"]["torch"]["torch"]
        facts = {"unit": "ms of one unit", "rounds": ROUNDS.value, "torch": torch}
        loads = {"load_before": before, "load_after": os.getloadavg()[0]}
        return {**facts, **loads, "threads": parts}

    if PEER.value or MARKDOWN.value:
        record("rlhf_vs_torch", measure_all, markdown)
    else:
        print(f"rlhf_vs_torch: skipped, wants --peer=peer/bin/python; to make it: {HOW_TO}")


if __name__ == "__main__":
    app.run(main)
