"""What the step of every pod preset costs on TPU slices that are not here, as one JSON file.

    python -m tests.pods.budgets --out=results/pod_budgets.json
    python -m tests.pods.budgets --out=results/pod_budgets.json --topologies=v4:4x8x8,v6e:16x16
    python -m tests.pods.budgets --out=results/pod_budgets.json --weak_scaling
    python -m tests.pods.budgets --out=results/pod_budgets.json --markdown
    python -m tests.pods.budgets --out=results/pod_budgets.json --coverage

Each is `lab compile --quick` in a process of its own, half a minute of a CPU. What is in the file
already is left, unless the preset has changed since; so the command goes on where it was stopped.
Estimated seconds are a roofline: bfloat16 peak, memory bandwidth, links between chips in rings,
nothing overlaps (`common/pods/chips.py`, `aot_report.py`). Nothing was measured on a TPU.
"""

import json
import subprocess
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from absl import flags

from common.config import config_hash, load_config
from common.errors import DoesNotFit, UserError
from common.files.json_files import read_json, write_json
from common.papers import REPOSITORY
from common.pods.chips import parse_topology, require_compiler
from common.provenance.environment import environment
from tests.variants import pod_specs

FLAGS = flags.FlagValues()  # not those of other commands that a test loads
OUT = flags.DEFINE_string(
    "out", "results/pod_budgets.json", "JSON file to write and to go on with", flag_values=FLAGS
)
TOPOLOGIES = flags.DEFINE_list(
    "topologies", ["v5e:16x16"], "Slices, as `lab compile` names them", flag_values=FLAGS
)
ONLY = flags.DEFINE_string("only", "", "Presets whose path holds this text", flag_values=FLAGS)
WEAK = flags.DEFINE_boolean(
    "weak_scaling", False, "One preset on 1 to 256 chips instead", flag_values=FLAGS
)
MARKDOWN = flags.DEFINE_boolean(
    "markdown", False, "Print the tables of the file", flag_values=FLAGS
)
COVERAGE = flags.DEFINE_boolean(
    "coverage", False, "Print how many presets the file has, by topology", flag_values=FLAGS
)

# Rows of a batch on every chip stay the same; its pod preset has four of them on 256 chips.
WEAK_SPEC, ROWS = "sciml/boon/configs/single_step.py:pod", 4
SLICES = {"v5e:1x1": 1, "v5e:2x2": 4, "v5e:4x4": 16, "v5e:8x8": 64, "v5e:16x16": 256}


