"""Writes golden_package.npz: what the authors' PyTorch package `nfn` 0.1.2 computes.

Not a test and not needed to run the tests; for the same numbers again, in an environment of its
own (Python 3.11):

    pip install torch==2.13.0 nfn==0.1.2 einops numpy
    python tests/nfn/make_golden_package.py

Names in the file: <space>/in/weights.<i> and biases.<i>; <space>/<module>/state/<parameter>;
<space>/<module>/out, or out/weights.<i> and out/biases.<i>.
"""

import importlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch  # pyrefly: ignore

# The package of the same name as our folder, which is not on the path of a script.
common: Any = importlib.import_module("nfn.common")
layers: Any = importlib.import_module("nfn.layers")

BATCH, C_IN, C_OUT = 2, 2, 3
# Kernels (out, in, *filter) of every layer.
SPACES = {
    "2-3-2": [(3, 2), (2, 3)],
    "3-4-5-2": [(4, 3), (5, 4), (2, 5)],
    "3-2-2-1": [(2, 3), (2, 2), (1, 2)],
    "2-3-4-3-2": [(3, 2), (4, 3), (3, 4), (2, 3)],
    "cnn": [(3, 2, 1, 2), (4, 3, 2, 1), (3, 4)],
}
MODULES = {
    "np": lambda spec: layers.NPLinear(spec, C_IN, C_OUT),
    "np io": lambda spec: layers.NPLinear(spec, C_IN, C_OUT, io_embed=True),
    "hnp": lambda spec: layers.HNPLinear(spec, C_IN, C_OUT),
    "pt": lambda spec: layers.Pointwise(spec, C_IN, C_OUT),
    "np pool": layers.NPPool,
    "hnp pool": layers.HNPPool,
    "fourier": lambda spec: layers.GaussianFourierFeatureTransform(spec, C_IN, 4, 3),
    "io code": lambda spec: layers.IOSinusoidalEncoding(spec, 3, 2, enc_layers=False),
    "layer norm": lambda spec: layers.SimpleLayerNorm(spec, C_IN),
    "statistics": lambda spec: layers.StatFeaturizer(),
}
LINEAR_ONLY = ("2-3-2", "3-2-2-1", "2-3-4-3-2")


def to_arrays(value: Any) -> dict[str, np.ndarray]:
    """Returns the arrays of a tensor or of weight-space features, by the end of their names."""
    if isinstance(value, common.WeightSpaceFeatures):
        parts = {"weights": value.weights, "biases": value.biases}
        return {f"/{k}.{i}": x.numpy() for k, xs in parts.items() for i, x in enumerate(xs)}
    return {"": value.numpy()}


@torch.no_grad()
def record(
    file: str,
    spaces: Mapping[str, Sequence[tuple[int, ...]]],
    channels: int,
    modules: Callable[[str], Mapping[str, Callable[[Any], Any]]],
    *,
    drawn: Callable[[str], bool],
    scale: float = 1.0,
) -> None:
    """Runs modules on random features of every space and writes what they compute.

    Args:
        file: Written beside this one.
        spaces: Kernels of every space.
        channels: Of the features.
        modules: Space -> the modules by name, made from its spec.
        drawn: Which modules get random parameters instead of those they start from.
        scale: Standard deviation of the features.
    """
    torch.manual_seed(0)
    arrays = {}
    for space, kernels in spaces.items():
        x = common.WeightSpaceFeatures(
            [scale * torch.randn(BATCH, channels, *shape) for shape in kernels],
            [scale * torch.randn(BATCH, channels, shape[0]) for shape in kernels],
        )
        spec = common.network_spec_from_wsfeat(x, set_all_dims=True)
        arrays |= {f"{space}/in{end}": array for end, array in to_arrays(x).items()}
        for name, make in modules(space).items():
            module = make(spec)
            for parameter in module.parameters() if drawn(name) else ():
                parameter.normal_()
            for key, value in module.state_dict().items():
                arrays[f"{space}/{name}/state/{key}"] = value.numpy()
            outputs = to_arrays(module(x))
            arrays |= {f"{space}/{name}/out{end}": array for end, array in outputs.items()}
    assert all(array.dtype == np.float32 for array in arrays.values())
    np.savez_compressed(Path(__file__).with_name(file), **arrays)


def main() -> None:
    def modules(space: str) -> dict[str, Any]:
        return {k: MODULES[k] for k in (("np", "hnp") if space in LINEAR_ONLY else MODULES)}

    # The layer norm starts as 1 and 0.
    record("golden_package.npz", SPACES, C_IN, modules, drawn=lambda name: name == "layer norm")


if __name__ == "__main__":
    main()
