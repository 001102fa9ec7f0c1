"""Checkpoints: exact round trips, what is kept, and what is refused with a sentence."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from common.checkpoints import checkpoint, manifest, snapshot
from common.checkpoints.checkpoint import Checkpoints
from common.errors import DataError, UserError
from tests.common.states import State, abstract, assert_same, make_state


def test_every_kind_of_leaf_round_trips_to_the_bit(tmp_path: Path) -> None:
    state = make_state(3.0)
    extra = {"offset": 7, "best": np.float32(0.1), "history": (1, 2), "lost": float("nan")}
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.restore(abstract(state)) is None
        checkpoints.save(3, state, extra=extra, best=True)
        restored = checkpoints.restore(abstract(state), step="best")
    assert restored is not None
    assert restored.step == 3
    assert_same(restored.state, state)
    assert np.isnan(restored.extra.pop("lost"))
    assert restored.extra == {"offset": 7, "best": float(np.float32(0.1)), "history": [1, 2]}


@pytest.mark.parametrize("impl", ["threefry2x32", "rbg", "unsafe_rbg"])
def test_keys_keep_their_implementation(tmp_path: Path, impl: str) -> None:
    state = {"key": jax.random.key(5, impl=impl)}
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(0, state)
        restored = checkpoints.restore(abstract(state))
    assert restored is not None
    assert_same(restored.state, state)


def test_scalars_and_states_without_elements_are_stored(tmp_path: Path) -> None:
    state = {"count": 3, "rate": 0.25, "on": True, "host": np.float64(0.1)}
    like = {k: jax.ShapeDtypeStruct((), jnp.asarray(v).dtype) for k, v in state.items()}
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(0, {"nothing": jnp.zeros((0, 2)), "none": None})
        hollow = checkpoints.restore(
            {"nothing": jax.ShapeDtypeStruct((0, 2), jnp.float32), "none": None}
        )
        checkpoints.save(1, state)
        # A float64 of the host is not silently rounded to the float32 asked for.
        with pytest.raises(UserError, match=r"state/host is float64\[\], .* wants float32\[\]"):
            checkpoints.restore(like)
        checkpoints.save(2, {k: v for k, v in state.items() if k != "host"})
        restored = checkpoints.restore({k: v for k, v in like.items() if k != "host"})
    assert hollow is not None and hollow.state["nothing"].shape == (0, 2)
    assert restored is not None
    assert {k: v.item() for k, v in restored.state.items()} == {
        "count": 3,
        "rate": 0.25,
        "on": True,
    }


def test_snapshot_is_complete_before_save_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    donate = jax.jit(lambda s: jax.tree.map(lambda x: x + 1, s), donate_argnums=0)
    state = donate({str(i): jnp.zeros((256, 256)) for i in range(8)})
    host = np.zeros(1000)
    address = state["0"].unsafe_buffer_pointer()
    handed_over = []
    save_async = checkpoint.orbax().save_async

    def record(path: str, arrays: Any, **options: Any) -> Any:
        handed_over.extend(arrays.values())
        return save_async(path, arrays, **options)

    monkeypatch.setattr(checkpoint.orbax(), "save_async", record)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, {"device": state, "host": host})
        for _ in range(50):
            state = donate(state)
        host += 1
        restored = checkpoints.restore(
            {"device": abstract(state), "host": jax.ShapeDtypeStruct((1000,), np.float64)}
        )
    # The copies own their memory, so that the buffer could really be donated, and was.
    assert all(array.base is None for array in handed_over)
    assert state["0"].unsafe_buffer_pointer() == address
    assert restored is not None
    assert all((x == 1).all() for x in jax.tree.leaves(restored.state["device"]))
    assert not restored.state["host"].any()


def test_the_newest_and_the_best_are_kept(tmp_path: Path) -> None:
    with Checkpoints(tmp_path, keep_last=2) as checkpoints:
        for step in range(1, 7):
            checkpoints.save(step, {"x": jnp.float32(step)}, best=step in (1, 3))
        assert checkpoints.steps() == (3, 5, 6)
        assert checkpoints.best_step() == 3
        best = checkpoints.restore({"x": jax.ShapeDtypeStruct((), jnp.float32)}, step="best")
    assert best is not None and best.state["x"] == 3
    assert sorted(os.listdir(tmp_path)) == ["3", "5", "6"]


def test_a_step_just_saved_survives_older_ones_with_higher_numbers(tmp_path: Path) -> None:
    with Checkpoints(tmp_path, keep_last=1) as checkpoints:
        checkpoints.save(9, {"x": jnp.zeros(2)})
        checkpoints.save(4, {"x": jnp.ones(2)})
        assert checkpoints.steps() == (4, 9)


def test_pruning_by_hand_never_deletes_the_newest_valid_one(saved: Path, saved_copy: Path) -> None:
    shutil.copytree(saved / "2", saved_copy / "3")  # a manifest of another step is not valid
    assert manifest.verify(saved_copy) == {1: None, 2: None, 3: "MANIFEST.json is that of step 2"}
    assert manifest.prune(saved_copy, 1) == (1,)
    assert manifest.steps(saved_copy) == (2, 3)


def test_the_same_step_can_be_saved_twice(tmp_path: Path) -> None:
    like = {"x": jax.ShapeDtypeStruct((2,), jnp.float32)}
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, {"x": jnp.zeros(2)})
        checkpoints.save(1, {"x": jnp.ones(2)})
        restored = checkpoints.restore(like, step=1)
    assert restored is not None and (restored.state["x"] == 1).all()
    assert os.listdir(tmp_path) == ["1"]


def test_after_walking_back_the_refused_step_is_saved_again(
    saved_copy: Path, logged_warnings: list[str]
) -> None:
    (saved_copy / "2" / "state" / "_METADATA").unlink()
    with Checkpoints(saved_copy) as checkpoints:
        restored = checkpoints.restore(abstract(make_state()))
        checkpoints.save(2, make_state(5.0))
        again = checkpoints.restore(abstract(make_state()))
    assert restored is not None and restored.step == 1 and restored.extra == {"offset": 10}
    assert again is not None and again.step == 2
    assert_same(again.state, make_state(5.0))
    assert sorted(os.listdir(saved_copy)) == ["1", "2", "refused-2"]
    assert len(logged_warnings) == 1
    assert "step 2 refused: state/_METADATA is missing" in logged_warnings[0]


def test_if_nothing_valid_is_left_that_is_said_and_nothing_deleted(
    saved_copy: Path, logged_warnings: list[str]
) -> None:
    for step in ("1", "2"):
        (saved_copy / step / "MANIFEST.json").write_text("{}")
    with Checkpoints(saved_copy) as checkpoints:
        assert checkpoints.restore(abstract(make_state())) is None
    assert sorted(os.listdir(saved_copy)) == ["refused-1", "refused-2"]
    assert "no valid checkpoint is left" in logged_warnings[-1]


def test_explicit_steps_are_refused_instead_of_replaced(saved_copy: Path) -> None:
    (saved_copy / "2" / "commit_success.txt").write_text("")
    like = abstract(make_state())
    with Checkpoints(saved_copy, read_only=True) as checkpoints:
        with pytest.raises(DataError, match=r"corrupt: commit_success\.txt has 0 bytes"):
            checkpoints.restore(like, step=2)
        with pytest.raises(DataError, match="no checkpoint of step 7; there: 1, 2"):
            checkpoints.restore(like, step=7)
        assert checkpoints.restore(like, step="best") is None
    reasons = checkpoint.verify(saved_copy)
    assert reasons[1] is None
    assert (reasons[2] or "").startswith("commit_success.txt has 0 bytes instead of ")


def test_readers_change_nothing(saved_copy: Path) -> None:
    (saved_copy / "2" / "MANIFEST.json").unlink()
    (saved_copy / "tmp-3-999999999").mkdir()
    before = sorted(os.listdir(saved_copy))
    with Checkpoints(saved_copy, read_only=True) as checkpoints:
        restored = checkpoints.restore(abstract(make_state()))
        with pytest.raises(ValueError, match="read_only"):
            checkpoints.save(3, make_state())
    assert restored is not None and restored.step == 1
    assert sorted(os.listdir(saved_copy)) == before
    with Checkpoints(saved_copy / "absent", read_only=True) as checkpoints:
        assert checkpoints.restore(abstract(make_state())) is None
    assert not (saved_copy / "absent").exists()


def test_unknown_files_are_harmless(saved_copy: Path, logged_warnings: list[str]) -> None:
    for folder in ("2", "2/state", "2/state/d"):
        (saved_copy / folder / ".nfs0001").write_bytes(b"left by a network file system")
    (saved_copy / "notes.txt").write_text("mine")
    (saved_copy / "02").mkdir()  # not a name that is ever written
    with Checkpoints(saved_copy) as checkpoints:
        assert checkpoints.steps() == (1, 2)
        restored = checkpoints.restore(abstract(make_state()))
    assert restored is not None and not logged_warnings
    assert_same(restored.state, make_state(2.0))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s._replace(params=s.params["dense"]), "has no state/params/bias"),
        (
            lambda s: s._replace(step=jnp.zeros(2, jnp.int32)),
            r"state/step is int32\[\].*int32\[2\]",
        ),
        (lambda s: s._replace(step=jnp.float32(0)), r"state/step is int32\[\].*float32\[\]"),
        (lambda s: s._replace(key=jax.random.split(jax.random.key(0, impl="rbg"))), "state/key"),
        (lambda s: s._replace(params={}), "state/params/dense/bias is not part"),
    ],
)
def test_another_state_is_refused_with_its_path(
    saved: Path, change: Callable[[State], State], message: str
) -> None:
    with (
        Checkpoints(saved, read_only=True) as checkpoints,
        pytest.raises(UserError, match=message),
    ):
        checkpoints.restore(abstract(change(make_state())))


def test_leaves_that_are_not_arrays_are_refused(tmp_path: Path) -> None:
    with Checkpoints(tmp_path) as checkpoints:
        with pytest.raises(UserError, match="state/name is a str"):
            checkpoints.save(0, {"name": "adam"})
        with pytest.raises(UserError, match="state/a/b is the path of two leaves"):
            checkpoints.save(0, {"a/b": jnp.zeros(1), "a": {"b": jnp.zeros(1)}})
        with pytest.raises(TypeError, match="extra holds a set"):
            checkpoints.save(0, {"x": jnp.zeros(1)}, extra={"seen": {1}})
    assert os.listdir(tmp_path) == []


def test_a_digest_tells_states_apart_by_any_bit_path_type_and_shape() -> None:
    state = make_state(1.0)
    bias = state.params["dense"]["bias"]

    def with_bias(name: str, value: Any) -> Any:
        dense = {**state.params["dense"]}
        del dense["bias"]
        return state._replace(params={**state.params, "dense": {**dense, name: value}})

    states = {
        "the same": with_bias("bias", bias),
        "one bit": with_bias("bias", bias.at[1].set(jnp.nextafter(bias[1], jnp.float32(2)))),
        "path": with_bias("offset", bias),
        "type": with_bias("bias", bias.view(jnp.int32)),
        "shape": with_bias("bias", bias[None]),
        "key": state._replace(key=jax.random.split(jax.random.key(2), 2)),
        "empty": state._replace(empty=jnp.zeros((4, 0))),
    }
    digests = {name: snapshot.digest(one) for name, one in states.items()}

    assert digests["the same"] == snapshot.digest(state)
    assert len(set(digests.values())) == len(states)
