"""What the authors' package computed, by the names of make_golden_package.py."""

from functools import cached_property
from pathlib import Path

import numpy as np

from nfn.compat import features_from_package
from nfn.features import Features
from nfn.weights import WeightSpace, cnn_space, mlp_space

SPACES = {
    "2-3-2": mlp_space([2, 3, 2]),
    "3-4-5-2": mlp_space([3, 4, 5, 2]),
    "3-2-2-1": mlp_space([3, 2, 2, 1]),
    "2-3-4-3-2": mlp_space([2, 3, 4, 3, 2]),
    "cnn": cnn_space(channels=(2, 3, 4), filters=((1, 2), (2, 1)), dense=(3,)),
}


class Golden:
    """The arrays of a file beside this one, read when they are first asked for."""

    def __init__(self, name: str):
        self._path = Path(__file__).with_name(name)

    @cached_property
    def arrays(self) -> dict[str, np.ndarray]:
        with np.load(self._path) as arrays:
            return dict(arrays)

    def part(self, prefix: str) -> dict[str, np.ndarray]:
        """Returns the arrays below a name."""
        cut = len(prefix) + 1
        return {k[cut:]: array for k, array in self.arrays.items() if k.startswith(f"{prefix}/")}

    def features(self, prefix: str, space: WeightSpace) -> Features:
        """Returns the weight-space features below a name."""
        arrays, count = self.part(prefix), len(space.tensors) // 2
        parts = ([arrays[f"{k}.{i}"] for i in range(count)] for k in ("weights", "biases"))
        return features_from_package(space, *parts)
