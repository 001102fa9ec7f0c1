"""Images in files, decoded when they are asked for."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int32, UInt8
from PIL import Image

from common.errors import DataError


class LazyImages:
    """Images of one size behind the indexing of an array: only what is asked for is decoded.

    The shorter side of a picture becomes `size` times `enlarged`, then its middle is cut out.
    """

    dtype = np.dtype(np.uint8)
    ndim = 4

    def __init__(self, paths: Sequence[Path], size: int, enlarged: float = 1.0):
        if size < 1 or not enlarged >= 1:
            raise ValueError(f"size={size}, enlarged={enlarged}: expected both at least 1")
        self.paths, self.size, self.enlarged = tuple(paths), size, enlarged
        self.shape = (len(self.paths), size, size, 3)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: Any) -> UInt8[np.ndarray, "..."]:
        places = np.arange(len(self.paths))[index]
        if np.ndim(places) == 0:
            return self._decoded(self.paths[int(places)])
        out = np.empty((len(places), *self.shape[1:]), np.uint8)
        for image, place in zip(out, places, strict=True):
            image[:] = self._decoded(self.paths[int(place)])
        return out

    def _decoded(self, path: Path) -> UInt8[np.ndarray, "h w 3"]:
        try:
            with Image.open(path) as file:
                picture = file.convert("RGB")
        except OSError as error:
            reason = error.strerror or "is no picture that Pillow reads"
            raise DataError(f"{path}: {reason}") from error
        scale = round(self.size * self.enlarged) / min(picture.size)
        if scale != 1:
            sides = [max(round(side * scale), self.size) for side in picture.size]
            picture = picture.resize((sides[0], sides[1]), Image.Resampling.BILINEAR)
        left, top = ((side - self.size) // 2 for side in picture.size)
        return np.asarray(picture.crop((left, top, left + self.size, top + self.size)))


class LabeledImages(NamedTuple):
    """What every reader returns.

    Attributes:
        images: An array, one mapped from its file, or `LazyImages`: `images[index]` is uint8
            [k, h, w, c] in any case.
        labels: Class of each image.
        groups: Group of each image, for accuracies of the worst group; subclasses where there are.
        classes: Name of each class.
        group_names: Name of each group.
    """

    images: Any
    labels: Int32[np.ndarray, " n"]
    groups: Int32[np.ndarray, " n"]
    classes: tuple[str, ...]
    group_names: tuple[str, ...]
