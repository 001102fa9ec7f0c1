"""What water drops need of OpenCV, over many small images at once, on the host.

Edges by Canny's detector, distances to them, and histograms made flat: with OpenCV's integers,
borders and rounding, so that the results are the same to the bit.
"""

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int, UInt8
from scipy import ndimage

from finetune.corruptions.stencils import folded

TAN_22 = 13573  # tan(22.5 degrees) in 2^-15
STEP, DIAGONAL, KNIGHT = (round(length * 2**16) for length in (1.0, 1.4, 2.1969))
FAR = 1 << 28


def surrounded(images: np.ndarray, radius: int, edge: str) -> np.ndarray:
    """Returns [n, h, w] images with more pixels on every side, see `stencils.folded`."""
    rows, columns = (
        folded(np.arange(-radius, size + radius), size, edge) for size in images.shape[1:]
    )
    return images[:, rows[:, None], columns]


def canny(images: UInt8[np.ndarray, "n h w"], low: int, high: int) -> Bool[np.ndarray, "n h w"]:
    """Returns where the edges of images are.

    Source: Canny (1986); Sobel's derivatives, |dx| + |dy|, four directions, edges over `low` kept
    where they touch one over `high`.
    """
    count, height, width = images.shape
    around = surrounded(images.astype(np.int32), 1, "nearest")
    row = lambda y: around[:, y : y + height]
    across = row(0) + 2 * row(1) + row(2)
    dx = across[:, :, 2:] - across[:, :, :-2]
    column = lambda x: around[:, :, x : x + width]
    along = column(0) + 2 * column(1) + column(2)
    dy = along[:, 2:] - along[:, :-2]

    size = np.abs(dx) + np.abs(dy)
    near = np.pad(size, ((0, 0), (1, 1), (1, 1)))
    at = lambda y, x: near[:, 1 + y : 1 + y + height, 1 + x : 1 + x + width]
    flat, steep = np.abs(dx) * TAN_22, np.abs(dy) << 15
    is_horizontal = steep < flat
    is_vertical = steep > flat + (np.abs(dx) << 16)
    falls = (dx ^ dy) < 0
    peak = np.where(
        is_horizontal,
        (size > at(0, -1)) & (size >= at(0, 1)),
        np.where(
            is_vertical,
            (size > at(-1, 0)) & (size >= at(1, 0)),
            np.where(
                falls,
                (size > at(-1, 1)) & (size > at(1, -1)),
                (size > at(-1, -1)) & (size > at(1, 1)),
            ),
        ),
    )
    weak = peak & (size > low)
    strong = weak & (size > high)
    touching = np.zeros((3, 3, 3), bool)
    touching[1] = True  # within an image only
    return ndimage.binary_propagation(strong, structure=touching, mask=weak) & (count > 0)


def distances(edges: Bool[np.ndarray, "n h w"]) -> Float32[np.ndarray, "n h w"]:
    """Returns how far the nearest edge is, along steps of 1, 1.4 (diagonal) and 2.1969 (knight's).

    Source: Borgefors (1986), the chamfer distance over 5 x 5 pixels: one pass down, one back up.
    """
    count, height, width = edges.shape
    far = np.full((count, height + 4, width + 4), FAR, np.int64)
    far[:, 2:-2, 2:-2] = np.where(edges, 0, FAR)
    ramp = np.arange(width) * STEP
    for direction in (1, -1):
        field = far[:, ::direction, ::direction]  # a view
        for y in range(2, height + 2):
            above, beyond = field[:, y - 1], field[:, y - 2]
            moved = lambda line, x: line[:, 2 + x : 2 + x + width]
            row = field[:, y, 2:-2]
            for x in (-1, 1):
                row = np.minimum(row, moved(beyond, x) + KNIGHT)
                row = np.minimum(row, moved(above, 2 * x) + KNIGHT)
                row = np.minimum(row, moved(above, x) + DIAGONAL)
            row = np.minimum(row, moved(above, 0) + STEP)
            field[:, y, 2:-2] = np.minimum.accumulate(row - ramp, axis=1) + ramp
    return (far[:, 2:-2, 2:-2] / 2**16).astype(np.float32)


def box_means(images: np.ndarray) -> Float64[np.ndarray, "n h w"]:
    """Returns means over 3 x 3 pixels, mirrored at edges; whole numbers add up exactly."""
    around = surrounded(images.astype(np.float64), 1, "mirror")
    tall = around[:, :-2] + around[:, 1:-1] + around[:, 2:]
    return (tall[:, :, :-2] + tall[:, :, 1:-1] + tall[:, :, 2:]) * (1 / 9)


def equalized(images: UInt8[np.ndarray, "n h w"]) -> UInt8[np.ndarray, "n h w"]:
    """Returns each image with its levels spread so that their histogram is about flat."""
    count = len(images)
    flat = images.reshape(count, -1)
    pixels = flat.shape[1]
    places = (np.arange(count) * 256)[:, None] + flat
    histogram = np.bincount(places.ravel(), minlength=count * 256).reshape(count, 256)
    first = (histogram > 0).argmax(1)
    least = histogram[np.arange(count), first]
    scale = np.float32(255) / np.maximum(pixels - least, 1).astype(np.float32)
    above = np.maximum(histogram.cumsum(1) - least[:, None], 0)
    table = np.rint(above.astype(np.float32) * scale[:, None])
    is_flat = least == pixels  # stays as it is
    table = np.where(is_flat[:, None], np.arange(256), table).astype(np.uint8)
    return np.take_along_axis(table, flat, axis=1).reshape(images.shape)


def filtered(
    images: UInt8[np.ndarray, "n h w"], kernel: Int[np.ndarray, "3 3"]
) -> UInt8[np.ndarray, "n h w"]:
    """Returns sums of 3 x 3 pixels, weighted, mirrored at edges, clipped to levels."""
    height, width = images.shape[1:]
    around = surrounded(images.astype(np.int32), 1, "mirror")
    total = sum(
        int(kernel[y, x]) * around[:, y : y + height, x : x + width]
        for y in range(3)
        for x in range(3)
    )
    return np.clip(total, 0, 255).astype(np.uint8)
