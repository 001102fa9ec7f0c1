"""Writes golden_attention.npz: attention and encodings of the authors' PyTorch package `nfn` 0.1.2.

Not a test and not needed to run the tests; made as golden_package.npz is, and with its names:

    python tests/nfn/make_golden_attention.py
"""

from typing import Any

from make_golden_package import layers, record  # pyrefly: ignore

CHANNELS, HEADS = 4, 2
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


def main() -> None:
    def modules(space: str) -> dict[str, Any]:
        # Folded filters have channels of their own.
        left_out = "shared" if space == "cnn" else "none"
        return {name: make for name, make in MODULES.items() if not name.startswith(left_out)}

    # Parameters and features are drawn large: a soft-max far from uniform.
    record("golden_attention.npz", SPACES, CHANNELS, modules, drawn=lambda name: True, scale=2)


if __name__ == "__main__":
    main()
