"""Contrast, and brightness and saturation of HSV."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, UInt8

from finetune.corruptions import parameters
from finetune.corruptions.levels import Severity, at_severity, from_levels, to_levels


def contrast(
    levels: UInt8[Array, "n h w c"], severity: Severity, keys: Key[Array, " n"] | None = None
) -> UInt8[Array, "n h w c"]:
    """Returns images nearer to the mean of each of their channels.

    Source: Hendrycks and Dietterich (2019), contrast.
    """
    del keys
    kept = at_severity(parameters.CONTRAST, severity)
    images = from_levels(levels)
    pixels = levels.shape[1] * levels.shape[2]
    # Whole numbers add up exactly; their mean is then rounded once.
    mean = jnp.sum(levels, axis=(1, 2), keepdims=True, dtype=jnp.uint32) / np.float32(255 * pixels)
    return to_levels((images - mean) * kept + mean)


def brightness(
    levels: UInt8[Array, "n h w c"], severity: Severity, keys: Key[Array, " n"] | None = None
) -> UInt8[Array, "n h w c"]:
    """Returns images with more of the V of HSV; of one channel, with more of it.

    Hue and saturation stay: the three colors of a pixel are multiplied by one factor.

    Source: Hendrycks and Dietterich (2019), brightness.
    """
    del keys
    more = at_severity(parameters.BRIGHTNESS, severity)
    images = from_levels(levels)
    value = images.max(-1, keepdims=True)
    brighter = jnp.minimum(value + more, 1.0)
    share = images / jnp.where(value > 0, value, 1.0)
    return to_levels(jnp.where(value > 0, share, 1.0) * brighter)


def saturate(
    levels: UInt8[Array, "n h w c"], severity: Severity, keys: Key[Array, " n"] | None = None
) -> UInt8[Array, "n h w c"]:
    """Returns images with the S of HSV times a factor plus a constant.

    V stays, and the distances of colors to it are multiplied by one factor. A pixel without color
    has hue 0, red, as in the released code; an image of one channel has no colors to saturate and
    gets what the red channel of a grey image gets: itself.

    Source: Hendrycks and Dietterich (2019), saturate.
    """
    del keys
    times, plus = at_severity(parameters.SATURATE, severity)
    images = from_levels(levels)
    value = images.max(-1, keepdims=True)
    spread = value - images.min(-1, keepdims=True)
    saturation = spread / jnp.where(value > 0, value, 1.0)
    wanted = jnp.clip(saturation * times + plus, 0.0, 1.0)
    share = (value - images) / jnp.where(spread > 0, spread, 1.0)
    grey = jnp.asarray([[[[0.0, 1.0, 1.0][: images.shape[-1]]]]], jnp.float32)  # of red
    share = jnp.where(spread > 0, share, grey)
    return to_levels(value * (1.0 - wanted * share))


def luminance(images: Float[Array, "n h w c"]) -> Float[Array, "n h w 1"]:
    """Returns the grey of colors, by the weights of ITU-R BT.601; of one channel, itself."""
    if images.shape[-1] == 1:
        return images
    # A sum along the last axis would not be vectorized on CPUs.
    red, green, blue = (images[..., i : i + 1] for i in range(3))
    return np.float32(0.299) * red + np.float32(0.587) * green + np.float32(0.114) * blue
