"""What is measured of two towers: how often pairs find one another, and ranks at all places."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from common.contrastive import contrastive_loss, retrieved
from common.experiment import SumCount
from common.nets.two_towers import unit
from landscape.rank import feature_rank


def of_pairs(
    first: Float[Array, "n d"], second: Float[Array, "n d"], *, group: int, temperature: float
) -> dict[str, SumCount]:
    """Returns loss and accuracies in percent, of groups of rows that follow one another.

    Source: Andriushchenko et al. (2023), released code: the partner is looked for in a batch of
    128, not in the whole test set; chance is one in 128.

    Args:
        first: Outputs of the first tower, of any length.
        second: Of the second, row by row their partners.
        group: Rows of a group.
        temperature: Of the loss.
    """
    first, second = unit(first), unit(second)
    forth, back = (jnp.where(hits, 100.0, 0.0) for hits in retrieved(first, second, group=group))
    in_groups = (x.reshape(-1, group, x.shape[-1]) for x in (first, second))
    loss = jax.vmap(lambda a, b: contrastive_loss(a, b, temperature=temperature))(*in_groups)
    found = {"loss": loss, "forth": forth, "back": back, "retrieval": (forth + back) / 2}
    return {name: (jnp.sum(x), jnp.float32(len(x))) for name, x in found.items()}


def ranks(found: Mapping[str, Float[Array, "n d"]], *, q: float = 0.99) -> dict[str, Array]:
    """Returns the official rank and the number of principal components of features by name.

    Source: Andriushchenko et al. (2023), released code: q = 0.99. Matrices of one width are one
    call: each width is a decomposition to compile.
    """
    widths: dict[int, list[str]] = {}
    for name, x in found.items():
        widths.setdefault(x.shape[-1], []).append(name)
    numbers = {}
    for names in widths.values():
        stacked = jnp.stack([found[name] for name in names])
        rank = feature_rank(stacked, q=q, centers=("features", "samples"))
        for place, name in enumerate(names):
            numbers[f"rank_{name}"] = rank.features.rank[place]
            numbers[f"pca_{name}"] = rank.samples.rank[place]
    return numbers
