"""Values of config fields: plain data, read from text in the type that a field has."""

import ast
import math
import warnings
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict
from ml_collections.config_dict import FieldReference, RequiredValueError

from common.errors import UserError, nearest, shortened, shown

LARGEST = 2**63 - 1  # integers of 64 bits, as arrays hold them
_EXAMPLES: dict[type, Any] = {int: 1, float: 0.5, bool: True, str: "text", tuple: (), list: ()}


def convert(name: str, text: str, like: Any) -> Any:
    """Returns `text` as a value of the type of `like`, lists and lists of lists as tuples.

    Raises:
        UserError: If the text is not such a value.
    """
    if isinstance(like, str):
        return text
    if isinstance(like, bool):
        if text.lower() in ("true", "1", "false", "0"):
            return text.lower() in ("true", "1")
        raise UserError(f"{name}={shown(text)}: expected true or false")
    if like is None:
        return tuples(literal(text, text))
    if isinstance(like, int | float):
        return _number(name, text, like)
    value = literal(text, None)
    if not isinstance(value, list | tuple):
        example = f", such as {shown(like)}" if like else ""
        raise UserError(f"{name}={shown(text)}: expected a list{example}")
    try:
        return _fitted(value, like)
    except TypeError as error:
        raise UserError(f"{name}={shown(text)}: {error}; such as {shown(like)}") from None


def convert_field(name: str, text: str, section: ConfigDict, field: str) -> Any:
    """Returns `text` as a value of a field of a section, which may be a placeholder.

    Raises:
        UserError: If the text is not such a value.
    """
    kept = dict(section.items(preserve_field_references=True))[field]
    if not (isinstance(kept, FieldReference) and kept.empty()):
        return convert(name, text, section[field])
    return None if text == "None" else convert(name, text, _EXAMPLES.get(kept.get_type()))


def override(config: ConfigDict, key: str, text: str) -> None:
    """Sets the field that a dotted name says to what a text means in the type of that field.

    Raises:
        UserError: If there is no such field, or the text is no value of its type.
    """
    section, field = _place_of(config, key)
    value = _axes(text) if key == "mesh" else _value(section, field, key, text)
    try:
        section[field] = value
    except TypeError as error:
        raise UserError(f"--config.{key}={shown(text)}: {shortened(str(error))}") from error


def value_of(section: ConfigDict, field: str) -> Any:
    """Returns the value of a field, None if it is a `required_placeholder` without one."""
    try:
        return section[field]
    except RequiredValueError:
        return None


def check_fields(section: ConfigDict, name: str = "config") -> None:
    """Checks that a config is a tree: names of text, and no section inside itself.

    Raises:
        UserError: Naming the first field that is otherwise.
    """
    _check_fields(section, name, {id(section): name})


def check_required(section: ConfigDict, prefix: str = "config") -> None:
    """Checks that every `required_placeholder` has got its value.

    Raises:
        UserError: Naming the first that has none, and its type.
    """
    for key, kept in section.items(preserve_field_references=True):
        try:
            value = section[key]
        except RequiredValueError:
            wanted = f"set --{prefix}.{key}=VALUE, of type {kept.get_type().__name__}"
            raise UserError(f"{prefix}.{key} has no value and needs one; {wanted}") from None
        if isinstance(value, ConfigDict):
            check_required(value, f"{prefix}.{key}")


