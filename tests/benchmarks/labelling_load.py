"""Twenty raters on the page of labels at once: how long an answer takes, and that none is lost.

    python -m tests.benchmarks.labelling_load --out=results/labelling_load.json

Raters answer every second on average, three to five times as fast as people, over connections of
this machine to `lab label` in a process of its own. An answer is timed from its request to the
confirmation, which comes when it is on the disk, with the next pair.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import app, flags

from tests import measurements
from tests.rlhf import load
from tests.rlhf.desk import fill, served

RATERS = flags.DEFINE_integer("raters", 20, "how many", lower_bound=1)
SECONDS = flags.DEFINE_float("seconds", 120.0, "how long", lower_bound=1.0)
THINK = 1.0  # seconds


def measure() -> dict[str, Any]:
    """Returns milliseconds of an answer, and how many there were."""
    with tempfile.TemporaryDirectory() as folder:
        pairs = int(1.5 * RATERS.value * (SECONDS.value / THINK + 3))
        path = fill(Path(folder), pairs)
        with served(Path(folder)) as page:
            said = load.put(page.port, RATERS.value, seconds=SECONDS.value, think=THINK)
        assert load.kept(path) == said.confirmed, "an answer is lost, or there twice"
    parts = np.percentile(1e3 * np.asarray(said.seconds), (50, 95, 99, 100))
    names = ("median", "p95", "p99", "largest")
    return {
        "raters": RATERS.value,
        "seconds": SECONDS.value,
        "answers": len(said.confirmed),
        "refused": said.refused,
        "lost": 0,
        "milliseconds": dict(zip(names, map(float, parts), strict=True)),
    }


def show(content: Any) -> str:
    """Returns the measurement as a line."""
    took = content["milliseconds"]
    return (
        f"{content['raters']} raters, {content['seconds']:g} s: {content['answers']:,} answers, "
        f"{content['lost']} lost; milliseconds: median {took['median']:.1f}, "
        f"p95 {took['p95']:.1f}, p99 {took['p99']:.1f}, largest {took['largest']:.0f}."
    )


def main(argv: Sequence[str]) -> None:
    """Measures and prints."""
    del argv
    measurements.record("labelling_load", measure, show)


if __name__ == "__main__":
    app.run(main)
