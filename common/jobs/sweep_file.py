"""The file of a sweep: grid, zip and seeds, read and checked before anything is made of it.

    {"grid": {"optimizer.learning_rate": [1e-3, 3e-4]},
     "zip": {"model.channels": [16, 32], "batch_size": [64, 32]},
     "seeds": [0, 1, 2]}

Every line of `zip` is combined with every point of `grid` and every seed: 12 runs here. The file is
JSON or TOML. Values arrive in the type they have in the file: null, lists of lists, text of digits.
"""

import itertools
import json
import math
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from common.errors import UserError, nearest, shown
from common.loop_fields import MAX_SEED
from common.values import flatten, tuples

FIELDS = ("grid", "zip", "seeds", "slurm")
MAX_BYTES = 1 << 20  # of a file
MAX_MEMBERS = 10_000  # each is a process


class Sweep(NamedTuple):
    """A sweep file as read: `points` are the overrides of its members, seeds apart."""

    points: tuple[dict[str, Any], ...]
    seeds: tuple[int, ...] | None
    slurm: dict[str, Any]


def read_sweep(path: Path) -> Sweep:
    """Returns a sweep file's content, checked as far as no config is needed.

    Raises:
        UserError: Naming file, field, value and what is allowed.
    """
    data = _read(path)
    unknown = next((key for key in data if key not in FIELDS), None)
    if unknown is not None:
        allowed = ", ".join(FIELDS)
        raise UserError(
            f"--sweep={path}: no field {shown(unknown)}{nearest(unknown, FIELDS)}; "
            f"allowed: {allowed}"
        )
    grid, zipped = _axes(path, data, "grid"), _axes(path, data, "zip")
    twice = sorted(grid.keys() & zipped.keys())
    if twice:
        raise UserError(f"--sweep={path}: {twice[0]!r} is in grid and in zip; allowed: one of them")
    lengths = {key: len(values) for key, values in zipped.items()}
    if len(set(lengths.values())) > 1:
        text = ", ".join(f"{key} has {n}" for key, n in lengths.items())
        raise UserError(f"--sweep={path}: zip={text} values; expected lists of one length")
    count = math.prod(len(values) for values in grid.values()) * max(lengths.values(), default=1)
    seeds = _seeds(path, data["seeds"]) if "seeds" in data else None
    if not grid and not zipped and seeds is None:
        raise UserError(f"--sweep={path}: is empty; expected at least one of grid, zip, seeds")
    slurm = data.get("slurm", {})
    if not isinstance(slurm, dict):
        raise UserError(
            f"--sweep={path}: slurm={shown(slurm)}: expected options of submitit by name"
        )
    count *= 1 if seeds is None else len(seeds)
    if count > MAX_MEMBERS:
        raise UserError(f"--sweep={path}: has {count:,} runs; expected at most {MAX_MEMBERS:,}")
    rows = [dict(zip(zipped, row, strict=True)) for row in zip(*zipped.values(), strict=True)]
    products = [dict(zip(grid, row, strict=True)) for row in itertools.product(*grid.values())]
    points = [{**row, **point} for row in rows or [{}] for point in products]
    return Sweep(tuple(points), None if seeds is None else tuple(seeds), slurm)


def check_arrived(path: Path, point: Mapping[str, Any], settings: ConfigDict) -> None:
    """Checks that a config has the values of a point, in their types.

    Values go over a command line as text: 7 for a field of text would become "7", null "None".

    Raises:
        UserError: Naming the first field that did not take its value.
    """
    for key, value in point.items():
        found: Any = settings
        for name in key.split("."):
            found = found[name]
        found = found.to_dict() if isinstance(found, ConfigDict) else found
        if not _is_same(tuples(value), tuples(found)):
            kind = type(found).__name__
            raise UserError(
                f"--sweep={path}: {key}={shown(value)}: the field is of type {kind} and would hold "
                f"{shown(found)}"
            )


def _is_same(value: Any, found: Any) -> bool:
    if isinstance(value, tuple) and isinstance(found, tuple):
        return len(value) == len(found) and all(map(_is_same, value, found))
    is_number = type(value) is int and type(found) is float
    return value == found and (is_number or type(value) is type(found))


def _read(path: Path) -> dict[str, Any]:
    if path.suffix not in (".json", ".toml"):
        raise UserError(f"--sweep={path}: expected a file that ends in .json or .toml")
    try:
        if path.exists() and not path.is_file():
            raise UserError(f"--sweep={path}: is no file")
        with path.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise UserError(f"--sweep={path}: is longer than {MAX_BYTES:,} bytes")
        text = content.decode()
        if path.suffix == ".toml":
            return tomllib.loads(text)
        data = json.loads(text, object_pairs_hook=_once)
    except OSError as error:
        raise UserError(f"--sweep={path}: cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        kind = path.suffix.removeprefix(".").upper()
        raise UserError(f"--sweep={path}: is not {kind}: {error}") from error
    if not isinstance(data, dict):
        raise UserError(f"--sweep={path}: expected an object with {', '.join(FIELDS)}")
    return data


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """Returns an object of JSON, which may not give a name twice: the last would hold, silently."""
    names = [name for name, _ in pairs]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"{shown(twice)} is there twice")
    return dict(pairs)


def _axes(path: Path, data: Mapping[str, Any], name: str) -> dict[str, list[Any]]:
    axes = data.get(name, {})
    if not isinstance(axes, dict):
        raise UserError(
            f"--sweep={path}: {name}={shown(axes)}: expected lists of values by config field"
        )
    flat = {}
    for key, values in flatten(axes).items():  # TOML reads a.b = [...] as nested tables
        if not isinstance(values, list) or not values:
            raise UserError(
                f"--sweep={path}: {name}.{key}={shown(values)}: expected a list of values"
            )
        if key == "seed":
            raise UserError(
                f"--sweep={path}: {name}.seed={shown(values)}: expected in seeds, not here"
            )
        flat[key] = values
    return flat


def _seeds(path: Path, seeds: Any) -> Sequence[int]:
    if type(seeds) is int and 1 <= seeds <= MAX_SEED + 1:
        return range(seeds)
    is_list = isinstance(seeds, list) and bool(seeds)
    in_range = is_list and all(type(s) is int and 0 <= s <= MAX_SEED for s in seeds)
    if in_range and len(set(seeds)) == len(seeds):
        return seeds
    raise UserError(
        f"--sweep={path}: seeds={shown(seeds)}: expected how many seeds, such as 5, or a list of "
        f"different ones from 0 to {MAX_SEED}, such as [0, 3]"
    )