def flatten(config: ConfigDict | Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns {dotted field: value} of all leaves."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, ConfigDict | Mapping):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[prefix + key] = list(value) if isinstance(value, tuple) else value
    return flat


def is_plain(value: Any) -> bool:
    """Returns whether a value is plain data: numbers of 64 bits but NaN, text, None, tuples."""
    if isinstance(value, list | tuple):
        return all(is_plain(item) for item in value)
    if type(value) is float:
        return not math.isnan(value)  # not equal to itself, so no config with it equals another
    if type(value) is int:
        return abs(value) <= LARGEST
    return value is None or type(value) in (bool, str)


def literal(text: str, otherwise: Any) -> Any:
    """Returns the Python literal that a text is; `otherwise` if it is none."""
    with warnings.catch_warnings(action="ignore"):  # Python's, about "[1or 2]" and "'\\:'"
        try:
            return ast.literal_eval(text)
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            return otherwise


def tuples(value: Any) -> Any:
    """Returns a value with its lists, at any depth, as tuples."""
    if isinstance(value, dict):
        return {key: tuples(item) for key, item in value.items()}
    return tuple(tuples(item) for item in value) if isinstance(value, list | tuple) else value


def _place_of(config: ConfigDict, key: str) -> tuple[ConfigDict, str]:
    """Returns the section that holds a field, and its name there."""
    names, section = key.split("."), config
    for position, name in enumerate(names):
        if name not in section:
            raise UserError(
                f"--config.{key}: no field {name!r}{nearest(name, section)}; "
                f"allowed: {', '.join(sorted(section))}; "
                "a new one is added where the config file makes its ConfigDict"
            )
        below, value = names[position + 1 :], value_of(section, name)
        if below and not isinstance(value, ConfigDict):
            path = ".".join(names[: position + 1])
            raise UserError(f"--config.{key}: {path!r} is a value and has no field {below[0]!r}")
        section = value if below else section
    return section, names[-1]


def _value(section: ConfigDict, field: str, key: str, text: str) -> Any:
    """Returns a text as a value of a field; of a section only its fields are set."""
    before = value_of(section, field)
    if isinstance(before, ConfigDict):
        fields = ", ".join(sorted(before))
        raise UserError(f"--config.{key}: is a section; set one of {fields}")
    return convert_field(f"--config.{key}", text, section, field)


def _axes(text: str) -> ConfigDict:
    """Returns a mesh from a text, the one section that is set as a whole."""
    sizes = literal(text, None)
    if not isinstance(sizes, dict) or {(type(a), type(n)) for a, n in sizes.items()} - {(str, int)}:
        example = "{'data': -1}"
        raise UserError(f"--config.mesh={shown(text)}: expected axis sizes, such as {example}")
    return ConfigDict(sizes)


def _number(name: str, text: str, like: int | float) -> int | float:
    wanted = "an integer" if isinstance(like, int) else "a number"
    try:
        number = int(text) if isinstance(like, int) else float(text)
    except ValueError:
        number = math.nan
    is_large = text.strip().strip("+-").isdecimal()
    overflows = abs(number) > LARGEST if isinstance(number, int) else math.isinf(number)
    is_nan = number != number  # isnan() takes no integers beyond floats
    if is_nan or (overflows and (is_large or "inf" not in text.lower())):
        wanted = f"{wanted} that 64 bits hold" if is_large or overflows else wanted
        raise UserError(f"{name}={shown(text)}: expected {wanted}, such as {like}")
    return number


def _fitted(value: Any, like: Any) -> Any:
    """Returns a value with the types of `like`, whose items say what items may be.

    Raises:
        TypeError: Naming the first item of another type.
    """
    like = tuples(like)
    if not isinstance(value, list | tuple) or not like:
        return tuples(value)
    kinds = {type(item) for item in like}
    items = []
    for item in value:
        kind = tuple if isinstance(item, list) else type(item)
        alike = [other for other in like if type(other) is kind]
        if not alike and kind is int and float in kinds:
            items.append(float(item))
            continue
        if not alike:
            names = " or ".join(sorted(other.__name__ for other in kinds))
            raise TypeError(f"{shown(item)} is not of type {names}")
        items.append(_fitted(item, sum(alike, ())) if kind is tuple else item)
    return tuple(items)


def _check_fields(section: ConfigDict, name: str, above: Mapping[int, str]) -> None:
    try:
        keys = section.keys()
    except TypeError as error:  # they are sorted
        raise UserError(f"{name} has fields not called by text: {error}") from error
    for key in keys:
        if not isinstance(key, str):
            raise UserError(f"{name} has a field called {shown(key)}: expected text")
        value = value_of(section, key)
        if id(value) in above:
            raise UserError(f"{name}.{key} is {above[id(value)]} again: a config inside itself")
        if isinstance(value, ConfigDict):
            _check_fields(value, f"{name}.{key}", {**above, id(value): f"{name}.{key}"})
