"""Edits of images against independent implementations; OpenCV's own output for CLAHE."""

import hashlib

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from nfn import image_edits

PIXELS = np.random.default_rng(0).random((3, 7, 6)).astype(np.float32)
SMALL = jnp.asarray(PIXELS)


def wavy_image(n: int) -> np.ndarray:
    row, column = np.mgrid[:n, :n]
    return ((7 * row**2 + 13 * column + 3 * row * column) // 3 % 256).astype(np.uint8)


@pytest.mark.parametrize("window", [2, 3, 4])
def test_morphology_is_a_sliding_maximum_and_minimum(window: int) -> None:
    size = (1, window, window)  # beyond the border: the nearest pixel, which is in the window
    maximum = ndimage.maximum_filter(PIXELS, size, mode="nearest")
    minimum = ndimage.minimum_filter(PIXELS, size, mode="nearest")

    np.testing.assert_array_equal(image_edits.dilate(SMALL, window=window), maximum)
    np.testing.assert_array_equal(image_edits.erode(SMALL, window=window), minimum)
    np.testing.assert_array_equal(image_edits.gradient(SMALL, window=window), maximum - minimum)


def test_dilation_by_hand() -> None:
    dot = jnp.zeros((1, 4, 5)).at[0, 1, 2].set(1)
    wide, narrow = np.zeros((1, 4, 5)), np.zeros((1, 4, 5))
    wide[0, 0:3, 1:4] = narrow[0, 1:3, 2:4] = 1

    np.testing.assert_array_equal(image_edits.dilate(dot), wide)
    np.testing.assert_array_equal(image_edits.dilate(dot, window=2), narrow)
    np.testing.assert_array_equal(image_edits.gradient(dot), narrow)


def test_dilation_and_erosion_are_dual_commute_with_the_scale_and_treat_channels_alike() -> None:
    scaled = image_edits.dilate(2 * SMALL - 1)
    channels = jnp.stack([SMALL, SMALL[:, ::-1]], axis=-1)
    both = np.asarray(image_edits.dilate(channels))

    np.testing.assert_array_equal(scaled, 2 * np.asarray(image_edits.dilate(SMALL)) - 1)
    np.testing.assert_array_equal(
        image_edits.erode(-SMALL), -np.asarray(image_edits.dilate(SMALL, window=2))
    )
    np.testing.assert_array_equal(both[..., 0], image_edits.dilate(SMALL))
    np.testing.assert_array_equal(both[..., 1], image_edits.dilate(SMALL[:, ::-1]))


@pytest.mark.parametrize(
    ("size", "clip_limit", "middle", "sha256"),
    [
        # opencv-python-headless 4.11.0.86: createCLAHE(clip_limit, (3, 3)).apply(wavy_image(size))
        (14, 1.0, [116, 134, 145, 152, 164, 172], "e35b88cf98fc8fd0"),
        (28, 1.0, [210, 225, 242, 5, 26, 47], "be3c6d22234dab63"),
        (30, 40.0, [20, 38, 56, 71, 97, 122], "b05896e7c6b0cf16"),  # 3 divides 30: no border
    ],
)
def test_clahe_has_the_bits_of_opencv(
    size: int, clip_limit: float, middle: list[int], sha256: str
) -> None:
    image = wavy_image(size)
    (edited,) = image_edits.clahe(image[None], clip_limit=clip_limit)

    assert edited[size // 2, :6].tolist() == middle
    assert hashlib.sha256(edited.tobytes()).hexdigest()[:16] == sha256


def test_each_image_of_a_batch_is_equalized_alone() -> None:
    images = np.stack([wavy_image(14), wavy_image(14)[::-1]])
    alone = np.concatenate([image_edits.clahe(image[None]) for image in images])

    np.testing.assert_array_equal(image_edits.clahe(images), alone)


def test_lab_of_known_colors_and_back() -> None:
    colors = np.array([[1.0, 1, 1], [0, 0, 0], [1, 0, 0], [0, 0, 1]])
    # D65: white, black and the primaries of sRGB, as every table of colors has them.
    lab = np.array([[100, 0, 0], [0, 0, 0], [53.24, 80.09, 67.20], [32.30, 79.19, -107.86]])
    np.testing.assert_allclose(image_edits.lab_from_rgb(colors), lab, atol=0.01)

    random = np.random.default_rng(1).random((50, 3))
    back = image_edits.rgb_from_lab(image_edits.lab_from_rgb(random))
    np.testing.assert_allclose(back, random, atol=1e-9)


def test_contrast_changes_lightness_and_leaves_hue() -> None:
    gray = wavy_image(14)[None] / np.float32(255)
    np.testing.assert_array_equal(
        np.rint(image_edits.contrast(gray) * 255), image_edits.clahe(wavy_image(14)[None])
    )
    # Muted colors, so that no new lightness leaves what RGB can show.
    tint = np.array([0.45, 0.5, 0.55], np.float32)
    color = np.rint(tint * (0.6 + 0.4 * gray[..., None]) * 255) / np.float32(255)
    before, after = (image_edits.lab_from_rgb(x) for x in (color, image_edits.contrast(color)))
    inside = (after[..., 0] > 20) & (after[..., 0] < 90)

    assert inside.mean() > 0.3
    assert np.abs(after - before)[..., 0].max() > 10
    np.testing.assert_allclose(after[inside][:, 1:], before[inside][:, 1:], atol=1e-3)


def test_unknown_edits_and_tiles_are_refused() -> None:
    with pytest.raises(ValueError, match="'dilat'.*dilate"):
        image_edits.edit_images(PIXELS, "dilat")
    with pytest.raises(ValueError, match="tiles=9"):
        image_edits.clahe(wavy_image(8)[None], tiles=9)
