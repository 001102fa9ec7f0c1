"""The cases of `nft_vs_torch` in PyTorch, with the authors' package `nfn`; see `nfn_torch`."""

import os
from importlib import import_module
from typing import Any

import torch  # pyrefly: ignore
from nfn_torch import common, matmul_case, peer, random_features  # pyrefly: ignore
from timed_cases import Case, serve  # pyrefly: ignore

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

    def forward() -> None:
        with torch.no_grad():
            net(x)

    def both() -> None:
        net.zero_grad(set_to_none=True)
        y = net(x)
        torch.stack([t.square().mean() for t in (*y.weights, *y.biases)]).sum().backward()

    return Case(both if backward else forward)


def main() -> None:
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    torch.manual_seed(0)
    cases = {"matmul": matmul_case}
    for kind in ("attention", "block"):
        for size in SIZES:
            for name, backward in (("forward", False), ("both", True)):
                cases[f"{kind} {size} {name}"] = lambda k=kind, s=size, b=backward: case(
                    k, s, backward=b
                )
    serve(cases, {"torch": torch.__version__, "threads": torch.get_num_threads()})


if __name__ == "__main__":
    main()
