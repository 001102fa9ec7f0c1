"""A fuzzer of our own parsers that keeps what reaches new lines of them (Python 3.12's counters).

    python -m tests.faults.parsers 20 0        # seconds for each parser, seed

A parser may refuse with a LabError or a ValueError of one line. Anything else is a fault: another
exception, a second of time, many lines.
"""

import gzip
import io
import json
import random
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from common import values
from common.checkpoints import manifest, weights
from common.data import formats
from common.errors import LabError
from common.files import json_files, numpy_files
from common.lab import cli
from common.loop import metrics
from common.papers import papers
from common.results import table_files
from tests.faults import archives

TOOL = 4  # of `sys.monitoring`
SLOW_SECONDS = 1.0
WORDS = (b"[", b"]", b"{", b"}", b"(", b",", b":", b'"', b"'", b"\\", b"\0", b"\xff", b"-", b"1e9")
WORDS += (b"None", b"nan", b"9" * 40, b"\n", b"=", b"--config.", b"\xed\xa0\x80", b"__", b"[[" * 60)


class Parser(NamedTuple):
    """What is fuzzed: the text of a file or of a value, inputs to begin with, and its modules."""

    parse: Callable[[bytes], Any]
    seeds: Sequence[bytes]
    modules: Sequence[Any]


class Found(NamedTuple):
    """What came of one parser."""

    inputs: int
    lines: int
    faults: dict[str, str]  # what went wrong: the input


