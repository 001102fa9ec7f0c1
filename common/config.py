"""Config files: presets, typed overrides, validation, hash and diff; nothing here needs JAX.

A config file is trusted Python that defines `get_config(arg) -> ConfigDict`, where `arg` is
"preset[,key=value...]". Optional are `CHOICES`, what its argument offers; `ALLOWED`, the values of
fields, {"model.kind": ("np", "pt")}; and `check(config)`, which raises ValueError for values that
only this experiment can judge. Every config also has the fields of the loop
(`common.loop_fields`).
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from ml_collections import ConfigDict

from common.errors import UserError, nearest, place
from common.files import nonfinite
from common.files.storage import user_path
from common.loop_fields import LATER_DEFAULTS, NOT_HASHED, check_types, fill_defaults, validate
from common.papers import REPOSITORY, config_folder, split_spec
from common.provenance import source
from common.provenance.places import FOLDER_FROM_RUN
from common.values import check_fields, check_required, convert, flatten, override, tuples


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
            require_one_of(key, value, offered[key])
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


def require_one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    """Checks a choice, for `get_config` and `check` of config files.

    Raises:
        ValueError: If `value` is not one of `allowed`; names the nearest.
    """
    if value not in allowed:
        raise ValueError(
            f"{name}={value!r} is unknown{nearest(value, allowed)}; allowed: {', '.join(allowed)}"
        )


def require_at_least_one(section: ConfigDict, prefix: str, *names: str) -> None:
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
    fill_defaults(config, config_folder(str(config.get("experiment")), file))
    for key, text in (overrides or {}).items():
        override(config, key, text)
    check_required(config)
    validate(config)
    check_allowed(config, getattr(module, "ALLOWED", {}))
    if hasattr(module, "check"):
        _call(spec, file, module.check, config)
    return config.lock()


def check_allowed(config: ConfigDict, allowed: Mapping[str, tuple[str, ...]]) -> None:
    """Checks fields that have one of a few values.

    Args:
        config: The config.
        allowed: `ALLOWED` of its config file: the values by dotted name of the field.

    Raises:
        UserError: If a field has another one; names the nearest.
    """
    values = flatten(config)
    for name, some in allowed.items():
        try:
            require_one_of(f"config.{name}", values[name], some)
        except ValueError as error:
            raise UserError(str(error)) from error


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
    fill_defaults(config, Path(config_dir))
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
    fill_defaults(config, Path(config.get("config_dir") or ""))
    check_types(config)
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
