"""Config files: presets, typed overrides, validation, hash and diff; nothing here needs JAX.

A config file is trusted Python that defines `get_config(arg) -> ConfigDict`, where `arg` is
"preset[,key=value...]", and optionally `check(config)`, which raises ValueError for values that
only this experiment can judge. Every config also has the fields of the loop (`LOOP_DEFAULTS`).
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from ml_collections import ConfigDict

from common import nonfinite, source
from common.data.storage import user_path
from common.errors import UserError, nearest, place, shown
from common.papers import (
    REPOSITORY,
    builder_folder,
    builders,
    config_folder,
    papers,
    split_spec,
)
from common.places import FOLDER_FROM_RUN
from common.values import check_fields, check_required, convert, is_plain, override, tuples

# Fields that came after runs were made. While they have these values they are left out of the hash,
# so that the runs of before keep theirs; hence a value here never changes.
LATER_DEFAULTS: dict[str, Any] = {}

LOOP_DEFAULTS: dict[str, Any] = {
    "seed": 0,
    "num_steps": 0,  # every config sets it
    "steps_per_call": 1,  # steps inside one lax.scan; a part of what is bitwise reproducible
    "log_every": 100,
    "eval_every": 0,  # 0: once, at the end
    "checkpoint_every": 0,  # 0: at the end and whenever the best changes
    "keep": 2,  # newest checkpoints kept, besides the best one
    "best_metric": "",  # "valid_accuracy"; "-valid_loss": lower is better
    "mesh": {"data": -1},  # axis sizes, axes in alphabetical order; -1: all devices left
    "deterministic": False,  # the same bits on any device count that divides logical_shards
    "logical_shards": 8,
    "x64": False,
    "seed_group": 1,  # seeds trained together under vmap
    "init_from": "",  # run folder whose best parameters start this run
    "config_dir": "",  # filled in: folder of the config file, for builders named "file.py:function"
    **LATER_DEFAULTS,
}

MAX_SEED = 2**32 - 1  # jax.random.key takes larger ones modulo 2**32
MAX_COUNT = 2**31 - 1  # programs count steps in 32 bits
MAX_GROUP = 1024  # seeds; each is a whole experiment

# What neither changes the numbers of a run nor says which run it is.
NOT_HASHED = ("seed", "mesh", "log_every", "checkpoint_every", "keep", "config_dir")


def choices(arg: str | None, offered: Mapping[str, Any], **defaults: Any) -> dict[str, Any]:
    """Returns what "preset[,key=value...]" chooses of what a config file offers.

    A config file says once what it offers, in its constant `CHOICES`; what is checked, what `lab
    list` shows, golden configs and the variants that tests build all follow from it:

        CHOICES = {"preset": ("cpu", "paper"), "dataset": ("mnist", "cifar10"), "rate": 0.5}

    Of a tuple one value is to be chosen, the first if none is given. Anything else is the default
    of a free value of its type. The first entry is the preset; the second says of what there is a
    golden config at every preset, the data as a rule.

    Args:
        arg: What follows the config file on the command line.
        offered: `CHOICES` of the config file.
        **defaults: In place of those in `offered`: "" where the default depends on other values,
            and `get_config` works it out.

    Raises:
        UserError: If a key is unknown or a value does not have the type of its default.
        ValueError: If a value is none of those offered; names the nearest.
    """
    first = {key: some[0] if isinstance(some, tuple) else some for key, some in offered.items()}
    chosen = {**first, **defaults}
    for key, text in _pairs(arg or ""):
        if key not in chosen:
            raise UserError(
                f"config argument {key!r} is unknown{nearest(key, chosen)}; "
                f"allowed: {', '.join(chosen)}"
            )
        chosen[key] = convert(key, text, chosen[key])
    for key, value in chosen.items():
        if isinstance(offered[key], tuple) and value != defaults.get(key):
            one_of(key, value, offered[key])
    return chosen


def offers(file: Path) -> dict[str, Any]:
    """Returns `CHOICES` of a config file, {} if it has none.

    Raises:
        UserError: If the file cannot be loaded.
    """
    return dict(getattr(_load_module(file), "CHOICES", {}))


def _pairs(arg: str) -> Iterator[tuple[str, str]]:
    """Yields (key, text) of "preset[,key=value...]"."""
    for position, item in enumerate(arg.split(",")):
        key, separator, text = item.partition("=")
        if separator:
            yield key, text
        elif item and position:
            raise UserError(f"config argument {item!r}: only the preset has no key=")
        elif item:
            yield "preset", item


def one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    """Checks a choice, for `get_config` and `check` of config files.

    Raises:
        ValueError: If `value` is not one of `allowed`; names the nearest.
    """
    if value not in allowed:
        raise ValueError(
            f"{name}={value!r} is unknown{nearest(value, allowed)}; allowed: {', '.join(allowed)}"
        )


def at_least_one(section: ConfigDict, prefix: str, *names: str) -> None:
    """Checks counts and sizes, for `check` of config files.

    Args:
        section: The config or one of its sections.
        prefix: Its name, "config" or "config.model".
        *names: Its fields.

    Raises:
        ValueError: If a field is less than 1.
    """
    for name in names:
        if section[name] < 1:
            raise ValueError(f"{prefix}.{name}={section[name]}: expected at least 1")


def load_config(spec: str, overrides: Mapping[str, str] | None = None) -> ConfigDict:
    """Returns the locked, validated config of "path/to/file.py:preset[,key=value...]".

    Args:
        spec: Path of the config file (from the working directory or the repository) and its
            argument.
        overrides: Dotted field names to new values as text, converted to the field's type.

    Raises:
        UserError: One line that names the field, the value and what is allowed.
    """
    path, arg = split_spec(spec)
    file = _find(path)
    module = _load_module(file)
    config = _call(spec, file, module.get_config, arg or None)
    if not isinstance(config, ConfigDict):
        got = type(config).__name__
        raise UserError(f"--config={path}: get_config returned {got}, not ConfigDict")
    check_fields(config)
    _fill_defaults(config, config_folder(str(config.get("experiment")), file))
    for key, text in (overrides or {}).items():
        override(config, key, text)
    check_required(config)
    validate(config)
    if hasattr(module, "check"):
        _call(spec, file, module.check, config)
    return config.lock()


def complete(section: ConfigDict, config_dir: str, **fields: Any) -> ConfigDict:
    """Returns a part of a config that is a config itself: loop fields filled in, checked, locked.

    Args:
        section: The part; it stays as it is.
        config_dir: Folder of the config file, for builders named "file.py:function".
        **fields: New values of top-level fields, such as the seed.

    Raises:
        UserError: As `load_config`, but for the checks of the config file.
    """
    config = ConfigDict({**section.to_dict(), **fields})
    _fill_defaults(config, Path(config_dir))
    validate(config)
    return config.lock()


def from_json(text: str) -> ConfigDict:
    """Returns the locked config stored in a run folder as `config.json`.

    Lists become tuples again; fields the loop gained since the run was made get their defaults.

    Raises:
        UserError: If a field of the loop is missing or of another type.
        ValueError, TypeError, KeyError, AttributeError: If it is no config at all.
    """
    values = nonfinite.from_json(json.loads(text))
    values.pop(FOLDER_FROM_RUN, None)
    config = ConfigDict(tuples(values))
    _fill_defaults(config, Path(config.get("config_dir") or ""))
    _check_types(config)
    return config.lock()


def canonical_json(config: ConfigDict | Mapping[str, Any]) -> str:
    """Returns JSON with sorted keys and no spaces: equal configs give equal text."""
    values = config.to_dict() if isinstance(config, ConfigDict) else dict(config)
    return json.dumps(values, sort_keys=True, separators=(",", ":"))


def config_hash(config: ConfigDict | Mapping[str, Any]) -> str:
    """Returns 12 hex digits that identify a run up to seed, mesh and logging."""
    fields = config.to_dict() if isinstance(config, ConfigDict) else config
    values = {k: v for k, v in fields.items() if k not in NOT_HASHED}
    for name, default in LATER_DEFAULTS.items():
        if name in values and (changed := _changed(values.pop(name), default)) is not None:
            values[name] = changed
    return hashlib.sha256(canonical_json(values).encode()).hexdigest()[:12]


def _changed(value: Any, default: Any) -> Any:
    """Returns a value, or the fields of a section, other than its default; None if none is."""
    if isinstance(default, dict):
        parts = {name: _changed(value[name], default.get(name)) for name in value}
        return {name: part for name, part in parts.items() if part is not None} or None
    return None if json.dumps(value) == json.dumps(default) else value


def describe_diff(
    old: ConfigDict | Mapping[str, Any], new: ConfigDict | Mapping[str, Any]
) -> dict[str, tuple[Any, Any]]:
    """Returns {dotted field: (old value, new value)} for every field that differs.

    A field that one side lacks is None there.
    """
    flat_old, flat_new = flatten(old), flatten(new)
    names = sorted(flat_old.keys() | flat_new.keys())
    pairs = {name: (flat_old.get(name), flat_new.get(name)) for name in names}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def flatten(config: ConfigDict | Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns {dotted field: value} of all leaves."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, ConfigDict | Mapping):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[prefix + key] = list(value) if isinstance(value, tuple) else value
    return flat


def validate(config: ConfigDict) -> None:
    """Checks the fields of the loop, as far as no device is needed.

    Raises:
        UserError: For the first field that is out of range.
    """
    _check_types(config)
    sizes = ("num_steps", "steps_per_call", "log_every", "logical_shards", "seed_group", "keep")
    for name in sizes:
        _require(config[name] >= 1, name, config[name], "an integer of at least 1")
    for name in ("eval_every", "checkpoint_every"):
        _require(config[name] >= 0, name, config[name], "an integer of at least 0")
    for name in (*sizes, "eval_every", "checkpoint_every"):
        most = MAX_GROUP if name == "seed_group" else MAX_COUNT
        _require(config[name] <= most, name, config[name], f"an integer of at most {most}")
    if type(config.get("batch_size")) is int:
        allowed = f"an integer from 1 to {MAX_COUNT}"
        _require(1 <= config.batch_size <= MAX_COUNT, "batch_size", config.batch_size, allowed)
    ok = 0 <= config.seed <= MAX_SEED + 1 - config.seed_group
    _require(ok, "seed", config.seed, f"an integer from 0 to {MAX_SEED}, seed_group included")
    for name in ("num_steps", "eval_every", "checkpoint_every"):
        k = config.steps_per_call
        allowed = f"a multiple of steps_per_call={k}"
        _require(config[name] % k == 0, name, config[name], allowed)
    mesh = dict(config.mesh)
    ok = all(type(size) is int and (size >= 1 or size == -1) for size in mesh.values())
    ok = ok and list(mesh.values()).count(-1) <= 1 and bool(mesh)
    _require(ok, "mesh", mesh, "axis sizes of at least 1, at most one of them -1")
    if config.deterministic:  # under vmap XLA compiles Adam in other ways for other meshes
        allowed = "1 (deterministic=True)"
        _require(config.seed_group == 1, "seed_group", config.seed_group, allowed)
    if config.deterministic and "batch_size" in config:
        allowed = f"a multiple of logical_shards={config.logical_shards} (deterministic=True)"
        _require(
            config.batch_size % config.logical_shards == 0, "batch_size", config.batch_size, allowed
        )
    if builder_folder(config.experiment, config.config_dir) is None:
        known = (f"{paper.name}:" for paper in papers())
        hint = nearest(config.experiment.rpartition(":")[0] + ":", known)
        allowed = f'"topic.paper:builder" or "file.py:function" beside the config file{hint}'
        _require(False, "experiment", config.experiment, allowed)
    name, known = (
        config.experiment.rpartition(":")[2],
        builders(config.experiment, config.config_dir),
    )
    if known is not None and name not in known:
        hint = nearest(name, known)
        raise UserError(f"config.experiment={config.experiment!r}: no builder {name!r}{hint}")


def _check_types(config: ConfigDict) -> None:
    for name, value in flatten(config).items():
        allowed = "plain data: numbers of 64 bits, strings, tuples of them"
        _require(is_plain(value), name, value, allowed)
    if not isinstance(config.get("experiment"), str):
        raise UserError('config.experiment is missing: name a builder, "topic.paper:builder"')
    for name, default in LOOP_DEFAULTS.items():
        value = config[name]
        mapping = isinstance(default, dict) and isinstance(value, ConfigDict | Mapping)
        if not mapping and type(value) is not type(default):
            _require(False, name, value, f"a value of type {type(default).__name__}")


def _require(ok: bool, name: str, value: Any, allowed: str) -> None:
    if not ok:
        raise UserError(f"config.{name}={shown(value)}: expected {allowed}")


def _fill_defaults(config: ConfigDict, folder: Path) -> None:
    with config.unlocked():
        for key, value in LOOP_DEFAULTS.items():
            if key not in config:
                config[key] = ConfigDict(value) if isinstance(value, dict) else value
        config.config_dir = str(folder)


def _find(path: str) -> Path:
    written = user_path(path, "--config")
    for candidate in (written, REPOSITORY / written):
        if os.path.isfile(candidate):  # Path.is_file raises for long names
            return candidate.parent.resolve() / candidate.name
    folder = written.parent
    found = next((p for p in (folder, REPOSITORY / folder) if os.path.isdir(p)), None)
    names = [str(folder / file.name) for file in found.glob("*.py")] if found else []
    raise UserError(f"--config={path}: no such file{nearest(path, names)}")


def _load_module(path: Path) -> ModuleType:
    if path.suffix != ".py":
        raise UserError(f"--config={path}: expected a Python file (.py)")
    module = _call(str(path), path, source.load, path)
    if not hasattr(module, "get_config"):
        raise UserError(f"--config={path}: defines no get_config(arg)")
    return module


def _call(spec: str, file: Path, function: Callable[[Any], Any], argument: Any) -> Any:
    """Calls code of a config file; whatever it raises becomes one line with its place."""
    try:
        return function(argument)
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        raise UserError(f"--config={spec}: {place(error, file)}") from error
