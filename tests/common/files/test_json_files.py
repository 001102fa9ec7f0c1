"""JSON that others may have damaged: every damage is told in a line, none is a traceback."""

import json
import math
from typing import Any

import pytest

from common.files import json_files
from common.files.json_files import NUMBER, PLAIN

FORM = {
    "name": str,
    "count?": int,
    "rows": [{"value": (NUMBER, None), "kind": ("a", "b")}],
    "more": {str: PLAIN},
}
GOOD: dict[str, Any] = {
    "name": "x",
    "rows": [{"value": 1.5, "kind": "b", "also": True}, {"value": None, "kind": "a"}],
    "more": {"any": [1, {"thing": None}]},
}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({}, ""),
        ({"count": 3}, ""),
        ({"count": "3"}, "count is '3', expected int"),
        ({"count": True}, "count is True, expected int"),
        ({"name": None}, "name is None, expected str"),
        ({"rows": {}}, "rows is {}, expected a list"),
        ({"rows": [7]}, "rows[0] is 7, expected an object"),
        ({"rows": [GOOD["rows"][0], {"kind": "a"}]}, "rows[1].value is missing"),
        ({"rows": [{"value": math.nan, "kind": "a"}]}, "rows[0].value is nan, expected a number"),
        ({"rows": [{"value": 1e300, "kind": "a"}]}, "rows[0].value is 1e+300, expected a number"),
        ({"rows": [{"value": True, "kind": "a"}]}, "rows[0].value is True, expected a number"),
        ({"rows": [{"value": 1, "kind": "c"}]}, "rows[0].kind is 'c', expected \"a\""),
        ({"more": []}, "more is [], expected an object"),
        ({"more": {"x": "\ud800"}}, "half a character"),
        ({"more": {"\udfff": 1}}, "half a character"),
        ({"more": {"x": [10**200]}}, "number that is too large"),
        ({"name": "y" * 99, "rows": 9 * [7] + [GOOD]}, "rows[0] is 7, expected an object"),
    ],
)
def test_the_first_fault_is_named_with_its_place(change: dict[str, Any], told: str) -> None:
    found = json_files.fault({**GOOD, **change}, FORM)
    assert found == told if not told.startswith(("half", "number")) else told in found
    json.dumps(found).encode()


def test_a_text_nested_too_deeply_is_no_json() -> None:
    assert json_files.parse("[" * 30 + "]" * 30) == json.loads("[" * 30 + "]" * 30)
    for levels in (50, 100_000):
        for text in ("[" * levels + "]" * levels, '{"a":' * levels + "1" + "}" * levels):
            with pytest.raises(ValueError, match="more than 40 levels"):
                json_files.parse(text)
    with pytest.raises(ValueError, match="Expecting"):
        json_files.parse(b'{"a": ')


def test_a_seal_tells_every_edit_and_none_of_what_json_does_by_itself() -> None:
    content = {"b": (1, 2.5), "a": {"x": None, "nan": math.nan}, "1": 1e-7}
    read = json.loads(json.dumps(json_files.sealed(content), indent=1))
    assert not json_files.is_edited(read)
    assert not json_files.is_edited({name: read[name] for name in reversed(read)})
    assert not json_files.is_edited({"b": 1})  # of a version without seals
    for change in ({"b": [1, 2.6]}, {"c": 1}, {"digest": "0"}, {"a": {}}):
        assert json_files.is_edited({**read, **change})
