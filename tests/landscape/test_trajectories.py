"""Principal axes of a path: planar ones exactly, any one as NumPy's SVD has them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from landscape.directions import gaussian
from landscape.trajectories import path_axes, projection
from landscape.vectors import cosine, moved, norm
from tests.landscape.problems import assert_close


class Loaded:
    """Checkpoints that are read anew each time, and counts how often."""

    def __init__(self, trees: list) -> None:
        self.trees, self.reads = trees, 0

    def __len__(self) -> int:
        return len(self.trees)

    def __getitem__(self, index: int) -> dict:
        self.reads += 1
        return jax.tree.map(np.array, self.trees[index])


def tree_of(row: np.ndarray, step: int = 0) -> dict:
    return {"a": {"kernel": row[:12].reshape(4, 3), "bias": row[12:15]}, "step": np.int32(step)}


def row_of(tree: dict) -> np.ndarray:
    return np.concatenate([np.ravel(tree["a"]["kernel"]), np.ravel(tree["a"]["bias"])])


def path(n: int = 9, seed: int = 0) -> np.ndarray:
    steps = np.random.default_rng(seed).normal(size=(n, 15)) * np.geomspace(3, 0.1, 15)
    return np.cumsum(steps, axis=0)


@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize("rows_in_memory", [2, 64])
def test_axes_are_those_of_the_singular_value_decomposition(
    center: bool, rows_in_memory: int
) -> None:
    with jax.enable_x64(True):
        rows = path()
        trees = Loaded([tree_of(row, i) for i, row in enumerate(rows)])
        found = path_axes(trees, num_axes=3, center=center, rows_in_memory=rows_in_memory)
        shifted = rows - rows[-1]
        _, values, right = np.linalg.svd(shifted - shifted.mean(0) if center else shifted)

        np.testing.assert_allclose(found.explained, (values**2 / np.sum(values**2))[:3], rtol=1e-10)
        for axis, wanted, i in zip(found.axes, right, range(3), strict=False):
            flat = row_of(axis)
            assert_close(flat, wanted * np.sign(flat @ wanted), 1e-10)
            assert_close(found.coordinates[:, i], shifted @ flat, 1e-10)
            assert axis["step"] is None and found.coordinates[0, i] >= 0
        left = shifted - found.coordinates @ np.stack([row_of(axis) for axis in found.axes])
        # Roots of differences of squares keep half the digits.
        assert_close(found.residuals, np.linalg.norm(left, axis=1), 1e-7)
        assert_close(found.distances, np.linalg.norm(shifted, axis=1), 1e-12)
        assert np.max(found.residuals) > 0.1
        if rows_in_memory > len(rows):
            assert trees.reads == 2 * len(rows) + 1  # once, once more, and the last for its place


def test_a_planar_path_is_all_in_its_plane() -> None:
    with jax.enable_x64(True):
        random = np.random.default_rng(1)
        plane, end = random.normal(size=(2, 15)), random.normal(size=15)
        points = random.normal(size=(8, 2))
        points[-1] = 0
        trees = [tree_of(end + point @ plane) for point in points]
        found = path_axes(trees, num_axes=3)

        np.testing.assert_allclose(np.sum(found.explained[:2]), 1, rtol=1e-12)
        assert found.explained[2] == 0 and not np.any(row_of(found.axes[2]))
        # The square root of the rounding of squared distances.
        np.testing.assert_allclose(found.residuals, 0, atol=1e-6)
        for tree, point in zip(trees, found.coordinates, strict=True):
            np.testing.assert_allclose(row_of(moved(trees[-1], found.axes, point)), row_of(tree))


def test_centering_changes_nothing_where_the_mean_is_the_end() -> None:
    with jax.enable_x64(True):
        rows = path(6)
        rows = np.concatenate([rows, -rows, np.zeros((1, 15))]) + 1.0
        trees = [tree_of(row) for row in rows]
        one, other = (path_axes(trees, center=center) for center in (True, False))

        np.testing.assert_allclose(one.explained, other.explained, rtol=1e-10)
        np.testing.assert_allclose(one.coordinates, other.coordinates, atol=1e-9)
        uneven = [tree_of(row) for row in path()]
        shares = [path_axes(uneven, center=center).explained[0] for center in (True, False)]
        assert abs(shares[0] - shares[1]) > 0.01


def test_a_mere_growth_of_filters_is_no_motion_without_norms() -> None:
    random = np.random.default_rng(2)
    end = random.normal(size=15)
    growth = [(1 - i / 10) * np.r_[np.ones(12), np.zeros(3)] + 1 for i in range(11)]
    turns = random.normal(size=(11, 15)) * np.r_[np.ones(12) * 0.01, np.zeros(3)]
    turns[-1] = 0
    trees = [tree_of(end * g + t) for g, t in zip(growth, turns, strict=True)]
    radial = path_axes(trees)
    free = path_axes(trees, norm_free=True)

    assert radial.explained[0] > 0.99 and abs(cosine(radial.axes[0], tree_of(end))) > 0.9
    assert free.explained[0] < 0.6
    assert np.max(free.distances) < 0.1 < np.max(radial.distances)
    # Tangential: every filter of the axes is nearly orthogonal to that of the end.
    inner = np.sum(np.asarray(free.axes[0]["a"]["kernel"]) * end[:12].reshape(4, 3), axis=0)
    assert np.max(np.abs(inner)) < 0.02


def test_projections_on_oblique_axes_are_the_nearest_points() -> None:
    with jax.enable_x64(True):
        rows = path()
        trees = [tree_of(row) for row in rows]
        axes = [gaussian(key, trees[-1]) for key in jax.random.split(jax.random.key(0))]
        found = projection(trees, axes, center=False)
        basis, shifted = np.stack([row_of(axis) for axis in axes]), rows - rows[-1]
        wanted = np.linalg.lstsq(basis.T, shifted.T, rcond=None)[0].T
        left = np.linalg.norm(shifted - wanted @ basis, axis=1)

        assert_close(found.coordinates, wanted, 1e-10)
        assert_close(found.residuals, left, 1e-7)
        share = 1 - np.sum(left**2) / np.sum(shifted**2)
        np.testing.assert_allclose(found.explained, share, rtol=1e-10)
        best = path_axes(trees)
        again = projection(trees, best.axes)
        np.testing.assert_allclose(again.explained, np.sum(best.explained), rtol=1e-10)
        assert_close(again.coordinates, best.coordinates, 1e-10)
        assert found.explained < 0.9 * np.sum(best.explained)


def test_half_precision_paths_have_unit_axes_and_frozen_parameters_do_not_count() -> None:
    trees = [
        jax.tree.map(lambda x: np.asarray(x).astype(jnp.bfloat16), tree_of(row)) for row in path()
    ]
    trees = [{**tree, "step": np.int32(0)} for tree in trees]
    found = path_axes(trees, frozen="bias")

    for axis in found.axes:
        np.testing.assert_allclose(norm(axis), 1, rtol=1e-6)
        assert not np.any(axis["a"]["bias"])


def test_paths_that_are_none_are_refused() -> None:
    trees = [tree_of(row) for row in path(3)]
    odd = {**trees[0], "more": np.ones(2)}
    bad = tree_of(np.full(15, np.nan))
    for message, act in {
        "1 checkpoints are no path": lambda: path_axes(trees[:1]),
        "num_axes=3: a path of 3 checkpoints has 1 to 2": lambda: path_axes(trees, num_axes=3),
        "checkpoint 0 is of another tree": lambda: path_axes([odd, *trees]),
        "checkpoint 0 or the last one has parameters that are not": lambda: path_axes(
            [bad, *trees]
        ),
        "frozen='norm' matches no": lambda: path_axes(trees, frozen="norm"),
        "rows_in_memory=0": lambda: path_axes(trees, rows_in_memory=0),
        "axes depend on one another": lambda: projection(trees, [trees[0], trees[0]]),
    }.items():
        with pytest.raises(ValueError, match=message):
            act()
