"""Surfaces over lines and planes: closed forms, conventions of the grid, chunks, devices, parts."""

import json
import signal
from pathlib import Path
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from common.evaluation import classification_values
from landscape.grids import Surface, axis, from_json, points_of, to_json, transposed
from landscape.surfaces import surface, values_at
from landscape.vectors import moved
from tests.landscape.problems import (
    assert_close,
    init_relu,
    labelled,
    quadratic,
    relu_network,
    symmetric,
)
from tests.processes import Child, run_pair

AXES = (axis(-1, 1, 5), axis(-0.5, 1, 4))  # not square, 0 on the first axis and on the second


def values(params: Any, rows: Any) -> dict[str, jax.Array]:
    return classification_values(relu_network(params, rows["x"]), rows["y"])


def problem() -> tuple[Any, tuple[Any, Any], Any]:
    params, d, e = (init_relu(seed, (4, 6, 3), has_bias=True) for seed in (0, 1, 2))
    return params, (d, e), labelled(3, 23)  # of NumPy: the same bits in every process


@pytest.fixture(scope="module")
def plane() -> Surface:
    params, directions, rows = problem()
    return surface(values, params, directions, AXES, rows)


def test_the_surface_of_a_quadratic_is_the_exact_paraboloid_and_its_curvature_d_h_d() -> None:
    with jax.enable_x64(True):
        matrix = symmetric([4.0, 1.0, 0.5, -2.0, 0.1, 3.0])
        params = {"a": np.arange(4.0).reshape(2, 2), "b": np.ones(2)}
        random = np.random.default_rng(0)
        d, e = (jax.tree.map(lambda x: random.normal(size=x.shape), params) for _ in range(2))
        rows = {"matrix": matrix}
        found = surface(quadratic, params, (d, e), AXES, rows).values["loss"]

        theta, d, e = (np.concatenate([t["a"].ravel(), t["b"]]) for t in (params, d, e))
        a, b = AXES[0][:, None, None], AXES[1][None, :, None]
        points = theta + a * d + b * e
        wanted = np.einsum("ijn,nm,ijm->ij", points, matrix, points) / 2
        assert_close(found, wanted, 1e-12)
        step = AXES[0][1] - AXES[0][0]
        curvature = (found[2:] - 2 * found[1:-1] + found[:-2]) / step**2
        assert_close(curvature, np.full_like(curvature, d @ matrix @ d), 1e-10)


def test_every_entry_is_the_mean_at_its_own_coordinates_first_direction_first(
    plane: Surface,
) -> None:
    params, directions, rows = problem()
    at = jax.jit(lambda a, b: values(moved(params, directions, (a, b)), rows))

    for i, j in ((0, 0), (0, 3), (4, 1), (2, 2)):
        wanted = at(AXES[0][i], AXES[1][j])
        for name in ("loss", "accuracy"):
            # float32 sums of 23 rows.
            assert_close(plane.values[name][i, j], np.mean(wanted[name]), 1e-6)
    assert plane.values["loss"].shape == plane.shape == (5, 4)


def test_the_center_is_the_model_bit_for_bit() -> None:
    params, directions, rows = problem()
    params = jax.tree.map(lambda x: np.asarray(x).astype(jnp.bfloat16), params) | {"count": 3}

    move = jax.jit(lambda params, directions, point: moved(params, directions, point))
    found = move(params, directions_with_count(directions), np.zeros(2))
    chex.assert_trees_all_equal(found, params)
    network = {k: params[k] for k in directions[0]}
    still = jax.tree.map(np.zeros_like, directions)
    at = jax.jit(lambda directions, points: values_at(values, network, directions, points, rows))
    points = np.array([[0.25, 0.5], [0.0, 0.0]], np.float32)
    (there, center), (alone, _) = (np.asarray(at(d, points)["loss"]) for d in (directions, still))
    assert center == alone != there


def directions_with_count(directions: Any) -> list[Any]:
    return [direction | {"count": None} for direction in directions]


def test_the_transposed_grid_gives_the_transposed_surface(plane: Surface) -> None:
    params, directions, rows = problem()

    other = surface(values, params, directions[::-1], AXES[::-1], rows)

    for name, wanted in transposed(plane).values.items():
        assert_close(other.values[name], wanted, 1e-6)
    chex.assert_trees_all_equal(other.axes, transposed(plane).axes)


@pytest.mark.parametrize("how", [{"chunk": 5}, {"chunk": 1, "part": 3}, {"at_once": 3, "part": 7}])
def test_slices_parts_and_points_at_once_change_nothing(plane: Surface, how: Any) -> None:
    params, directions, rows = problem()

    found = surface(values, params, directions, AXES, rows, **how)

    for name, wanted in plane.values.items():
        assert_close(found.values[name], wanted, 1e-6)


def test_means_over_rows_are_taken_too_where_slices_are_full(plane: Surface) -> None:
    params, directions, rows = problem()

    def mean(params: Any, rows: Any) -> jax.Array:
        return values(params, rows)["loss"].mean()

    found = surface(mean, params, directions[:1], AXES[:1], rows)
    assert_close(found.values["loss"], plane.values["loss"][:, 1], 1e-6)  # where b = 0
    with pytest.raises(ValueError, match="loss is a mean over the rows.*chunk=5.*23 rows in all"):
        surface(mean, params, directions[:1], AXES[:1], rows, chunk=5)


