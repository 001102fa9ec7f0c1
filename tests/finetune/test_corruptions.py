"""Corruptions against closed forms and other libraries: random numbers, kernels, edges, keys."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.random import threefry_2x32
from PIL import Image
from scipy import ndimage, stats

from common.errors import DataError
from finetune.corruptions import blurs, draws, edges, ice, noise, warps, weather
from finetune.corruptions import parameters as p
from finetune.corruptions.apply import ON_HOST, PURE, check, corrupt, whole_set
from finetune.corruptions.stencils import gaussian_bands
from tests.benchmarks.peers import corruption_cases as cases

IMAGES = np.stack([cases.image(severity) for severity in cases.SEVERITIES])
LEVEL = 1e-5  # of a test: fixed seeds, so that it passes always or never


def test_threefry_is_that_of_jax() -> None:
    key = np.arange(2, dtype=np.uint32) + 7
    counter = np.arange(6, dtype=np.uint32)
    low, high = draws.threefry(
        tuple(jnp.asarray(part)[None] for part in key),
        tuple(jnp.asarray(part) for part in (counter[:3], counter[3:])),
    )

    wanted = threefry_2x32(key, counter)

    assert np.array_equal(np.concatenate([low, high]), wanted)


def test_uniform_and_normal_numbers_are_what_they_are_called() -> None:
    keys = draws.image_keys(3, "fog", 1, np.arange(4))
    unit = np.asarray(jax.jit(lambda k: draws.uniforms(k, (50, 50), -1.0, 3.0))(keys))
    normal = np.asarray(jax.jit(lambda k: draws.normals(k, (50, 50), stream=1))(keys))

    assert stats.kstest(unit.ravel(), "uniform", (-1, 4)).pvalue > LEVEL
    assert stats.kstest(normal.ravel(), "norm").pvalue > LEVEL
    assert (
        np.abs(np.corrcoef([*unit.reshape(4, -1), *normal.reshape(4, -1)]) - np.eye(8)).max() < 0.1
    )


def test_an_alias_table_holds_the_probabilities() -> None:
    chances = np.random.RandomState(0).dirichlet(np.full(256, 0.05), size=3)
    table = noise.alias_table(chances)
    own, alias = (table >> 8) / 2**24, table & 255
    found = own / 256
    for row in range(3):
        np.add.at(found[row], alias[row], (1 - own[row]) / 256)

    # A threshold has 24 bits of a column of 1 / 256; at most 256 of them add up.
    np.testing.assert_allclose(found, chances, atol=256 * 2.0**-32)


def test_noise_on_grey_has_the_stated_deviation() -> None:
    half, level = noise.gaussian_noise_transition(0.10)[127], np.arange(256)
    mean = half @ level
    # Truncation lowers the mean by half a level and adds 1 / 12 to the variance.
    np.testing.assert_allclose(mean, 126.5, atol=1e-3)
    np.testing.assert_allclose(half @ (level - mean) ** 2, 25.5**2 + 1 / 12, rtol=1e-4)


def test_disks_have_the_stated_pixels_and_sum_to_one() -> None:
    counts = [np.hypot(*np.mgrid[-2:3, -2:3]) <= lens.radius for lens in p.DEFOCUS_BLUR]
    kernels = [blurs.disk(*lens) for lens in p.DEFOCUS_BLUR]

    assert [count.sum() for count in counts] == [1, 1, 1, 5, 9]
    np.testing.assert_allclose([kernel.sum() for kernel in kernels], 1, rtol=1e-12)
    # An alias sigma of 0.1 leaves the disk as it is, to e^-50.
    np.testing.assert_allclose(kernels[-1], counts[-1] / 9, atol=1e-12 / 9)
    with pytest.raises(ValueError, match="radius=2.5"):
        blurs.disk(2.5, 0.1)


def test_glass_as_a_choice_of_four_is_the_scan_with_copies() -> None:
    draw = np.random.RandomState(0)
    levels = draw.randint(0, 256, (2, 9, 7, 3)).astype(np.uint8)
    up, left = draw.randint(0, 2, (2, 2, 9, 7))
    scanned = levels.copy()
    for image, ups, lefts in zip(scanned, up, left, strict=True):
        for h in range(9 - 1, 1, -1):
            for w in range(7 - 1, 1, -1):
                a, b = h - ups[h, w], w - lefts[h, w]
                image[h, w], image[a, b] = image[a, b], image[h, w]  # views: a copy, no exchange

    moved = np.asarray(blurs.moved(jnp.asarray(levels), jnp.asarray(up), jnp.asarray(left)))

    assert np.array_equal(moved, scanned)
    for before, after in zip(levels, moved, strict=True):
        colors_of = lambda image: {tuple(pixel) for pixel in image.reshape(-1, 3).tolist()}
        assert colors_of(after) < colors_of(before)


def test_boxes_are_those_of_pillow_at_any_size() -> None:
    image = cases.image(3)[:29, :23]
    for severity, share in enumerate(p.PIXELATE, 1):
        small = Image.fromarray(image).resize(
            (int(23 * share), int(29 * share)), Image.Resampling.BOX
        )
        wanted = np.asarray(small.resize((23, 29), Image.Resampling.BOX))

        rows, columns = (warps.box_matrices(size)[severity - 1] for size in (29, 23))
        across = np.floor(np.einsum("vw,hwc->hvc", columns, image) + 0.5)
        assert np.array_equal(np.floor(np.einsum("ab,bwc->awc", rows, across) + 0.5), wanted)


def test_zooms_keep_the_middle() -> None:
    row = np.random.RandomState(0).rand(28)
    for zoom in (1.0, 1.07, 1.25, 2.25):
        middle = int(np.ceil(28 / zoom))
        start = (28 - middle) // 2
        whole = ndimage.zoom(row[start : start + middle], zoom, order=1)
        first = (len(whole) - 28) // 2

        found = blurs.zoom_matrix(28, zoom) @ row

        np.testing.assert_allclose(found, whole[first : first + 28], rtol=1e-12)


def test_every_zoom_counts_once() -> None:
    _, _, shares = blurs.zoom_shares(32, 32)

    np.testing.assert_allclose(shares.sum(1), 1, rtol=1e-12)
    assert [len(zooms) for zooms in p.ZOOM_BLUR] == [7, 12, 16, 21, 26]
    np.testing.assert_allclose([zooms[-1] for zooms in p.ZOOM_BLUR], [1.06, 1.11, 1.15, 1.2, 1.25])


def test_matrices_of_gaussians_are_those_of_scipy() -> None:
    row = np.random.RandomState(0).rand(11)
    for edge, truncate in (("nearest", 4.0), ("reflect", 3.0), ("mirror", 4.0)):
        (matrix,) = gaussian_bands((1.7,), 11, edge, truncate)
        wanted = ndimage.gaussian_filter1d(row, 1.7, mode=edge, truncate=truncate)
        np.testing.assert_allclose(matrix @ row, wanted, rtol=1e-12)


def test_clouds_fill_the_unit_interval_and_join_at_the_edges() -> None:
    field = np.random.RandomState(0).uniform(-1, 1, (2, 16, 16)).astype(np.float32)
    clouds = np.asarray(jax.jit(weather.plasma)(field, 3.0))
    steps = lambda array: np.abs(np.diff(array, axis=1)).mean()

    assert clouds.min((1, 2)).tolist() == [0, 0]
    assert clouds.max((1, 2)).tolist() == [1, 1]
    # Periodic: across the seam the step is like any other.
    seam = np.abs(clouds[:, 0] - clouds[:, -1]).mean()
    assert seam < 2 * steps(clouds)


def test_a_constant_image_keeps_what_only_moves_or_mixes_pixels() -> None:
    flat = np.full((1, 32, 32, 3), (200, 100, 7), np.uint8)
    names = ("contrast", "defocus_blur", "gaussian_blur", "zoom_blur", "pixelate", "glass_blur")
    for name in (*names, "motion_blur", "elastic_transform"):
        assert np.array_equal(corrupt(flat, name, 5), flat), name


def test_distances_and_edges_are_those_of_their_definitions() -> None:
    marks = np.zeros((2, 12, 9), bool)
    marks[0, 3, 4] = marks[0, 9, 0] = True
    rows, columns = np.mgrid[:12, :9]

    def chamfer(y: int, x: int) -> np.ndarray:
        far, near = (
            np.maximum(abs(rows - y), abs(columns - x)),
            np.minimum(abs(rows - y), abs(columns - x)),
        )
        # Knight's moves up to a slope of 1/2, then diagonals.
        flat = np.where(2 * near <= far, (far - 2 * near) + near * 2.1969, 0)
        steep = np.where(2 * near > far, (2 * near - far) * 1.4 + (far - near) * 2.1969, 0)
        return flat + steep

    found = edges.distances(marks)

    np.testing.assert_allclose(found[0], np.minimum(chamfer(3, 4), chamfer(9, 0)), atol=1e-3)
    assert found[1].min() > 20  # no edge at all
    step = np.zeros((1, 8, 8), np.uint8)
    step[:, :, 4:] = 200
    # |dx| is 800 on both sides of the step; of equal neighbors the first is the peak.
    assert np.array_equal(np.flatnonzero(edges.canny(step, 50, 150)[0].any(0)), [3])
    assert np.array_equal(edges.equalized(step)[0, 0], [0] * 4 + [255] * 4)


@pytest.mark.parametrize(
    "name", ["gaussian_noise", "frost", "spatter", pytest.param("snow", marks=pytest.mark.slow)]
)
def test_any_subset_comes_out_as_in_the_whole(name: str) -> None:
    whole = corrupt(IMAGES, name, 4, seed=1)
    chosen = [3, 0]

    assert np.array_equal(corrupt(IMAGES[chosen], name, 4, 1, indices=chosen), whole[chosen])
    assert not np.array_equal(corrupt(IMAGES[:1], name, 4, 2)[0], whole[0])
    assert not np.array_equal(corrupt(IMAGES[:1], name, 4, 1, indices=[9])[0], whole[0])


@pytest.mark.parametrize(
    "name",
    [
        "saturate",
        "frost",
        *(pytest.param(n, marks=pytest.mark.slow) for n in ("spatter", "elastic_transform")),
    ],
)
def test_grey_images_of_other_sizes_are_grey_images(name: str) -> None:
    grey = np.stack([cases.image(number)[:20, :28, :1] for number in range(2)])
    out = corrupt(grey, name, 4)

    assert out.shape == grey.shape
    assert out.dtype == np.uint8
    assert np.array_equal(out, grey) == (name == "saturate")


def test_names_are_complete_and_a_set_is_ordered_by_severity() -> None:
    assert (len(p.COMMON), len(p.CIFAR_C), len(p.SURGICAL)) == (15, 19, 14)
    assert {*PURE, *ON_HOST} == {*p.CIFAR_C}
    assert {*p.SURGICAL} < {*p.CIFAR_C}
    files = whole_set(IMAGES[:2], "jpeg_compression")

    assert np.array_equal(files[6:8], corrupt(IMAGES[:2], "jpeg_compression", 4))


@pytest.mark.parametrize(
    ("images", "name", "severity", "message"),
    [
        (IMAGES, "gausian_noise", 1, r'did you mean "gaussian_noise"'),
        (IMAGES, "fog", 6, r"severity=6: expected 1, 2, 3, 4 or 5"),
        (IMAGES, "fog", 0, r"severity=0"),
        (IMAGES / 255, "fog", 1, r"images are float64: expected uint8"),
        (IMAGES[:0], "fog", 1, r"images of shape \(0, 32, 32, 3\)"),
        (IMAGES[0], "fog", 1, r"images of shape \(32, 32, 3\)"),
    ],
)
def test_mistakes_are_named(images: Any, name: str, severity: int, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        check(images, name, severity)

    assert "\n" not in str(caught.value)


def test_what_is_no_photograph_is_named(tmp_path: Path) -> None:
    path = tmp_path / "ice.png"
    path.write_text("no picture")

    with pytest.raises(DataError, match="ice.png: is no picture"):
        corrupt(IMAGES[:1], "frost", 1, frost=[path])


def test_synthetic_ice_is_bright_in_places_and_bluish() -> None:
    first, *others = ice.synthetic()
    assert len(others) == ice.PICTURES - 1
    assert np.ptp(first) > 150
    assert first[..., 2].mean() > first[..., 0].mean()
    assert not np.array_equal(first, others[0])
