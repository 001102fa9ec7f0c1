"""Any corruption of CIFAR-10-C on images of any size, by name, severity and seed."""

from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Int, UInt8

from common.errors import nearest
from finetune.corruptions import blurs, colors, host, ice, noise, warps, weather
from finetune.corruptions.draws import image_keys, normals, uniforms
from finetune.corruptions.parameters import CIFAR_C, SEVERITIES

# (images, severity, keys) -> images, under jit, vmap and with a severity that is traced.
PURE: dict[str, Callable[..., Any]] = {
    **{name: partial(noise.noise, name) for name in noise.TRANSITIONS},
    "impulse_noise": noise.impulse_noise,
    "gaussian_blur": blurs.gaussian_blur,
    "defocus_blur": blurs.defocus_blur,
    "glass_blur": blurs.glass_blur,
    "motion_blur": blurs.motion_blur,
    "zoom_blur": blurs.zoom_blur,
    "snow": weather.snow,
    "fog": weather.fog,
    "brightness": colors.brightness,
    "contrast": colors.contrast,
    "saturate": colors.saturate,
    "elastic_transform": warps.elastic_transform,
    "pixelate": warps.pixelate,
}
ON_HOST = ("frost", "spatter", "jpeg_compression")
BATCH, PIXELS = 128, 1 << 18  # at most; images of a batch, pixels of its images


def corrupt(
    images: UInt8[np.ndarray, "n h w c"],
    name: str,
    severity: int,
    seed: int = 0,
    *,
    indices: Sequence[int] | Int[np.ndarray, " n"] | None = None,
    frost: Sequence[str | Path] = (),
) -> UInt8[np.ndarray, "n h w c"]:
    """Returns corrupted images.

    What is random depends on the seed, the corruption, the severity and the image's index: any
    part of a set, in any order, comes out as it does in the whole.

    Source: Hendrycks and Dietterich (2019), Benchmarking neural network robustness.

    Args:
        images: Of any size; 1 or 3 channels.
        name: One of `CIFAR_C`.
        severity: 1 to 5.
        seed: Of everything random.
        indices: Of the images in their set; 0, 1, ... if not given.
        frost: Photographs of ice; without them frost is made of noise (`ice.synthetic`).

    Raises:
        ValueError: If the images are not uint8 [n, h, w, 1 or 3] or there are none, and if there is
            no such corruption or severity.
    """
    images = np.asarray(images)
    check(images, name, severity)
    places = np.arange(len(images)) if indices is None else np.asarray(indices)
    if places.shape != (len(images),) or places.min() < 0:
        raise ValueError(
            f"indices={places.shape}: expected one for each of {len(images)} images, 0 or more"
        )
    if name == "jpeg_compression":
        return host.jpeg_compression(images, severity)
    height, width = images.shape[1:3]
    size = max(1, min(BATCH, PIXELS // (height * width)))
    parts = []
    for start in range(0, len(images), size):
        part = slice(start, start + size)
        levels, count = images[part], len(images[part])
        # Always the same program: what it computes for an image is the same in any company.
        more = size - count
        numbers = np.pad(places[part], (0, more)).astype(np.uint32)
        if name in PURE:
            if more:
                levels = np.pad(levels, ((0, more), (0, 0), (0, 0), (0, 0)))
            out = _program(name)(levels, numbers, seed, severity)
            parts.append(np.array(out[:count] if more else out))
            continue
        draws = np.asarray(_draws(name, height, width)(numbers, seed, severity))[:count]
        if name == "frost":
            large = max(ice.SIDE, 2 * max(height, width))
            pictures = ice.photographs(frost, height, width) if frost else ice.synthetic(large)
            parts.append(host.frost(levels, severity, draws, pictures))
        else:
            parts.append(host.spatter(levels, severity, draws))
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def check(images: np.ndarray, name: str, severity: int) -> None:
    """Raises ValueError unless these are images, and this a corruption and a severity."""
    if name not in CIFAR_C:
        raise ValueError(
            f"name={name!r}: expected a corruption of {', '.join(CIFAR_C)}{nearest(name, CIFAR_C)}"
        )
    if severity not in SEVERITIES:
        raise ValueError(f"severity={severity!r}: expected 1, 2, 3, 4 or 5")
    if images.dtype != np.uint8:
        raise ValueError(f"images are {images.dtype}: expected uint8, levels 0 to 255")
    if images.ndim != 4 or images.shape[-1] not in (1, 3) or 0 in images.shape:
        raise ValueError(
            f"images of shape {images.shape}: expected [n, height, width, 1 or 3], at least one"
        )


@cache
def _program(name: str) -> Callable[..., jax.Array]:
    def run(levels: Any, numbers: Any, seed: Any, severity: Any) -> jax.Array:
        return PURE[name](levels, severity, image_keys(seed, name, severity, numbers))

    return jax.jit(run)


@cache
def _draws(name: str, height: int, width: int) -> Callable[..., jax.Array]:
    def run(numbers: Any, seed: Any, severity: Any) -> jax.Array:
        keys = image_keys(seed, name, severity, numbers)
        if name == "frost":
            return uniforms(keys, (3,), 0.0, 1.0)
        return normals(keys, (height, width))

    return jax.jit(run)


def whole_set(
    images: UInt8[np.ndarray, "n h w c"], name: str, seed: int = 0
) -> UInt8[np.ndarray, "m h w c"]:
    """Returns all severities one after another, as the files of CIFAR-10-C hold them."""
    return np.concatenate([corrupt(images, name, severity, seed) for severity in SEVERITIES])
