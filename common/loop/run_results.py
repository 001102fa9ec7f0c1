"""What a finished run says: to its caller, and in result.json."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from common.checkpoints import snapshot
from common.config import config_hash
from common.files.json_files import read_json, sealed, write_json
from common.fingerprint import Fingerprint
from common.loop import program
from common.seeds import is_group, of_seed, result_name, seeds_of

PyTree = Any
Values = dict[str, Any]  # floats; of a seed group, lists with one float per seed


class FitResult(NamedTuple):
    """What a finished run measured.

    Attributes:
        status: "complete", or "already complete" if nothing was left to do.
        step: Steps trained.
        best_step: Step of the best checkpoint by `config.best_metric`, None without one.
        metrics: {"last": {...}, "best": {...}}, the latter only if there is a best.
        state: The last state on the devices; None if already complete.
    """

    status: str
    step: int
    best_step: int | None
    metrics: dict[str, Values]
    state: PyTree


def write_results(
    directory: Path,
    config: ConfigDict,
    result: FitResult,
    seconds: float,
    made_of: Mapping[str, Any],
    data: Fingerprint,
    described: dict[str, Any],
) -> None:
    """Writes result.json; of a seed group, one for each seed in its own folder.

    Args:
        directory: Run folder.
        config: Config of the run.
        result: What it measured.
        seconds: How long it took, all sessions together.
        made_of: What its checkpoints say of its code and of the weights that it began from.
        data: Its data.
        described: What the experiment says of them.

    Raises:
        DataError: If a file cannot be written.
    """
    shared = {
        "status": result.status,
        "step": result.step,
        "best_step": result.best_step,
        "config_hash": config_hash(config),
        "config": config.to_dict(),
        "wall_time_s": round(seconds, 3),
        "num_params": program.count_parameters(result.state),
        **made_of,
        "data": described,
        "data_sha256": data.sha256,
        "data_identity": data.identity,
        "state_sha256": snapshot.digest(result.state),  # of the last state; of a group, all of it
        "environment": read_json(directory / "environment.json"),
    }
    for seed in seeds_of(config) if is_group(config) else ():
        metrics = {which: of_seed(config, seed, v) for which, v in result.metrics.items()}
        folder = directory.parent / result_name(seed)
        write_json(
            folder / "result.json",
            sealed({**shared, "seed": seed, "metrics": metrics, "group": directory.name}),
        )
    # Last: it is what says that nothing is left to do.
    write_json(
        directory / "result.json",
        sealed({**shared, "seed": config.seed, "metrics": result.metrics}),
    )
