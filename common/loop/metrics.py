"""Where metrics go: JSON lines always, TensorBoard and W&B if asked for, and a progress line."""

import importlib
import importlib.util
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from absl import logging

from common.errors import DataError, UserError
from common.files import json_files, nonfinite
from common.files.storage import regular_bytes, storage_errors

Values = Mapping[str, Any]  # numbers, or lists of numbers for a seed group
_ROW = {"step": int, "kind": str}  # form of a line


def check_installed(*, tensorboard: bool, wandb: bool) -> None:
    """Checks that the packages of the logs asked for are there, before anything is computed.

    Raises:
        UserError: Naming flag and package.
    """
    if tensorboard and importlib.util.find_spec("tensorboardX") is None:
        raise UserError("--tensorboard needs the package tensorboardX: pip install it")
    if wandb and importlib.util.find_spec("wandb") is None:
        raise UserError("--wandb needs the package wandb: pip install 'jax-paper-lab[wandb]'")


class MetricsLog:
    """One JSON object a line: {"step": 100, "kind": "train", "loss": 0.5}.

    Numbers read back as the same bits. One that is not finite is written as the string "NaN",
    "Infinity" or "-Infinity", which `float` understands.
    """

    def __init__(self, path: str | Path, *, offset: int = 0):
        """Opens `path` to append after its first `offset` bytes; what follows them is cut off.

        A file that is shorter than `offset` is continued after its last whole line, with a warning.

        Raises:
            DataError: If the file cannot be written.
        """
        self._path = Path(path)
        with storage_errors(self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(self._path, "ab")  # noqa: SIM115 - closed by close()
            size = self._file.seek(0, os.SEEK_END)
            if size < offset:
                logging.warning(
                    "%s: has %d bytes, but %d were written before the checkpoint; the metrics of "
                    "some steps are missing",
                    self._path,
                    size,
                    offset,
                )
                offset = self._path.read_bytes().rfind(b"\n") + 1
            self._file.truncate(offset)

    def write(self, step: int, kind: str, values: Values) -> None:
        """Appends the metrics of one step; `kind` is "train" or "eval".

        Raises:
            DataError: If the file cannot be written.
            ValueError: If a metric is called "step" or "kind".
        """
        row = {"step": step, "kind": kind}
        taken = row.keys() & values.keys()
        if taken:
            raise ValueError(f"a metric cannot be called {taken.pop()!r}: each line has that field")
        row |= {name: _plain(value) for name, value in values.items()}
        with storage_errors(self._path):
            self._file.write(json.dumps(row, allow_nan=False).encode() + b"\n")
            self._file.flush()  # for readers, and for a process that is killed

    def flush(self) -> int:
        """Brings all lines to the disk; returns the length of the file in bytes."""
        with storage_errors(self._path):
            self._file.flush()
            os.fsync(self._file.fileno())
            return self._file.seek(0, os.SEEK_END)

    def close(self) -> None:
        """Flushes and closes the file."""
        if not self._file.closed:
            self.flush()
            self._file.close()


class TensorBoardLog:
    """TensorBoard event files, written by tensorboardX, which needs no TensorFlow."""

    def __init__(self, folder: str | Path, *, start: int = 0):
        """Opens an event file in `folder`.

        Args:
            folder: Where event files go.
            start: Step the run continues from; what earlier files say of later ones is hidden.

        Raises:
            UserError: If tensorboardX is not installed.
        """
        try:
            from tensorboardX import SummaryWriter
        except ImportError:
            raise UserError(
                "--tensorboard needs the package tensorboardX: pip install it"
            ) from None
        self._writer = SummaryWriter(str(folder), purge_step=start + 1)

    def write(self, step: int, kind: str, values: Values) -> None:
        """Adds one scalar per metric, named "kind/metric"; of a seed group one per seed."""
        for name, value in values.items():
            rows = value if isinstance(value, list) else [value]
            for index, row in enumerate(rows):
                suffix = f"/{index}" if isinstance(value, list) else ""
                self._writer.add_scalar(f"{kind}/{name}{suffix}", row, step)

    def flush(self) -> int:
        """Brings all events to the disk."""
        self._writer.flush()
        return 0

    def close(self) -> None:
        """Flushes and closes the files."""
        self._writer.close()


class WandbLog:
    """Weights & Biases; one run per run folder, continued when the run is."""

    def __init__(self, folder: str | Path, *, config: str):
        """Starts or continues the run.

        Args:
            folder: Run folder; its parent's name and its own are the id.
            config: The run's config as JSON.

        Raises:
            UserError: If the package wandb is not installed.
        """
        try:
            wandb = importlib.import_module("wandb")
        except ImportError:
            raise UserError(
                "--wandb needs the package wandb: pip install 'jax-paper-lab[wandb]'"
            ) from None
        path = Path(folder)
        name = f"{path.parent.name}-{path.name}"
        self._run = wandb.init(
            dir=str(path), id=name, name=name, resume="allow", config=json.loads(config)
        )

    def write(self, step: int, kind: str, values: Values) -> None:
        """Logs the metrics of one step."""
        self._run.log({f"{kind}/{name}": value for name, value in values.items()}, step=step)

    def flush(self) -> int:
        """Does nothing: the package sends by itself."""
        return 0

    def close(self) -> None:
        """Ends the run."""
        self._run.finish()


def open_logs(
    directory: Path,
    *,
    step: int,
    offset: int,
    config: str,
    tensorboard: bool = False,
    wandb: bool = False,
) -> list[Any]:
    """Returns the logs of a run, the JSON lines first, each continued after a step.

    Args:
        directory: Run folder.
        step: Step the run goes on from, 0 at its start.
        offset: Bytes of metrics.jsonl that had been written by then.
        config: The run's config as JSON.
        tensorboard: Also open TensorBoard's.
        wandb: Also open that of Weights & Biases.

    Raises:
        DataError: If metrics.jsonl cannot be written.
        UserError: If a package is not installed.
    """
    logs: list[Any] = [MetricsLog(directory / "metrics.jsonl", offset=offset)]
    if tensorboard:
        logs.append(TensorBoardLog(directory / "tensorboard", start=step))
    if wandb:
        logs.append(WandbLog(directory, config=config))
    return logs


def read_metrics(path: str | Path) -> list[dict[str, Any]]:
    """Returns the lines of a metrics file; a last line that was cut off is left out.

    Raises:
        DataError: If the file cannot be read, or another line is none that `MetricsLog` writes.
    """
    path = Path(path)
    with storage_errors(path):
        lines = regular_bytes(path).split(b"\n")
    rows = []
    for number, line in enumerate(lines[:-1], start=1):
        try:
            row = json_files.parse(line)
            wrong = json_files.fault(row, _ROW)
        except ValueError as error:
            row, wrong = {}, f"no JSON: {error}"
        if wrong:
            raise DataError(f"{path}, line {number}: is damaged: {wrong}")
        rows.append(row)
    return rows


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):  # an array or a number of NumPy or JAX
        value = value.tolist()
    return nonfinite.to_json(value)
