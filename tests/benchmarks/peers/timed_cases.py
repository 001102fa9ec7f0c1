"""A process that times named cases when it is told to, so that two of them can take turns.

Standard library only: it runs in our environment and in that of a peer.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple


class Case(NamedTuple):
    """What is timed: `run` does `units` units of work, of `flops` in one unit (0: not counted).

    `program` is the compiled function that `run` calls and its arguments, where that is known.
    """

    run: Callable[[], Any]
    units: int = 1
    flops: float = 0.0
    program: tuple[Any, tuple[Any, ...]] | None = None


def serve(makers: Mapping[str, Callable[[], Case]], facts: Mapping[str, Any]) -> None:
    """Answers lines [name, seconds] of stdin with the best time of one unit, in ms.

    A case is made and run twice before it is first timed; one that is not there gives null. Where
    the seconds are null, the answer is the times of a single run and what it returns: for long
    cases, and for results. The first line that is written is `facts`.
    """
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print does not get between the answers
    print(json.dumps(dict(facts)), file=answers)
    made: dict[str, Case] = {}
    for line in sys.stdin:
        name, seconds = json.loads(line)
        if name in makers and name not in made:
            made[name] = makers[name]()
            if seconds is not None:
                made[name].run()
                made[name].run()
        answer = None
        if name in made:
            answer = _once(made[name]) if seconds is None else _best(made[name], seconds)
        print(json.dumps(answer), file=answers)


def _once(case: Case) -> dict[str, Any]:
    """Returns wall and CPU time of one unit of one run, and what the run returned."""
    start, start_cpu = time.perf_counter(), time.process_time()
    value = case.run()
    wall, cpu = time.perf_counter() - start, time.process_time() - start_cpu
    scale = 1e3 / case.units
    return {"wall": scale * wall, "cpu": scale * cpu, "value": value}


def _best(case: Case, seconds: float) -> dict[str, float]:
    """Returns the least wall and CPU time of one unit, of at least 3 runs."""
    wall, cpu = [], []
    end = time.perf_counter() + seconds
    while len(wall) < 3 or time.perf_counter() < end:
        start, start_cpu = time.perf_counter(), time.process_time()
        case.run()
        wall.append(time.perf_counter() - start)
        cpu.append(time.process_time() - start_cpu)
    scale = 1e3 / case.units
    return {"wall": scale * min(wall), "cpu": scale * min(cpu), "flops": case.flops}
