"""SIRENs: definition, initialization, symmetry, and fits that depend on their own image only."""

import math
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from common.errors import NumericalError
from nfn.sine import SineMethod
from nfn.siren import FittedSirens, coordinate_grid, fit_sirens, init_siren, render, siren

WIDTHS = (2, 8, 8, 1)
FIT: dict[str, Any] = {
    "widths": WIDTHS,
    "omega": 10.0,
    "steps": 100,
    "learning_rate": 2e-2,
    "chunk": 4,
}


def smooth_images(n: int, size: int = 8) -> np.ndarray:
    """Gray waves in [0, 1], float32 [n, size, size]; image i depends on i only."""
    row, column = np.meshgrid(*[np.linspace(-1, 1, size)] * 2, indexing="ij")
    images = [0.5 + 0.4 * np.sin(2 * row + i) * np.cos((1 + i % 3) * column) for i in range(n)]
    return np.stack(images).astype(np.float32)


@pytest.fixture(scope="module")
def reports() -> list[tuple[int, int]]:
    return []


@pytest.fixture(scope="module")
def fitted(reports: list[tuple[int, int]]) -> FittedSirens:
    on_chunk = lambda done, total: reports.append((done, total))
    return fit_sirens(smooth_images(10), **FIT, on_chunk=on_chunk)


@pytest.mark.parametrize(
    ("widths", "size"), [((2, 32, 32, 1), 1_185), ((2, 32, 32, 3), 1_251), ((2, 16, 16, 1), 337)]
)
def test_parameter_counts_are_the_papers(widths: tuple[int, ...], size: int) -> None:
    shapes = jax.eval_shape(
        lambda key: init_siren(key, widths=widths, omega=30.0), jax.random.key(0)
    )

    assert sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes)) == size


def test_initial_weights_are_uniform_within_the_bounds_of_the_paper() -> None:
    keys = jax.random.split(jax.random.key(0), 400)
    init = jax.vmap(lambda key: init_siren(key, widths=(2, 32, 32, 1), omega=30.0))
    params = jax.jit(init)(keys)
    hidden = math.sqrt(6 / 32) / 30
    bounds = {
        "dense_0": {"kernel": 1 / 2, "bias": 1 / math.sqrt(2)},
        "dense_1": {"kernel": hidden, "bias": 1 / math.sqrt(32)},
        "dense_2": {"kernel": hidden, "bias": 1 / math.sqrt(32)},
    }

    scaled = jax.tree.map(lambda draws, bound: np.asarray(draws) / bound, params, bounds)
    for draws in jax.tree.leaves(scaled):
        assert 0.98 < np.abs(draws).max() <= 1
        # Five standard errors of mean and variance of U(-1, 1).
        assert abs(draws.mean()) < 5 / math.sqrt(3 * draws.size)
        assert abs(draws.var() - 1 / 3) < 5 * math.sqrt(4 / 45 / draws.size)


@pytest.mark.parametrize("sine", [pytest.param("jnp", marks=pytest.mark.slow), "polynomial"])
def test_siren_is_what_its_definition_says(sine: SineMethod) -> None:
    params = init_siren(jax.random.key(1), widths=(2, 16, 16, 3), omega=30.0)
    coordinates = coordinate_grid(9)

    x = np.asarray(coordinates, np.float64)
    for layer in ("dense_0", "dense_1", "dense_2"):
        x = x @ np.asarray(params[layer]["kernel"], np.float64) + np.asarray(params[layer]["bias"])
        x = np.sin(30 * x) if layer != "dense_2" else x

    # A phase of up to 30 radians has an ulp of 2e-6; the second layer amplifies it about 10 times.
    values = jax.jit(lambda p: siren(p, coordinates, omega=30.0, sine=sine))(params)
    np.testing.assert_allclose(values, x, atol=5e-5)


def test_the_grid_runs_row_by_row_from_corner_to_corner() -> None:
    grid = coordinate_grid(3, 5).reshape(3, 5, 2)

    np.testing.assert_array_equal(grid[:, 0, 0], [-1, 0, 1])
    np.testing.assert_array_equal(grid[0, :, 1], [-1, -0.5, 0, 0.5, 1])
    np.testing.assert_array_equal(grid[0, :, 0], -1)
    np.testing.assert_array_equal(grid[:, 0, 1], -1)


def test_moving_the_image_is_an_edit_of_the_first_bias() -> None:
    params = init_siren(jax.random.key(2), widths=(2, 16, 16, 1), omega=10.0)
    coordinates, delta = coordinate_grid(7), jnp.array([0.25, -0.5])

    first = params["dense_0"]
    edited = params | {"dense_0": first | {"bias": first["bias"] - delta @ first["kernel"]}}
    moved = siren(params, coordinates - delta[None], omega=10.0)

    # One more rounding of phases of at most 20 radians.
    chex.assert_trees_all_close(siren(edited, coordinates, omega=10.0), moved, atol=2e-5)
    assert float(jnp.abs(moved - siren(params, coordinates, omega=10.0)).max()) > 0.1


