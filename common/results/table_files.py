"""The JSON file of a table: its form, which others may have damaged, and its earlier format."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common.errors import DataError
from common.files import json_files
from common.files.json_files import NUMBER, PLAIN
from common.files.storage import regular_bytes
from common.verdicts import FAILS, HOLDS, KINDS, NOT_RUN, STATES

FORMAT = 2  # 1 had no parts of verdicts, kinds of claims and families of metrics
# Form of a table's JSON; `common.files.json_files` says how to read it.
PART = {
    **dict.fromkeys(("row", "column", "relation", "against", "detail"), str),
    "state": STATES,
    **dict.fromkeys(("value", "reference"), (NUMBER, None)),
    "lower": bool,
    "margin": NUMBER,
    "agree": (int, None),
    "seeds": int,
}
INTERVAL = dict.fromkeys(("value", "low", "high"), NUMBER)
CURVE = {
    **dict.fromkeys(("name", "problem"), str),
    "published": ({"value": NUMBER, "spread": (NUMBER, None)}, None),
    "all": (INTERVAL, None),
    "along": [
        {
            "name": str,
            "cells": [{"size": NUMBER, "row": str, "column": str}],
            "at": NUMBER,
            **dict.fromkeys(("exponent", "alone"), INTERVAL),
            "misfit": (NUMBER, None),
            "line": [{"size": NUMBER, **INTERVAL}],
        }
    ],
}
TABLE: dict[str, Any] = {
    "format": FORMAT,
    **dict.fromkeys(("paper", "table", "title", "source", "preset", "unit", "paper_spread"), str),
    "seeds": [int],
    "scale": NUMBER,
    "cells": [
        {
            **dict.fromkeys(("row", "column", "metric", "run"), str),
            **dict.fromkeys(("family", "setting"), str),
            "paper": ({"value": NUMBER, "spread": (NUMBER, None)}, None),
            "values": {str: NUMBER},
            "problems": {str: str},
        }
    ],
    "claims": [
        {
            **dict.fromkeys(("name", "statement", "source", "problem", "reason"), str),
            "kind": tuple(KINDS),
            "status": (HOLDS, FAILS, NOT_RUN),
            "parts": [PART],
        }
    ],
    "headline": [str],
    "curves?": [CURVE],
    "figure": (str, None),
    "notes": [str],
    "deviations": [{"field": str, "paper": PLAIN, "ours": PLAIN, "of?": [str]}],
    "data": [{str: PLAIN}],
    "runs": [
        {
            "config_hash": str,
            "config?": str,
            "variant?": str,
            "overrides": {str: PLAIN},
            "function": (str, None),
            "cells": [[str]],
            "wall_time_s": {str: NUMBER},
        }
    ],
    "provenance": {"command?": str, "time_of_all_runs_s?": NUMBER},
}
# What of format 1 is needed to judge it again.
CELL = {name: one for name, one in TABLE["cells"][0].items() if name not in ("family", "setting")}
OLD_TABLE = {name: one for name, one in TABLE.items() if name != "headline"}
OLD_TABLE |= {"format": 1, "cells": [CELL], "claims": [PLAIN]}


def read_table(path: Path, *, any_format: bool = False) -> dict[str, Any]:
    """Returns the content of a table's JSON.

    Args:
        path: The file.
        any_format: Also take one of an earlier format, for `common.results.collect.judged`.

    Raises:
        DataError: If it is no such file, one that was damaged, or of another format.
    """
    try:
        data = json_files.parse(regular_bytes(path))
        number = data.get("format") if isinstance(data, dict) else FORMAT
        wrong = json_files.fault(data, OLD_TABLE if number == 1 else TABLE) or _fault(data)
        if not wrong and json_files.is_edited(data):
            wrong = "it was changed after `lab table` had written it"
    except (OSError, ValueError) as error:
        data, number, wrong = {}, FORMAT, str(error)
    if wrong:
        raise DataError(f"{path}: is not the result of a table: {wrong}")
    if number != FORMAT and not any_format:
        again = f"lab table {data['paper']} {data['table']} --preset={data['preset']} --rejudge"
        raise DataError(
            f"{path}: is of format {number}, expected {FORMAT}; `{again}` writes it anew, "
            "without running anything"
        )
    return data


def _fault(data: Mapping[str, Any]) -> str:
    """Returns what a form cannot say about a table's JSON."""
    seeds = {seed for cell in data["cells"] for seed in [*cell["values"], *cell["problems"]]}
    odd = next((seed for seed in seeds if not (seed.isdecimal() and len(seed) < 12)), None)
    if odd is not None:
        return f"a cell has the seed {odd!r}"
    pairs = [pair for run in data["runs"] for pair in run["cells"]]
    if any(len(pair) != 2 for pair in pairs):
        return "a cell of a run is no pair of row and column"
    times = {k: v for k, v in data["provenance"].items() if k.endswith("_s")}
    return json_files.fault({"provenance": times}, {"provenance": {str: NUMBER}})
