"""The cases of `nft_vs_torch` in PyTorch, with the authors' package `nfn`; see `nfn_torch`."""

from functools import partial
from importlib import import_module
from typing import Any

import torch  # pyrefly: ignore
from nfn_torch import common, peer, random_features  # pyrefly: ignore
from timed_cases import Case  # pyrefly: ignore
from torch_cases import features_case, serve_torch  # pyrefly: ignore

regularize: Any = import_module("nfn.layers.regularize")
# Widths, batch, channels, heads, ratio of the feed-forward maps.
SIZES = {"64": ((2, 32, 32, 1), 64, 64, 8, 4), "32": ((2, 16, 16, 1), 32, 32, 4, 2)}


class Block(torch.nn.Module):
    """The block of the authors' experiments, of modules of their package."""

    def __init__(self, spec: Any, channels: int, heads: int, ratio: int) -> None:
        super().__init__()
        self.norm_attention = regularize.SimpleLayerNorm(spec, channels)
        self.attention = peer.NPAttention(spec, channels, num_heads=heads)
        self.norm_ff = regularize.SimpleLayerNorm(spec, channels)
        self.ff = torch.nn.Sequential(
            peer.Pointwise(spec, channels, ratio * channels),
            peer.TupleOp(torch.nn.GELU()),
            peer.Pointwise(spec, ratio * channels, channels),
        )

    def forward(self, x: Any) -> Any:
        x = add(x, self.attention(self.norm_attention(x)))
        return add(x, self.ff(self.norm_ff(x)))


def add(x: Any, y: Any) -> Any:
    return common.WeightSpaceFeatures(
        [a + b for a, b in zip(x.weights, y.weights, strict=True)],
        [a + b for a, b in zip(x.biases, y.biases, strict=True)],
    )


def case(kind: str, size: str, *, backward: bool) -> Case:
    """One layer or block on a batch of SIRENs; the gradient is that of the parameters."""
    widths, batch, channels, heads, ratio = SIZES[size]
    x = random_features(batch, channels, widths)
    spec = common.network_spec_from_wsfeat(x, set_all_dims=True)
    if kind == "attention":
        net = peer.NPAttention(spec, channels, num_heads=heads)
    else:
        net = Block(spec, channels, heads, ratio)
    return features_case(net, x, backward=backward)


def main() -> None:
    cases = {
        f"{kind} {size} {name}": partial(case, kind, size, backward=name == "both")
        for kind in ("attention", "block")
        for size in SIZES
        for name in ("forward", "both")
    }
    serve_torch(cases)


if __name__ == "__main__":
    main()
