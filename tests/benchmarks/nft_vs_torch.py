"""Attention on weight spaces against `NPAttention` of the authors' PyTorch package `nfn`.

    python -m tests.benchmarks.nft_vs_torch --out=results/nft_vs_torch.json --peer=peer/bin/python
    python -m tests.benchmarks.nft_vs_torch --out=results/nft_vs_torch.json --markdown

Measured as in `nfn_vs_torch`, with its flags. A block is layer norm, attention, layer norm and
feed-forward maps with GELU. Our side splits the batch over as many devices as there are cores and
takes few networks of the larger size at a time (`nfn.attention.by_networks`).
"""

from functools import partial

from absl import app

from tests.benchmarks.nfn_vs_torch import record_cases, side_by_side

SIZES = {
    "64": "SIREN 2-32-32-1, batch 64, 64 channels, 8 heads",
    "32": "SIREN 2-16-16-1, batch 32, 32 channels, 4 heads",
}
CASES = {
    f"{kind} {size} {what}": f"{kind}, {title}, {done}"
    for size, title in SIZES.items()
    for kind in ("attention", "block")
    for what, done in (("forward", "forward"), ("both", "forward + backward"))
}


def main(_: list[str]) -> None:
    """Measures all cases."""
    show = partial(side_by_side, CASES)
    record_cases("nft", "ms of one call", lambda threads: tuple(CASES), show)


if __name__ == "__main__":
    app.run(main)
