"""JSON that others may have damaged: read without a crash, its form checked, edits noticed.

A form says what a value has to be: `str`, `int`, `float`, `NUMBER` (finite), `PLAIN` (any JSON), a
dict of forms for an object with at least these fields ("name?" may be missing), `{str: form}` for
one with any names, `[form]` for a list, a tuple for one of several forms, any other value for
itself.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common.errors import DataError
from common.files import nonfinite
from common.files.storage import regular_bytes, storage_errors, write_file

NUMBER, PLAIN = "a number", "plain JSON"  # forms
MOST_LEVELS = 40  # of what we write; json itself and whoever walks the values stop at some hundreds
LARGEST = 1e100  # numbers beyond overflow when they are scaled or squared
SEAL = "digest"


def read_json(path: str | Path) -> dict[str, Any]:
    """Returns the object in a JSON file.

    Raises:
        DataError: If it cannot be read or is no JSON object.
    """
    path = Path(path)
    with storage_errors(path):
        content = regular_bytes(path)
    try:
        value = parse(content)
        wrong = fault(value, {str: PLAIN})
    except ValueError as error:
        value, wrong = {}, f"no JSON: {error}"
    if wrong:
        raise DataError(f"{path}: is damaged: {wrong}")
    return nonfinite.from_json(value)


def write_json(path: str | Path, value: Any) -> None:
    """Writes JSON so that readers see the old file or all of the new one.

    What is not finite is written as a string (`nonfinite`), and is a number for `read_json`.

    Raises:
        DataError: If the file cannot be written.
    """
    write_file(Path(path), text_of(value).encode())


def text_of(value: Any) -> str:
    """Returns the JSON of a file, one line for every value, for people and `git diff`."""
    plain = nonfinite.to_json(value)
    return json.dumps(plain, indent=1, allow_nan=False, ensure_ascii=False) + "\n"


def parse(content: bytes | str) -> Any:
    """Returns the value of a JSON text.

    Raises:
        ValueError: If it is none, or nested more deeply than anything that is written here.
    """
    try:
        value = json.loads(content)
        is_deep = not _is_shallow(value, MOST_LEVELS)
    except RecursionError:
        value, is_deep = None, True
    if is_deep:
        raise ValueError(f"it is nested more than {MOST_LEVELS} levels deep")
    return value


def fault(value: Any, form: Any) -> str:
    """Returns what keeps a value from having a form and from being shown, "" if nothing does."""
    return _fault_of_text(value) or _fault(value, form, "")


def is_number(value: Any) -> bool:
    """Returns whether a value is a finite number that can be calculated with."""
    is_real = isinstance(value, int | float) and not isinstance(value, bool)
    return is_real and abs(value) < LARGEST  # false for NaN


def digest(content: Mapping[str, Any]) -> str:
    """Returns the SHA-256 of an object as JSON, whatever the order of its fields.

    What is not finite counts as the string that stands for it (`nonfinite`).
    """
    try:
        canonical = _canonical(dict(content))
    except ValueError:  # few hold what is not finite, and walking all of one takes long
        canonical = _canonical(nonfinite.to_json(dict(content)))
    return hashlib.sha256(canonical.encode()).hexdigest()


def sealed(content: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the object with its own digest, which tells an edit by hand or a damage.

    Tuples become lists, and what is not finite the strings "NaN", "Infinity" and "-Infinity".
    """
    plain = json.loads(json.dumps(dict(content)), parse_constant=str)
    return {**plain, SEAL: digest(plain)}


def is_edited(content: Mapping[str, Any]) -> bool:
    """Returns whether an object has a digest that is not its own."""
    rest = {name: value for name, value in content.items() if name != SEAL}
    return SEAL in content and content[SEAL] != digest(rest)


def _canonical(content: dict[str, Any]) -> str:
    return json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _fault(value: Any, form: Any, name: str) -> str:
    is_right = True
    if isinstance(form, tuple):
        faults = [_fault(value, one, name) for one in form]
        return "" if "" in faults else faults[_meant(value, form)]
    if isinstance(form, dict) and isinstance(value, dict):
        return _fault_of_object(value, form, name)
    if isinstance(form, list) and isinstance(value, list):
        found = (_fault(item, form[0], f"{name}[{i}]") for i, item in enumerate(value))
        return next((text for text in found if text), "")
    if form is NUMBER:
        is_right = is_number(value)
    elif isinstance(form, dict | list):
        is_right, form = False, "an object" if isinstance(form, dict) else "a list"
    elif isinstance(form, type):
        is_right, form = type(value) is form, form.__name__
    elif form is not PLAIN:
        is_right, form = type(value) is type(form) and value == form, json.dumps(form)
    return "" if is_right else f"{name or 'it'} is {_shown(value)}, expected {form}"


def _fault_of_object(value: dict[str, Any], form: dict[Any, Any], name: str) -> str:
    start = f"{name}." if name else ""
    wanted = dict.fromkeys(value, form[str]) if str in form else form
    for field, one in wanted.items():
        known = field if str in form else field.removesuffix("?")
        if known not in value and known == field:
            return f"{start}{field} is missing"
        text = _fault(value[known], one, f"{start}{known}") if known in value else ""
        if text:
            return text
    return ""


def _meant(value: Any, forms: tuple[Any, ...]) -> int:
    """Returns the place of the form that a value is most likely meant to have."""
    kinds = [type(form) for form in forms]
    return kinds.index(type(value)) if type(value) in kinds else 0


def _fault_of_text(value: Any) -> str:
    """Returns what keeps a value from being written or shown."""
    waiting = [value]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict | list):
            parts = [*part, *part.values()] if isinstance(part, dict) else part
            waiting.extend(reversed(parts))
        elif isinstance(part, str):
            if not part.isascii() and any("\ud800" <= letter <= "\udfff" for letter in part):
                return f"it holds half a character: {_shown(part)}"
        elif isinstance(part, int) and abs(part) >= LARGEST:
            return "it holds a number that is too large"
    return ""


def _shown(value: Any) -> str:
    text = ascii(value)
    return text if len(text) <= 40 else f"{text[:40]}..."


def _is_shallow(value: Any, levels: int) -> bool:
    nested = [value]
    for _ in range(levels):
        nested = [
            item
            for one in nested
            if isinstance(one, dict | list)
            for item in (one.values() if isinstance(one, dict) else one)
        ]
    return not any(isinstance(one, dict | list) for one in nested)
