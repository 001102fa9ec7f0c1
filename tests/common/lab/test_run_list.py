"""The list of runs: how far each came, its metric, and what differs between them."""

import re
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from common.lab.run_list import run_list
from common.runs import Run


def a_run(name: str, result: dict[str, Any] | None = None, **fields: Any) -> Run:
    config = {"best_metric": "-loss", "seed": 0, "model": {"kind": "a", "width": 3}, **fields}
    return Run(Path("runs/paper/experiment") / name, ConfigDict(config), {}, result)


def entries(line: str) -> list[str]:
    return re.split(r"  +", line)


def test_runs_stand_with_their_state_metric_and_what_differs() -> None:
    metrics = {"last": {"accuracy": 1 / 3, "loss": 0.5}, "best": {"accuracy": 0.9, "loss": 1 / 3}}
    done = {"status": "complete", "step": 9, "metrics": metrics}
    runs = [
        a_run("aaaa/seed0", done),
        a_run("bbbb/seed3", seed=3, model={"kind": "b", "width": 3}),
    ]

    folder, head, _, *rows = run_list(runs, lambda run: "running", width=200).splitlines()

    assert folder == "runs/paper/experiment"
    assert entries(head) == ["run", "status", "step", "metric", "what differs"]
    assert entries(rows[0]) == ["aaaa/seed0", "complete", "9", "loss 0.333333", "model.kind=a"]
    assert entries(rows[1]) == ["bbbb/seed3", "running", "model.kind=b"]
    alone = run_list(runs[:1], lambda run: "running", width=80, metrics=True)
    assert "aaaa/seed0: accuracy 0.9  loss 0.333333" in alone
    assert "differs" not in alone
    narrow = run_list(runs, lambda run: "running", width=40)
    assert max(map(len, narrow.splitlines())) <= 40
    assert narrow.count("bbbb/seed3") > 1  # in parts