def test_points_that_are_not_asked_for_are_nan_and_no_number_is_infinity() -> None:
    params, rows = {"a": np.ones(2, np.float32)}, {"x": np.arange(4, dtype=np.float32)}

    def root(params: Any, rows: Any) -> jax.Array:
        return jnp.sqrt(params["a"].sum() * rows["x"])

    points = np.array([[0.0], [np.nan], [-3.0]])
    at = lambda size: lambda *arguments: values_at(root, *arguments, at_once=size)
    both = jax.jit(lambda *arguments: [at(size)(*arguments) for size in (1, 2)])
    for found in jax.device_get(both(params, (params,), points, rows)):
        assert np.isfinite(found["loss"][0])
        assert np.isnan(found["loss"][1])
        assert found["loss"][2] == np.inf


DEVICES = """
import sys
import jax, numpy as np
from landscape.surfaces import surface
from tests.landscape.test_surfaces import AXES, problem, values
params, directions, rows = problem()
assert len(jax.devices()) == 8
for at_once in (1, 2):
    found = surface(values, params, directions, AXES, rows, chunk=8, at_once=at_once)
    np.savez(f"{sys.argv[1]}/{at_once}.npz", **found.values)
"""


@pytest.mark.slow
def test_eight_devices_give_the_numbers_of_one(
    plane: Surface, child: Child, tmp_path: Path
) -> None:
    quick = {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    done = child(DEVICES, str(tmp_path), devices=8, env=quick)

    assert done.returncode == 0, done.stderr
    for at_once in (1, 2):
        found = np.load(tmp_path / f"{at_once}.npz")
        for name, wanted in plane.values.items():
            assert_close(found[name], wanted, 1e-6)


PROCESSES = """
import json, os, sys
from common.devices import distributed
distributed.initialize_from_environment(timeout_seconds=30)
import jax, numpy as np
os.environ["LAB_CACHE"] = f"{sys.argv[1]}/{jax.process_index()}"  # as hosts without a shared disk
from landscape import kept_parts
from landscape.surfaces import surface
from tests.landscape.test_surfaces import AXES, problem, values
params, directions, rows = problem()
made = []
def ask():
    found = surface(values, params, directions, AXES, rows, part=4, keep=True)
    return {name: value.tolist() for name, value in found.values.items()}
first = ask()
before, kept_parts.surface_part = kept_parts.surface_part, lambda part: 1 / 0
kept_parts.surface_part.__module__ = before.__module__
kept_parts.surface_part.__qualname__ = before.__qualname__
assert ask() == first  # nothing is evaluated again
kept_parts.surface_part = before
if jax.process_index() == 1:
    next(iter(__import__("pathlib").Path(os.environ["LAB_CACHE"]).rglob("arrays.npz"))).unlink()
assert ask() == first  # the part that one of them lost, by both
print(json.dumps(first))
"""


@pytest.mark.slow  # two processes that load JAX
def test_two_processes_evaluate_a_surface_together_and_both_have_it(
    plane: Surface, tmp_path: Path
) -> None:
    for found in run_pair(PROCESSES, str(tmp_path), seconds=120):
        for name, wanted in plane.values.items():
            assert_close(np.array(found[name]), wanted, 1e-6)


KILLED = """
import os, signal, sys
import landscape.kept_parts as kept
from landscape.surfaces import surface
from tests.landscape.test_surfaces import AXES, problem, values
made = kept.surface_part
def part(spec):
    if spec.start >= 12:
        os.kill(os.getpid(), signal.SIGKILL)
    return made(spec)
part.__module__, part.__qualname__ = made.__module__, made.__qualname__
kept.surface_part = part
params, directions, rows = problem()
surface(values, params, directions, AXES, rows, part=4, keep=True)
"""


def test_a_killed_surface_goes_on_bit_for_bit(
    child: Child, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAB_CACHE", str(tmp_path))
    params, directions, rows = problem()
    compiled_alike = {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}  # as here: bits depend on it
    done = child(KILLED, env={"LAB_CACHE": str(tmp_path), **compiled_alike})
    assert done.returncode == -signal.SIGKILL, done.stderr
    kept = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("arrays.npz")}
    assert len(kept) == 3

    resumed = surface(values, params, directions, AXES, rows, part=4, keep=True)
    whole = surface(values, params, directions, AXES, rows, part=4)

    for name, wanted in whole.values.items():
        assert resumed.values[name].tobytes() == wanted.tobytes()
    assert {p: p.stat().st_mtime_ns for p in kept} == kept
    assert len(list(tmp_path.rglob("arrays.npz"))) == 5


def test_kept_parts_are_those_of_the_same_function_parameters_and_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAB_CACHE", str(tmp_path))
    params, directions, rows = problem()
    count = lambda: len(list(tmp_path.rglob("arrays.npz")))

    def twice(factor: float) -> Any:
        return lambda params, rows: {"loss": factor * values(params, rows)["loss"]}

    def line(function: Any, params: Any, rows: Any) -> np.ndarray:
        found = surface(function, params, directions[:1], AXES[:1], rows, keep=True)
        return found.values["loss"]

    first = line(twice(1.0), params, rows)
    assert (line(twice(1.0), params, rows) == first).all() and count() == 1
    assert_close(line(twice(2.0), params, rows), 2 * first, 1e-6)
    line(twice(1.0), jax.tree.map(lambda x: 2 * np.asarray(x), params), rows)
    line(twice(1.0), params, {**rows, "x": -np.asarray(rows["x"])})
    assert count() == 4


def test_statistics_are_frozen_or_follow_the_weights() -> None:
    random = np.random.default_rng(0)
    rows = {"x": np.float32(random.normal(size=(12, 3)))}
    params = {"kernel": np.float32(random.normal(size=(3, 2)))}
    direction = {"kernel": np.float32(random.normal(size=(3, 2)))}

    def statistics(params: Any, rows: Any, state: Any) -> Any:
        hidden = rows["x"] @ params["kernel"]
        return {"mean": state["mean"] * 0 + hidden.mean(0), "var": hidden.var(0)}

    def cubes(params: Any, rows: Any, state: Any) -> Any:
        hidden = rows["x"] @ params["kernel"] - state["mean"][None]
        return ((hidden / jnp.sqrt(state["var"])[None]) ** 4).sum(1)

    state = {"mean": np.ones(2, np.float32), "var": np.full(2, 4, np.float32)}
    common = {"model_state": state, "chunk": 4}
    arguments = params, (direction,), AXES[:1], rows
    frozen = surface(cubes, *arguments, **common).values["loss"]
    moving = surface(cubes, *arguments, statistics=statistics, **common).values["loss"]

    for i, a in enumerate(AXES[0]):
        hidden = rows["x"] @ (params["kernel"] + a * direction["kernel"])
        assert_close(frozen[i], (((hidden - 1) / 2) ** 4).sum(1).mean(), 1e-5)
        normal = (hidden - hidden.mean(0)) / hidden.std(0)
        assert_close(moving[i], (normal**4).sum(1).mean(), 1e-5)


def test_surfaces_in_json_come_back_bit_for_bit() -> None:
    odd = np.array([[0.1, np.nan], [np.inf, 1e-300]])
    wanted = Surface((np.array([0.0, 1 / 3]), np.array([-1.0, 2.0])), {"loss": odd})

    found = from_json(json.loads(json.dumps(to_json(wanted), allow_nan=False)))

    chex.assert_trees_all_equal(found, wanted)


def test_axes_have_an_exact_zero_and_points_run_over_the_last_direction_first() -> None:
    for points in (7, 11, 51, 251):
        assert axis(-1, 1, points)[points // 2] == 0
    assert (
        points_of((np.arange(2.0), np.arange(2.0, 4.0))) == [[0, 2], [0, 3], [1, 2], [1, 3]]
    ).all()


def refused(message: str, **changed: Any) -> None:
    params, directions, rows = problem()
    given: dict[str, Any] = {"params": params, "directions": directions, "axes": AXES}
    given |= {"rows": rows, **changed}
    with pytest.raises(ValueError, match=message) as caught:
        surface(values, **given)
    assert "\n" not in str(caught.value)


def test_bad_input_is_told_in_one_line() -> None:
    params, directions, rows = problem()
    infinite = jax.tree.map(lambda x: np.full_like(x, np.inf), params)
    other = {"dense_0": directions[0]["dense_0"]}
    state = {"norm": {"var": np.array([1, 0], np.float32)}}

    refused("is not finite at the center", params=infinite)
    refused(r"directions\[1\] is of another tree", directions=(directions[0], other))
    refused("2 axes for 1 directions", directions=directions[:1])
    refused(r"axes\[1\]: expected finite, increasing", axes=(AXES[0], AXES[1][::-1]))
    refused("norm/var has an entry 0.*running variance", model_state=state)
    with pytest.raises(ValueError, match="low < high"):
        axis(1.0, -1.0, 5)
    with pytest.raises(ValueError, match="points of 2 coordinates, 1 directions"):
        values_at(values, params, directions[:1], np.zeros((3, 2)), rows)


def test_a_variance_that_gets_negative_on_the_way_is_warned_of(
    caplog: pytest.LogCaptureFixture,
) -> None:
    params = {"norm": {"var": np.array([1, 2], np.float32)}}
    direction = {"norm": {"var": np.array([0.1, -3], np.float32)}}

    def root(params: Any, rows: Any) -> jax.Array:
        return jnp.sqrt(params["norm"]["var"].min()) * rows["x"]

    found = surface(root, params, (direction,), (axis(-1, 1, 3),), {"x": np.ones(2, np.float32)})

    assert (np.isfinite(found.values["loss"]) == [True, True, False]).all()
    assert "params/norm/var is not positive at (1): the loss there is infinite" in caplog.text
