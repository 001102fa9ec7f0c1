"""Data that were made again are told from other data: by rounding, or by what they are made of."""

import hashlib
import json
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from absl import logging

from common import fingerprint
from common.errors import DataError
from common.fingerprint import Fingerprint
from common.loop import stops

Data = dict[str, Any]
SPEC = {"function": "topic.data.generate", "spec": {"sizes": [3, 4], "seed": 0, "version": 1}}


def data(dtype: Any = np.float32) -> Data:
    """Floats of a few chunks, of an offset and without, and labels."""
    random = np.random.default_rng(0)
    x = random.standard_normal(70_000).astype(dtype)
    return {"x": x, "fields": {"u": (5 + x[:300]).reshape(3, 100)}, "label": np.arange(9)}


def of(found: Data, identity: dict[str, Any] | None = None) -> Fingerprint:
    """The fingerprint as the next session reads it from a checkpoint."""
    record = fingerprint.to_record(fingerprint.fingerprint(found, identity))
    return fingerprint.from_record(json.loads(json.dumps(record)))


def changed(change: Callable[[Data], None], dtype: Any = np.float32) -> Data:
    """The data after a change in place."""
    found = data(dtype)
    change(found)
    return found


def rounded(found: Data) -> None:
    """Changes every float by up to 20 units in the last place, as longer computations do."""
    for x in (found["x"], found["fields"]["u"]):
        x *= 1 + 20 * np.finfo(x.dtype).eps * np.random.default_rng(1).uniform(-1, 1, x.shape)


@pytest.fixture
def warnings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The logged warnings."""
    said: list[str] = []
    monkeypatch.setattr(logging, "warning", lambda text, *a: said.append(text % a))
    return said


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rounded_floats_are_the_same_data_and_a_warning_says_how_far_they_are(
    dtype: Any, warnings: list[str]
) -> None:
    stops.require_same_data(of(data(dtype)), of(data(dtype)))
    assert warnings == []
    stops.require_same_data(of(data(dtype)), of(changed(rounded, dtype))._replace(cpu="Other 1/2"))

    (text,) = warnings
    assert "first on " in text and "now on Other 1/2" in text and "as by rounding" in text
    (most, *_) = fingerprint.differences(of(data(dtype)), of(changed(rounded, dtype)))
    assert 0 < most.distance < 40 * np.finfo(dtype).eps < most.allowed


@pytest.mark.parametrize(
    ("change", "names"),
    [
        (lambda d: d["x"].__imul__(1.01), "x differs by 9.9e-03"),
        (lambda d: d["fields"]["u"].__iadd__(0.01), "fields/u differs by"),
        (lambda d: d["x"].__setitem__(69_000, d["x"][69_000] + 1), "x differs by"),  # a lone one
        (lambda d: d["x"].__setitem__(slice(None), np.roll(d["x"], fingerprint.CHUNK)), "x diff"),
        (lambda d: d["x"].__setitem__(3, np.nan), "x has other values"),
        (lambda d: d["label"].__setitem__(3, 4), "label has other values"),
        (lambda d: d.update(label=d["label"].astype(np.int8)), r'label was "int64\[9\]", is "int8'),
        (lambda d: d.pop("label"), r"label was .*, is nothing"),
    ],
)
def test_other_data_are_refused_in_one_line_that_names_the_array(
    change: Callable[[Data], None], names: str, warnings: list[str]
) -> None:
    with pytest.raises(DataError, match=f"began with other data: {names}.*--workdir") as info:
        stops.require_same_data(of(data()), of(changed(change)))
    assert "\n" not in str(info.value) and warnings == []


@pytest.mark.parametrize("change", [rounded, lambda d: d["x"].__imul__(-1)])
def test_of_the_same_identity_only_the_types_are_asked(
    change: Callable[[Data], None], warnings: list[str]
) -> None:
    began = of(data(), SPEC)
    stops.require_same_data(began, of(changed(change), SPEC))
    assert ("more than by rounding" in warnings[0]) == (change is not rounded)
    with pytest.raises(DataError, match=r"x was .float32\[70000\]., is .float64"):
        stops.require_same_data(began, of(data(np.float64), SPEC))


def test_another_identity_is_refused_field_by_field_also_with_the_same_bytes() -> None:
    other = {**SPEC, "spec": {"sizes": (3, 5), "seed": 1, "version": 1, "extra": None}}
    with pytest.raises(DataError) as info:
        stops.require_same_data(of(data(), SPEC), of(data(), other))
    assert "spec.sizes was [3, 4], is [3, 5]; spec.seed was 0, is 1; spec.extra" in str(info.value)
    stops.require_same_data(of(data()), of(data(), other))  # one side alone decides nothing


def test_a_record_of_an_older_version_has_its_bytes_only() -> None:
    old = fingerprint.from_record({"data_sha256": of(data()).sha256})
    stops.require_same_data(old, of(data(), SPEC))
    with pytest.raises(DataError, match="other data: sha256"):
        stops.require_same_data(old, of(changed(rounded), SPEC))


def test_numbers_of_odd_arrays_neither_overflow_nor_divide_by_zero() -> None:
    large = {"a": np.array([1e300, -1e300]), "b": np.zeros(3), "c": np.zeros((0, 2))}
    odd = {**large, "d": np.array([np.inf, 1]), "e": np.ones(2, np.complex64), "f": np.array("é")}
    leaves = of(odd).leaves
    assert leaves is not None
    assert [leaves[name]["rms"] for name in "abc"] == [1e300, 0, 0]
    assert leaves["d"]["not_finite"] == 1
    assert np.isfinite([leaves[name]["sums"] for name in "abcde"]).all()
    assert fingerprint.differences(of(odd), of({**odd, "f": np.array("e")}))[0].name == "f"


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float8_e4m3fn, jnp.int4])
def test_types_that_numpy_does_not_know_are_data_like_others(dtype: Any) -> None:
    rows = {"x": np.arange(-6, 6).reshape(3, 4).astype(dtype), "t": np.asarray([2], dtype)}
    kind = np.dtype(dtype).name
    text = b"".join(
        f"['{name}']{kind}{rows[name].shape}".encode() + rows[name].tobytes() for name in "tx"
    )

    assert of(rows).sha256 == hashlib.sha256(text).hexdigest()
    other = {**rows, "x": rows["x"] + np.asarray(1, dtype)}
    assert fingerprint.contradiction(of(rows), of(rows)) == ""
    assert "x " in fingerprint.contradiction(of(rows), of(other))
