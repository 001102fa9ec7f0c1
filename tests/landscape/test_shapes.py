"""Numbers of surfaces against closed forms, and basins against a sweep over levels."""

import numpy as np
import pytest
from scipy import ndimage

from landscape.grids import axis
from landscape.shapes import (
    barrier,
    basin_share,
    curvatures,
    hessians,
    non_convex_share,
    num_minima,
    persistence,
    roughness,
    width,
)

X, Y = axis(-1, 1, 41), axis(-2, 2, 33)
A, B = np.meshgrid(X, Y, indexing="ij")
AXES = (X, Y)
ROUGH = np.random.default_rng(0).normal(size=(17, 12))


def test_the_hessian_of_a_quadratic_is_exact_at_every_point() -> None:
    wanted = np.array([[2.0, -3.0], [-3.0, 8.0]])
    values = A**2 - 3 * A * B + 4 * B**2 + A - 7

    found = hessians(values, AXES)

    # Four values are added and subtracted, and divided by squared steps.
    step = min(np.diff(axis).min() for axis in AXES)
    rounding = 16 * np.finfo(float).eps * np.abs(values).max() / step**2
    np.testing.assert_allclose(found, np.broadcast_to(wanted, found.shape), rtol=0, atol=rounding)
    for ends, eigenvalue in zip(curvatures(values, AXES), np.linalg.eigvalsh(wanted), strict=True):
        np.testing.assert_allclose(ends, eigenvalue, rtol=0, atol=2 * rounding)


def test_bowls_are_convex_saddles_are_not_and_a_cubic_is_in_one_half() -> None:
    bowl = (A**2 + B**2).astype(np.float32).astype(float)

    assert non_convex_share(bowl + 1000, AXES) == 0  # rounding of float32 is no curvature
    assert non_convex_share(A**2 - B**2, AXES) == 1
    assert non_convex_share(-(A**2) - B**2, AXES) == 1
    assert non_convex_share(A**3 + B**2, AXES) == 19 / 39  # of 39 inner columns those with a < 0
    holes = np.where(A > 0.02, np.inf, A**2 - B**2)
    assert non_convex_share(holes, AXES) == 1
    assert np.isnan(non_convex_share(np.full_like(A, np.nan), AXES))


def test_minima_of_an_egg_box_are_counted() -> None:
    # cos(4 pi a) has its minima off the border at a = -0.75, -0.25, 0.25, 0.75, cos(2 pi b) at
    # b = -1.5, -0.5, 0.5, 1.5: all are points of the grid.
    values = np.cos(4 * np.pi * A) + np.cos(2 * np.pi * B)

    assert num_minima(values) == 16
    assert num_minima(np.cos(4 * np.pi * X)) == 4
    assert num_minima(A**2 + B**2) == 1
    assert num_minima(np.zeros((5, 5))) == 0  # a plain has none: strict
    assert num_minima(A) == 0


def test_a_basin_is_what_hangs_together_with_the_lowest_point() -> None:
    two_wells = (A**2 - 0.25) ** 2 + 0.01 * A + 0 * B

    share = basin_share(two_wells, 0.02)
    assert share == np.mean((two_wells < 0.02) & (A < 0)) < np.mean(two_wells < 0.02)
    assert basin_share(two_wells, 1.0) == np.mean(two_wells < 1.0)
    assert basin_share(two_wells, -1.0) == 0
    cells = A.size * (X[1] - X[0]) * (Y[1] - Y[0])  # the rim of a circle on them is a staircase
    assert basin_share(A**2 + B**2, 0.25) == pytest.approx(np.pi / 4 / cells, rel=0.1)


def test_the_width_of_a_parabola_is_twice_the_root_of_the_level() -> None:
    fine = axis(-1, 1, 2001)

    # Between points the parabola is below its chord by (0.001)^2 / 4.
    assert abs(width(fine**2, fine, 0.09) - 0.6) < 1e-5
    assert width(np.abs(fine), fine, 0.3005) == pytest.approx(0.601, rel=1e-12)
    assert width(fine**2, fine, 2.0) == 2.0  # all of the axis
    assert width(fine**2 + 1, fine, 0.5) == 0
    walls = np.where(np.abs(fine) > 0.5, np.inf, 0.0)
    assert width(walls, fine, 0.5) == 1.0
    wells = (fine**2 - 0.25) ** 2 + 0.01 * fine  # two; the left one is lower
    assert width(wells, fine, 0.02) == pytest.approx(np.mean((wells < 0.02) & (fine < 0)) * 2, 0.01)


def test_the_barrier_is_the_height_above_the_chord_between_the_two_networks() -> None:
    a = axis(-0.5, 1.5, 41)
    bump = np.where((a > 0) & (a < 1), np.sin(np.pi * a), 5.0 * np.abs(a - 0.5) - 2.5)

    assert barrier(bump + 1 + 2 * a, a) == pytest.approx(1.0, abs=1e-12)
    assert barrier(3 * a, a) == pytest.approx(0.0, abs=1e-12)
    with pytest.raises(ValueError, match="no point at 1"):
        barrier(X[:30], X[:30])


def test_persistence_counts_the_basins_at_every_level() -> None:
    births, deaths = persistence(ROUGH)

    diagonal = np.ones((3, 3))
    for level in np.quantile(ROUGH, np.linspace(0.005, 0.995, 60)):
        wanted = ndimage.label(level >= ROUGH, diagonal)[1]
        assert np.sum((births <= level) & (level < deaths)) == wanted
    assert len(births) > 10 and births[0] == ROUGH.min() and np.isinf(deaths[0])


def test_persistence_of_a_line_is_that_by_hand() -> None:
    births, deaths = persistence(np.array([2.0, 0.0, 3.0, 1.0, 1.5, 1.2, 9.0]))

    assert births.tolist() == [0.0, 1.0, 1.2]
    assert deaths.tolist() == [np.inf, 3.0, 1.5]


def test_roughness_is_zero_for_one_basin_and_free_of_scale() -> None:
    wavy = A**2 + 0.25 * B**2 + 0.3 * np.cos(4 * np.pi * A)

    assert roughness(A**2 + B**2) == roughness(np.ones((4, 4))) == 0
    assert roughness(wavy) > 0.01
    assert roughness(5 * wavy + 7) == pytest.approx(roughness(wavy), rel=1e-9)
    assert roughness(wavy.T) == pytest.approx(roughness(wavy), rel=1e-12)


def test_axes_of_other_values_are_refused() -> None:
    with pytest.raises(ValueError, match=r"shape \(41, 33\) on axes of \[33, 41\] points"):
        hessians(A, AXES[::-1])
    with pytest.raises(ValueError, match=r"axes\[1\]: expected 3 evenly spaced"):
        hessians(A, (X, Y**3))
    with pytest.raises(ValueError, match=r"values of shape \(41,\) on an axis of \(33,\)"):
        width(X, Y, 1.0)
