"""What benchmarks share: flags, the JSON of a measurement with its table, and ways in turns."""

import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
from absl import flags

from common.files.json_files import read_json, write_json
from common.provenance.environment import environment

OUT = flags.DEFINE_string("out", None, "JSON file to write; with --markdown to read", required=True)
MARKDOWN = flags.DEFINE_boolean("markdown", False, "Print the table of an earlier measurement")


def record(name: str, measure: Callable[[], dict[str, Any]], show: Callable[[Any], str]) -> None:
    """Measures and writes JSON, unless an earlier one is to be shown, and prints its table.

    Args:
        name: Module of the benchmark.
        measure: Returns what is written, but for the environment.
        show: Content of the JSON file -> what is printed.
    """
    if not MARKDOWN.value:
        command = ["python", "-m", f"tests.benchmarks.{name}", *map(_without_place, sys.argv[1:])]
        facts = {"environment": environment(command)}
        write_json(OUT.value, measure() | facts)
    print(show(read_json(OUT.value)))


def _without_place(word: str) -> str:
    """Returns a word of the command line; where its files are on this machine is left out."""
    flag, is_given, value = word.partition("=")
    return flag + is_given + Path(value).name


def in_turns(
    ways: Mapping[str, Callable[..., Any]], *arguments: Any, rounds: int
) -> dict[str, float]:
    """Returns the least milliseconds of a call of every way with these arguments.

    They take turns; one more comes first, in which they compile.
    """
    best: dict[str, float] = {}
    for turn in range(rounds + 1):
        for name, run in ways.items():
            start = time.perf_counter()
            jax.block_until_ready(run(*arguments))
            took = 1e3 * (time.perf_counter() - start)
            if turn:
                best[name] = min(took, best.get(name, took))
    return best