def budget(spec: str, topology: str, *overrides: str) -> dict[str, Any]:
    """Compiles one preset for one slice; returns what it costs, or the line that says why not.

    Raises:
        SystemExit: With the last line of `lab compile`, if that has a fault.
    """
    words = ["compile", f"--config={spec}", f"--topology={topology}", "--quick", "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "common.lab.cli", *words, *overrides],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    config = load_config(str(REPOSITORY / spec))
    facts: dict[str, Any] = {"config_hash": config_hash(config)}
    said = done.stderr.strip().splitlines()
    if done.returncode in (UserError.exit_code, DoesNotFit.exit_code):
        return {**facts, "refused": said[-1]}
    if done.returncode:  # a fault of ours: nothing is known of the preset
        raise SystemExit(said[-1])
    report = json.loads(done.stdout)
    step = report["programs"][0]
    seconds = step["roofline"]["step"]
    return {
        **facts,
        "chips": report["num_chips"],
        "batch": report["global_batch"],
        "parameters": report["num_params"],
        "memory": step["memory"]["total"],
        "memory_usable": report["hbm_available"],
        "flops": step["flops"],
        "traffic": step["bytes_accessed"],
        "collectives": {
            kind: {"count": one["count"], "bytes": one["bytes"]}
            for kind, one in step["collectives"].items()
        },
        "unknown_loops": step["unknown_loops"],
        "roofline_seconds": seconds,
        "chip_hours": seconds * config.num_steps * report["num_chips"] / 3600,
    }


def check(topologies: list[str]) -> None:
    """Checks that all of these can be compiled for.

    Raises:
        UserError: If one is no topology, or its compiler is not installed.
    """
    for topology in topologies:
        require_compiler(parse_topology(topology))


def is_current(known: Mapping[str, Any], spec: str) -> bool:
    """Returns whether a budget is that of the preset as it is now."""
    return known.get("config_hash") == config_hash(load_config(str(REPOSITORY / spec)))


def missing(result: Mapping[str, Any], specs: list[str], topologies: list[str]) -> list[str]:
    """Returns "spec topology" of all that is to be compiled."""
    wanted = [f"{spec} {topology}" for topology in topologies for spec in specs]
    budgets = result["budgets"]
    return [name for name in wanted if not is_current(budgets.get(name, {}), name.split()[0])]


def markdown(result: Mapping[str, Any]) -> str:
    """Returns the budgets, and the weak scaling if it is there, as tables."""
    lines = ["| preset | slice | memory a chip | FLOPs a chip | collectives | step | chip-hours |"]
    lines += ["|---|---|---|---|---|---|---|"]
    for name, one in result["budgets"].items():
        spec, topology = name.split()
        place = spec.replace("/configs", "").replace(".py:pod", "").replace("/", ".")
        if "refused" in one:
            lines.append(f"| {place} | {topology} | {one['refused']} | | | | |")
            continue
        share = one["memory"] / one["memory_usable"]
        sums = ", ".join(
            f"{c['count']} {kind}, {c['bytes'] / 1e6:.3g} MB"
            for kind, c in one["collectives"].items()
        )
        cells = (
            f"{one['memory'] / 2**20:.0f} MiB ({share:.1%})",
            f"{one['flops']:.3g}",
            sums or "none",
        )
        times = (f"{1e3 * one['roofline_seconds']:.3g} ms", f"{one['chip_hours']:.3g}")
        lines.append(f"| {' | '.join([place, topology, *cells, *times])} |")
    weak = result.get("weak_scaling", {})
    if weak:
        lines += ["", f"Weak scaling of {WEAK_SPEC}, {ROWS} rows a chip:", ""]
        lines += ["| chips | step | collectives | efficiency |", "|---|---|---|---|"]
        alone = weak[min(weak, key=lambda t: weak[t]["chips"])]["roofline_seconds"]
        for one in sorted(weak.values(), key=lambda one: one["chips"]):
            seconds, sums = one["roofline_seconds"], one["collectives"].values()
            sent = sum(c["bytes"] for c in sums) / 1e6
            ratio = f"{alone / seconds:.0%}"
            lines.append(f"| {one['chips']} | {1e3 * seconds:.3g} ms | {sent:.3g} MB | {ratio} |")
    return "\n".join(lines)


def coverage(result: Mapping[str, Any]) -> str:
    """Returns how many of all pod presets were compiled for each topology, and what they take."""
    lines = ["| slice | presets compiled | largest share of a chip's memory | refused |"]
    lines += ["|---|---|---|---|"]
    specs = pod_specs()
    found: dict[str, dict[str, Any]] = {}
    for name, one in result["budgets"].items():
        spec, topology = name.split()
        found.setdefault(topology, {})[spec] = one
    for topology, budgets in sorted(found.items(), key=lambda item: -len(item[1])):
        fit = [one for one in budgets.values() if "refused" not in one]
        largest = max((one["memory"] / one["memory_usable"] for one in fit), default=0.0)
        cells = (f"{len(fit)} of {len(specs)}", f"{largest:.1%}", str(len(budgets) - len(fit)))
        lines.append(f"| {' | '.join([topology, *cells])} |")
    return "\n".join(lines)


def main() -> None:
    """Compiles what is missing, writing the file after every program."""
    there = Path(OUT.value).exists()
    result = read_json(OUT.value) if there else {"quick": True, "budgets": {}, "weak_scaling": {}}
    if MARKDOWN.value:
        print(markdown(result))
        return
    if COVERAGE.value:
        print(coverage(result))
        return
    result["environment"] = environment(["python", "-m", "tests.pods.budgets"])
    result["libtpu"] = metadata.version("libtpu")
    if WEAK.value:
        for topology, chips in SLICES.items():
            if not is_current(result["weak_scaling"].get(topology, {}), WEAK_SPEC):
                rows = f"--config.batch_size={ROWS * chips}"
                result["weak_scaling"][topology] = budget(WEAK_SPEC, topology, rows)
                write_json(OUT.value, result)
        return
    check(TOPOLOGIES.value)
    specs = [spec for spec in pod_specs() if ONLY.value in spec]
    for name in missing(result, specs, TOPOLOGIES.value):
        result["budgets"][name] = budget(*name.split())
        write_json(OUT.value, result)
        print(f"{name}: {result['budgets'][name].get('refused', 'compiled')}", flush=True)


if __name__ == "__main__":
    FLAGS(sys.argv)
    main()
