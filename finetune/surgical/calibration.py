"""What was measured on the built shifts, as one file: profiles before tuning, accuracies behind it.

    python -m finetune.surgical.calibration > finetune/calibration.json

Read from the committed tables shifts and diagnosis, seed by seed: `finetune.surgery` is calibrated
on it, and nothing is run.
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from finetune.surgical.tables import diagnosis
from finetune.surgical.tables.shifts import BLOCKS, NONE, SHIFTS, WAYS

RESULTS = Path(__file__).resolve().parent / "results"
NUM_TARGET = 100
NETWORK = "pre-activation ResNet, 3 stages of one block, group normalization, Fashion-MNIST"


def values_of(table: Mapping[str, Any]) -> dict[tuple[str, str], dict[int, float]]:
    """Returns the numbers of a table's JSON by row and column, then by seed."""
    return {
        (cell["row"], cell["column"]): {int(s): float(v) for s, v in cell["values"].items()}
        for cell in table["cells"]
    }


def rows(shifts: Mapping[str, Any], profiles: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Returns one row for every shift and seed; accuracies are shares.

    Args:
        shifts: The JSON of table shifts.
        profiles: The JSON of table diagnosis.
    """
    accuracies, norms = values_of(shifts), values_of(profiles)
    found = []
    for name, shift in SHIFTS.items():
        for seed in accuracies[name, NONE]:
            of = lambda family, name=name, seed=seed: [
                float(f"{norms[name, f'{block}, {family}'][seed]:.4g}") for block in BLOCKS
            ]
            found.append(
                {
                    "shift": name,
                    "severity": 5 if name.endswith("severity 5") else None,
                    "kind": shift.kind,
                    "seed": seed,
                    "num_target": NUM_TARGET,
                    "rgn": of(diagnosis.RGN),
                    "rgn_clean": of(diagnosis.CLEAN),
                    "test": {
                        way: round(accuracies[name, way][seed] / 100, 5) for way in (NONE, *WAYS)
                    },
                }
            )
    return found


def main() -> None:
    """Prints the file."""
    tables = [
        json.loads((RESULTS / f"{name}.cpu.json").read_text()) for name in ("shifts", "diagnosis")
    ]
    found = {"blocks": list(BLOCKS), "network": NETWORK, "rows": rows(*tables)}
    json.dump(found, sys.stdout, indent=1)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
