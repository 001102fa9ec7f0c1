"""Fog and snow."""

from functools import cache

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float64, Key, UInt8

from finetune.corruptions import parameters
from finetune.corruptions.blurs import along_lines, motion_taps, zoom_matrix
from finetune.corruptions.colors import luminance
from finetune.corruptions.draws import normals, uniforms
from finetune.corruptions.levels import Severity, at_severity, from_levels, kept, product, to_levels

ROUGHNESS = 100.0  # of the coarsest step of a plasma, which is scaled to [0, 1] in the end


def plasma(
    noise: Float[Array, "n side side"], decay: float | Float[Array, ""]
) -> Float[Array, "n side side"]:
    """Returns fractal clouds in [0, 1] by the diamond-square algorithm, continued periodically.

    Source: Fournier et al. (1982), midpoint displacement, with the constants of make_cifar_c.py.

    Args:
        noise: In [-1, 1], a number for each place but the first; the side is a power of two.
        decay: Noise is divided by its square at every halving.
    """
    count, side, _ = noise.shape
    heights = jnp.zeros((count, 1, 1), noise.dtype)
    step, strength = side, ROUGHNESS**2
    while step >= 2:
        half, cells = step // 2, side // step
        below, right = jnp.roll(heights, -1, 1), jnp.roll(heights, -1, 2)
        corners = heights + below
        middle = (corners + jnp.roll(corners, -1, 2)) / 4
        middle = middle + strength * noise[:, half::step, half::step]
        on_rows = (heights + right + middle + jnp.roll(middle, 1, 1)) / 4
        on_rows = on_rows + strength * noise[:, ::step, half::step]
        on_columns = (heights + below + middle + jnp.roll(middle, 1, 2)) / 4
        on_columns = on_columns + strength * noise[:, half::step, ::step]
        even = jnp.stack([heights, on_rows], -1).reshape(count, cells, 1, 2 * cells)
        odd = jnp.stack([on_columns, middle], -1).reshape(count, cells, 1, 2 * cells)
        heights = jnp.concatenate([even, odd], 2).reshape(count, 2 * cells, 2 * cells)
        step, strength = half, strength / decay**2
    heights = heights - heights.min((1, 2), keepdims=True)
    return heights / heights.max((1, 2), keepdims=True)


def foggy(
    images: Float[Array, "n h w c"], severity: Severity, clouds: Float[Array, "n h w"]
) -> Float[Array, "n h w c"]:
    """Returns images behind clouds, scaled back so that an image's maximum stays."""
    thickness = at_severity(parameters.FOG, severity)[0]
    brightest = images.max((1, 2, 3), keepdims=True)
    return (images + thickness * clouds[..., None]) * brightest / (brightest + thickness)


def fog(
    levels: UInt8[Array, "n h w c"], severity: Severity, keys: Key[Array, " n"]
) -> UInt8[Array, "n h w c"]:
    """Returns images in fog.

    Source: Hendrycks and Dietterich (2019), fog.
    """
    height, width = levels.shape[1:3]
    side = max(2, 1 << (max(height, width) - 1).bit_length())
    decay = at_severity(parameters.FOG, severity)[1]
    clouds = plasma(uniforms(keys, (side, side), -1.0, 1.0), decay)[:, :height, :width]
    return to_levels(foggy(from_levels(levels), severity, clouds))


@cache
def _snow_zooms(size: int) -> Float64[np.ndarray, "severities size size"]:
    return np.stack([zoom_matrix(size, snow.zoom) for snow in parameters.SNOW])


def snowy(
    images: Float[Array, "n h w c"],
    severity: Severity,
    noise: Float[Array, "n h w"],
    angles: Float[Array, " n"],
) -> Float[Array, "n h w c"]:
    """Returns whitened images under falling flakes, and the same flakes turned by 180 degrees.

    Args:
        images: Images.
        severity: 1 to 5.
        noise: Standard normal.
        angles: In which the flakes fall, degrees.
    """
    table = parameters.SNOW
    entry = lambda name: at_severity([getattr(snow, name) for snow in table], severity)
    height, width = images.shape[1:3]
    zooms = [_snow_zooms(size) for size in (height, width)]
    rows, columns = (at_severity(matrices, severity) for matrices in zooms)
    layer = entry("mean") + entry("std") * noise
    layer = product("vw,naw->nav", columns, product("ab,nbw->naw", rows, layer))
    layer = jnp.where(layer < entry("threshold"), 0.0, jnp.clip(layer, 0.0, 1.0))
    flakes = kept(jnp.floor(layer * 255))  # a picture of 8 bits is what falls
    taps = max(2 * snow.motion.radius + 1 for snow in table)
    weights = np.stack([motion_taps(snow.motion, taps) for snow in table])
    fallen = along_lines(flakes[..., None], at_severity(weights, severity), angles)
    fallen = kept(jnp.floor(fallen + 0.5)) / 255
    mix = entry("mix")
    white = jnp.maximum(images, kept(luminance(images) * 1.5 + 0.5))
    return mix * images + (1 - mix) * white + kept(fallen + fallen[:, ::-1, ::-1])


def snow(
    levels: UInt8[Array, "n h w c"], severity: Severity, keys: Key[Array, " n"]
) -> UInt8[Array, "n h w c"]:
    """Returns images in falling snow.

    Source: Hendrycks and Dietterich (2019), snow.
    """
    noise = normals(keys, levels.shape[1:3])
    angles = uniforms(keys, (), *parameters.SNOW_ANGLES, stream=1)
    return to_levels(snowy(from_levels(levels), severity, noise, angles))
