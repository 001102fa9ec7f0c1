"""Our layers and factories against PyTorch with the package `nfn` of the paper's authors.

    python -m venv peer && peer/bin/pip install torch==2.13.0 nfn==0.1.2 einops numpy
    python -m tests.benchmarks.nfn_vs_torch --out=results/nfn_vs_torch.json --peer=peer/bin/python
    python -m tests.benchmarks.nfn_vs_torch --out=results/nfn_vs_torch.json --markdown

Two processes on the same cores take turns, case by case; the least time over all rounds counts.
Gradients are those of the parameters. Both sides also run with an allocator that keeps freed
memory (KEEP): by default glibc returns big buffers to the system, so that every call faults all
their pages in anew. The cases are in peers/.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from absl import app, flags

from tests.measurements import MARKDOWN, record

PEER = flags.DEFINE_string(
    "peer", os.environ.get("PEER", ""), "Python of an environment with torch and the package nfn"
)
THREADS = flags.DEFINE_list("threads", ["1", "2"], "Cores and threads, one measurement for each")
ROUNDS = flags.DEFINE_integer("rounds", 5, "Turns of every case", lower_bound=1)
SECONDS = flags.DEFINE_float("seconds", 0.4, "Duration of one turn")
CASES = flags.DEFINE_list("cases", [], "Only cases with one of these words in their names")

FOLDER = Path(__file__).resolve().parent / "peers"
REPOSITORY = FOLDER.parent.parent.parent
HOW_TO = (
    "python -m venv peer && peer/bin/pip install torch==2.13.0 nfn==0.1.2 einops numpy "
    "neuraloperator==2.0.0 loss-landscapes==3.0.6 pyhessian==0.1 curvlinops-for-pytorch==3.0.1 "
    "hessian-eigenthings==1.0.0a5 scipy"
)
KEEP = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": str(2**31 - 1),
    "MALLOC_TRIM_THRESHOLD_": str(2**31 - 1),
}

LAYERS = tuple(
    f"{kind} {channels} {what}"
    for channels in (64, 512)
    for kind in ("np", "hnp", "pt")
    for what in ("forward", "both")
)
WHOLE = ("siren", "siren jnp.sin", "zoo", "zoo together", "classifier")
SINGLE = ("siren", "siren jnp.sin", "zoo", "zoo together")  # per core, so with one thread only


class Side:
    """A process that times cases, with its cores and its allocator."""

    def __init__(self, command: list[str], cwd: Path, cpus: list[int], *, keep: bool):
        inherited = {k: v for k, v in os.environ.items() if k not in (*KEEP, "PYTHONPATH")}
        env = {**inherited, "JAX_PLATFORMS": "cpu", **(KEEP if keep else {})}
        self._process = subprocess.Popen(
            ["taskset", "-c", ",".join(map(str, cpus)), *command],
            cwd=cwd,
            env=env,
            text=True,
            bufsize=1,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        self.facts = self._read()

    def __enter__(self) -> "Side":
        return self

    def __exit__(self, *exception: object) -> None:
        self._process.kill()
        self._process.wait()

    def time(self, case: str) -> dict[str, float] | None:
        """Returns the best time of one turn, or None if this side has no such case."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([case, SECONDS.value]) + "\n")
        return self._read()

    def once(self, case: str) -> dict[str, Any] | None:
        """Returns the times of a single run and what it returned, or None if there is no such."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([case, None]) + "\n")
        return self._read()

    def _read(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self._process.args} ended with {self._process.wait()}")
        return json.loads(line)


def measure(
    peer: str, threads: int, cases: Sequence[str], name: str = "nfn"
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns {case: {side: {wall, cpu, flops}}} and what the sides say about themselves.

    Args:
        peer: Python of the peer's environment.
        threads: Number of cores, the last of this process.
        cases: Names of cases; one that no side has gives {}.
        name: The cases are in peers/<name>_jax.py and peers/<name>_torch.py.
    """
    cpus = sorted(os.sched_getaffinity(0))[-threads:]
    ours = [sys.executable, "-m", f"tests.benchmarks.peers.{name}_jax"]
    theirs = [peer, "-m", f"{name}_torch"]
    if CASES.value:
        cases = [case for case in cases if any(word in case for word in CASES.value)]
    best: dict[str, dict[str, dict[str, float]]] = {case: {} for case in ("matmul", *cases)}
    with ExitStack() as stack:
        sides = {
            name: stack.enter_context(Side(command, cwd, cpus, keep=keep))
            for name, command, cwd, keep in (
                ("ours", ours, REPOSITORY, False),
                ("torch", theirs, FOLDER, False),
                ("ours, kept", ours, REPOSITORY, True),
                ("torch, kept", theirs, FOLDER, True),
            )
        }
        for _ in range(ROUNDS.value):
            for case, times in best.items():
                for name, side in sides.items():
                    found = side.time(case)
                    if found is not None:
                        before = times.get(name, found)
                        times[name] = {key: min(found[key], before[key]) for key in found}
        return best, {name: side.facts for name, side in sides.items()}


def ratios(times: Mapping[str, Mapping[str, Mapping[str, float]]]) -> dict[str, dict[str, float]]:
    """Returns, case by case, torch's time over ours, and our share of the matmul peak."""
    peak = times["matmul"]["ours"]["flops"] / times["matmul"]["ours"]["wall"]
    found = {}
    for case, sides in times.items():
        ours = sides["ours"]
        found[case] = {
            f"{name} {clock}": side[clock] / ours[clock]
            for name, side in sides.items()
            if name != "ours"
            for clock in ("wall", "cpu")
        }
        if {"ours, kept", "torch, kept"} <= sides.keys():
            kept = sides["torch, kept"]["wall"] / sides["ours, kept"]["wall"]
            found[case]["both kept wall"] = kept
        if ours["flops"]:
            fastest = min(ours["wall"], sides.get("ours, kept", ours)["wall"])
            found[case]["share of peak"] = ours["flops"] / fastest / peak
    return found


