"""The child process of a table cell that is no training run: calls `config -> metrics` once.

Such a cell counts parameters, measures a surface, or takes a statistic of an artifact. The table
runner starts `python -m common.results.cell REQUEST`; the result has the form of a result.json.
"""

import importlib
import json
import math
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from absl import logging
from ml_collections import ConfigDict

from common.config import config_hash, load_config
from common.devices import jax_start, memory
from common.errors import LabError, UserError, nearest
from common.files import json_files
from common.files.json_files import write_json
from common.provenance import source
from common.provenance.environment import environment


def request(
    function: str, config: str, overrides: Mapping[str, str], result: str | Path
) -> tuple[str, ...]:
    """Returns the arguments after `python` that call `function` and write `result`."""
    values = {"function": function, "config": config, "overrides": dict(overrides)}
    return ("-m", "common.results.cell", json.dumps({**values, "result": str(result)}))


def measure(function: str, config: ConfigDict) -> dict[str, float]:
    """Returns the metrics of `function`, "package.module:name", on a config.

    One that is not finite is named in a warning, and by the table that wants it.

    Raises:
        UserError: If there is no such function.
    """
    metrics = {name: float(value) for name, value in resolve(function)(config).items()}
    for name, value in metrics.items():
        if not math.isfinite(value):
            logging.warning("%s: metric %r is %s", function, name, value)
    return metrics


def resolve(name: str) -> Callable[..., Any]:
    """Returns the function called "package.module:name".

    Raises:
        UserError: If there is none; the nearest name is given.
    """
    module_name, _, function = name.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise UserError(f"{name!r}: {error}") from error
    if not hasattr(module, function):
        raise UserError(
            f"{name!r}: {module_name} has no {function!r}{nearest(function, dir(module))}"
        )
    return getattr(module, function)


def main(text: str) -> int:
    """Measures one cell as `request` describes it; returns the exit code."""
    asked = json.loads(text)
    try:
        jax_start.set_environment()
        config = load_config(asked["config"], asked["overrides"])
        start = time.monotonic()
        metrics = measure(asked["function"], config)
        result = {
            "status": "complete",
            "metrics": {"last": metrics},
            "best_step": None,
            "config_hash": config_hash(config),
            "seed": config.seed,
            "wall_time_s": round(time.monotonic() - start, 3),
            "code": source.digests(config, asked["function"]),
            "data": {},
            "environment": environment(["python", "-m", "common.results.cell", text]),
        }
        Path(asked["result"]).parent.mkdir(parents=True, exist_ok=True)
        write_json(Path(asked["result"]), json_files.sealed(result))
    except LabError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    memory.keep_freed_memory()
    sys.exit(main(sys.argv[1]))
