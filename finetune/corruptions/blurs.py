"""Blurs: Gaussian, defocus, glass, motion and zoom."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float64, Integer, Key, UInt8

from finetune.corruptions import parameters
from finetune.corruptions.draws import uniforms, words
from finetune.corruptions.levels import Severity, at_severity, from_levels, kept, product, to_levels
from finetune.corruptions.parameters import Motion
from finetune.corruptions.stencils import gaussian_bands, separable, stencil

TRUNCATE = 4.0  # standard deviations, of Gaussian and glass blur


def gaussian_blur(
    levels: UInt8[Array, "n h w c"], severity: Severity, keys: Key[Array, " n"] | None = None
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
    levels: UInt8[Array, "n h w c"], severity: Severity, keys: Key[Array, " n"] | None = None
) -> UInt8[Array, "n h w c"]:
    """Returns images out of focus; beyond the edge they are mirrored.

    Source: Hendrycks and Dietterich (2019), defocus blur.
    """
    del keys
    kernels = np.stack([disk(*lens) for lens in parameters.DEFOCUS_BLUR])
    return to_levels(stencil(from_levels(levels), at_severity(kernels, severity), "mirror"))


def glass_blur(
    levels: UInt8[Array, "n h w c"], severity: Severity, keys: Key[Array, " n"]
) -> UInt8[Array, "n h w c"]:
    """Returns images seen through uneven glass: smoothed, pixels moved by up to one, smoothed.

    Source: Hendrycks and Dietterich (2019), glass blur, with the copies of the published files.
    """
    height, width = levels.shape[1:3]
    bits = words(keys, height * width).reshape(-1, height, width)
    steps = jnp.stack([(bits >> np.uint32(k)) & 1 for k in range(4)], axis=1)
    return through_glass(levels, severity, kept(steps.reshape(-1, 2, 2, height, width)))


def through_glass(
    levels: UInt8[Array, "n h w c"], severity: Severity, steps: Integer[Array, "n 2 2 h w"]
) -> UInt8[Array, "n h w c"]:
    """Returns images smoothed, moved and smoothed again.

    Args:
        levels: Images.
        severity: 1 to 5.
        steps: 0 or 1, in the first round and the second: up, left.
    """
    sigmas = tuple(glass.sigma for glass in parameters.GLASS_BLUR)
    rounds = at_severity([glass.rounds for glass in parameters.GLASS_BLUR], severity)
    smooth = kept(to_levels(_smoothed(from_levels(levels), sigmas, severity)))
    once = kept(moved(smooth, steps[:, 0, 0], steps[:, 0, 1]))
    twice = moved(once, steps[:, 1, 0], steps[:, 1, 1])
    glass = jnp.where(jnp.asarray(rounds) > 1, twice, once)
    return to_levels(_smoothed(from_levels(glass), sigmas, severity))


def moved(
    levels: UInt8[Array, "n h w c"], up: Integer[Array, "n h w"], left: Integer[Array, "n h w"]
) -> UInt8[Array, "n h w c"]:
    """Returns images whose pixels are copies of themselves or of neighbors above and to the left.

    The released code scans from the last pixel to the first and means to exchange a pixel with the
    chosen neighbor, but assigns views of one array: the pixel becomes a copy, the neighbor stays.
    As neighbors are at 0 or -1 only, the scan never reads what it has written: it is one choice of
    four. The first two rows and columns stay, as they do there.
    """
    inside = np.zeros((1, *levels.shape[1:3], 1), bool)
    inside[:, 2:, 2:] = True
    from_above, from_left = (part[..., None] * inside > 0 for part in (up, left))
    beside = lambda images: jnp.roll(images, 1, axis=2)
    above = jnp.roll(levels, 1, axis=1)
    return jnp.where(
        from_above,
        jnp.where(from_left, beside(above), above),
        jnp.where(from_left, beside(levels), levels),
    )


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
    radians = jnp.deg2rad(angles)
    number = jnp.arange(weights.shape[0], dtype=jnp.float32)[None]  # [1, taps]
    # A line of 45 degrees must not fall on either side of a pixel by the last bit.
    away = lambda part: jnp.ceil(number * part[:, None] - 0.5 - 1e-5).astype(jnp.int32)
    down, right = away(jnp.sin(radians)), away(jnp.cos(radians))  # [n, taps]

    taps = weights.shape[0]  # no tap is further away
    around = ((0, 0), (taps, taps), (taps, taps), (0, 0))
    weights, wide = jnp.asarray(weights), jnp.pad(images, around, mode="edge")

    def blurred(parts: tuple[Array, Array, Array]) -> Array:
        image, down, right = parts

        def add(tap: Array, total: Array) -> Array:
            start = (taps + down[tap], taps + right[tap], 0)
            return total + weights[tap] * jax.lax.dynamic_slice(image, start, total.shape)

        return jax.lax.fori_loop(0, taps, add, jnp.zeros(images.shape[1:], images.dtype))

    return jax.lax.map(blurred, (wide, down, right))


def motion_blur(
    levels: UInt8[Array, "n h w c"], severity: Severity, keys: Key[Array, " n"]
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
def zoom_shares(
    height: int, width: int
) -> tuple[
    Float64[np.ndarray, "zooms height height"],
    Float64[np.ndarray, "zooms width width"],
    Float64[np.ndarray, "severities zooms"],
]:
    """Returns zooms that differ, and the share of each in the mean of a severity.

    Many zooms of a small image are the same, pixels being whole; the image itself is zoom 1.
    """
    zooms = parameters.ZOOM_BLUR
    key = lambda zoom: tuple(zoom_matrix(size, zoom).tobytes() for size in (height, width))
    places = {key(zoom): number for number, zoom in enumerate(zooms[-1])}
    order = sorted(places.values())
    shares = np.zeros((len(zooms), len(order)))
    for row, of_severity in zip(shares, zooms, strict=True):
        for zoom in (1.0, *of_severity):
            row[order.index(places[key(zoom)])] += 1 / (len(of_severity) + 1)
    rows, columns = (
        np.stack([zoom_matrix(size, zooms[-1][number]) for number in order])
        for size in (height, width)
    )
    return rows, columns, shares


def zoom_blur(
    levels: UInt8[Array, "n h w c"], severity: Severity, keys: Key[Array, " n"] | None = None
) -> UInt8[Array, "n h w c"]:
    """Returns the mean of images and of all their zooms.

    Source: Hendrycks and Dietterich (2019), zoom blur.
    """
    del keys
    count, height, width, channels = levels.shape
    rows, columns, table = zoom_shares(height, width)
    shares = at_severity(table, severity)
    # [h, n c, w]: both products of a zoom are plain ones.
    planes = kept(from_levels(levels).transpose(1, 0, 3, 2).reshape(height, -1))
    total = jnp.zeros((height * count * channels, width), jnp.float32)
    for number, (down, right) in enumerate(zip(rows, columns, strict=True)):
        tall = product("ab,bk->ak", down.astype(np.float32), planes).reshape(-1, width)
        total = total + product("kw,vw->kv", tall, shares[number] * right.astype(np.float32))
    mean = total.reshape(height, count, channels, width).transpose(1, 0, 3, 2)
    return to_levels(mean)
