"""Writes golden_attention.npz: attention and encodings of the authors' PyTorch package `nfn` 0.1.2.

Not a test and not needed to run the tests; made as golden_package.npz is, and with its names:

    python tests/nfn/make_golden_attention.py
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch  # pyrefly: ignore
from make_golden_package import common, layers, to_arrays  # pyrefly: ignore

BATCH, CHANNELS, HEADS = 2, 4, 2
# Kernels (out, in, *filter) of every layer.
SPACES = {
    "3-4-5-2": [(4, 3), (5, 4), (2, 5)],
    "3-2-2-1": [(2, 3), (2, 2), (1, 2)],
    "cnn": [(3, 2, 1, 2), (4, 3, 2, 1), (3, 4)],
}


def attention(spec: Any, **settings: bool) -> Any:
    """Returns the package's layer; its ablation switches remove the term they are named after."""
    return layers.NPAttention(spec, CHANNELS, num_heads=HEADS, **settings)


MODULES = {
    "shared": attention,
    "shared, neurons": lambda spec: attention(spec, ablate_diagonalterm=True),
    "shared, tensors": lambda spec: attention(spec, ablate_crossterm=True),
    "separate": lambda spec: attention(spec, share_projections=False),
    "separate, neurons": lambda spec: attention(
        spec, share_projections=False, ablate_diagonalterm=True
    ),
    "separate, tensors": lambda spec: attention(
        spec, share_projections=False, ablate_crossterm=True
    ),
    "encoding": lambda spec: layers.LearnedPosEmbedding(spec, CHANNELS),
}


@torch.no_grad()
def main() -> None:
    """Runs every module on random features of every space."""
    torch.manual_seed(0)
    arrays = {}
    for space, kernels in SPACES.items():
        x = common.WeightSpaceFeatures(
            [2 * torch.randn(BATCH, CHANNELS, *shape) for shape in kernels],
            [2 * torch.randn(BATCH, CHANNELS, shape[0]) for shape in kernels],
        )
        spec = common.network_spec_from_wsfeat(x, set_all_dims=True)
        arrays |= {f"{space}/in{end}": array for end, array in to_arrays(x).items()}
        for name, make in MODULES.items():
            if space == "cnn" and name.startswith("shared"):
                continue  # Folded filters have channels of their own.
            module = make(spec)
            for parameter in module.parameters():  # Soft-max far from uniform.
                parameter.normal_()
            for key, value in module.state_dict().items():
                arrays[f"{space}/{name}/state/{key}"] = value.numpy()
            outputs = to_arrays(module(x))
            arrays |= {f"{space}/{name}/out{end}": array for end, array in outputs.items()}
    assert all(array.dtype == np.float32 for array in arrays.values())
    np.savez_compressed(Path(__file__).with_name("golden_attention.npz"), **arrays)


if __name__ == "__main__":
    main()
