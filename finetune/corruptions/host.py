"""Corruptions on the host, vectorized over images: frost, spatter and JPEG."""

import io
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Float32, Float64, UInt8
from PIL import Image

from finetune.corruptions import edges, parameters
from finetune.corruptions.stencils import gaussian_bands

TRUNCATE = 4.0  # standard deviations
SHARPENING = np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]])
GREY = np.array((0.299, 0.587, 0.114))

Ice = Sequence[UInt8[np.ndarray, "_ _ 3"]]


def truncated(images: Float[np.ndarray, "n h w c"]) -> UInt8[np.ndarray, "n h w c"]:
    """Returns numbers, clipped to [0, 1], times 255, without what is behind the point."""
    return (np.clip(images, 0.0, 1.0) * 255).astype(np.uint8)


def jpeg_compression(levels: UInt8[np.ndarray, "n h w c"], severity: int) -> np.ndarray:
    """Returns images as JPEG files keep them, by Pillow.

    Source: Hendrycks and Dietterich (2019), JPEG compression.
    """
    quality = parameters.JPEG_QUALITY[severity - 1]
    out = np.empty_like(levels)
    for place, image in zip(out, levels, strict=True):
        file = io.BytesIO()
        single = image[..., 0] if image.shape[-1] == 1 else image
        Image.fromarray(single).save(file, "JPEG", quality=quality)
        file.seek(0)
        place[:] = np.asarray(Image.open(file)).reshape(image.shape)
    return out


def frost(
    levels: UInt8[np.ndarray, "n h w c"],
    severity: int,
    draws: Float[np.ndarray, "n 3"],
    ice: Ice,
) -> UInt8[np.ndarray, "n h w c"]:
    """Returns images behind ice: weighted sums with a random crop of a random picture of it.

    Source: Hendrycks and Dietterich (2019), frost.

    Args:
        levels: Images.
        severity: 1 to 5.
        draws: In [0, 1): which picture, its first row, its first column.
        ice: Pictures of ice, larger than the images.
    """
    of_image, of_ice = parameters.FROST[severity - 1]
    height, width, channels = levels.shape[1:]
    crops = np.empty((len(levels), height, width, 3), np.uint8)
    chosen = (draws[:, 0] * len(ice)).astype(int)
    for place, number, (down, right) in zip(crops, chosen, draws[:, 1:], strict=True):
        picture = ice[number]
        top = int(down * (picture.shape[0] - height))
        left = int(right * (picture.shape[1] - width))
        place[:] = picture[top : top + height, left : left + width]
    layer = crops if channels == 3 else crops @ GREY[:, None]
    return np.clip(of_image * levels + of_ice * layer, 0, 255).astype(np.uint8)


def spatter(
    levels: UInt8[np.ndarray, "n h w c"],
    severity: int,
    noise: Float[np.ndarray, "n h w"],
) -> UInt8[np.ndarray, "n h w c"]:
    """Returns images under drops of water (severities 1 to 3) or mud (4 and 5).

    Source: Hendrycks and Dietterich (2019), spatter.

    Args:
        levels: Images.
        severity: 1 to 5.
        noise: Standard normal.
    """
    drops = parameters.SPATTER[severity - 1]
    liquid = _smoothed(drops.mean + drops.std * noise, drops.sigma)
    liquid[liquid < drops.threshold] = 0
    images = levels / np.float32(255)
    color = np.array(parameters.MUD if drops.is_mud else parameters.WATER) / 255
    if levels.shape[-1] == 1:
        color = color @ GREY[:, None]
    if drops.is_mud:
        cover = _smoothed((liquid > drops.threshold).astype(np.float64), drops.gain)
        cover = np.where(cover < 0.8, 0.0, cover)[..., None]
        return truncated(images * (1 - cover) + color * cover)
    return truncated(images + drops.gain * water(liquid)[..., None] * color)


def water(liquid: Float64[np.ndarray, "n h w"]) -> Float32[np.ndarray, "n h w"]:
    """Returns how much drops of water shine, at most 1: most along one side of their edges."""
    film = (np.clip(liquid, 0, 1) * 255).astype(np.uint8)
    near = np.minimum(edges.distances(edges.canny(film, 50, 150)), 20)
    relief = edges.equalized(edges.box_means(near).astype(np.uint8))
    relief = np.rint(edges.box_means(edges.filtered(relief, SHARPENING)))
    shine = film * relief.astype(np.float32)
    most = shine.max((1, 2), keepdims=True)
    return shine / np.where(most > 0, most, 1)


def _smoothed(noise: Float[np.ndarray, "n h w"], sigma: float) -> Float64[np.ndarray, "n h w"]:
    rows, columns = (
        gaussian_bands((sigma,), size, "nearest", TRUNCATE)[0] for size in noise.shape[1:]
    )
    return rows @ noise.astype(np.float64) @ columns.T
