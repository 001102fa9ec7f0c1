"""Blurs: Gaussian, defocus, glass, motion and zoom."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float64, Int, PRNGKeyArray, UInt8

from finetune.corruptions import parameters
from finetune.corruptions.draws import uniforms, words
from finetune.corruptions.levels import Severity, at_severity, from_levels, product, to_levels
from finetune.corruptions.parameters import Motion
from finetune.corruptions.stencils import gaussian_bands, separable, stencil

TRUNCATE = 4.0  # standard deviations, of Gaussian and glass blur


def gaussian_blur(
    levels: UInt8[Array, "n h w c"], severity: Severity, keys: PRNGKeyArray
) -> UInt8[Array, "n h w c"]:
    """Returns images smoothed by a Gaussian; pixels at the edge go on outside.

    Source: Hendrycks and Dietterich (2019), Gaussian blur.
    """
    del keys
    return to_levels(_smoothed(from_levels(levels), parameters.GAUSSIAN_BLUR, severity))


def _smoothed(
    images: Float[Array, "n h w c"], sigmas: tuple[float, ...], severity: Severity
) -> Float[Array, "n h w c"]:
    bands = [gaussian_bands(sigmas, size, "nearest", TRUNCATE) for size in images.shape[1:3]]
    rows, columns = (at_severity(band, severity) for band in bands)
    return separable(images, rows, columns)


def disk(radius: float, sigma: float) -> Float64[np.ndarray, "5 5"]:
    """Returns the kernel of a defocused lens: a disk, its edge smoothed over 3 x 3 pixels.

    Source: Hendrycks and Dietterich (2019), defocus blur.

    Raises:
        ValueError: If the radius is 2 or more.
    """
    if not 0 <= radius < 2:
        raise ValueError(f"radius={radius}: the disk is on a grid of 5 x 5, wanted 0 <= radius < 2")
    places = np.arange(-2, 3)
    inside = (places[:, None] ** 2 + places**2 <= radius**2).astype(float)
    taps = np.exp(-0.5 * (np.arange(-1, 2) / sigma) ** 2)
    taps /= taps.sum()
    smooth = sum(tap * np.eye(5, k=k) for k, tap in zip((-1, 0, 1), taps, strict=True))
    return smooth @ (inside / inside.sum()) @ smooth


def defocus_blur(
    levels: UInt8[Array, "n h w c"], severity: Severity, keys: PRNGKeyArray
) -> UInt8[Array, "n h w c"]:
    """Returns images out of focus; beyond the edge they are mirrored.

    Source: Hendrycks and Dietterich (2019), defocus blur.
    """
    del keys
    kernels = np.stack([disk(*lens) for lens in parameters.DEFOCUS_BLUR])
    return to_levels(stencil(from_levels(levels), at_severity(kernels, severity), "mirror"))


def glass_blur(
    levels: UInt8[Array, "n h w c"], severity: Severity, keys: PRNGKeyArray
) -> UInt8[Array, "n h w c"]:
    """Returns images seen through uneven glass: smoothed, pixels moved by up to one, smoothed.

    Source: Hendrycks and Dietterich (2019), glass blur, with the copies of the published files.
    """
    sigmas = tuple(glass.sigma for glass in parameters.GLASS_BLUR)
    rounds = at_severity([glass.rounds for glass in parameters.GLASS_BLUR], severity)
    height, width = levels.shape[1:3]
    bits = words(keys, height * width).reshape(-1, height, width)
    smooth = to_levels(_smoothed(from_levels(levels), sigmas, severity))
    once = moved(smooth, bits & 1, (bits >> np.uint32(1)) & 1)
    twice = moved(once, (bits >> np.uint32(2)) & 1, (bits >> np.uint32(3)) & 1)
    glass = jnp.where(jnp.asarray(rounds) > 1, twice, once)
    return to_levels(_smoothed(from_levels(glass), sigmas, severity))


def moved(
    levels: UInt8[Array, "n h w c"], up: Int[Array, "n h w"], left: Int[Array, "n h w"]
) -> UInt8[Array, "n h w c"]:
    """Returns images whose pixels are copies of themselves or of neighbors above and to the left.

    The released code scans from the last pixel to the first and means to exchange a pixel with the
    chosen neighbor, but assigns views of one array: the pixel becomes a copy, the neighbor stays.
    As neighbors are at 0 or -1 only, the scan never reads what it has written: it is one gather.
    The first two rows and columns stay, as they do there.
    """
    count, height, width, channels = levels.shape
    inside = np.zeros((height, width), bool)
    inside[2:, 2:] = True
    place = jnp.arange(height * width).reshape(1, height, width)
    step = jnp.where(inside[None], up.astype(jnp.int32) * width + left.astype(jnp.int32), 0)
    source = (place - step).reshape(count, height * width, 1)
    flat = levels.reshape(count, height * width, channels)
    return jnp.take_along_axis(flat, source, axis=1).reshape(levels.shape)


def motion_taps(motion: Motion, taps: int) -> Float64[np.ndarray, " taps"]:
    """Returns the weights along the line, zeros behind its 2 radius + 1 taps."""
    weights = np.exp(-0.5 * (np.arange(2 * motion.radius + 1) / motion.sigma) ** 2)
    return np.pad(weights / weights.sum(), (0, taps - len(weights)))


def along_lines(
    images: Float[Array, "n h w c"], weights: Float[Array, " taps"], angles: Float[Array, " n"]
) -> Float[Array, "n h w c"]:
    """Returns weighted sums of pixels along a line from each pixel on; edges go on outside.

    Source: ImageMagick's MotionBlurImage: tap i is ceil(i cos - 1/2), ceil(i sin - 1/2) away.

    Args:
        images: Images.
        weights: Of tap 0, 1, ...
        angles: In degrees, one for each image.
    """
    height, width = images.shape[1:3]
    radians = jnp.deg2rad(angles)
    number = jnp.arange(weights.shape[0], dtype=jnp.float32)[None]  # [1, taps]
    # A line of 45 degrees must not fall on either side of a pixel by the last bit.
    away = lambda part: jnp.ceil(number * part[:, None] - 0.5 - 1e-5).astype(jnp.int32)
    down, right = away(jnp.sin(radians)), away(jnp.cos(radians))  # [n, taps]

    def blurred(image: Array, down: Array, right: Array) -> Array:
        total = jnp.zeros_like(image)
        for tap in range(weights.shape[0]):
            rows = jnp.clip(jnp.arange(height) + down[tap], 0, height - 1)
            columns = jnp.clip(jnp.arange(width) + right[tap], 0, width - 1)
            total = total + weights[tap] * image[rows][:, columns]
        return total

    return jax.vmap(blurred)(images, down, right)


def motion_blur(
    levels: UInt8[Array, "n h w c"], severity: Severity, keys: PRNGKeyArray
) -> UInt8[Array, "n h w c"]:
    """Returns images blurred along a line of a random angle of at most 45 degrees.

    Source: Hendrycks and Dietterich (2019), motion blur.
    """
    longest = max(2 * motion.radius + 1 for motion in parameters.MOTION_BLUR)
    weights = np.stack([motion_taps(motion, longest) for motion in parameters.MOTION_BLUR])
    angles = uniforms(keys, (), *parameters.MOTION_ANGLES)
    images = from_levels(levels)
    return to_levels(along_lines(images, at_severity(weights, severity), angles))


def zoom_matrix(size: int, zoom: float) -> Float64[np.ndarray, "size size"]:
    """Returns the matrix that enlarges the middle of a row of pixels, linearly interpolated.

    The middle ceil(size / zoom) pixels become round(middle * zoom), corner on corner; of these the
    middle `size` are kept.

    Source: Hendrycks and Dietterich (2019), clipped_zoom of the released code.
    """
    middle = int(np.ceil(size / zoom))
    start, enlarged = (size - middle) // 2, round(middle * zoom)
    first = (enlarged - size) // 2
    place = (first + np.arange(size)) * ((middle - 1) / max(enlarged - 1, 1))
    left = np.clip(np.floor(place).astype(int), 0, max(middle - 2, 0))
    share = place - left
    matrix = np.zeros((size, size))
    pixels = np.arange(size)
    np.add.at(matrix, (pixels, start + left), 1 - share)
    np.add.at(matrix, (pixels, np.minimum(start + left + 1, size - 1)), share)
    return matrix


@cache
def zoom_matrices(size: int) -> Float64[np.ndarray, "severities zooms size size"]:
    """Returns the zooms of each severity; zeros where it has fewer than the last."""
    zooms = parameters.ZOOM_BLUR
    matrices = np.zeros((len(zooms), len(zooms[-1]), size, size))
    for of_severity, places in zip(zooms, matrices, strict=True):
        for zoom, place in zip(of_severity, places, strict=False):
            place[:] = zoom_matrix(size, zoom)
    return matrices


def zoom_blur(
    levels: UInt8[Array, "n h w c"], severity: Severity, keys: PRNGKeyArray
) -> UInt8[Array, "n h w c"]:
    """Returns the mean of images and of all their zooms.

    Source: Hendrycks and Dietterich (2019), zoom blur.
    """
    del keys
    images = from_levels(levels)
    count, height, width, channels = images.shape
    both = [zoom_matrices(size) for size in (height, width)]
    rows, columns = (at_severity(matrices, severity) for matrices in both)
    parts = at_severity([len(zooms) + 1.0 for zooms in parameters.ZOOM_BLUR], severity)
    planes = images.transpose(0, 3, 1, 2).reshape(-1, height, width)
    tall = product("zab,nbw->nazw", rows, planes)  # every zoom of the rows
    total = product("nazw,zvw->nav", tall, columns)
    zoomed = total.reshape(count, channels, height, width).transpose(0, 2, 3, 1)
    return to_levels((images + zoomed) / parts)