def preamble(result: Mapping[str, Any], how: str) -> str:
    """Returns the machine and versions of a measurement, and `how` it is to be read."""
    facts = result["environment"]
    return (
        f"{facts['cpu']}, jax {facts['packages']['jax']}, torch {result['torch']}, load average "
        f"{result['load_before']:.1f}; {how}"
    )


def side_by_side(titles: Mapping[str, str], result: Mapping[str, Any]) -> str:
    """Returns the table of the cases with these titles: ms of both sides with either allocator."""
    lines = [
        preamble(
            result,
            f"ms of wall time, least of {result['rounds']} rounds; ratio: torch / ours. Kept: both "
            "told by MALLOC_... to keep freed memory.",
        ),
        "",
        "| | threads | ours | torch | ratio | ours, kept | torch, kept | ratio |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for case, title in titles.items():
        for threads, part in result["threads"].items():
            sides = part["times"].get(case, {})
            if "ours" not in sides or "torch" not in sides:
                continue
            ours, torch, ours_kept, torch_kept = (
                sides[name]["wall"] for name in ("ours", "torch", "ours, kept", "torch, kept")
            )
            lines.append(
                f"| {title} | {threads} | {ours:.3g} | {torch:.3g} | {torch / ours:.1f} "
                f"| {ours_kept:.3g} | {torch_kept:.3g} | {torch_kept / ours_kept:.1f} |"
            )
    return "\n".join(lines)


def markdown(result: Mapping[str, Any]) -> str:
    """Returns the table of a measurement: ms of wall time, and how many times ours is faster."""
    lines = [
        preamble(
            result,
            f"ms (networks: ms per step of one network), least of {result['rounds']} rounds; "
            "ratio: torch / ours. Kept: both told by MALLOC_... to keep freed memory; else big "
            "buffers are faulted in at every call.",
        ),
        "",
        "| | threads | ours | torch | ratio | ours, kept | torch, kept | ratio | share of peak |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for case in LAYERS + WHOLE:
        for threads, part in result["threads"].items():
            sides = part["times"].get(case)
            if sides is None or "ours" not in sides or "torch" not in sides:
                continue
            ratio, share = part["ratios"][case], part["ratios"][case].get("share of peak")
            kept = [sides[name]["wall"] for name in ("ours, kept", "torch, kept")]
            shown = f"{share:.0%}" if share else ""
            lines.append(
                f"| {title(case)} | {threads} | {sides['ours']['wall']:.3g} | "
                f"{sides['torch']['wall']:.3g} | {ratio['torch wall']:.1f} | {kept[0]:.3g} | "
                f"{kept[1]:.3g} | {ratio['both kept wall']:.1f} | {shown} |"
            )
    return "\n".join(lines)


def title(case: str) -> str:
    """Returns what a case is called in the table."""
    titles = {
        "siren": "SIREN 2-32-32-1 fit, 784 points (torch.func)",
        "siren jnp.sin": "the same with jnp.sin",
        "zoo": "CNN zoo, batch 64 (torch: one eager network)",
        "zoo together": "CNN zoo, batch 64 (torch: 16 networks, torch.func)",
        "classifier": "classifier of Table 3, preset cpu, training step",
    }
    if case in titles:
        return titles[case]
    kind, channels, what = case.split()
    batch = {"64": 64, "512": 8}[channels]
    return f"{kind.upper()}, {channels} channels, batch {batch}, " + (
        "forward" if what == "forward" else "forward + backward"
    )


def add_missing(times: dict[str, Any]) -> None:
    """Lets the case that only one side has be compared with what it stands against."""
    for case, name, other in (("siren jnp.sin", "torch", "siren"), ("zoo together", "ours", "zoo")):
        for suffix in (", kept", ""):
            if case in times and f"{name}{suffix}" in times.get(other, {}):
                times[case].setdefault(f"{name}{suffix}", times[other][f"{name}{suffix}"])


def record_cases(
    name: str, unit: str, cases: Callable[[str], Sequence[str]], show: Callable[[Any], str]
) -> None:
    """Measures with the flags of this file, see `tests.measurements.record`.

    Args:
        name: The cases are in peers/<name>_jax.py and peers/<name>_torch.py.
        unit: What a time is the time of.
        cases: Number of threads -> names of cases.
        show: Content of the JSON file -> what is printed.
    """

    def measure_all() -> dict[str, Any]:
        peer = str(Path(PEER.value).absolute())  # not resolved: the link is what makes it a venv
        result: dict[str, Any] = {
            "unit": unit,
            "load_before": os.getloadavg()[0],
            "rounds": ROUNDS.value,
            "threads": {},
        }
        for threads in THREADS.value:
            times, facts = measure(peer, int(threads), cases(threads), name)
            add_missing(times)
            result["threads"][threads] = {"times": times, "ratios": ratios(times)}
            result["torch"] = facts["torch"]["torch"]
        return result | {"load_after": os.getloadavg()[0]}

    if PEER.value or MARKDOWN.value:
        record(f"{name}_vs_torch", measure_all, show)
    else:
        print(f"{name}_vs_torch: skipped, wants --peer=peer/bin/python; to make it: {HOW_TO}")


def main(_: list[str]) -> None:
    """Measures all cases."""

    def cases(threads: str) -> Sequence[str]:
        return [case for case in LAYERS + WHOLE if threads == "1" or case not in SINGLE]

    record_cases("nfn", "ms of one call, or of one step of one network", cases, markdown)


if __name__ == "__main__":
    app.run(main)