@pytest.fixture(scope="module")
def begun() -> FittedSirens:
    return fit_sirens(smooth_images(10), **FIT | {"steps": 5})


def test_fitting_brings_smooth_images_above_30_db(
    begun: FittedSirens, fitted: FittedSirens
) -> None:
    assert begun.psnr.max() < 25
    assert fitted.psnr.min() > 30
    chex.assert_trees_all_close(fitted.psnr, 10 * np.log10(4 / fitted.mse), rtol=1e-5)


def test_rendering_at_the_fitted_size_shows_the_images(fitted: FittedSirens) -> None:
    images = render(fitted.params, 8, omega=10.0)

    assert images.shape == (10, 8, 8)
    mse = np.mean((images - smooth_images(10)) ** 2, axis=(1, 2))
    # The polynomial of the fit against XLA's sine; clipping does nothing to these images.
    np.testing.assert_allclose(-10 * np.log10(mse), fitted.psnr, atol=0.05)


def test_images_that_are_not_square_are_drawn_row_by_row(fitted: FittedSirens) -> None:
    images = render(fitted.params, (4, 7), omega=10.0)

    assert images.shape == (10, 4, 7)
    # Corners of the picture are corners of any grid, the middle row of 7 rows that of 3.
    square = render(fitted.params, 7, omega=10.0)
    np.testing.assert_allclose(images[:, [0, -1]], square[:, [0, -1]], atol=1e-5)
    np.testing.assert_allclose(images[:, :, 0][:, [1, 2]], square[:, [2, 4], 0], atol=1e-5)


@pytest.mark.slow  # a program of its own
def test_color_images_of_bytes_are_fitted_in_all_channels() -> None:
    gray = smooth_images(6).reshape(2, 3, 8, 8)
    images = np.round(255 * np.moveaxis(gray, 1, -1)).astype(np.uint8)
    fitted = fit_sirens(images, **FIT | {"widths": (2, 8, 8, 3), "schedule": "constant"})

    error = render(fitted.params, 8, omega=10.0) - images / 255
    assert np.sqrt(np.mean(error**2, axis=(0, 1, 2))).max() < 0.05  # for every channel


def test_a_network_does_not_depend_on_other_images(fitted: FittedSirens) -> None:
    images = smooth_images(10)
    images[[0, 3, 9]] = 0.25
    other = fit_sirens(images, **FIT)

    same = np.array([1, 2, 4, 5, 6, 7, 8])
    chex.assert_trees_all_equal(*[jax.tree.map(lambda x: x[same], f) for f in (other, fitted)])
    change = np.abs(other.params["dense_0"]["kernel"] - fitted.params["dense_0"]["kernel"])
    assert change[[0, 3, 9]].max(axis=(1, 2)).min() > 0.01


@pytest.mark.slow  # a program of its own
def test_another_chunk_or_a_piece_of_the_set_begins_the_same_fits(begun: FittedSirens) -> None:
    # Chunks of 3 and a piece from 4 on, which is in other places of them: another program.
    piece = fit_sirens(smooth_images(10)[4:], **FIT | {"steps": 5, "chunk": 3, "first": 4})

    for some, whole in zip(*map(jax.tree.leaves, (piece.params, begun.params)), strict=True):
        # Five steps of Adam move a weight by 0.1 at most; rounding to 1e-7 of a gradient changes
        # them by as much, except where the gradient is itself as small.
        np.testing.assert_allclose(some, whole[4:], atol=1e-3)
        assert np.abs(whole[:-4] - whole[4:]).max() > 0.05  # networks are no closer than that


def test_equal_images_get_independent_networks() -> None:
    images = np.repeat(smooth_images(1), 2, axis=0)
    fitted = fit_sirens(images, **FIT)

    first, second = fitted.params["dense_0"]["kernel"]
    assert np.abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.9
    assert fitted.psnr.min() > 30


def test_progress_is_reported_and_ends_at_all(
    fitted: FittedSirens, reports: list[tuple[int, int]]
) -> None:
    del fitted

    assert reports == [(4, 10), (8, 10), (10, 10)]


@pytest.mark.parametrize(
    ("images", "change", "message"),
    [
        (smooth_images(2), {"widths": (2, 8, 3)}, "from 2 to 1"),
        (smooth_images(2), {"widths": (3, 8, 1)}, "from 2 to 1"),
        (smooth_images(2) * 255, {}, r"float in \[0, 1\]"),
        (smooth_images(2)[0], {}, r"wanted \[n, h, w\]"),
    ],
)
def test_images_that_do_not_fit_are_refused(
    images: np.ndarray, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        fit_sirens(images, **FIT | change)


@pytest.mark.slow  # a program of its own
def test_a_fit_that_diverges_names_network_and_knob() -> None:
    images = smooth_images(3)

    with pytest.raises(NumericalError, match=r"network 0; lower learning_rate"):
        fit_sirens(images, **FIT | {"learning_rate": 1e30})
