"""Pictures of ice for frost: photographs of one's own, or a texture made of noise."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
from jaxtyping import Float64, UInt8
from PIL import Image

from common.errors import DataError
from finetune.corruptions.parameters import FROST_SCALE

PICTURES = 5  # of six photographs the released code draws the first five
SIDE = 192  # pixels of a texture; the released photographs are about that large when scaled


def photographs(
    paths: Sequence[str | Path], height: int, width: int
) -> list[UInt8[np.ndarray, "h w 3"]]:
    """Returns photographs of ice, a fifth as large as they are, or as large as images need.

    Source: Hendrycks and Dietterich (2019), frost: photographs scaled by 0.2.

    Raises:
        DataError: If a file is no picture.
    """
    pictures = []
    for path in paths:
        try:
            with Image.open(path) as file:
                whole = np.asarray(file.convert("RGB"), np.float64)
        except OSError as error:
            raise DataError(f"{path}: is no picture that Pillow reads: {error}") from error
        scale = max(FROST_SCALE, (height + 1) / whole.shape[0], (width + 1) / whole.shape[1])
        sizes = [int(np.rint(size * scale)) for size in whole.shape[:2]]
        rows, columns = (
            _linear(old, new, scale) for old, new in zip(whole.shape[:2], sizes, strict=True)
        )
        small = np.einsum("ab,bwc->awc", rows, np.einsum("vw,bwc->bvc", columns, whole))
        pictures.append(np.rint(small).astype(np.uint8))
    return pictures


def _linear(old: int, new: int, scale: float) -> Float64[np.ndarray, "new old"]:
    """Returns the matrix of linear interpolation between pixel centers, as OpenCV resizes."""
    places = np.clip((np.arange(new) + 0.5) / scale - 0.5, 0, old - 1)
    left = np.minimum(places.astype(int), max(old - 2, 0))
    matrix = np.zeros((new, old))
    matrix[np.arange(new), left] = 1 - (places - left)
    matrix[np.arange(new), np.minimum(left + 1, old - 1)] += places - left
    return matrix


@cache
def synthetic(side: int = SIDE) -> tuple[UInt8[np.ndarray, "side side 3"], ...]:
    """Returns textures like ice on a window: bright needles on bluish fractal noise.

    They are ours, made of noise, and stand in for the photographs of CIFAR-10-C: numbers that were
    measured with them are no numbers of CIFAR-10-C's frost.
    """
    draws = np.random.RandomState(0)
    return tuple(_texture(draws, side) for _ in range(PICTURES))


def _texture(draws: np.random.RandomState, side: int) -> UInt8[np.ndarray, "side side 3"]:
    turns = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side))
    turns[0, 0] = 1
    spectrum = lambda power: np.fft.irfft2(
        np.fft.rfft2(draws.standard_normal((side, side))) * turns**-power, (side, side)
    )
    unit = lambda field: (field - field.min()) / np.ptp(field)
    clouds = unit(spectrum(1.5))
    # Ridges of noise are thin bright lines, like needles of ice.
    needles = unit(-np.abs(spectrum(1.2))) ** 4
    bright = np.clip(0.25 + 0.5 * clouds + 0.6 * needles - 0.2, 0, 1)[..., None]
    tint = np.array((0.85, 0.95, 1.0)) + bright * np.array((0.15, 0.05, 0.0))
    return (255 * bright * tint).astype(np.uint8)
