"""Data and batches at the door: what is refused and named, and what passes without a copy."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from common import contract
from common.contract import ContractError
from common.errors import DataError, DoesNotFit, UserError

BIG = 2**31
FLOAT_MAX = float(np.finfo(np.float32).max)


def door(tree: Any) -> Any:
    return contract.data(lambda: tree)()


@pytest.mark.parametrize(
    "rows",
    [
        np.array([BIG - 1, -BIG]),
        np.array([[2 * BIG - 1]], np.uint64),
        np.array([FLOAT_MAX, -FLOAT_MAX, np.inf, np.nan, 1e-300]),
        np.array([2.0**24, 2.0**24 + 2]),
        np.array([2.0**24 + 1, 0.5]),  # not whole: rounded like any measured number
        np.array([1e20, 3e20 + 7]),
        np.array([1e30 + 1e30j]),
        np.float64(3),
        np.arange(4, dtype=np.float32),
        np.ones(3, jnp.bfloat16),
        np.ones(3, bool),
        4,
    ],
)
def test_data_that_keep_their_meaning_in_32_bits_pass(rows: Any) -> None:
    found = door({"x": rows})["x"]

    assert isinstance(found, np.ndarray)
    assert np.array_equal(found, rows, equal_nan=found.dtype.kind in "fc")
    assert found.dtype == np.asarray(rows).dtype


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (np.array([0, BIG]), "data/set/x holds 2147483648, but int64 becomes int32 on the device"),
        (np.array([-BIG - 1]), "data/set/x holds -2147483649"),
        (np.array([2 * BIG], np.uint64), "holds 4294967296, but uint64 becomes uint32"),
        (np.arange(3_000_000).reshape(3, -1) + BIG - 2_999_999, "holds 2147483648"),
        (np.array([1.0, np.nan, -1e39]), r"holds -1e\+39, which is infinite as float32"),
        (np.array([1j, 1e39j]), r"holds 1e\+39, which is infinite"),
        (np.array([1.7e9 + 1, 1.7e9]), "whole numbers such as 1700000001, which float32 does not"),
        (np.zeros((0, 3)), r"data/set/x is empty: float64\(0, 3\)"),
        (np.array(["a", "b"]), r"data/set/x is <U1\(2,\): expected numbers"),
        (np.array([None, 1]), "data/set/x is object"),
        (np.array(["2020-01-01"], "datetime64[D]"), "expected numbers"),
    ],
)
def test_data_that_would_lose_it_are_named_with_the_value(rows: Any, message: str) -> None:
    with pytest.raises(ContractError, match=message) as error:
        door({"set": {"x": rows}, "fine": np.ones(2)})
    assert "\n" not in str(error.value)


def test_a_key_is_no_data_and_64_bits_are_kept_where_they_are_asked_for() -> None:
    with pytest.raises(ContractError, match="data/key is no array of numbers"):
        door({"key": jax.random.key(0)})
    with jax.enable_x64(True):
        rows = {"id": np.array([BIG]), "t": np.array([1.7e9 + 1]), "x": np.array([1e300])}
        assert all(np.array_equal(door(rows)[name], rows[name]) for name in rows)


def test_a_file_mapped_to_memory_is_not_copied(tmp_path: Path) -> None:
    rows = np.memmap(tmp_path / "rows", np.int64, "w+", shape=(1000, 5))

    assert np.shares_memory(door([rows])[0], rows)
    assert np.shares_memory(door([rows.T])[0], rows)


INDEX = np.zeros(4, np.int32)


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (
            lambda step: {"i": INDEX[: 4 - (step == 9)]},
            r"int32\(4,\), but batch\(9\)\['i'\] is int32",
        ),
        (
            lambda step: {"i": jnp.asarray(INDEX)},
            r"batch\(0\)\['i'\] is not a NumPy array but a jax",
        ),
        (lambda step: {"i": np.array([BIG * (step == 5)])}, r"batch\(5\)\['i'\] holds 2147483648"),
        (
            lambda step: {"i": INDEX} | ({"j": INDEX} if step == 19 else {}),
            r"batch\(19\) \['i', 'j",
        ),
    ],
)
def test_any_batch_of_a_run_is_as_the_first(batch: Callable[[int], Any], message: str) -> None:
    with pytest.raises(ContractError, match=message):
        contract.check_batches(batch, 20)
    checked = contract.batch(batch)  # also those that nobody looked at before
    with pytest.raises(ContractError, match=message):
        list(map(checked, range(20)))


def test_looking_at_batches_ends_in_time_and_sees_the_last() -> None:
    seen = []

    def batch(step: int) -> Any:
        seen.append(step)
        return {"index": INDEX, "epoch": np.array(step), "mean": np.float32(1)}

    contract.check_batches(batch, 10**6, seconds=0.0)

    assert set(seen) == {0, 1, 10**6 - 1}
    contract.check_batches(batch, 1)
    contract.check_batches(lambda step: {}, 5)


@pytest.mark.parametrize(
    ("raised", "kind", "text"),
    [
        (KeyError("indx"), UserError, "own: step: KeyError: 'indx' (test_contract.py, line "),
        (TypeError("a\n  b"), UserError, "own: step: TypeError: a b (test_contract.py"),
        (FileNotFoundError(2, "No such file", "x.npz"), UserError, "own: step: FileNotFoundError"),
        (ContractError("metric"), UserError, "own: metric"),
        (DataError("torn"), DataError, "torn"),
        (OSError(28, "No space left", "/x"), DataError, "/x: No space left"),
        (MemoryError("7 TiB"), DoesNotFit, "this machine has too little memory: 7 TiB"),
    ],
)
def test_an_error_of_an_experiment_is_named_with_its_place(
    raised: Exception, kind: type[UserError], text: str
) -> None:
    def fails() -> None:
        raise raised

    with pytest.raises(kind) as error:
        contract.named("own", "step", fails)()

    assert type(error.value) is kind
    assert str(error.value).startswith(text)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("promised", "message"),
    [
        ({"x": jax.ShapeDtypeStruct((2, 3), np.float64)}, ""),  # a device holds 32 bits of both
        ({"x": jax.ShapeDtypeStruct((2, 4), np.float32)}, r"float32\(2, 4\) for data.*\(2, 3\)"),
        ({"x": jax.ShapeDtypeStruct((2, 3), np.int32)}, r"int32\(2, 3\) for data.*float32"),
        ({"y": jax.ShapeDtypeStruct((2, 3), np.float32)}, "promises .*'y'.*'x'"),
    ],
)
def test_data_are_what_abstract_data_promises(promised: Any, message: str) -> None:
    made = contract.data(lambda: {"x": np.zeros((2, 3), np.float32)}, lambda: promised)

    if not message:
        assert made()["x"].shape == (2, 3)
        return
    with pytest.raises(ContractError, match=message):
        made()