def parsers(folder: Path) -> dict[str, Parser]:
    """Returns every parser of our own, with good inputs."""
    there = next(paper.folder for paper in papers() if paper.name == "sciml.boon")
    table = (there / "results" / "single_step.cpu.json").read_bytes()
    array = io.BytesIO()
    np.save(array, np.arange(6, dtype=np.uint8).reshape(2, 3))
    image = b"\0\0\x08\x02\0\0\0\x02\0\0\0\x03abcdef"
    named = archives.npz(array.getvalue())
    tensors = archives.safetensors({"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}})
    likes = (True, 3, 0.5, "x", (1, 2), ((1, 2), (3, 4)), None, (("a", "b"),))

    def file(name: str, read: Callable[[Path], Any]) -> Callable[[bytes], Any]:
        def parse(content: bytes) -> Any:
            (folder / name).write_bytes(content)
            return read(folder / name)

        return parse

    def value(content: bytes) -> None:
        text = content.decode("utf-8", "surrogateescape")
        for like in likes:
            try:
                values.convert("--config.field", text, like)
            except LabError:
                continue

    def line(content: bytes) -> None:
        cli.parse("train", content.decode("utf-8", "replace").split("\n"))

    npz = lambda path: formats.read_npz(path, {"images": (None, 3)})
    sealed = json.dumps(json_files.sealed({"format": 1, "step": 3, "leaves": [], "files": {}}))
    return {
        "value of a field": Parser(value, [b"3", b"[1, 2]", b"((1,2),(3,4))", b"1e-3"], [values]),
        "command line": Parser(line, [b"--config=a.py:cpu\n--config.x=1\n--jobs=2"], [cli]),
        "JSON": Parser(file("a.json", json_files.read_json), [b'{"a": [1, "NaN"]}'], [json_files]),
        "result of a table": Parser(
            file("b.json", table_files.read_table), [table], [table_files, json_files]
        ),
        "manifest": Parser(
            file(manifest.NAME, lambda path: manifest.problem(path.parent)),
            [sealed.encode()],
            [manifest, json_files],
        ),
        "metrics": Parser(
            file("m.jsonl", metrics.read_metrics),
            [b'{"step": 1, "kind": "eval", "a": 2}\n'],
            [metrics],
        ),
        "npy": Parser(numpy_files.read_npy, [array.getvalue()], [numpy_files, np.lib.format]),
        "npz": Parser(file("a.npz", npz), [named], [formats, numpy_files]),
        "idx": Parser(file("a.idx", formats.read_idx), [image], [formats]),
        "idx.gz": Parser(file("a.gz", formats.read_idx), [gzip.compress(image)], [formats]),
        "weights.npz": Parser(file("w.npz", weights.load), [named], [weights, numpy_files]),
        "safetensors": Parser(file("w.safetensors", weights.load), [tensors], [weights]),
        "CIFAR-10": Parser(
            file("c.tar.gz", lambda path: formats.read_cifar10_binary(path, records=10)),
            [archives.tar()],
            [formats],
        ),
    }


def fuzz(parser: Parser, seconds: float, seed: int, *, inputs: int = 10**9) -> Found:
    """Changes inputs at random and keeps those that reach new lines, until the time is over."""
    draw, pool, faults = random.Random(seed), list(parser.seeds), {}
    lines, files = set(), {module.__file__ for module in parser.modules}
    deadline, count = time.monotonic() + seconds, 0

    def seen(code: Any, number: int) -> Any:
        if code.co_filename in files:
            lines.add((code.co_filename, number))
        return sys.monitoring.DISABLE  # each line counts once

    sys.monitoring.use_tool_id(TOOL, "fuzz")
    sys.monitoring.register_callback(TOOL, sys.monitoring.events.LINE, seen)
    sys.monitoring.set_events(TOOL, sys.monitoring.events.LINE)
    try:
        while time.monotonic() < deadline and count < inputs:
            content = draw.choice(pool) if count >= len(parser.seeds) else parser.seeds[count]
            if count >= len(parser.seeds):
                content = _changed(content, draw, pool)
            before, count = len(lines), count + 1
            fault = _fault(parser.parse, content)
            if fault:
                faults.setdefault(fault, repr(content[:200]))
            if len(lines) > before:
                pool.append(content)
    finally:
        sys.monitoring.set_events(TOOL, 0)
        sys.monitoring.free_tool_id(TOOL)
        sys.monitoring.restart_events()
    return Found(count, len(lines), faults)


def _fault(parse: Callable[[bytes], Any], content: bytes) -> str:
    start = time.process_time()
    try:
        parse(content)
        said = ""
    except (LabError, ValueError) as error:
        said = str(error)
    except Exception as error:
        trace = error.__traceback__
        while trace and trace.tb_next:
            trace = trace.tb_next
        place = f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}" if trace else ""
        return f"{type(error).__name__} at {place}"
    if "\n" in said:
        return f"many lines: {said[:60]!r}"
    return "slow" if time.process_time() - start > SLOW_SECONDS else ""


def _changed(content: bytes, draw: random.Random, pool: Sequence[bytes]) -> bytes:
    for _ in range(draw.choice((1, 1, 2, 4, 8))):
        i, j = sorted(draw.randrange(len(content) + 1) for _ in range(2))
        j = min(j, i + draw.choice((1, 4, 1_000)))
        other = draw.choice(pool)
        start = draw.randrange(len(other) + 1)
        content = draw.choice(
            [
                content[:i] + content[j:],
                content[:i] + draw.choice(WORDS) + content[i:],
                content[:i] + bytes([draw.randrange(256)]) + content[i + 1 :],
                content[:i] + other[start : start + draw.choice((4, 40, 400))] + content[j:],
                content[:j] + content[i:],
                content[:i],
            ]
        )[:200_000]
    return content


def campaign(seconds: float, seed: int, *, inputs: int = 10**9) -> dict[str, Any]:
    """Fuzzes every parser for so long; returns counts, and every kind of fault with an input."""
    if sys.version_info < (3, 12):
        return {"skipped": "needs Python 3.12"}
    with tempfile.TemporaryDirectory() as folder:
        found = {
            name: fuzz(parser, seconds, seed, inputs=inputs)
            for name, parser in parsers(Path(folder)).items()
        }
    return {
        "seed": seed,
        "inputs": sum(one.inputs for one in found.values()),
        "parsers": {
            name: {"inputs": one.inputs, "lines": one.lines} for name, one in found.items()
        },
        "failures": {f"{n}: {k}": v for n, one in found.items() for k, v in one.faults.items()},
    }


if __name__ == "__main__":
    print(json.dumps(campaign(float(sys.argv[1]), int(sys.argv[2])), indent=1))
