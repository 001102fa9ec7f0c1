"""What was measured on the built shifts, as one file: profiles before tuning, accuracies behind it.

    python -m finetune.surgical.calibration > finetune/calibration.json

Accuracies are those of the committed table shifts, seed by seed; criteria are computed anew, on the
same networks and images. `finetune.surgery` reads the file.
"""

import json
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from ml_collections import ConfigDict

from common.config import load_config
from common.supervised import take
from finetune import criteria
from finetune.blocks import Blocks, resnet_blocks
from finetune.surgical import adaptation, measures, sources
from finetune.surgical import data as shift_data
from finetune.surgical.tables.shifts import BLOCKS, CONFIG, CONTRAST, NONE, SHIFTS, WAYS

PyTree = Any
RESULTS = Path(__file__).resolve().parent / "results"
CRITERIA = ("rgn", "snr", "fisher")


def values_of(table: Mapping[str, Any]) -> dict[tuple[str, str], dict[int, float]]:
    """Returns the numbers of a table's JSON by row and column, then by seed."""
    return {
        (cell["row"], cell["column"]): {int(s): float(v) for s, v in cell["values"].items()}
        for cell in table["cells"]
    }


def of_blocks(
    loss: Any, params: PyTree, rows: PyTree, blocks: Blocks
) -> Float[Array, "criteria blocks"]:
    """Returns relative gradient norm, signal to noise and Fisher information of every block."""
    moments = criteria.example_moments(loss, params, rows)
    norm = criteria.relative_gradient_norm(moments.mean, params, blocks).blocks
    snr = criteria.example_snr(moments, blocks).blocks
    return jnp.stack([norm, snr, criteria.fisher(moments, blocks).blocks])


def rows_of(name: str, accuracies: Mapping[tuple[str, str], Mapping[int, float]]) -> list[Any]:
    """Returns a row for every seed of a shift.

    Args:
        name: Of the shift, as in table shifts.
        accuracies: Of that table, in percent.
    """
    shift = SHIFTS[name]
    overrides = {field: str(value) for field, value in shift.overrides.items()}
    config = load_config(f"{CONFIG}:cpu,task={shift.task}", {**overrides, "seed_group": "1"})
    spec = shift_data.shift_spec(config.source.data, config.pixels, config.shift)
    section = sources.section(config)
    net, networks = sources.network_of(section), sources.trained(section, config.num_sources)
    blocks = resnet_blocks(networks.params)
    target = shift_data.target(spec)
    profile = jax.jit(partial(of_blocks, partial(measures.loss_of_rows, net, {}), blocks=blocks))
    found = []
    for seed, unadapted in accuracies[name, NONE].items():
        batch = adaptation._batch(ConfigDict({**config.to_dict(), "seed": seed}), spec, 0)
        params = jax.tree.map(lambda x, i=seed % config.num_sources: x[i], networks.params)
        parts = {"": ("pool", batch["rows"]), "_clean": ("clean", batch["clean"])}
        row: dict[str, Any] = {
            "shift": name,
            "severity": 5 if name == CONTRAST else None,
            "kind": shift.kind,
            "seed": seed,
            "num_target": config.adapt.target_size,
            "test": {NONE: unadapted / 100}
            | {way: accuracies[name, way][seed] / 100 for way in WAYS},
        }
        for suffix, (part, index) in parts.items():
            rows = {key: target[part][key] for key in ("image", "label")}
            values = np.asarray(profile(params, take(rows, index)), np.float64)
            pairs = zip(CRITERIA, values, strict=True)
            row |= {f"{kind}{suffix}": [float(f"{v:.4g}") for v in line] for kind, line in pairs}
        found.append(row)
    return found


def main() -> None:
    """Prints the file."""
    accuracies = values_of(json.loads((RESULTS / "shifts.cpu.json").read_text()))
    network = "pre-activation ResNet, 3 stages of one block, group normalization, Fashion-MNIST"
    rows = [row for name in SHIFTS for row in rows_of(name, accuracies)]
    json.dump({"blocks": list(BLOCKS), "network": network, "rows": rows}, sys.stdout, indent=1)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
